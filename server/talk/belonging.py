"""Who belongs to a group: invited, come in, gone, put out, or in another role; each told of with it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from server.access import relations
from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.names import fold
from server.talk import opening, rows
from server.talk.opening import Shape
from signalling.identifiers import AccountId
from signalling.messenger import membership, policy
from signalling.messenger.model import MAX_MEMBERS, Conversation, Member, Role, Standing
from signalling.refusals import Refused

MAX_PENDING = 2 * MAX_MEMBERS  # who was asked or has asked, and nobody answered

# What is told of somebody whose standing changed to this.
TOLD = {
    Standing.IN: "member.joined",
    Standing.INVITED: "conversation.invited",
    Standing.ASKED: "conversation.asked",
    Standing.OUT: "member.left",
    Standing.BANNED: "member.left",
}
_COUNT_PENDING = Prepared(
    "SELECT count(*) FROM conversation_members WHERE conversation = :conversation AND standing IN ('invited', 'asked')"
)
_LEADERS = Prepared(
    "SELECT account FROM conversation_members"
    " WHERE conversation = :conversation AND standing = 'in' AND role IN ('owner', 'admin')"
)
_APART_FROM_LEADERS = Prepared(
    "SELECT 1 FROM conversation_members m JOIN blocks b ON (b.blocker = m.account AND b.blocked = :account)"
    " OR (b.blocker = :account AND b.blocked = m.account)"
    " WHERE m.conversation = :conversation AND m.standing = 'in' AND m.role IN ('owner', 'admin')"
)
_FIND_NAMED = Prepared("SELECT id FROM accounts WHERE folded = :folded")
_ORPHANED = Prepared(
    "SELECT m.conversation, m.account FROM conversation_members m JOIN account_facts f ON f.account = m.account"
    " JOIN conversations c ON c.id = m.conversation WHERE m.role = 'owner' AND m.standing = 'in' AND f.suspended"
    " AND c.kind = 'group' AND c.members > 1 LIMIT :limit"
)


class Doing(msgspec.Struct, frozen=True):
    """Who does something in which conversation, now (epoch ms)."""

    actor: AccountId
    conversation: str
    now_ms: int


def invite(connection: sa.Connection, doing: Doing, name: str) -> None:
    """Ask somebody to come in, or let in who has asked.

    Raises Refused (account_unknown, also for who blocked or was blocked; not_reachable, too_many_pending, and like
    `membership.invite`).
    """
    conversation, inviter = _look(connection, doing)
    policy.require_leading(conversation, inviter)
    account = relations.find_visible(connection, doing.actor, name)
    known = rows.find_member(connection, doing.conversation, account)
    invited = membership.invite(conversation, inviter, known, account, doing.now_ms)
    if invited.standing is Standing.INVITED:
        opening.require_reachable(connection, doing.actor, account)
        _require_few_pending(connection, conversation)
    _settle(connection, doing, conversation, [invited], [known])


def join(connection: sa.Connection, doing: Doing) -> Standing:
    """Come in, or ask for it; whom somebody who leads it blocked, or who blocked one of them, finds no such group.

    Raises Refused like `membership.join`, too_many_groups and too_many_pending.
    """
    conversation, known = _look(connection, doing)
    joined = membership.join(conversation, known, doing.actor, doing.now_ms)
    if known is None or known.standing is not Standing.INVITED:
        _require_not_apart(connection, doing)
    opening.require_room(connection, doing.actor)
    if joined.standing is Standing.ASKED:
        _require_few_pending(connection, conversation)
    _settle(connection, doing, conversation, [joined], [known])
    return joined.standing


def leave(connection: sa.Connection, doing: Doing) -> None:
    """Go. Raises Refused like `membership.leave`."""
    conversation, known = _look(connection, doing)
    others = rows.members_in(connection, doing.conversation)
    after = membership.leave(conversation, known, others)
    _settle(connection, doing, conversation, after, [known, *others])


def remove(connection: sa.Connection, doing: Doing, name: str, *, ban: bool) -> None:
    """Put somebody out. Raises Refused like `membership.remove`."""
    conversation, remover = _look(connection, doing)
    known = _named(connection, doing, conversation, remover, name)
    after = membership.remove(conversation, remover, known, ban=ban)
    _settle(connection, doing, conversation, [after], [known])


def pardon(connection: sa.Connection, doing: Doing, name: str) -> None:
    """Take a ban back. Raises Refused like `membership.pardon`."""
    conversation, remover = _look(connection, doing)
    known = _named(connection, doing, conversation, remover, name)
    rows.save_member(connection, conversation.id, membership.pardon(conversation, remover, known))


def give_role(connection: sa.Connection, doing: Doing, name: str, role: Role) -> None:
    """Give somebody a role. Raises Refused like `membership.give_role`."""
    conversation, giver = _look(connection, doing)
    known = _named(connection, doing, conversation, giver, name)
    after = membership.give_role(conversation, giver, known, role)
    _settle(connection, doing, conversation, after, [known, giver])


def change_shape(connection: sa.Connection, doing: Doing, shape: Shape) -> None:
    """Say what the group is like from now on. Raises Refused like `policy.require_leading`."""
    conversation, leader = _look(connection, doing)
    policy.require_leading(conversation, leader)
    opening.reshape(connection, doing.conversation, shape)
    told = Happened(doing.conversation, "conversation.changed", doing.now_ms, {}, party=doing.conversation)
    eventlog.append(connection, told)


def succeed_suspended(connection: sa.Connection, now_ms: int, limit: int) -> int:
    """Let others lead the groups whose owners are suspended; returns how many groups."""
    orphaned = _ORPHANED(connection, limit=limit).fetchall()
    for id, owner in orphaned:
        doing = Doing(AccountId(owner), id, now_ms)
        conversation, known = _look(connection, doing)
        others = rows.members_in(connection, id)
        if known is not None and known.role is Role.OWNER:
            _settle(connection, doing, conversation, membership.succeed(known, others), [known, *others])
    return len(orphaned)


def _look(connection: sa.Connection, doing: Doing) -> tuple[Conversation, Member | None]:
    conversation = rows.lock(connection, doing.conversation)
    if conversation is None:
        raise Refused("conversation_unknown")
    return conversation, rows.find_member(connection, doing.conversation, doing.actor)


def _named(
    connection: sa.Connection, doing: Doing, conversation: Conversation, leader: Member | None, name: str
) -> Member | None:
    """Return the member of that name, blocked or not: who leads a group knows who is in it."""
    policy.require_leading(conversation, leader)
    row = _FIND_NAMED(connection, folded=fold(name)).fetchone()
    return None if row is None else rows.find_member(connection, doing.conversation, row[0])


def _require_not_apart(connection: sa.Connection, doing: Doing) -> None:
    if _APART_FROM_LEADERS(connection, conversation=doing.conversation, account=doing.actor).fetchone() is not None:
        raise Refused("conversation_unknown")


def _require_few_pending(connection: sa.Connection, conversation: Conversation) -> None:
    if _COUNT_PENDING(connection, conversation=conversation.id).fetchone()[0] >= MAX_PENDING:
        raise Refused("too_many_pending", f"at most {MAX_PENDING}")


def _settle(
    connection: sa.Connection,
    doing: Doing,
    conversation: Conversation,
    after: Iterable[Member],
    before: Iterable[Member | None],
) -> None:
    """Write changed members down, and tell of each. Who leaves is put out of the party with the event that says so."""
    former = {member.account: member for member in before if member is not None}
    after = list(after)
    for member in after:
        rows.save_member(connection, conversation.id, member)
    rows.count_members(connection, conversation.id)
    for member in after:
        _tell(connection, doing, conversation, member, former.get(member.account))


def _tell(
    connection: sa.Connection, doing: Doing, conversation: Conversation, member: Member, former: Member | None
) -> None:
    was = Standing.OUT if former is None else former.standing
    id, account = conversation.id, member.account
    fields = {"account": account, "by": doing.actor, "role": member.role.value, "standing": member.standing.value}
    if was is member.standing:
        eventlog.append(connection, Happened(id, "conversation.role", doing.now_ms, fields, party=id))
    elif Standing.IN in (was, member.standing):
        number = eventlog.append(connection, Happened(id, TOLD[member.standing], doing.now_ms, fields, party=id))
        if member.is_in:
            eventlog.enter(connection, id, account, number - 1)
        else:
            eventlog.leave(connection, id, account, number)
    else:
        # Before somebody is in, it is between them and those who lead.
        leaders = [row[0] for row in _LEADERS(connection, conversation=id)]
        type = (
            TOLD[member.standing] if member.standing in (Standing.INVITED, Standing.ASKED) else "conversation.declined"
        )
        eventlog.append(connection, Happened(id, type, doing.now_ms, fields, (account, *leaders)))
