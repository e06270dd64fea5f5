"""Compiled: RTCP in: decrypts a compound, and acts on what viewers ask for and publishers report.

Lengths inside are never trusted. Reads payload types; writes subscriptions, estimates, keyframe wishes and counters.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.fanout import answer_nack
from media.forwarding.kernel.reports import take_sender_report
from media.forwarding.kernel.ssrcs import may_bring, place_of, remember_ssrc
from media.forwarding.kernel.verdicts import ADMITTED, admitted
from media.forwarding.kernel.way_feedback import note_remb, read_remb, read_transport_feedback
from media.forwarding.tables import Count, Shared
from media.io.native import srtp_unprotect_rtcp
from media.io.octets import read_u32

MIN_SRTCP = 8 + 4 + 10
SECOND_NS = 1_000_000_000
MAX_NACKED = 256  # packets that one datagram may ask for, as many as a burst of loss that is worth repairing


@njit(nogil=True)
def receive_rtcp(t, i, size, transport, context, now):
    """Decrypt a compound and act on each packet in it; lengths inside are never trusted (RFC 3550 section 6.1)."""
    if size < MIN_SRTCP:
        t.counters[Count.TOO_SHORT] += np.uint64(1)
        return
    data = t.inbox[i]
    if not may_bring(t, transport, place_of(t, transport, data, 4)):
        return
    t.scratch[3] = size
    if srtp_unprotect_rtcp(context, data.ctypes.data, t.scratch[3:].ctypes.data) != 0:
        t.counters[Count.RTCP_UNPROTECT] += np.uint64(1)
        return
    size = t.scratch[3] & 0xFFFFFFFF
    remember_ssrc(t, transport, data, 4)
    t.transports[transport].last_media_ns = now
    left = np.int64(MAX_NACKED)
    at = np.int64(0)
    while at + 4 <= size:
        end = at + 4 + 4 * ((np.int64(data[at + 2]) << 8) | np.int64(data[at + 3]))
        if data[at] >> 6 != 2 or end > size:
            t.counters[Count.MALFORMED_RTCP] += np.uint64(1)
            return
        kind, form = data[at + 1], data[at] & 31
        if t.transports[transport].publishes:
            if kind == 200:
                take_sender_report(t, data, at, end, transport, now)
        elif kind == 205 and form == 1:
            left = _nack(t, data, at, end, transport, left)
        elif kind == 206 and form in (1, 4):
            _want_keyframe(t, data, at, end, transport, form, now)
        elif kind == 205 and form == 15:
            read_transport_feedback(t, data, at, end, transport, now)
        elif kind == 206 and form == 15:
            note_remb(t, transport, read_remb(data, at, end), now)
        elif kind in (200, 201):
            _reports(t, data, at + (28 if kind == 200 else 8), end, np.int64(form), transport, now)
        at = end


@njit(nogil=True)
def _subscription_of(t, transport, ssrc):
    # A viewer has a handful of subscriptions, listed in its row of `payload_types` (see Forwarder.subscribe).
    for place in range(128):
        row = np.int64(t.payload_types[transport, place])
        if row == 0:
            return -1
        if np.int64(t.subscriptions[row - 1].ssrc) == ssrc:
            return row - 1
    return -1


@njit(nogil=True)
def _nack(t, data, at, end, transport, left):
    """Answer what one NACK asks for, at most `left` packets; returns how many may still be asked for."""
    if end - at < 16:
        t.counters[Count.MALFORMED_RTCP] += np.uint64(1)
        return left
    s = _subscription_of(t, transport, read_u32(data, at + 8))
    if s < 0 or t.transports[transport].tx == 0 or t.transports[transport].address_size == 0:
        return left
    for item in range(at + 12, end - 3, 4):
        first = (np.int64(data[item]) << 8) | np.int64(data[item + 1])
        # Bit 0 stands for the packet itself, the others for those after it.
        wanted = 1 | (np.int64(data[item + 2]) << 9) | (np.int64(data[item + 3]) << 1)
        for bit in range(17):
            if wanted >> bit & 1 == 0:
                continue
            if left == 0:
                t.counters[Count.NACKS_IGNORED] += np.uint64(1)
                continue
            answer_nack(t, s, (first + bit) & 0xFFFF)
            left -= 1
    return left


@njit(nogil=True)
def _want_keyframe(t, data, at, end, transport, form, now):
    # PLI names its source in the header, FIR in its entries (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1)
    where = at + 8 if form == 1 else at + 12
    if where + 4 > end:
        t.counters[Count.MALFORMED_RTCP] += np.uint64(1)
        return
    if admitted(t, transport, 0, now) != ADMITTED:
        return
    stop = where + 4 if form == 1 else end - 3
    for entry in range(where, stop, 8):
        s = _subscription_of(t, transport, read_u32(data, entry))
        if s < 0:
            continue
        track = np.int64(t.subscriptions[s].track)
        if t.tracks[track].keyframe_wanted == 0:
            t.tracks[track].keyframe_wanted = 1
            t.shared[Shared.ATTENTION] = 1


@njit(nogil=True)
def _reports(t, data, at, end, count, transport, now):
    for _ in range(count):
        if at + 24 > end:
            return
        s = _subscription_of(t, transport, read_u32(data, at))
        if s >= 0:
            t.subscriptions[s].fraction_lost = data[at + 4]
            track = np.int64(t.subscriptions[s].track)
            lsr, dlsr = read_u32(data, at + 16), read_u32(data, at + 20)
            if lsr != 0 and t.tracks[track].sr_ntp != 0:
                elapsed = (now - t.tracks[track].sr_arrival_ns) * 65_536 // SECOND_NS
                middle = np.int64((t.tracks[track].sr_ntp >> np.uint64(16)) & np.uint64(0xFFFFFFFF)) + elapsed
                rtt = (middle - lsr - dlsr) & 0xFFFFFFFF
                if rtt < 0x80000000:
                    t.subscriptions[s].rtt_ns = rtt * SECOND_NS // 65_536
        at += 24
