"""Viewers over MoQ in a process of their own: moq-rs, a client of other makers, over real QUIC.

Started by bench/moq.py with a JSON object on its first line of input: `url` of each viewer, `fingerprint` of the
server's certificate, `broadcast`, `tracks`, how many viewers check every byte (`sample`), how many look at what comes
to them at all (`readers`), and the processor `core`.
It answers each line of input with one of JSON: who is in, and after "report" what came between "begin" and "end". It
runs on asyncio, as moq-rs does, and nothing of the server or of another tool imports it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import moq

from bench.cores import pin
from bench.report import percentile
from bench.units import Unit, is_empty, read_unit

JOINS_AT_ONCE = 8  # handshakes under way: a crowd that joins at once is another bench's
SHARES = (0.5, 0.99, 0.999)
KEPT_GROUPS = 16  # of a track nobody reads: what is let go of earlier might be refused while it is on its way
MAX_AGE_US = 5_000_000  # more than the two seconds that a group of video lasts: moq-rs counts from its beginning


@dataclass(slots=True)
class Groups:
    """Which groups of one track came whole to one viewer; those from `first` until `end` are judged."""

    newest: int = -1
    first: int = 0
    end: int = 0
    whole: set[int] = field(default_factory=set)

    def lost(self) -> int:
        """How many groups did not come whole."""
        return self.end - self.first - sum(self.first <= number < self.end for number in self.whole)


@dataclass(slots=True)
class Crowd:
    """All viewers, and what came to them between `begin` and `end`."""

    latencies_ns: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    groups: dict[tuple[int, str], Groups] = field(default_factory=dict)
    heard: set[int] = field(default_factory=set)
    joined: int = 0
    is_counting: bool = False

    def begin(self) -> None:
        """Count from now on; groups that have begun already are left out."""
        self.latencies_ns.clear()
        self.counts.clear()
        self.heard.clear()
        self.is_counting = True
        for groups in self.groups.values():
            groups.first, groups.whole = groups.newest + 1, set()

    def end(self) -> None:
        """Count no more frames; groups that have begun still have time to come."""
        self.is_counting = False
        for groups in self.groups.values():
            groups.end = groups.newest + 1

    def count(self, number: int, unit: Unit, size: int) -> None:
        """Count a frame."""
        if not self.is_counting:
            return
        self.latencies_ns.append(time.time_ns() - unit.sent_ns)
        self.heard.add(number)
        self.counts["frames"] += 1
        self.counts["bytes"] += size
        self.counts["packets_checked"] += unit.packets
        self.counts["frames_wrong"] += not unit.is_right

    def report(self) -> dict[str, Any]:
        """Return what came."""
        return {
            **self.counts,
            "groups": sum(groups.end - groups.first for groups in self.groups.values()),
            "groups_lost": sum(groups.lost() for groups in self.groups.values()),
            "viewers_heard": len(self.heard),
            "latency_ns": {str(share): percentile(self.latencies_ns, share) for share in SHARES},
        }


async def watch(crowd: Crowd, number: int, work: dict[str, Any], door: asyncio.Semaphore) -> None:
    """Watch until cancelled."""
    client = moq.Client(
        work["url"][number], tls_fingerprints=[work["fingerprint"]], reconnect=False, websocket_enabled=False
    )
    checks, reads = number < work["sample"], number < work["readers"]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        async with door:
            connection = await stack.enter_async_context(client)
            async for announced in connection.announced():
                if announced.prefix == work["broadcast"]:
                    break
            broadcast = await connection.request_broadcast(work["broadcast"])
            tracks = {
                name: await broadcast.subscribe_track(name, moq.Subscription(priority=7, max_age_us=MAX_AGE_US))
                for name in work["tracks"]
            }
        crowd.joined += 1
        for name, track in tracks.items():
            if reads:
                crowd.groups[number, name] = Groups()
                group.create_task(_take_track(crowd, number, name, track, checks=checks))
            else:
                group.create_task(_keep_track(track))


async def _take_track(crowd: Crowd, number: int, name: str, track: moq.TrackConsumer, *, checks: bool) -> None:
    groups = crowd.groups[number, name]
    async with asyncio.TaskGroup() as tasks:
        while (group := await track.recv_group()) is not None:
            groups.newest = max(groups.newest, group.sequence)
            tasks.create_task(_take_group(crowd, number, groups, name == "video", group, checks=checks))
    crowd.counts["tracks_ended"] += 1


async def _keep_track(track: moq.TrackConsumer) -> None:
    """Have moq-rs take everything in and look at nothing, as reading a frame costs more here than getting it."""
    kept: deque[moq.GroupConsumer] = deque(maxlen=KEPT_GROUPS)
    while (group := await track.recv_group()) is not None:
        kept.append(group)


async def _take_group(
    crowd: Crowd, number: int, groups: Groups, is_video: bool, group: moq.GroupConsumer, *, checks: bool
) -> None:
    try:
        async for frame in group:
            if is_empty(frame.payload):
                continue
            unit = read_unit(frame.payload, is_video=is_video, whole=checks)
            crowd.count(number, unit, len(frame.payload))
    except moq.Error:
        crowd.counts["groups_reset"] += 1
    else:
        groups.whole.add(group.sequence)


async def main() -> None:
    """Let everyone in, then answer until the input ends."""
    work = json.loads(await _line())
    pin(work["core"])
    crowd, door = Crowd(), asyncio.Semaphore(JOINS_AT_ONCE)
    viewers = [asyncio.create_task(watch(crowd, number, work, door)) for number in range(len(work["url"]))]
    while command := (await _line()).strip():
        seen = {"joined": crowd.joined, "failed": [_why(task) for task in viewers if task.done()]}
        match command:
            case "begin":
                crowd.begin()
            case "end":
                crowd.end()
            case "report":
                seen |= crowd.report()
        sys.stdout.write(json.dumps(seen) + "\n")
        sys.stdout.flush()


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _why(task: asyncio.Task[None]) -> str:
    return repr(task.exception())


if __name__ == "__main__":
    asyncio.run(main())
