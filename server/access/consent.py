"""Carries disclosure requests between streamers and viewers, and lets them lapse in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from server.access import disclosures
from server.access.disclosures import Disclosure, Field
from server.database.store import Database
from server.money import appointments
from signalling.identifiers import Actor
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms
from signalling.wire.proofs import KyfDisclosed, KyfRequested

LONGEST_NAP_S = 60.0  # the wall clock may be set meanwhile
RETRY_S = 1.0

log = structlog.get_logger("access")

# What to do with the money that waited for an answer which was no, or none; it must be safe to do twice.
VoidHold = Callable[[str], Awaitable[None]]


async def hold_nothing(hold: str) -> None:
    """Know of no money, as a node without."""
    await trio.lowlevel.checkpoint()


class Consent:
    """Disclosures on a node's store; `run` it to let them lapse. Raises Refused and StoreFailed."""

    def __init__(self, store: Database, clock: Clock, rooms: Rooms, void_hold: VoidHold = hold_nothing) -> None:
        self._store, self._clock, self._rooms, self._void_hold = store, clock, rooms, void_hold
        self._asked = trio.Event()
        self.failures = 0

    def counters(self) -> dict[str, int]:
        """How often disclosures could not be settled, by name."""
        return {"disclosure_failures": self.failures}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let lapse what is not answered in time, until cancelled."""
        task_status.started()
        while True:
            self._asked = trio.Event()
            try:
                left_s = await self._lapse()
            except Exception:
                self.failures += 1
                log.exception("disclosures_not_settled")
                left_s = RETRY_S
            with trio.move_on_after(left_s):
                await self._asked.wait()

    async def ask(
        self,
        actor: Actor,
        name: str,
        *,
        fields: tuple[Field, ...],
        purpose: str,
        deadline_s: int,
        keep_s: int,
        hold: str | None = None,
    ) -> Disclosure:
        """Ask somebody for facts; `hold` is the money that is voided unless he consents in time.

        Without one it is what he has held for a one-to-one with who asks.
        """
        now = self._clock.wall_ms()
        asked = await self._store.write(
            lambda connection: disclosures.ask(
                connection,
                actor.account,
                name,
                fields=fields,
                purpose=purpose,
                hold=hold or appointments.hold_between(connection, actor.account, name),
                now=now,
                deadline=now + deadline_s * 1000,
                keep_s=keep_s,
            )
        )
        told = KyfRequested(
            server_now=now,
            disclosure=asked.id,
            streamer=asked.streamer_name,
            fields=asked.fields,
            purpose=purpose,
            deadline=asked.deadline,
        )
        self._rooms.tell(asked.viewer, told)
        self._asked.set()
        return asked

    async def answer(self, actor: Actor, id: str, consents: bool) -> Disclosure:
        """Consent or refuse; the streamer is told which, and never why."""
        answered = await self._store.write(disclosures.answer, id, actor.account, consents, self._clock.wall_ms())
        self._tell(answered)
        self._asked.set()
        return answered

    async def revoke(self, actor: Actor, id: str) -> Disclosure:
        """Take a consent back, for the future."""
        revoked = await self._store.write(disclosures.revoke, id, actor.account, self._clock.wall_ms())
        self._tell(revoked)
        return revoked

    async def look(self, actor: Actor, id: str) -> dict[str, object]:
        """Return the facts that were granted, as they are now."""
        return await self._store.write(disclosures.look, id, actor.account, self._clock.wall_ms())

    async def list_of(self, actor: Actor, after: str, limit: int) -> list[Disclosure]:
        """Return what somebody asked and was asked for."""
        return await self._store.read(disclosures.list_of, actor.account, after, limit)

    async def _lapse(self) -> float:
        for lapsed in await self._store.write(disclosures.lapse, self._clock.wall_ms()):
            self._tell(lapsed)
        # Written only when it is done, so that a crash in between does it again, and no hold is forgotten.
        for id, hold in await self._store.read(disclosures.unsettled):
            await self._void_hold(hold)
            await self._store.write(disclosures.note_settled, id)
        deadline = await self._store.read(disclosures.next_deadline)
        if deadline is None:
            return LONGEST_NAP_S
        return min(LONGEST_NAP_S, max(0.001, (deadline - self._clock.wall_ms()) / 1000))

    def _tell(self, changed: Disclosure) -> None:
        told = KyfDisclosed(server_now=self._clock.wall_ms(), disclosure=changed.id, state=changed.state)
        for account in (changed.streamer, changed.viewer):
            self._rooms.tell(account, told)
