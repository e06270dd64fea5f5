"""Compiled: header extensions of publishers kept with their packets, and written for each viewer under its own ids.

What is passed on, and of whom, is in media/wire/extensions.py. A packet that has none costs a viewer one comparison;
one that has costs some 10 ns and at least four octets. Reads and writes the cache; writes the arena, levels of sound
and the playout delay of tracks. Judged by tests/media/test_extensions.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.pictures import LEAST_DESCRIPTOR, read_frame
from media.forwarding.kernel.rtp_headers import find_extension
from media.forwarding.tables import CACHE, EXTENSIONS, LEVELS, PAYLOAD, PAYLOAD_TAIL
from media.wire.extensions import Passed

HEAD = 4  # octets before the first element
ONE_BYTE_OCTETS, ONE_BYTE_IDS = 16, 14  # more do not fit an element of a one-byte header (RFC 8285 section 4.2)
TWO_BYTES = 0x10  # the first octet of the other kind of header


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
            if identifier == 0 or kind == Passed.DEPENDENCY:
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
def keep_descriptor(t, transport, data, track, slot):
    """Remember the dependency descriptor of a packet that `keep` is caching; `data` has passed `read_header`.

    Behind its payload: in a datagram there is room for both.
    """
    t.cache_info[track, slot].descriptor = 0
    identifier = t.passed_ids[transport, Passed.DEPENDENCY]
    if identifier == 0 or not data[0] & 0x10:
        return
    at = np.int64(12 + 4 * (data[0] & 15))
    profile = (np.int64(data[at]) << 8) | np.int64(data[at + 1])
    end = at + HEAD + 4 * ((np.int64(data[at + 2]) << 8) | np.int64(data[at + 3]))
    where, length = find_extension(data, at + HEAD, end, profile, identifier)
    if length < LEAST_DESCRIPTOR or length + t.cache_info[track, slot].size > PAYLOAD:
        return
    for i in range(length):
        t.cache_tails[track, slot, PAYLOAD_TAIL - length + i] = data[where + i]
    t.cache_info[track, slot].descriptor = length


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

    Only what the viewer has an id for is written; where there is nothing, no header extension is. Elements have heads
    of two bytes where one does not fit the other kind. Of a packet that is being written anew meanwhile anything may be
    there; it is not sent.
    """
    out = t.arena
    begin = at + 12 + HEAD
    its_id = np.int64(t.extension_ids[s, Passed.DEPENDENCY])
    described = np.int64(t.cache_info[track, slot].descriptor) if its_id else np.int64(0)
    is_wide = described > ONE_BYTE_OCTETS or (described > 0 and its_id > ONE_BYTE_IDS)
    put = begin
    if stamp:
        put = _widen_stamp(out, begin, stamp) if is_wide else begin + (stamp & 15) + 2
    first = put
    read, size = np.int64(0), min(np.int64(t.cache_info[track, slot].extensions), EXTENSIONS)
    while read < size:
        head = np.int64(t.cache_extensions[track, slot, read])
        length = (head & 15) + 1
        identifier = np.int64(t.extension_ids[s, (head >> 4) & (Passed.CELLS - 1)])
        if identifier and read + length < EXTENSIONS:
            put = _put_head(out, put, identifier, length, is_wide)
            for i in range(length):
                out[put + i] = t.cache_extensions[track, slot, read + 1 + i]
            put += length
        read += 1 + length
    if described:
        put = _put_head(out, put, its_id, described, is_wide)
        put = _put_descriptor(t, s, track, slot, put, described)
    if put == first and stamp == 0:
        return at + 12
    while (put - begin) & 3:
        out[put] = 0
        put += 1
    out[at] |= 0x10
    out[at + 12], out[at + 13] = (TWO_BYTES, 0) if is_wide else (0xBE, 0xDE)
    out[at + 14], out[at + 15] = 0, (put - begin) >> 2
    return put


@njit(nogil=True)
def _widen_stamp(out, begin, stamp):
    """Give a stamp that is written a head of two bytes; returns what is behind it."""
    length = (stamp & 15) + 1
    for i in range(length, 0, -1):
        out[begin + 1 + i] = out[begin + i]
    return _put_head(out, begin, stamp >> 4, length, True) + length


@njit(nogil=True)
def _put_head(out, at, identifier, length, is_wide):
    if is_wide:
        out[at], out[at + 1] = identifier, length
        return at + 2
    out[at] = identifier << 4 | (length - 1)
    return at + 1


@njit(nogil=True)
def _put_descriptor(t, s, track, slot, at, size):
    """Copy a descriptor, with its frame numbered as the subscription's are."""
    for i in range(size):
        t.arena[at + i] = t.cache_tails[track, slot, PAYLOAD_TAIL - size + i]
    number = read_frame(t, track, slot) + t.subscriptions[s].frame_delta
    t.arena[at + 1], t.arena[at + 2] = (number >> 8) & 255, number & 255
    return at + size
