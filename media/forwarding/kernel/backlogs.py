"""Compiled: pictures that wait leave as their viewers' ways have room, after they were asked for anew whether they may.

The cache is the queue: what was overtaken there is left out, and the viewer goes on with the next keyframe; so does who
is late where a newer keyframe is there. Cost: some 10 ns a viewer that waits, every two milliseconds, and for each
packet what it costs else. Said in plain Python in reference/pacing.py; judged by tests/media/test_pacing.py and
test_reference.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.backlogs import EVERY_NS, LONGEST_NS, SKIP_NS
from media.forwarding.kernel.choosing import offer
from media.forwarding.kernel.fanout import REPLAY_NS, is_anchored, replay
from media.forwarding.kernel.pacing import has_room, newest_offered, skip_backlog, was_told
from media.forwarding.kernel.probing import probe_if_due
from media.forwarding.kernel.sending import make_room
from media.forwarding.kernel.verdicts import ADMITTED, admitted, required_of_all
from media.forwarding.tables import CACHE, Count, Shared
from media.io.ordering import acquire


@njit(nogil=True)
def send_waiting(t):
    """Send what there is room for, of all of this worker's viewers that wait."""
    now = t.shared[Shared.NOW]
    if now < t.shared[Shared.WAITING_DUE]:
        return
    t.shared[Shared.WAITING_DUE] = now + EVERY_NS
    kept = 0
    for i in range(t.shared[Shared.WAITING]):
        s = np.int64(t.waiting[i])
        if t.subscriptions[s].active and t.subscriptions[s].waits:
            _send_backlog(t, s, now)
        if t.subscriptions[s].active and t.subscriptions[s].waits:
            t.waiting[kept] = s
            kept += 1
        else:
            t.backlogs[s].listed = 0
    t.shared[Shared.WAITING] = kept


@njit(nogil=True)
def _send_backlog(t, s, now):
    track, transport = np.int64(t.subscriptions[s].track), np.int64(t.subscriptions[s].transport)
    if not is_anchored(t, s, track):
        skip_backlog(t, s)
        return
    if now - t.backlogs[s].since_ns > SKIP_NS:
        _skip_to_keyframe(t, s, track, now)
    is_late = now - t.backlogs[s].since_ns > LONGEST_NS
    to = np.int64(t.backlogs[s].to)
    ext_seq = newest_offered(t, s) + 1
    while ext_seq <= to and t.subscriptions[s].waits:
        if not is_late and not has_room(t, transport, now):
            return
        _send_if_there(t, s, track, transport, ext_seq)
        ext_seq += 1
    t.subscriptions[s].waits = 0
    if is_late:
        t.transports[transport].taken_ns = min(np.int64(t.transports[transport].taken_ns), now)
    if t.cache_info[track, to % CACHE].marker:
        probe_if_due(t, s, track)


@njit(nogil=True)
def _skip_to_keyframe(t, s, track, now):
    """Go on with a newer keyframe, if it is in the cache and as young as those that viewers begin with."""
    came_ns = t.tracks[track].last_keyframe_ns
    acquire()
    key, to = np.int64(t.tracks[track].key_ext_seq), np.int64(t.backlogs[s].to)
    if not newest_offered(t, s) + 1 < key < to:
        return
    may_begin = now - came_ns < REPLAY_NS and came_ns >= t.rooms[t.tracks[track].room].opened_ns
    if may_begin and t.cache_seq[track, key % CACHE] == key and t.cache_seq[track, to % CACHE] == to:
        replay(t, s, track, key, to, now)


@njit(nogil=True)
def _send_if_there(t, s, track, transport, ext_seq):
    """Offer a packet that waited; without the right, or where it was overtaken, nothing more of the backlog leaves."""
    slot = ext_seq % CACHE
    row = t.transports[transport]
    if row.tx == 0 or row.address_size == 0:
        t.counters[Count.NO_DESTINATION] += np.uint64(1)
        return
    make_room(t)
    reason = admitted(t, transport, required_of_all(t, track), t.shared[Shared.NOW])
    if reason != ADMITTED or t.cache_seq[track, slot] > ext_seq:
        t.counters[reason if reason != ADMITTED else np.int64(Count.OVERTAKEN)] += np.uint64(1)
        skip_backlog(t, s)
        t.subscriptions[s].anchored = 0
        return
    if was_told(t, track, ext_seq) and t.cache_seq[track, slot] == ext_seq:
        is_replayed = t.cache_info[track, slot].frame_no <= t.subscriptions[s].anchor_frame
        t.counters[Count.REPLAYED] += np.uint64(is_replayed)
        offer(t, s, track, ext_seq, t.shared[Shared.NOW])
