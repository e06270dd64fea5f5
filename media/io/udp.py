"""A UDP socket that reads and writes in batches and never waits, except for something to read."""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Sequence

import trio

SOL_UDP, UDP_SEGMENT = 17, 103  # linux/udp.h: let the kernel cut one buffer into datagrams
MAX_SEGMENTS = 64  # what kernels since 4.18 take
MAX_BATCH_BYTES = 65_000  # of one buffer; it is one IP packet until it is cut
MAX_DATAGRAM_BYTES = 2_048  # nobody sends longer ones over the Internet
READ_BATCH = 64  # datagrams read before they are answered
BUFFER_BYTES = 4 << 20  # what the kernel may keep in either direction: 30 ms at 1 Gbit/s
NO_OFFLOAD = (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT)

Destination = tuple[str, int] | tuple[str, int, int, int]
Datagram = tuple[bytes, Destination]


class UdpSocket:
    """A bound socket. Raises OSError when the address can't be bound."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.counts = Counter[str]()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self._offloads = True

    @property
    def address(self) -> tuple[str, int]:
        """Where it is bound."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def fd(self) -> int:
        """The system's number of it."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close; once is enough."""
        self._socket.close()

    async def receive(self) -> list[Datagram]:
        """Return what has arrived, at least one datagram."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            batch: list[Datagram] = []
            try:
                while len(batch) < READ_BATCH:
                    batch.append(self._socket.recvfrom(MAX_DATAGRAM_BYTES))
            except BlockingIOError:
                pass
            except OSError:
                self.counts["read_errors"] += 1  # an ICMP error of something sent before
            if batch:
                self.counts["datagrams_received"] += len(batch)
                return batch

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send in order; neighbours of one size to one destination leave in one call. What finds no room is lost."""
        start = 0
        while start < len(datagrams):
            end = self._batch_end(datagrams, start)
            batch = [data for data, _ in datagrams[start:end]]
            self._send_batch(batch, datagrams[start][1])
            start = end

    def send_burst(self, data: bytes, size: int, destination: Destination) -> None:
        """Send datagrams of `size` bytes that lie behind each other, the last perhaps shorter, in one call."""
        if self._offloads and size < len(data) <= min(MAX_BATCH_BYTES, MAX_SEGMENTS * size):
            self._send_segments([data], -(-len(data) // size), size, destination)
        else:
            self.send([(data[at : at + size], destination) for at in range(0, len(data), size)])

    def _batch_end(self, datagrams: Sequence[Datagram], start: int) -> int:
        data, destination = datagrams[start]
        size = len(data)
        most = min(MAX_SEGMENTS, MAX_BATCH_BYTES // max(size, 1)) if self._offloads else 1
        end = start + 1
        while end < len(datagrams) and end - start < most:
            data, next_destination = datagrams[end]
            if next_destination != destination or len(data) > size:
                break
            end += 1
            if len(data) < size:
                break  # only the last may be shorter
        return end

    def _send_batch(self, batch: list[bytes], destination: Destination) -> None:
        self._send_segments(batch, len(batch), len(batch[0]), destination)

    def _send_segments(self, parts: list[bytes], count: int, size: int, destination: Destination) -> None:
        try:
            if count == 1:
                self._socket.sendto(parts[0], destination)
            else:
                segment = (SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))
                self._socket.sendmsg(parts, [segment], 0, destination)
        except BlockingIOError:
            self.counts["send_buffer_full"] += count
        except OSError as error:
            if count > 1 and error.errno in NO_OFFLOAD:
                # A path or a kernel without it: from now on one call for each.
                self._offloads = False
                self.counts["offload_refused"] += 1
                self.send_burst(b"".join(parts), size, destination)
                return
            self.counts["send_errors"] += count
        else:
            self.counts["datagrams_sent"] += count
            self.counts["send_calls"] += 1
