"""Meters one room's one-to-one while its clock runs: what does not pass both ways is not paid for."""

from __future__ import annotations

from collections.abc import Callable

import trio

from signalling.policy import commands as c
from signalling.policy.one_to_one import delivered_ns
from signalling.policy.state import RoomState
from signalling.ports import Clock, Desk
from signalling.rooms import measuring

MEASURED_EVERY_S = 1.0  # what is not delivered is not paid for, to so many seconds
WRITTEN_EVERY = 5  # measurements: a crash loses so many seconds of a streamer's pay, and a session costs no more writes


class Meter:
    """Looks once a second whether media passes both ways in one room's one-to-one while its clock runs.

    `read` gives the room's state, `missed` takes what did not pass; the desk is told now and then how much did.
    `wake` it when a one-to-one has begun: without one it rests.
    """

    def __init__(
        self,
        passes: Callable[[RoomState, int], bool],
        clock: Clock,
        desk: Desk,
        *,
        read: Callable[[], RoomState],
        missed: Callable[[c.MediaMissed], None],
    ) -> None:
        self._passes, self._clock, self._desk = passes, clock, desk
        self._read, self._missed = read, missed
        self._begun = trio.Event()
        self._looked_ns = self._said = 0

    def wake(self) -> None:
        """Look from now on."""
        self._begun.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if self._read().one_to_one is None:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep(MEASURED_EVERY_S)
            self._look()

    def _look(self) -> None:
        state, now_ns = self._read(), self._clock.now_ns()
        running_since_ns = measuring.measured_since_ns(state.one_to_one, now_ns)
        if running_since_ns is None:
            self._said = 0
            return
        since_ns = max(self._looked_ns, running_since_ns)
        if not self._passes(state, since_ns):
            self._missed(c.MediaMissed(now_ns - since_ns))
        self._looked_ns, self._said = now_ns, self._said + 1
        session = self._read().one_to_one
        if session is not None and session.request and self._said % WRITTEN_EVERY == 0:
            self._desk.delivered(session.request, delivered_ns(session, now_ns))
