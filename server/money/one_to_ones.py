"""Decides about the money of a one-to-one: `step(one, command, now_ms) -> one`.

    held       the viewer's money is promised, and the room not asked yet
    queued     the request waits in the room
    accepted   it is being set up
    running    both sides' media has flowed
    ended      the delivered share was paid out, the rest went back
    withdrawn  it never came to it, and all went back

A state only follows those above it, so what is heard late or twice changes nothing. Pure: no clock, no SQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.access.rules import Rule, fault_of
from server.money.amounts import Amount, WireAmount, read_amount_untrusted, split
from server.money.assets import Assets
from signalling.one_to_one import ONE_TO_ONE_S
from signalling.refusals import Refused

MAX_CONDITIONS = 8  # rules, each with as many parts as a stream's
MAX_CHOICES = 8  # lengths to choose from; a longer list is not read
MAX_WAITING = 100  # as many as a room lets wait
Length = Annotated[int, Meta(ge=ONE_TO_ONE_S[0], le=ONE_TO_ONE_S[1])]


class State(StrEnum):
    """What a one-to-one has come to."""

    HELD = "held"
    QUEUED = "queued"
    ACCEPTED = "accepted"
    RUNNING = "running"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


ORDER = tuple(State)
CLOSED = (State.ENDED, State.WITHDRAWN)


@dataclass(frozen=True, slots=True)
class OneToOne:
    """One request and what became of it; times in epoch ms, `seconds` the agreed length.

    `held` is None where nothing is paid. The price and the fee stay as they were when it was asked for.
    """

    id: str
    stream: str
    streamer: str
    viewer: str
    seconds: int
    held: Amount | None
    fee_bps: int
    asked_at: int
    state: State = State.HELD
    delivered_ms: int = 0
    captured: int = 0
    reason: str = ""
    started_at: int | None = None
    ended_at: int | None = None

    @property
    def hold(self) -> str:
        """The name of its hold in the books."""
        return hold_of(self.id)

    @property
    def is_open(self) -> bool:
        """Whether its money is not settled yet."""
        return self.state not in CLOSED

    @property
    def refunded(self) -> int:
        """How many units went back to the viewer, 0 while it is open."""
        return 0 if self.held is None or self.is_open else self.held.units - self.captured


def hold_of(request: str) -> str:
    """Return the name of a request's hold in the books."""
    return f"one2one.{request}"


# -- commands ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reach:
    """It has come so far."""

    state: State


@dataclass(frozen=True, slots=True)
class Deliver:
    """So much was delivered up to now."""

    delivered_ms: int


@dataclass(frozen=True, slots=True)
class Close:
    """It is over; `delivered_ms` were delivered, None for what was written down last."""

    reason: str
    delivered_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """What it was agreed on no longer holds; one that is running goes on."""

    reason: str


Command = Reach | Deliver | Close | Deny


def step(one: OneToOne, command: Command, now_ms: int) -> OneToOne:
    """Return what a one-to-one has become, the same where a command says nothing new."""
    if not one.is_open:
        return one
    match command:
        case Reach(state):
            assert state not in CLOSED
            if ORDER.index(state) <= ORDER.index(one.state):
                return one
            started_at = now_ms if state is State.RUNNING else None
            return replace(one, state=state, started_at=started_at)
        case Deliver(delivered_ms):
            return replace(one, delivered_ms=max(one.delivered_ms, delivered_ms))
        case Close(reason, delivered_ms):
            return _close(one, reason, one.delivered_ms if delivered_ms is None else delivered_ms, now_ms)
        case Deny(reason):
            return one if one.state is State.RUNNING else _close(one, reason, 0, now_ms)


def _close(one: OneToOne, reason: str, delivered_ms: int, now_ms: int) -> OneToOne:
    delivered_ms = min(delivered_ms, one.seconds * 1000)
    begun = one.state in (State.ACCEPTED, State.RUNNING)
    return replace(
        one,
        state=State.ENDED if begun else State.WITHDRAWN,
        reason=reason,
        delivered_ms=delivered_ms,
        captured=due(one, delivered_ms),
        ended_at=now_ms,
    )


