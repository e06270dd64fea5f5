"""Whom an event is a notice for, of those who have a device: read from the database as it is now.

Nobody is told by somebody who is apart from them by a block, also not where both are in a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events.eventlog import Happened
from server.push import devices, notices
from server.push.notices import Kind, Notice
from server.talk.showing import OWN
from signalling.identifiers import AccountId, StreamId

# The events that notices come from.
TYPES = frozenset(
    {
        "message.created",
        "stream.started",
        "tip.created",
        "ticket.sold",
        "ticket.refunded",
        "ticket.offered",
        "case.decided",
        "case.closed",
    }
)
# Of messages: who asks for a paid chat has written, and how much was bid is told to no lock screen; a tip is told where
# it happens.
KINDS: dict[str, Kind] = {"text": "message", "call": "call", "bid": "message"}

_HAS_DEVICE = " AND EXISTS (SELECT 1 FROM push_devices d WHERE d.account = {account})"
_APART = (
    " AND NOT EXISTS (SELECT 1 FROM blocks b WHERE (b.blocker = {one} AND b.blocked = {other})"
    " OR (b.blocker = {other} AND b.blocked = {one}))"
)
_SAID = Prepared(
    "SELECT x.kind, x.sender, a.name, x.mentions, c.kind FROM messages x JOIN accounts a ON a.id = x.sender"
    " JOIN conversations c ON c.id = x.conversation WHERE x.conversation = :conversation AND x.seq = :seq"
    " AND x.erased_at IS NULL AND NOT x.withheld"
)
_READERS = Prepared(
    "SELECT m.account, m.muted_until IS NOT NULL AND (m.muted_until < 0 OR m.muted_until > :now)"
    " FROM conversation_members m WHERE m.conversation = :conversation AND m.standing = 'in'"
    " AND m.account <> :sender AND m.since < :seq AND m.seen < :seq"
    + _HAS_DEVICE.format(account="m.account")
    + _APART.format(one="m.account", other=":sender")
)
_STREAM = Prepared("SELECT owner, owner_name, title, mode, ended FROM streams WHERE id = :id")
_FOLLOWERS = Prepared(
    "SELECT f.follower FROM follows f WHERE f.streamer = :streamer"
    + _HAS_DEVICE.format(account="f.follower")
    + _APART.format(one="f.follower", other=":streamer")
)
_OWNER = Prepared("SELECT owner FROM streams WHERE id = :id")
_SIDES = Prepared("SELECT reporter, respondent, shown_to_respondent FROM cases WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Live:
    """A stream that began: whoever follows its owner may be told, if the stream is for them."""

    stream: StreamId
    owner: AccountId
    followers: tuple[AccountId, ...]
    words: notices.Words


def of_event(connection: sa.Connection, event: Happened, now_ms: int) -> Iterator[Notice | Live]:
    """Give the notices of an event, and the stream that it began."""
    match event.type:
        case "message.created":
            yield from _of_message(connection, event, now_ms)
        case "stream.started":
            yield from _of_stream(connection, event)
        case "tip.created":
            yield from _wanted(connection, "tip", [event.subject], notices.of_tip(event.at))
        case "ticket.sold":
            owner = _OWNER(connection, id=event.subject).fetchone()
            yield from _wanted(connection, "ticket", owner or (), notices.of_ticket(event.subject, event.at))
        case "ticket.refunded" | "ticket.offered":
            holder = [str(event.fields["account"])]
            yield from _wanted(connection, "ticket", holder, notices.of_ticket(event.subject, event.at))
        case "case.decided" | "case.closed":
            words = notices.of_case(event.subject, event.at)
            yield from _wanted(connection, "case", _sides(connection, event.subject), words)


def _of_message(connection: sa.Connection, event: Happened, now_ms: int) -> Iterator[Notice]:
    conversation, seq = event.subject, int(event.fields["seq"])
    said: Any = _SAID(connection, conversation=conversation, seq=seq).fetchone()
    if OWN in event.fields or said is None or said[0] not in KINDS:
        return
    wrote, sender, name, mentions, kind = said
    mentioned = set(msgspec.json.decode(mentions))
    asked = {"conversation": conversation, "seq": seq, "sender": sender, "now": now_ms}
    for account, muted in _READERS(connection, **asked).fetchall():
        kinds = devices.kinds_of(connection, account)
        word = "mention" if account in mentioned and kinds.mention else KINDS[wrote]
        if kinds.wants(word) and (word == "mention" or not muted):
            yield Notice(account, notices.of_message(conversation, word, event.at, name, group=kind == "group"))


def _of_stream(connection: sa.Connection, event: Happened) -> Iterator[Live]:
    row: Any = _STREAM(connection, id=event.subject).fetchone()
    if row is None or row[4] is not None:
        return
    owner, name, title, mode, _ = row
    found = [each for (each,) in _FOLLOWERS(connection, streamer=owner).fetchall()]
    followers = tuple(AccountId(each) for each in found if devices.kinds_of(connection, each).live)
    words = notices.of_stream(event.subject, event.at, name, title if mode == "public" else "")
    yield Live(StreamId(event.subject), AccountId(owner), followers, words)


def _sides(connection: sa.Connection, case: str) -> list[str]:
    reporter, respondent, shown = _SIDES(connection, id=case).fetchone()
    return [side for side in (reporter, respondent if shown else None) if side is not None]


def _wanted(connection: sa.Connection, kind: Kind, accounts: Iterable[str], words: notices.Words) -> Iterator[Notice]:
    for account in accounts:
        if devices.kinds_of(connection, account).wants(kind):
            yield Notice(account, words)
