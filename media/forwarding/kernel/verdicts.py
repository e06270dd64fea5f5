"""Compiled: whether a viewer may have a packet, inline from the admission table.

Cost: a few ns a packet and viewer. Reads rooms, transports, tracks. Said in plain Python in reference.py; judged by
tests/media/test_reference.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import Count

ADMITTED = 0  # otherwise a verdict is the counter of its reason


@njit(nogil=True)
def verdict(requires, open_until, holds, until, keeps, now):
    """Whether a packet passes: ADMITTED, or the counter of the reason why not.

    A room requires, a participant holds; what lapses, lapses by itself.
    """
    if now >= open_until:
        return np.int64(Count.ROOM_CLOSED)
    if now < until:
        return np.int64(ADMITTED if holds & requires == requires else Count.NOT_ADMITTED)
    return np.int64(ADMITTED if keeps & requires == requires else Count.LAPSED)


@njit(nogil=True)
def admitted(t, transport, layer_requires, now):
    """Return the verdict over one viewer's transport, inline from the admission table.

    `layer_requires` are the grants that the encoding takes beside those of the room.
    """
    row = t.transports[transport]
    room = t.rooms[row.room]
    return verdict(room.requires | layer_requires, room.open_until, row.holds, row.until, row.keeps, now)


@njit(nogil=True)
def required_of_all(t, track):
    """Return the grants that each packet of an encoding takes beside those of the room."""
    return t.tracks[track].layer_requires if t.tracks[track].reserved_from == 0 else np.uint8(0)


@njit(nogil=True)
def required_of(t, track, slot):
    """Return the grants that a cached packet takes beside those of the room."""
    is_reserved = t.cache_info[track, slot].spatial >= t.tracks[track].reserved_from
    return t.tracks[track].layer_requires if is_reserved else np.uint8(0)