def due(one: OneToOne, delivered_ms: int) -> int:
    """Return how many of the held units a delivered part of a one-to-one costs."""
    if one.held is None:
        return 0
    whole_ms = one.seconds * 1000
    return split(one.held.units, [delivered_ms, whole_ms - delivered_ms])[0]


# -- what is offered ---------------------------------------------------------------------------------------------------


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One length, from 300 to 1800 s, and what it costs; null for nothing."""

    seconds: Length
    price: WireAmount | None = None


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a streamer asks for a one-to-one.

    With `conditions`, all of them, `needs` says whether they are asked besides the price ("all"), or whether who meets
    them pays nothing ("any"). Who has asked waits `cooldown_s` before asking again, and so many wait at most.
    """

    choices: Annotated[tuple[Choice, ...], Meta(min_length=1, max_length=MAX_CHOICES)]
    conditions: Annotated[tuple[Rule, ...], Meta(max_length=MAX_CONDITIONS)] = ()
    needs: Literal["all", "any"] = "all"
    cooldown_s: Annotated[int, Meta(ge=0, le=86_400)] = 60
    max_waiting: Annotated[int, Meta(ge=1, le=MAX_WAITING)] = MAX_WAITING

    def choose(self, seconds: int | None) -> Choice:
        """Return the choice of a length; without one it is the only one. Raises Refused("duration_out_of_range")."""
        fitting = [choice for choice in self.choices if seconds in (None, choice.seconds)]
        if len(fitting) != 1:
            lengths = ", ".join(str(choice.seconds) for choice in self.choices)
            raise Refused("duration_out_of_range", f"the lengths offered are, in seconds, {lengths}")
        return fitting[0]

    def is_free(self, choice: Choice, meets_conditions: bool) -> bool:
        """Whether who meets the conditions, or doesn't, pays nothing; who may not ask at all is told before."""
        return choice.price is None or (self.needs == "any" and bool(self.conditions) and meets_conditions)

    def demands_conditions(self, choice: Choice) -> bool:
        """Whether money alone is not enough."""
        return bool(self.conditions) and (self.needs == "all" or choice.price is None)


def check_offer_untrusted(offer: Offer, assets: Assets) -> None:
    """Raise Refused (invalid_offer, invalid_rules, recipient_not_eligible, and as `read_amount_untrusted` does)."""
    lengths = [choice.seconds for choice in offer.choices]
    if len(set(lengths)) != len(lengths):
        raise Refused("invalid_offer", "each length has one price")
    prices = _prices(offer.choices)
    for price in prices:
        read_amount_untrusted(price, assets)
        assets.check_recipient(price.asset, 0)  # what only some may receive nobody can be asked for here
    if len({price.asset for price in prices}) > 1:
        raise Refused("invalid_offer", "all prices are of one asset")
    fault = next((fault for rule in offer.conditions if (fault := fault_of(rule)) is not None), None)
    if fault is not None:
        raise Refused("invalid_rules", fault)


def _prices(choices: Iterable[Choice]) -> list[WireAmount]:
    return [choice.price for choice in choices if choice.price is not None]


def price_to_hold(choice: Choice, most: Amount | None, tip: Amount | None) -> Amount:
    """Return what is held of a viewer who agrees to pay `most`, and maybe more than is asked (`tip`).

    Raises Refused: payment_required (nothing was agreed to), price_changed (with the price as it is), invalid_price.
    """
    assert choice.price is not None
    price = Amount(choice.price.asset, int(choice.price.units))
    if most is None:
        raise Refused("payment_required", price=choice.price)
    if most.asset != price.asset or price.units > most.units:
        raise Refused("price_changed", price=choice.price)
    if tip is None:
        return price
    if tip.asset != price.asset or tip.units < price.units:
        raise Refused("invalid_price", "a tip is at least what is asked, in the same asset")
    return tip
