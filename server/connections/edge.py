"""The one TCP port: accepts connections, guards each, and leads it to the web application or the signalling socket.

No connection can end the server: whatever it raises is logged, counted and ends only itself. HTTP is served by
server/connections/http11.py, in version 1.1 and in no other.
"""

from __future__ import annotations

import errno
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog
import trio
from quart_trio import QuartTrio

from media.io.networks import is_loopback, network_of
from media.io.tcp import TcpStream
from server.config import Limits
from server.connections.http11 import Http11
from server.connections.parking import Parking, Wake
from server.web.rates import TokenBuckets

MAX_HEAD = 16_384  # bytes; browsers send less than 2,000
KEEP_ALIVE_S = 60.0  # for an idle connection; a page asks again within a minute or not at all
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
FULL_PAUSE_S = 0.1  # before accepting again when the machine can't
SEND_BUFFER = 262_144  # bytes in the kernel for a reader that is slow; it would give each up to 4 MB by itself
LINGER_S = 1.0  # for a client to read the last answer while it is still sending; see _part
LINGER_BYTES = 262_144
FAULTS_LOGGED_PER_S, FAULTS_LOGGED_BURST = 0.1, 20  # whole tracebacks: whoever finds a fault must not fill the disk
END_OF_HEAD = b"\r\n\r\n"
TLS_HANDSHAKE = 0x16  # the first byte of a ClientHello (RFC 8446 section 5.1)
HOST = re.compile(rb"\r\nhost:[ \t]*([A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9a-fA-F:.]+\](?::\d{1,5})?)[ \t]*\r\n", re.I)
TARGET = re.compile(rb"[A-Z]{1,16} (/[\x21-\x7e]*) HTTP/1\.[01]\r\n")
MOQ_UPGRADE = re.compile(
    rb"GET /moq(/[^?/ ]*)?(\?[\x21-\x7e]*)? HTTP/1\.1(?=\r\n)(?s:.*?)\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.I
)
UPGRADE = re.compile(rb"GET /ws(\?[\x21-\x7e]*)? HTTP/1\.1(?=\r\n)(?s:.*?)\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.I)

# What may become of a connection, besides being served.
OUTCOMES = (
    "accepted",
    "broken",
    "faults",
    "head_too_large",
    "not_accepted",
    "not_http",
    "not_reading",
    "over_limit",
    "redirected",
    "tls_failed",
    "too_slow",
)


class Silent(Protocol):
    """A connection on which nobody says anything just now, and that needs no task until somebody does."""

    def park(self, parking: Parking, wake: Wake) -> None:
        """Have what it is sent heard where that needs no task, else `wake` called, once, for it to go on."""

    async def go_on(self) -> Silent | None:
        """Serve it until it is silent again, or has ended (None)."""


Serve = Callable[[], Awaitable[Silent | None]]
ServeSocket = Callable[[trio.abc.Stream, bytearray], Awaitable[Silent | None]]
ServeMoq = Callable[[trio.abc.Stream, bytes, str], Awaitable[None]]
log = structlog.get_logger("edge")


@dataclass(frozen=True, slots=True)
class Address:
    """A bound address."""

    host: str
    port: int


@dataclass(slots=True, eq=False)
class _Guarded:
    """An accepted connection until it has ended: whose it is, and where it goes on when it is woken."""

    edge: Edge
    nursery: trio.Nursery
    tcp: trio.SocketStream
    peer: str
    silent: Silent | None = None

    def wake(self) -> None:
        """Go on, in a task."""
        silent, self.silent = self.silent, None
        assert silent is not None, "only who is silent is woken"
        self.nursery.start_soon(self.edge.guard, self, silent.go_on)


class Edge:
    """Serves `app` over HTTP, and connections that upgrade at `/ws` and `/moq` through functions, on one port.

    Plain HTTP is for this machine alone: everyone else is sent to TLS on the same port.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: QuartTrio,
        serve_socket: ServeSocket,
        serve_moq: ServeMoq,
        tls: ssl.SSLContext,
        limits: Limits,
    ) -> None:
        self._host, self._port, self._tls, self._limits = host, port, tls, limits
        self._serve_socket, self._serve_moq = serve_socket, serve_moq
        self._app = app
        self._open: Counter[str] = Counter()  # by who stands behind an address
        self._counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._responses: Counter[str] = Counter({f"{hundred}xx": 0 for hundred in range(1, 6)})
        self._logged = TokenBuckets(FAULTS_LOGGED_PER_S, FAULTS_LOGGED_BURST)
        self._parking = Parking()

    def counters(self) -> dict[str, int]:
        """How many connections are open, and what became of others, by name."""
        return {
            "connections": self._open.total(),
            **self._parking.counters(),
            **{f"connections_{word}": count for word, count in self._counts.items()},
            **{f"http_responses_{status}": count for status, count in self._responses.items()},
        }

    async def serve(self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; reports the bound address. Raises OSError when it can't be bound."""
        listeners = await trio.open_tcp_listeners(self._port, host=self._host)
        host, port = listeners[0].socket.getsockname()[:2]
        async with trio.open_nursery() as accepting:
            await accepting.start(self._parking.run)
            for listener in listeners:
                listener.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SEND_BUFFER)  # inherited
                accepting.start_soon(self._accept, listener, accepting)
            task_status.started(Address(host, port))

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    self._counts["not_accepted"] += 1
                    pause = FULL_PAUSE_S if error.errno in FULL else 0.0
                else:
                    nursery.start_soon(self._admit, stream, nursery)
                    continue
                await trio.sleep(pause)

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _admit(self, tcp: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            peer = str(tcp.socket.getpeername()[0])
        except OSError as error:
            self._note(error, "unknown")
        else:
            asker = network_of(peer)
            full = self._open.total() >= self._limits.connections
            if not full and self._open[asker] < self._limits.connections_per_address:
                self._counts["accepted"] += 1
                self._open[asker] += 1
                await self.guard(_Guarded(self, nursery, tcp, peer), partial(self._serve, tcp, peer))
                return
            self._counts["over_limit"] += 1
        await trio.aclose_forcefully(tcp)

    async def guard(self, guarded: _Guarded, serve: Serve) -> None:
        """Serve a connection until it has ended, or is silent: then it is parked."""
        try:
            guarded.silent = await serve()
            if guarded.silent is None:
                await _part(guarded.tcp)
        except Exception as error:
            self._note(error, guarded.peer)
        except BaseExceptionGroup as group:
            # Cancelled, and something broke on the way out: the one goes on, the other is no more than a fault here.
            faults, others = group.split(Exception)
            if faults is not None:
                self._note(faults, guarded.peer)
            if others is not None:
                raise others from None
        finally:
            if guarded.silent is None:
                self._forget(guarded.peer)
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(guarded.tcp)
        if guarded.silent is not None:
            guarded.silent.park(self._parking, guarded.wake)

    def _forget(self, peer: str) -> None:
        asker = network_of(peer)
        self._open[asker] -= 1
        if not self._open[asker]:
            del self._open[asker]

    def _note(self, error: Exception, peer: str) -> None:
        if _is_broken(error):
            self._counts["broken"] += 1
            return
        self._counts["faults"] += 1
        if not self._logged.take("", trio.current_time()):
            log.error("connection_fault", peer=peer, exc_info=error)

    async def _serve(self, tcp: trio.SocketStream, peer: str) -> Silent | None:
        received = bytearray()
        stream = await self._receive(tcp, received)
        return None if stream is None else await self._lead(stream, received, peer)

    async def _receive(self, tcp: trio.SocketStream, received: bytearray) -> trio.abc.Stream | None:
        """Read a first head; None when it does not come."""
        stream: trio.abc.Stream | None = None
        with trio.move_on_after(self._limits.head_timeout_s) as patience:
            stream = await self._open_stream(tcp)
            if stream is None or not await _read_head(stream, received):
                return None
        if patience.cancelled_caught:
            self._counts["too_slow"] += 1
            if received and stream is not None:
                await self._say(stream, b"408 Request Timeout")
            return None
        return stream

    async def _open_stream(self, tcp: trio.SocketStream) -> trio.abc.Stream | None:
        first = await tcp.socket.recv(1, trio.socket.MSG_PEEK)
        if first != bytes([TLS_HANDSHAKE]):
            return tcp
        stream = trio.SSLStream(TcpStream(tcp), self._tls, server_side=True, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            self._counts["tls_failed"] += 1
            return None
        return stream

    async def _lead(self, stream: trio.abc.Stream, received: bytearray, peer: str) -> Silent | None:
        """Lead a connection to who serves it; `received` is the first head and what came right behind it."""
        head = bytes(received[: received.find(END_OF_HEAD, 0, MAX_HEAD) + len(END_OF_HEAD)])
        if END_OF_HEAD not in head:
            self._counts["head_too_large"] += 1
            await self._say(stream, b"431 Request Header Fields Too Large")
        elif TARGET.match(head) is None:
            # HTTP/2 by prior knowledge is among it: see server/connections/tls.py.
            self._counts["not_http"] += 1
            await self._say(stream, b"400 Bad Request")
        elif isinstance(stream, trio.SocketStream) and not is_loopback(peer):
            await self._redirect(stream, head)
        elif UPGRADE.match(head):
            return await self._serve_socket(stream, received)
        elif MOQ_UPGRADE.match(head):
            await self._serve_moq(stream, bytes(received), peer)
        else:
            await self._serve_http(stream, bytes(received), peer)
        return None

    async def _serve_http(self, stream: trio.abc.Stream, received: bytes, peer: str) -> None:
        is_plain = isinstance(stream, trio.SocketStream)
        limits = self._limits
        http = Http11(
            self._app,
            stream,
            self._responses,
            wait_s=KEEP_ALIVE_S,
            read_s=limits.body_timeout_s + KEEP_ALIVE_S,
            write_s=limits.write_timeout_s,
        )
        await http.serve(received, {"scheme": "http" if is_plain else "https", "client": (peer, 0)}, MAX_HEAD)
        if http.gone is not None:
            self._counts[http.gone.value] += 1

    async def _redirect(self, stream: trio.abc.Stream, head: bytes) -> None:
        host, target = HOST.search(head), TARGET.match(head)
        if host is None or target is None:
            await self._say(stream, b"400 Bad Request")
            return
        self._counts["redirected"] += 1
        await self._say(stream, b"308 Permanent Redirect\r\nLocation: https://" + host[1] + target[1])

    async def _say(self, stream: trio.abc.Stream, status: bytes) -> None:
        self._responses[f"{chr(status[0])}xx"] += 1
        with trio.move_on_after(self._limits.write_timeout_s):
            await stream.send_all(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


async def _read_head(stream: trio.abc.Stream, head: bytearray) -> bool:
    """Read until `head` holds a whole head or more than one may have; False when the client leaves before."""
    while END_OF_HEAD not in head and len(head) <= MAX_HEAD:
        part = await stream.receive_some(MAX_HEAD)
        if not part:
            return False
        head += part
    return True


async def _part(tcp: trio.SocketStream) -> None:
    """End a connection in order.

    Closing while the client still sends would reset it, and the reset overtakes the last answer: so first everything
    on its way is read and thrown away, within bounds (RFC 9112 section 9.6).
    """
    with trio.move_on_after(LINGER_S):
        try:
            await tcp.send_eof()
            left = LINGER_BYTES
            while left > 0 and (part := await tcp.receive_some(MAX_HEAD)):
                left -= len(part)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it is over already


def _is_broken(error: BaseException) -> bool:
    """Whether an exception says no more than that the other side has gone."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_broken(inner) for inner in error.exceptions)
    return isinstance(error, OSError | trio.BrokenResourceError | trio.ClosedResourceError)
