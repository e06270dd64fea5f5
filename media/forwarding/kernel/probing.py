"""Compiled: packets sent again at once behind a frame, to see how quickly they come: whether the way carries more.

They leave through RTX, whose receivers know what they have already. A probe is two packets, or as many as take 50 ms
at what the way is known to carry, and asks admission as they do. Cost: as any packets, a few times a second at most,
and never where nothing better is to be had. Judged by
tests/media/test_probing.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.choices import MARKED, SENT
from media.forwarding.kernel.choosing import given_to
from media.forwarding.kernel.estimation import note_probe
from media.forwarding.kernel.fanout import is_anchored
from media.forwarding.kernel.outgoing import send_repair
from media.forwarding.kernel.sending import make_room
from media.forwarding.kernel.stamps import is_numbered
from media.forwarding.kernel.verdicts import ADMITTED, admitted, required_of, required_of_all
from media.forwarding.tables import CACHE, UNPLANNED, VIDEO, Count, Shared

LEAST_PACKETS, MOST_PACKETS = 2, 16
LONGEST_S = 0.05
PROBE_OCTETS, MOST_PADDING = 500, 255  # smaller packets, as of a scene that rests, are padded, as far as RTP can
FORGOTTEN = 32  # packets looked back at for what can be repeated


@njit(nogil=True)
def probe_if_due(t, s, track):
    """Send a probe to a subscription that has just got a frame's last packet, if one is due."""
    subscription = t.subscriptions[s]
    transport = np.int64(subscription.transport)
    estimate = t.estimates[transport]
    if estimate.probe_bps <= estimate.bps or estimate.bps == 0 or t.shared[Shared.NOW] < estimate.probe_due_ns:
        return
    is_able = is_numbered(np.int64(subscription.stamp)) and subscription.rtx_payload_type != 0
    if t.tracks[track].kind != VIDEO or not is_able or not is_anchored(t, s, track):
        return
    if admitted(t, transport, required_of_all(t, track), t.shared[Shared.NOW]) != ADMITTED:
        return
    _probe(t, s, track, transport, estimate.bps * LONGEST_S / 8)


@njit(nogil=True)
def _probe(t, s, track, transport, octets):
    first = np.int64(t.transports[transport].stamped)
    sent = 0
    while (sent < LEAST_PACKETS or octets > 0) and sent < MOST_PACKETS:
        size = _repeat_largest(t, s, track)
        if size == 0:
            break
        octets -= size
        sent += 1
    if sent:
        note_probe(t, transport, first, np.int64(t.transports[transport].stamped), t.shared[Shared.NOW])


@njit(nogil=True)
def _repeat_largest(t, s, track):
    """Send the largest of the last packets again; returns its octets, 0 when there is none."""
    last, transport = np.int64(t.subscriptions[s].last_seq), np.int64(t.subscriptions[s].transport)
    largest, found = np.int64(0), np.int64(-1)
    for seq in range(last - FORGOTTEN, last + 1):
        ext_seq, fate, _ = given_to(t, s, seq)
        info = t.cache_info[track, ext_seq % CACHE]
        is_there = t.cache_seq[track, ext_seq % CACHE] == ext_seq and info.pad != UNPLANNED
        is_its_own = ext_seq >= t.subscriptions[s].anchor_ext_seq and fate in (SENT, MARKED)
        if is_there and is_its_own and info.size > largest:
            largest, found = np.int64(info.size), np.int64(seq)
    if found < 0:
        return 0
    make_room(t)
    ext_seq, fate, shift = given_to(t, s, found)
    if admitted(t, transport, required_of(t, track, ext_seq % CACHE), t.shared[Shared.NOW]) != ADMITTED:
        return 0
    pad = min(max(PROBE_OCTETS - largest, 0), MOST_PADDING)
    if not send_repair(t, s, track, ext_seq, found, fate, shift, pad, t.shared[Shared.NOW]):
        return 0
    t.counters[Count.PROBES] += np.uint64(1)
    return largest + pad
