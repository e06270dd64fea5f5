"""Compiled: which packets of an encoding with layers within itself a subscription gets, under numbers without gaps.

While it gets everything its numbers follow the source's. From the first packet that is left out on, or that gets a
marker which its publisher did not set, they are given one by one, and `given` keeps to which packet each went: what is
missing has its number kept, and leaves as an empty packet where it turns out to be for others. Cost: 40 ns a packet and
viewer, none for encodings without layers. Said in plain Python in reference_choice.py; judged by
tests/media/test_choosing.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.choices import ALL_LAYERS, AWAITED, EMPTY, MARKED, NUMBERS, SENT
from media.forwarding.kernel.layering import ENDS, SYNC_AFTER, SYNC_HERE
from media.forwarding.kernel.outgoing import send_cached
from media.forwarding.kernel.verdicts import ADMITTED, admitted, required_of
from media.forwarding.tables import CACHE, Count, Shared


@njit(nogil=True)
def choose_all(t, s):
    """Have a subscription begin with all layers: it is anchored where a decoder starts."""
    t.choices[s].spatial = t.choices[s].temporal = ALL_LAYERS
    t.choices[s].frame = t.choices[s].begun_at = t.choices[s].changed_at = -1
    t.choices[s].picture_shift = 0


@njit(nogil=True)
def offer(t, s, track, ext_seq, now):
    """Send a cached packet to an anchored subscription if it is of its layers; the room's admission was just seen."""
    delta, last_seq = np.int64(t.subscriptions[s].seq_delta), np.int64(t.subscriptions[s].last_seq)
    if not t.tracks[track].layered:
        send_cached(t, s, track, ext_seq, ext_seq + delta, SENT, 0, now)
        return
    slot, transport = ext_seq % CACHE, np.int64(t.subscriptions[s].transport)
    begun_at = np.int64(t.choices[s].begun_at)
    reason = admitted(t, transport, required_of(t, track, slot), now)
    newest = last_seq - delta if begun_at < 0 else np.int64(t.choices[s].newest)
    if ext_seq <= newest:
        _send_late(t, s, track, ext_seq, reason, now)
        return
    begins = _look(t, s, track, slot, _most_spatial(t, s, track, now))
    takes, is_marked = _takes(t, track, slot, t.choices[s].spatial, t.choices[s].temporal)
    is_chosen = reason == ADMITTED and takes
    if begun_at < 0 and is_chosen and not is_marked:
        send_cached(t, s, track, ext_seq, ext_seq + delta, SENT, 0, now)
        return
    if begun_at < 0:
        t.choices[s].begun_at, t.choices[s].newest = newest + 1, newest
    _keep_for_missing(t, s, ext_seq)
    if not is_chosen:
        t.choices[s].picture_shift -= begins and t.cache_info[track, slot].picture_at > 0
        t.counters[reason if reason != ADMITTED else np.int64(Count.OTHER_LAYER)] += np.uint64(1)
        return
    seq, fate = np.int64(t.subscriptions[s].last_seq) + 1, MARKED if is_marked else SENT
    _give(t, s, seq, ext_seq, fate)
    send_cached(t, s, track, ext_seq, seq, fate, np.int64(t.choices[s].picture_shift), now)


@njit(nogil=True)
def given_to(t, s, seq):
    """Return to which source packet an outgoing number was given, its fate, and what is added to its picture's number.

    (-1, AWAITED, 0) where that is no longer known.
    """
    begun_at, delta = np.int64(t.choices[s].begun_at), np.int64(t.subscriptions[s].seq_delta)
    if begun_at < 0 or seq < begun_at + delta:
        return seq - delta, np.int64(SENT), np.int64(0)
    if seq <= t.subscriptions[s].last_seq - NUMBERS or seq > t.subscriptions[s].last_seq:
        return np.int64(-1), np.int64(AWAITED), np.int64(0)
    given = t.given[s, seq % NUMBERS]
    return _source(t, s, seq), np.int64(given.fate), np.int64(given.picture_shift)


@njit(nogil=True)
def _source(t, s, seq):
    # All that is kept is younger than 2**32 packets.
    newest = np.int64(t.choices[s].newest)
    return newest - ((newest - np.int64(t.given[s, seq % NUMBERS].low)) & 0xFFFFFFFF)


@njit(nogil=True)
def _most_spatial(t, s, track, now):
    """Return up to which spatial layer a viewer may have now, and is to get."""
    most, reserved_from = np.int64(t.choices[s].most_spatial), np.int64(t.tracks[track].reserved_from)
    transport = np.int64(t.subscriptions[s].transport)
    if reserved_from > 0 and admitted(t, transport, t.tracks[track].layer_requires, now) != ADMITTED:
        return min(most, reserved_from - 1)
    return most


