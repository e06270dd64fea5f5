"""What two people still owe each other when one of them blocks the other, settled in the transaction of the block.

What was not delivered goes back whole: requests that wait, reserved seats, tickets of a show that was not delivered.
Who blocks gains nothing by it: a viewer who goes away by blocking pays what was delivered, as by leaving. A streamer
who blocks in the middle of what was paid for is not paid before it was looked at: the delivered part is frozen, the
rest goes back, and the case opens by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from server.bids import rows as bids
from server.bids.rules import State as BidState
from server.database.prepared import Prepared
from server.events import eventlog
from server.money import appointments, box_office
from server.money.one_to_ones import RUNS, Close, OneToOne
from server.money.tickets import TicketState
from server.review import filing, stakes
from server.review.cases import Case
from server.review.rows import About, Filed, Filing
from server.review.stakes import Stake

# As the room says it: whoever is put out hears no more than that, and nobody hears that it was a block.
CUT = "guest_ejected"
WITHDRAWN = "access_revoked"
_CALLS = Prepared(
    "SELECT id FROM one_to_ones WHERE ended_at IS NULL"
    " AND ((streamer = :one AND viewer = :other) OR (streamer = :other AND viewer = :one)) ORDER BY number",
    locks=True,
)
_SALES = Prepared(
    "SELECT DISTINCT s.id FROM tickets t JOIN sales s ON s.id = t.sale WHERE t.state IN ('reserved', 'sold')"
    " AND ((s.seller = :one AND t.account = :other) OR (s.seller = :other AND t.account = :one)) ORDER BY s.id"
)
_TICKETS = Prepared(
    "SELECT t.id, t.state, t.account, s.seller, s.stream, s.began, s.earned, t.asset, t.price FROM tickets t"
    " JOIN sales s ON s.id = t.sale JOIN streams v ON v.id = s.stream"
    " WHERE t.state IN ('reserved', 'sold') AND s.state IN ('open', 'closed') AND v.ended IS NULL"
    " AND ((s.seller = :one AND t.account = :other) OR (s.seller = :other AND t.account = :one)) ORDER BY t.number"
)
_STOP_WAITING = Prepared(
    "DELETE FROM ticket_queue WHERE (account = :one AND sale IN (SELECT id FROM sales WHERE seller = :other))"
    " OR (account = :other AND sale IN (SELECT id FROM sales WHERE seller = :one))"
)


class Settled(msgspec.Struct, frozen=True):
    """What a block has settled: one-to-ones that are over, whose seats changed in which stream, and opened cases."""

    calls: tuple[OneToOne, ...] = ()
    seats: tuple[tuple[str, str], ...] = ()
    cases: tuple[Filed, ...] = ()


class Underway(msgspec.Struct, frozen=True):
    """What rooms know of two people and the database not yet: how much was delivered, and which shows have begun.

    `calls` are milliseconds by the request of a one-to-one, `shown` streams that were on for ticket holders.
    """

    calls: Mapping[str, int] = {}
    shown: frozenset[str] = frozenset()


class _Held(NamedTuple):
    """A ticket of the two, and its sale."""

    id: str
    state: str
    account: str
    seller: str
    stream: str
    began: int
    earned: int
    asset: str
    price: str


def settle(
    connection: sa.Connection, blocker: str, blocked: str, underway: Underway, fee_bps: int, now_ms: int
) -> Settled:
    """Settle what is open between two."""
    pair = {"one": blocker, "other": blocked}
    chats = bids.lock_between(connection, blocker, blocked)
    # Locked before anything is paid, as by all others: whoever pays for one of them now is waited for, or waits.
    for (sale,) in _SALES(connection, **pair).fetchall():
        box_office.lock_sale(connection, sale)
    waiting = [id for (id,) in _CALLS(connection, **pair)]
    _STOP_WAITING(connection, **pair)
    calls, seats, cases = [], [], []
    with eventlog.gathering(connection):
        for id in chats:
            case = _end_chat(connection, id, blocker, now_ms)
            cases += [] if case is None else [case]
        for id in waiting:
            call, case = _end_call(connection, id, blocker, underway.calls.get(id), now_ms)
            calls += [] if call is None else [call]
            cases += [] if case is None else [case]
        for row in _TICKETS(connection, **pair).fetchall():
            held = _Held(*row)
            has_begun = bool(held.began) or held.stream in underway.shown
            case = _end_ticket(connection, held, has_begun, blocker, fee_bps, now_ms)
            cases += [] if case is None else [case]
            seats.append((held.stream, held.account))
    return Settled(tuple(calls), tuple(seats), tuple(cases))


def _end_call(
    connection: sa.Connection, id: str, blocker: str, delivered_ms: int | None, now_ms: int
) -> tuple[OneToOne | None, Filed | None]:
    before = appointments.find(connection, id)
    assert before is not None, "what is asked for is never deleted"
    if before.state not in RUNS:
        return appointments.move(connection, id, Close(WITHDRAWN, 0), now_ms), None
    delivered_ms = max(before.delivered_ms, delivered_ms or 0)
    is_frozen = blocker == before.streamer and delivered_ms > 0 and before.held is not None
    case = _new_case()
    escrow = stakes.escrow_of(case, before.held.asset) if is_frozen and before.held is not None else None
    after = appointments.move(connection, id, Close(CUT, delivered_ms), now_ms, escrow)
    if escrow is None or after is None or not after.captured:
        return after, None
    stake = _stake(case, "one_to_one", id, (after.viewer, after.streamer), escrow.asset, after.captured)
    stake = msgspec.structs.replace(stake, fee_bps=after.fee_bps, frozen=True)
    return after, _open(connection, case, stake, About("one_to_one", id, ""), now_ms)


def _end_chat(connection: sa.Connection, id: str, blocker: str, now_ms: int) -> Filed | None:
    case = _new_case()
    bid = bids.part(connection, id, blocker, lambda asset: stakes.escrow_of(case, asset), now_ms)
    if bid.state is not BidState.FROZEN:
        return None
    stake = _stake(case, "chat", id, (bid.guest, bid.host), bid.asset, bid.units)
    stake = msgspec.structs.replace(stake, fee_bps=bid.fee_bps, frozen=True)
    return _open(connection, case, stake, About("chat", id, ""), now_ms)


def _end_ticket(
    connection: sa.Connection, held: _Held, has_begun: bool, blocker: str, fee_bps: int, now_ms: int
) -> Filed | None:
    if held.state == TicketState.RESERVED:
        box_office.give_up(connection, held.id, held.account, now_ms)
        return None
    if not held.earned:
        if blocker == held.seller or not has_begun:
            box_office.refund(connection, held.id, now_ms)
        return None
    if blocker != held.seller:
        return None
    # Paid out already, and still on: the holder sees no more of it.
    case = _new_case()
    stake = _stake(case, "ticket", held.id, (held.account, held.seller), held.asset, int(held.price))
    stake = msgspec.structs.replace(stake, fee_bps=fee_bps)
    return _open(connection, case, stake, About("ticket", held.id, ""), now_ms)


def _new_case() -> str:
    return f"case_{secrets.token_hex(12)}"


def _stake(case: str, kind: Any, subject: str, sides: tuple[str, str], asset: str, units: int) -> Stake:
    return Stake(f"{kind}.{subject}", case, kind, subject, *sides, asset, units, 0, frozen=False)


def _open(connection: sa.Connection, case: str, stake: Stake, about: About, now_ms: int) -> Filed:
    filed = Filing("cut_short", "cut_short", "", about)
    return filing.open_case(connection, filed, Case(case, stake.payer, stake.payee, now_ms), [stake], now_ms)
