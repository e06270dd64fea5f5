"""ICE over TCP (RFC 6544): takes connections of those whose network lets no UDP through, and carries their datagrams.

Each connection has a UDP socket of its own, with which the forwarding thread talks as with any client, so that there
is one path for packets and one place where they are admitted. TCP keeps what it can't send yet, so here they are
judged once more: when they are written, and until they have left the machine. Whoever is cut while something of it
waits loses the connection with it.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from media.facts import MediaSettings
from media.forwarding.addresses import Address
from media.forwarding.forwarder import Forwarder
from media.io.networks import network_of
from media.io.tcp import has_unsent, reset
from media.webrtc.ice import Path
from media.wire.framing import FrameReader, framed
from media.wire.malformed import MalformedPacket

CONNECTIONS = 4_096  # each costs two descriptors and, while it is slow, up to 200 kB
CONNECTIONS_PER_NETWORK = 512  # behind one address there may be a whole company
FIRST_CHECK_S = 10.0  # for a check that names a session to come: browsers send it at once
LOOK_S = 5.0  # how late the end of its session ends a connection; until then its last words can leave
STALL_S = 10.0  # a reader that takes nothing for so long has gone, or never sees a live picture
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.004, 0.032  # between looks at what has not left yet
READ_BYTES = 65_536
BATCH_BYTES = 32_768  # after so many no more is read before they have left: a cut finds no more than one batch unsent
QUEUE_BYTES = 131_072  # of packets that wait for the connection, as the kernel counts them; what comes then is lost
SOL_UDP, UDP_GRO = 17, 104  # linux/udp.h: take what was sent as one message as one
GRO_SPACE = socket.CMSG_SPACE(4)
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
FULL_PAUSE_S = 0.1  # before accepting again when the machine can't
# What may become of connections, and of datagrams within them.
OUTCOMES = ("accepted", "over_limit", "strangers", "malformed", "broken", "stalled", "cut", "faults")
DATAGRAMS = ("withheld", "lost")

log = structlog.get_logger("media")


class Agent(Protocol):
    """Who answers the checks of those who connect."""

    def worker_untrusted(self, check: bytes) -> int | None:
        """Return the worker of the session of ours that a datagram names, None if it is no such check."""
        ...

    def take_check_untrusted(self, check: bytes, source: Path, seen_as: Address) -> None:
        """Take a check from `source`, whose sender is to hear that it is seen as another address."""
        ...

    def lose(self, source: Path) -> None:
        """Forget an address: nothing comes from there any more, and nothing must be sent there."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound TCP socket, and which of its worker's sockets takes the datagrams of those who connect to it."""

    socket: socket.socket
    media: Address  # of the first worker
    number: int

    @property
    def address(self) -> Address:
        """Where it is bound."""
        host, port = self.socket.getsockname()[:2]
        return host, port


def open_listeners(settings: MediaSettings, media: Sequence[Address]) -> list[Listener]:
    """Bind where connections are taken, beside the UDP addresses; raises OSError, which names what is taken."""
    listeners: list[Listener] = []
    if settings.tcp_port is None:
        return listeners
    any_will_do = not settings.tcp_port and not settings.address[1]  # as did for UDP
    try:
        for number, address in enumerate(media):
            opened = _listen(address, settings.tcp_port or address[1], any_will_do=any_will_do)
            listeners.append(Listener(opened, address, number))
    except OSError:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


