"""Compiled: of which layers a frame is, from AV1's dependency descriptor; in plain Python in media/wire/dependency.py.

A structure comes with each keyframe and is kept as one record a track. Cost: some 10 ns a packet, a microsecond for a
structure. Every bit read is checked to be there. Judged by tests/media/test_dependency.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.wire.dependency import LAYERS_END, MAX_SPATIAL, MAX_TEMPORAL, NEXT_SPATIAL, NEXT_TEMPORAL, SWITCH, TEMPLATES
from media.wire.layering import Mark

BEGINS, ENDS, SYNC_AFTER, TOLD = int(Mark.BEGINS), int(Mark.ENDS), int(Mark.SYNC_AFTER), int(Mark.TOLD)
MALFORMED = -1


@njit(nogil=True)
def read_dependency(data, at, size, structure, drawn):
    """Return (spatial, temporal, marks) of the descriptor at `data[at:at + size]`, or (-1, 0, 0) if it makes no sense.

    `structure` is the record (an array of one STRUCTURE) of the newest that came; `drawn` is another, in which one that
    this packet brings is made out before it replaces the former.
    """
    nothing = np.int64(MALFORMED), np.int64(0), np.int64(0)
    if size < 3:
        return nothing
    used, has_own_indications, bit = structure, False, 29
    if size > 3:
        if data[at + 3] & 0x80:
            bit = _read_structure(data, at, size, drawn)
            used = drawn
        if data[at + 3] & 0x40:
            bit += np.int64(used[0].targets)
        if bit > 8 * size:
            return nothing
        has_own_indications = (data[at + 3] & 0x20) != 0
    index = (np.int64(data[at] & 63) - np.int64(used[0].offset)) & (TEMPLATES - 1)
    if index >= used[0].count:
        return nothing
    marks = np.int64(TOLD)
    if data[at] & 0x80:
        marks |= BEGINS
    if data[at] & 0x40:
        marks |= ENDS
    if used[0].syncs[index] and not has_own_indications:
        marks |= SYNC_AFTER
    if bit > 29 and data[at + 3] & 0x80:
        structure[0] = drawn[0]
    return np.int64(used[0].spatial[index]), np.int64(used[0].temporal[index]), marks


@njit(nogil=True)
def _read_structure(data, at, size, drawn):
    """Read the structure that begins at bit 29; returns the bit behind it, beyond `size` if it is not whole."""
    beyond = np.int64(8 * size + 1)
    drawn[0].offset = _bits(data, at, size, 29, 6)
    targets = _bits(data, at, size, 35, 5) + 1
    drawn[0].targets = targets
    drawn[0].count = 0
    spatial, temporal, count, bit = np.int64(0), np.int64(0), 0, 40
    while True:
        if count == TEMPLATES or spatial > MAX_SPATIAL or temporal > MAX_TEMPORAL:
            return beyond
        drawn[0].spatial[count], drawn[0].temporal[count] = spatial, temporal
        count += 1
        step = _bits(data, at, size, bit, 2)
        bit += 2
        if step == LAYERS_END:
            break
        if step == NEXT_TEMPORAL:
            temporal += 1
        elif step == NEXT_SPATIAL:
            spatial, temporal = spatial + 1, np.int64(0)
    drawn[0].count = count
    _note_syncs(data, at, size, bit, drawn)
    bit += 2 * targets * count
    for _ in range(count):
        while _bits(data, at, size, bit, 1):
            bit += 5
        bit += 1
    chains, bit = _non_symmetric(data, at, size, bit, targets + 1)
    if chains:
        for _ in range(targets):
            _, bit = _non_symmetric(data, at, size, bit, chains)
        bit += 4 * chains * count
    has_resolutions = _bits(data, at, size, bit, 1)
    return bit + 1 + has_resolutions * 32 * (spatial + 1)


@njit(nogil=True)
def _note_syncs(data, at, size, first, drawn):
    """Note which templates let a decoder go over to all the pictures of their spatial layer."""
    targets, count = np.int64(drawn[0].targets), np.int64(drawn[0].count)
    for spatial in range(MAX_SPATIAL + 1):
        drawn[0].most[spatial] = drawn[0].tops[spatial] = 0
    for target in range(targets):
        spatial, temporal = np.int64(0), np.int64(0)
        for index in range(count):
            if _bits(data, at, size, first + 2 * (index * targets + target), 2):
                spatial = max(spatial, np.int64(drawn[0].spatial[index]))
                temporal = max(temporal, np.int64(drawn[0].temporal[index]))
        if temporal >= drawn[0].most[spatial]:
            drawn[0].most[spatial], drawn[0].tops[spatial] = temporal, target
    for index in range(count):
        top = np.int64(drawn[0].tops[drawn[0].spatial[index]])
        drawn[0].syncs[index] = _bits(data, at, size, first + 2 * (index * targets + top), 2) == SWITCH


@njit(nogil=True)
def _bits(data, at, size, bit, count):
    """Return `count` bits (16 at most) as int64; those behind the end are zeros."""
    value = np.int64(0)
    for place in range(bit, bit + count):
        octet = place >> 3
        value = (value << 1) | ((np.int64(data[at + octet]) >> (7 - (place & 7))) & 1 if octet < size else 0)
    return value


@njit(nogil=True)
def _non_symmetric(data, at, size, bit, values):
    """Read one of so many values, ns(n) of the specification; returns it, and the bit behind it."""
    width = np.int64(0)
    while values >> width:
        width += 1
    short = (1 << width) - values
    value = _bits(data, at, size, bit, width - 1)
    if value < short:
        return value, bit + width - 1
    return (value << 1) - short + _bits(data, at, size, bit + width - 1, 1), bit + width
