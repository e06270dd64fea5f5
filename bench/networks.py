"""`python -m bench.networks`: what viewers behind bad networks see, each of which is modelled by the impairment relay.

A publisher of three layers, and viewers of the tool that answer as Chromium does: behind losses, behind a thin link
beside a wide one, and behind one that shrinks to a third and grows again. The relay, the viewers and the publisher
share a core, so that what is late here may be late by the tool.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import click
import trio

from bench.cores import choose_cores, pin
from bench.crowd import open_http
from bench.impairment import Impairment
from bench.mesi import Mesi, open_mesi
from bench.network_viewer import NetworkViewer, Shown
from bench.outputs import Outputs, with_outputs
from bench.plots import Lines
from bench.report import Report, percentile, say
from bench.simulcast import publish_layers
from bench.tool import run_tool

T = TypeVar("T")

LAYERS = {"q": 150_000, "h": 700_000, "f": 2_200_000}
LEAST, MIDDLE, BEST = range(3)
DELAY_MS, QUEUE_MS = 20.0, 500.0
LOSSES = {
    "5 % lost singly": Impairment(loss=0.05, delay_ms=DELAY_MS),
    "10 % lost in bursts of 4": Impairment(loss=0.1, burst=4, delay_ms=DELAY_MS),
}
THIN_BPS, WIDE_BPS = 300_000, 5_000_000
KNOWN_S = 2.0  # until the server knows what the layers take
RAMP_S, SETTLED_S = 4.0, 5.0  # the second is looked at after the first
LOSSY_S, SHRUNK_S, BACK_S = 12.0, 6.0, 10.0
FREEZE_MS, SHRINK_FREEZE_MS = 300.0, 500.0
TO_LAYER_S, SETTLE_S = 3.0, 2.0
LEAST_USE, MOST_QUEUED_MS = 0.8, 100.0


def limited(bps: float) -> Impairment:
    """Return a network of so many bits a second."""
    return Impairment(rate_bps=bps, delay_ms=DELAY_MS, queue_ms=QUEUE_MS)


@dataclass(frozen=True, slots=True)
class Lossy:
    """A viewer behind losses: the longest freeze, and what became of packets that were lost."""

    name: str
    freeze_ms: float
    lost: int
    unrepaired: int
    late_ms: list[float]

    @property
    def repaired(self) -> float:
        """The share of what was lost that came after all."""
        return 1 - self.unrepaired / self.lost if self.lost else 1.0


@dataclass(frozen=True, slots=True)
class Limited:
    """A viewer behind a link: how long it took to its layer, and what it used of the link afterwards."""

    name: str
    to_layer_s: float | None
    stayed: bool
    use: float
    queued_ms: list[float]  # of each picture's last packet, beyond the delay without a queue
    freeze_ms: float


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A viewer whose link shrank to a third and grew again."""

    freeze_ms: float
    settled_s: float | None  # until nothing but the layer that fits was shown
    back_s: float | None
    history: list[tuple[float, float]]  # when (s) which layer was shown, counted from 1


