"""Compiled: who has just become able to receive gets the newest picture at once, not with the next packet of its track.

Python writes the transport into a ring and wakes the thread; what is sent follows the same rules as if the newest
packet that this worker's viewers were told of came again, for that viewer alone. Cost: 0.2 us a newcomer, and what its
packets cost. Judged by tests/media/test_newcomers.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.choosing import offer
from media.forwarding.kernel.fanout import is_anchored, start_subscription
from media.forwarding.kernel.pacing import was_told
from media.forwarding.kernel.sending import flush, make_room, read_clock
from media.forwarding.kernel.verdicts import ADMITTED, admitted, required_of_all
from media.forwarding.tables import CACHE, NEWCOMERS, VIDEO, Shared
from media.io.ordering import acquire, release


@njit(nogil=True)
def welcome_newcomers(t):
    """Begin with everybody in the ring, the oldest first."""
    head = t.shared[Shared.NEWCOMERS_HEAD]
    acquire()
    for number in range(t.shared[Shared.NEWCOMERS_TAIL], head):
        _welcome(t, np.int64(t.newcomers[number % NEWCOMERS]))
    release()
    t.shared[Shared.NEWCOMERS_TAIL] = head
    flush(t)


@njit(nogil=True)
def _welcome(t, transport):
    row = t.transports[transport]
    if row.active == 0 or row.publishes != 0 or row.tx == 0 or row.address_size == 0:
        return  # it went meanwhile, or has to be nominated first
    for place in range(t.payload_types.shape[1]):
        listed = t.payload_types[transport, place]
        if listed == 0:
            return
        s = np.int64(listed) - 1
        if t.subscriptions[s].active != 0 and t.subscriptions[s].transport == transport:
            _begin(t, s, np.int64(t.subscriptions[s].wanted), transport)


@njit(nogil=True)
def _begin(t, s, track, transport):
    """Start a picture as if the newest packet came now; sound goes on with its next one, some milliseconds later."""
    newest = np.int64(t.tracks[track].highest_ext_seq)
    if t.tracks[track].kind != VIDEO or t.tracks[track].ssrc == 0 or t.tracks[track].active == 0:
        return
    if is_anchored(t, s, track) or not was_told(t, track, newest):
        return
    make_room(t)
    now = read_clock(t)
    reason = admitted(t, transport, required_of_all(t, track), now)
    if reason != ADMITTED:
        t.counters[reason] += np.uint64(1)
        return
    is_key = t.cache_info[track, newest % CACHE].is_key != 0
    came_ns = np.int64(t.tracks[track].last_keyframe_ns if is_key else t.tracks[track].last_ns)
    if not start_subscription(t, s, track, newest, came_ns, now) and is_anchored(t, s, track):
        offer(t, s, track, newest, now)  # with it a picture begins
