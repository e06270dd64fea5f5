"""Compiled: which subscription gets which cached packet, and under which numbers.

Cost: 20-40 ns a subscription that gets nothing, else see sending.py. Reads rooms, transports, tracks, cache; writes
subscriptions, padding in the cache, and counters. Said in plain Python in reference.py; judged by
tests/media/test_reference.py and test_forwarder.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.choices import AWAITED, EMPTY
from media.forwarding.kernel.choosing import choose_all, given_to, offer
from media.forwarding.kernel.outgoing import REPLAY_TICKS, send_repair
from media.forwarding.kernel.pacing import has_to_wait, let_wait, note_told, skip_backlog
from media.forwarding.kernel.pictures import number_pictures
from media.forwarding.kernel.reports import captured_later
from media.forwarding.kernel.sending import make_room, read_clock, send_report
from media.forwarding.kernel.verdicts import ADMITTED, admitted, required_of, required_of_all
from media.forwarding.tables import CACHE, UNPLANNED, VIDEO, Count, Shared
from media.io.ordering import acquire

REPLAY_NS = 500_000_000  # an older keyframe is not replayed: asking for a new one is quicker than decoding that much
PAD_LIMIT = 32  # octets of padding that cost less than a message of their own
RTX_RATE = 250_000  # bytes a second of retransmission for one subscription: twice a 1 Mbit/s stream
RTX_BURST = 250_000
SECOND_NS = 1_000_000_000


@njit(nogil=True)
def plan_padding(sizes, pads, count):
    """Choose `pads` so that packets of `sizes` (both int64) leave in few GSO messages.

    Segments of one message are equal, only the last may be smaller.
    Encoders cut a frame into nearly equal packets; without padding each that is a byte larger began a message.
    """
    first = 0
    while first < count:
        least = most = sizes[first]
        stop = first + 1
        while stop < count and max(most, sizes[stop]) - min(least, sizes[stop]) <= PAD_LIMIT:
            least, most = min(least, sizes[stop]), max(most, sizes[stop])
            stop += 1
        for i in range(first, stop):
            pads[i] = most - sizes[i]
        if stop < count and sizes[stop] < most:
            stop += 1
        pads[stop - 1] = 0  # a smaller one ends the message as it is
        first = stop


@njit(nogil=True)
def fan_out(t, start, stop):
    """Forward a run of cached packets of one track (`pending[start:stop]`) to the worker's viewers of its layer."""
    track = np.int64(t.pending[start].track)
    for i in range(start, stop):
        note_told(t, track, np.int64(t.pending[i].ext_seq))
    s = np.int64(t.first_subscriptions[t.tracks[track].head])
    while s >= 0:
        if t.subscriptions[s].track == track or t.subscriptions[s].wanted == track:
            forward_run(t, s, track, start, stop)
        s = np.int64(t.subscriptions[s].next)


@njit(nogil=True)
def plan_pads(t, start, stop):
    """Choose with how much padding a run of packets that just came leaves.

    The plan is the same for every viewer, and for ever: who gets a packet twice must get the same octets, since one
    nonce for two plaintexts gives GCM's key away (RFC 7714 section 9.1). An empty packet carries one octet already.
    """
    track = np.int64(t.pending[start].track)
    for i in range(start, stop):
        t.plan_sizes[i - start] = max(np.int64(t.cache_info[track, t.pending[i].ext_seq % CACHE].size), 1)
        t.plan_pads[i - start] = 0
    if t.shared[Shared.USE_GSO]:
        plan_padding(t.plan_sizes, t.plan_pads, stop - start)
    for i in range(start, stop):
        slot = t.pending[i].ext_seq % CACHE
        t.cache_info[track, slot].pad = t.plan_pads[i - start] + (t.cache_info[track, slot].size == 0)


