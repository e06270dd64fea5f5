"""Compiled: header extensions of publishers kept with their packets, and written for each viewer under its own ids.

What is passed on, and of whom, is in media/wire/extensions.py. A packet that has none costs a viewer one comparison;
one that has costs some 10 ns and at least four octets. Reads and writes the cache; writes the arena, levels of sound
and the playout delay of tracks. Judged by tests/media/test_extensions.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.rtp_headers import find_extension
from media.forwarding.tables import CACHE, EXTENSIONS, LEVELS
from media.wire.extensions import Passed

HEAD = 4  # octets before the first element


@njit(nogil=True)
def is_whole(kind, length):
    """Whether a value has a size that its kind can have."""
    if kind == Passed.CAPTURE_TIME:
        return length in (8, 16)
    return length == (3 if kind == Passed.PLAYOUT_DELAY else 1)


@njit(nogil=True)
def keep_extensions(t, transport, data, track, ext_seq):
    """Remember what is passed on of a packet that `keep` is caching; `data` has passed `read_header`.

    Senders tell of the playout delay until somebody has heard of it, and no longer: so each keyframe tells of it again.
    """
    slot = ext_seq % CACHE
    t.cache_info[track, slot].extensions = 0
    told = False
    if t.transports[transport].passes and data[0] & 0x10:
        at = np.int64(12 + 4 * (data[0] & 15))
        profile = (np.int64(data[at]) << 8) | np.int64(data[at + 1])
        end = at + HEAD + 4 * ((np.int64(data[at + 2]) << 8) | np.int64(data[at + 3]))
        for kind in range(1, Passed.CELLS):
            identifier = t.passed_ids[transport, kind]
            if identifier == 0:
                continue
            where, length = find_extension(data, at + HEAD, end, profile, identifier)
            if not is_whole(kind, length):
                continue
            _keep(t, track, slot, kind, data, where, length)
            if kind == Passed.PLAYOUT_DELAY:
                told = True
                _note_delay(t, track, data, where)
            elif kind == Passed.AUDIO_LEVEL and ext_seq == t.tracks[track].highest_ext_seq:
                _note_level(t, track, data[where])
    if t.tracks[track].playout_delay >= 0 and not told and t.cache_info[track, slot].is_key:
        _keep_delay(t, track, slot)


@njit(nogil=True)
def _keep(t, track, slot, kind, data, where, length):
    at = np.int64(t.cache_info[track, slot].extensions)
    if at + 1 + length > EXTENSIONS:
        return
    t.cache_extensions[track, slot, at] = kind << 4 | (length - 1)
    for i in range(length):
        t.cache_extensions[track, slot, at + 1 + i] = data[where + i]
    t.cache_info[track, slot].extensions = at + 1 + length


@njit(nogil=True)
def _note_delay(t, track, data, where):
    t.tracks[track].playout_delay = (
        np.int64(data[where]) << 16 | np.int64(data[where + 1]) << 8 | np.int64(data[where + 2])
    )


@njit(nogil=True)
def _keep_delay(t, track, slot):
    at, delay = np.int64(t.cache_info[track, slot].extensions), np.int64(t.tracks[track].playout_delay)
    if at + 4 > EXTENSIONS:
        return
    t.cache_extensions[track, slot, at] = np.int64(Passed.PLAYOUT_DELAY) << 4 | 2
    for i in range(3):
        t.cache_extensions[track, slot, at + 1 + i] = delay >> (16 - 8 * i) & 255
    t.cache_info[track, slot].extensions = at + 4


@njit(nogil=True)
def _note_level(t, track, level):
    # Python reads the newest of them when it comes by: see media/hearing.py.
    count = np.int64(t.tracks[track].levels)
    t.levels[track, count % LEVELS] = level
    t.tracks[track].levels = count + 1


@njit(nogil=True)
def write_extensions(t, s, track, slot, at, stamp):
    """Write what is kept of a packet at `arena[at]` behind its stamp, if it has one; returns where the payload begins.

    Only what the viewer has an id for is written; where there is nothing, no header extension is. Of a packet that is
    being written anew meanwhile anything may be there; it is not sent.
    """
    out = t.arena
    begin = at + 12 + HEAD
    put = begin + ((stamp & 15) + 2 if stamp else 0)
    first = put
    read, size = np.int64(0), min(np.int64(t.cache_info[track, slot].extensions), EXTENSIONS)
    while read < size:
        head = np.int64(t.cache_extensions[track, slot, read])
        length = (head & 15) + 1
        identifier = np.int64(t.extension_ids[s, (head >> 4) & (Passed.CELLS - 1)])
        if identifier and read + length < EXTENSIONS:
            out[put] = identifier << 4 | (length - 1)
            for i in range(length):
                out[put + 1 + i] = t.cache_extensions[track, slot, read + 1 + i]
            put += 1 + length
        read += 1 + length
    if put == first and stamp == 0:
        return at + 12
    while (put - begin) & 3:
        out[put] = 0
        put += 1
    out[at] |= 0x10
    out[at + 12], out[at + 13], out[at + 14], out[at + 15] = 0xBE, 0xDE, 0, (put - begin) >> 2
    return put
