"""Compiled: datagrams in: sort by first byte, find the sender, decrypt RTP, and have its track take it.

Cost: about 1.5 us a packet with GCM. Reads addresses, transports, payload types; writes tracks, cache, TWCC log,
SSRCs, control ring, counters. What is found in a packet is the business of `rtp_headers` and the latches; RTCP that of
`receiving_rtcp`. Every index into a datagram is checked, since compiled code does not check for us. Said
in plain Python in reference.py; judged by tests/media/test_reference.py and test_kernel_robustness.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.consent import answer_check
from media.forwarding.kernel.layer_latch import find_layer
from media.forwarding.kernel.locating import find_transport
from media.forwarding.kernel.opening import note_opened, open_rtp
from media.forwarding.kernel.receiving_rtcp import receive_rtcp
from media.forwarding.kernel.redundancy import find_primary
from media.forwarding.kernel.reporting import expect_report
from media.forwarding.kernel.rtp_headers import read_header
from media.forwarding.kernel.source_latch import keep, learn
from media.forwarding.kernel.ssrcs import may_bring, place_of, remember_ssrc
from media.forwarding.tables import DATAGRAM, PAYLOAD, RED_BIT, RING, ROW_BITS, RTX_BIT, Count, Shared
from media.io.native import memcpy, srtp_unprotect
from media.io.octets import read_u32

AUTH_FAIL, REPLAY_FAIL, REPLAY_OLD = 7, 9, 10  # srtp_err_status_t
MIN_SRTP = 12 + 10  # a header and the shortest tag
# DTLS that one transport has Python look at: 400 datagrams a second in the long run, and 100 at once. A handshake has
# ten; a data channel whose buffer empties has twice as many acknowledged. What is more is lost, and sent again.
CONTROL_EVERY_NS, CONTROL_AHEAD_NS = 2_500_000, 250_000_000
MAX_DATAGRAM = 1500  # RTP beyond an Ethernet frame is no honest sender's


@njit(nogil=True)
def receive(t, i, size, now):
    """Take datagram `i` of the inbox; returns (track, extended sequence number) of a packet to forward, or (-1, 0)."""
    t.counters[Count.RECEIVED] += np.uint64(1)
    data = t.inbox[i]
    if size < 1:
        t.counters[Count.TOO_SHORT] += np.uint64(1)
        return -1, np.int64(0)
    first = data[0]
    if first < 4 or 20 <= first < 64:
        transport = find_transport(t, i)
        if first >= 20 and transport >= 0 and not keeps_pace(t, transport, now):
            t.counters[Count.CONTROL_PACED] += np.uint64(1)
        elif first >= 4 or transport < 0 or not answer_check(t, i, size, transport, now):
            to_control(t, i, size, transport)
        return -1, np.int64(0)
    if first < 128 or first >= 192:
        t.counters[Count.UNKNOWN_FIRST_BYTE] += np.uint64(1)
        return -1, np.int64(0)
    if size > MAX_DATAGRAM:
        t.counters[Count.TOO_LARGE] += np.uint64(1)
        return -1, np.int64(0)
    transport = find_transport(t, i)
    if transport < 0:
        t.counters[Count.UNKNOWN_ADDRESS] += np.uint64(1)
        return -1, np.int64(0)
    context = t.transports[transport].rx  # read once: Python may take it away while this runs
    if context == 0:
        t.counters[Count.NO_KEYS] += np.uint64(1)
        return -1, np.int64(0)
    if size > 1 and 192 <= data[1] < 224:
        receive_rtcp(t, i, size, transport, context, now)
        return -1, np.int64(0)
    return receive_rtp(t, i, size, transport, context, now)


@njit(nogil=True)
def keeps_pace(t, transport, now):
    """Whether Python is to look at one more datagram of a transport's DTLS, so that none of them keeps it busy."""
    due = max(t.transports[transport].control_ns, now)
    if due - now > CONTROL_AHEAD_NS:
        return False
    t.transports[transport].control_ns = due + CONTROL_EVERY_NS
    return True


