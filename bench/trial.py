"""Switches of one stream, and what reaches those who lost the right by them: the substance of `bench.cut`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import trio

from bench.crowd import Place, Viewer
from bench.mesi import Mesi, Person
from bench.payload import Rate
from bench.receiver import Decrypt
from bench.report import say
from bench.stage import Stage
from bench.tables import Heard
from media.wire.rtcp import Nack

FLOWING_S = 0.5  # how long all watch before a switch, and how long what comes after it is watched for
JOINS_PER_S = 100.0
ASKED_AGAIN = 16  # packets that each one who is put out asks to be sent again
RECENT_NS = 500_000_000
MEDIA = (Heard.RTP, Heard.RTX, Heard.RTCP)

Confirm = Callable[[], Awaitable[Any]]


class Switch(NamedTuple):
    """How a room is closed and opened again, each in two steps: what is prepared returns what confirms it."""

    name: str
    prepare: Callable[[], Awaitable[Confirm]]
    reopen: Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Leaks:
    """What came after confirmations to those without the right, and what those with it lost."""

    name: str
    switches: int = 0
    watched: int = 0  # outsiders that were watching when a switch came, over all switches
    idle: int = 0  # outsiders that were not: a switch proves nothing about them
    after: Counter[Heard] = field(default_factory=Counter)
    worst_ms: float | None = None  # the latest media packet after a confirmation
    margin_ms: list[float] = field(default_factory=list)  # from the last media packet to the confirmation
    confirm_ms: list[float] = field(default_factory=list)
    fence_ms: list[float] = field(default_factory=list)
    holders: int = 0
    holders_lost: int = 0
    holders_behind: int = 0  # holders that did not get the last packets
    holders_put_out: int = 0

    @property
    def packets_after(self) -> int:
        """Media of any kind."""
        return sum(self.after[kind] for kind in MEDIA)


@dataclass(slots=True)
class Trial:
    """One stream with its people: holders stay throughout, outsiders join anew before each switch."""

    mesi: Mesi
    stage: Stage
    owner: Person
    stream: str
    holders: list[Viewer]
    outsiders: list[Place]

    def path(self, rest: str) -> str:
        """Return an API path below the stream."""
        return f"/streams/{self.stream}{rest}"

    async def ask(self, method: str, rest: str, body: object = None) -> Any:
        """Ask as the stream's owner."""
        return await self.mesi.ask(self.owner, method, self.path(rest), body)


async def open_trial(mesi: Mesi, stage: Stage, rate: Rate, holders: int, outsiders: int, name: str) -> Trial:
    """Open a stream, publish, give the holders tickets and let them in."""
    owner = await mesi.person(f"{name}-owner")
    stream = await mesi.stream(owner)
    number = len(stage.publishers)
    await stage.publish(f"{mesi.url}/whip/{stream}", owner.token, rate, number)

    async def seats(kind: str, count: int) -> list[Place]:
        people = await mesi.people([f"{name}-{kind}{place}" for place in range(count)])
        return [Place(f"{mesi.url}/whep/{stream}", person.token, number, person.name) for person in people]

    staying = [Viewer(place, stage.receiver, Decrypt.ALL) for place in await seats("holder", holders)]
    trial = Trial(mesi, stage, owner, stream, staying, await seats("outsider", outsiders))
    for viewer in staying:
        await trial.ask("PUT", f"/tickets/{viewer.place.name}")
    await stage.join(staying, joins_per_s=JOINS_PER_S)
    return trial


async def run_switches(trial: Trial, switch: Switch, times: int) -> Leaks:
    """Close and open a room so many times, and watch who gets what."""
    leaks = Leaks(switch.name, holders=len(trial.holders))
    for number in range(times):
        say(f"{switch.name}: {number + 1} of {times}")
        outsiders = [Viewer(place, trial.stage.receiver) for place in trial.outsiders]
        await trial.stage.join(outsiders, joins_per_s=JOINS_PER_S)
        await trio.sleep(FLOWING_S)
        await _switch_once(leaks, outsiders, switch)
        for viewer in outsiders:
            viewer.leave()
        await switch.reopen()
        trial.stage.viewers = [viewer for viewer in trial.stage.viewers if viewer not in outsiders]
    await trio.sleep(FLOWING_S)
    _judge_holders(leaks, trial)
    return leaks


async def _switch_once(leaks: Leaks, outsiders: list[Viewer], switch: Switch) -> None:
    confirm = await switch.prepare()
    asked_ns = time.time_ns()
    answer = await confirm()
    confirmed_ns = time.time_ns()
    rows = [viewer.row for viewer in outsiders if viewer.row is not None]
    for viewer in outsiders:
        _ask_again(viewer)
    await trio.sleep(FLOWING_S)
    leaks.switches += 1
    leaks.confirm_ms.append((confirmed_ns - asked_ns) / 1e6)
    if isinstance(answer, dict) and "fenced_ns" in answer:
        leaks.fence_ms.append(answer["fenced_ns"] / 1e6)
    receiver = outsiders[0].receiver
    last_ns = watching = 0
    for row in rows:
        arrived = receiver.arrivals_after(row, asked_ns - RECENT_NS)
        media = [at_ns for kind in MEDIA for at_ns in arrived[kind]]
        watching += any(at_ns <= asked_ns for at_ns in media)
        late = {kind: [at_ns for at_ns in arrived[kind] if at_ns > confirmed_ns] for kind in Heard}
        leaks.after.update({kind: len(times) for kind, times in late.items()})
        last_ns = max([last_ns, *media])
    leaks.watched += watching
    leaks.idle += len(outsiders) - watching
    behind_ms = (last_ns - confirmed_ns) / 1e6
    leaks.margin_ms.append(-behind_ms)
    if behind_ms > 0:
        leaks.worst_ms = max(leaks.worst_ms or 0.0, behind_ms)


def _ask_again(viewer: Viewer) -> None:
    """Ask for the last packets of a viewer's video to be sent again, as a lossy network would make it."""
    if viewer.row is None or viewer.endpoint is None:
        return
    numbers = viewer.receiver.tables.numbers[viewer.row, 0]
    highest = int(numbers["highest"])
    wanted = tuple((highest - back) & 0xFFFF for back in range(ASKED_AGAIN - 1, -1, -1))
    viewer.endpoint.send_rtcp(Nack(1, int(numbers["ssrc"]), wanted))


def _judge_holders(leaks: Leaks, trial: Trial) -> None:
    publisher = trial.stage.publishers[trial.holders[0].place.publisher] if trial.holders else None
    for viewer in trial.holders:
        if viewer.row is None or publisher is None:
            leaks.holders_put_out += 1
            continue
        totals = trial.stage.receiver.row_totals(viewer.row)
        leaks.holders_lost += totals.lost + totals.lost_inside
        leaks.holders_put_out += viewer.ended is not None
        newest = trial.stage.receiver.arrivals_after(viewer.row, time.time_ns() - RECENT_NS)[Heard.RTP]
        leaks.holders_behind += not newest
