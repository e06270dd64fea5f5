"""Compiled: from an admitted packet to the wire: rewrite, protect, merge per destination, sendmmsg with GSO.

Cost, 2-core VM, loopback: rewrite and GCM 0.6-0.8 us, system call share 1.3-2.4 us a packet. Reads transports,
subscriptions, cache; writes arena, outbox, subscriptions' counters. Judged by
tests/media/test_forwarder.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.extensions import write_extensions
from media.forwarding.kernel.pacing import take_way
from media.forwarding.kernel.payload_cache import copy_payload
from media.forwarding.kernel.redundancy import rename_blocks
from media.forwarding.kernel.sealing import seal
from media.forwarding.kernel.stamps import STAMP_SIZE, is_numbered, log_sent, write_stamp
from media.forwarding.tables import ARENA, MESSAGES, Count, Shared
from media.io.cipher import TAG_BYTES
from media.io.native import (
    CLOCK_MONOTONIC,
    EAGAIN,
    EINTR,
    EINVAL,
    EIO,
    ENOBUFS,
    MSG_DONTWAIT,
    clock_gettime,
    errno_location,
    memcpy,
    sendmmsg,
    srtp_protect,
    srtp_protect_rtcp,
)
from media.io.octets import write_u16, write_u32
from media.io.ordering import acquire

MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of older kernels
MAX_MESSAGE = 60_000  # below the largest UDP payload
LARGEST_SEGMENT = 1400  # larger ones may need IP fragments, which GSO refuses
ROOM_FOR_ONE = 2304  # the largest packet with its tag, even if its parts are of two packets (see mirroring.py)
SECOND_NS = 1_000_000_000
SPREAD_NS = 2_000_000
NTP_FRACTION = 4_294_967_296.0
CNAME = np.frombuffer(b"mesi", dtype=np.uint8)


@njit(nogil=True)
def read_clock(t):
    """Store the monotonic time in `shared[NOW]` and return it (ns)."""
    clock_gettime(np.int32(CLOCK_MONOTONIC), t.scratch.ctypes.data)
    now = t.scratch[0] * SECOND_NS + t.scratch[1]
    t.shared[Shared.NOW] = now
    return now


@njit(nogil=True)
def write_packet(t, s, payload_type, marker, ssrc, seq, ts, track, slot, is_empty, osn, pad):
    """Write one RTP packet of a subscription at the arena's end; returns its size, and where the payload begins.

    With `is_empty` neither the payload of what is cached is written nor its header extensions.
    `osn` >= 0 puts the original sequence number before the payload (RFC 4588 section 4); `pad` adds that many octets of
    padding. A payload of no octets goes out as one octet of padding, so that sequence numbers stay contiguous. Of
    redundant sound those who did not ask for it get the newest block, and so do all whose packet is repaired by RTX.
    """
    out, at = t.arena, t.shared[Shared.ARENA_USED]
    stamp = np.int64(t.subscriptions[s].stamp)
    whole, red_payload_type = np.int64(t.cache_info[track, slot].size), t.subscriptions[s].red_payload_type
    red_at = min(np.int64(t.cache_info[track, slot].red_at), whole)
    is_red = red_at > 0 and red_payload_type != 0 and osn < 0
    begin = 0 if is_red else red_at
    size = 0 if is_empty else whole - begin
    if size == 0 and pad == 0:
        pad = 1
    out[at] = 0x80 | (0x20 if pad > 0 else 0) | (0x10 if stamp else 0)
    out[at + 1] = (red_payload_type if is_red else payload_type) | (0x80 if marker else 0)
    write_u16(out, at + 2, seq)
    write_u32(out, at + 4, ts)
    write_u32(out, at + 8, ssrc)
    start = at + 12
    if stamp:
        write_stamp(t, np.int64(t.subscriptions[s].transport), stamp, start, t.shared[Shared.NOW])
        start += STAMP_SIZE
    if (t.cache_info[track, slot].extensions or t.cache_info[track, slot].descriptor) and not is_empty:
        start = write_extensions(t, s, track, slot, at, stamp)
    if osn >= 0:
        write_u16(out, start, osn)
        start += 2
    if size > 0:
        copy_payload(t, track, slot, np.int64(begin), np.int64(size), out.ctypes.data + np.uint64(start))
        if is_red:
            rename_blocks(t, start, start + size, payload_type)
    for i in range(pad):
        out[start + size + i] = 0
    if pad > 0:
        out[start + size + pad - 1] = pad
    return start + size + pad - at, start


@njit(nogil=True)
def protect_and_queue(t, transport, size, seq, stamp):
    """Protect the packet at the arena's end and queue it for `transport`; returns whether it is on its way.

    `seq` is its extended sequence number, of which its header has the lower 16 bits.
    """
    sealed = _protect(t, transport, size, seq)
    if sealed == 0:
        return False
    if is_numbered(stamp):
        log_sent(t, transport, sealed, t.shared[Shared.NOW])
    take_way(t, transport, sealed, t.shared[Shared.NOW])
    queue(t, transport, sealed)
    return True


@njit(nogil=True)
def _protect(t, transport, size, seq):
    at = t.shared[Shared.ARENA_USED]
    # Read once: Python takes the contexts away while this runs.
    context, sealer = t.transports[transport].tx, t.transports[transport].sealer
    if context == 0:
        t.counters[Count.NO_DESTINATION] += np.uint64(1)
        return 0
    if sealer != 0:
        sealed = seal(t.arena[at : at + size + TAG_BYTES], size, seq, sealer, t.salts[transport], t.iv)
    else:
        t.scratch[2] = size
        failed = srtp_protect(context, t.arena.ctypes.data + np.uint64(at), t.scratch[2:].ctypes.data)
        sealed = 0 if failed else t.scratch[2] & 0xFFFFFFFF
    t.counters[Count.PROTECT_FAILED] += np.uint64(sealed == 0)
    return sealed


@njit(nogil=True)
def make_room(t):
    """Flush when the next packet might not fit."""
    if t.shared[Shared.ARENA_USED] + ROOM_FOR_ONE > ARENA:
        flush(t)


@njit(nogil=True)
def queue(t, transport, size):
    """Queue the packet of `size` bytes at the arena's end for `transport`."""
    # Equal sizes to one destination grow one message; a smaller segment ends it (UDP_SEGMENT's rule).
    at = t.shared[Shared.ARENA_USED]
    t.shared[Shared.ARENA_USED] = at + size
    last = t.shared[Shared.MESSAGES_QUEUED] - 1
    segment = t.shared[Shared.SEGMENT_SIZE]
    if (
        t.shared[Shared.OPEN_TRANSPORT] == transport
        and size <= segment
        and t.outbox_counts[last] < MAX_SEGMENTS
        and t.outbox_vectors[last, 1] + np.uint64(size) <= MAX_MESSAGE
    ):
        t.outbox_vectors[last, 1] += np.uint64(size)
        t.outbox_counts[last] += 1
        if t.outbox_counts[last] == 2:
            t.outbox_headers[last, 4] = t.outbox_segments[last].ctypes.data
            t.outbox_headers[last, 5] = np.uint64(24)
            t.outbox_segments[last, 16] = segment & 255
            t.outbox_segments[last, 17] = segment >> 8
        if size < segment:
            t.shared[Shared.OPEN_TRANSPORT] = -1
        return
    if last + 1 == MESSAGES:
        # The packet just written lies beyond what is flushed: send the others, then start with it at its place.
        _send_queued(t)
        last = -1
    message = last + 1
    t.outbox_vectors[message, 0] = t.arena.ctypes.data + np.uint64(at)
    t.outbox_vectors[message, 1] = np.uint64(size)
    t.outbox_counts[message] = 1
    t.outbox_transports[message] = transport
    t.outbox_headers[message, 0] = t.sockaddrs[transport].ctypes.data
    t.outbox_headers[message, 1] = np.uint64(t.transports[transport].address_size)
    t.outbox_headers[message, 4] = np.uint64(0)
    t.outbox_headers[message, 5] = np.uint64(0)
    t.shared[Shared.MESSAGES_QUEUED] = message + 1
    t.shared[Shared.SEGMENT_SIZE] = size
    grows = t.shared[Shared.USE_GSO] != 0 and size <= LARGEST_SEGMENT and not t.transports[transport].gso_refused
    t.shared[Shared.OPEN_TRANSPORT] = transport if grows else -1


