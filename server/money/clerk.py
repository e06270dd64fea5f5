"""The clerk: does from time to time what is due, such as giving back money that was held too long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog
import trio

log = structlog.get_logger("clerk")

LOOK_S = 1.0  # a reservation or a hold ends so much late at most

# What is due by epoch milliseconds is done, a bounded part of it; returns how much that was.
Duty = Callable[[int], Awaitable[int]]


class Clerk:
    """Does duties by name, each in its own loop, so that one which fails or takes long keeps no other waiting."""

    def __init__(self, duties: Mapping[str, Duty], wall_ms: Callable[[], int]) -> None:
        self._duties, self._wall_ms = dict(duties), wall_ms
        self.done, self.failures = 0, 0

    async def run(self) -> None:
        """Look after every duty until cancelled."""
        async with trio.open_nursery() as nursery:
            for name, duty in self._duties.items():
                nursery.start_soon(self._look_after, name, duty)

    async def _look_after(self, name: str, duty: Duty) -> None:
        while True:
            try:
                done = await duty(self._wall_ms())
            except Exception:
                # Nothing is lost: it is due still, and whatever broke here must not end the money of all others.
                self.failures += 1
                log.exception("duty_failed", duty=name)
                done = 0
            self.done += done
            if not done:
                await trio.sleep(LOOK_S)

    def counters(self) -> dict[str, int]:
        """How much was done, and how often something failed, by name."""
        return {"duties_done": self.done, "duty_failures": self.failures}
