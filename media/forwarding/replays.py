"""Which packets of a source came already: a window of those up to the newest, which none passes twice."""

from __future__ import annotations

import numpy as np

# Packets, a power of two: as many as are cached of a track, since an older one is of no use to anybody.
WINDOW = 512

# `seen` has a bit for each packet, at its index modulo WINDOW.
REPLAYS = np.dtype([("highest", "i8"), ("seen", "u8", (WINDOW // 64,))], align=True)