@njit(nogil=True)
def flush(t):
    """Send everything queued and empty the arena."""
    _send_queued(t)
    t.shared[Shared.ARENA_USED] = 0


@njit(nogil=True)
def _send_queued(t):
    queued = t.shared[Shared.MESSAGES_QUEUED]
    t.shared[Shared.MESSAGES_QUEUED] = 0
    t.shared[Shared.OPEN_TRANSPORT] = -1
    done = 0
    while done < queued:
        sent = _send_messages(t, done, queued - done)
        if sent <= 0:
            _give_up_or_split(t, done)
        done += max(sent, 1)
    read_clock(t)


@njit(nogil=True)
def _send_messages(t, first, count):
    """Send messages `first` and following, as far as they share a socket, in one call.

    Returns how many left, 0 or less when the first did not.
    """
    where = t.outbox_headers.ctypes.data + np.uint64(64 * first)
    socket = t.transports[t.outbox_transports[first]].socket
    alike = 1
    while alike < count and t.transports[t.outbox_transports[first + alike]].socket == socket:
        alike += 1
    sent = sendmmsg(np.int32(t.sockets[socket]), where, np.uint32(alike), np.int32(MSG_DONTWAIT))
    t.counters[Count.SEND_CALLS] += np.uint64(1)
    for i in range(first, first + sent):
        t.counters[Count.SENT] += np.uint64(t.outbox_counts[i])
        t.counters[Count.SENT_BYTES] += t.outbox_vectors[i, 1]
        t.counters[Count.GSO_MESSAGES] += np.uint64(t.outbox_counts[i] > 1)
    return sent


