"""Compiled: RTP opened by AES-GCM, each packet once (RFC 7714, RFC 3711 section 3.3), without libsrtp's bookkeeping.

libsrtp shifts the whole window for each packet that arrives, and sets up its cipher in six calls. Reads transports and
salts; writes the packet, the windows of sources and counters. Judged by tests/media/test_opening.py against RFC 7714
and libsrtp.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.replays import WINDOW
from media.forwarding.tables import Count
from media.io.cipher import SET_TAG, TAG_BYTES, control, decrypt_init, transform

MEDIAN = 1 << 15
WORD = 64  # bits


@njit(nogil=True)
def open_rtp(t, transport, place, data, size, context):
    """Decrypt an RTP packet in place; returns its size without the tag, or 0 with the reason counted.

    `place` is where its source is in `ssrcs`, -1 for one of which nothing came before. Nothing is noted of the packet:
    whoever takes it calls `note_opened`.
    """
    head = _head(data, size)
    if head + TAG_BYTES > size:
        t.counters[Count.UNPROTECT_OTHER] += np.uint64(1)
        return 0
    highest = np.int64(-1) if place < 0 else np.int64(t.windows[transport, place].highest)
    index = extended(highest, (np.int64(data[2]) << 8) | np.int64(data[3]))
    if highest >= 0 and _came_before(t.windows[transport, place], index):
        t.counters[Count.UNPROTECT_REPLAY] += np.uint64(1)
        return 0
    if not _decrypt(t, data, head, size, index, context, t.opening_salts[transport]):
        t.counters[Count.UNPROTECT_AUTH] += np.uint64(1)
        return 0
    return size - TAG_BYTES


@njit(nogil=True)
def note_opened(t, transport, place, seq):
    """Note that a packet came, so that it does not come again."""
    window = t.windows[transport, place]
    highest = np.int64(window.highest)
    index = extended(highest, seq)
    if index > highest:
        for passed in range(max(highest + 1, index - WINDOW + 1), index):
            window.seen[passed % WINDOW // WORD] &= ~(np.uint64(1) << np.uint64(passed % WORD))
        t.windows[transport, place].highest = index
    window.seen[index % WINDOW // WORD] |= np.uint64(1) << np.uint64(index % WORD)


@njit(nogil=True)
def extended(highest, seq):
    """Return the index of a packet: its number with the rollover counter above 16 bits (RFC 3711 section 3.3.1).

    `highest` is the largest index so far, -1 for none. As libsrtp has it, nobody begins just before a rollover.
    """
    if highest <= MEDIAN:
        return seq
    latest, rollovers = highest & 0xFFFF, highest >> 16
    if latest < MEDIAN:
        rollovers -= np.int64(seq - latest > MEDIAN)
    else:
        rollovers += np.int64(latest - MEDIAN > seq)
    return rollovers << 16 | seq


@njit(nogil=True)
def _came_before(window, index):
    behind = window.highest - index
    if behind < 0:
        return False
    word = window.seen[index % WINDOW // WORD]
    return behind >= WINDOW or word >> np.uint64(index % WORD) & np.uint64(1) != 0


@njit(nogil=True)
def _head(data, size):
    """Return where the encrypted part begins, beyond `size` where the header says more than there is."""
    head = np.int64(12 + 4 * (data[0] & 15))
    if data[0] & 0x10:
        if head + 4 > size:
            return size
        head += 4 + 4 * ((np.int64(data[head + 2]) << 8) | np.int64(data[head + 3]))
    return head


@njit(nogil=True)
def _decrypt(t, data, head, size, index, context, salt):
    iv = t.iv
    for i in range(12):
        iv[i] = salt[i]
    for i in range(4):
        iv[2 + i] ^= data[8 + i]  # SSRC
        iv[6 + i] ^= (index >> (40 - 8 * i)) & 255  # rollover counter
    iv[10] ^= (index >> 8) & 255
    iv[11] ^= index & 255
    nothing, start = np.uint64(0), data.ctypes.data
    body, tag = start + np.uint64(head), start + np.uint64(size - TAG_BYTES)
    if decrypt_init(context, nothing, nothing, nothing, iv.ctypes.data) != 1:
        return False
    if control(context, np.int32(SET_TAG), np.int32(TAG_BYTES), tag) != 1:
        return False
    if transform(context, nothing, start, np.uint32(head)) < 0:
        return False
    if head + TAG_BYTES < size and transform(context, body, body, np.uint32(size - TAG_BYTES - head)) < 0:
        return False
    return transform(context, nothing, nothing, np.uint32(0)) >= 0
