"""Compiled: packets sent again at once behind a frame, to see how quickly they come: whether the way carries more.

They leave through RTX, whose receivers know what they have already, or as padding there. A probe takes 15 ms at the
rate that it is to show, in five packets or more, and asks admission as any packet does. Cost: as any packets, a few
times a second at most, and never where nothing better is to be had. Judged by
tests/media/test_probing.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.choices import EMPTY, MARKED, SENT
from media.forwarding.kernel.choosing import given_to
from media.forwarding.kernel.estimation import note_probe, probe_goal
from media.forwarding.kernel.fanout import is_anchored
from media.forwarding.kernel.outgoing import send_repair
from media.forwarding.kernel.sending import make_room
from media.forwarding.kernel.stamps import is_numbered
from media.forwarding.kernel.verdicts import ADMITTED, admitted, required_of, required_of_all
from media.forwarding.tables import CACHE, UNPLANNED, VIDEO, Count, Shared

# libwebrtc's: times are told in quarters of a millisecond, and what is shorter or of fewer packets says little.
PROBE_S, LEAST_PACKETS = 0.015, 5
MOST_PACKETS = 40  # of 1,100 octets: 23 Mbit/s
LEAST_OCTETS, MOST_PADDING = 200, 255  # of a packet: smaller ones are padded, as far as RTP can
TOO_LARGE = 2  # times as large as is asked for: a thin link would take long for it
FORGOTTEN = 32  # packets looked back at for what can be repeated


@njit(nogil=True)
def probe_if_due(t, s, track):
    """Send a probe to a subscription that has just got a frame's last packet, if one is due."""
    subscription = t.subscriptions[s]
    transport = np.int64(subscription.transport)
    goal_bps = probe_goal(t, transport, t.shared[Shared.NOW])
    if goal_bps == 0:
        return
    is_able = is_numbered(np.int64(subscription.stamp)) and subscription.rtx_payload_type != 0
    if t.tracks[track].kind != VIDEO or not is_able or not is_anchored(t, s, track):
        return
    if admitted(t, transport, required_of_all(t, track), t.shared[Shared.NOW]) != ADMITTED:
        return
    _probe(t, s, track, transport, goal_bps)


@njit(nogil=True)
def _probe(t, s, track, transport, goal_bps):
    octets = np.int64(goal_bps * PROBE_S / 8)
    size = max(octets // LEAST_PACKETS, LEAST_OCTETS)
    seq = _find_of_size(t, s, track, size)
    first = np.int64(t.transports[transport].stamped)
    sent = 0
    while seq >= 0 and sent < MOST_PACKETS and (sent < LEAST_PACKETS or octets > 0):
        left = _repeat(t, s, track, transport, seq, size)
        if left == 0:
            break
        octets -= left
        sent += 1
    if sent:
        t.counters[Count.PROBES] += np.uint64(sent)
        note_probe(t, transport, first, np.int64(t.transports[transport].stamped), goal_bps, t.shared[Shared.NOW])


@njit(nogil=True)
def _find_of_size(t, s, track, size):
    """Return the number of one of the last packets: of the smallest that has `size` octets, else of the largest."""
    last = np.int64(t.subscriptions[s].last_seq)
    fits, found = np.int64(0), np.int64(-1)
    for seq in range(last - FORGOTTEN, last + 1):
        ext_seq, fate, _ = given_to(t, s, seq)
        info = t.cache_info[track, ext_seq % CACHE]
        is_there = t.cache_seq[track, ext_seq % CACHE] == ext_seq and info.pad != UNPLANNED
        if not is_there or ext_seq < t.subscriptions[s].anchor_ext_seq or fate not in (SENT, MARKED):
            continue
        is_better = info.size < fits if info.size >= size and fits >= size else info.size > fits
        if found < 0 or is_better:
            fits, found = np.int64(info.size), np.int64(seq)
    return found


@njit(nogil=True)
def _repeat(t, s, track, transport, seq, size):
    """Send one packet again, padded towards `size` octets; returns how many those were, 0 when it may not be sent.

    Of one that is too large its number goes out alone, with padding.
    """
    make_room(t)
    ext_seq, fate, shift = given_to(t, s, seq)
    if admitted(t, transport, required_of(t, track, ext_seq % CACHE), t.shared[Shared.NOW]) != ADMITTED:
        return np.int64(0)
    octets = np.int64(t.cache_info[track, ext_seq % CACHE].size)
    if octets > TOO_LARGE * size:
        octets, fate = np.int64(0), np.int64(EMPTY)
    pad = min(max(size - octets, 0), MOST_PADDING)
    is_sent = send_repair(t, s, track, ext_seq, seq, fate, shift, pad, t.shared[Shared.NOW])
    return octets + pad if is_sent else np.int64(0)