@njit(nogil=True)
def _give_up_or_split(t, message):
    # A full socket buffer drops the message. A refused GSO message leaves in pieces, and no more are made: for anyone
    # when the device refuses (EIO), else for this destination (its path takes no segment of that size).
    memcpy(t.scratch[4:].ctypes.data, errno_location(), np.uint64(4))
    error = t.scratch[4] & 0xFFFFFFFF
    packets = np.uint64(t.outbox_counts[message])
    if error in (EAGAIN, ENOBUFS, EINTR):
        t.counters[Count.SEND_BUSY] += packets
    elif packets == 1 or error not in (EIO, EINVAL):
        t.counters[Count.SEND_FAILED] += packets
    else:
        t.counters[Count.GSO_REFUSED] += np.uint64(1)
        if error == EIO:
            t.shared[Shared.USE_GSO] = 0
        t.transports[t.outbox_transports[message]].gso_refused = 1
        _send_singly(t, message)


@njit(nogil=True)
def _send_singly(t, message):
    segment = np.int64(t.outbox_segments[message, 16]) | (np.int64(t.outbox_segments[message, 17]) << 8)
    start, total = t.outbox_vectors[message, 0], np.int64(t.outbox_vectors[message, 1])
    t.outbox_headers[message, 4] = np.uint64(0)
    t.outbox_headers[message, 5] = np.uint64(0)
    t.outbox_counts[message] = 1
    for at in range(0, total, segment):
        t.outbox_vectors[message, 0] = start + np.uint64(at)
        t.outbox_vectors[message, 1] = np.uint64(min(segment, total - at))
        if _send_messages(t, message, 1) <= 0:
            t.counters[Count.SEND_FAILED] += np.uint64(1)


@njit(nogil=True)
def read_report(t, track):
    """Return the publisher's newest report on a track, which another worker may be writing: NTP and RTP time, arrival.

    The first is 0 where there is none to read.
    """
    row = t.tracks[track]
    version = row.sr_version
    acquire()
    ntp, rtp, arrival_ns = row.sr_ntp, np.int64(row.sr_rtp), np.int64(row.sr_arrival_ns)
    acquire()
    is_whole = version & 1 == 0 and row.sr_version == version
    return ntp if is_whole else np.uint64(0), rtp, arrival_ns


@njit(nogil=True)
def send_report(t, s, now):
    """Send a sender report with CNAME for one subscription (RFC 3550 section 6.4.1).

    NTP time is the publisher's own clock extrapolated from its last report, the same for its sound and its picture, so
    that players keep them together; the RTP time is that moment through the subscription's own mapping.
    """
    subscription = t.subscriptions[s]
    track = t.tracks[subscription.track]
    sr_ntp, sr_rtp, sr_arrival_ns = read_report(t, np.int64(subscription.track))
    if sr_ntp == 0 or subscription.anchored == 0:
        return
    # Not quite the same second for all, so that they do not come in one burst for ever.
    t.subscriptions[s].sr_due_ns = now + SECOND_NS + (s & 31) * SPREAD_NS
    make_room(t)
    elapsed = now - sr_arrival_ns
    ntp = sr_ntp + np.uint64(elapsed / 1e9 * NTP_FRACTION)
    ts = sr_rtp + elapsed * track.clock_rate // SECOND_NS + subscription.ts_delta
    out, at = t.arena, t.shared[Shared.ARENA_USED]
    out[at], out[at + 1] = 0x80, 200
    write_u16(out, at + 2, 6)
    write_u32(out, at + 4, np.int64(subscription.ssrc))
    write_u32(out, at + 8, np.int64(ntp >> np.uint64(32)))
    write_u32(out, at + 12, np.int64(ntp & np.uint64(0xFFFFFFFF)))
    write_u32(out, at + 16, ts)
    write_u32(out, at + 20, np.int64(subscription.packets))
    write_u32(out, at + 24, np.int64(subscription.octets))
    write_cname(out, at + 28, np.int64(subscription.ssrc))
    if seal_rtcp(t, np.int64(subscription.transport), 44):
        t.counters[Count.SENDER_REPORTS] += np.uint64(1)


@njit(nogil=True)
def write_cname(out, at, ssrc):
    """Write a source description of 16 octets (RFC 3550 section 6.5.1)."""
    out[at], out[at + 1] = 0x81, 202
    write_u16(out, at + 2, 3)
    write_u32(out, at + 4, ssrc)
    out[at + 8], out[at + 9] = 1, 4
    for i in range(4):
        out[at + 10 + i] = CNAME[i]
    write_u16(out, at + 14, 0)


@njit(nogil=True)
def seal_rtcp(t, transport, size):
    """Protect the RTCP of `size` bytes at the arena's end and queue it; returns whether it is on its way."""
    context = t.transports[transport].tx
    if context == 0:
        t.counters[Count.NO_DESTINATION] += np.uint64(1)
        return False
    t.scratch[2] = size
    at = t.shared[Shared.ARENA_USED]
    if srtp_protect_rtcp(context, t.arena.ctypes.data + np.uint64(at), t.scratch[2:].ctypes.data) != 0:
        t.counters[Count.PROTECT_FAILED] += np.uint64(1)
        return False
    queue(t, transport, t.scratch[2] & 0xFFFFFFFF)
    return True
