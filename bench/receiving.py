"""Compiled: the receiving side of all viewers: epoll, recvmmsg, count, and decrypt and check a sample.

Runs in its own thread outside the GIL, so that Python is not what is measured. Cost, 2-core VM: 0.4 us a packet that is
not decrypted. Times of arrival are the kernel's (SO_TIMESTAMPNS, since the epoch), so it does not matter when this loop
comes round; it naps between turns. Never calls Python: STUN and DTLS go through a ring. Judged by
tests/bench/test_receiver.py.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, types

from bench.checking import big, check, count_number, little
from bench.tables import (
    AUDIO,
    BATCH,
    CONTROL,
    DECRYPT_ALL,
    DECRYPT_TO_PICTURE,
    EVENT_DATA,
    EVENT_SIZE,
    EVENTS,
    RING,
    RING_DATAGRAM,
    VIDEO,
    Count,
    Heard,
    Shared,
    make_tables,
)
from media.io.compiled import keep_compiled
from media.io.native import (
    CLOCK_REALTIME,
    MSG_DONTWAIT,
    SO_TIMESTAMPNS,
    SOL_SOCKET,
    SOL_UDP,
    UDP_GRO,
    clock_gettime,
    epoll_wait,
    memcpy,
    nanosleep,
    recvmmsg,
    write,
)

NAP_NS = 500_000  # arrivals gather meanwhile, and a sender need not wake this thread for each
IDLE_MS = 50
SOUND_TYPE = 111  # payload types of the viewers' offers (server/client.py)
VIDEO_TYPES = (96, 98, 100, 102)  # each with its RTX one above
SECOND_NS = 1_000_000_000

keep_compiled("bench", __file__)


@njit(nogil=True)
def _receive(t, fd, row):
    for i in range(BATCH):
        t.headers[i, 5] = np.uint64(CONTROL)
    got = recvmmsg(fd, t.headers.ctypes.data, np.uint32(BATCH), np.int32(MSG_DONTWAIT), np.uint64(0))
    for i in range(got):
        size = np.int64(t.headers[i, 7] & np.uint64(0xFFFFFFFF))
        at_ns, segment = _read_control(t, i, size)
        t.counts[row, Count.DATAGRAMS] += 1
        at = 0
        while at < size:
            _take(t, row, t.inbox[i, at : min(at + segment, size)], at_ns)
            at += segment


@njit(nogil=True)
def _read_control(t, i, size):
    """Return when the kernel took a datagram in (ns since the epoch), and the size of the packets merged in it."""
    data, end = t.controls[i], np.int64(t.headers[i, 5])
    at, at_ns, segment = 0, np.int64(0), size
    while at + 16 <= end:
        length = little(data, at, 8)
        level, kind = little(data, at + 8, 4), little(data, at + 12, 4)
        if level == SOL_SOCKET and kind == SO_TIMESTAMPNS:
            at_ns = little(data, at + 16, 8) * SECOND_NS + little(data, at + 24, 8)
        elif level == SOL_UDP and kind == UDP_GRO:
            segment = max(little(data, at + 16, 4), 1)
        if length < 16:
            break
        at += (length + 7) & ~7
    if at_ns == 0:
        t.shared[Shared.UNSTAMPED] += 1
        clock_gettime(np.int32(CLOCK_REALTIME), t.scratch.ctypes.data)
        at_ns = t.scratch[0] * SECOND_NS + t.scratch[1]
    return at_ns, segment


@njit(nogil=True)
def _take(t, row, data, at_ns):
    """Count one packet (uint8[size]), sorted by its first bytes (RFC 7983)."""
    size, counts = data.shape[0], t.counts[row]
    if data[0] < 128 or data[0] >= 192:
        _note(t, row, Heard.CONTROL, at_ns)
        _to_python(t, row, data)
        return
    if size < 12:
        counts[Count.MALFORMED] += 1
        return
    counts[Count.BYTES] += size
    if 192 <= data[1] < 224:
        _note(t, row, Heard.RTCP, at_ns)
        return
    kind = _kind_of(data[1] & 127)
    if kind < 0:
        _note(t, row, Heard.RTX, at_ns)
        return
    _note(t, row, Heard.RTP, at_ns)
    count_number(t, row, kind, big(data, 8, 4), _extended(t, row, kind, data))
    viewer = t.viewers[row]
    if viewer.decrypt == DECRYPT_ALL or (viewer.decrypt == DECRYPT_TO_PICTURE and viewer.picture_ns == 0):
        check(t, row, kind, data, at_ns)


@njit(nogil=True)
def _note(t, row, heard, at_ns):
    t.counts[row, heard] += 1
    place = t.viewers[row].logged % t.log_ns.shape[1]
    t.log_ns[row, place] = at_ns
    t.log_heard[row, place] = heard
    t.viewers[row].logged += 1


@njit(nogil=True)
def _to_python(t, row, data):
    if t.shared[Shared.RING_HEAD] - t.shared[Shared.RING_TAIL] >= RING:
        t.counts[row, Count.RING_FULL] += 1
        return
    place = t.shared[Shared.RING_HEAD] % RING
    size = min(data.shape[0], RING_DATAGRAM)
    t.ring[place, 0], t.ring[place, 1] = row, size
    memcpy(t.ring_data[place].ctypes.data, data.ctypes.data, np.uint64(size))
    t.shared[Shared.RING_HEAD] += 1


@njit(nogil=True)
def _kind_of(payload_type):
    if payload_type == SOUND_TYPE:
        return AUDIO
    for known in VIDEO_TYPES:
        if payload_type == known:
            return VIDEO
    return -1


@njit(nogil=True)
def _extended(t, row, kind, data):
    numbers = t.numbers[row, kind]
    seq = (np.int64(data[2]) << 8) | np.int64(data[3])
    if numbers.got == 0:
        return seq
    return numbers.highest + ((seq - numbers.highest + 0x8000) & 0xFFFF) - 0x8000


@njit([types.int64(numba.typeof(make_tables(1, 1, 1)))], nogil=True, cache=True)
def run(t):
    """Receive until `shared[STOP]`; returns the number of turns."""
    while t.shared[Shared.STOP] == 0:
        epoll = np.int32(t.shared[Shared.EPOLL])
        ready = epoll_wait(epoll, t.events.ctypes.data, np.int32(EVENTS), np.int32(IDLE_MS))
        head = t.shared[Shared.RING_HEAD]
        for i in range(ready):
            fd = little(t.events, i * EVENT_SIZE + EVENT_DATA, 4)
            row = np.int64(t.row_of_fd[fd])
            if row >= 0:
                _receive(t, np.int32(fd), row)
        t.shared[Shared.TURNS] += 1
        if t.shared[Shared.RING_HEAD] != head:
            t.scratch[2] = 1
            write(np.int32(t.shared[Shared.NOTIFY]), t.scratch[2:].ctypes.data, np.uint64(8))
        t.scratch[3], t.scratch[4] = 0, NAP_NS
        nanosleep(t.scratch[3:].ctypes.data, np.uint64(0))
    return t.shared[Shared.TURNS]
