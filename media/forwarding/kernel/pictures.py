"""Compiled: keeps the numbers of pictures in one line for a viewer whose layer or source changes.

Those of VP8 (RFC 7741 section 4.2), and of frames in dependency descriptors, which keep the gaps of what is left out.

Cost: a few ns a packet; nothing but two comparisons for other codecs. Each layer of simulcast counts its pictures for
itself, and a decoder that sees the count step back takes what follows for late. Reads the cache; writes subscriptions
and the packet at the arena's end. Said in plain Python in reference.py; judged by tests/media/test_reference.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.tables import CACHE, PAYLOAD_TAIL

LEAST_DESCRIPTOR = 3  # octets, which every packet of a frame has
SHORT, LONG = 0x7F, 0x7FFF  # a picture id has 7 bits or, behind a set first bit, 15


@njit(nogil=True)
def read_picture(t, track, slot):
    """Return the picture id of a cached packet that has one."""
    at = np.int64(t.cache_info[track, slot].picture_at)
    first = np.int64(t.cache_heads[track, slot, at])
    return (first & SHORT) << 8 | np.int64(t.cache_heads[track, slot, at + 1]) if first & 0x80 else first


@njit(nogil=True)
def read_frame(t, track, slot):
    """Return the frame number of a cached packet that has a dependency descriptor.

    One that is being written anew meanwhile may have none: then anything is returned, from within its place.
    """
    at = PAYLOAD_TAIL - max(np.int64(t.cache_info[track, slot].descriptor), LEAST_DESCRIPTOR)
    return np.int64(t.cache_tails[track, slot, at + 1]) << 8 | np.int64(t.cache_tails[track, slot, at + 2])


@njit(nogil=True)
def number_pictures(t, s, track, ext_seq):
    """Have the pictures from source packet `ext_seq` on follow those that the subscription got before."""
    slot = ext_seq % CACHE
    info = t.cache_info[track, slot]
    if t.cache_seq[track, slot] != ext_seq or t.subscriptions[s].last_ns == 0:
        return
    if info.picture_at:
        t.subscriptions[s].picture_delta = t.subscriptions[s].last_picture + 1 - read_picture(t, track, slot)
    if info.base_at:
        t.subscriptions[s].base_delta = t.subscriptions[s].last_base + 1 - t.cache_heads[track, slot, info.base_at]
    if info.descriptor:
        t.subscriptions[s].frame_delta = t.subscriptions[s].last_frame + 1 - read_frame(t, track, slot)


@njit(nogil=True)
def renumber_picture(t, s, track, slot, start, shift):
    """Write the subscription's own numbers into the copy of a cached payload at `arena[start]`; its size stays.

    `shift` is added for pictures that were left out, here and in `note_picture`.
    """
    info = t.cache_info[track, slot]
    if info.picture_at:
        number = read_picture(t, track, slot) + t.subscriptions[s].picture_delta + shift
        at = start + info.picture_at
        if t.arena[at] & 0x80:
            t.arena[at] = 0x80 | (number >> 8 & SHORT)
            t.arena[at + 1] = number & 0xFF
        else:
            t.arena[at] = number & SHORT
    if info.base_at:
        t.arena[start + info.base_at] = (
            t.cache_heads[track, slot, info.base_at] + t.subscriptions[s].base_delta
        ) & 0xFF


@njit(nogil=True)
def note_picture(t, s, track, slot, shift):
    """Remember the numbers of the newest packet that the subscription got."""
    info = t.cache_info[track, slot]
    if info.picture_at:
        number = read_picture(t, track, slot) + t.subscriptions[s].picture_delta + shift
        t.subscriptions[s].last_picture = number & LONG
    if info.base_at:
        base = t.cache_heads[track, slot, info.base_at] + t.subscriptions[s].base_delta
        t.subscriptions[s].last_base = base & 0xFF
    if info.descriptor:
        t.subscriptions[s].last_frame = (read_frame(t, track, slot) + t.subscriptions[s].frame_delta) & 0xFFFF
