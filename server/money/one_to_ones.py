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