def _listen(media: Address, port: int, *, any_will_do: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in media[0] else socket.AF_INET
    try:
        opened = socket.create_server((media[0], port), family=family, backlog=1_024)
    except OSError as error:
        if any_will_do:
            return _listen(media, 0, any_will_do=False)
        raise OSError(error.errno, f"TCP port {port}: {os.strerror(error.errno or 0)}") from error
    opened.setblocking(False)
    return opened


class IceTcp:
    """Takes connections on all listeners, and carries their datagrams to the forwarding thread and back."""

    def __init__(self, forwarder: Forwarder, agent: Agent, listeners: Sequence[Listener]) -> None:
        self._forwarder, self._agent, self._listeners = forwarder, agent, listeners
        self._carried: set[_Carried] = set()
        self._open: Counter[str] = Counter()  # by who stands behind an address
        self.counts: Counter[str] = Counter(dict.fromkeys((*OUTCOMES, *DATAGRAMS), 0))

    def candidates(self, advertise: Sequence[Address]) -> tuple[Address, ...]:
        """Return where clients are to connect; `advertise` are the UDP addresses that a NAT forwards here."""
        own = [listener.address for listener in self._listeners]
        if not own:
            return ()
        (_, media_port), (_, port) = self._listeners[0].media, own[0]
        return *own, *((host, outer if port == media_port else port) for host, outer in advertise)

    def counters(self) -> dict[str, int]:
        """How many connections there are, and what became of others and of their datagrams."""
        named = {f"ice_tcp_{word}": count for word, count in self.counts.items()}
        return {"ice_tcp_connections": self._open.total(), **named}

    def cut(self) -> None:
        """Have nothing leave any more for those who are not admitted now."""
        for carried in tuple(self._carried):
            carried.cut()

    def distrust(self, transport: int) -> None:
        """Drop what waits for a transport that may not have all of it any more; what is decided from now on goes."""
        for carried in tuple(self._carried):
            if carried.transport == transport:
                carried.distrust()

    async def run(self) -> None:
        """Serve until cancelled; no connection can end it."""
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                nursery.start_soon(self._accept, listener, nursery)

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        async with trio.SocketListener(trio.socket.from_stdlib_socket(listener.socket)) as accepting:
            while True:
                try:
                    stream = await accepting.accept()
                except OSError as error:
                    await trio.sleep(FULL_PAUSE_S if error.errno in FULL else 0.0)
                else:
                    nursery.start_soon(self._guard, stream.socket, listener)

    async def _guard(self, connection: trio.socket.SocketType, listener: Listener) -> None:
        try:
            seen_as = connection.getpeername()[:2]
            network = network_of(seen_as[0])
            if self._open.total() >= CONNECTIONS or self._open[network] >= CONNECTIONS_PER_NETWORK:
                self.counts["over_limit"] += 1
                return
            self._open[network] += 1
            try:
                self.counts["accepted"] += 1
                await self._serve(connection, seen_as, listener)
            finally:
                self._open[network] -= 1
                if not self._open[network]:
                    del self._open[network]
        except* OSError:
            self.counts["broken"] += 1
        except* Exception as fault:
            self.counts["faults"] += 1
            log.error("ice_tcp_fault", exc_info=fault)
        finally:
            # What was sent and not received yet still arrives after a close; what was not sent must not.
            if has_unsent(connection):
                reset(connection)
            else:
                connection.close()

    async def _serve(self, connection: trio.socket.SocketType, seen_as: Address, listener: Listener) -> None:
        reader = FrameReader()
        try:
            first: list[bytes] = []
            with trio.move_on_after(FIRST_CHECK_S):
                while not first and (data := await connection.recv(READ_BYTES)):
                    first = reader.feed_untrusted(data)
            worker = self._agent.worker_untrusted(first[0]) if first else None
            if worker is None:
                self.counts["strangers"] += 1
                return
            media = self._forwarder.workers.addresses(worker)[listener.number]
            datagrams = _open_datagrams(media)
            source = self._forwarder.workers.path(worker, datagrams.getsockname()[:2], listener.number)
            carried = _Carried(connection, seen_as, datagrams, source, self._forwarder, self._agent, self.counts)
            self._carried.add(carried)
            try:
                await carried.run(first, reader)
            finally:
                self._carried.discard(carried)
                carried.end()
        except MalformedPacket:
            self.counts["malformed"] += 1


class _Carried:
    """One connection of somebody who knows a session, with the socket by which the forwarding thread knows it."""

    def __init__(
        self,
        connection: trio.socket.SocketType,
        seen_as: Address,
        datagrams: socket.socket,
        source: Path,
        forwarder: Forwarder,
        agent: Agent,
        counts: Counter[str],
    ) -> None:
        self._connection, self._seen_as = connection, seen_as
        self._forwarder, self._agent, self._counts = forwarder, agent, counts
        self._datagrams, self._source = datagrams, source
        self._unwritten = memoryview(b"")
        self._carries_media = False  # what is unwritten, or has not left
        self._distrusted = 0  # fences until nothing waits that was decided before rights were lessened

    async def run(self, first: list[bytes], reader: FrameReader) -> None:
        """Carry in both directions until either end, or the session, has gone. Raises MalformedPacket and OSError."""
        for datagram in first:
            self._take(datagram)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, reader, nursery.cancel_scope)
                nursery.start_soon(self._send, nursery.cancel_scope)
                while True:
                    await trio.sleep(LOOK_S)
                    if self.transport < 0:
                        nursery.cancel_scope.cancel()
        except* trio.ClosedResourceError:
            pass  # it was cut
        except* MalformedPacket:
            self._counts["malformed"] += 1

    def end(self) -> None:
        """Have the forwarding thread send here no more, before somebody else can get the same port."""
        self._agent.lose(self._source)
        self._forwarder.after_fence(self._datagrams.close)

    @property
    def transport(self) -> int:
        """The row of the transport that it belongs to, or -1."""
        return self._forwarder.owner(self._source)

    def distrust(self) -> None:
        """Let no media pass until the forwarding thread has sent all that it decided before."""
        self._distrusted += 1
        self.cut()
        self._forwarder.after_fence(self._trust)

    def _trust(self) -> None:
        self._distrusted -= 1
        with suppress(OSError):  # nothing waits any more, or it has ended meanwhile
            while self._datagrams.recv(READ_BYTES):
                self._counts["withheld"] += 1

    def cut(self) -> bool:
        """End the connection if media waits in it that may not leave; returns whether it is ended."""
        if self._connection.fileno() < 0:
            return True
        if not self._carries_media or self._is_clear() or self._may_send():
            return False
        self._counts["cut"] += 1
        reset(self._connection)
        return True

    # -- towards the server --------------------------------------------------------------------------------------------

    async def _receive(self, reader: FrameReader, scope: trio.CancelScope) -> None:
        while data := await self._connection.recv(READ_BYTES):
            for datagram in reader.feed_untrusted(data):
                self._take(datagram)
        scope.cancel()

    def _take(self, datagram: bytes) -> None:
        if datagram[0] < 4:  # RFC 7983: STUN
            self._agent.take_check_untrusted(datagram, self._source, self._seen_as)
            return
        try:
            self._datagrams.send(datagram)
        except OSError:
            self._counts["lost"] += 1

    # -- towards the client --------------------------------------------------------------------------------------------

    async def _send(self, scope: trio.CancelScope) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._datagrams)
            datagrams = self._read_datagrams()
            if datagrams and not await self._write(datagrams):
                self._counts["stalled"] += 1
                scope.cancel()
                return

    def _read_datagrams(self) -> list[memoryview]:
        found: list[memoryview] = []
        size = 0
        while size < BATCH_BYTES:
            try:
                message, ancillary, _, _ = self._datagrams.recvmsg(READ_BYTES, GRO_SPACE)
            except BlockingIOError:
                break
            size += len(message)
            found += _segments(message, ancillary)
        if self._may_send():
            return found
        allowed = [datagram for datagram in found if not _is_media(datagram)]
        self._counts["withheld"] += len(found) - len(allowed)
        return allowed

    async def _write(self, datagrams: list[memoryview]) -> bool:
        """Return when it has left; False when it did not in time. Raises ClosedResourceError when it was cut."""
        self._unwritten = memoryview(framed(datagrams))
        self._carries_media = any(map(_is_media, datagrams))
        give_up_at = trio.current_time() + STALL_S
        pause_s = SHORTEST_PAUSE_S
        while True:
            self._push()
            if self._is_clear():
                return True
            if self.cut():
                raise trio.ClosedResourceError
            if trio.current_time() >= give_up_at:
                return False
            await trio.sleep(min(pause_s, self._until_lapse_s()))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _push(self) -> None:
        if self._connection.fileno() < 0:
            raise trio.ClosedResourceError
        while self._unwritten:
            try:
                sent = os.write(self._connection.fileno(), self._unwritten)
            except BlockingIOError:
                return
            self._unwritten = self._unwritten[sent:]

    def _is_clear(self) -> bool:
        return not self._unwritten and not has_unsent(self._connection)

    def _may_send(self) -> bool:
        if self._distrusted or self.transport < 0:
            return False
        return self._forwarder.admission.reaches(self.transport, time.monotonic_ns())

    def _until_lapse_s(self) -> float:
        transport, now_ns = self.transport, time.monotonic_ns()
        if transport < 0:
            return math.inf
        return (self._forwarder.admission.next_lapse_ns(transport, now_ns) - now_ns) / 1e9


def _open_datagrams(media: Address) -> socket.socket:
    """Return a socket that hears the forwarding thread's and nobody else, and takes merged messages whole."""
    opened = socket.socket(socket.AF_INET6 if ":" in media[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES // 2)  # the kernel doubles it
        opened.setsockopt(SOL_UDP, UDP_GRO, 1)
        opened.bind((media[0], 0))
        opened.connect(media)
    except OSError:
        opened.close()
        raise
    return opened


def _segments(message: bytes, ancillary: list[tuple[int, int, bytes]]) -> list[memoryview]:
    size = len(message)
    for level, kind, value in ancillary:
        if (level, kind) == (SOL_UDP, UDP_GRO):
            (size,) = struct.unpack("=i", value)
    whole = memoryview(message)
    return [whole[at : at + size] for at in range(0, len(message), size or 1)]


def _is_media(datagram: memoryview) -> bool:
    return 128 <= datagram[0] < 192  # RFC 7983: RTP and RTCP
