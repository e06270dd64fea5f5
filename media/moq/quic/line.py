"""The socket of an endpoint and the table of its connections: datagrams in and out, many in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from media.io.udp import Datagram, UdpSocket
from media.moq.kernel.sockets import BATCH
from media.moq.quic.table import ConnectionTable

READ_BATCHES = 16  # of datagrams, before they are answered


class Line:
    """A bound socket, and a table of so many places. Raises OSError when the address can't be bound."""

    def __init__(self, host: str, port: int, capacity: int) -> None:
        self.table = ConnectionTable(capacity)
        self._socket = UdpSocket(host, port)
        self._offloads = True

    @property
    def fd(self) -> int:
        """The system's number of the socket."""
        return self._socket.fd

    @property
    def address(self) -> tuple[str, int]:
        """Where it is bound."""
        return self._socket.address

    def close(self) -> None:
        """Close; once is enough."""
        self._socket.close()

    def counters(self) -> Counter[str]:
        """Return what became of datagrams, by name."""
        return self._socket.counts + self.table.counters()

    def read(self, now_s: Callable[[], float]) -> list[Datagram]:
        """Read what is there, up to a bound; returns what does more than acknowledge (s, monotonic)."""
        found: list[Datagram] = []
        for _ in range(READ_BATCHES):
            try:
                count, more = self.table.receive(self.fd, now_s)
            except BlockingIOError:
                break
            except OSError:
                self._socket.counts["read_errors"] += 1  # an ICMP error of something sent before
                continue
            self._socket.counts["datagrams_received"] += count
            found += more
            if count < BATCH:
                break
        return found

    def say(self, datagrams: Sequence[Datagram]) -> None:
        """Send datagrams; what finds no room is lost."""
        self._socket.send(datagrams)

    def flush(self, rows: Sequence[int], now: float) -> None:
        """Have the kernel send what these connections have to send (s, monotonic)."""
        self._offloads = self.table.send(rows, self.fd, now, offloads=self._offloads)
