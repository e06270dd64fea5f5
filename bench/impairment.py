"""A bad network for tests: a UDP relay that loses, delays, reorders and queues datagrams, the same way for a seed.

`Link` is one direction and pure: it says when a datagram comes out. `relay` carries real datagrams over two of them,
with a port of its own for each client, as a NAT has. Loss comes in bursts after Gilbert and Elliott (E. N. Gilbert,
"Capacity of a burst-noise channel", 1960); a rate limit has a queue in front of it that drops what finds it full.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

SECOND_NS = 1_000_000_000
MAX_DATAGRAM = 65_535
MAX_CLIENTS = 1024  # ports that a relay opens; a test with more has forgotten one
MAX_WAITING = 65_536  # datagrams on their way: half a second of 1 Gbit/s, and 100 MB at most


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a link does to datagrams; without arguments nothing.

    `loss` is the share that is lost, in bursts of `burst` datagrams on average (1: each by itself). `jitter_ms` is the
    most by which one is later than `delay_ms`; order is kept but for the share `reordered`, which overtakes nothing
    and is overtaken for `late_ms`. `rate_bps` bounds the bits a second, with up to `queue_ms` of them waiting.
    """

    loss: float = 0.0
    burst: float = 1.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    reordered: float = 0.0
    late_ms: float = 20.0
    duplicated: float = 0.0
    rate_bps: float | None = None
    queue_ms: float = 200.0

    def __post_init__(self) -> None:
        shares = (self.loss, self.reordered, self.duplicated)
        times = (self.delay_ms, self.jitter_ms, self.late_ms, self.queue_ms)
        if not all(0 <= share <= 1 for share in shares) or not all(time >= 0 for time in times):
            raise ValueError("shares are from 0 to 1, and times not below 0")
        if self.burst < 1 or self.loss > self.burst / (self.burst + 1):
            raise ValueError("bursts are of 1 or more, and so much can't be lost in bursts that short")
        if self.rate_bps is not None and self.rate_bps <= 0:
            raise ValueError("a rate is above 0; None is no limit")


@dataclass(slots=True)
class Counts:
    """What became of datagrams on one link."""

    entered: int = 0
    lost: int = 0
    overflowed: int = 0
    duplicated: int = 0
    unsent: int = 0  # came out where nobody took them: the socket was full or closed


class Link:
    """One direction. Pure: the only chance is that of `seed`."""

    def __init__(self, impairment: Impairment, seed: int) -> None:
        self.impairment = impairment
        self.counts = Counts()
        self._random = random.Random(seed)
        self._is_losing = False
        self._free_ns = 0  # when the bottleneck has sent what waits
        self._last_ns = 0  # when the newest that keeps its order comes out

    def enter(self, size: int, now_ns: int) -> list[int]:
        """Return when a datagram of `size` octets comes out, in ns: not at all, once or twice."""
        self.counts.entered += 1
        if self._loses():
            self.counts.lost += 1
            return []
        through_ns = self._through(size, now_ns)
        if through_ns is None:
            self.counts.overflowed += 1
            return []
        chance, how = self._random.random, self.impairment
        at_ns = through_ns + _ns(how.delay_ms + how.jitter_ms * chance())
        if chance() < how.reordered:
            at_ns += _ns(how.late_ms)
        else:
            at_ns = self._last_ns = max(at_ns, self._last_ns)
        if chance() < how.duplicated:
            self.counts.duplicated += 1
            return [at_ns, at_ns]
        return [at_ns]

    def _loses(self) -> bool:
        """Step between the two states of a channel that loses all or nothing; in the long run `loss` is lost."""
        how = self.impairment
        if how.burst == 1:
            return self._random.random() < how.loss
        leave, begin = 1 / how.burst, how.loss / (how.burst * (1 - how.loss)) if how.loss else 0.0
        changes = self._random.random() < (leave if self._is_losing else begin)
        self._is_losing ^= changes
        return self._is_losing

    def _through(self, size: int, now_ns: int) -> int | None:
        how = self.impairment
        if how.rate_bps is None:
            return now_ns
        waits_ns = max(0, self._free_ns - now_ns)
        if waits_ns > _ns(how.queue_ms):
            return None
        self._free_ns = now_ns + waits_ns + round(size * 8 * SECOND_NS / how.rate_bps)
        return self._free_ns


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)


