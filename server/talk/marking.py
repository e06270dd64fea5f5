"""What each member keeps of a conversation: how far it got and was read, mute and draft, and whom one is reached by.

In small conversations the others are told how far somebody has read. In larger ones each message would cost as many
events as there are members, and nobody is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.talk import rows
from server.talk.belonging import Doing
from signalling.identifiers import AccountId
from signalling.messenger import policy
from signalling.messenger.model import Conversation, Member, Role
from signalling.refusals import Refused

Audience = Literal["everyone", "followed", "nobody"]
RECEIPTS_UP_TO = 32  # members

_SETTINGS = Prepared("SELECT receipts, shown_to, reached_by FROM talk_settings WHERE account = :account")
_SET_SETTINGS = Prepared(
    "INSERT INTO talk_settings (account, receipts, shown_to, reached_by)"
    " VALUES (:account, :receipts, :presence, :reached_by) ON CONFLICT (account) DO UPDATE SET"
    " receipts = excluded.receipts, shown_to = excluded.shown_to, reached_by = excluded.reached_by"
)
_FORGET_SEEN = Prepared("DELETE FROM account_seen WHERE account = :account")
_KEEP = Prepared(
    "UPDATE conversation_members SET muted_until = CASE WHEN :muted_until = 0 THEN NULL"
    " ELSE coalesce(CAST(:muted_until AS BIGINT), muted_until) END,"
    " pinned = coalesce(CAST(:pinned AS BOOLEAN), pinned), archived = coalesce(CAST(:archived AS BOOLEAN), archived),"
    " draft = coalesce(CAST(:draft AS TEXT), draft) WHERE conversation = :conversation AND account = :account"
)


class Settings(msgspec.Struct, frozen=True):
    """Whether others are told what one has read; who sees that one is here, and when one last was; and who reaches one.

    Those who see it are, of the people with whom one is in a conversation, all, those whom one follows, or none.
    """

    receipts: bool = True
    presence: Audience = "everyone"
    reached_by: Audience = "everyone"


class Kept(msgspec.Struct, frozen=True):
    """What a member changes for itself; null leaves it. `muted_until` is epoch ms, 0 for no longer, -1 for ever."""

    muted_until: int | None = None
    pinned: bool | None = None
    archived: bool | None = None
    draft: str | None = None


def settings_of(connection: sa.Connection, account: str) -> Settings:
    """Return what an account has set."""
    row = _SETTINGS(connection, account=account).fetchone()
    return Settings() if row is None else Settings(bool(row[0]), row[1], row[2])


def set_settings(connection: sa.Connection, account: str, settings: Settings) -> None:
    """Write down what an account sets. Of who shows it to nobody it is not kept when they were here."""
    _SET_SETTINGS(connection, account=account, **msgspec.structs.asdict(settings))
    if settings.presence == "nobody":
        _FORGET_SEEN(connection, account=account)


class Mark(msgspec.Struct, frozen=True):
    """Up to which messages somebody has got and read; `private` when the others are not to be told."""

    doing: Doing
    delivered: int
    read: int
    private: bool

    def with_later(self, other: Mark) -> Mark:
        """Return what this mark and a later one come to; markers go on, never back."""
        return replace(other, delivered=max(self.delivered, other.delivered), read=max(self.read, other.read))


def mark_each(connection: sa.Connection, marks: Sequence[Mark]) -> Sequence[Member | Exception]:
    """Move markers up to messages, those of one member together: one row and one event, however many came at once.

    Returns them as they are then; with Refused like `policy.require_in`.
    """
    keys = [(mark.doing.conversation, mark.doing.actor, mark.private) for mark in marks]
    merged: dict[tuple[str, AccountId, bool], Mark] = {}
    for key, mark in zip(keys, marks, strict=True):
        merged[key] = merged[key].with_later(mark) if key in merged else mark
    done: dict[tuple[str, AccountId, bool], Member | Exception] = {}
    for key, mark in merged.items():
        try:
            done[key] = _mark(connection, mark.doing, mark.delivered, mark.read, private=mark.private)
        except Refused as refused:
            done[key] = refused
    return [done[key] for key in keys]


def _mark(connection: sa.Connection, doing: Doing, delivered: int, read: int, *, private: bool) -> Member:
    conversation = rows.find(connection, doing.conversation)
    if conversation is None:
        raise Refused("conversation_unknown")
    member = policy.require_in(rows.find_member(connection, doing.conversation, doing.actor))
    apart = _Apart.of(connection, conversation, member)
    told = not private and not apart.by_me and settings_of(connection, doing.actor).receipts
    moved = policy.mark(member, conversation.head, delivered=delivered, read=read, told=told)
    if moved == member:
        return member
    rows.save_markers(connection, conversation.id, moved)
    if (moved.delivered, moved.read) != (member.delivered, member.read):
        fields = {"account": doing.actor, "delivered": moved.delivered, "read": moved.read}
        # Whom the other has blocked hears the same, and the other nothing.
        for_all = conversation.members <= RECEIPTS_UP_TO and not apart.by_other
        accounts, party = ((), doing.conversation) if for_all else ((doing.actor,), "")
        event = Happened(doing.conversation, "conversation.marked", doing.now_ms, fields, accounts, party)
        eventlog.append(connection, event)
    if moved.seen > max(member.seen, moved.read):
        fields = {"account": doing.actor, "seen": moved.seen}
        eventlog.append(
            connection, Happened(doing.conversation, "conversation.seen", doing.now_ms, fields, (doing.actor,))
        )
    return moved


def keep(connection: sa.Connection, doing: Doing, kept: Kept) -> None:
    """Change what belongs to a member alone, and tell its other devices. Raises Refused like `policy.require_in`."""
    policy.require_in(rows.find_member(connection, doing.conversation, doing.actor))
    values = msgspec.structs.asdict(kept)
    _KEEP(connection, **values, conversation=doing.conversation, account=doing.actor)
    eventlog.append(connection, Happened(doing.conversation, "conversation.mine", doing.now_ms, {}, (doing.actor,)))


def typed_to(connection: sa.Connection, account: str, conversation: str, up_to: int) -> tuple[AccountId, ...]:
    """Return to whom it is shown that an account is writing: nobody in a conversation of more than `up_to`.

    Raises Refused like `policy.require_in`.
    """
    found = rows.find(connection, conversation)
    if found is None:
        raise Refused("conversation_unknown")
    member = policy.require_in(rows.find_member(connection, conversation, account))
    if found.members > up_to or member.role is Role.READER or _Apart.of(connection, found, member).is_so:
        return ()
    return tuple(each.account for each in rows.members_in(connection, conversation) if each.account != account)


@dataclass(frozen=True, slots=True)
class _Apart:
    """Which of the two of a direct conversation has blocked the other."""

    by_me: bool
    by_other: bool

    @property
    def is_so(self) -> bool:
        """Whether either has."""
        return self.by_me or self.by_other

    @classmethod
    def of(cls, connection: sa.Connection, conversation: Conversation, member: Member) -> _Apart:
        """Look it up."""
        if conversation.kind != "direct":
            return cls(by_me=False, by_other=False)
        other, _ = rows.other_of(connection, conversation.id, member.account)
        return cls(
            rows.has_blocked(connection, member.account, other), rows.has_blocked(connection, other, member.account)
        )
