"""The receiving loop's tables: NumPy arrays that it fills and Python reads, one row for each viewer."""

from __future__ import annotations

import platform
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

EVENT_SIZE, EVENT_DATA = (12, 4) if platform.machine() == "x86_64" else (16, 8)  # struct epoll_event is packed on x86
BATCH = 16  # datagrams of one recvmmsg: a wake-up rarely finds more on one socket
DATAGRAM = 65_536  # bytes of one, since the kernel may hand over several packets merged (UDP_GRO)
CONTROL = 128  # bytes of control messages: a time and a segment size take 56
EVENTS = 512  # sockets of one epoll_wait
RING = 2_048  # control datagrams waiting for Python; what comes on top is lost and counted
RING_DATAGRAM = 2_048
FIRST_BUCKETS = 128  # of the histogram: 1.024 us each; from there on each octave has 64, 1.6 % wide
BUCKETS = FIRST_BUCKETS + 20 * 64  # up to 134 s
VIDEO, AUDIO = 0, 1


class Shared(IntEnum):
    """Cells of `Tables.shared` (int64)."""

    STOP = 0  # Python: 1 ends the thread
    EPOLL = 1  # Python: file descriptors
    NOTIFY = 2
    TURNS = 3  # kernel: what Python changed before a turn began is seen by it
    RING_HEAD = 4  # kernel
    RING_TAIL = 5  # Python
    UNSTAMPED = 6  # kernel: datagrams without a kernel time
    CELLS = 7


class Heard(IntEnum):
    """What a datagram was, in a viewer's log and as a column of `Tables.counts`."""

    RTP = 0
    RTX = 1
    RTCP = 2
    CONTROL = 3  # STUN and DTLS


class Count(IntEnum):
    """Columns of `Tables.counts` (int64), one row for each viewer."""

    RTP = 0
    RTX = 1
    RTCP = 2
    CONTROL = 3
    BYTES = 4  # of RTP, RTX and RTCP on the wire, without UDP and IP
    DATAGRAMS = 5  # as received, several packets merged in one
    DECRYPTED = 6
    UNDECRYPTABLE = 7
    WRONG_CONTENT = 8  # decrypted, and not byte for byte what was published
    FOREIGN = 9  # intact, and of another publisher than this viewer watches
    REPEATED = 10
    PADDING = 11
    MALFORMED = 12
    LATE = 13  # out of order
    RING_FULL = 14
    CLOCK_WENT_BACK = 15
    CELLS = 16


DECRYPT_NOTHING, DECRYPT_TO_PICTURE, DECRYPT_ALL = 0, 1, 2

VIEWER = np.dtype(
    [
        ("context", "u8"),  # libsrtp's
        ("decrypt", "i8"),
        ("publisher", "i8"),
        ("picture_ns", "i8"),  # arrival of the last packet of the first whole keyframe, since the epoch; 0 for not yet
        ("key_frame", "i8"),
        ("key_got", "i8"),
        ("logged", "i8"),
    ]
)
# Numbers of one row of packets: those on the wire (rows 0 and 1 of a viewer) or those inside the payload (2 and 3).
NUMBERS = np.dtype(
    [
        ("ssrc", "i8"),
        ("first", "i8"),
        ("highest", "i8"),
        ("got", "i8"),  # different ones; 0 for none yet
        ("window", "u8"),  # which of the last 64 came
    ]
)


class Tables(NamedTuple):
    """All that the loop works on; arrays keep their place in memory for as long as it runs."""

    shared: npt.NDArray[np.int64]
    viewers: npt.NDArray[Any]  # [viewers] VIEWER
    counts: npt.NDArray[np.int64]  # [viewers, Count]
    numbers: npt.NDArray[Any]  # [viewers, 4] NUMBERS
    latency: npt.NDArray[np.int64]  # [BUCKETS]: histogram of one-way latency
    log_ns: npt.NDArray[np.int64]  # [viewers, logged]: the last arrivals, since the epoch
    log_heard: npt.NDArray[np.uint8]  # [viewers, logged]
    row_of_fd: npt.NDArray[np.int32]  # -1 for none
    events: npt.NDArray[np.uint8]
    inbox: npt.NDArray[np.uint8]  # [BATCH, DATAGRAM]
    headers: npt.NDArray[np.uint64]  # [BATCH, 8]: struct mmsghdr
    vectors: npt.NDArray[np.uint64]  # [BATCH, 2]: struct iovec
    controls: npt.NDArray[np.uint8]  # [BATCH, CONTROL]
    ring: npt.NDArray[np.int64]  # [RING, 2]: viewer, size
    ring_data: npt.NDArray[np.uint8]  # [RING, RING_DATAGRAM]
    scratch: npt.NDArray[np.int64]


def make_tables(viewers: int, logged: int, descriptors: int) -> Tables:
    """Make tables for so many viewers, arrivals remembered of each, and file numbers."""
    tables = Tables(
        shared=np.zeros(Shared.CELLS, dtype=np.int64),
        viewers=np.zeros(viewers, dtype=VIEWER),
        counts=np.zeros((viewers, Count.CELLS), dtype=np.int64),
        numbers=np.zeros((viewers, 4), dtype=NUMBERS),
        latency=np.zeros(BUCKETS, dtype=np.int64),
        log_ns=np.zeros((viewers, logged), dtype=np.int64),
        log_heard=np.zeros((viewers, logged), dtype=np.uint8),
        row_of_fd=np.full(descriptors, -1, dtype=np.int32),
        events=np.zeros(EVENTS * EVENT_SIZE, dtype=np.uint8),
        inbox=np.zeros((BATCH, DATAGRAM), dtype=np.uint8),
        headers=np.zeros((BATCH, 8), dtype=np.uint64),
        vectors=np.zeros((BATCH, 2), dtype=np.uint64),
        controls=np.zeros((BATCH, CONTROL), dtype=np.uint8),
        ring=np.zeros((RING, 2), dtype=np.int64),
        ring_data=np.zeros((RING, RING_DATAGRAM), dtype=np.uint8),
        scratch=np.zeros(8, dtype=np.int64),
    )
    for i in range(BATCH):
        tables.vectors[i] = tables.inbox[i].ctypes.data, DATAGRAM
        tables.headers[i, 2:4] = tables.vectors[i].ctypes.data, 1
        tables.headers[i, 4] = tables.controls[i].ctypes.data
    return tables
