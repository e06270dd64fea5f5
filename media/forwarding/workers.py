"""The workers of a node, that is its forwarding threads: their sockets, addresses and control rings; fences over all.

Each has UDP sockets of its own, by which a client is on one worker alone, and nothing of a transport is ever written by
two. Worker 0 has the ports that were asked for, the others those that follow.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from media.forwarding.addresses import Address, AddressTable, unpack_sockaddr
from media.forwarding.fences import Fences
from media.forwarding.kernel import loop
from media.forwarding.memory import make_tables
from media.forwarding.scheduling import run_at_once
from media.forwarding.sockets import MediaSockets, end_of, number_of, path_through
from media.forwarding.tables import NEWCOMERS, RING, Count, Limits, Shared, Tables
from media.webrtc.ice import Path


@dataclass(frozen=True, slots=True)
class ControlDatagram:
    """A STUN or DTLS datagram; `transport` is the row that validated its source, or -1."""

    data: bytes
    source: Path
    transport: int


class Workers:
    """All workers, on one set of tables; methods belong to the Trio thread, and only the async ones wait.

    Raises OSError when a port is taken.
    """

    def __init__(self, addresses: Sequence[Address], limits: Limits, count: int) -> None:
        self.tables = make_tables(limits, count)
        self._per_worker = len(addresses)
        self._sockets = MediaSockets([_port_of(address, number) for number in range(count) for address in addresses])
        self._addresses = self._sockets.addresses
        self._address_tables = [AddressTable(tables) for tables in self.tables]
        self._threads: list[threading.Thread] = []
        self._wakes = [os.eventfd(0, os.EFD_NONBLOCK) for _ in self.tables]
        self._notify = os.eventfd(0, os.EFD_NONBLOCK)
        self._attention = trio.Event()
        self.fences = Fences(self.tables, self._wake_all)
        self._died: Exception | None = None
        self.newcomers_late = 0
        common = self.tables[0]
        common.sockets[: len(self._sockets.descriptors)] = self._sockets.descriptors
        common.wakes[:count] = self._wakes
        for number, tables in enumerate(self.tables):
            shared = tables.shared
            shared[Shared.FIRST_SOCKET], shared[Shared.SOCKET_COUNT] = number * self._per_worker, self._per_worker
            shared[Shared.WAKE], shared[Shared.NOTIFY] = self._wakes[number], self._notify

    # -- running -----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the threads until cancelled; raises RuntimeError when one ends by itself."""
        self._threads = [
            threading.Thread(target=self._forward, args=[tables], name=f"forwarding-{number}", daemon=True)
            for number, tables in enumerate(self.tables)
        ]
        for thread in self._threads:
            thread.start()
        try:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(self._notify)
                os.eventfd_read(self._notify)
                if self._died is not None:
                    raise RuntimeError("a forwarding thread died") from self._died
                self.fences.look()
                self._attention.set()
        finally:
            for tables in self.tables:
                tables.shared[Shared.STOP] = 1
            self._wake_all()
            for thread in self._threads:
                thread.join()
            self.fences.end()
            self.close()

    def close(self) -> None:
        """Close every descriptor; the threads have ended, or never ran."""
        self._threads = []
        self._sockets.close()
        for descriptor in (*self._wakes, self._notify):
            os.close(descriptor)

    def _forward(self, tables: Tables) -> None:
        try:
            run_at_once()
            loop.run(tables.whole)
        except Exception as error:
            self._died = error
            os.eventfd_write(self._notify, 1)

    def _wake_all(self) -> None:
        for wake in self._wakes:
            os.eventfd_write(wake, 1)

    # -- datagrams ---------------------------------------------------------------------------------------------------

    async def control(self) -> list[ControlDatagram]:
        """Wait until something needs attention; return the STUN and DTLS datagrams that came (perhaps none)."""
        await self._attention.wait()
        self._attention = trio.Event()
        return [datagram for tables in self.tables for datagram in _take(tables)]

    def send(self, datagram: bytes, destination: Path) -> None:
        """Send at once or not at all; raises OSError."""
        self._sockets.send(datagram, destination)

    def welcome(self, worker: int, transport: int) -> None:
        """Have a viewer begin with what is cached, at once; when too many wait, with the next packet of its tracks."""
        shared = self.tables[worker].shared
        head = int(shared[Shared.NEWCOMERS_HEAD])
        if head - int(shared[Shared.NEWCOMERS_TAIL]) >= NEWCOMERS:
            self.newcomers_late += 1
            return
        self.tables[worker].newcomers[head % NEWCOMERS] = transport
        shared[Shared.NEWCOMERS_HEAD] = head + 1
        os.eventfd_write(self._wakes[worker], 1)

    # -- addresses ---------------------------------------------------------------------------------------------------

    def addresses(self, worker: int) -> tuple[Address, ...]:
        """Return the UDP addresses that a worker is bound to."""
        first = worker * self._per_worker
        return self._addresses[first : first + self._per_worker]

    def path(self, worker: int, address: Address, number: int = 0) -> Path:
        """Return the path to an address through a worker's socket, of whose own it is the one of this number."""
        return path_through(address, worker * self._per_worker + number)

    def at(self, path: Path) -> int:
        """Return the worker through whose socket a path leads."""
        return number_of(path) // self._per_worker

    def bind(self, path: Path, transport: int) -> None:
        """Take media from where a path leads for a transport of its worker."""
        self._address_tables[self.at(path)].bind(end_of(path), transport)

    def unbind(self, path: Path, transport: int) -> None:
        """Take no more from there for this transport."""
        self._address_tables[self.at(path)].unbind(end_of(path), transport)

    def owner(self, path: Path) -> int:
        """Return the transport that has what comes from where a path leads, or -1."""
        return self._address_tables[self.at(path)].owner(end_of(path))

    # -- what they saw -----------------------------------------------------------------------------------------------

    def way_cuts(self) -> int:
        """How often the estimate of any viewer's way was lowered at once."""
        return sum(int(tables.shared[Shared.WAY_CUTS]) for tables in self.tables)

    def counters(self) -> dict[str, int]:
        """Every counter of the path by its name in lower case, of all workers together."""
        each = [tables.counters.tolist() for tables in self.tables]
        counted = {count.name.lower(): sum(one[count] for one in each) for count in Count if count is not Count.CELLS}
        return counted | {"newcomers_late": self.newcomers_late}

    def uses_gso(self) -> bool:
        """Whether the kernel and the ways take merged packets."""
        return all(tables.shared[Shared.USE_GSO] for tables in self.tables)

    def cpu_ns(self) -> list[int]:
        """Return the processor time that each has taken, while they run."""
        idents = [thread.ident for thread in self._threads]
        return [time.clock_gettime_ns(time.pthread_getcpuclockid(ident)) for ident in idents if ident is not None]


def _port_of(address: Address, worker: int) -> Address:
    host, port = address
    return host, port + worker if port else 0


def _take(tables: Tables) -> list[ControlDatagram]:
    shared = tables.shared
    datagrams = []
    for number in range(int(shared[Shared.RING_TAIL]), int(shared[Shared.RING_HEAD])):
        slot = number % RING
        entry = tables.ring[slot]
        source = path_through(unpack_sockaddr(tables.ring_address[slot].tobytes()), int(entry["socket"]))
        data = tables.ring_data[slot, : entry["size"]].tobytes()
        datagrams.append(ControlDatagram(data, source, int(entry["transport"])))
        shared[Shared.RING_TAIL] = number + 1
    return datagrams
