"""Compiled: datagrams in: sort, find the sender, decrypt, learn, cache (RTP), and read feedback (RTCP).

Cost: about 1.5 us a packet with GCM. Reads addresses, transports, payload types; writes tracks, cache, TWCC log,
SSRCs, control ring, counters. Every index into a datagram is checked, since compiled code does not check for us. Said
in plain Python in reference.py; judged by tests/media/test_reference.py and test_kernel_robustness.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.consent import answer_check
from media.forwarding.fanout import ADMITTED, admitted, answer_nack
from media.forwarding.payload import starts_keyframe, vp8_numbers
from media.forwarding.reports import begin_reports, take_sender_report
from media.forwarding.sending import read_u32
from media.forwarding.tables import (
    ADDRESSES,
    CACHE,
    DATAGRAM,
    PAYLOAD,
    PROBES,
    RID,
    RING,
    RTX_BIT,
    SSRCS,
    TWCC,
    UNPLANNED,
    VIDEO,
    Count,
    Shared,
)
from media.forwarding.way_feedback import read_remb, read_transport_feedback
from media.io.native import AF_INET, AF_INET6, memcpy, srtp_unprotect, srtp_unprotect_rtcp
from media.wire.codecs import Codec

AUTH_FAIL, REPLAY_FAIL, REPLAY_OLD = 7, 9, 10  # srtp_err_status_t
MIN_SRTP = 12 + 10  # a header and the shortest tag
MIN_SRTCP = 8 + 4 + 10
MAX_DATAGRAM = 1500  # RTP beyond an Ethernet frame is no honest sender's
RESTART_JUMP = 1 << 14  # a jump this far ahead is a new start, not a loss
SILENT_NS = 500_000_000  # a second SSRC may follow one that was silent this long
SECOND_NS = 1_000_000_000
MAX_NACKED = 256  # packets that one datagram may ask for, as many as a burst of loss that is worth repairing
TWO_BYTE_PROFILE = 0x1000  # RFC 8285 section 4.3; the low four bits belong to the application


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
        if first >= 4 or transport < 0 or not answer_check(t, i, size, transport, now):
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
    if not may_bring(t, transport, data, 8):
        return nothing
    t.scratch[3] = size
    status = srtp_unprotect(context, data.ctypes.data, t.scratch[3:].ctypes.data)
    if status != 0:
        _count_unprotect(t, status)
        return nothing
    size = t.scratch[3] & 0xFFFFFFFF
    remember_ssrc(t, transport, data, 8)
    t.transports[transport].last_media_ns = now
    start, payload_size = read_header(t, data, size, transport, now)
    if start < 0:
        t.counters[Count.MALFORMED_RTP] += np.uint64(1)
        return nothing
    mapped = np.int64(t.payload_types[transport, data[1] & 127])
    if mapped == 0:
        t.counters[Count.UNKNOWN_PAYLOAD_TYPE] += np.uint64(1)
        return nothing
    track = (mapped & (RTX_BIT - 1)) - 1
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
    ext_seq = learn(t, track, ssrc, seq, ts, payload_size, now, is_repair)
    if ext_seq < 0:
        return nothing
    keep(t, track, ext_seq, data, start, payload_size, ts, now)
    if t.tracks[track].tapped:
        t.shared[Shared.ATTENTION] = 1
    t.transports[transport].delivered_ns = now
    t.transports[transport].packets += np.uint64(1)
    t.transports[transport].octets += np.uint64(payload_size)
    return track, ext_seq


@njit(nogil=True)
def may_bring(t, transport, data, at):
    """Whether the SSRC at `data[at]` is one this transport sent before, or one more that it may have."""
    count = np.int64(t.transports[transport].ssrc_count)
    if count < SSRCS or _knows_ssrc(t, transport, count, read_u32(data, at)):
        return True
    t.counters[Count.TOO_MANY_SSRCS] += np.uint64(1)
    return False


@njit(nogil=True)
def remember_ssrc(t, transport, data, at):
    """Note the SSRC of an authentic packet: libsrtp has made a context for it, and keeps that."""
    count = np.int64(t.transports[transport].ssrc_count)
    ssrc = read_u32(data, at)
    if count < SSRCS and not _knows_ssrc(t, transport, count, ssrc):
        t.ssrcs[transport, count] = ssrc
        t.transports[transport].ssrc_count = count + 1


@njit(nogil=True)
def _knows_ssrc(t, transport, count, ssrc):
    known = False
    for place in range(count):
        known |= np.int64(t.ssrcs[transport, place]) == ssrc
    return known


@njit(nogil=True)
def _count_unprotect(t, status):
    if status == AUTH_FAIL:
        t.counters[Count.UNPROTECT_AUTH] += np.uint64(1)
    elif status in (REPLAY_FAIL, REPLAY_OLD):
        t.counters[Count.UNPROTECT_REPLAY] += np.uint64(1)
    else:
        t.counters[Count.UNPROTECT_OTHER] += np.uint64(1)


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
def find_layer(t, head, data, transport, is_repair):
    """Return the row of the layer that a packet of simulcast belongs to, or -1: by its SSRC, before that by its name.

    Senders name a stream in its first packets only (RFC 8852 section 2). `data` has passed `read_header`.
    """
    ssrc = np.uint64(read_u32(data, 8))
    layer = np.int64(head)
    while layer >= 0:
        if (t.tracks[layer].rtx_ssrc if is_repair else t.tracks[layer].ssrc) == ssrc:
            return layer
        layer = np.int64(t.tracks[layer].next_layer)
    rid = _read_rid(data, t.transports[transport].repaired_rid_id if is_repair else t.transports[transport].rid_id)
    layer = np.int64(head if rid != 0 else -1)
    while layer >= 0:
        if t.tracks[layer].rid == rid:
            if is_repair:
                t.tracks[layer].rtx_ssrc = ssrc
            return layer
        layer = np.int64(t.tracks[layer].next_layer)
    return layer


@njit(nogil=True)
def _read_rid(data, identifier):
    rid = np.uint64(0)
    if identifier == 0 or not data[0] & 0x10:
        return rid
    at = np.int64(12 + 4 * (data[0] & 15))
    profile = (np.int64(data[at]) << 8) | np.int64(data[at + 1])
    end = at + 4 + 4 * ((np.int64(data[at + 2]) << 8) | np.int64(data[at + 3]))
    where, length = find_extension(data, at + 4, end, profile, identifier)
    if length <= RID:
        for place in range(where, where + length):
            rid = (rid << np.uint64(8)) | np.uint64(data[place])
    return rid


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


@njit(nogil=True)
def learn(t, track, ssrc, seq, ts, size, now, is_repair):
    """Latch the source, extend the sequence number, keep RFC 3550's statistics; -1 for what must not be forwarded."""
    if t.tracks[track].ssrc != ssrc:
        if t.tracks[track].ssrc != 0 and now - t.tracks[track].last_ns < SILENT_NS:
            t.counters[Count.SECOND_SSRC] += np.uint64(1)
            return np.int64(-1)
        restart(t, track, ssrc, seq)
    highest = np.int64(t.tracks[track].highest_ext_seq)
    ext_seq = unwrap(highest, seq)
    if ext_seq - highest >= RESTART_JUMP:
        if is_repair:
            # What was never sent can't be repaired: it belongs to an earlier numbering.
            t.counters[Count.TOO_OLD] += np.uint64(1)
            return np.int64(-1)
        restart(t, track, ssrc, seq)
        highest = np.int64(t.tracks[track].highest_ext_seq)
        ext_seq = unwrap(highest, seq)
    if ext_seq <= highest - CACHE or ext_seq < t.tracks[track].first_ext_seq - CACHE // 2:
        t.counters[Count.TOO_OLD] += np.uint64(1)
        return np.int64(-1)
    if t.cache_seq[track, ext_seq % CACHE] == ext_seq:
        t.counters[Count.DUPLICATE] += np.uint64(1)
        return np.int64(-1)
    t.tracks[track].received += 1
    t.tracks[track].octets += size
    if not is_repair:
        _note_jitter(t, track, ts, now)
    if ext_seq > highest:
        t.tracks[track].highest_ext_seq = ext_seq
        t.tracks[track].last_ns = now
        if ext_seq - t.tracks[track].key_ext_seq >= CACHE:
            t.tracks[track].key_ext_seq = -1  # what followed it is gone: a replay never looks at more than the cache
    return ext_seq


