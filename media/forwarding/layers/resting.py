"""Decides up to which layer of simulcast a publisher need send, so that none is sent that nobody gets.

A layer rests when it, and every better one, was for ten seconds neither got nor to be got by anybody; the least never
does. Who would get it wakes it, and has the best of the others until it is there. One that does not come within fifteen
seconds after it was woken is gone like any other that ended: browsers find out slowly what their own network carries.

Sizes within one encoding never rest: Chromium, given less, soon draws all of them smaller, and still did so three
quarters of a minute after it was given all again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

SECOND_NS = 1_000_000_000
IDLE_NS = 10 * SECOND_NS  # whoever fell from it for a while is back by then
WAKING_NS = 15 * SECOND_NS
# What a publisher that may send so much sends of its layers: all that are kept, and not the least of the next, which
# encoders begin at a quarter of its full rate, and which has four times the rate of the one below.
MARGIN = 1.3
SOUND_BPS = 64_000.0


@dataclass(slots=True)
class Resting:
    """What rests of one track; rows of layers are given from the least to the best, with what they take (bit/s)."""

    limit_bps: float = math.inf  # what the publisher may send of all
    _used_ns: dict[int, int] = field(default_factory=dict)
    _woken_ns: dict[int, int] = field(default_factory=dict)
    _rests: set[int] = field(default_factory=set)

    def look(self, layers: Sequence[tuple[int, float]], used: Collection[int], now_ns: int) -> None:
        """Take which rows somebody gets or is to get, and say anew what rests."""
        for row, _ in layers:
            if row in used or row not in self._used_ns:
                self._used_ns[row] = now_ns
        kept = 1
        for place, (row, bps) in enumerate(layers):
            if now_ns - self._used_ns[row] < IDLE_NS or not bps:
                kept = place + 1
        rests = {row for row, _ in layers[kept:]}
        for row in self._rests - rests:
            self._woken_ns[row] = now_ns
        self._rests = rests
        self.limit_bps = SOUND_BPS + MARGIN * sum(bps for _, bps in layers[:kept]) if rests else math.inf

    def is_there(self, row: int, now_ns: int) -> bool:
        """Whether a layer that does not arrive may be demanded all the same."""
        woken_ns = self._woken_ns.get(row)
        return row in self._rests or (woken_ns is not None and now_ns - woken_ns < WAKING_NS)
