"""Compiled: the source of a track: latched, its sequence numbers extended, its statistics kept, its packets cached.

Writes tracks, cache and counters.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.extensions import keep_descriptor, keep_extensions
from media.forwarding.kernel.layering import note_layers
from media.forwarding.kernel.payload import starts_keyframe, vp8_numbers
from media.forwarding.kernel.payload_cache import put_payload
from media.forwarding.kernel.reports import begin_reports
from media.forwarding.kernel.rtp_headers import unwrap
from media.forwarding.tables import CACHE, UNPLANNED, VIDEO, Count, Shared
from media.io.ordering import release
from media.wire.codecs import Codec

RESTART_JUMP = 1 << 14  # a jump this far ahead is a new start, not a loss
SILENT_NS = 500_000_000  # a second SSRC may follow one that was silent this long
SECOND_NS = 1_000_000_000


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
        if ext_seq > highest + 1 and t.tracks[track].gap == 0:
            t.tracks[track].gap = 1  # after the number, which is read after this is cleared
            t.shared[Shared.ATTENTION] = 1
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
    release()
    t.tracks[track].first_ext_seq = seq + 65_536
    t.tracks[track].highest_ext_seq = seq + 65_535
    t.tracks[track].received = 0
    t.tracks[track].reported_expected = 0
    t.tracks[track].reported_received = 0
    t.tracks[track].jitter_q4 = 0
    t.tracks[track].transit = 0
    t.tracks[track].last_ts = -1
    t.tracks[track].key_ext_seq = -1
    t.tracks[track].key_ts = -1
    t.tracks[track].last_keyframe_ns = 0
    t.tracks[track].playout_delay = -1
    t.tracks[track].layered = 0
    t.structures[track].count = 0
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
def keep(t, transport, track, ext_seq, data, start, size, red_at, ts, now):
    """Cache one decrypted packet, with its frame number and whether a decoder can start with it.

    `red_at` is where in it the newest block of redundant sound begins, 0 for plain sound.
    """
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
    release()  # whoever copies what was there sees afterwards that it is gone
    put_payload(t, track, slot, data.ctypes.data + np.uint64(start), size)
    t.cache_info[track, slot].size = size
    t.cache_info[track, slot].marker = data[1] >> 7
    t.cache_info[track, slot].is_key = is_key
    t.cache_info[track, slot].pad = UNPLANNED
    picture_at, base_at = 0, 0
    if t.tracks[track].codec == Codec.VP8:
        picture_at, base_at = vp8_numbers(data[start : start + size], size)
    t.cache_info[track, slot].picture_at = picture_at
    t.cache_info[track, slot].base_at = base_at
    keep_descriptor(t, transport, data, track, slot)
    note_layers(t, track, ext_seq, data[start : start + size], size, ts)
    t.cache_info[track, slot].ts = ts
    t.cache_info[track, slot].frame_no = frame
    t.cache_info[track, slot].red_at = red_at
    keep_extensions(t, transport, data, track, ext_seq)
    release()
    t.cache_seq[track, slot] = ext_seq
    if is_key and t.tracks[track].kind == VIDEO and ts != t.tracks[track].key_ts and newest:
        t.tracks[track].key_ext_seq = ext_seq
        t.tracks[track].key_ts = ts
        release()
        t.tracks[track].last_keyframe_ns = now
        t.counters[Count.KEYFRAMES] += np.uint64(1)
