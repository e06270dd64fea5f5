"""`python -m bench.join`: how soon a new viewer sees something, and what a storm of joins asks of the publisher.

Times run from sending the offer to the arrival (by the kernel) of the last packet of the first whole keyframe; the
client's own handshakes, in Python on this tool's core, are inside.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import click
import trio

from bench.cores import choose_cores, pin
from bench.crowd import Place
from bench.load import rooms_of_mesi, seat
from bench.mesi import Mesi, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.plots import Lines
from bench.process import cpu_ns
from bench.publishing import Publishing
from bench.report import Report, distribution, percentile, say
from bench.stage import Stage, open_stage
from bench.tool import run_tool

P50_MS, P99_MS = 300.0, 700.0
STORM_P99_MS, STORM_KEYFRAMES = 400.0, 10
KEYFRAME_PAUSE_S = 0.5  # the server asks its publisher at most so often
QUIET_S = 1.0  # measured before, to know what joins cost on top
AT_ONCE_S = 0.05  # the shortest storm: as fast as they go


@dataclass(frozen=True, slots=True)
class Joins:
    """A number of joins: times to the first picture, those that never saw one, keyframes asked of the publisher."""

    times_ms: list[float]
    blind: int
    asked_ns: list[int]
    took_s: float
    lost: int  # packets that those who were watching before lost meanwhile
    cpu_ns: int | None = None  # of the server, beyond what it took before; forwarding to those who came is in it

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self.times_ms) + self.blind

    @property
    def least_pause_ms(self) -> float | None:
        """The shortest time between two requests."""
        pauses = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(self.asked_ns)]
        return min(pauses, default=None)

    @property
    def most_requests(self) -> int:
        """How many requests the rule allows in the time that it took."""
        return int(self.took_s / KEYFRAME_PAUSE_S) + 1


async def run_joins(
    mesi: Mesi, stage: Stage, watching: int, joining: int, per_s: float, storm: int, storm_s: float
) -> tuple[Joins, Joins]:
    """Let `joining` viewers in at an even pace while others watch, then `storm` more within `storm_s`."""
    (room,) = await rooms_of_mesi(mesi, 1, watching + joining + storm)
    publisher = await stage.publish(room.whip, room.token, Rate())
    places = list(room.places)
    await stage.join(seat(stage, places[:watching], 20), joins_per_s=50)
    say(f"{joining} viewers join, {per_s:g} a second ...")
    paced = await _let_in(stage, publisher, places[watching : watching + joining], per_s, mesi.pid)
    await trio.sleep(1)
    if not storm:
        return paced, Joins([], 0, [], 0.0, 0)
    say(f"{storm} viewers join within {storm_s:g} s ...")
    pace = max(storm, 1) / max(storm_s, AT_ONCE_S)
    return paced, await _let_in(stage, publisher, places[watching + joining :], pace, mesi.pid)


async def _let_in(stage: Stage, publisher: Publishing, places: list[Place], pace: float, pid: int | None) -> Joins:
    viewers = seat(stage, places, 0)
    quiet = 0 if pid is None else (await stage.measure(QUIET_S, pid)).cpu_ns or 0
    used = 0 if pid is None else cpu_ns(pid)
    before, asked, began = stage.receiver.totals(), len(publisher.asked_ns), trio.current_time()
    await stage.join(viewers, joins_per_s=pace)
    took = trio.current_time() - began
    totals = stage.receiver.totals().since(before)
    times = [viewer.join_ms for viewer in viewers if viewer.join_ms is not None]
    blind, lost = len(viewers) - len(times), totals.lost + totals.lost_inside
    spent = None if pid is None else cpu_ns(pid) - used - int(quiet / QUIET_S * took)
    return Joins(times, blind, publisher.asked_ns[asked:], took, lost, spent)


def describe(paced: Joins, storm: Joins, title: str, most_ms: float = P99_MS) -> Report:
    """Put both into a report, and say which targets hold; `most_ms` is that of the 99th percentile of even joins."""
    report = Report(title)
    lines = Lines("From sending an offer to the first picture", "ms", "% of joins at most so late")
    _add(report, "paced", paced)
    p50, p99 = percentile(paced.times_ms, 0.5), percentile(paced.times_ms, 0.99)
    report.expect(f"paced: first picture p50 below {P50_MS:g} ms", p50 is not None and p50 < P50_MS)
    report.expect(f"paced: first picture p99 below {most_ms:g} ms", p99 is not None and p99 < most_ms)
    lines.series["at an even pace"] = distribution(paced.times_ms)
    if storm.count:
        _add(report, "storm", storm)
        p99 = percentile(storm.times_ms, 0.99)
        report.expect("storm: at most one keyframe asked for in 500 ms", len(storm.asked_ns) <= storm.most_requests)
        report.expect(f"storm: first picture p99 below {STORM_P99_MS:g} ms", p99 is not None and p99 < STORM_P99_MS)
        report.expect(f"storm: at most {STORM_KEYFRAMES} keyframes asked for", len(storm.asked_ns) <= STORM_KEYFRAMES)
        lines.series["in the storm"] = distribution(storm.times_ms)
    report.expect("everybody got a picture", paced.blind == storm.blind == 0)
    report.expect("nobody who was watching lost a packet", paced.lost == storm.lost == 0)
    report.draw(lines)
    return report


def _add(report: Report, name: str, joins: Joins) -> None:
    report.add(f"{name}: joins", joins.count)
    report.add(f"{name}: without a picture", joins.blind)
    for share in (0.5, 0.99, 1.0):
        report.add(f"{name}: first picture p{share * 100:g}", percentile(joins.times_ms, share), "ms")
    report.add(f"{name}: took", joins.took_s, "s")
    report.add(f"{name}: keyframes asked of the publisher", len(joins.asked_ns))
    report.add(f"{name}: least time between two", joins.least_pause_ms, "ms")
    report.add(f"{name}: packets lost meanwhile", joins.lost)
    if joins.cpu_ns is not None:
        report.add(f"{name}: server CPU for each join", joins.cpu_ns / 1e6 / max(joins.count, 1), "ms")


@click.command()
@click.option("--watching", default=200, show_default=True, help="Viewers that are there before.")
@click.option("--joining", default=100, show_default=True, help="Viewers that join at an even pace.")
@click.option("--per-second", default=10.0, show_default=True, help="That pace.")
@click.option("--storm", default=500, show_default=True, help="Viewers that then join.")
@click.option("--storm-seconds", default=5.0, show_default=True, help="Within so long; 0 for at once.")
@click.option("--p99-ms", default=P99_MS, show_default=True, help="Held to, for joins at an even pace.")
@click.option("--workers", default=1, show_default=True, help="Forwarding threads; of several, none is pinned.")
@with_outputs
def main(
    watching: int,
    joining: int,
    per_second: float,
    storm: int,
    storm_seconds: float,
    p99_ms: float,
    workers: int,
    outputs: Outputs,
) -> None:
    """Measure the time to the first picture, and count the keyframes that joins cost."""
    cores = choose_cores(None, None)

    async def run() -> tuple[Joins, Joins]:
        async with open_mesi(cores.server if workers == 1 else None, workers) as mesi, open_stage() as stage:
            if workers == 1:
                pin(cores.tool)
            return await run_joins(mesi, stage, watching, joining, per_second, storm, storm_seconds)

    title = (
        f"{watching} watching, {joining} joining at {per_second:g} a second, then {storm} within {storm_seconds:g} s"
    )
    report = describe(*run_tool(run), title, p99_ms)
    outputs.deliver(report)


if __name__ == "__main__":
    main()
