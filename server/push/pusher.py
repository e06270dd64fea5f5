"""Reads the log for what people want to be told of, and tells their devices while no page of theirs is looked at.

The place in the log moves on in the transaction that writes notices down; so none is lost to a crash, and none is told
twice but for one that was on its way. Without any device nothing is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

import sqlalchemy as sa
import structlog
import trio

from server.database.store import Database, StoreFailed
from server.events import eventlog
from server.events.eventlog import Happened
from server.push import audience, devices, queue
from server.push.audience import Live
from server.push.notices import Kind, Notice
from server.push.queue import Queued
from server.push.sending import Sender
from server.webhooks.schedule import Failed, Outcome
from server.webhooks.teller import WaitBeyond
from signalling.identifiers import AccountId, StreamId

BATCH = 500  # events read at once
KEPT_EVERY = 5_000  # events without a notice, until it is written down that they were looked at
LOOK_S = 1.0  # how late a device is tried again
RETRY_S = 1.0  # a failing database is asked again so often
AT_ONCE = 32  # pushes on their way at a time
JUDGED_AT_ONCE = 100  # followers of somebody who began to stream: one look into the database
EXPIRE_S = 60.0  # how often what is of no use any more is dropped

log = structlog.get_logger("push")


class People(Protocol):
    """Knows of people what decides whether they are told."""

    def is_looking(self, account: AccountId) -> bool:
        """Whether some page of an account is in sight."""

    def is_suspended(self, account: AccountId) -> bool:
        """Whether an account is shut out: it is told of its cases alone."""

    async def may_watch(self, stream: StreamId, owner: AccountId, account: AccountId) -> bool:
        """Whether a stream is for an account."""


class Pusher:
    """Everything that is pushed from a node; `run` it. Raises StoreFailed."""

    def __init__(
        self, store: Database, sender: Sender, wall_ms: Callable[[], int], wait_beyond: WaitBeyond, people: People
    ) -> None:
        self._store, self._sender, self._wall_ms = store, sender, wall_ms
        self._wait_beyond, self._people = wait_beyond, people
        self._devices: dict[str, int] = {}
        self._position = self._kept = 0
        self._awake, self._stirred = trio.Event(), trio.Event()
        self._busy: set[str] = set()  # devices that something is on its way to
        self._slots = trio.CapacityLimiter(AT_ONCE)
        self._judging = trio.CapacityLimiter(JUDGED_AT_ONCE)
        self.counts: Counter[str] = Counter()

    def counters(self) -> dict[str, int]:
        """How notices fared, by name."""
        names = ("queued", "quiet", "sent", "failed", "gone", "given_up", "expired", "faults")
        return {"push_devices": sum(self._devices.values()), **{f"push_{name}": self.counts[name] for name in names}}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell until cancelled."""
        self._position = self._kept = await self._store.read(queue.position)
        await self.recount()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._for_ever, self._gather)
                nursery.start_soon(self._for_ever, lambda: self._send_due(nursery))
                nursery.start_soon(self._for_ever, self._expire)
                task_status.started()
        finally:
            with trio.move_on_after(1, shield=True):
                await self._sender.aclose()

    async def recount(self) -> None:
        """Look anew which accounts have devices: one came or went."""
        self._devices = await self._store.read(devices.counts)
        if self._devices:
            self._awake.set()

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception as fault:
                # Nothing is lost: what was not told is written down, and whatever broke here must not end the node.
                self.counts["faults"] += 1
                if isinstance(fault, StoreFailed):
                    log.warning("push_waits", reason=str(fault))
                else:
                    log.exception("push_fault")
                await trio.sleep(RETRY_S)

    # -- from events to notices ----------------------------------------------------------------------------------------

    async def _gather(self) -> None:
        if not self._devices:
            self._awake = trio.Event()
            await self._awake.wait()
            self._position = (await self._store.read(eventlog.span)).head
        head, events = await self._store.read(_read, self._position)
        if not events:
            self._position = head
            await self._wait_beyond(head, None)
            return
        found = await self._store.read(_find, [each for each in events if each.type in audience.TYPES], self._wall_ms())
        notices = [each for each in found if isinstance(each, Notice)]
        for live in found:
            if isinstance(live, Live):
                notices += await self._for_followers(live)
        self._position = head
        if notices or head - self._kept >= KEPT_EVERY:
            wanted = [each for each in notices if self._is_to_be_told(AccountId(each.account), each.words.kind)]
            self.counts["queued"] += await self._store.write(queue.add, wanted, head)
            self._kept = head
            self._stirred.set()

    async def _for_followers(self, live: Live) -> list[Notice]:
        told: list[Notice] = []

        async def judge(follower: AccountId) -> None:
            async with self._judging:
                if await self._people.may_watch(live.stream, live.owner, follower):
                    told.append(Notice(follower, live.words))

        async with trio.open_nursery() as nursery:
            for follower in live.followers:
                nursery.start_soon(judge, follower)
        return told

    def _is_to_be_told(self, account: AccountId, kind: Kind) -> bool:
        if self._people.is_suspended(account) and kind != "case":
            return False
        quiet = self._people.is_looking(account)
        self.counts["quiet"] += quiet
        return not quiet

    async def _expire(self) -> None:
        self.counts["expired"] += await self._store.write(queue.expire, self._wall_ms())
        await trio.sleep(EXPIRE_S)

    # -- from notices to devices ---------------------------------------------------------------------------------------

    async def _send_due(self, nursery: trio.Nursery) -> None:
        due = await self._store.read(queue.due, self._wall_ms(), 2 * AT_ONCE)
        for queued in due:
            if queued.device not in self._busy:
                self._busy.add(queued.device)
                await self._slots.acquire_on_behalf_of(queued.device)
                nursery.start_soon(self._deliver, queued)
        with trio.move_on_after(LOOK_S):
            await self._stirred.wait()
            self._stirred = trio.Event()

    async def _deliver(self, queued: Queued) -> None:
        try:
            if self._is_to_be_told(AccountId(queued.account), queued.words.kind):
                await self._settle(queued, await self._sender.send(queued, self._wall_ms()))
            else:
                await self._store.write(queue.take, queued)
        except StoreFailed as failure:
            self.counts["faults"] += 1  # it is pushed once more
            log.warning("push_unsettled", reason=str(failure))
        except Exception:
            self.counts["faults"] += 1
            log.exception("push_fault")
        finally:
            self._slots.release_on_behalf_of(queued.device)
            self._busy.discard(queued.device)
            self._stirred.set()

    async def _settle(self, queued: Queued, outcome: Outcome) -> None:
        if not isinstance(outcome, Failed):
            self.counts["sent"] += 1
            await self._store.write(_taken, queued)
        elif outcome.gone:
            self.counts["gone"] += 1
            await self._store.write(devices.drop, queued.device)
            await self.recount()
        else:
            self.counts["failed"] += 1
            log.info("push_failed", device=queued.device, reason=outcome.reason)
            again = await self._store.write(
                devices.fails, queued.device, queued.failures, outcome.pause_s, self._wall_ms()
            )
            if not again:
                self.counts["given_up"] += 1
                await self.recount()


def _read(connection: sa.Connection, position: int) -> tuple[int, list[Happened]]:
    """Return events after a place, and the place after them."""
    head = eventlog.span(connection).head
    read = eventlog.read_from(connection, position, BATCH)
    return read[-1].id if len(read) == BATCH else head, [each.event for each in read]


def _find(connection: sa.Connection, events: list[Happened], now_ms: int) -> list[Notice | Live]:
    return [found for event in events for found in audience.of_event(connection, event, now_ms)]


def _taken(connection: sa.Connection, queued: Queued) -> None:
    queue.take(connection, queued)
    devices.works(connection, queued.device)
