"""Compiled: a cached packet under a subscription's own numbers, once and as often as it is asked for.

Reads cache and subscriptions; writes the arena, and of subscriptions and transports what was sent. A packet that leaves
again without RTX has the same octets, padding and all: one nonce for two plaintexts gives GCM's key away (RFC 7714
section 9.1). Said in plain Python in reference.py; judged by tests/media/test_reference.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.choices import EMPTY, MARKED
from media.forwarding.kernel.mirroring import still_there
from media.forwarding.kernel.pictures import note_picture, renumber_picture
from media.forwarding.kernel.reports import apart
from media.forwarding.kernel.sending import protect_and_queue, write_packet
from media.forwarding.tables import CACHE, Shared

FLOOR_FRAMES = 64  # more than the half second has by which a layer may be behind another
REPLAY_TICKS = 90  # 1 ms at 90 kHz between replayed frames: players show them at once and stall nowhere


@njit(nogil=True)
def outgoing_ts(t, s, track, slot):
    """Return the timestamp under which a subscription sees a cached packet; the same at each retransmission."""
    info = t.cache_info[track, slot]
    subscription = t.subscriptions[s]
    ts = np.int64(info.ts)
    if info.frame_no <= subscription.anchor_frame:
        ts = subscription.anchor_ts - REPLAY_TICKS * (subscription.anchor_frame - info.frame_no)
    ts += subscription.ts_delta
    since = np.int64(info.frame_no - subscription.floor_frame)
    if subscription.floor_frame >= 0 and 0 <= since < FLOOR_FRAMES:
        least = subscription.floor_ts + REPLAY_TICKS * (since + 1)
        return least if apart(ts, least) < 0 else ts
    return ts


@njit(nogil=True)
def send_cached(t, s, track, ext_seq, seq, fate, shift, now):
    """Send one cached packet under the number `seq` to one subscription, whose admission the caller has just seen.

    `fate` says with which marker, or whether without its payload; `shift` is added to its picture's number.
    """
    slot = ext_seq % CACHE
    subscription = t.subscriptions[s]
    transport, stamp = np.int64(subscription.transport), np.int64(subscription.stamp)
    payload_type, ssrc = np.int64(subscription.payload_type), np.int64(subscription.ssrc)
    pad, ts = np.int64(0 if fate == EMPTY else t.cache_info[track, slot].pad), outgoing_ts(t, s, track, slot)
    size, octets = _write(t, s, track, slot, fate, shift, payload_type, ssrc, seq, ts, -1, pad)
    if not (still_there(t, s, track, ext_seq) and protect_and_queue(t, transport, size, seq, stamp)):
        return
    t.subscriptions[s].packets += np.uint64(1)
    t.subscriptions[s].octets += np.uint64(octets)
    t.transports[transport].delivered_ns = now
    t.transports[transport].packets += np.uint64(1)
    t.transports[transport].octets += np.uint64(size)
    if seq > subscription.last_seq:
        t.subscriptions[s].last_seq = seq
        t.subscriptions[s].last_ts = ts
        t.subscriptions[s].last_ns = now
        note_picture(t, s, track, slot, shift)


@njit(nogil=True)
def send_repair(t, s, track, ext_seq, seq, fate, shift, pad, now):
    """Send again what a subscription got under the number `seq`; the caller has seen that it is there and admitted.

    `pad` octets of padding are added where it goes through RTX.
    """
    subscription = t.subscriptions[s]
    transport, stamp, slot = np.int64(subscription.transport), np.int64(subscription.stamp), ext_seq % CACHE
    ts = outgoing_ts(t, s, track, slot)
    if subscription.rtx_payload_type:
        t.subscriptions[s].rtx_seq += 1
        payload_type, ssrc = np.int64(subscription.rtx_payload_type), np.int64(subscription.rtx_ssrc)
        sent_as = np.int64(t.subscriptions[s].rtx_seq)
        size, _ = _write(t, s, track, slot, fate, shift, payload_type, ssrc, sent_as, ts, seq & 0xFFFF, pad)
    else:
        payload_type, ssrc = np.int64(subscription.payload_type), np.int64(subscription.ssrc)
        sent_as, pad = seq, np.int64(0 if fate == EMPTY else t.cache_info[track, slot].pad)
        size, _ = _write(t, s, track, slot, fate, shift, payload_type, ssrc, seq, ts, -1, pad)
    if not (still_there(t, s, track, ext_seq) and protect_and_queue(t, transport, size, sent_as, stamp)):
        return False
    t.transports[transport].delivered_ns = now
    return True


@njit(nogil=True)
def _write(t, s, track, slot, fate, shift, payload_type, ssrc, seq, ts, osn, pad):
    """Write a packet at the arena's end, through RTX where `osn` >= 0; returns its size, and that of its payload."""
    info = t.cache_info[track, slot]
    is_empty = fate == EMPTY
    marker = not is_empty and (fate == MARKED or info.marker != 0)
    size, start = write_packet(t, s, payload_type, marker, ssrc, seq, ts, track, slot, is_empty, osn, pad)
    if is_empty:
        return size, np.int64(0)
    renumber_picture(t, s, track, slot, start, shift)
    return size, t.shared[Shared.ARENA_USED] + size - start - pad
