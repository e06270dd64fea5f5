"""The receiving side of many viewers as the tools see it: sockets taken over, counts read, control passed back."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import trio
from pylibsrtp import Session

from bench import receiving
from bench import tables as layout
from bench.tables import BUCKETS, DECRYPT_NOTHING, FIRST_BUCKETS, RING, Count, Heard, Shared
from media.io.native import SO_TIMESTAMPNS, SOL_SOCKET, SOL_UDP, UDP_GRO
from media.webrtc.srtp import SrtpKeys, context_address, open_receiver

MOST_VIEWERS = 4_096  # of one process
LOGGED = 1_024  # arrivals remembered of each viewer: 6 s of a 1 Mbit/s stream
SOCKET_BUFFER = 4 << 20  # bytes; the kernel grants what net.core.rmem_max allows
BUCKET_NS = 1_024


class Decrypt(IntEnum):
    """Which of a viewer's packets are decrypted and checked."""

    NOTHING = layout.DECRYPT_NOTHING
    TO_PICTURE = layout.DECRYPT_TO_PICTURE
    ALL = layout.DECRYPT_ALL


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything counted until a moment, over all viewers, those that left included."""

    counts: npt.NDArray[np.int64]  # [Count]
    lost: int  # gaps in the numbers on the wire
    lost_inside: int  # gaps in the publisher's own numbering, where it was decrypted
    latency: npt.NDArray[np.int64]  # [BUCKETS]

    def since(self, before: Totals) -> Totals:
        """Return what was added after `before`."""
        return Totals(
            self.counts - before.counts,
            self.lost - before.lost,
            self.lost_inside - before.lost_inside,
            self.latency - before.latency,
        )

    def count(self, of: Count) -> int:
        """Return one count."""
        return int(self.counts[of])

    def latency_ms(self, share: float) -> float | None:
        """Return the latency that `share` of the decrypted packets stay below; None without any."""
        total = int(self.latency.sum())
        if total == 0:
            return None
        bucket = int(np.searchsorted(np.cumsum(self.latency), max(share * total, 1)))
        return _upper_ns(min(bucket, BUCKETS - 1)) / 1e6


def _upper_ns(bucket: int) -> int:
    if bucket < FIRST_BUCKETS:
        return (bucket + 1) * BUCKET_NS
    octave, place = divmod(bucket - FIRST_BUCKETS, 64)
    return (place + 65) * BUCKET_NS << octave + 1


@dataclass(slots=True)
class _Viewer:
    descriptor: int
    on_control: Callable[[bytes], None]
    session: Session | None


@dataclass(slots=True)
class Receiver:
    """One thread that receives for all; `run` it in a nursery, and call its methods from the Trio thread.

    With `merge` the kernel may hand over several packets of one viewer at once (UDP_GRO).
    """

    merge: bool = True
    capacity: int = MOST_VIEWERS
    _viewers: dict[int, _Viewer] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)
    _leaving: list[tuple[int, int]] = field(default_factory=list)  # turn from which a row is not touched, row

    tables: layout.Tables = field(init=False)
    _past: Totals = field(init=False)
    _epoll: select.epoll = field(init=False)
    _notify: int = field(init=False)
    _asks: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        descriptors = _raise_descriptor_limit()
        self.tables = layout.make_tables(self.capacity, LOGGED, descriptors)
        self._past = Totals(np.zeros(Count.CELLS, dtype=np.int64), 0, 0, np.zeros(BUCKETS, dtype=np.int64))
        self._free = list(range(self.capacity - 1, -1, -1))
        self._epoll = select.epoll()
        self._notify = os.eventfd(0, os.EFD_NONBLOCK)
        # The kernel stamps arrivals as long as any socket asks: also what waits in one that is only then taken over.
        self._asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        _stamp_arrivals(self._asks)
        self.tables.shared[Shared.EPOLL] = self._epoll.fileno()
        self.tables.shared[Shared.NOTIFY] = self._notify

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled."""
        thread = threading.Thread(target=receiving.run, args=[self.tables], name="receiving", daemon=True)
        thread.start()
        try:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(self._notify)
                os.eventfd_read(self._notify)
                self._pass_control()
        finally:
            self.tables.shared[Shared.STOP] = 1
            thread.join()
            for viewer in self._viewers.values():
                os.close(viewer.descriptor)
            self._viewers.clear()
            self._asks.close()
            self._epoll.close()
            os.close(self._notify)

    def take(
        self,
        opened: socket.socket | trio.socket.SocketType,
        on_control: Callable[[bytes], None],
        *,
        keys: SrtpKeys | None = None,
        decrypt: Decrypt = Decrypt.NOTHING,
        publisher: int = 0,
    ) -> int:
        """Receive from a socket from now on, with what already waits in it; returns the viewer's row.

        `publisher` is whose packets the viewer should get. STUN and DTLS go to `on_control`. The caller may close the
        socket after `release`.
        """
        row = self._free.pop()
        tables = self.tables
        session = open_receiver(keys) if keys is not None else None
        tables.viewers[row : row + 1] = np.zeros(1, dtype=layout.VIEWER)
        tables.numbers[row] = np.zeros(4, dtype=layout.NUMBERS)
        tables.counts[row] = 0
        tables.viewers["context"][row] = context_address(session) if session is not None else 0
        tables.viewers["decrypt"][row] = decrypt if session is not None else DECRYPT_NOTHING
        tables.viewers["publisher"][row] = publisher
        tables.viewers["key_frame"][row] = -1
        descriptor = os.dup(opened.fileno())  # ours: the file number can't become another file under the thread
        _stamp_arrivals(opened)
        if self.merge:
            opened.setsockopt(SOL_UDP, UDP_GRO, 1)
        tables.row_of_fd[descriptor] = row
        self._viewers[row] = _Viewer(descriptor, on_control, session)
        self._epoll.register(descriptor, select.EPOLLIN)
        return row

    def release(self, row: int) -> None:
        """No longer receive for a viewer; its counts stay in the totals."""
        descriptor = self._viewers[row].descriptor
        self._epoll.unregister(descriptor)
        self.tables.row_of_fd[descriptor] = -1
        # The turn that runs now may still be at it; the one after the next can't.
        self._leaving.append((int(self.tables.shared[Shared.TURNS]) + 2, row))
        self._bury()

    def totals(self) -> Totals:
        """Return everything counted until now."""
        self._bury()
        total = self._past
        for row in self._viewers:
            total = _add(total, self._row_totals(row))
        latency = self.tables.latency.copy()
        return Totals(total.counts, total.lost, total.lost_inside, latency)

    def received(self, row: int) -> int:
        """Return how many RTP packets a viewer got, without retransmissions."""
        return int(self.tables.counts[row, Count.RTP])

    def row_totals(self, row: int) -> Totals:
        """Return what one viewer got until now; its latencies are not kept apart."""
        return self._row_totals(row)

    def picture_ns(self, row: int) -> int:
        """When the viewer's first keyframe was whole (ns since the epoch); 0 for not yet."""
        return int(self.tables.viewers["picture_ns"][row])

    def await_picture(self, row: int) -> None:
        """Look out for the next whole keyframe of a viewer that gets nothing just now, as if it were the first."""
        viewers = self.tables.viewers
        viewers["key_frame"][row], viewers["key_got"][row], viewers["picture_ns"][row] = -1, 0, 0

    def arrivals_after(self, row: int, wall_ns: int) -> dict[Heard, list[int]]:
        """Return when packets came after `wall_ns` (ns since the epoch), by kind, of the last LOGGED ones."""
        logged = int(self.tables.viewers["logged"][row])
        places = np.arange(max(logged - LOGGED, 0), logged) % LOGGED
        times, heard = self.tables.log_ns[row, places], self.tables.log_heard[row, places]
        return {kind: times[(heard == kind) & (times > wall_ns)].tolist() for kind in Heard}

    def _bury(self) -> None:
        turns = int(self.tables.shared[Shared.TURNS])
        while self._leaving and self._leaving[0][0] <= turns:
            row = self._leaving.pop(0)[1]
            self._past = _add(self._past, self._row_totals(row))
            os.close(self._viewers.pop(row).descriptor)
            self._free.append(row)

    def _row_totals(self, row: int) -> Totals:
        numbers = self.tables.numbers[row].copy()
        lost = np.where(numbers["got"] > 0, numbers["highest"] - numbers["first"] + 1 - numbers["got"], 0)
        none = np.zeros(BUCKETS, dtype=np.int64)
        return Totals(self.tables.counts[row].copy(), int(lost[:2].sum()), int(lost[2:].sum()), none)

    def _pass_control(self) -> None:
        shared, tables = self.tables.shared, self.tables
        for number in range(int(shared[Shared.RING_TAIL]), int(shared[Shared.RING_HEAD])):
            row, size = tables.ring[number % RING].tolist()
            datagram = tables.ring_data[number % RING, :size].tobytes()
            shared[Shared.RING_TAIL] = number + 1
            if row in self._viewers:
                self._viewers[row].on_control(datagram)


def _stamp_arrivals(opened: socket.socket | trio.socket.SocketType) -> None:
    opened.setsockopt(SOL_SOCKET, SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)


def _add(one: Totals, other: Totals) -> Totals:
    return Totals(one.counts + other.counts, one.lost + other.lost, one.lost_inside + other.lost_inside, one.latency)


def _raise_descriptor_limit() -> int:
    """Allow this process as many open files as it may have; returns a bound on their numbers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
