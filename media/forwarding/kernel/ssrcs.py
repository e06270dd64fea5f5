"""Compiled: how many sources one transport may bring: each has a window of what came, and libsrtp a context.

Writes `ssrcs` and begins windows.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import SSRCS, Count
from media.io.octets import read_u32


@njit(nogil=True)
def may_bring(t, transport, place):
    """Whether the source at this place is one that the transport sent before, or one more that it may have."""
    if place >= 0 or t.transports[transport].ssrc_count < SSRCS:
        return True
    t.counters[Count.TOO_MANY_SSRCS] += np.uint64(1)
    return False


@njit(nogil=True)
def remember_ssrc(t, transport, data, at):
    """Return the place of an authentic packet's SSRC, and give it one if it is new."""
    place = place_of(t, transport, data, at)
    if place < 0:
        place = np.int64(t.transports[transport].ssrc_count)
        t.ssrcs[transport, place] = read_u32(data, at)
        t.windows[transport, place].highest = -1
        t.transports[transport].ssrc_count = place + 1
    return place


@njit(nogil=True)
def place_of(t, transport, data, at):
    """Return where the SSRC at `data[at]` is among those that a transport brought, or -1."""
    ssrc = read_u32(data, at)
    for place in range(t.transports[transport].ssrc_count):
        if np.int64(t.ssrcs[transport, place]) == ssrc:
            return np.int64(place)
    return np.int64(-1)
