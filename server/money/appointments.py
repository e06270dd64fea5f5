"""One-to-ones in the database: offers, requests with what is held for them, and what was delivered.

Like in `books`, every function takes an open connection: a request and its hold, or an end and its payment, are one
transaction. A row is locked before it is changed, and a hold resolved by the change that closes its row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.money import books
from server.money import one_to_ones as o
from server.money.amounts import Amount, WireAmount, wire_amount
from server.money.ledger import Account, Hold, Leg, Post, Void, held
from server.money.one_to_one_terms import MAX_WAITING, Offer, price_to_hold
from server.money.one_to_ones import Extension, More, OneToOne, State
from server.money.payments import Terms, pay, wallet
from server.names import fold
from signalling.refusals import Refused

_COLUMNS = (
    "id, stream, streamer, viewer, seconds, asset, held, fee_bps, asked_at, state, delivered_ms, captured, reason,"
    " started_at, ended_at, price, extensions"
)
_ONE = f"SELECT {_COLUMNS} FROM one_to_ones WHERE "
_LOCK = Prepared(_ONE + "id = :id", locks=True)
_FIND = Prepared(_ONE + "id = :id")
_FIND_OPEN = Prepared(_ONE + "stream = :stream AND viewer = :viewer AND ended_at IS NULL")
_OPEN = Prepared(_ONE + "ended_at IS NULL AND asked_at <= :before ORDER BY number LIMIT :limit")
_QUEUE = Prepared(_ONE + "stream = :stream AND ended_at IS NULL ORDER BY number LIMIT :limit")
_OF = Prepared(
    f"SELECT number, {_COLUMNS} FROM one_to_ones WHERE (viewer = :account OR streamer = :account) AND number < :before"
    " ORDER BY number DESC LIMIT :limit"
)
_FIND_LAST = Prepared(_ONE + "stream = :stream AND viewer = :viewer ORDER BY number DESC LIMIT 1")
_LAST = Prepared(
    "SELECT asked_at FROM one_to_ones WHERE stream = :stream AND viewer = :viewer ORDER BY number DESC LIMIT 1"
)
_COUNT = Prepared("SELECT count(*) FROM one_to_ones WHERE stream = :stream AND state IN ('held', 'queued', 'offered')")
_ADD = Prepared(
    f"INSERT INTO one_to_ones ({_COLUMNS}) VALUES (:id, :stream, :streamer, :viewer, :seconds, :asset, :held, :fee_bps,"
    " :asked_at, :state, :delivered_ms, :captured, :reason, :started_at, :ended_at, :price,"
    " :extensions) ON CONFLICT DO NOTHING"
)
_SET = Prepared(
    "UPDATE one_to_ones SET state = :state, delivered_ms = :delivered_ms, captured = :captured, reason = :reason,"
    " started_at = :started_at, ended_at = :ended_at, extensions = :extensions WHERE id = :id"
)
_FIND_OFFER = Prepared("SELECT version, offer FROM one_to_one_offers WHERE stream = :stream")
_LOCK_OFFER = Prepared("SELECT version, offer FROM one_to_one_offers WHERE stream = :stream", locks=True)
_SET_OFFER = Prepared(
    "INSERT INTO one_to_one_offers (stream, version, offer) VALUES (:stream, 1, :offer)"
    " ON CONFLICT (stream) DO UPDATE SET version = one_to_one_offers.version + 1, offer = excluded.offer"
    " RETURNING version"
)
_FIND_BETWEEN = Prepared(
    "SELECT o.id FROM one_to_ones o JOIN accounts a ON a.id = o.viewer"
    " WHERE o.streamer = :streamer AND a.folded = :folded AND o.ended_at IS NULL AND o.held IS NOT NULL LIMIT 1"
)
CHANGING = ("id", "state", "delivered_ms", "captured", "reason", "started_at", "ended_at", "extensions")
FIRST = 2**53  # above every number of a row


@dataclass(frozen=True, slots=True)
class Asking:
    """A request as it came: under which id, and what its viewer agrees to pay."""

    id: str
    stream: str
    streamer: str
    viewer: str
    seconds: int | None
    max_price: Amount | None
    tip: Amount | None
    fee_bps: int
    meets_conditions: bool


def find_offer(connection: sa.Connection, stream: str) -> tuple[int, Offer | None]:
    """Return a stream's offer and its version; (0, None) where none was made."""
    return _offer(_FIND_OFFER(connection, stream=stream).fetchone())


def put_offer(connection: sa.Connection, stream: str, offer: Offer, now_ms: int) -> int:
    """Replace a stream's offer; returns its version. Requests that wait keep what they were agreed on."""
    text = msgspec.json.encode(offer).decode()
    version = int(_SET_OFFER(connection, stream=stream, offer=text).fetchone()[0])
    fields = {"version": version, "offer": offer}
    eventlog.append(connection, Happened(stream, "one2one.offered_terms", now_ms, fields))
    return version


