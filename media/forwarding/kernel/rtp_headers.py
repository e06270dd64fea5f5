"""Compiled: reads decrypted RTP headers with their extensions, and notes transport-wide numbers on the way.

Every index into a datagram is checked, since compiled code does not check for us.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import TWCC

TWO_BYTE_PROFILE = 0x1000  # RFC 8285 section 4.3; the low four bits belong to the application


@njit(nogil=True)
def read_header(t, data, size, transport, now):
    """Return (offset, size) of the payload without padding, or (-1, 0) for a malformed packet (RFC 3550 5.1, RFC 8285).

    Notes the transport-wide sequence number on the way.
    """
    if size < 12 or data[0] >> 6 != 2:
        return np.int64(-1), np.int64(0)
    at = np.int64(12 + 4 * (data[0] & 15))
    if data[0] & 0x10:
        if at + 4 > size:
            return np.int64(-1), np.int64(0)
        profile = (np.int64(data[at]) << 8) | np.int64(data[at + 1])
        end = at + 4 + 4 * ((np.int64(data[at + 2]) << 8) | np.int64(data[at + 3]))
        if end > size:
            return np.int64(-1), np.int64(0)
        if t.transports[transport].twcc_id:
            where, length = find_extension(data, at + 4, end, profile, t.transports[transport].twcc_id)
            if length >= 2:
                _log_arrival(t, transport, (np.int64(data[where]) << 8) | np.int64(data[where + 1]), now)
        at = end
    if at > size:
        return np.int64(-1), np.int64(0)
    padding = np.int64(0)
    if data[0] & 0x20:
        padding = np.int64(data[size - 1])
        if padding == 0 or at + padding > size:
            return np.int64(-1), np.int64(0)
    return at, size - at - padding


@njit(nogil=True)
def find_extension(data, at, end, profile, wanted):
    """Return (offset, octets) of a header extension's value within `data[at:end]`, or (0, 0) (RFC 8285)."""
    while at < end:
        if data[at] == 0:
            at += 1
            continue
        if profile == 0xBEDE:
            identifier, length, at = data[at] >> 4, np.int64(data[at] & 15) + 1, at + 1
            if identifier == 15:
                break
        else:
            if profile & 0xFFF0 != TWO_BYTE_PROFILE or at + 1 >= end:
                break
            identifier, length, at = data[at], np.int64(data[at + 1]), at + 2
        if at + length > end:
            break
        if identifier == wanted:
            return at, length
        at += length
    return np.int64(0), np.int64(0)


@njit(nogil=True)
def _log_arrival(t, transport, seq, now):
    slot = np.int64(t.transports[transport].twcc_slot)
    if slot < 0:
        return
    highest = np.int64(t.transports[transport].twcc_highest)
    ext = seq + 65_536 if highest < 0 else unwrap(highest, seq)
    if highest < 0 or ext > highest:
        t.transports[transport].twcc_highest = ext
    elif ext <= highest - TWCC:
        return
    t.twcc_arrival_ns[slot, ext % TWCC] = now
    t.twcc_seq[slot, ext % TWCC] = ext


@njit(nogil=True)
def unwrap(highest, seq):
    """Extend a 16-bit number to the value nearest to `highest`."""
    ahead = (seq - highest) & 0xFFFF
    return highest + ahead if ahead < 0x8000 else highest + ahead - 0x10000