@njit(nogil=True)
def forward_run(t, s, track, start, stop):
    """Forward a run to one subscription, admission first.

    It may be of the layer that the subscription is to get next, and then begins where a decoder can go over to it.
    """
    transport = np.int64(t.subscriptions[s].transport)
    row = t.transports[transport]
    if row.tx == 0 or row.address_size == 0:
        t.counters[Count.NO_DESTINATION] += np.uint64(stop - start)
        return
    for i in range(start, stop):
        make_room(t)
        now = t.shared[Shared.NOW]
        reason = admitted(t, transport, required_of_all(t, track), now)
        if reason != ADMITTED:
            t.counters[reason] += np.uint64(1)
            if t.subscriptions[s].track == track:
                t.subscriptions[s].anchored = 0
                skip_backlog(t, s)
            continue
        ext_seq = np.int64(t.pending[i].ext_seq)
        if not is_anchored(t, s, track):
            if start_subscription(t, s, track, ext_seq, np.int64(t.pending[i].came_ns), now):
                continue
            if not is_anchored(t, s, track):
                continue
        if ext_seq < t.subscriptions[s].anchor_ext_seq:
            t.counters[Count.BEFORE_ANCHOR] += np.uint64(1)
            continue
        if not has_to_wait(t, s, track, transport, ext_seq, now):
            offer(t, s, track, ext_seq, now)
    if t.shared[Shared.NOW] >= t.subscriptions[s].sr_due_ns:
        send_report(t, s, t.shared[Shared.NOW])


@njit(nogil=True)
def is_anchored(t, s, track):
    """Whether a subscription gets this layer, from a place that still holds."""
    row = t.subscriptions[s]
    return row.track == track and row.anchored != 0 and row.restarts == t.tracks[track].restarts


@njit(nogil=True)
def start_subscription(t, s, track, ext_seq, packet_came_ns, now):
    """Anchor a subscription at this packet, or at the track's last keyframe; returns whether that sent the packet.

    Video starts only where a decoder can: at a keyframe, or by replaying a young one and what followed it. What came
    before the room began to require less was for others, and stays with them: the last of a one-to-one, for instance.
    That moment is read after the verdict, and written before the requirement; and when the keyframe came is read
    before its number, and written after it.
    """
    slot = ext_seq % CACHE
    goes_over = t.subscriptions[s].track != track  # meanwhile it gets the layer that it had
    if not goes_over:
        t.subscriptions[s].anchored = 0
    opened_ns = t.rooms[t.tracks[track].room].opened_ns
    if packet_came_ns < opened_ns:
        t.counters[Count.BEFORE_ANCHOR] += np.uint64(not goes_over)
        return False
    if t.tracks[track].kind != VIDEO or t.cache_info[track, slot].is_key:
        anchor(t, s, track, ext_seq, np.int64(t.cache_info[track, slot].ts), now)
        return False
    came_ns = t.tracks[track].last_keyframe_ns
    acquire()
    key = np.int64(t.tracks[track].key_ext_seq)
    young = now - came_ns < REPLAY_NS and came_ns >= opened_ns
    if key < 0 or not young or t.cache_seq[track, key % CACHE] != key or ext_seq < key:
        t.counters[Count.AWAITING_KEYFRAME] += np.uint64(not goes_over)
        if t.tracks[track].keyframe_wanted == 0:
            t.tracks[track].keyframe_wanted = 1
            t.shared[Shared.ATTENTION] = 1
        return False
    replay(t, s, track, key, ext_seq, now)
    return True


@njit(nogil=True)
def anchor(t, s, track, ext_seq, ts, now):
    """Let outgoing numbers go on from the last sent, from source packet `ext_seq` with timestamp `ts`."""
    skip_backlog(t, s)
    subscription = t.subscriptions[s]
    t.subscriptions[s].seq_delta = subscription.last_seq + 1 - ext_seq
    if subscription.last_ns == 0:
        t.subscriptions[s].ts_delta = 0
        t.subscriptions[s].floor_frame = -1
    else:
        elapsed = (now - subscription.last_ns) * t.tracks[track].clock_rate // SECOND_NS
        former = np.int64(subscription.track)
        if former != track and subscription.restarts == t.tracks[former].restarts:
            elapsed = captured_later(t, former, subscription.last_ts - subscription.ts_delta, track, ts, elapsed)
        t.subscriptions[s].floor_frame = t.cache_info[track, ext_seq % CACHE].frame_no if elapsed < 0 else -1
        t.subscriptions[s].floor_ts = subscription.last_ts
        t.subscriptions[s].ts_delta = subscription.last_ts + (elapsed if elapsed < 0 else max(elapsed, 1)) - ts
    t.counters[Count.SWITCHES] += np.uint64(subscription.track != track)
    number_pictures(t, s, track, ext_seq)
    t.subscriptions[s].track = track
    t.subscriptions[s].anchor_ext_seq = ext_seq
    t.subscriptions[s].anchor_frame = -1
    t.subscriptions[s].restarts = t.tracks[track].restarts
    choose_all(t, s)
    t.subscriptions[s].anchored = 1
    t.subscriptions[s].sr_due_ns = now