def ask(connection: sa.Connection, asking: Asking, now_ms: int) -> OneToOne:
    """Write a request down and hold its price.

    Raises Refused (price_changed, payment_required, invalid_price, request_exists, request_too_soon, too_many_requests,
    insufficient_funds, ...), and then nothing was held.
    """
    _, offer = _offer(_LOCK_OFFER(connection, stream=asking.stream).fetchone())
    assert offer is not None, "an offer is replaced, never deleted"
    choice = offer.choose(asking.seconds)
    free = offer.is_free(choice, asking.meets_conditions)
    price = None if free else price_to_hold(choice, asking.max_price, asking.tip)
    _check_pace(connection, offer, asking, now_ms)
    one = OneToOne(
        asking.id,
        asking.stream,
        asking.streamer,
        asking.viewer,
        choice.seconds,
        price,
        asking.fee_bps,
        now_ms,
        price=None if price is None or choice.price is None else int(choice.price.units),
    )
    if _ADD(connection, **_values(one)).rowcount != 1:
        raise Refused("request_exists")
    if price is not None:
        books.apply(connection, Hold(one.hold, "one2one", wallet(one.viewer, price.asset), price.units, None), now_ms)
    _tell(connection, one, "requested", now_ms)
    return one


def move(
    connection: sa.Connection, identifier: str, command: o.Command, now_ms: int, escrow: Account | None = None
) -> OneToOne | None:
    """Change one; returns it as it is then, None for one that is not there or that stays as it is.

    With an escrow, what its end would pay out is kept there. Raises Refused where more time is asked for that can't be
    had, or not be held.
    """
    row = _LOCK(connection, id=identifier).fetchone()
    if row is None:
        return None
    before = _one(row)
    after = o.step(before, command, now_ms)
    if after == before:
        return None
    _hold_anew(connection, before, after, now_ms)
    if not after.is_open:
        after = _settle(connection, after, now_ms, escrow)
    _SET(connection, **{name: value for name, value in _values(after).items() if name in CHANGING})
    if after.state is not before.state:
        _tell(connection, after, _word(after), now_ms)
    elif after.extensions != before.extensions:
        _tell_of_extension(connection, before, after, now_ms)
    return after


def find(connection: sa.Connection, identifier: str) -> OneToOne | None:
    """Return one."""
    row = _FIND(connection, id=identifier).fetchone()
    return None if row is None else _one(row)


def find_open(connection: sa.Connection, stream: str, viewer: str) -> OneToOne | None:
    """Return what somebody has asked for in a stream, and what is not over."""
    row = _FIND_OPEN(connection, stream=stream, viewer=viewer).fetchone()
    return None if row is None else _one(row)


def find_last(connection: sa.Connection, stream: str, viewer: str) -> OneToOne | None:
    """Return what somebody has asked for in a stream the last time."""
    row = _FIND_LAST(connection, stream=stream, viewer=viewer).fetchone()
    return None if row is None else _one(row)


def open_ones(connection: sa.Connection, asked_before: int, limit: int) -> list[OneToOne]:
    """Return what is not over, of what was asked for up to a moment (epoch ms), the oldest first."""
    return [_one(row) for row in _OPEN(connection, before=asked_before, limit=limit)]


def queue(connection: sa.Connection, stream: str) -> list[OneToOne]:
    """Return what is not over in a stream, in the order in which it was asked for."""
    return [_one(row) for row in _QUEUE(connection, stream=stream, limit=2 * MAX_WAITING)]


def of_account(connection: sa.Connection, account: str, before: int, limit: int) -> list[tuple[int, OneToOne]]:
    """Return what an account asked for or was asked for, the newest first, and the number of each."""
    return [(row[0], _one(row[1:])) for row in _OF(connection, account=account, before=before, limit=limit)]


def hold_between(connection: sa.Connection, streamer: str, viewer_name: str) -> str | None:
    """Return the hold of what a viewer has asked of a streamer and what is not over."""
    row = _FIND_BETWEEN(connection, streamer=streamer, folded=fold(viewer_name)).fetchone()
    return None if row is None else o.hold_of(row[0])