@njit(nogil=True)
def restart(t, track, ssrc, seq):
    """Begin a new source: nothing of the old one is forwarded or repaired any more."""
    begin_reports(t, track, ssrc)
    t.tracks[track].ssrc = ssrc
    t.tracks[track].restarts += 1
    t.tracks[track].first_ext_seq = seq + 65_536
    t.tracks[track].highest_ext_seq = seq + 65_535
    t.tracks[track].received = 0
    t.tracks[track].jitter_q4 = 0
    t.tracks[track].transit = 0
    t.tracks[track].last_ts = -1
    t.tracks[track].key_ext_seq = -1
    t.tracks[track].key_ts = -1
    t.tracks[track].last_keyframe_ns = 0
    for i in range(CACHE):
        t.cache_seq[track, i] = -1


@njit(nogil=True)
def _note_jitter(t, track, ts, now):
    # RFC 3550 appendix A.8, in units of the RTP clock times 16
    clock = np.int64(t.tracks[track].clock_rate)
    arrival = now // SECOND_NS * clock + now % SECOND_NS * clock // SECOND_NS
    transit = (arrival - ts) & 0xFFFFFFFF
    before = np.int64(t.tracks[track].transit)
    t.tracks[track].transit = transit
    if before == 0:
        return
    change = (transit - before) & 0xFFFFFFFF
    change = min(change, 0x100000000 - change)
    t.tracks[track].jitter_q4 += change - ((t.tracks[track].jitter_q4 + 8) >> 4)


