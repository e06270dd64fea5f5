"""Compiled: of which layers a packet is, from its dependency descriptor or its payload.

Cost: a few ns a packet of VP8 and VP9. Reads only the bytes given; every index is checked, since compiled code does not
check for us. Said in plain Python in media/wire/layering.py; judged by tests/media/test_layering.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.choices import UNKNOWN
from media.forwarding.kernel.dependency import read_dependency
from media.forwarding.tables import CACHE, PAYLOAD_TAIL
from media.wire.codecs import Codec
from media.wire.layering import Mark

BEGINS, ENDS, SYNC_AFTER, SYNC_HERE, TOLD, CONTINUES = map(int, Mark)


@njit(nogil=True)
def note_layers(t, track, ext_seq, payload, size, ts):
    """Note of which layers within its encoding a packet is that is being cached."""
    slot = ext_seq % CACHE
    spatial, temporal, marks = _read(t, track, slot, payload, size)
    if marks & CONTINUES and t.tracks[track].layered:
        before = (ext_seq - 1) % CACHE
        spatial = np.int64(UNKNOWN)
        if t.cache_seq[track, before] == ext_seq - 1 and t.cache_info[track, before].ts == ts:
            spatial, temporal = np.int64(t.cache_info[track, before].spatial), t.cache_info[track, before].temporal
    t.cache_info[track, slot].spatial = spatial
    t.cache_info[track, slot].temporal = temporal
    t.cache_info[track, slot].marks = marks
    t.layer_octets[track, spatial, temporal] += size
    if spatial > 0 or temporal > 0:
        t.tracks[track].layered = 1


@njit(nogil=True)
def _read(t, track, slot, payload, size):
    described = np.int64(t.cache_info[track, slot].descriptor)
    if described:
        whole, at = t.cache_tails[track, slot], np.int64(PAYLOAD_TAIL - described)
        structure, drawn = t.structures[track : track + 1], t.drawn[0:1]  # both slices, of one type
        spatial, temporal, marks = read_dependency(whole, at, described, structure, drawn)
        if spatial >= 0:
            return spatial, temporal, marks
    return read_layering(t.tracks[track].codec, payload, size)


@njit(nogil=True)
def read_layering(codec, data, size):
    """Return (spatial, temporal, marks) of a payload (uint8[size] of `data`), as int64."""
    if codec == Codec.VP8:
        return _vp8(data, size)
    if codec == Codec.VP9:
        return _vp9(data, size)
    if codec == Codec.AV1:
        return _av1(data, size)
    return np.int64(0), np.int64(0), np.int64(0)


@njit(nogil=True)
def _vp8(data, size):
    nothing = np.int64(0), np.int64(0), np.int64(0)
    if size < 2 or not data[0] & 0x80 or not data[1] & 0x20:
        return nothing
    at = 2
    if data[1] & 0x80:
        if size <= at:
            return nothing
        at += 2 if data[at] & 0x80 else 1
    at += np.int64(data[1] >> 6) & 1
    if size <= at:
        return nothing
    marks = np.int64(TOLD)
    if data[at] & 0x20:
        marks |= SYNC_HERE
    if data[0] & 0x1F == 0x10:
        marks |= BEGINS
    return np.int64(0), np.int64(data[at] >> 6), marks


@njit(nogil=True)
def _vp9(data, size):
    nothing = np.int64(0), np.int64(0), np.int64(0)
    if size < 2 or not data[0] & 0x20:
        return nothing
    at = 1
    if data[0] & 0x80:
        at += 2 if data[1] & 0x80 else 1
    if size <= at:
        return nothing
    marks = np.int64(TOLD)
    if data[0] & 0x08:
        marks |= BEGINS
    if data[0] & 0x04:
        marks |= ENDS
    if data[at] & 0x10:
        marks |= SYNC_AFTER
    return np.int64(data[at] >> 1) & 7, np.int64(data[at] >> 5), marks


@njit(nogil=True)
def _av1(data, size):
    if size < 2:
        return np.int64(0), np.int64(0), np.int64(0)
    ends = np.int64(0 if data[0] & 0x40 else ENDS)
    if data[0] & 0x80:
        return np.int64(0), np.int64(0), CONTINUES | ends
    at = 1
    if data[0] & 0x30 != 0x10:
        while at < size and data[at] & 0x80:
            at += 1
        at += 1
    if size < at + 2 or not data[at] & 0x04:
        return np.int64(0), np.int64(0), BEGINS | ends
    return np.int64(data[at + 1] >> 3) & 3, np.int64(data[at + 1] >> 5), BEGINS | TOLD | ends
