"""`python -m bench.compare`: the same load on one core, server after server in turns, as ratios of one run.

Every turn starts its server anew, on the first core; publishers and viewers are here, on the second. `fanout` is one
publisher and many viewers, `rooms` many rooms of one viewer; their measure is processor time for each packet that
arrived. `highest` lets more and more viewers join until too much is lost or comes too late.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from bench.contenders import MESI, Contender, januses, other
from bench.cores import Cores, choose_cores, pin
from bench.load import Load, Outcome, run_load
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.plots import Bars
from bench.promises import hold_flat, hold_highest, hold_turns
from bench.ramp import Bounds, Sustained, run_ramp
from bench.report import Report, say
from bench.stage import open_stage
from bench.tables import Count
from bench.tool import run_tool

ROWS = ("fanout", "rooms", "highest", "flat")
FLAT = (50, 1_500)  # viewers of one stream, between which a packet costs the same
SAMPLE = 20
WARM_UP_S = 1.5


@dataclass(frozen=True, slots=True)
class Shape:
    """What a row is of: so many rooms with so many viewers each."""

    rooms: int
    viewers: int

    def __str__(self) -> str:
        return f"{self.rooms} x (1 publisher, {self.viewers} viewer{'s' if self.viewers > 1 else ''})"


@dataclass(slots=True)
class Turns:
    """What one server did in all its turns."""

    us: list[float] = field(default_factory=list)  # processor time of a delivered packet
    p99_ms: list[float] = field(default_factory=list)
    lost_percent: list[float] = field(default_factory=list)
    memory_kb: list[float] = field(default_factory=list)  # of a viewer
    wrong: int = 0
    verified: int = 0
    left_out: int = 0  # viewers refused, put out, or silent

    def take(self, outcome: Outcome) -> None:
        """Add a turn."""
        window, totals = outcome.window, outcome.window.totals
        delivered, viewers = max(window.delivered, 1), max(len(outcome.viewers), 1)
        if window.cpu_ns is not None and window.memory_bytes is not None and outcome.memory_before is not None:
            self.us.append(window.cpu_ns / 1e3 / delivered)
            self.memory_kb.append((window.memory_bytes - outcome.memory_before) / 1e3 / viewers)
        if (late := totals.latency_ms(0.99)) is not None:
            self.p99_ms.append(late)
        missing = max(window.expected - window.delivered, totals.lost)
        self.lost_percent.append(100 * missing / max(window.expected, 1))
        self.wrong += sum(totals.count(of) for of in (Count.WRONG_CONTENT, Count.FOREIGN, Count.UNDECRYPTABLE))
        self.verified += totals.count(Count.DECRYPTED)
        refused = sum(viewer.failure is not None for viewer in outcome.viewers)
        self.left_out = max(self.left_out, refused + window.put_out + window.silent)


async def run_turns(
    contenders: list[Contender],
    shape: Shape,
    rate: Rate,
    seconds: float,
    repeats: int,
    joins_per_s: float,
    cores: Cores,
) -> dict[str, Turns]:
    """Let the servers take turns, each so often."""
    load = Load(rate, seconds, WARM_UP_S, joins_per_s, SAMPLE)
    turns = {contender.name: Turns() for contender in contenders}
    for number in range(repeats):
        for contender in contenders:
            say(f"turn {number + 1} of {repeats}: {contender.name}, {shape}")
            async with contender.open(cores.server) as running, open_stage() as stage:
                pin(cores.tool)
                rooms = await running.rooms(shape.rooms, shape.viewers)
                turns[contender.name].take(await run_load(stage, rooms, load, running.pid))
    return turns


async def run_highest(
    contenders: list[Contender], rate: Rate, bounds: Bounds, seconds: float, repeats: int, cores: Cores
) -> dict[str, list[Sustained]]:
    """Let the servers take turns at carrying as many viewers as they can."""
    highest: dict[str, list[Sustained]] = {contender.name: [] for contender in contenders}
    for number in range(repeats):
        for contender in contenders:
            say(f"turn {number + 1} of {repeats}: {contender.name}, more and more viewers")
            async with contender.open(cores.server) as running, open_stage() as stage:
                pin(cores.tool)
                (room,) = await running.rooms(1, bounds.most)
                highest[contender.name].append(await run_ramp(stage, room, rate, bounds, seconds, running.pid))
    return highest


def describe_turns(report: Report, shape: Shape, turns: dict[str, Turns]) -> None:
    """Add one row's medians and ratios; the first server is the one that others are compared with."""
    first = next(iter(turns.values()))
    for name, of in turns.items():
        at = f"{shape}: {name}: "
        report.add(at + "server CPU per delivered packet", _median(of.us), "us")
        report.add(at + "all turns", " ".join(f"{us:.2f}" for us in of.us), "us")
        if of is not first and of.us and first.us:
            report.add(at + "times that of the first", statistics.median(of.us) / statistics.median(first.us), "x")
        report.add(at + "one-way latency p99", _median(of.p99_ms), "ms")
        report.add(at + "lost", _median(of.lost_percent), "%")
        report.add(at + "memory grown, per viewer", _median(of.memory_kb), "kB")
        report.add(at + "viewers left out", of.left_out)
        report.add(at + "decrypted and verified", of.verified - of.wrong)
        report.expect(f"{at}every packet that was looked at is right", of.wrong == 0 and of.verified > 0)
    costs = [(name, statistics.median(of.us)) for name, of in turns.items() if of.us]
    report.draw(Bars(f"{shape}: processor time for a delivered packet", "µs", costs))


