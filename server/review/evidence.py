"""What the server knows of a case when it is opened: gathered once, kept with its hash, never changed.

Nothing of it comes from who reports: payments as the books have them, how long what was paid for was delivered, what
happened in the stream, what was written, and who blocked whom. Each part is bounded, and says when it was cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.review import exhibits
from server.review.cases import Case
from server.review.exhibits import Exhibit
from server.review.rows import Filing

WINDOW_MS = 14 * 86_400_000  # what was paid or written before is no ground for a report now
MOST = 100  # rows of one kind
CONTEXT = 20  # messages before and after the one that is reported
_PAIR = "((:one = {0} AND :other = {1}) OR (:one = {1} AND :other = {0}))"
_BLOCKS = Prepared(f"SELECT blocker, blocked, since FROM blocks WHERE {_PAIR.format('blocker', 'blocked')}")
_ONE_TO_ONES = Prepared(
    "SELECT id, stream, streamer, viewer, state, reason, seconds, delivered_ms, asset, held, captured, asked_at,"
    f" started_at, ended_at FROM one_to_ones WHERE {_PAIR.format('streamer', 'viewer')} AND asked_at >= :since"
    " ORDER BY number DESC LIMIT :limit"
)
_TICKETS = Prepared(
    "SELECT t.id, t.sale, s.stream, s.seller, t.account, t.state, t.asset, t.price, s.began, s.earned, s.minimum_s,"
    " v.shown_ms, v.ended FROM tickets t JOIN sales s ON s.id = t.sale LEFT JOIN streams v ON v.id = s.stream"
    f" WHERE {_PAIR.format('s.seller', 't.account')} AND s.opens_at >= :since ORDER BY t.number DESC LIMIT :limit"
)
_CHATS = Prepared(
    "SELECT id, guest, host, state, reason, asset, units, asked_at, accepted_at, ended_at FROM bids"
    f" WHERE {_PAIR.format('guest', 'host')} AND asked_at >= :since ORDER BY number DESC LIMIT :limit"
)
_TIPS = Prepared(
    "SELECT id, sender, recipient, asset, units, fee, target, arrived, stream, message, at FROM tips"
    f" WHERE {_PAIR.format('sender', 'recipient')} AND at >= :since ORDER BY at DESC LIMIT :limit"
)
_ENTRIES = Prepared(
    "SELECT e.transfer, t.phase, t.reason, e.owner, e.kind, e.asset, e.units, e.at FROM entries e"
    " JOIN transfers t ON t.id = e.transfer WHERE e.transfer = :id OR t.of = :id ORDER BY e.id LIMIT :limit"
)
_STREAM = Prepared(
    "SELECT id, owner, title, description, mode, started_at, ended, shown_ms FROM streams WHERE id = :id"
)
_TIMELINE = Prepared(
    "SELECT type, at, substr(fields, 1, 2000) FROM stream_events WHERE stream = :id ORDER BY id DESC LIMIT :limit"
)
_CHAT = Prepared(
    "SELECT sender, text, circle, at FROM chat_messages WHERE stream = :id AND circle = 'main'"
    " ORDER BY id DESC LIMIT :limit"
)
_MESSAGES = Prepared(
    "SELECT seq, sender, kind, text, at, edited_at, erased_at FROM messages WHERE conversation = :conversation"
    " AND seq >= :first AND seq <= :last AND (NOT withheld OR sender = :reader) ORDER BY seq"
)
_DIRECT = Prepared(
    "SELECT m.seq, m.sender, m.kind, m.text, m.at, m.edited_at, m.erased_at FROM messages m"
    " JOIN conversations c ON c.id = m.conversation"
    " JOIN conversation_members one ON one.conversation = c.id AND one.account = :one"
    " JOIN conversation_members other ON other.conversation = c.id AND other.account = :other"
    " WHERE c.kind = 'direct' AND m.at >= :since AND (NOT m.withheld OR m.sender = :one)"
    " ORDER BY m.seq DESC LIMIT :limit"
)
_ADD = Prepared("INSERT INTO case_evidence (case_id, at, body, sha256) VALUES (:case_id, :at, :body, :sha256)")
_FIND = Prepared("SELECT at, body, sha256 FROM case_evidence WHERE case_id = :case_id")

_BLOCK = ("blocker", "blocked", "since")
_ONE_TO_ONE = (
    *("id", "stream", "streamer", "viewer", "state", "reason", "seconds", "delivered_ms"),
    *("asset", "held", "captured", "asked_at", "started_at", "ended_at"),
)
_TICKET = (
    *("id", "sale", "stream", "seller", "account", "state", "asset", "price"),
    *("began", "earned", "minimum_s", "shown_ms", "ended"),
)
_CHAT_ROW = ("id", "guest", "host", "state", "reason", "asset", "units", "asked_at", "accepted_at", "ended_at")
_TIP = ("id", "sender", "recipient", "asset", "units", "fee", "target", "arrived", "stream", "message", "at")
_ENTRY = ("transfer", "phase", "reason", "owner", "kind", "asset", "units", "at")
_SHOWN = ("id", "owner", "title", "description", "mode", "started_at", "ended", "shown_ms")
_MESSAGE = ("seq", "sender", "kind", "text", "at", "edited_at", "erased_at")


class Bundle(msgspec.Struct, frozen=True):
    """What was gathered at a moment (epoch ms): JSON, its hash, and whether it is still what was hashed."""

    at: int
    body: str
    sha256: str
    intact: bool


def gather(connection: sa.Connection, filing: Filing, case: Case, now_ms: int) -> None:
    """Write down what is known of a case that is opened now."""
    known = _known(connection, filing, case, now_ms)
    body = msgspec.json.encode(known).decode()
    _ADD(connection, case_id=case.id, at=now_ms, body=body, sha256=_hash(body))
    exhibits.keep(connection, case.id, known["files"])


def find(connection: sa.Connection, case: str) -> Bundle:
    """Return what was gathered for a case."""
    at, body, sha256 = _FIND(connection, case_id=case).fetchone()
    return Bundle(at, body, sha256, _hash(body) == sha256)


def reported_text(connection: sa.Connection, case: str, seq: int) -> str | None:
    """Return what a reported message said when it was reported, None where it was not there."""
    known = msgspec.json.decode(find(connection, case).body)
    return next((str(each["text"]) for each in known.get("reported_messages", ()) if each["seq"] == seq), None)


def _known(connection: sa.Connection, filing: Filing, case: Case, now_ms: int) -> dict[str, Any]:
    about = filing.about
    # Of what does not exist as much is asked as of what does: neither answer nor time tells the reporter which it is.
    between = _between(connection, case.reporter, case.respondent or "", now_ms - WINDOW_MS)
    streams = [about.id] if about.kind == "stream" else []
    streams += [each["stream"] for each in between["one_to_ones"][:1] if filing.kind == "cut_short"]
    known: dict[str, Any] = {
        "gathered_at": now_ms,
        "filing": filing,
        "reporter": case.reporter,
        "respondent": case.respondent,
        **between,
        "streams": [_stream(connection, stream) for stream in streams],
    }
    if about.kind == "message":
        known["reported_messages"] = _around(connection, about.id, case.reporter)
    known["files"] = _files(connection, filing, known)
    return known


def _files(connection: sa.Connection, filing: Filing, known: dict[str, Any]) -> list[Exhibit]:
    """Return the files of the messages in the evidence; those of a reported message come first."""
    if filing.conversation is None:
        return []
    numbers = [each["seq"] for each in known.get("reported_messages", known["messages"])]
    if filing.about.kind == "message":
        reported = int(filing.about.id.rpartition("/")[2])
        numbers.sort(key=lambda seq: abs(seq - reported))
    else:
        numbers.reverse()
    return exhibits.shown_by(connection, [(filing.conversation, seq) for seq in numbers])


def _between(connection: sa.Connection, one: str, other: str, since: int) -> dict[str, Any]:
    pair = {"one": one, "other": other}
    window = {**pair, "since": since, "limit": MOST}
    calls = _named(_ONE_TO_ONE, _ONE_TO_ONES(connection, **window))
    tickets = _named(_TICKET, _TICKETS(connection, **window))
    tips = _named(_TIP, _TIPS(connection, **window))
    chats = _named(_CHAT_ROW, _CHATS(connection, **window))
    transfers = [f"one2one.{each['id']}" for each in calls] + [f"ticket.{each['id']}" for each in tickets]
    transfers += [f"chat.{each['id']}" for each in chats] + [each["id"] for each in tips]
    return {
        "blocks": _named(_BLOCK, _BLOCKS(connection, **pair)),
        "one_to_ones": calls,
        "tickets": tickets,
        "chats": chats,
        "tips": tips,
        "ledger": [line for id in transfers[:MOST] for line in _entries(connection, id)],
        "messages": _named(_MESSAGE, _DIRECT(connection, **window))[::-1],
    }


def _entries(connection: sa.Connection, transfer: str) -> list[dict[str, Any]]:
    return _named(_ENTRY, _ENTRIES(connection, id=transfer, limit=MOST))


def _stream(connection: sa.Connection, id: str) -> dict[str, Any]:
    found = _named(_SHOWN, _STREAM(connection, id=id))
    timeline = _named(("type", "at", "fields"), _TIMELINE(connection, id=id, limit=MOST))[::-1]
    chat = _named(("sender", "text", "circle", "at"), _CHAT(connection, id=id, limit=MOST))[::-1]
    return {**(found[0] if found else {"id": id}), "timeline": timeline, "chat": chat}


def _around(connection: sa.Connection, about: str, reader: str) -> list[dict[str, Any]]:
    conversation, _, seq = about.rpartition("/")
    edges = {"first": int(seq) - CONTEXT, "last": int(seq) + CONTEXT}
    return _named(_MESSAGE, _MESSAGES(connection, conversation=conversation, reader=reader, **edges))


def _named(names: Sequence[str], rows: Any) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