@dataclass(slots=True)
class Relay:
    """A relay that runs: clients send to `address`. The links may be replaced at any time, and clients be `gone`."""

    address: tuple[str, int]
    up: Link
    down: Link
    clients: dict[tuple[str, int], trio.socket.SocketType] = field(default_factory=dict)
    gone: set[tuple[str, int]] = field(default_factory=set)  # their datagrams, both ways, come to nothing
    refused: int = 0  # datagrams of clients beyond MAX_CLIENTS


@asynccontextmanager
async def relay(target: tuple[str, int], up: Impairment, down: Impairment, *, seed: int) -> AsyncIterator[Relay]:
    """Carry datagrams between clients and `target` (an IPv4 address on loopback) while the body runs."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as listening:
        await listening.bind(("127.0.0.1", 0))
        running = Relay(listening.getsockname(), Link(up, seed), Link(down, seed + 1))
        async with trio.open_nursery() as nursery:
            carrier = _Carrier()
            nursery.start_soon(carrier.deliver)
            nursery.start_soon(_listen, running, listening, target, carrier, nursery)
            try:
                yield running
            finally:
                nursery.cancel_scope.cancel()


async def _listen(
    running: Relay,
    listening: trio.socket.SocketType,
    target: tuple[str, int],
    carrier: _Carrier,
    nursery: trio.Nursery,
) -> None:
    while True:
        datagram, source = await listening.recvfrom(MAX_DATAGRAM)
        outside = running.clients.get(source)
        if outside is None:
            if len(running.clients) == MAX_CLIENTS:
                running.refused += 1
                continue
            outside = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
            await outside.bind(("127.0.0.1", 0))
            running.clients[source] = outside
            nursery.start_soon(_return, running, outside, listening, source, carrier)
        if source not in running.gone:
            carrier.carry(running.up, datagram, outside, target)


async def _return(
    running: Relay,
    outside: trio.socket.SocketType,
    listening: trio.socket.SocketType,
    client: tuple[str, int],
    carrier: _Carrier,
) -> None:
    with outside:  # closed by whoever reads it: a reader already woken would find a socket closed elsewhere
        while True:
            try:
                datagram, _ = await outside.recvfrom(MAX_DATAGRAM)
            except ConnectionError:
                continue  # nobody listens at the target now: what was sent there is lost, as on any network
            if client not in running.gone:
                carrier.carry(running.down, datagram, listening, client)


class _Carrier:
    """Keeps datagrams until they are due, and sends them."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, Counts, bytes, trio.socket.SocketType, tuple[str, int]]] = []
        self._count = 0
        self._sooner = trio.Event()

    def carry(self, link: Link, datagram: bytes, sender: trio.socket.SocketType, target: tuple[str, int]) -> None:
        now_ns = round(trio.current_time() * SECOND_NS)
        for at_ns in link.enter(len(datagram), now_ns):
            if len(self._due) >= MAX_WAITING:
                link.counts.overflowed += 1
                continue
            self._count += 1
            heapq.heappush(self._due, (at_ns, self._count, link.counts, datagram, sender, target))
        self._sooner.set()

    async def deliver(self) -> None:
        while True:
            now_ns = round(trio.current_time() * SECOND_NS)
            while self._due and self._due[0][0] <= now_ns:
                _, _, counts, datagram, sender, target = heapq.heappop(self._due)
                try:
                    await sender.sendto(datagram, target)
                except (OSError, trio.ClosedResourceError):
                    counts.unsent += 1
            self._sooner = trio.Event()
            left_s = (self._due[0][0] - now_ns) / SECOND_NS if self._due else float("inf")
            with trio.move_on_after(left_s):
                await self._sooner.wait()
