"""Compiled: whole numbers in network order, read from octets and written to them."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True)
def read_u16(data, at):
    """Return 16 bits in network order as int64."""
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@njit(nogil=True)
def read_u32(data, at):
    """Return 32 bits in network order as int64."""
    return (read_u16(data, at) << 16) | read_u16(data, at + 2)


@njit(nogil=True)
def write_u16(data, at, value):
    """Store 16 bits in network order."""
    data[at] = (value >> 8) & 255
    data[at + 1] = value & 255


@njit(nogil=True)
def write_u32(data, at, value):
    """Store 32 bits in network order."""
    data[at] = (value >> 24) & 255
    data[at + 1] = (value >> 16) & 255
    data[at + 2] = (value >> 8) & 255
    data[at + 3] = value & 255
