"""Decides about the money of a one-to-one: `step(one, command, now_ms) -> one`.

    held       the viewer's money is promised, and the room not asked yet
    queued     the request waits in the room
    offered    the streamer takes it, and the viewer is asked to come
    accepted   it is being set up
    running    both sides' media has flowed
    ended      the delivered share was paid out, the rest went back
    withdrawn  it never came to it, and all went back

A state only follows those above it, so what is heard late or twice changes nothing. Pure: no clock, no SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from server.money.amounts import Amount, split
from signalling.policy.one_to_one import ONE_TO_ONE_S
from signalling.refusals import Refused


class State(StrEnum):
    """What a one-to-one has come to."""

    HELD = "held"
    QUEUED = "queued"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    RUNNING = "running"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


ORDER = tuple(State)
CLOSED = (State.ENDED, State.WITHDRAWN)
RUNS = (State.ACCEPTED, State.RUNNING)
MAX_EXTENSIONS = 32  # of one, refused ones too; half an hour has room for 25 that are granted


class More(StrEnum):
    """What an extension has come to."""

    ASKED = "asked"
    AGREED = "agreed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Extension:
    """So many seconds more of a one-to-one, and what is held for them; the first is number 1."""

    number: int
    seconds: int
    units: int
    state: More = More.ASKED


@dataclass(frozen=True, slots=True)
class OneToOne:
    """One request and what became of it; times in epoch ms, `seconds` the agreed length.

    `held` is None where nothing is paid. The price and the fee stay as they were when it was asked for, for extensions,
    too. `price` is in the asset of what is held, which may be more; None where it was not written down.
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
    price: int | None = None
    extensions: tuple[Extension, ...] = ()

    @property
    def hold(self) -> str:
        """The name of its hold in the books."""
        return hold_of(self.id)

    @property
    def is_open(self) -> bool:
        """Whether its money is not settled yet."""
        return self.state not in CLOSED

    @property
    def whole_seconds(self) -> int:
        """How long it is by what was agreed, with all extensions."""
        return self.seconds + sum(more.seconds for more in self.extensions if more.state is More.AGREED)

    @property
    def whole_held(self) -> Amount | None:
        """What is held for it in all, or was when it ended, None where nothing is paid."""
        if self.held is None:
            return None
        more = sum(more.units for more in self.extensions if more.state is not More.DROPPED)
        return Amount(self.held.asset, self.held.units + more)

    @property
    def refunded(self) -> int:
        """How many units went back to the viewer, 0 while it is open."""
        return 0 if self.whole_held is None or self.is_open else self.whole_held.units - self.captured

    def hold_for(self, number: int) -> str:
        """Return the name in the books of the hold for an extension."""
        return f"{self.hold}.{number}"

    def price_of(self, seconds: int) -> Amount | None:
        """Return what more time costs at the price of the minute that was agreed on, to the next unit up."""
        if self.held is None:
            return None
        price = self.held.units if self.price is None else self.price
        return Amount(self.held.asset, -(-price * seconds // self.seconds))


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


@dataclass(frozen=True, slots=True)
class Lengthen:
    """More time is asked for, at the price that was agreed on."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Agree:
    """The streamer has granted an extension, and it is so much longer."""

    number: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing comes of an extension."""

    number: int


Command = Reach | Deliver | Close | Deny | Lengthen | Agree | Drop


def step(one: OneToOne, command: Command, now_ms: int) -> OneToOne:
    """Return what a one-to-one has become, the same where a command says nothing new.

    Raises Refused where more time can't be asked for: mode_conflict, extension_exists, too_many_requests and
    duration_out_of_range.
    """
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
        case Lengthen(seconds):
            return replace(one, extensions=(*one.extensions, _extension(one, seconds)))
        case Agree(number):
            return _answer(one, number, More.AGREED)
        case Drop(number):
            return _answer(one, number, More.DROPPED)
        case Deny(reason):
            return one if one.state is State.RUNNING else _close(one, reason, 0, now_ms)


def _close(one: OneToOne, reason: str, delivered_ms: int, now_ms: int) -> OneToOne:
    over = replace(
        one,
        state=State.ENDED if one.state in RUNS else State.WITHDRAWN,
        reason=reason,
        delivered_ms=min(delivered_ms, one.whole_seconds * 1000),
        extensions=tuple(_dropped(more) if more.state is More.ASKED else more for more in one.extensions),
        ended_at=now_ms,
    )
    return replace(over, captured=sum(units for _, units in charges(over)))


def charges(one: OneToOne) -> list[tuple[str, int]]:
    """Return what the delivered part costs of each hold that counts, the first hold's time being delivered first."""
    if one.held is None:
        return []
    charged = [(one.hold, due(one.held.units, one.seconds, one.delivered_ms))]
    for more, before in zip(one.extensions, _starts(one), strict=True):
        if more.state is More.AGREED:
            charged.append((one.hold_for(more.number), due(more.units, more.seconds, one.delivered_ms - before * 1000)))
    return charged


def due(units: int, seconds: int, delivered_ms: int) -> int:
    """Return how many of the units that are held for so many seconds a delivered part of them costs."""
    whole_ms = seconds * 1000
    delivered_ms = max(0, min(delivered_ms, whole_ms))
    return split(units, [delivered_ms, whole_ms - delivered_ms])[0]


def _starts(one: OneToOne) -> list[int]:
    """Return after how many seconds each extension begins."""
    starts, start = [], one.seconds
    for more in one.extensions:
        starts.append(start)
        start += more.seconds if more.state is More.AGREED else 0
    return starts


def _extension(one: OneToOne, seconds: int) -> Extension:
    if one.state not in RUNS:
        raise Refused("mode_conflict", "the one-to-one has not begun yet")
    if any(more.state is More.ASKED for more in one.extensions):
        raise Refused("extension_exists")
    if len(one.extensions) >= MAX_EXTENSIONS:
        raise Refused("too_many_requests", "more time was asked for often enough")
    if not 0 < seconds <= ONE_TO_ONE_S[1] - one.whole_seconds:
        raise Refused("duration_out_of_range")
    price = one.price_of(seconds)
    return Extension(len(one.extensions) + 1, seconds, 0 if price is None else price.units)


def _answer(one: OneToOne, number: int, state: More) -> OneToOne:
    """Answer an extension that is asked for; what was answered stays as it is."""

    def answered(more: Extension) -> Extension:
        return replace(more, state=state) if more.number == number and more.state is More.ASKED else more

    return replace(one, extensions=tuple(answered(more) for more in one.extensions))


def _dropped(more: Extension) -> Extension:
    return replace(more, state=More.DROPPED)
