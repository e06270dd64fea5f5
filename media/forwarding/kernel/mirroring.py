"""Compiled: packets for the viewers of other workers: whoever received one tells them of it, and they fan it out.

Told is where a packet is, not what is in it: the cache is common to all workers. For each pair of workers there is a
ring with one writer and one reader, and only those who have a viewer of the track are told. A full ring costs those
viewers the packet, which they ask for again as for any that is lost; the publisher's worker never waits.

A reader may be so far behind that a packet's place was taken by a newer one while it copied it: whoever copies looks
afterwards whether it was there all the time (`still_there`), and sends it only then.

Cost: some 10 ns a packet and worker, and a wake-up (1 us) of a worker that sleeps. Judged by
tests/media/test_workers.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import BATCH, CACHE, NOTICES, UNPLANNED, Count, Shared
from media.io.native import write
from media.io.ordering import acquire, full, release


@njit(nogil=True)
def tell_others(t, waiting):
    """Tell the workers with viewers of the packets in `pending`, sorted by track, of them."""
    mine = t.shared[Shared.WORKER]
    for worker in range(t.shared[Shared.WORKERS]):
        if worker != mine and _tell(t, waiting, worker, mine):
            full()
            if t.asleep[worker, 0]:
                t.asleep[worker, 0] = 0
                t.scratch[11] = 1
                write(np.int32(t.wakes[worker]), t.scratch[11:].ctypes.data, np.uint64(8))


@njit(nogil=True)
def _tell(t, waiting, worker, mine):
    head = t.notice_heads[worker, mine, 0]
    free = NOTICES - (head - t.notice_tails[worker, mine, 0])
    acquire()
    told = 0
    for i in range(waiting):
        track = np.int64(t.pending[i].track)
        if not (np.int64(t.tracks[t.tracks[track].head].workers) >> worker) & 1:
            continue
        if told == free:
            t.counters[Count.MIRROR_FULL] += np.uint64(1)
            continue
        slot = (head + told) % NOTICES
        t.notices[worker, mine, slot].track = track
        t.notices[worker, mine, slot].restarts = t.pending[i].restarts
        t.notices[worker, mine, slot].ext_seq = t.pending[i].ext_seq
        t.notices[worker, mine, slot].came_ns = t.pending[i].came_ns
        told += 1
    release()
    t.notice_heads[worker, mine, 0] = head + told
    t.counters[Count.MIRRORED] += np.uint64(told)
    return told > 0


@njit(nogil=True)
def take_notices(t):
    """Put a batch of what others told of into `pending`; returns (how many are there, of how many they told)."""
    mine = t.shared[Shared.WORKER]
    waiting, taken = 0, 0
    for worker in range(t.shared[Shared.WORKERS]):
        head, tail = t.notice_heads[mine, worker, 0], t.notice_tails[mine, worker, 0]
        acquire()
        while tail < head and taken < BATCH:
            notice = t.notices[mine, worker, tail % NOTICES]
            tail += 1
            taken += 1
            if _is_there(t, notice.track, notice.ext_seq, notice.restarts):
                t.pending[waiting].track = notice.track
                t.pending[waiting].restarts = notice.restarts
                t.pending[waiting].ext_seq = notice.ext_seq
                t.pending[waiting].came_ns = notice.came_ns
                waiting += 1
            else:
                t.counters[Count.OVERTAKEN] += np.uint64(1)
        release()
        t.notice_tails[mine, worker, 0] = tail
    return waiting, taken


@njit(nogil=True)
def _is_there(t, track, ext_seq, restarts):
    slot = ext_seq % CACHE
    is_there = t.cache_info[track, slot].pad != UNPLANNED and t.cache_seq[track, slot] == ext_seq
    acquire()
    return is_there and t.tracks[track].restarts == restarts


@njit(nogil=True)
def still_there(t, s, track, ext_seq):
    """Whether a packet that was just copied for a subscription is in the cache still, and of the same source."""
    acquire()
    is_there = t.cache_seq[track, ext_seq % CACHE] == ext_seq
    acquire()
    if is_there and t.tracks[track].restarts == t.subscriptions[s].restarts:
        return True
    t.counters[Count.OVERTAKEN] += np.uint64(1)
    return False


@njit(nogil=True)
def fall_asleep(t):
    """Have whoever tells this worker of packets wake it; returns whether there are some already."""
    mine = t.shared[Shared.WORKER]
    t.asleep[mine, 0] = 1
    full()
    for worker in range(t.shared[Shared.WORKERS]):
        if t.notice_heads[mine, worker, 0] != t.notice_tails[mine, worker, 0]:
            t.asleep[mine, 0] = 0
            return True
    return False
