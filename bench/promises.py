"""What Mesi has to be against others in the same run, and on one core by itself."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.report import Report

if TYPE_CHECKING:
    from bench.compare import Turns
    from bench.ramp import Bounds, Sustained

OWN, TUNED, AS_IT_COMES = "Mesi", "Janus, event_loops=1", "Janus as it comes"
# row -> whose packets for the same processor time have to be how many times as many
LEAST_TIMES = {"fanout": {TUNED: 4.0, AS_IT_COMES: 7.0}, "rooms": {TUNED: 5.0, AS_IT_COMES: 5.0}}
MOST_GROWN = 1.15  # of what a packet costs, from few viewers to many
MOST_KB = 100.0  # of memory for a viewer of a fan-out
# bits a second of video, p99 latency (ms) -> viewers that one core carries at least
LEAST_VIEWERS = {(1_000_000, 50.0): 1_400, (1_000_000, 20.0): 1_000, (600_000, 50.0): 2_000}


def hold_turns(report: Report, row: str, turns: dict[str, Turns]) -> None:
    """Say of one row whether what was promised holds, as far as Mesi took part."""
    own = turns.get(OWN)
    if own is None or not own.us:
        return
    for name, least in LEAST_TIMES.get(row, {}).items():
        other = turns.get(name)
        if other is not None and other.us:
            times = statistics.median(other.us) / statistics.median(own.us)
            words = f"{row}: at least {least:g} times the packets of {name} for the same processor time"
            report.expect(words, times >= least)
    if row == "fanout" and own.memory_kb:
        report.expect(f"{row}: at most {MOST_KB:g} kB for a viewer", statistics.median(own.memory_kb) <= MOST_KB)


def hold_flat(report: Report, few: dict[str, Turns], many: dict[str, Turns]) -> None:
    """Say whether a packet costs as much with many viewers as with few."""
    costs = [statistics.median(turns[OWN].us) for turns in (few, many)]
    report.add("flat: a packet with many viewers costs", costs[1] / costs[0], "x")
    words = f"flat: at most {100 * (MOST_GROWN - 1):.0f} % more for a packet with many viewers"
    report.expect(words, costs[1] <= MOST_GROWN * costs[0])


def hold_highest(report: Report, video_bps: int, bounds: Bounds, highest: dict[str, list[Sustained]]) -> None:
    """Say whether one core carries as many viewers as was promised for such a stream."""
    least = LEAST_VIEWERS.get((video_bps, bounds.late_ms))
    if least is not None and OWN in highest:
        viewers = statistics.median(turn.viewers for turn in highest[OWN])
        report.expect(f"highest: {OWN} carries at least {least:,} viewers", viewers >= least)
