"""Compiled: the receiving side of the messenger's clients: epoll, read, and count what was heard, and how late.

Looks for marks rather than reading frames: half a million messages a second are heard with a part of one core. How late
one is, is judged by the receiving kernel's timestamps. Judged by tests/bench/test_message_receiving.py.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import njit, types

from bench.checking import little
from bench.tables import EVENT_DATA, EVENT_SIZE
from media.io.compiled import keep_compiled
from media.io.native import (
    CLOCK_REALTIME,
    MSG_DONTWAIT,
    SO_TIMESTAMPNS,
    SOL_SOCKET,
    clock_gettime,
    epoll_wait,
    memcmp,
    memcpy,
    recvmmsg,
    write,
)

READ = 262_144  # bytes of one read
EVENTS = 512  # sockets of one epoll_wait
SENT, DIGITS = np.frombuffer(b"sent ", dtype=np.uint8), 19  # and when, in ns since the epoch
OK = np.frombuffer(b"\xa4type\xa2ok", dtype=np.uint8)
ERROR = np.frombuffer(b"\xa4type\xa5error", dtype=np.uint8)
PING = np.frombuffer(b"\x89\x00", dtype=np.uint8)
PONG = np.frombuffer(b"\x8a\x80" + bytes(4), dtype=np.uint8)
KEPT = SENT.size + DIGITS - 1  # bytes of one read that may begin a mark which the next one ends
BIN_NS, BINS = 100_000, 100_000  # of the histogram: 10 s
SECOND_NS = 1_000_000_000


class Count(IntEnum):
    """Cells of `Heard.counts`."""

    HEARD = 0
    ANSWERED = 1
    REFUSED = 2
    READS = 3
    CLOSED = 4
    CELLS = 5


class Heard(NamedTuple):
    """What was heard, and what reading it takes."""

    counts: npt.NDArray[np.int64]  # [Count.CELLS]
    bins: npt.NDArray[np.int64]  # [BINS]: how many were how late
    row_of_fd: npt.NDArray[np.int64]
    kept: npt.NDArray[np.uint8]  # [sockets, KEPT]: the end of what was read last
    kept_size: npt.NDArray[np.int64]  # [sockets]
    data: npt.NDArray[np.uint8]  # [KEPT + READ]
    events: npt.NDArray[np.uint8]  # [EVENTS * EVENT_SIZE]
    header: npt.NDArray[np.uint64]  # [8]: struct mmsghdr
    vector: npt.NDArray[np.uint64]  # [2]: struct iovec
    control: npt.NDArray[np.uint8]
    scratch: npt.NDArray[np.int64]


def make_heard(fds: list[int]) -> Heard:
    """Return tables for sockets."""
    rows = np.full(max(fds, default=0) + 1, -1, dtype=np.int64)
    rows[fds] = np.arange(len(fds))
    heard = Heard(
        counts=np.zeros(Count.CELLS, dtype=np.int64),
        bins=np.zeros(BINS, dtype=np.int64),
        row_of_fd=rows,
        kept=np.zeros((len(fds), KEPT), dtype=np.uint8),
        kept_size=np.zeros(len(fds), dtype=np.int64),
        data=np.zeros(KEPT + READ, dtype=np.uint8),
        events=np.zeros(EVENTS * EVENT_SIZE, dtype=np.uint8),
        header=np.zeros(8, dtype=np.uint64),
        vector=np.zeros(2, dtype=np.uint64),
        control=np.zeros(64, dtype=np.uint8),
        scratch=np.zeros(2, dtype=np.int64),
    )
    heard.vector[0], heard.vector[1] = heard.data[KEPT:].ctypes.data, READ
    heard.header[2], heard.header[3] = heard.vector.ctypes.data, 1
    heard.header[4] = heard.control.ctypes.data
    return heard


keep_compiled("bench-messages", __file__)


@njit(nogil=True)
def _is_at(data, at, end, mark):
    return at + mark.size <= end and memcmp(data[at:].ctypes.data, mark.ctypes.data, np.uint64(mark.size)) == 0


@njit(nogil=True)
def _read_digits(data, at):
    value = np.int64(0)
    for k in range(DIGITS):
        digit = data[at + k] - ord("0")
        if digit < 0 or digit > 9:
            return np.int64(-1)
        value = value * 10 + digit
    return value


@njit(nogil=True)
def _arrived_ns(t):
    at, end = 0, np.int64(t.header[5])
    while at + 32 <= end:
        if little(t.control, at + 8, 4) == SOL_SOCKET and little(t.control, at + 12, 4) == SO_TIMESTAMPNS:
            return little(t.control, at + 16, 8) * SECOND_NS + little(t.control, at + 24, 8)
        at += (max(little(t.control, at, 8), 16) + 7) & ~7
    clock_gettime(np.int32(CLOCK_REALTIME), t.scratch.ctypes.data)
    return t.scratch[0] * SECOND_NS + t.scratch[1]


@njit(nogil=True)
def _count(t, begin, fresh, end, at_ns, fd):
    """Count the marks in a part of `data` that end behind `fresh`: those before were counted with the last read."""
    data, at = t.data, begin
    while at < end:
        first = data[at]
        if first == SENT[0] and _is_at(data, at, end, SENT) and at + SENT.size + DIGITS <= end:
            sent_ns = _read_digits(data, at + SENT.size)
            if sent_ns >= 0:
                t.counts[Count.HEARD] += 1
                t.bins[min(max((at_ns - sent_ns) // BIN_NS, 0), BINS - 1)] += 1
                at += SENT.size + DIGITS
                continue
        elif first == OK[0]:
            if at + OK.size > fresh and _is_at(data, at, end, OK):
                t.counts[Count.ANSWERED] += 1
            elif at + ERROR.size > fresh and _is_at(data, at, end, ERROR):
                t.counts[Count.REFUSED] += 1
        elif first == PING[0] and at + PING.size > fresh and _is_at(data, at, end, PING):
            write(np.int32(fd), PONG.ctypes.data, np.uint64(PONG.size))
        at += 1


@njit(nogil=True)
def _read(t, fd, row):
    t.header[5] = np.uint64(t.control.size)
    got = recvmmsg(np.int32(fd), t.header.ctypes.data, np.uint32(1), np.int32(MSG_DONTWAIT), np.uint64(0))
    size = np.int64(t.header[7] & np.uint64(0xFFFFFFFF))
    if got <= 0:
        return
    if size == 0:
        t.counts[Count.CLOSED] += 1
        return
    t.counts[Count.READS] += 1
    held, end = t.kept_size[row], KEPT + size
    begin = KEPT - held
    memcpy(t.data[begin:].ctypes.data, t.kept[row].ctypes.data, np.uint64(held))
    _count(t, begin, KEPT, end, _arrived_ns(t), fd)
    keep = min(KEPT, end - begin)
    memcpy(t.kept[row].ctypes.data, t.data[end - keep :].ctypes.data, np.uint64(keep))
    t.kept_size[row] = keep


@njit([types.int64(numba.typeof(make_heard([])), types.int64, types.int64)], nogil=True, cache=True)
def listen(t, epoll, patience_ms):
    """Take what has come to the sockets of an epoll, once each; returns how many there were."""
    ready = epoll_wait(np.int32(epoll), t.events.ctypes.data, np.int32(EVENTS), np.int32(patience_ms))
    for i in range(ready):
        fd = little(t.events, i * EVENT_SIZE + EVENT_DATA, 4)
        _read(t, fd, t.row_of_fd[fd])
    return ready