@njit(nogil=True)
def _look(t, s, track, slot, most_spatial):
    """Take note of the newest packet, and go down or up; returns whether it begins a picture.

    Spatial layers are gone up to with a keyframe alone, which is asked for.
    """
    info, choice = t.cache_info[track, slot], t.choices[s]
    spatial, temporal = np.int64(choice.spatial), np.int64(choice.temporal)
    most_temporal, begins = np.int64(choice.most_temporal), info.frame_no != choice.frame
    t.choices[s].frame = info.frame_no
    if info.is_key:
        spatial, temporal = most_spatial, most_temporal
    elif begins:
        spatial, temporal = min(spatial, most_spatial), min(temporal, most_temporal)
        if info.marks & SYNC_HERE and info.temporal == temporal + 1 and temporal < most_temporal:
            temporal += 1
        if info.marks & SYNC_AFTER and info.spatial == 0 and info.temporal <= temporal:
            temporal = most_temporal
    if spatial < most_spatial and t.tracks[track].keyframe_wanted == 0:
        t.tracks[track].keyframe_wanted = 1
        t.shared[Shared.ATTENTION] = 1
    if spatial != choice.spatial or temporal != choice.temporal:
        t.choices[s].former_spatial, t.choices[s].former_temporal = choice.spatial, choice.temporal
        t.choices[s].spatial, t.choices[s].temporal = spatial, temporal
        t.choices[s].changed_at = info.frame_no
        t.counters[Count.LAYERS_MOVED] += np.uint64(1)
    return begins


@njit(nogil=True)
def _takes(t, track, slot, spatial, temporal):
    """Whether a packet is of these layers, and whether a picture of them ends with it, although more of it follows."""
    info = t.cache_info[track, slot]
    takes = info.spatial <= spatial and info.temporal <= temporal
    return takes, takes and info.marks & ENDS != 0 and info.spatial == spatial and info.marker == 0


@njit(nogil=True)
def _keep_for_missing(t, s, ext_seq):
    """Keep a number for each packet that did not come yet."""
    missing = ext_seq - np.int64(t.choices[s].newest) - 1
    last_seq = np.int64(t.subscriptions[s].last_seq)
    first = np.int64(t.choices[s].newest) + 1
    t.choices[s].newest = ext_seq
    for ahead in range(max(missing - NUMBERS, 0), missing):
        _give(t, s, last_seq + 1 + ahead, first + ahead, AWAITED)
    t.subscriptions[s].last_seq = last_seq + missing


@njit(nogil=True)
def _give(t, s, seq, ext_seq, fate):
    t.given[s, seq % NUMBERS].low = ext_seq & 0xFFFFFFFF
    t.given[s, seq % NUMBERS].picture_shift = t.choices[s].picture_shift & 0xFFFF
    t.given[s, seq % NUMBERS].fate = fate


@njit(nogil=True)
def _send_late(t, s, track, ext_seq, reason, now):
    """Send a packet under the number that was kept for it, or an empty one if it turns out to be for others."""
    begun_at, delta = np.int64(t.choices[s].begun_at), np.int64(t.subscriptions[s].seq_delta)
    if begun_at < 0 or ext_seq < begun_at:
        if reason == ADMITTED:
            send_cached(t, s, track, ext_seq, ext_seq + delta, SENT, 0, now)
        else:
            t.counters[reason] += np.uint64(1)
        return
    seq = _find(t, s, ext_seq, begun_at + delta)
    if seq < 0:
        t.counters[Count.OTHER_LAYER] += np.uint64(1)
        return
    slot, choice, fate = ext_seq % CACHE, t.choices[s], EMPTY
    is_former = t.cache_info[track, slot].frame_no < choice.changed_at
    spatial, temporal = choice.former_spatial if is_former else choice.spatial, choice.former_temporal
    takes, is_marked = _takes(t, track, slot, spatial, temporal if is_former else choice.temporal)
    if reason == ADMITTED and takes:
        fate = MARKED if is_marked else SENT
    t.given[s, seq % NUMBERS].fate = fate
    send_cached(t, s, track, ext_seq, seq, fate, np.int64(t.given[s, seq % NUMBERS].picture_shift), now)


@njit(nogil=True)
def _find(t, s, ext_seq, first):
    """Return the outgoing number that was given to a packet, of those from `first` on, -1 for none."""
    last = np.int64(t.subscriptions[s].last_seq)
    for seq in range(last, max(first - 1, last - NUMBERS), -1):
        found = _source(t, s, seq)
        if found <= ext_seq:
            return np.int64(seq) if found == ext_seq else np.int64(-1)
    return np.int64(-1)