def describe_highest(report: Report, bounds: Bounds, highest: dict[str, list[Sustained]]) -> None:
    """Add how many viewers each carried."""
    words = f"loss at most {bounds.lost_percent:g} %, p99 at most {bounds.late_ms:g} ms"
    medians = {name: statistics.median(turn.viewers for turn in turns) for name, turns in highest.items()}
    first = next(iter(medians.values()))
    for name, turns in highest.items():
        report.add(f"highest: {name}: viewers sustained ({words})", float(medians[name]))
        report.add(f"highest: {name}: all turns", " ".join(str(turn.viewers) for turn in turns))
        report.add(f"highest: {name}: what ended them", "; ".join(sorted({turn.ended_by for turn in turns})))
        if medians[name] and medians[name] != first:
            report.add(f"highest: {name}: the first carries so many times as many", first / medians[name], "x")
    report.draw(Bars(f"Viewers sustained on one core ({words})", "", list(medians.items())))


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


@click.command()
@click.option("--row", "rows", multiple=True, type=click.Choice(ROWS), help="What to compare [default: all but flat].")
@click.option("--janus/--no-janus", default=True, help="Debian's Janus, tuned for one core and as it comes.")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=(str, str, str, str, int),
    metavar="NAME WHIP WHEP TOKEN PID",
    help="A server that runs already; {room} in its addresses becomes a number. PID 0 for one on another machine.",
)
@click.option("--viewers", default=200, show_default=True, help="Of the fan-out.")
@click.option("--rooms", default=100, show_default=True, help="Of one publisher and one viewer.")
@click.option("--video-bps", default=1_000_000, show_default=True, help="Bits a second of video, with sound.")
@click.option("--seconds", default=5.0, show_default=True, help="How long each turn is measured.")
@click.option("--repeats", default=5, show_default=True, help="Turns of each server.")
@click.option("--joins", default=50.0, show_default=True, help="Joins a second.")
@click.option("--step", default=100, show_default=True, help="Viewers that are added at a time, for the highest load.")
@click.option("--most", default=2000, show_default=True, help="Viewers at which that ends.")
@click.option("--late-ms", default=50.0, show_default=True, help="p99 latency from which it is too much.")
@with_outputs
def main(
    rows: tuple[str, ...],
    janus: bool,
    peers: tuple[tuple[str, str, str, str, int], ...],
    viewers: int,
    rooms: int,
    video_bps: int,
    seconds: float,
    repeats: int,
    joins: float,
    step: int,
    most: int,
    late_ms: float,
    outputs: Outputs,
) -> None:
    """Compare servers on one core, by turns."""
    cores, rate = choose_cores(None, None), Rate(video_bps)
    contenders = [MESI, *(januses() if janus else [])]
    contenders += [other(name, whip, whep, token, pid or None) for name, whip, whep, token, pid in peers]
    bounds = Bounds(step, most, joins, late_ms=late_ms)
    report = Report(f"Servers on one core by turns, {video_bps:,} bit/s and sound, medians of {repeats}")

    async def run() -> None:
        for row, shape in (("fanout", Shape(1, viewers)), ("rooms", Shape(rooms, 1))):
            if row in rows or not rows:
                turns = await run_turns(contenders, shape, rate, seconds, repeats, joins, cores)
                describe_turns(report, shape, turns)
                hold_turns(report, row, turns)
        if "flat" in rows:
            few, many = [
                await run_turns([MESI], Shape(1, count), rate, seconds, repeats, joins, cores) for count in FLAT
            ]
            for count, turns in zip(FLAT, (few, many), strict=True):
                describe_turns(report, Shape(1, count), turns)
            hold_flat(report, few, many)
        if "highest" in rows or not rows:
            highest = await run_highest(contenders, rate, bounds, seconds, repeats, cores)
            describe_highest(report, bounds, highest)
            hold_highest(report, video_bps, bounds, highest)

    run_tool(run)
    outputs.deliver(report)


if __name__ == "__main__":
    main()
