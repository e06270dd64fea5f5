"""Compiled: transport-wide feedback for a publisher, from the log of arrivals to the octets of an RTCP packet.

Format: draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1. A report of ten packets takes 2 us;
media/wire/twcc.py takes 38 in plain Python. Judged by it in tests/media/test_arrivals.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from media.io.compiled import keep_compiled
from media.io.octets import write_u16, write_u32
from media.wire.twcc import MAX_REPORT, MAX_STATUSES, REFERENCE_NS, TICK_NS

FIXED = 20  # octets before the chunks: RTCP header, two SSRCs, base, count, reference time
RTPFB, TRANSPORT_FEEDBACK = 205, 15  # RFC 4585 section 6.1: packet type, and the draft's format
LOST, SMALL, LARGE = 0, 1, 2
ABSENT = np.int64(1 << 40)  # for a delta: no delta is so large

keep_compiled("arrivals", __file__)
_log = types.Array(types.int64, 1, "C")
_buffer = types.Array(types.uint8, 1, "C")


@njit
def _choose(log, times, number, highest, deltas):
    """Fill in as many deltas as fit one report, which ends with a packet that arrived.

    Returns how many, and the reference time from which the first counts.
    """
    mask = len(log) - 1
    reference, before = np.int64(-1), np.int64(0)
    size, end = FIXED, 0
    for index in range(highest - number + 1):
        place = (number + index) & mask
        if log[place] != number + index:
            deltas[index] = ABSENT
            continue
        tick = times[place] // TICK_NS
        if reference < 0:
            reference = times[place] // REFERENCE_NS
            before = reference * (REFERENCE_NS // TICK_NS)
        delta = tick - before
        size += 1 if 0 <= delta <= 0xFF else 2
        chunks = 2 * (index // 7 + 1)  # the most they can need
        if not -0x8000 <= delta <= 0x7FFF or size + chunks + 3 > MAX_REPORT:
            break
        deltas[index] = delta
        before, end = tick, index + 1
    return end, reference


@njit
def _symbol(delta):
    if delta == ABSENT:
        return LOST
    return SMALL if 0 <= delta <= 0xFF else LARGE


@njit
def _write_chunks(out, at, deltas):
    """Choose, chunk by chunk, the form that covers most symbols (sections 3.1.3 and 3.1.4); returns their end."""
    begin, count = 0, len(deltas)
    while begin < count:
        first, run = _symbol(deltas[begin]), 1
        while begin + run < count and _symbol(deltas[begin + run]) == first:
            run += 1
        window = min(14, count - begin)
        width = 1
        for index in range(begin, begin + window):
            width = 2 if _symbol(deltas[index]) == LARGE else width
        symbols = 14 // width
        if run >= min(symbols, window):
            write_u16(out, at, first << 13 | run)
            begin += run
        else:
            value = 0x8000 | (0x4000 if width == 2 else 0)
            for index in range(min(symbols, count - begin)):
                value |= _symbol(deltas[begin + index]) << (14 - width * (index + 1))
            write_u16(out, at, value)
            begin += symbols
        at += 2
    return at


@njit
def _write_deltas(out, at, deltas):
    for delta in deltas:
        symbol = _symbol(delta)
        if symbol == SMALL:
            out[at] = delta
        elif symbol == LARGE:
            write_u16(out, at, delta)
        at += symbol
    return at


@njit(
    [types.UniTuple(types.int64, 2)(_log, _log, types.int64, types.int64, types.UniTuple(types.int64, 3), _buffer)],
    cache=True,
)
def write_report(log, times, number, highest, names, out):
    """Write one report about the packets from `number` to at most `highest` to the beginning of `out`.

    `log` (int64, a power of two long) holds at `number % len` each extended transport-wide number that arrived, and
    `times` when (ns). `names` are the SSRCs of sender and media, and the count of the report. `out` takes MAX_REPORT
    octets. Returns how many were written, and the number with which the next report begins; (0, highest + 1) when
    nothing arrived.
    """
    deltas = np.empty(MAX_STATUSES, np.int64)
    count, reference = _choose(log, times, number, min(highest, number + MAX_STATUSES - 1), deltas)
    if count == 0:
        return 0, highest + 1
    write_u16(out, 12, number)
    write_u16(out, 14, count)
    write_u32(out, 16, (reference & 0xFFFFFF) << 8 | names[2] & 0xFF)
    at = _write_deltas(out, _write_chunks(out, FIXED, deltas[:count]), deltas[:count])
    while at % 4:
        out[at] = 0
        at += 1
    out[0], out[1] = 0x80 | TRANSPORT_FEEDBACK, RTPFB
    write_u16(out, 2, at // 4 - 1)
    write_u32(out, 4, names[0])
    write_u32(out, 8, names[1])
    return at, number + count
