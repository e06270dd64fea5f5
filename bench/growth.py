"""What a server holds, looked at again and again, and whether it grows: memory, files, tasks, contexts, table rows."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass

from bench.mesi import Mesi
from bench.process import memory_bytes

# gauge of the server -> its name here
HELD = {
    "mesi_tasks": "tasks",
    "mesi_media_srtp_contexts": "SRTP contexts",
    "mesi_media_rows_rooms": "rows of rooms",
    "mesi_media_rows_transports": "rows of transports",
    "mesi_media_rows_tracks": "rows of tracks",
    "mesi_media_rows_subscriptions": "rows of subscriptions",
    "mesi_media_rows_arrival_logs": "rows of arrival logs",
    "mesi_transports": "transports",
    "mesi_media_sessions": "WHIP and WHEP sessions",
    "mesi_rooms": "rooms",
    "mesi_sockets": "signalling sockets",
}
MEMORY, FILES = "memory", "open files"
NOISE = {MEMORY: (0.03, 6e6), FILES: (0.0, 3.0), "tasks": (0.0, 6.0)}  # share of what there was, and at least so much


@dataclass(frozen=True, slots=True)
class Sample:
    """What there was at a moment (s since the beginning)."""

    at_s: float
    held: dict[str, float]


async def look(mesi: Mesi, began: float) -> Sample:
    """Take a sample; the requests that it takes are as many each time."""
    assert mesi.pid is not None
    counters = await mesi.counters()
    held = {name: counters[counter] for counter, name in HELD.items()}
    held[MEMORY] = float(memory_bytes(mesi.pid))
    held[FILES] = float(len(os.listdir(f"/proc/{mesi.pid}/fd")))
    return Sample(time.monotonic() - began, held)


def allowed(name: str, before: float) -> float:
    """Return by how much a value may differ and still be the same."""
    share, least = NOISE.get(name, (0.0, 0.0))
    return max(share * before, least)


def left_behind(before: Sample, after: Sample) -> dict[str, float]:
    """Return what is more after all have gone than it was before they came, beyond the noise; memory is not judged."""
    grown = {name: after.held[name] - value for name, value in before.held.items() if name != MEMORY}
    return {name: more for name, more in grown.items() if more > allowed(name, before.held[name])}


def growth(samples: list[Sample]) -> float:
    """Return by how much memory grew from the first to the last third of these samples, as a share; below 0 it fell."""
    third = max(len(samples) // 3, 1)
    first = statistics.median(sample.held[MEMORY] for sample in samples[:third])
    last = statistics.median(sample.held[MEMORY] for sample in samples[-third:])
    return (last - first) / first
