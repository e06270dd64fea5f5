"""Cached payloads as Python reads them, of which head and tail are kept apart (see tables.py)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from media.forwarding.tables import PAYLOAD_HEAD


def read_payload(head: npt.NDArray[np.uint8], tail: npt.NDArray[np.uint8], begin: int, end: int) -> bytes:
    """Return the octets of a payload from `begin` up to `end`, of what is kept of it in two rows."""
    return head[begin:end].tobytes() + tail[max(begin - PAYLOAD_HEAD, 0) : max(end - PAYLOAD_HEAD, 0)].tobytes()
