"""Publishers and viewers together in one process, and what they see within a stretch of time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx2
import trio

from bench.crowd import Viewer, fill, open_http
from bench.moq_publishing import MoqPlace, MoqPublishing
from bench.payload import Rate
from bench.process import cpu_ns, memory_bytes
from bench.publishing import Publishing
from bench.receiver import Receiver, Totals
from server.client import Publisher, publish
from server.offers import Kind

Opening = Callable[[tuple[Kind, ...]], AbstractAsyncContextManager[Publisher]]


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in a stretch of time. `expected` is what the publishers sent, once for each of their viewers."""

    seconds: float
    totals: Totals
    expected: int
    silent: int  # viewers that got nothing
    put_out: int  # viewers whose session the server had ended
    cpu_ns: int | None
    memory_bytes: int | None

    @property
    def delivered(self) -> int:
        """RTP packets that arrived, without retransmissions."""
        return int(self.totals.counts[0])


@dataclass(slots=True)
class Stage:
    """All that plays in one process; `nursery` keeps it."""

    receiver: Receiver
    http: httpx2.AsyncClient
    nursery: trio.Nursery
    publishers: dict[int, Publishing | MoqPublishing] = field(default_factory=dict)
    viewers: list[Viewer] = field(default_factory=list)

    async def publish(self, url: str, token: str, rate: Rate, number: int = 0) -> Publishing:
        """Publish until the end, as publisher `number`; returns when packets flow. Raises SessionFailed."""
        return await self.publish_through(partial(publish, self.http, url, token), rate, number)

    async def publish_through(self, opening: Opening, rate: Rate, number: int = 0) -> Publishing:
        """Do the same over a session that `opening` opens for the kinds of media it is given."""
        publishing: Publishing = await self.nursery.start(self._publish, opening, rate, number)
        self.publishers[number] = publishing
        return publishing

    async def publish_over_moq(self, place: MoqPlace, rate: Rate, number: int = 0) -> None:
        """Publish until the end, as publisher `number`, in a process of its own; returns when that is live."""
        publishing = MoqPublishing(number, place, rate)
        await self.nursery.start(publishing.run)
        self.publishers[number] = publishing

    async def join(self, viewers: list[Viewer], *, joins_per_s: float) -> None:
        """Let viewers in; returns when they see something, or never will."""
        self.viewers += viewers
        await fill(viewers, self.http, self.nursery, joins_per_s=joins_per_s)

    async def measure(self, seconds: float, pid: int | None = None) -> Window:
        """Watch for so long; costs are those of process `pid`."""
        rows = {viewer.row: viewer for viewer in self.viewers if viewer.row is not None}
        before = self.receiver.totals()
        got = {row: self.receiver.received(row) for row in rows}
        sent = {number: publisher.sent for number, publisher in self.publishers.items()}
        cpu = cpu_ns(pid) if pid is not None else 0
        began = time.monotonic()
        await trio.sleep(seconds)
        took = time.monotonic() - began
        cost = cpu_ns(pid) - cpu if pid is not None else None
        totals = self.receiver.totals().since(before)
        sent = {number: publisher.sent - sent[number] for number, publisher in self.publishers.items()}
        return Window(
            took,
            totals,
            sum(sent.get(viewer.place.publisher, 0) for viewer in rows.values()),
            sum(self.receiver.received(row) == got[row] for row in rows),
            sum(viewer.ended is not None for viewer in rows.values()),
            cost,
            memory_bytes(pid) if pid is not None else None,
        )

    async def _publish(
        self, opening: Opening, rate: Rate, number: int, *, task_status: trio.TaskStatus[Publishing]
    ) -> None:
        async with opening(("audio", "video") if rate.sound else ("video",)) as publisher:
            publishing = Publishing(number, publisher, rate)
            task_status.started(publishing)
            await publishing.run()


@asynccontextmanager
async def open_stage(*, merge: bool = True) -> AsyncIterator[Stage]:
    """Open a stage; leaving it ends all sessions."""
    async with open_http() as http, trio.open_nursery() as receiving:
        receiver = Receiver(merge=merge)
        await receiving.start(receiver.run)
        async with trio.open_nursery() as nursery:
            yield Stage(receiver, http, nursery)
            nursery.cancel_scope.cancel()
        receiving.cancel_scope.cancel()
