"""Compiled: a worker's loop: poll, receive a batch, fan it out, flush, fan out what others received, pass the fence.

It runs outside the GIL and never calls Python. Each turn begins by reading the newest fence and ends, with everything
sent, by publishing it: what was decided before a fence was asked governs every packet that leaves after it is done.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, types

from media.forwarding.kernel.backlogs import send_waiting
from media.forwarding.kernel.fanout import fan_out, plan_pads
from media.forwarding.kernel.mirroring import fall_asleep, take_notices, tell_others
from media.forwarding.kernel.newcomers import welcome_newcomers
from media.forwarding.kernel.probing import probe_if_due
from media.forwarding.kernel.receiving import receive
from media.forwarding.kernel.reporting import next_report_ms, send_reports
from media.forwarding.kernel.sending import flush, read_clock
from media.forwarding.memory import LAYOUT
from media.forwarding.tables import BATCH, CACHE, PENDINGS, VIDEO, Count, Shared
from media.io.compiled import keep_compiled
from media.io.native import MSG_DONTWAIT, POLLIN, nanosleep, poll, read, recvmmsg, write

IDLE_MS = 100  # the thread looks up this often although nothing arrived; only a lost wake-up would need it
PACED_MS = 5  # and this often while pictures wait, as libwebrtc's pacer does
NAP_NS = 100_000  # 0.1 ms (and the timer's slack): a frame's packets follow each other faster than that, or not at all
NAPS = 4  # delay added to a frame stays below 1 ms
NAP_SUBSCRIPTIONS = 8  # below, the sleep costs more than it saves
# In dense traffic passes begin no more often: a wake-up and its system calls then serve several, and more of a frame
# leaves together. With all naps it adds less than 2 ms.
PASS_NS = 1_000_000
ROUNDS = 4  # batches of one turn: bounds the time between two fences


keep_compiled("kernel", __file__)
_LAYOUT = types.Array(numba.from_dtype(LAYOUT), 1, "C")


@njit(nogil=True)
def turn(t):
    """Receive what is there and send all that follows from it; returns the size of the last batch."""
    waiting, got, naps = 0, 0, 0
    while True:
        before = waiting
        waiting, got = receive_batch(t, waiting)
        if naps > 0:
            learn_from_nap(t, before, waiting)
        if naps == NAPS or waiting == 0 or waiting > PENDINGS - BATCH or not worth_waiting(t, waiting):
            break
        t.scratch[14], t.scratch[15] = 0, NAP_NS
        nanosleep(t.scratch[14:].ctypes.data, np.uint64(0))
        naps += 1
    waiting = forget_overtaken(t, waiting)
    sort_by_track(t, waiting)
    start = 0
    while start < waiting:
        stop = end_of_run(t, start, waiting)
        plan_pads(t, start, stop)
        start = stop
    if t.shared[Shared.WORKERS] > 1 and waiting > 0:
        tell_others(t, waiting)
    send_reports(t)
    fan_out_runs(t, waiting)
    return got


@njit(nogil=True)
def mirror(t):
    """Send a batch that other workers received to the viewers of this one; returns of how many packets those told."""
    read_clock(t)
    waiting, taken = take_notices(t)
    sort_by_track(t, waiting)
    fan_out_runs(t, waiting)
    return taken


@njit(nogil=True)
def fan_out_runs(t, waiting):
    """Send the packets in `pending`, sorted by track, to whom they are for, and what waited and has room now."""
    start = 0
    while start < waiting:
        stop = end_of_run(t, start, waiting)
        fan_out(t, start, stop)
        probe_viewers(t, start, stop)
        start = stop
    if t.shared[Shared.WAITING]:
        send_waiting(t)
    flush(t)


@njit(nogil=True)
def end_of_run(t, start, waiting):
    """Return where the packets of another track than that of `pending[start]` begin."""
    stop = start + 1
    while stop < waiting and t.pending[stop].track == t.pending[start].track:
        stop += 1
    return stop


@njit(nogil=True)
def probe_viewers(t, start, stop):
    """Behind the last packet of a frame, probe the ways of those who got it and could have better."""
    last = t.pending[stop - 1]
    track = np.int64(last.track)
    if t.tracks[track].kind != VIDEO or not t.cache_info[track, last.ext_seq % CACHE].marker:
        return
    s = np.int64(t.first_subscriptions[t.tracks[track].head])
    while s >= 0:
        if t.subscriptions[s].track == track and t.subscriptions[s].waits == 0:
            probe_if_due(t, s, track)
        s = np.int64(t.subscriptions[s].next)


@njit(nogil=True)
def receive_batch(t, waiting):
    """Receive up to BATCH datagrams; returns how many packets wait in `pending` and how many datagrams came."""
    for i in range(BATCH):
        t.inbox_headers[i, 1] = np.uint64(32)
    socket = np.int32(t.sockets[t.shared[Shared.SOCKET]])
    got = recvmmsg(socket, t.inbox_headers.ctypes.data, np.uint32(BATCH), np.int32(MSG_DONTWAIT), np.uint64(0))
    now = read_clock(t)
    for i in range(max(got, 0)):
        track, ext_seq = receive(t, i, np.int64(t.inbox_headers[i, 7] & np.uint64(0xFFFFFFFF)), now)
        if track >= 0:
            t.pending[waiting].track = track
            t.pending[waiting].restarts = t.tracks[track].restarts
            t.pending[waiting].ext_seq = ext_seq
            t.pending[waiting].came_ns = now
            waiting += 1
    return waiting, np.int64(got)


@njit(nogil=True)
def worth_waiting(t, waiting):
    """Whether the newest packet begins or continues a frame whose rest would save many messages.

    What arrives together leaves together: one GSO message a viewer instead of one for each arrival.
    """
    last = t.pending[waiting - 1]
    track = t.tracks[last.track]
    if track.kind != VIDEO or t.tracks[track.head].subscriptions < NAP_SUBSCRIPTIONS:
        return False
    if t.cache_info[last.track, last.ext_seq % CACHE].marker:
        return False
    return track.nap_credit >= 0 or track.frame_no & 31 == 0


@njit(nogil=True)
def learn_from_nap(t, before, waiting):
    """Wait less for publishers that spread a frame over time: there it only adds delay."""
    track = np.int64(t.pending[before - 1].track)
    credit = np.int64(t.tracks[track].nap_credit)
    t.tracks[track].nap_credit = min(credit + 1, 8) if waiting > before else max(credit - 2, -8)


@njit(nogil=True)
def forget_overtaken(t, waiting):
    """Drop packets whose place in the cache was taken within this turn, by a source that jumped or began anew.

    Sent after that they would carry another's payload, and anchor viewers where the new source never comes.
    """
    kept = 0
    for i in range(waiting):
        packet = t.pending[i]
        if t.cache_seq[packet.track, packet.ext_seq % CACHE] != packet.ext_seq:
            t.counters[Count.OVERTAKEN] += np.uint64(1)
            continue
        move_pending(t, i, kept)
        kept += 1
    return kept


@njit(nogil=True)
def sort_by_track(t, waiting):
    """Bring packets of one track together, in their order of arrival (insertion sort: there are few tracks)."""
    for i in range(1, waiting):
        track, restarts = t.pending[i].track, t.pending[i].restarts
        ext_seq, came_ns = t.pending[i].ext_seq, t.pending[i].came_ns
        at = i
        while at > 0 and t.pending[at - 1].track > track:
            move_pending(t, at - 1, at)
            at -= 1
        t.pending[at].track, t.pending[at].restarts = track, restarts
        t.pending[at].ext_seq, t.pending[at].came_ns = ext_seq, came_ns


@njit(nogil=True)
def move_pending(t, source, destination):
    """Copy an entry of `pending` to another place."""
    packet = t.pending[source]
    t.pending[destination].track, t.pending[destination].restarts = packet.track, packet.restarts
    t.pending[destination].ext_seq, t.pending[destination].came_ns = packet.ext_seq, packet.came_ns


@njit(nogil=True)
def sleep_until(t, time_ns):
    """Sleep until a monotonic time less than a second away; returns at once when it is over."""
    left = time_ns - read_clock(t)
    if left > 0:
        t.scratch[14], t.scratch[15] = 0, left
        nanosleep(t.scratch[14:].ctypes.data, np.uint64(0))


@njit(nogil=True)
def wait(t, descriptors, has_others):
    """Sleep until a datagram or a wake-up comes, or something is due; takes the wake-up."""
    is_told = has_others and fall_asleep(t)
    idle_ms = next_report_ms(t, np.int64(PACED_MS if t.shared[Shared.WAITING] else IDLE_MS))
    poll(t.polls.ctypes.data, descriptors, np.int32(0 if is_told else idle_ms))
    if has_others:
        t.asleep[t.shared[Shared.WORKER], 0] = 0
    if t.polls[0] >> 48:
        read(np.int32(t.shared[Shared.WAKE]), t.scratch[12:].ctypes.data, np.uint64(8))


@njit([types.int64(_LAYOUT)], nogil=True, cache=True)
def run(whole):
    """Forward until `shared[STOP]`; returns the number of turns. Runs in a thread of its own.

    While passes are dense and each of them has work, nothing is waited for: a wake-up stays until the next wait.
    """
    t = whole[0]
    turns = 0
    first, count = t.shared[Shared.FIRST_SOCKET], t.shared[Shared.SOCKET_COUNT]
    has_others = t.shared[Shared.WORKERS] > 1
    t.polls[0] = t.shared[Shared.WAKE] | (POLLIN << 32)
    for number in range(count):
        t.polls[1 + number] = t.sockets[first + number] | (POLLIN << 32)
    began, is_dense, is_busy = np.int64(0), False, False
    while t.shared[Shared.STOP] == 0:
        if is_dense:
            sleep_until(t, began + PASS_NS)
        if not (is_dense and is_busy):
            wait(t, np.uint64(1 + count), has_others)
        now = read_clock(t)
        is_dense, began = now - began < 2 * PASS_NS, now
        # After the wake-up is taken: a fence asked in between would have none left, and wait for IDLE_MS.
        asked = t.shared[Shared.FENCE_ASKED]
        if asked != t.shared[Shared.FENCE_DONE]:
            t.shared[Shared.WAITING_DUE] = 0  # rows that are given up leave the list before they are taken anew
        is_busy = False
        for number in range(first, first + count):
            t.shared[Shared.SOCKET] = number
            for _ in range(ROUNDS):
                got = turn(t)
                is_busy |= got > 0
                if got < BATCH:
                    break
        if has_others:
            for _ in range(ROUNDS):
                if mirror(t) < BATCH:
                    break
        if t.shared[Shared.NEWCOMERS_HEAD] != t.shared[Shared.NEWCOMERS_TAIL]:
            welcome_newcomers(t)
        if asked != t.shared[Shared.FENCE_DONE]:
            t.shared[Shared.FENCE_DONE] = asked
            t.shared[Shared.ATTENTION] = 1
        if t.shared[Shared.ATTENTION]:
            t.shared[Shared.ATTENTION] = 0
            t.scratch[13] = 1
            write(np.int32(t.shared[Shared.NOTIFY]), t.scratch[13:].ctypes.data, np.uint64(8))
        turns += 1
    return turns
