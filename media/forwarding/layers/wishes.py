"""Which of an encoder's layers fit what a viewer wishes for, may have and can carry, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from media.forwarding.admission import NOTHING, Grant
from media.forwarding.layers.allocation import Allowed, on_the_wire_bps

RANKED_NS = 1_000_000_000  # octets of so long say how good a layer is


class Quality(StrEnum):
    """How good a picture a viewer wishes for."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Wish(NamedTuple):
    """What a viewer wishes for: how good a picture, and how high it is shown, in pixels; 0 says nothing of that."""

    quality: Quality = Quality.HIGH
    height: int = 0


ANY_PICTURE = Wish()


@dataclass(slots=True)
class Layer:
    """One layer as far as it is known; `rate` is in octets a second, 0 before it was measured.

    `row` is that of its track or, within a single encoding, the number of a step.
    """

    row: int
    rate: int = 0
    is_live: bool = False  # it comes, or would if it did not rest
    comes: bool = False
    requires: Grant = NOTHING
    height: int = 0  # of its pictures, 0 where nothing tells it
    is_full: bool = True  # at all the pictures that come of its size
    octets: int = 0
    measured_ns: int = 0

    bps: float = field(init=False)  # what it takes of a viewer's way, in bits a second

    def __post_init__(self) -> None:
        self.rated(self.rate)

    def paused(self, octets: int, now_ns: int) -> None:
        """Note that what has come so far says nothing of how good it is, as it is not sent now."""
        self.octets, self.measured_ns = octets, now_ns

    def measured(self, octets: int, now_ns: int) -> None:
        """Note how many octets have come so far; every second of them says how good it is."""
        elapsed_ns = now_ns - self.measured_ns
        if elapsed_ns < RANKED_NS:
            return
        if octets > self.octets:
            rate = (octets - self.octets) * 1_000_000_000 // elapsed_ns
            self.rated((self.rate + rate) // 2 if self.rate else rate)
        self.octets, self.measured_ns = octets, now_ns

    def rated(self, rate: int) -> None:
        """Note how good it is."""
        self.rate, self.bps = rate, on_the_wire_bps(rate)


def wished(layers: Sequence[Layer], wish: Wish, holds: Grant) -> list[Layer]:
    """Return the layers that a viewer may get who holds these grants, the one that fits its wish first, then lesser.

    Of those whose height is known the smallest that is not shown enlarged fits.
    """
    able = sorted((one for one in layers if one.is_live and one.requires in holds), key=lambda one: -one.rate)
    full = [one for one in able if one.is_full]
    sizes = full if len(full) > 1 else able
    last = len(sizes) - 1
    place = {Quality.HIGH: 0, Quality.MEDIUM: (last + 1) // 2, Quality.LOW: last}[wish.quality]
    while place < last and wish.height and sizes[place + 1].height >= wish.height:
        place += 1
    return able[able.index(sizes[place]) :] if able else []


def choose(
    layers: Sequence[Layer],
    wish: Wish,
    holds: Grant,
    allowed: Allowed = Allowed(),  # noqa: B008  (a value)
    current: int | None = None,
) -> int | None:
    """Return the row of the layer that a viewer gets who has that of row `current`, None when there is none for it now.

    Where nothing fits what its way is allowed it is the least: pictures that are late are better than none.
    """
    kept_bps = next((one.bps for one in layers if one.row == current), 0.0)
    fitting = fit(wished(layers, wish, holds), allowed, current, kept_bps)
    return None if fitting is None else fitting.row


def fit(candidates: Sequence[Layer], allowed: Allowed, current: int | None, kept_bps: float) -> Layer | None:
    """Return the first of `candidates`, the best first, that fits, else the last."""
    for one in candidates:
        if one.bps <= (allowed.rise_bps if one.bps > kept_bps and one.row != current else allowed.keep_bps):
            return one
    return candidates[-1] if candidates else None
