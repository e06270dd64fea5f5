"""What a room needs of the world around it; the server gives it the real ones."""

from __future__ import annotations

from typing import Protocol

from signalling.events import Event
from signalling.state import RoomState


class Clock(Protocol):
    """The monotonic clock that admission is judged by."""

    def now_ns(self) -> int:
        """Return `time.monotonic_ns()`, or a test's."""


class Archive(Protocol):
    """Where rooms outlive a restart. Both methods return when it is written down."""

    async def intend(self, state: RoomState) -> None:
        """Write the narrower state down before it is applied: a restart in between must not open a door."""

    async def keep(self, state: RoomState, events: list[Event]) -> None:
        """Write down what was done."""


class Audience(Protocol):
    """Who is told. Never waits; a reader that does not read is the implementation's concern."""

    def tell(self, event: Event) -> None:
        """Pass one event on to whom it concerns."""
