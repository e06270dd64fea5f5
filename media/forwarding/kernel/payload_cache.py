"""Compiled: decrypted payloads in the cache, of which head and tail are kept apart (see tables.py)."""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import PAYLOAD_HEAD
from media.io.native import memcpy


@njit(nogil=True)
def put_payload(t, track, slot, source, size):
    """Keep the `size` octets at an address, PAYLOAD at most."""
    head = min(size, np.int64(PAYLOAD_HEAD))
    if head > 0:
        memcpy(t.cache_heads[track, slot].ctypes.data, source, np.uint64(head))
    if size > head:
        memcpy(t.cache_tails[track, slot].ctypes.data, source + np.uint64(head), np.uint64(size - head))


@njit(nogil=True)
def copy_payload(t, track, slot, begin, size, destination):
    """Copy `size` octets of a payload, from `begin` on, to an address; together they are PAYLOAD at most."""
    head = max(min(np.int64(PAYLOAD_HEAD) - begin, size), np.int64(0))
    if head > 0:
        memcpy(destination, t.cache_heads[track, slot].ctypes.data + np.uint64(begin), np.uint64(head))
    if size > head:
        at = np.uint64(begin + head - PAYLOAD_HEAD)
        memcpy(destination + np.uint64(head), t.cache_tails[track, slot].ctypes.data + at, np.uint64(size - head))