@njit(nogil=True)
def to_control(t, i, size, transport):
    """Hand a STUN or DTLS datagram to Python; strangers may fill only half of the ring."""
    used = t.shared[Shared.RING_HEAD] - t.shared[Shared.RING_TAIL]
    if used >= RING or (transport < 0 and used >= RING // 2):
        t.counters[Count.RING_FULL] += np.uint64(1)
        return
    slot = t.shared[Shared.RING_HEAD] % RING
    kept = min(size, DATAGRAM)
    memcpy(t.ring_data[slot].ctypes.data, t.inbox[i].ctypes.data, np.uint64(kept))
    memcpy(t.ring_address[slot].ctypes.data, t.inbox_address[i].ctypes.data, np.uint64(32))
    t.ring[slot].size = kept
    t.ring[slot].transport, t.ring[slot].socket = transport, t.shared[Shared.SOCKET]
    t.counters[Count.CONTROL] += np.uint64(1)
    t.shared[Shared.RING_HEAD] += 1
    t.shared[Shared.ATTENTION] = 1


@njit(nogil=True)
def receive_rtp(t, i, size, transport, context, now):
    """Decrypt, check and cache one packet; returns as `receive`."""
    nothing = (-1, np.int64(0))
    if size < MIN_SRTP:
        t.counters[Count.TOO_SHORT] += np.uint64(1)
        return nothing
    if not t.transports[transport].publishes:
        t.counters[Count.FROM_VIEWER] += np.uint64(1)
        return nothing
    if now >= t.transports[transport].publish_until:
        t.counters[Count.PUBLISH_LAPSED] += np.uint64(1)
        return nothing
    data = t.inbox[i]
    size = _unprotect(t, transport, data, size, context)
    if size == 0:
        return nothing
    t.transports[transport].last_media_ns = now
    start, payload_size = read_header(t, data, size, transport, now)
    if start < 0:
        t.counters[Count.MALFORMED_RTP] += np.uint64(1)
        return nothing
    mapped = np.int64(t.payload_types[transport, data[1] & 127])
    if mapped == 0:
        t.counters[Count.UNKNOWN_PAYLOAD_TYPE] += np.uint64(1)
        return nothing
    track = (mapped & ROW_BITS) - 1
    is_repair = (mapped & RTX_BIT) != 0
    seq = (np.int64(data[2]) << 8) | np.int64(data[3])
    ts = read_u32(data, 4)
    ssrc = np.uint64(read_u32(data, 8))
    if ssrc == 0:
        # The tables' word for no source; of senders that draw it at random none drew it.
        t.counters[Count.MALFORMED_RTP] += np.uint64(1)
        return nothing
    if t.tracks[track].next_layer >= 0:
        track = find_layer(t, track, data, transport, is_repair)
        if track < 0:
            t.counters[Count.UNKNOWN_LAYER] += np.uint64(1)
            return nothing
    if is_repair:
        # RFC 4588 section 4: the original sequence number comes before the payload; without one it was a probe.
        ssrc = t.tracks[track].ssrc
        if payload_size < 2 or ssrc == 0:
            t.counters[Count.PADDING] += np.uint64(1)
            return nothing
        seq = (np.int64(data[start]) << 8) | np.int64(data[start + 1])
        start += 2
        payload_size -= 2
        t.counters[Count.UPSTREAM_RTX] += np.uint64(1)
    if payload_size > PAYLOAD:
        t.counters[Count.TOO_LARGE] += np.uint64(1)
        return nothing
    red_at = np.int64(0)
    if mapped & RED_BIT:
        red_at = find_primary(data, start, payload_size)
        if red_at < 0:
            t.counters[Count.MALFORMED_RED] += np.uint64(1)
            return nothing
    ext_seq = learn(t, track, ssrc, seq, ts, payload_size, now, is_repair)
    if ext_seq < 0:
        return nothing
    keep(t, transport, track, ext_seq, data, start, payload_size, red_at, ts, now)
    if t.tracks[track].tapped:
        t.shared[Shared.ATTENTION] = 1
    expect_report(t, transport, now)
    t.transports[transport].delivered_ns = now
    t.transports[transport].packets += np.uint64(1)
    t.transports[transport].octets += np.uint64(payload_size)
    return track, ext_seq


@njit(nogil=True)
def _unprotect(t, transport, data, size, context):
    """Decrypt a packet in place, and note that it came; returns its size without the tag, or 0."""
    place = place_of(t, transport, data, 8)
    if not may_bring(t, transport, place):
        return np.int64(0)
    opener = t.transports[transport].opener
    if opener != 0:
        plain = np.int64(open_rtp(t, transport, place, data, size, opener))
        if plain > 0:
            place = remember_ssrc(t, transport, data, 8)
            note_opened(t, transport, place, (np.int64(data[2]) << 8) | np.int64(data[3]))
        return plain
    t.scratch[3] = size
    status = srtp_unprotect(context, data.ctypes.data, t.scratch[3:].ctypes.data)
    if status != 0:
        _count_unprotect(t, status)
        return np.int64(0)
    remember_ssrc(t, transport, data, 8)
    return np.int64(t.scratch[3] & 0xFFFFFFFF)


@njit(nogil=True)
def _count_unprotect(t, status):
    if status == AUTH_FAIL:
        t.counters[Count.UNPROTECT_AUTH] += np.uint64(1)
    elif status in (REPLAY_FAIL, REPLAY_OLD):
        t.counters[Count.UNPROTECT_REPLAY] += np.uint64(1)
    else:
        t.counters[Count.UNPROTECT_OTHER] += np.uint64(1)
