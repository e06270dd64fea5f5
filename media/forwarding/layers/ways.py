"""What the kernel is told of viewers' ways: what the pictures take that they get, and up to which rate to probe.

How quickly pictures leave follows from that and from what viewers tell of their networks. Before they told a thing all
leaves at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from media.forwarding.layers.allocation import PROBED, SOUND_BPS
from media.forwarding.tables import Tables


class Ways:
    """The ways of all viewers of pictures, of whom each gets one."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

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
