"""Compiled: which transport a datagram's sender belongs to, by the address table that Python writes."""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import ADDRESSES, PROBES
from media.io.native import AF_INET, AF_INET6


@njit(nogil=True)
def address_hash(high, low, port):
    """Spread an address over the table (a 64-bit multiplicative mix)."""
    mixed = (high ^ (low * np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(port) << np.uint64(40))) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )
    return np.int64((mixed >> np.uint64(33)) & np.uint64(ADDRESSES - 1))


@njit(nogil=True)
def find_transport(t, i):
    """Return the transport that validated the sender's address, or -1."""
    raw = t.inbox_address[i]
    family = np.int64(raw[0]) | (np.int64(raw[1]) << 8)
    high, low = np.uint64(0), np.uint64(0)
    if family == AF_INET:
        for k in range(4, 8):
            low = (low << np.uint64(8)) | np.uint64(raw[k])
    elif family == AF_INET6:
        for k in range(8, 16):
            high = (high << np.uint64(8)) | np.uint64(raw[k])
        for k in range(16, 24):
            low = (low << np.uint64(8)) | np.uint64(raw[k])
    port = (np.uint32(raw[2]) << np.uint32(8)) | np.uint32(raw[3])
    at = address_hash(high, low, port)
    for probe in range(PROBES):
        entry = t.addresses[(at + probe) & (ADDRESSES - 1)]
        if entry.row == 0:
            return -1
        if entry.row > 0 and entry.low == low and entry.high == high and entry.port == port:
            return np.int64(entry.row) - 1
    return -1
