"""Compiled: redundant sound (RFC 2198), whole for viewers who take it and without its older blocks for the others.

Cost: nothing for other packets but a comparison. Reads only the bytes given; every index is checked. Said in plain
Python in media/wire/red.py; judged by tests/media/test_redundancy.py and test_reference.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.wire.red import MAX_BLOCKS


@njit(nogil=True)
def find_primary(data, start, size):
    """Return where in the payload `data[start:start + size]` its newest block begins, or -1."""
    at, older = np.int64(0), np.int64(0)
    for _ in range(MAX_BLOCKS + 1):
        if at >= size:
            return np.int64(-1)
        if not data[start + at] & 0x80:
            begin = at + 1 + older
            return begin if begin <= size else np.int64(-1)
        if at + 4 > size:
            return np.int64(-1)
        older += (np.int64(data[start + at + 2]) & 3) << 8 | np.int64(data[start + at + 3])
        at += 4
    return np.int64(-1)


@njit(nogil=True)
def rename_blocks(t, at, end, payload_type):
    """Give all blocks of the payload in `arena[at:end]`, which `find_primary` has passed, a viewer's payload type.

    Of one that is being written anew meanwhile anything may be there; it is not sent.
    """
    while at < end and t.arena[at] & 0x80:
        t.arena[at] = 0x80 | payload_type
        at += 4
    if at < end:
        t.arena[at] = payload_type
