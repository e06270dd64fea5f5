"""Messages as they are shown: read from their rows, also into events that name them by number alone.

The log of events holds no text. Whoever reads an event gets the message as it is then: an erased one is gone there,
too, and what people write to each other is in no webhook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events.eventlog import Fresh, Happened, LoggedEvent
from server.files import uses
from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId, Member
from signalling.messenger.views import MessageView, Reaction
from signalling.wire.views import Person

MESSAGE_EVENTS = ("message.created", "message.changed")  # those into which the message is put
OWN = "own"  # stands in those that are for the sender alone, who is not shown it
MAX_REACTORS = 20  # accounts listed for each reaction; the others are counted
LONG_AGO = 0
_COLUMNS = (
    "x.conversation, x.seq, x.sender, a.name, x.kind, x.text, x.reply_to, x.mentions, x.forwarded, x.at, x.edited_at,"
    " x.erased_at, x.pinned_at, x.reacted, x.attached, x.card, x.taken_down FROM messages x"
    " JOIN accounts a ON a.id = x.sender"
)
_SEEN = (
    " WHERE x.conversation = :conversation AND x.seq > :since AND x.at > :oldest"
    " AND (NOT x.withheld OR x.sender = :account) AND NOT EXISTS (SELECT 1 FROM messages_hidden h"
    " WHERE h.account = :account AND h.conversation = x.conversation AND h.seq = x.seq)"
)
_FIND = Prepared(f"SELECT {_COLUMNS} WHERE x.conversation = :conversation AND x.seq = :seq")
_FIND_FOR = Prepared(
    f"SELECT {_COLUMNS} WHERE x.conversation = :conversation AND x.seq = :seq"
    " AND (NOT x.withheld OR x.sender = :account)"
)
_BEFORE = Prepared(f"SELECT {_COLUMNS}{_SEEN} AND x.seq < :edge ORDER BY x.seq DESC LIMIT :limit")
_AFTER = Prepared(f"SELECT {_COLUMNS}{_SEEN} AND x.seq > :edge ORDER BY x.seq LIMIT :limit")
_PINNED = Prepared(f"SELECT {_COLUMNS}{_SEEN} AND x.pinned_at IS NOT NULL ORDER BY x.pinned_at DESC LIMIT :limit")
_REACTIONS = Prepared(
    "SELECT reaction, account FROM message_reactions WHERE conversation = :conversation AND seq = :seq"
    " ORDER BY at, account"
)


def message(connection: sa.Connection, conversation: str, seq: int) -> MessageView | None:
    """Return a message, whoever may see it."""
    row = _FIND(connection, conversation=conversation, seq=seq).fetchone()
    return None if row is None else _view(connection, row)


def before(connection: sa.Connection, member: Member, conversation: str, place: Place) -> list[MessageView]:
    """Return the last messages that a member sees with numbers below an edge, in order."""
    return _list(connection, _BEFORE, member, conversation, place)[::-1]


def after(connection: sa.Connection, member: Member, conversation: str, place: Place) -> list[MessageView]:
    """Return the first messages that a member sees with numbers above an edge, in order."""
    return _list(connection, _AFTER, member, conversation, place)


def pinned(connection: sa.Connection, member: Member, conversation: str, place: Place) -> list[MessageView]:
    """Return the messages that are pinned, the last pinned first."""
    return _list(connection, _PINNED, member, conversation, place)


class Place(msgspec.Struct, frozen=True):
    """Which part of a conversation: from an edge on, so many, and none from before `oldest` (epoch ms)."""

    edge: int
    limit: int
    oldest: int


def oldest_kept(keep_s: int | None, now_ms: int) -> int:
    """Return from when on messages are kept, though older ones may still be there."""
    return LONG_AGO if keep_s is None else now_ms - keep_s * 1000


def fill(connection: sa.Connection, events: Sequence[LoggedEvent], account: str | None) -> Sequence[LoggedEvent]:
    """Put the messages into the events that tell of them to an account, or to all who may see them (None).

    Null stands where one is no longer for all who heard of it, or kept no longer.
    """
    known: dict[tuple[str, int, bool], Any] = {}
    filled = []
    for logged in events:
        event = logged.event
        if event.type in MESSAGE_EVENTS:
            seq, own = int(event.fields["seq"]), OWN in event.fields
            key = event.subject, seq, own
            if key not in known:
                named = {"conversation": event.subject, "seq": seq}
                found = _FIND(connection, **named) if own else _FIND_FOR(connection, **named, account=account or "")
                row = found.fetchone()
                known[key] = None if row is None else msgspec.to_builtins(_view(connection, row))
            shown = msgspec.structs.replace(event, fields={"seq": seq, "message": known[key]})
            logged = LoggedEvent(logged.id, shown)
        filled.append(logged)
    return filled


def as_fresh(id: int, event: Happened, shown: MessageView) -> Fresh:
    """Return an event of that id that tells of a message, as `fill` would show it just after it was written."""
    filled = msgspec.structs.replace(event, fields={"seq": shown.seq, "message": shown})
    return Fresh(LoggedEvent(id, event), LoggedEvent(id, filled))


def _list(
    connection: sa.Connection, statement: Prepared, member: Member, conversation: str, place: Place
) -> list[MessageView]:
    asked: dict[str, Any] = {"limit": place.limit, "oldest": place.oldest, "since": member.since}
    if statement is not _PINNED:
        asked["edge"] = place.edge
    rows = statement(connection, **asked, conversation=conversation, account=member.account).fetchall()
    return [_view(connection, row) for row in rows]


def _view(connection: sa.Connection, row: tuple[Any, ...]) -> MessageView:
    conversation, seq, sender, name, kind, text, reply_to, mentions, forwarded, at, *rest = row
    *times, reacted, attached, card, taken_down = rest
    edited_at, erased_at, pinned_at = times
    return MessageView(
        conversation=ConversationId(conversation),
        seq=seq,
        sender=Person(AccountId(sender), name),
        kind=kind,
        text=text,
        reply_to=reply_to,
        mentions=tuple(msgspec.json.decode(mentions)),
        forwarded=bool(forwarded),
        at=at,
        edited_at=edited_at,
        erased_at=erased_at,
        pinned_at=pinned_at,
        reactions=_reactions(connection, conversation, seq) if reacted and erased_at is None else (),
        card=None if card is None else msgspec.json.decode(card),
        attachments=uses.views(connection, conversation, seq) if attached else (),
        taken_down=bool(taken_down),
    )


def _reactions(connection: sa.Connection, conversation: str, seq: int) -> tuple[Reaction, ...]:
    by_kind: dict[str, list[AccountId]] = {}
    for reaction, account in _REACTIONS(connection, conversation=conversation, seq=seq):
        by_kind.setdefault(reaction, []).append(AccountId(account))
    return tuple(Reaction(each, len(found), tuple(found[:MAX_REACTORS])) for each, found in by_kind.items())