def _check_pace(connection: sa.Connection, offer: Offer, asking: Asking, now_ms: int) -> None:
    if _FIND_OPEN(connection, stream=asking.stream, viewer=asking.viewer).fetchone() is not None:
        raise Refused("request_exists")
    last = _LAST(connection, stream=asking.stream, viewer=asking.viewer).fetchone()
    if last is not None:
        wait_ms = last[0] + offer.cooldown_s * 1000 - now_ms
        if wait_ms > 0:
            raise Refused("request_too_soon", wait_s=-(-wait_ms // 1000))
    if int(_COUNT(connection, stream=asking.stream).fetchone()[0]) >= offer.max_waiting:
        raise Refused("too_many_requests")


def _hold_anew(connection: sa.Connection, before: OneToOne, after: OneToOne, now_ms: int) -> None:
    """Hold what a new extension costs, and give back what was held for those of which nothing comes."""
    if after.held is None:
        return
    purse, known = wallet(after.viewer, after.held.asset), {more.number: more for more in before.extensions}
    for more in after.extensions:
        was = known.get(more.number)
        if was is None:
            books.apply(connection, Hold(after.hold_for(more.number), "one2one", purse, more.units, None), now_ms)
        elif was.state is not more.state and more.state is More.DROPPED:
            books.apply(connection, Void(after.hold_for(more.number)), now_ms)


def _settle(connection: sa.Connection, one: OneToOne, now_ms: int, escrow: Account | None) -> OneToOne:
    """Pay out of each hold what is due, and give the rest back."""
    paid = [_pay_out(connection, one, hold, units, now_ms, escrow) for hold, units in o.charges(one)]
    return replace(one, captured=sum(paid))


def _pay_out(
    connection: sa.Connection, one: OneToOne, hold: str, units: int, now_ms: int, escrow: Account | None
) -> int:
    """Resolve a hold; returns what was paid: what is too little for anything to arrive is given back, too."""
    assert one.held is not None, "only what is held is charged"
    if units:
        try:
            source = held(wallet(one.viewer, one.held.asset))
            legs = (Leg(source, escrow, units),) if escrow else pay(source, one.streamer, units, Terms(one.fee_bps))
            books.apply(connection, Post(hold, legs), now_ms)
            return units
        except Refused as refused:
            if refused.code != "amount_too_small":
                raise
    books.apply(connection, Void(hold), now_ms)
    return 0


def _word(one: OneToOne) -> str:
    if one.state is State.WITHDRAWN:
        return {"declined": "declined", "expired": "expired", "missed": "expired"}.get(one.reason, "cancelled")
    return {State.RUNNING: "started"}.get(one.state, one.state.value)


def _tell(connection: sa.Connection, one: OneToOne, word: str, now_ms: int) -> None:
    fields = {**_parties(one), "seconds": one.whole_seconds}
    if one.whole_held is not None:
        fields["held"] = wire_amount(one.whole_held)
    if not one.is_open:
        fields |= {"reason": one.reason, "delivered_s": one.delivered_ms // 1000}
        if one.held is not None:
            fields["captured"] = WireAmount(one.held.asset, str(one.captured))
            fields["refunded"] = WireAmount(one.held.asset, str(one.refunded))
    concerned = (one.streamer, one.viewer)
    eventlog.append(connection, Happened(one.stream, f"one2one.{word}", now_ms, fields, concerned))


def _tell_of_extension(connection: sa.Connection, before: OneToOne, after: OneToOne, now_ms: int) -> None:
    more = next(more for more in after.extensions if more not in before.extensions)
    word = {More.ASKED: "extension_asked", More.AGREED: "extended", More.DROPPED: "extension_ended"}[more.state]
    fields = {**_parties(after), "number": more.number, "seconds": more.seconds}
    if after.held is not None:
        fields["held"] = WireAmount(after.held.asset, str(more.units))
    concerned = (after.streamer, after.viewer)
    eventlog.append(connection, Happened(after.stream, f"one2one.{word}", now_ms, fields, concerned))


def _parties(one: OneToOne) -> dict[str, Any]:
    return {"request": one.id, "streamer": one.streamer, "viewer": one.viewer}


def _offer(row: Sequence[Any] | None) -> tuple[int, Offer | None]:
    return (0, None) if row is None else (int(row[0]), msgspec.json.decode(row[1], type=Offer))


def _one(row: Sequence[Any]) -> OneToOne:
    identifier, stream, streamer, viewer, seconds, asset, units, fee_bps, asked_at, state = row[:10]
    delivered_ms, captured, reason, started_at, ended_at, price, extensions = row[10:]
    amount = None if asset is None else Amount(asset, int(units))
    return OneToOne(
        identifier,
        stream,
        streamer,
        viewer,
        seconds,
        amount,
        fee_bps,
        asked_at,
        State(state),
        delivered_ms,
        int(captured),
        reason,
        started_at,
        ended_at,
        None if price is None else int(price),
        tuple(Extension(n, s, int(units), More(state)) for n, s, units, state in json.loads(extensions)),
    )


def _values(one: OneToOne) -> dict[str, Any]:
    return {
        "id": one.id,
        "stream": one.stream,
        "streamer": one.streamer,
        "viewer": one.viewer,
        "seconds": one.seconds,
        "asset": None if one.held is None else one.held.asset,
        "held": None if one.held is None else str(one.held.units),
        "fee_bps": one.fee_bps,
        "asked_at": one.asked_at,
        "state": one.state.value,
        "delivered_ms": one.delivered_ms,
        "captured": str(one.captured),
        "reason": one.reason,
        "started_at": one.started_at,
        "ended_at": one.ended_at,
        "price": None if one.price is None else str(one.price),
        "extensions": json.dumps([[m.number, m.seconds, str(m.units), m.state.value] for m in one.extensions]),
    }