@njit(nogil=True)
def keep(t, track, ext_seq, data, start, size, ts, now):
    """Cache one decrypted packet, with its frame number and whether a decoder can start with it."""
    slot = ext_seq % CACHE
    newest = ext_seq == t.tracks[track].highest_ext_seq
    if newest and ts != t.tracks[track].last_ts:
        t.tracks[track].frame_no += 1
        t.tracks[track].last_ts = ts
    frame = np.int64(t.tracks[track].frame_no)
    if ts != t.tracks[track].last_ts:
        # A late packet of an earlier frame: its neighbours know which.
        for near in (ext_seq + 1, ext_seq - 1):
            if t.cache_seq[track, near % CACHE] == near and t.cache_info[track, near % CACHE].ts == ts:
                frame = np.int64(t.cache_info[track, near % CACHE].frame_no)
    is_key = starts_keyframe(t.tracks[track].codec, data[start : start + size], size)
    t.cache_seq[track, slot] = -1
    if size > 0:
        memcpy(t.cache_data[track, slot].ctypes.data, data.ctypes.data + np.uint64(start), np.uint64(size))
    t.cache_info[track, slot].size = size
    t.cache_info[track, slot].marker = data[1] >> 7
    t.cache_info[track, slot].is_key = is_key
    t.cache_info[track, slot].pad = UNPLANNED
    picture_at, base_at = 0, 0
    if t.tracks[track].codec == Codec.VP8:
        picture_at, base_at = vp8_numbers(data[start : start + size], size)
    t.cache_info[track, slot].picture_at = picture_at
    t.cache_info[track, slot].base_at = base_at
    t.cache_info[track, slot].ts = ts
    t.cache_info[track, slot].frame_no = frame
    t.cache_seq[track, slot] = ext_seq
    if is_key and t.tracks[track].kind == VIDEO and ts != t.tracks[track].key_ts and newest:
        t.tracks[track].key_ext_seq = ext_seq
        t.tracks[track].key_ts = ts
        t.tracks[track].last_keyframe_ns = now
        t.counters[Count.KEYFRAMES] += np.uint64(1)


@njit(nogil=True)
def receive_rtcp(t, i, size, transport, context, now):
    """Decrypt a compound and act on each packet in it; lengths inside are never trusted (RFC 3550 section 6.1)."""
    if size < MIN_SRTCP:
        t.counters[Count.TOO_SHORT] += np.uint64(1)
        return
    data = t.inbox[i]
    if not may_bring(t, transport, data, 4):
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
            _note_remb(t, transport, read_remb(data, at, end), now)
        elif kind in (200, 201):
            _reports(t, data, at + (28 if kind == 200 else 8), end, np.int64(form), transport, now)
        at = end


@njit(nogil=True)
def _note_remb(t, transport, rate, now):
    if rate > 0:
        t.estimates[transport].remb_bps = rate
        t.estimates[transport].told_ns = now


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
