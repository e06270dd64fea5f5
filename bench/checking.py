"""Compiled: whether a packet is what its publisher made, and what its numbers and times say.

Cost, 2-core VM: 0.7 us a decrypted packet, most of it libsrtp's. Every index is checked against the packet's size,
since compiled code does not check for us. Judged by tests/bench/test_receiver.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bench.payload import (
    DELTA_HEADER,
    DESCRIPTOR_SIZE,
    FILLER,
    FILLER_STARTS,
    FILLER_STEPS,
    FRAME_HEADER_SIZE,
    KEY,
    KEY_HEADER,
    MAGIC,
    STAMP_SIZE,
)
from bench.tables import AUDIO, BUCKETS, FIRST_BUCKETS, VIDEO, Count
from media.io.native import memcmp, srtp_unprotect

KEY_HEAD = np.frombuffer(KEY_HEADER, dtype=np.uint8)
DELTA_HEAD = np.frombuffer(DELTA_HEADER, dtype=np.uint8)


@njit(nogil=True)
def little(data, at, size):
    """Read `size` bytes in Intel order."""
    value = np.int64(0)
    for k in range(size):
        value |= np.int64(data[at + k]) << (8 * k)
    return value


@njit(nogil=True)
def big(data, at, size):
    """Read `size` bytes in network order."""
    value = np.int64(0)
    for k in range(size):
        value = (value << 8) | np.int64(data[at + k])
    return value


@njit(nogil=True)
def count_number(t, row, place, ssrc, number):
    """Count a packet's number; what is missing between the first and the highest is lost."""
    numbers = t.numbers[row, place]
    if numbers.got == 0 or numbers.ssrc != ssrc:
        t.numbers[row, place].ssrc = ssrc
        t.numbers[row, place].first = t.numbers[row, place].highest = number
        t.numbers[row, place].got = 1
        t.numbers[row, place].window = np.uint64(1)
        return
    ahead = number - numbers.highest
    if ahead > 0:
        window = numbers.window << np.uint64(ahead) if ahead < 64 else np.uint64(0)
        t.numbers[row, place].window = window | np.uint64(1)
        t.numbers[row, place].highest = number
    else:
        bit = np.uint64(1) << np.uint64(min(-ahead, 63))
        if number < numbers.first or ahead <= -64 or numbers.window & bit:
            t.counts[row, Count.REPEATED] += 1
            return
        t.numbers[row, place].window |= bit
        t.counts[row, Count.LATE] += 1
    t.numbers[row, place].got += 1


@njit(nogil=True)
def check(t, row, kind, data, at_ns):
    """Decrypt a packet in place and compare it with what its publisher made."""
    counts = t.counts[row]
    t.scratch[5] = data.shape[0]
    if srtp_unprotect(t.viewers[row].context, data.ctypes.data, t.scratch[5:].ctypes.data) != 0:
        counts[Count.UNDECRYPTABLE] += 1
        return
    counts[Count.DECRYPTED] += 1
    size = t.scratch[5] & 0xFFFFFFFF
    start = np.int64(12 + 4 * (data[0] & 15))
    if data[0] & 0x10 and start + 4 <= size:
        start += 4 + 4 * big(data, start + 2, 2)
    if data[0] & 0x20 and size > start:
        size -= np.int64(data[size - 1])
    if start >= size:
        counts[Count.PADDING] += 1
        return
    payload = data[start:size]
    if not _is_intact(payload, kind):
        counts[Count.WRONG_CONTENT] += 1
        return
    stamp = _stamp_at(payload, kind)
    if little(payload, stamp + 4, 2) != t.viewers[row].publisher:
        counts[Count.FOREIGN] += 1
        return
    count_number(t, row, 2 + kind, np.int64(0), little(payload, stamp + 16, 8))
    if kind == VIDEO and payload[stamp + 6] & KEY:
        _see_keyframe(t, row, payload, stamp, at_ns)
    sent_ns = little(payload, stamp + 24, 8)
    if t.viewers[row].picture_ns != 0 and sent_ns >= t.viewers[row].picture_ns:
        # What is older was sent again for this viewer's start: its age is no latency.
        _count_latency(t, row, at_ns - sent_ns)


@njit(nogil=True)
def _stamp_at(payload, kind):
    if kind == AUDIO:
        return 0
    return DESCRIPTOR_SIZE + (FRAME_HEADER_SIZE if payload[0] & 0x10 else 0)


@njit(nogil=True)
def _is_stamp(payload, at):
    check = np.int64(MAGIC)
    for word in range(at + 4, at + STAMP_SIZE, 4):
        check += little(payload, word, 4)
    return little(payload, at, 4) == check & 0xFFFFFFFF


@njit(nogil=True)
def _is_intact(payload, kind):
    # The picture id alone is not compared: servers that switch between layers write their own.
    size = payload.shape[0]
    stamp = _stamp_at(payload, kind)
    filler = stamp + STAMP_SIZE
    if size < filler or not _is_stamp(payload, stamp) or little(payload, stamp + 10, 2) != size:
        return False
    index, number = payload[stamp + 7], little(payload, stamp + 16, 8)
    if kind == VIDEO:
        if payload[0] != (0x90 if index == 0 else 0x80) or payload[1] != 0x80:
            return False
        if index == 0:
            head = KEY_HEAD if payload[stamp + 6] & KEY else DELTA_HEAD
            if memcmp(payload[DESCRIPTOR_SIZE:].ctypes.data, head.ctypes.data, np.uint64(FRAME_HEADER_SIZE)) != 0:
                return False
    publisher = little(payload, stamp + 4, 2)
    start = (number * FILLER_STEPS[0] + publisher * FILLER_STEPS[1]) % FILLER_STARTS
    return memcmp(payload[filler:].ctypes.data, FILLER[start:].ctypes.data, np.uint64(size - filler)) == 0


@njit(nogil=True)
def _see_keyframe(t, row, payload, stamp, at_ns):
    frame = little(payload, stamp + 12, 4)
    if t.viewers[row].key_frame != frame:
        t.viewers[row].key_frame = frame
        t.viewers[row].key_got = 0
    t.viewers[row].key_got += 1
    if t.viewers[row].picture_ns == 0 and t.viewers[row].key_got == little(payload, stamp + 8, 2):
        t.viewers[row].picture_ns = at_ns


@njit(nogil=True)
def _count_latency(t, row, latency_ns):
    if latency_ns < 0:
        t.counts[row, Count.CLOCK_WENT_BACK] += 1
        latency_ns = 0
    value = latency_ns >> 10
    octave = 0
    while value >= FIRST_BUCKETS:
        value >>= 1
        octave += 1
    bucket = value if octave == 0 else FIRST_BUCKETS + (octave - 1) * 64 + value - 64
    t.latency[min(bucket, BUCKETS - 1)] += 1
