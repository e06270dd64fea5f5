"""More and more viewers of one stream, until too much is lost or comes too late: how many were carried before."""

from __future__ import annotations

import time
from dataclasses import dataclass

import trio

from bench.load import Room, publish_in, seat
from bench.payload import Rate
from bench.report import say
from bench.stage import Stage, Window

SETTLE_S = 2.0  # after a step's last join
SAMPLE_EVERY = 25  # one viewer in so many decrypts everything
TOOL_FULL = 0.9  # of its core: from there on it is this tool that is measured


@dataclass(frozen=True, slots=True)
class Bounds:
    """How it goes up, and what is too much."""

    step: int
    most: int
    joins_per_s: float
    lost_percent: float = 0.1
    late_ms: float = 50.0


@dataclass(frozen=True, slots=True)
class Sustained:
    """How many viewers were carried, and why there were not more."""

    viewers: int
    ended_by: str


async def run_ramp(stage: Stage, room: Room, rate: Rate, bounds: Bounds, seconds: float, pid: int | None) -> Sustained:
    """Let viewers join step by step. Raises SessionFailed when nobody can publish."""
    await publish_in(stage, room, rate, 0)
    carried = 0
    for count in range(bounds.step, bounds.most + 1, bounds.step):
        places = list(room.places[carried:count])
        joining = seat(stage, places, max(len(places) // SAMPLE_EVERY, 1))
        await stage.join(joining, joins_per_s=bounds.joins_per_s)
        await trio.sleep(SETTLE_S)
        used, began = time.process_time(), time.monotonic()
        window = await stage.measure(seconds, pid)
        busy = (time.process_time() - used) / (time.monotonic() - began)
        blind = sum(viewer.failure is not None or not viewer.picture_ns for viewer in joining)
        verdict = judge(window, bounds, busy, blind)
        say(f"{count} viewers: {verdict or 'carried'}")
        if verdict is not None:
            return Sustained(carried, verdict)
        carried = count
    return Sustained(carried, "the ramp's end")


def judge(window: Window, bounds: Bounds, busy: float, blind: int) -> str | None:
    """Return what is too much, None when all is well; `busy` is this tool's share of its core."""
    missing = max(window.totals.lost, window.totals.lost_inside)
    lost_percent = 100 * missing / max(window.delivered + missing, 1)
    late_ms = window.totals.latency_ms(0.99)
    if busy > TOOL_FULL:
        return "this tool's own core is full"
    if blind or window.silent or window.put_out:
        return "some viewers get nothing"
    if lost_percent > bounds.lost_percent:
        return f"more than {bounds.lost_percent:g} % lost"
    if late_ms is None or late_ms > bounds.late_ms:
        return f"p99 above {bounds.late_ms:g} ms"
    return None
