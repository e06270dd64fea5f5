"""Compiled: what viewers tell of their network: transport-wide feedback, and REMB where there is none.

Formats: draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1, draft-alvestrand-rmcat-remb-03. Cost: about
1 us a report of ten packets. Every index is checked, and so is what a report claims: numbers that were not sent, or
were reported before, count for nothing. Reads the log of what was sent; writes it, estimates and trends. Judged by
tests/media/test_way_feedback.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.estimates import LEAST_BPS, MOST_BPS, SENT_LOG
from media.forwarding.kernel.estimation import begin_estimate, take_arrival, take_report
from media.forwarding.kernel.pacing import octet_ns
from media.forwarding.tables import Count, Shared
from media.io.octets import read_u16, read_u32

TICK_NS = 250_000  # what deltas count in
REFERENCE_NS = 64_000_000  # what the reference time counts in, modulo 2^24
MOST_STATUSES = SENT_LOG  # of one report: what is older is forgotten
LOST, SMALL, LARGE = 0, 1, 2
MALFORMED = np.int64(-1)
REMB_NAME = 0x52454D42  # "REMB"


@njit(nogil=True)
def read_transport_feedback(t, data, at, end, transport, now):
    """Read one report (`data[at:end]` is the RTCP packet), and judge the way by it."""
    count, chunks = read_u16(data, at + 14) if end - at >= 20 else 0, at + 20
    deltas = _deltas_at(data, chunks, end, count)
    if deltas < 0:
        t.counters[Count.MALFORMED_RTCP] += np.uint64(1)
        return
    if t.transports[transport].stamped == 0:
        return
    before = np.float64(t.estimates[transport].bps)
    if before == 0:
        begin_estimate(t, transport)
    cuts = np.int64(t.estimates[transport].cuts)
    first = _extend_number(t, transport, read_u16(data, at + 12))
    arrived_ns = _extend_time(t, transport, read_u16(data, at + 16) << 8 | np.int64(data[at + 18])) * REFERENCE_NS
    number, lost, place = first, np.int64(0), chunks
    while number < first + count:
        chunk, place = read_u16(data, place), place + 2
        for index in range(min(_length(chunk), first + count - number)):
            size = _octets(_status(chunk, index))
            if size:
                arrived_ns += TICK_NS * _delta(data, deltas, size)
                _take_arrival(t, transport, number, arrived_ns)
            else:
                lost += _was_sent(t, transport, number)
            deltas += size
            number += 1
    take_report(t, transport, lost, first + count - 1, now)
    estimate = t.estimates[transport]
    t.transports[transport].octet_ns = octet_ns(estimate.bps, estimate.link_bps, estimate.needs_bps)
    t.counters[Count.WAY_REPORTS] += np.uint64(1)
    if t.estimates[transport].cuts != cuts:
        t.shared[Shared.WAY_CUTS] += 1
        t.shared[Shared.ATTENTION] = 1


@njit(nogil=True)
def read_remb(data, at, end):
    """Return the rate in bit/s that a message of a receiver's estimate tells, 0 for another message."""
    if end - at < 20 or read_u32(data, at + 12) != REMB_NAME:
        return 0.0
    exponent = np.int64(data[at + 17]) >> 2
    mantissa = (np.int64(data[at + 17]) & 3) << 16 | read_u16(data, at + 18)
    return np.float64(mantissa) * 2.0**exponent


@njit(nogil=True)
def note_remb(t, transport, bps, now):
    """Take what a receiver estimates, and go by it where it tells no more."""
    if bps == 0:
        return
    t.estimates[transport].remb_bps = bps
    t.estimates[transport].told_ns = now
    if t.transports[transport].stamped == 0:
        known_bps = min(max(bps, LEAST_BPS), MOST_BPS)
        t.transports[transport].octet_ns = octet_ns(known_bps, 0.0, t.estimates[transport].needs_bps)


@njit(nogil=True)
def _deltas_at(data, at, end, count):
    """Return where the deltas begin behind the chunks of `count` packets, -1 where the report is malformed."""
    if count == 0 or count > MOST_STATUSES:
        return MALFORMED
    seen, size = np.int64(0), np.int64(0)
    while seen < count:
        if at + 2 > end:
            return MALFORMED
        chunk, at = read_u16(data, at), at + 2
        length = min(_length(chunk), count - seen)
        if length == 0:
            return MALFORMED
        for index in range(length):
            status = _status(chunk, index)
            if status > LARGE:
                return MALFORMED
            size += _octets(status)
        seen += length
    return at if at + size <= end else MALFORMED


@njit(nogil=True)
def _length(chunk):
    """Return how many packets a chunk speaks of: a run, or 14 of one bit, or 7 of two."""
    if chunk & 0x8000 == 0:
        return chunk & 0x1FFF
    return np.int64(7 if chunk & 0x4000 else 14)


@njit(nogil=True)
def _status(chunk, index):
    if chunk & 0x8000 == 0:
        return chunk >> 13 & 3
    if chunk & 0x4000:
        return chunk >> (12 - 2 * index) & 3
    return chunk >> (13 - index) & 1


@njit(nogil=True)
def _octets(status):
    """Return how many octets the delta of a packet takes."""
    return np.int64(2 if status == LARGE else 1 if status == SMALL else 0)


@njit(nogil=True)
def _delta(data, at, size):
    if size == 1:
        return np.int64(data[at])
    value = read_u16(data, at)
    return value - 0x10000 if value & 0x8000 else value


@njit(nogil=True)
def _extend_number(t, transport, number):
    """Extend a 16-bit number to the one nearest to the newest that was sent."""
    newest = np.int64(t.transports[transport].stamped)
    return newest + ((number - newest + 0x8000) & 0xFFFF) - 0x8000


@njit(nogil=True)
def _extend_time(t, transport, time):
    """Extend a 24-bit time to the one nearest to the last; begins high enough never to be below 0."""
    last = np.int64(t.estimates[transport].clock)
    last = last if last else np.int64(1 << 24) + time
    extended = last + ((time - last + 0x800000) & 0xFFFFFF) - 0x800000
    t.estimates[transport].clock = extended
    return extended


@njit(nogil=True)
def _was_sent(t, transport, number):
    """Whether the log still knows a packet, and nothing was told of its arrival yet."""
    newest = np.int64(t.transports[transport].stamped)
    if number > newest or number <= newest - SENT_LOG or number < 1:
        return False
    return t.sent_log[transport, number % SENT_LOG].size != 0


@njit(nogil=True)
def _take_arrival(t, transport, number, arrived_ns):
    if not _was_sent(t, transport, number):
        return
    sent = t.sent_log[transport, number % SENT_LOG]
    take_arrival(t, transport, number, np.int64(sent.at_ns), arrived_ns, np.int64(sent.size))
    t.sent_log[transport, number % SENT_LOG].size = 0
