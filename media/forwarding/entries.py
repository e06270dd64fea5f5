"""What the rings of a worker, and its table of addresses, have in them; see tables.py."""

from __future__ import annotations

import numpy as np

# Written by Python; row + 1, -1 = deleted.
ADDRESS = np.dtype([("high", "u8"), ("low", "u8"), ("port", "u4"), ("row", "i4")], align=True)

# A datagram for Python.
CONTROL = np.dtype([("size", "i4"), ("transport", "i4"), ("socket", "i4")], align=True)

# A packet that is to be fanned out; `restarts` of the track, and when the packet came, are for other workers.
PENDING = np.dtype([("track", "i4"), ("restarts", "i4"), ("ext_seq", "i8"), ("came_ns", "i8")], align=True)

# A publisher, and when it is told what arrived of it.
REPORT = np.dtype([("transport", "i4"), ("due_ns", "i8")], align=True)
