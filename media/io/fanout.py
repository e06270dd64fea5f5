"""Compiled: writes what many sockets are told, one call of `write` for each, outside the GIL and without an object.

Reads `fds` (negative ones are passed over), `starts`, `sizes` and `numbers`; writes `taken`, and each copy's number
into `data`. Sockets must not block. Judged by tests/media/test_fanout.py, measured by `bench.sockets`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from media.io.compiled import keep_compiled
from media.io.native import EINTR, read_errno, write

NO_NUMBER = -1
TEN = 10

keep_compiled("fanout", __file__)
_signed, _wide, _octets = types.int32[::1], types.int64[::1], types.uint8[::1]


@njit(nogil=True)
def _write_binary(data, at, number):
    for k in range(4):
        data[at + k] = (number >> (8 * (3 - k))) & 255


@njit(nogil=True)
def _write_decimal(data, at, width, number):
    """Write a number to the right of a field, with blanks before it."""
    for k in range(width - 1, -1, -1):
        data[at + k] = ord("0") + number % TEN if number > 0 or k == width - 1 else ord(" ")
        number //= TEN


@njit(nogil=True)
def _write(fd, where, size):
    """Return how many bytes a socket took, or minus the error's number."""
    while True:
        taken = write(np.int32(fd), where, np.uint64(size))
        if taken >= 0:
            return taken
        error = read_errno()
        if error != EINTR:
            return -error


@njit([types.int64(_signed, _wide, _wide, _wide, _wide, _octets, types.int64, types.int64)], nogil=True, cache=True)
def write_each(fds, starts, sizes, numbers, taken, data, number_at, width):
    """Write to each of `fds` (int32[n]) its part of `data` (uint8), `sizes` bytes from `starts` on (int64[n] each).

    But for NO_NUMBER as `number_at`, a part is given its `numbers` (int64[n]) first, so many bytes from its start: in
    32 bits, network order, where `width` is 0, else in `width` decimal places with blanks in front. `taken` (int64[n])
    becomes how many bytes a socket took, or minus the error's number. Returns how many took all.
    """
    whole = 0
    for i in range(fds.shape[0]):
        if fds[i] < 0:
            taken[i] = 0
            continue
        at = starts[i]
        if number_at != NO_NUMBER:
            if width == 0:
                _write_binary(data, at + number_at, numbers[i])
            else:
                _write_decimal(data, at + number_at, width, numbers[i])
        taken[i] = _write(fds[i], data[at:].ctypes.data, sizes[i])
        whole += taken[i] == sizes[i]
    return whole
