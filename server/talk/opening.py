"""Conversations as they begin: a direct one, which two accounts have once, or a group."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from server.access import relations
from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.talk import rows
from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId, History, Joining, Member, Posting, Role
from signalling.refusals import Refused

MAX_GROUPS = 1000  # that one account is in; more than anybody reads

_ADD = Prepared(
    "INSERT INTO conversations (id, kind, pair, opened_by, title, head, members, history, joining, posting, keep_s,"
    " created_at, last_at) VALUES (:id, :kind, :pair, :opened_by, :title, 0, :members, :history, :joining, :posting,"
    " :keep_s, :at, :at) ON CONFLICT (pair) DO NOTHING"
)
_FIND_PAIR = Prepared("SELECT id FROM conversations WHERE pair = :pair")
_REACHED_BY = Prepared("SELECT reached_by FROM talk_settings WHERE account = :account")
_FOLLOWS = Prepared("SELECT 1 FROM follows WHERE follower = :follower AND streamer = :streamer")
_COUNT_GROUPS = Prepared(
    "SELECT count(*) FROM conversation_members m JOIN conversations c ON c.id = m.conversation"
    " WHERE m.account = :account AND m.standing = 'in' AND c.kind = 'group'"
)
_SHAPE = Prepared(
    "UPDATE conversations SET title = :title, history = :history, joining = :joining, posting = :posting,"
    " keep_s = :keep_s WHERE id = :id"
)


class Shape(msgspec.Struct, frozen=True):
    """What those who lead a group may say about it."""

    title: str
    history: History = "joined"
    joining: Joining = "invited"
    posting: Posting = "members"
    keep_s: int | None = None


def open_direct(
    connection: sa.Connection, id: ConversationId, opener: AccountId, name: str, now_ms: int
) -> tuple[ConversationId, bool]:
    """Return the conversation of two, and whether it is new.

    Raises Refused (account_unknown, also for who blocked or was blocked; self_message, not_reachable).
    """
    other = relations.find_visible(connection, opener, name)
    if other == opener:
        raise Refused("self_message")
    pair = "|".join(sorted((opener, other)))
    known = _FIND_PAIR(connection, pair=pair).fetchone()
    if known is not None:
        return ConversationId(known[0]), False
    require_reachable(connection, opener, other)
    added = _ADD(
        connection,
        id=id,
        kind="direct",
        pair=pair,
        opened_by=opener,
        members=2,
        at=now_ms,
        **_shape(Shape("", history="all")),
    )
    if not added.rowcount:  # the other was faster
        return ConversationId(_FIND_PAIR(connection, pair=pair).fetchone()[0]), False
    for account in (opener, other):
        rows.save_member(connection, id, Member(account, seated=now_ms))
    told = Happened(id, "member.joined", now_ms, {"account": opener}, party=id)
    number = eventlog.append(connection, told)
    for account in (opener, other):
        eventlog.enter(connection, id, account, number - 1)
    return id, True


def open_group(connection: sa.Connection, id: ConversationId, owner: AccountId, shape: Shape, now_ms: int) -> None:
    """Begin a group with its owner alone. Raises Refused("too_many_groups")."""
    require_room(connection, owner)
    _ADD(connection, id=id, kind="group", pair=None, opened_by=owner, members=1, at=now_ms, **_shape(shape))
    rows.save_member(connection, id, Member(owner, Role.OWNER, seated=now_ms))
    told = Happened(id, "member.joined", now_ms, {"account": owner}, party=id)
    eventlog.enter(connection, id, owner, eventlog.append(connection, told) - 1)


def reshape(connection: sa.Connection, id: str, shape: Shape) -> None:
    """Write down what a group is like from now on."""
    _SHAPE(connection, id=id, **_shape(shape))


def require_reachable(connection: sa.Connection, asker: AccountId, account: AccountId) -> None:
    """Let people be reached by those alone whom they want. Raises Refused("not_reachable")."""
    row = _REACHED_BY(connection, account=account).fetchone()
    wanted = "everyone" if row is None else row[0]
    follows = wanted == "followed" and _FOLLOWS(connection, follower=account, streamer=asker).fetchone() is not None
    if wanted != "everyone" and not follows:
        raise Refused("not_reachable")


def require_room(connection: sa.Connection, account: AccountId) -> None:
    """Let nobody be in more groups than there may be. Raises Refused("too_many_groups")."""
    if _COUNT_GROUPS(connection, account=account).fetchone()[0] >= MAX_GROUPS:
        raise Refused("too_many_groups", f"at most {MAX_GROUPS}")


def _shape(shape: Shape) -> dict[str, str | int | None]:
    return {
        "title": shape.title,
        "history": shape.history,
        "joining": shape.joining,
        "posting": shape.posting,
        "keep_s": shape.keep_s,
    }
