"""Decides who comes into a group, who goes, and who may do what in it.

Each function returns the members as they are afterwards, those that change alone. A group has one owner for as long as
anybody is in it: whoever goes as the owner is followed by the admin, or else the member, who is in it for the longest.
Once all have left, it has ended: who came in then would find what others wrote, and nobody to lead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from signalling.identifiers import AccountId
from signalling.messenger.model import MAX_MEMBERS, RANK, Conversation, Member, Role, Standing
from signalling.messenger.policy import require_leading
from signalling.refusals import Refused


def invite(
    conversation: Conversation, inviter: Member | None, invited: Member | None, account: AccountId, now_ms: int
) -> Member:
    """Ask somebody to come in; who has asked for it is in at once.

    Raises Refused (member_exists, member_banned, too_many_members, and like `require_leading`).
    """
    require_leading(conversation, inviter)
    if invited is None:
        return Member(account, standing=Standing.INVITED)
    match invited.standing:
        case Standing.IN | Standing.INVITED:
            raise Refused("member_exists")
        case Standing.BANNED:
            raise Refused("member_banned")
        case Standing.ASKED:
            return _seat(conversation, invited, now_ms)
        case Standing.OUT:
            return replace(invited, standing=Standing.INVITED)


def join(conversation: Conversation, member: Member | None, account: AccountId, now_ms: int) -> Member:
    """Come in: by an invitation, or where everybody may; else ask for it, where one may ask.

    Raises Refused (conversation_unknown, member_exists, too_many_members).
    """
    if conversation.kind != "group" or conversation.members == 0:
        raise Refused("conversation_unknown")
    if member is not None and member.standing is Standing.BANNED:
        raise Refused("conversation_unknown")
    member = Member(account, standing=Standing.OUT) if member is None else member
    match member.standing:
        case Standing.IN | Standing.ASKED:
            raise Refused("member_exists")
        case Standing.INVITED:
            return _seat(conversation, member, now_ms)
    if conversation.joining == "invited":
        raise Refused("conversation_unknown")
    if conversation.joining == "asked":
        return replace(member, standing=Standing.ASKED)
    return _seat(conversation, member, now_ms)


def _seat(conversation: Conversation, member: Member, now_ms: int) -> Member:
    if conversation.members >= MAX_MEMBERS:
        raise Refused("too_many_members", f"a group has at most {MAX_MEMBERS}")
    head = conversation.head
    since = head if conversation.history == "joined" else 0
    # Nothing from before is unread to a newcomer.
    return replace(member, standing=Standing.IN, since=since, seated=now_ms, delivered=head, read=head, seen=head)


def leave(conversation: Conversation, member: Member | None, others: Iterable[Member]) -> list[Member]:
    """Go, or turn an invitation down; returns who went, and the successor of an owner.

    Raises Refused (conversation_unknown, not_a_group).
    """
    if member is None or member.standing in (Standing.OUT, Standing.BANNED):
        raise Refused("conversation_unknown")
    if conversation.kind != "group":
        raise Refused("not_a_group")
    return [_outside(member, Standing.OUT), *_succession(member, others)]


def remove(conversation: Conversation, remover: Member | None, member: Member | None, *, ban: bool) -> Member:
    """Put somebody out, or take an invitation back, for good if `ban`.

    Raises Refused (member_unknown, outranked, and like `require_leading`).
    """
    remover = require_leading(conversation, remover)
    if member is None or (member.standing in (Standing.OUT, Standing.BANNED) and not ban):
        raise Refused("member_unknown")
    if member.is_in:
        _require_above(remover, member)
    return _outside(member, Standing.BANNED if ban else Standing.OUT)


def pardon(conversation: Conversation, remover: Member | None, member: Member | None) -> Member:
    """Let somebody be invited again who was banned. Raises Refused (member_unknown, and like `require_leading`)."""
    require_leading(conversation, remover)
    if member is None or member.standing is not Standing.BANNED:
        raise Refused("member_unknown")
    return replace(member, standing=Standing.OUT)


def give_role(conversation: Conversation, giver: Member | None, member: Member | None, role: Role) -> list[Member]:
    """Give somebody a role below one's own; an owner who makes another one owner is an admin afterwards.

    Raises Refused (member_unknown, outranked, last_owner, and like `require_leading`).
    """
    giver = require_leading(conversation, giver)
    if member is None or not member.is_in:
        raise Refused("member_unknown")
    if member.account == giver.account:
        if giver.role is Role.OWNER:
            raise Refused("last_owner", "make somebody else the owner")
        if RANK[role] > RANK[giver.role]:
            raise Refused("outranked")
        return [replace(member, role=role)]
    _require_above(giver, member)
    if role is Role.OWNER:
        if giver.role is not Role.OWNER:
            raise Refused("outranked")
        return [replace(member, role=Role.OWNER), replace(giver, role=Role.ADMIN)]
    if RANK[role] >= RANK[giver.role]:
        raise Refused("outranked")
    return [replace(member, role=role)]


def succeed(owner: Member, others: Iterable[Member]) -> list[Member]:
    """Let another lead a group whose owner can't: returns both, or nothing where nobody else is in it."""
    successors = _succession(owner, others)
    return [replace(owner, role=Role.MEMBER), *successors] if successors else []


def _succession(gone: Member, others: Iterable[Member]) -> list[Member]:
    if not gone.is_in or gone.role is not Role.OWNER:
        return []
    inside = [member for member in others if member.is_in and member.account != gone.account]
    if not inside:
        return []
    heir = min(inside, key=lambda member: (-RANK[member.role], member.seated, member.account))
    return [replace(heir, role=Role.OWNER)]


def _outside(member: Member, standing: Standing) -> Member:
    # Who may only read gets no more by going and coming back.
    role = Role.READER if member.role is Role.READER else Role.MEMBER
    return replace(member, standing=standing, role=role)


def _require_above(one: Member, other: Member) -> None:
    if RANK[one.role] <= RANK[other.role]:
        raise Refused("outranked")
