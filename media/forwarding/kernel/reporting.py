"""Compiled: what publishers are told of what arrived: receiver reports and transport-wide feedback.

A publisher of whom something came is queued once, and told INTERVAL_NS later: the queue is in the order of their times,
nobody looks at who is not due, and who sends nothing costs nothing. Cost: about 5 us a report. Reads transports,
payload types, tracks and the log of arrivals; writes the arena, and of transports and tracks what was reported. Judged
by tests/media/test_reporting.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.arrivals import write_report
from media.forwarding.kernel.sending import make_room, seal_rtcp, write_cname
from media.forwarding.tables import RED_BIT, REPORTS, RTX_BIT, TWCC, VIDEO, Count, Shared
from media.io.octets import write_u16, write_u32
from media.wire.twcc import MAX_REPORT

# Our SSRC in these. What Python sends is of SSRC 1, through a session of its own: each SSRC's RTCP belongs to one of
# them alone, or a nonce would serve twice (see webrtc/srtp.py).
REPORTER = 2
INTERVAL_NS = 100_000_000  # what browsers begin with; between 50 and 250 ms they do it themselves
# RFC 3550 section 6.2 at our bandwidths, and often enough for a round-trip time; early rather than an interval late.
RECEIVER_REPORT_NS = 1_000_000_000 - INTERVAL_NS // 2
SECOND_NS = 1_000_000_000
MAX_BLOCKS = 31  # RFC 3550 section 6.4.2
HEAD, BLOCK, CNAME_SIZE = 8, 24, 16  # octets
MOST_LOST = 1 << 23  # of what 24 bits with a sign hold


@njit(nogil=True)
def expect_report(t, transport, now):
    """Queue a publisher of whom something came, unless it is queued."""
    if t.transports[transport].reported == 0 or t.transports[transport].report_ns != 0:
        return
    head = t.shared[Shared.REPORTS_HEAD]
    if head - t.shared[Shared.REPORTS_TAIL] >= REPORTS:
        t.counters[Count.REPORTS_FULL] += np.uint64(1)
        return
    due_ns = now + INTERVAL_NS
    t.transports[transport].report_ns = due_ns
    t.due_reports[head % REPORTS].transport = transport
    t.due_reports[head % REPORTS].due_ns = due_ns
    t.shared[Shared.REPORTS_HEAD] = head + 1


@njit(nogil=True)
def send_reports(t):
    """Tell every publisher whose time has come."""
    now = t.shared[Shared.NOW]
    while t.shared[Shared.REPORTS_TAIL] < t.shared[Shared.REPORTS_HEAD]:
        entry = t.due_reports[t.shared[Shared.REPORTS_TAIL] % REPORTS]
        if entry.due_ns > now:
            return
        t.shared[Shared.REPORTS_TAIL] += 1
        transport = np.int64(entry.transport)
        if t.transports[transport].report_ns == entry.due_ns:  # else it was queued by who had the row before
            t.transports[transport].report_ns = 0
            _report(t, transport, now)


@njit(nogil=True)
def next_report_ms(t, most):
    """Return in how many milliseconds a report is due, `most` at the most."""
    if t.shared[Shared.REPORTS_TAIL] == t.shared[Shared.REPORTS_HEAD]:
        return most
    due_ns = t.due_reports[t.shared[Shared.REPORTS_TAIL] % REPORTS].due_ns
    return min(max((due_ns - t.shared[Shared.NOW]) // 1_000_000 + 1, 0), most)


@njit(nogil=True)
def _report(t, transport, now):
    if t.transports[transport].tx == 0 or t.transports[transport].address_size == 0:
        t.counters[Count.NO_DESTINATION] += np.uint64(1)
        return
    make_room(t)
    count, named = _write_blocks(t, transport, t.shared[Shared.ARENA_USED] + HEAD, now)
    if count == 0:
        return
    if now - t.transports[transport].reported_ns >= RECEIVER_REPORT_NS:
        t.transports[transport].reported_ns = now
        _keep_reported(t, transport)
        _send_receiver_report(t, transport, count)
    _send_feedback(t, transport, named)


@njit(nogil=True)
def _send_receiver_report(t, transport, count):
    """Send a receiver report whose blocks are written already, with CNAME (RFC 3550 section 6.1)."""
    out, at = t.arena, t.shared[Shared.ARENA_USED]
    size = HEAD + BLOCK * count
    out[at], out[at + 1] = 0x80 | count, 201
    write_u16(out, at + 2, size // 4 - 1)
    write_u32(out, at + 4, REPORTER)
    write_cname(out, at + size, REPORTER)
    if seal_rtcp(t, transport, size + CNAME_SIZE):
        t.counters[Count.RECEIVER_REPORTS] += np.uint64(1)


@njit(nogil=True)
def _next_fed(t, transport, payload_type, track):
    """Return the payload type and track after these of what a transport feeds; (128, -1) where there is none.

    Each track is mapped by one payload type, beside those of its RTX and RED, and leads to its other layers.
    """
    while True:
        track = np.int64(-1) if track < 0 else np.int64(t.tracks[track].next_layer)
        while track < 0:
            payload_type += 1
            if payload_type == 128:
                return payload_type, np.int64(-1)
            mapped = np.int64(t.payload_types[transport, payload_type])
            if mapped != 0 and mapped & (RTX_BIT | RED_BIT) == 0:
                track = mapped - 1
        row = t.tracks[track]
        if row.active and row.transport == transport and row.ssrc != 0:
            return payload_type, track


@njit(nogil=True)
def _write_blocks(t, transport, at, now):
    """Write a report block for each track; returns how many, and the SSRC of a picture, else of sound."""
    count, named, is_picture = 0, np.int64(0), False
    payload_type, track = _next_fed(t, transport, np.int64(-1), np.int64(-1))
    while track >= 0 and count < MAX_BLOCKS:
        if not is_picture:
            named, is_picture = np.int64(t.tracks[track].ssrc), t.tracks[track].kind == VIDEO
        _write_block(t, track, at + BLOCK * count, now)
        count += 1
        payload_type, track = _next_fed(t, transport, payload_type, track)
    return count, named


@njit(nogil=True)
def _write_block(t, track, at, now):
    """Write what RFC 3550 appendix A.3 says of a source; repaired packets count as received."""
    row, out = t.tracks[track], t.arena
    highest = np.int64(row.highest_ext_seq)
    expected, received = highest - row.first_ext_seq + 1, np.int64(row.received)
    newly_expected, newly_received = expected - row.reported_expected, received - row.reported_received
    newly_lost, fraction = newly_expected - newly_received, np.int64(0)
    if newly_expected > 0 and newly_lost > 0:
        fraction = min((newly_lost << 8) // newly_expected, 0xFF)
    lost = max(-MOST_LOST, min(expected - received, MOST_LOST - 1))
    since = np.int64(0)
    if row.sr_ntp != 0:
        since = max(now - row.sr_arrival_ns, 0)
    write_u32(out, at, np.int64(row.ssrc))
    write_u32(out, at + 4, fraction << 24 | lost & 0xFFFFFF)
    write_u32(out, at + 8, highest & 0xFFFFFFFF)
    write_u32(out, at + 12, np.int64(row.jitter_q4) >> 4 & 0xFFFFFFFF)
    write_u32(out, at + 16, np.int64(row.sr_ntp >> np.uint64(16) & np.uint64(0xFFFFFFFF)))
    write_u32(out, at + 20, (since // SECOND_NS << 16) + (since % SECOND_NS << 16) // SECOND_NS & 0xFFFFFFFF)


@njit(nogil=True)
def _keep_reported(t, transport):
    payload_type, track = _next_fed(t, transport, np.int64(-1), np.int64(-1))
    while track >= 0:
        row = t.tracks[track]
        t.tracks[track].reported_expected = row.highest_ext_seq - row.first_ext_seq + 1
        t.tracks[track].reported_received = row.received
        payload_type, track = _next_fed(t, transport, payload_type, track)


@njit(nogil=True)
def _send_feedback(t, transport, named):
    """Tell when each packet arrived that has a transport-wide number and was not told of yet."""
    slot, highest = np.int64(t.transports[transport].twcc_slot), np.int64(t.transports[transport].twcc_highest)
    if slot < 0 or highest < 0:
        return
    log, before = t.twcc_seq[slot], np.int64(t.transports[transport].twcc_next)
    number = max(before, highest - TWCC + 1)
    while before < 0 and number <= highest and log[number % TWCC] != number:
        number += 1  # what was missing when nothing had been reported yet was never sent to us
    while number <= highest:
        make_room(t)
        at, count = t.shared[Shared.ARENA_USED], np.int64(t.transports[transport].twcc_count)
        names = (np.int64(REPORTER), named, count)
        out = t.arena[at : at + MAX_REPORT]
        size, number = write_report(log, t.twcc_arrival_ns[slot], number, highest, names, out)
        if size:
            t.transports[transport].twcc_count = (count + 1) & 0xFF
            t.transports[transport].twcc_next = number
            if seal_rtcp(t, transport, size):
                t.counters[Count.TRANSPORT_FEEDBACK] += np.uint64(1)
