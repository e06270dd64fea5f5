"""Compiled: how many sources one transport may bring: libsrtp keeps a context for each, and looks through them."""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import SSRCS, Count
from media.io.octets import read_u32


@njit(nogil=True)
def may_bring(t, transport, data, at):
    """Whether the SSRC at `data[at]` is one this transport sent before, or one more that it may have."""
    count = np.int64(t.transports[transport].ssrc_count)
    if count < SSRCS or _knows_ssrc(t, transport, count, read_u32(data, at)):
        return True
    t.counters[Count.TOO_MANY_SSRCS] += np.uint64(1)
    return False


@njit(nogil=True)
def remember_ssrc(t, transport, data, at):
    """Note the SSRC of an authentic packet: libsrtp has made a context for it, and keeps that."""
    count = np.int64(t.transports[transport].ssrc_count)
    ssrc = read_u32(data, at)
    if count < SSRCS and not _knows_ssrc(t, transport, count, ssrc):
        t.ssrcs[transport, count] = ssrc
        t.transports[transport].ssrc_count = count + 1


@njit(nogil=True)
def _knows_ssrc(t, transport, count, ssrc):
    known = False
    for place in range(count):
        known |= np.int64(t.ssrcs[transport, place]) == ssrc
    return known
