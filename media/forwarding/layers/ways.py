"""What the kernel is told of viewers' ways: what a picture takes, and how quickly it leaves before they tell anything.

A viewer whose packets are numbered will tell of its network within a round trip or two. Until then it is taken for one
that carries what the ramp begins with, or what the only picture takes that there is; where it never tells a thing,
nothing is known after a while, and all leaves at once. Who tells with REMB alone is known from its first word on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from media.forwarding.backlogs import octet_ns
from media.forwarding.estimates import START_BPS
from media.forwarding.layers.allocation import PROBED, SILENT_NS, SOUND_BPS
from media.forwarding.tables import Tables


class Ways:
    """The ways of all viewers of pictures, of whom each gets one."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._unheard: dict[int, int] = {}  # transports that told nothing yet, and when first something left for them

    def begin(self, transport: int, needs_bps: float, *, is_numbered: bool) -> None:
        """Note that a viewer is to get a picture that takes so much, 0 where that is not known."""
        self._tables.estimates["needs_bps"][transport] = needs_bps
        if is_numbered and not self._tables.estimates["told_ns"][transport]:
            self._tables.transports["octet_ns"][transport] = octet_ns(START_BPS, 0.0, needs_bps)
            self._unheard[transport] = 0

    def end(self, transport: int) -> None:
        """Forget a viewer."""
        self._unheard.pop(transport, None)

    def need(self, transports: npt.NDArray[np.int64], bps: Sequence[float]) -> None:
        """Note what the pictures take that viewers get."""
        self._tables.estimates["needs_bps"][transports] = bps

    def get_only(self, transports: npt.NDArray[np.int64], bps: npt.NDArray[np.float64]) -> None:
        """Note that viewers get the only picture that there is; whose way lacks room for it is probed for that."""
        records = self._tables.estimates
        records["needs_bps"][transports] = bps
        known = records["bps"][transports]
        lacks = (known > 0) & (known < bps + SOUND_BPS)
        records["probe_bps"][transports] = np.where(lacks, PROBED * bps + SOUND_BPS, 0.0)

    def review(self, now_ns: int) -> None:
        """Know nothing any more of those who should have told something by now."""
        told_ns, is_there = self._tables.estimates["told_ns"], self._tables.transports["active"]
        delivered_ns = self._tables.transports["delivered_ns"]
        for transport, since_ns in tuple(self._unheard.items()):
            if told_ns[transport] or not is_there[transport]:
                del self._unheard[transport]
            elif not since_ns:
                self._unheard[transport] = int(delivered_ns[transport])
            elif now_ns - since_ns > SILENT_NS:
                self._tables.transports["octet_ns"][transport] = 0
                del self._unheard[transport]