Watch = Callable[[Impairment], Awaitable[NetworkViewer]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that was seen."""

    lossy: list[Lossy]
    limited: list[Limited]
    shrunk: Shrunk


async def run_networks(mesi: Mesi) -> Outcome:
    """Publish, and have the viewers come one scene after the other."""
    owner, *people = await mesi.people(["owner", *(f"viewer{number}" for number in range(len(LOSSES) + 3))])
    stream = await mesi.stream(owner)
    async with (
        open_http() as http,
        publish_layers(http, f"{mesi.url}/whip/{stream}", owner.token, LAYERS) as publisher,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(publisher.run)
        await trio.sleep(KNOWN_S)

        async def play(scene: Callable[[Watch], Awaitable[T]]) -> T:
            """Play a scene, whose viewers leave at its end."""
            async with trio.open_nursery() as seats:

                async def watch(way: Impairment) -> NetworkViewer:
                    person = people.pop()
                    viewer = NetworkViewer(f"{mesi.url}/whep/{stream}", person.token, way, seed=len(people) + 1)
                    await seats.start(viewer.run, http)
                    return viewer

                seen = await scene(watch)
                seats.cancel_scope.cancel()
            return seen

        say("two viewers behind losses ...")
        lossy = await play(_lose)
        say("a thin link beside a wide one ...")
        limits = await play(_limit)
        say("a link that shrinks to a third, and grows again ...")
        shrunk = await play(_shrink)
        nursery.cancel_scope.cancel()
    return Outcome(lossy, limits, shrunk)


async def _lose(watch: Watch) -> list[Lossy]:
    viewers = {name: await watch(way) for name, way in LOSSES.items()}
    await trio.sleep(RAMP_S)
    began_ns = time.monotonic_ns()
    await trio.sleep(LOSSY_S)
    now_ns = time.monotonic_ns()
    return [
        Lossy(
            name,
            viewer.longest_freeze_ms(began_ns, now_ns),
            len(viewer.lost),
            viewer.unrepaired,
            [shown.late_ms for shown in viewer.within(began_ns, now_ns)],
        )
        for name, viewer in viewers.items()
    ]


async def _limit(watch: Watch) -> list[Limited]:
    links = {"300 kbit/s": (THIN_BPS, LEAST), "5 Mbit/s beside it": (WIDE_BPS, BEST)}
    viewers = {name: await watch(limited(bps)) for name, (bps, _) in links.items()}
    await trio.sleep(RAMP_S)
    began_ns = time.monotonic_ns()
    await trio.sleep(SETTLED_S)
    now_ns = time.monotonic_ns()
    found = []
    for name, (bps, layer) in links.items():
        viewer = viewers[name]
        pictures = viewer.within(began_ns, now_ns)
        found.append(
            Limited(
                name,
                _until_only(viewer.shown, layer, viewer.joined_ns),
                bool(pictures) and {shown.layer for shown in pictures} == {layer},
                viewer.used_bps(began_ns, now_ns) / bps,
                [shown.late_ms - DELAY_MS for shown in pictures],
                viewer.longest_freeze_ms(began_ns, now_ns),
            )
        )
    return found


async def _shrink(watch: Watch) -> Shrunk:
    viewer = await watch(limited(WIDE_BPS))
    await trio.sleep(RAMP_S)
    shrunk_ns = time.monotonic_ns()
    viewer.become(limited(WIDE_BPS / 3))
    await trio.sleep(SHRUNK_S)
    back_ns = time.monotonic_ns()
    viewer.become(limited(WIDE_BPS))
    await trio.sleep(BACK_S)
    history = [((shown.at_ns - viewer.joined_ns) / 1e9, shown.layer + 1.0) for shown in viewer.shown]
    return Shrunk(
        viewer.longest_freeze_ms(shrunk_ns, back_ns),
        _until_only(viewer.within(shrunk_ns, back_ns), MIDDLE, shrunk_ns),
        _until_only(viewer.within(back_ns, time.monotonic_ns()), BEST, back_ns),
        history,
    )


def _until_only(pictures: list[Shown], layer: int, from_ns: int) -> float | None:
    """Return after how many seconds nothing but a layer was shown any more; None for never."""
    first: int | None = None
    for shown in pictures:
        if shown.layer != layer:
            first = None
        elif first is None:
            first = shown.at_ns
    return None if first is None else (first - from_ns) / 1e9


def describe(outcome: Outcome) -> Report:
    """Put what was seen into a report, and say which targets hold."""
    report = Report("Viewers behind bad networks, through the impairment relay")
    late = Lines("From a picture's last packet being sent to its showing", "% of pictures", "ms")
    for lossy in outcome.lossy:
        _add_lossy(report, lossy)
        late.series[lossy.name] = _by_share(lossy.late_ms)
    for one in outcome.limited:
        _add_limited(report, one)
        late.series[one.name] = _by_share([DELAY_MS + queued for queued in one.queued_ms])
    _add_shrunk(report, outcome.shrunk)
    report.draw(late)
    told = "Layers shown while a link of 5 Mbit/s shrinks to a third and grows again"
    report.draw(Lines(told, "s", "layer", {"layer": outcome.shrunk.history}))
    return report


def _by_share(values: list[float]) -> list[tuple[float, float]]:
    ordered = sorted(values)
    return [(100 * (place + 1) / len(ordered), value) for place, value in enumerate(ordered)]


def _add_lossy(report: Report, lossy: Lossy) -> None:
    name = lossy.name
    report.add(f"{name}: packets lost", lossy.lost)
    report.add(f"{name}: of them never repaired", lossy.unrepaired)
    report.add(f"{name}: repaired", 100 * lossy.repaired, "%")
    report.add(f"{name}: longest freeze", lossy.freeze_ms, "ms")
    report.expect(f"{name}: all that was lost came after all", lossy.lost > 0 and lossy.unrepaired == 0)
    report.expect(f"{name}: no freeze of {FREEZE_MS:g} ms", lossy.freeze_ms < FREEZE_MS)


def _add_limited(report: Report, one: Limited) -> None:
    name, queued = one.name, percentile(one.queued_ms, 0.9)
    report.add(f"{name}: until its layer", one.to_layer_s, "s")
    report.add(f"{name}: use of the link", 100 * one.use, "%")
    report.add(f"{name}: added delay after the ramp p90", queued, "ms")
    report.add(f"{name}: longest freeze after the ramp", one.freeze_ms, "ms")
    in_time = one.to_layer_s is not None and one.to_layer_s < TO_LAYER_S
    report.expect(f"{name}: its layer within {TO_LAYER_S:g} s, and no other afterwards", in_time and one.stayed)
    report.expect(
        f"{name}: added delay p90 below {MOST_QUEUED_MS:g} ms", queued is not None and queued < MOST_QUEUED_MS
    )
    if one.name.startswith("300"):  # of the wide one, the best layer takes less than half
        report.expect(f"{name}: more than {LEAST_USE:.0%} of the link is used", one.use > LEAST_USE)


def _add_shrunk(report: Report, shrunk: Shrunk) -> None:
    report.add("shrunk to a third: longest freeze", shrunk.freeze_ms, "ms")
    report.add("shrunk to a third: until the layer that fits", shrunk.settled_s, "s")
    report.add("grown again: until the former layer", shrunk.back_s, "s")
    settled = shrunk.settled_s is not None and shrunk.settled_s < SETTLE_S
    report.expect(f"shrunk to a third: no freeze of {SHRINK_FREEZE_MS:g} ms", shrunk.freeze_ms < SHRINK_FREEZE_MS)
    report.expect(f"shrunk to a third: settled within {SETTLE_S:g} s", settled)
    report.expect(f"grown again: the former layer within {BACK_S:g} s", shrunk.back_s is not None)


@click.command()
@with_outputs
def main(outputs: Outputs) -> None:
    """Show viewers behind bad networks, and hold what they see to what is expected."""
    cores = choose_cores(None, None)

    async def run() -> Outcome:
        async with open_mesi(cores.server) as mesi:
            pin(cores.tool)
            return await run_networks(mesi)

    outputs.deliver(describe(run_tool(run)))


if __name__ == "__main__":
    main()
