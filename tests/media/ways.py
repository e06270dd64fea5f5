"""A viewer's way without a network: packets through a modelled link, reports back, and the estimate."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numba import njit

from bench.impairment import Impairment, Link
from media.forwarding.estimates import ESTIMATE, TREND_POINTS
from media.forwarding.kernel import estimation
from media.forwarding.kernel.probing import LEAST_OCTETS, LEAST_PACKETS, PROBE_S
from media.forwarding.reference.estimation import Estimate

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000
FRAME_NS, SOUND_NS, REPORT_NS = 40 * MS_NS, 20 * MS_NS, 60 * MS_NS
PACKET, SOUND_PACKET = 1100, 120
OFFSET_NS = 12_345_678_901  # of the viewer's clock


class _Tables(NamedTuple):
    estimates: npt.NDArray[np.void]
    trends: npt.NDArray[np.float64]


@njit
def _begin(t):
    estimation.begin_estimate(t, 0)


@njit
def _arrive(t, number, sent_ns, arrived_ns, size):
    estimation.take_arrival(t, 0, number, sent_ns, arrived_ns, size)


@njit
def _report(t, lost, highest, now):
    estimation.take_report(t, 0, lost, highest, now)


@njit
def _goal(t, now):
    return estimation.probe_goal(t, 0, now)


@njit
def _probe(t, first, last, goal_bps, now):
    estimation.note_probe(t, 0, first, last, goal_bps, now)


class Estimating(Protocol):
    """Either of the two that must agree."""

    probe_bps: float

    @property
    def bps(self) -> float: ...
    @property
    def cuts(self) -> int: ...
    @property
    def probe_due_ns(self) -> int: ...
    def arrived(self, number: int, sent_ns: int, arrived_ns: int, size: int) -> None: ...
    def reported(self, lost: int, highest: int, now: int) -> None: ...
    def probe_goal(self, now: int) -> float: ...
    def probes(self, first: int, last: int, goal_bps: float, now: int) -> None: ...


class Compiled:
    """The compiled estimate behind the reference's names."""

    def __init__(self, probe_bps: float = 0.0) -> None:
        self.t = _Tables(np.zeros(1, ESTIMATE), np.zeros((1, TREND_POINTS, 2)))
        _begin(self.t)
        self.probe_bps = probe_bps

    @property
    def probe_bps(self) -> float:
        return float(self.t.estimates["probe_bps"][0])

    @probe_bps.setter
    def probe_bps(self, bps: float) -> None:
        self.t.estimates["probe_bps"][0] = bps

    @property
    def bps(self) -> float:
        return float(self.t.estimates["bps"][0])

    @property
    def cuts(self) -> int:
        return int(self.t.estimates["cuts"][0])

    @property
    def probe_due_ns(self) -> int:
        return int(self.t.estimates["probe_due_ns"][0])

    def arrived(self, number: int, sent_ns: int, arrived_ns: int, size: int) -> None:
        _arrive(self.t, number, sent_ns, arrived_ns, size)

    def reported(self, lost: int, highest: int, now: int) -> None:
        _report(self.t, lost, highest, now)

    def probe_goal(self, now: int) -> float:
        return float(_goal(self.t, now))

    def probes(self, first: int, last: int, goal_bps: float, now: int) -> None:
        _probe(self.t, first, last, goal_bps, now)


@dataclass
class Way:
    """One viewer behind a link: frames leave unpaced, sound in between, and a report comes back every 60 ms.

    `sends_bps` is the picture's rate, None for whatever the estimate says; a probe follows a frame when one is due.
    """

    estimate: Estimating
    impairment: Impairment
    sends_bps: float | None = None
    back_ms: float = 20.0
    seed: int = 1
    now_ns: int = SECOND_NS
    queue_ms: list[float] = field(default_factory=list)  # how long each packet waited
    octets: int = 0  # that arrived
    probes: int = 0

    def __post_init__(self) -> None:
        self.link = Link(self.impairment, self.seed)
        self._chance = random.Random(self.seed)
        self._number = 0
        self._flying: deque[tuple[int, int, int | None, int]] = deque()  # number, sent, arrived, size
        self._next = {"frame": self.now_ns, "sound": self.now_ns + 7 * MS_NS, "report": self.now_ns + REPORT_NS}

    def change(self, impairment: Impairment) -> None:
        """Have the link be another from now on; what waits in it stays."""
        self.link.impairment = impairment

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now_ns + round(seconds * SECOND_NS)
        while True:
            what = min(self._next, key=lambda name: self._next[name])
            if self._next[what] >= until:
                self.now_ns = until
                return
            self.now_ns = self._next[what]
            getattr(self, f"_{what}")()

    def burst(self, size: int) -> None:
        """Send a picture of so many octets beside the others."""
        while size > 0:
            self._send(min(size, PACKET))
            size -= PACKET

    def _send(self, size: int) -> None:
        self._number += 1
        came = self.link.enter(size, self.now_ns)
        self._flying.append((self._number, self.now_ns, came[0] if came else None, size))

    def _frame(self) -> None:
        self._next["frame"] += FRAME_NS
        rate = self.estimate.bps - 50_000 if self.sends_bps is None else self.sends_bps
        self.burst(round(max(rate, 20_000) * FRAME_NS / 8e9 * self._chance.uniform(0.8, 1.2)))
        goal_bps = self.estimate.probe_goal(self.now_ns)
        if goal_bps:
            first, octets = self._number, int(goal_bps * PROBE_S / 8)
            size = min(max(octets // LEAST_PACKETS, LEAST_OCTETS), PACKET)
            for _ in range(max(LEAST_PACKETS, round(octets / size))):
                self._send(size)
            self.estimate.probes(first, self._number, goal_bps, self.now_ns)
            self.probes += 1

    def _sound(self) -> None:
        self._next["sound"] += SOUND_NS
        self._send(SOUND_PACKET)

    def _report(self) -> None:
        self._next["report"] += REPORT_NS
        seen_ns = self.now_ns - round(self.back_ms * MS_NS)
        # What is missing is told as lost once something behind it has come.
        came = [packet for packet in self._flying if packet[2] is not None and packet[2] <= seen_ns]
        told = [packet for packet in self._flying if came and packet[0] <= came[-1][0]]
        for packet in told:
            self._flying.remove(packet)
        lost = 0
        for number, sent_ns, arrived_ns, size in told:
            if arrived_ns is None or arrived_ns > seen_ns:
                lost += 1
                continue
            self.queue_ms.append((arrived_ns - sent_ns) / 1e6 - self.impairment.delay_ms)
            self.octets += size
            self.estimate.arrived(number, sent_ns, (arrived_ns + OFFSET_NS) // 250_000 * 250_000, size)
        if told:
            self.estimate.reported(lost, told[-1][0], self.now_ns)


def both() -> list[Estimating]:
    """Return the reference and the compiled one, fresh."""
    return [Estimate(), Compiled()]
