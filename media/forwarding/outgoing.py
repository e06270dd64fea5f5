"""Compiled: a cached packet under a subscription's own numbers, once and as often as it is asked for.

Reads cache and subscriptions; writes the arena, and of subscriptions and transports what was sent. A packet that leaves
again without RTX has the same octets, padding and all: one nonce for two plaintexts gives GCM's key away (RFC 7714
section 9.1). Said in plain Python in reference.py; judged by tests/media/test_reference.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.choices import EMPTY, MARKED
from media.forwarding.pictures import note_picture, renumber_picture
from media.forwarding.sending import protect_and_queue, write_packet
from media.forwarding.stamps import STAMP_SIZE
from media.forwarding.tables import CACHE, Shared

REPLAY_TICKS = 90  # 1 ms at 90 kHz between replayed frames: players show them at once and stall nowhere


@njit(nogil=True)
def outgoing_ts(t, s, track, slot):
    """Return the timestamp under which a subscription sees a cached packet; the same at each retransmission."""
    info = t.cache_info[track, slot]
    subscription = t.subscriptions[s]
    if info.frame_no <= subscription.anchor_frame:
        squeezed = subscription.anchor_ts - REPLAY_TICKS * (subscription.anchor_frame - info.frame_no)
        return squeezed + subscription.ts_delta
    return info.ts + subscription.ts_delta


@njit(nogil=True)
def header_size(stamp):
    """Return the octets of an RTP header with or without a stamp."""
    return 12 + (STAMP_SIZE if stamp else 0)


@njit(nogil=True)
def send_cached(t, s, track, ext_seq, seq, fate, shift, now):
    """Send one cached packet under the number `seq` to one subscription, whose admission the caller has just seen.

    `fate` says with which marker, or whether without its payload; `shift` is added to its picture's number.
    """
    slot = ext_seq % CACHE
    subscription = t.subscriptions[s]
    transport, stamp = np.int64(subscription.transport), np.int64(subscription.stamp)
    payload_type, ssrc = np.int64(subscription.payload_type), np.int64(subscription.ssrc)
    pad = np.int64(0 if fate == EMPTY else t.cache_info[track, slot].pad)
    size = _write(t, s, track, slot, fate, shift, payload_type, ssrc, seq, -1, pad)
    if not protect_and_queue(t, transport, size, seq, stamp):
        return
    t.subscriptions[s].packets += np.uint64(1)
    t.subscriptions[s].octets += np.uint64(0 if fate == EMPTY else t.cache_info[track, slot].size)
    t.transports[transport].delivered_ns = now
    t.transports[transport].packets += np.uint64(1)
    t.transports[transport].octets += np.uint64(size)
    if seq > subscription.last_seq:
        t.subscriptions[s].last_seq = seq
        t.subscriptions[s].last_ts = outgoing_ts(t, s, track, slot)
        t.subscriptions[s].last_ns = now
        note_picture(t, s, track, slot, shift)


@njit(nogil=True)
def send_repair(t, s, track, ext_seq, seq, fate, shift, pad, now):
    """Send again what a subscription got under the number `seq`; the caller has seen that it is there and admitted.

    `pad` octets of padding are added where it goes through RTX.
    """
    subscription = t.subscriptions[s]
    transport, stamp, slot = np.int64(subscription.transport), np.int64(subscription.stamp), ext_seq % CACHE
    if subscription.rtx_payload_type:
        t.subscriptions[s].rtx_seq += 1
        payload_type, ssrc = np.int64(subscription.rtx_payload_type), np.int64(subscription.rtx_ssrc)
        sent_as = np.int64(t.subscriptions[s].rtx_seq)
        size = _write(t, s, track, slot, fate, shift, payload_type, ssrc, sent_as, seq & 0xFFFF, pad)
    else:
        payload_type, ssrc = np.int64(subscription.payload_type), np.int64(subscription.ssrc)
        sent_as, pad = seq, np.int64(0 if fate == EMPTY else t.cache_info[track, slot].pad)
        size = _write(t, s, track, slot, fate, shift, payload_type, ssrc, seq, -1, pad)
    if not protect_and_queue(t, transport, size, sent_as, stamp):
        return False
    t.transports[transport].delivered_ns = now
    return True


@njit(nogil=True)
def _write(t, s, track, slot, fate, shift, payload_type, ssrc, seq, osn, pad):
    """Write a packet at the arena's end, through RTX where `osn` >= 0; returns its size."""
    info = t.cache_info[track, slot]
    transport, stamp = np.int64(t.subscriptions[s].transport), np.int64(t.subscriptions[s].stamp)
    ts = outgoing_ts(t, s, track, slot)
    octets = np.int64(0 if fate == EMPTY else info.size)
    marker = fate != EMPTY and (fate == MARKED or info.marker != 0)
    size = write_packet(t, transport, stamp, payload_type, marker, ssrc, seq, ts, track, slot, octets, osn, pad)
    if fate != EMPTY:
        start = t.shared[Shared.ARENA_USED] + header_size(stamp) + (2 if osn >= 0 else 0)
        renumber_picture(t, s, track, slot, start, shift)
    return size
