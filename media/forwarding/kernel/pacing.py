"""Compiled: whether a viewer's way has room for picture now, and what has to wait for it.

Each packet takes the way of a viewer whose network is known for as long as its octets last; sound, repairs and probes
leave all the same, and picture while the way is taken for a little at most. Cost: 2 ns a packet for pictures that have
room. Reads and writes transports, subscriptions and backlogs. Said in plain Python in reference/pacing.py; judged
by tests/media/test_pacing.py and test_reference.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding import backlogs
from media.forwarding.backlogs import BURST_NS
from media.forwarding.tables import CACHE, VIDEO, Count, Shared

SOURCE_BIT = np.int64(40)  # no source sends 2^40 packets; zeros name nothing


octet_ns = njit(nogil=True)(backlogs.octet_ns)


@njit(nogil=True)
def take_way(t, transport, size, now):
    """Note that `size` octets leave now."""
    cost = np.int64(t.transports[transport].octet_ns)
    if cost:
        t.transports[transport].taken_ns = max(np.int64(t.transports[transport].taken_ns), now) + size * cost


@njit(nogil=True)
def has_room(t, transport, now):
    """Whether picture may leave now."""
    return t.transports[transport].taken_ns - now <= BURST_NS


@njit(nogil=True)
def has_to_wait(t, s, track, transport, ext_seq, now):
    """Whether a packet joins a subscription's backlog: of a picture, behind what was offered, with no room or a queue.

    What was overtaken on its way to us goes past those that wait.
    """
    waits = t.subscriptions[s].waits != 0
    if not waits and has_room(t, transport, now):
        return False
    if t.tracks[track].kind != VIDEO or ext_seq <= newest_offered(t, s):
        return False
    let_wait(t, s, ext_seq, now)
    return True


@njit(nogil=True)
def let_wait(t, s, ext_seq, now):
    """Let a subscription's backlog go up to a packet."""
    t.counters[Count.WAITED] += np.uint64(1)
    if t.subscriptions[s].waits:
        t.backlogs[s].to = max(np.int64(t.backlogs[s].to), ext_seq)
        return
    t.subscriptions[s].waits = 1
    t.backlogs[s].to = ext_seq
    t.backlogs[s].since_ns = now
    if not t.backlogs[s].listed:
        t.backlogs[s].listed = 1
        t.waiting[t.shared[Shared.WAITING]] = s
        t.shared[Shared.WAITING] += 1


@njit(nogil=True)
def skip_backlog(t, s):
    """Leave out what waits, if anything does."""
    t.counters[Count.SKIPPED] += np.uint64(t.subscriptions[s].waits)
    t.subscriptions[s].waits = 0


@njit(nogil=True)
def newest_offered(t, s):
    """Return the newest source packet that an anchored subscription was offered, or the one before the first."""
    if t.choices[s].begun_at >= 0:
        return np.int64(t.choices[s].newest)
    return np.int64(t.subscriptions[s].last_seq - t.subscriptions[s].seq_delta)


@njit(nogil=True)
def note_told(t, track, ext_seq):
    """Note that this worker's viewers were told of a packet: none sends it from its backlog before."""
    t.told[track, ext_seq % CACHE] = _named(t, track, ext_seq)


@njit(nogil=True)
def was_told(t, track, ext_seq):
    """Whether this worker's viewers were told of a packet; who was offered a later one got it then."""
    return t.told[track, ext_seq % CACHE] == _named(t, track, ext_seq)


@njit(nogil=True)
def _named(t, track, ext_seq):
    return (np.int64(t.tracks[track].restarts + 1) << SOURCE_BIT) + ext_seq
