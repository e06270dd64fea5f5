"""Takes reports: what they are about is found, evidence gathered and the case opened, in one transaction.

Who is blocked may report as well, and learns nothing by it: what does not exist is reported alike, and waits like any
other report for a reviewer.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.names import fold
from server.review import evidence, rows, sanctions, stakes
from server.review.cases import Case
from server.review.evidence import WINDOW_MS
from server.review.rows import About, Filed, Filing
from server.review.stakes import Stake
from server.talk.rows import find_member
from signalling.refusals import Refused

Kind = Literal["one_to_one", "ticket", "tip", "chat"]
MAX_OPEN = 10  # reports of one account that wait; who has more to say says it in one
MAX_STAKES = 50  # payments in one case
Reason = Literal[
    "unfair_block",
    "spam",
    "harassment",
    "hate",
    "sexual",
    "minors",
    "violence",
    "fraud",
    "impersonation",
    "illegal",
    "other",
]

_ACCOUNT = Prepared("SELECT id FROM accounts WHERE folded = :folded")
_STREAM = Prepared("SELECT owner FROM streams WHERE id = :id")
_MESSAGE = Prepared(
    "SELECT sender FROM messages WHERE conversation = :conversation AND seq = :seq AND seq > :since"
    " AND (NOT withheld OR sender = :account)"
)
_TALK = Prepared(
    "SELECT c.id FROM conversations c JOIN conversation_members one ON one.conversation = c.id AND one.account = :one"
    " JOIN conversation_members other ON other.conversation = c.id AND other.account = :other WHERE c.kind = 'direct'"
)
_ONE_TO_ONES = Prepared(
    "SELECT id, asset, captured, fee_bps FROM one_to_ones WHERE viewer = :payer AND streamer = :payee"
    " AND state = 'ended' AND captured <> '0' AND ended_at >= :since ORDER BY number DESC LIMIT :limit"
)
_TICKETS = Prepared(
    "SELECT t.id, t.asset, t.price FROM tickets t JOIN sales s ON s.id = t.sale WHERE t.account = :payer"
    " AND s.seller = :payee AND t.state = 'sold' AND s.earned = 1 AND s.opens_at >= :since"
    " ORDER BY t.number DESC LIMIT :limit"
)
_CHATS = Prepared(
    "SELECT id, asset, units, fee_bps FROM bids WHERE guest = :payer AND host = :payee AND state = 'paid'"
    " AND ended_at >= :since ORDER BY number DESC LIMIT :limit"
)
_TIPS = Prepared(
    "SELECT id, asset, units FROM tips WHERE sender = :payer AND recipient = :payee AND at >= :since"
    " AND NOT EXISTS (SELECT 1 FROM transfers r WHERE r.of = tips.id) ORDER BY at DESC LIMIT :limit"
)


class OfAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="account"):
    """An account, by its name."""

    name: str


class OfStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="stream"):
    """A stream, also one that has ended."""

    stream: str


class OfMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="message"):
    """A message of a conversation that one reads or has read."""

    conversation: str
    seq: int


Of = OfAccount | OfStream | OfMessage


class Report(msgspec.Struct, frozen=True):
    """What somebody reports, why, and in which words."""

    of: Of
    reason: Reason
    words: str


def file(connection: sa.Connection, id: str, reporter: str, report: Report, fee_bps: int, now_ms: int) -> Filed:
    """Open a case, or return the one that the same reporter has about the same and that is not decided yet.

    Raises Refused (self_report, conversation_unknown, message_unknown, reports_paused, too_many_reports).
    """
    respondent, about, conversation = _target(connection, reporter, report.of)
    if respondent == reporter:
        raise Refused("self_report")
    filing = Filing("report", report.reason, report.words, about, conversation)
    same = rows.find_same(connection, reporter, filing)
    if same is not None:
        return same
    paused_until = sanctions.paused_until(connection, reporter, now_ms)
    if paused_until is not None:
        raise Refused("reports_paused", until=paused_until)
    if rows.count_open(connection, reporter) >= MAX_OPEN:
        raise Refused("too_many_reports")
    paid = _paid(connection, id, reporter, respondent or "", fee_bps, now_ms) if report.reason == "unfair_block" else []
    return open_case(connection, filing, Case(id, reporter, respondent, now_ms), paid, now_ms)


def open_case(connection: sa.Connection, filing: Filing, case: Case, paid: list[Stake], now_ms: int) -> Filed:
    """Write a case down with what is at stake in it and what is known of it."""
    rows.add(connection, filing, case)
    for stake in paid:
        added = stakes.add(connection, stake)
        assert added or not stake.frozen, "what is frozen is in no other case"
    evidence.gather(connection, filing, case, now_ms)
    filed = rows.find(connection, case.id)
    tell(connection, filed, "opened", now_ms)
    return filed


def tell(connection: sa.Connection, filed: Filed, word: str, now_ms: int) -> None:
    """Put into the log what became of a case, for those of its sides who may know of it."""
    fields = {"case": filed.case.id, "kind": filed.filing.kind, "state": filed.case.state}
    eventlog.append(connection, Happened(filed.case.id, f"case.{word}", now_ms, fields, sides(filed)))


def sides(filed: Filed) -> tuple[str, ...]:
    """Return the accounts that may know of a case."""
    case = filed.case
    if case.respondent is None or not filed.is_shown_to_respondent:
        return (case.reporter,)
    return (case.reporter, case.respondent)


def _target(connection: sa.Connection, reporter: str, of: Of) -> tuple[str | None, About, str | None]:
    match of:
        case OfAccount(name):
            row = _ACCOUNT(connection, folded=fold(name)).fetchone()
            respondent = _owner(row)
            talk = _owner(_TALK(connection, one=reporter, other=respondent or "").fetchone())
            return respondent, About("account", fold(name), name), talk
        case OfStream(stream):
            return _owner(_STREAM(connection, id=stream).fetchone()), About("stream", stream, stream), None
        case OfMessage(conversation, seq):
            member = find_member(connection, conversation, reporter)
            if member is None:
                raise Refused("conversation_unknown")
            asked = {"conversation": conversation, "seq": seq, "since": member.since, "account": reporter}
            sender = _owner(_MESSAGE(connection, **asked).fetchone())
            if sender is None:
                raise Refused("message_unknown")
            return sender, About("message", f"{conversation}/{seq}", ""), conversation


def _owner(row: tuple[str] | None) -> str | None:
    return None if row is None else row[0]


def _paid(connection: sa.Connection, of: str, payer: str, payee: str, fee_bps: int, now_ms: int) -> list[Stake]:
    """Return what one has paid the other lately and could get back."""
    asked = {"payer": payer, "payee": payee, "since": now_ms - WINDOW_MS, "limit": MAX_STAKES}

    def stake(kind: Kind, subject: str, asset: str, units: str, fee: int) -> Stake:
        return Stake(f"{kind}.{subject}", of, kind, subject, payer, payee, asset, int(units), fee, frozen=False)

    found = [stake("one_to_one", *row) for row in _ONE_TO_ONES(connection, **asked).fetchall()]
    found += [stake("chat", *row) for row in _CHATS(connection, **asked).fetchall()]
    found += [stake("ticket", id, asset, units, fee_bps) for id, asset, units in _TICKETS(connection, **asked)]
    found += [stake("tip", id, asset, units, fee_bps) for id, asset, units in _TIPS(connection, **asked)]
    return found[:MAX_STAKES]