@njit(nogil=True)
def replay(t, s, track, key, newest, now):
    """Send the last keyframe and what followed it, with timestamps squeezed so that players catch up at once.

    To those whose way is known it leaves as that has room.
    """
    frame = t.cache_info[track, newest % CACHE].frame_no
    ts = np.int64(t.cache_info[track, newest % CACHE].ts)
    first = ts - REPLAY_TICKS * (frame - t.cache_info[track, key % CACHE].frame_no)
    anchor(t, s, track, key, first, now)
    t.subscriptions[s].anchor_frame = frame
    t.subscriptions[s].anchor_ts = ts
    if t.transports[t.subscriptions[s].transport].octet_ns:
        let_wait(t, s, newest, now)
        return
    for ext_seq in range(key, newest + 1):
        if t.cache_seq[track, ext_seq % CACHE] == ext_seq:
            make_room(t)
            t.counters[Count.REPLAYED] += np.uint64(1)
            offer(t, s, track, ext_seq, now)


@njit(nogil=True)
def answer_nack(t, s, seq16):
    """Send one lost packet again, through RTX where negotiated (RFC 4588), else as it was, if still admitted."""
    subscription = t.subscriptions[s]
    track, transport = np.int64(subscription.track), np.int64(subscription.transport)
    make_room(t)
    now = read_clock(t)
    reason = admitted(t, transport, required_of_all(t, track), now)
    if reason != ADMITTED or subscription.anchored == 0 or subscription.restarts != t.tracks[track].restarts:
        t.counters[reason if reason != ADMITTED else np.int64(Count.BEFORE_ANCHOR)] += np.uint64(1)
        return
    behind = (subscription.last_seq - seq16) & 0xFFFF
    seq = subscription.last_seq - behind
    ext_seq, fate, shift = given_to(t, s, seq)
    slot = ext_seq % CACHE
    info = t.cache_info[track, slot]
    # The packet itself again would have another stamp under the same nonce, which gives GCM's key away.
    is_repairable = subscription.stamp == 0 or subscription.rtx_payload_type != 0
    is_there = t.cache_seq[track, slot] == ext_seq and info.pad != UNPLANNED and fate != AWAITED
    if not (is_repairable and is_there and ext_seq >= subscription.anchor_ext_seq):
        t.counters[Count.RETRANSMISSION_GONE] += np.uint64(1)
        return
    reason = admitted(t, transport, required_of(t, track, slot), now)
    if fate != EMPTY and reason != ADMITTED:
        t.counters[reason] += np.uint64(1)
        return
    if not _spend(t, s, np.int64(0 if fate == EMPTY else info.size) + 40, now):
        t.counters[Count.RETRANSMISSION_BUDGET] += np.uint64(1)
        return
    if send_repair(t, s, track, ext_seq, seq, fate, shift, 0, now):
        t.counters[Count.RETRANSMITTED] += np.uint64(1)


@njit(nogil=True)
def _spend(t, s, size, now):
    # A token bucket of bytes: a viewer that asks for everything again costs a bounded amount.
    elapsed = min(now - t.subscriptions[s].rtx_refilled_ns, SECOND_NS)
    tokens = min(t.subscriptions[s].rtx_tokens + elapsed * RTX_RATE // SECOND_NS, RTX_BURST)
    t.subscriptions[s].rtx_refilled_ns = now
    if tokens < size:
        t.subscriptions[s].rtx_tokens = tokens
        return False
    t.subscriptions[s].rtx_tokens = tokens - size
    return True
