"""The one TCP port: accepts connections, guards each, and leads it to the web application or the signalling socket.

No connection can end the server: whatever it raises is logged, counted and ends only itself. Hypercorn serves HTTP/1.1
and nothing else; it is driven below its public surface because its own accept loop lets one bad connection end the
whole server and its writes can't be cancelled.
"""

from __future__ import annotations

import errno
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from server.config import Limits

MAX_HEAD = 16_384  # bytes; browsers send less than 2,000
KEEP_ALIVE_S = 60.0  # for an idle connection; a page asks again within a minute or not at all
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
FULL_PAUSE_S = 0.1  # before accepting again when the machine can't
TLS_HANDSHAKE = 0x16  # the first byte of a ClientHello (RFC 8446 section 5.1)
HOST = re.compile(rb"\r\nhost:[ \t]*([A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9a-fA-F:.]+\](?::\d{1,5})?)[ \t]*\r\n", re.I)
TARGET = re.compile(rb"[A-Z]{1,16} (/[\x21-\x7e]*) HTTP/1\.[01]\r\n")
UPGRADE = re.compile(rb"GET /ws(?:\?[\x21-\x7e]*)? HTTP/1\.1\r\n(?s:.*?)\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.I)

ServeSocket = Callable[[trio.abc.Stream, bytes], Awaitable[None]]
log = structlog.get_logger("edge")


@dataclass(frozen=True, slots=True)
class Address:
    """A bound address."""

    host: str
    port: int


class Edge:
    """Serves `app` over HTTP, and connections that upgrade at `/ws` through `serve_socket`, on one port.

    Plain HTTP is for this machine alone: everyone else is sent to TLS on the same port.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: QuartTrio,
        serve_socket: ServeSocket,
        tls: ssl.SSLContext,
        limits: Limits,
    ) -> None:
        self._host, self._port, self._tls, self._limits = host, port, tls, limits
        self._serve_socket = serve_socket
        self._hypercorn = HypercornConfig()
        self._hypercorn.include_server_header = False
        self._hypercorn.keep_alive_timeout = KEEP_ALIVE_S
        self._hypercorn.read_timeout = int(max(1, limits.body_timeout_s)) + int(KEEP_ALIVE_S)
        self._hypercorn.h11_max_incomplete_size = MAX_HEAD
        self._app = wrap_app(app, limits.body_bytes, None)
        self._context = WorkerContext(None)
        self._state: dict[str, Any] = {}
        self._open: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def counters(self) -> dict[str, int]:
        """How many connections are open, and what became of others, by name."""
        return {"connections": self._open.total(), **{f"connections_{word}": n for word, n in self._counts.items()}}

    async def serve(self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; reports the bound address. Raises OSError when it can't be bound."""
        lifespan = Lifespan(self._app, self._hypercorn, self._state)
        listeners = await trio.open_tcp_listeners(self._port, host=self._host)
        host, port = listeners[0].socket.getsockname()[:2]
        async with trio.open_nursery() as living, trio.open_nursery() as accepting:
            await living.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            for listener in listeners:
                accepting.start_soon(self._accept, listener, accepting)
            task_status.started(Address(host, port))
            try:
                await trio.sleep_forever()
            finally:
                accepting.cancel_scope.cancel()
                living.cancel_scope.cancel()

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    self._counts["not_accepted"] += 1
                    pause = FULL_PAUSE_S if error.errno in FULL else 0.0
                else:
                    nursery.start_soon(self._guard, stream)
                    continue
                await trio.sleep(pause)

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _guard(self, stream: trio.SocketStream) -> None:
        peer = "unknown"
        try:
            peer = str(stream.socket.getpeername()[0])
            if (
                self._open.total() >= self._limits.connections
                or self._open[peer] >= self._limits.connections_per_address
            ):
                self._counts["over_limit"] += 1
                return
            self._open[peer] += 1
            try:
                await self._serve(stream, peer)
            finally:
                self._open[peer] -= 1
                if not self._open[peer]:
                    del self._open[peer]
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._counts["broken"] += 1
        except Exception:
            self._counts["faults"] += 1
            log.exception("connection_fault", peer=peer)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _serve(self, tcp: trio.SocketStream, peer: str) -> None:
        stream: trio.abc.Stream = tcp
        head = b""
        with trio.move_on_after(self._limits.head_timeout_s) as patience:
            first = await tcp.socket.recv(1, trio.socket.MSG_PEEK)
            if first[:1] == bytes([TLS_HANDSHAKE]):
                stream = trio.SSLStream(tcp, self._tls, server_side=True, https_compatible=True)
                await stream.do_handshake()
            head = await self._read_head(stream)
        if patience.cancelled_caught:
            self._counts["too_slow"] += 1
            return
        if not head:
            return
        if len(head) > MAX_HEAD and b"\r\n\r\n" not in head[:MAX_HEAD]:
            self._counts["head_too_large"] += 1
            await self._say(stream, b"431 Request Header Fields Too Large")
        elif TARGET.match(head) is None:
            # HTTP/2 by prior knowledge is among it: see server/tls.py.
            self._counts["not_http"] += 1
            await self._say(stream, b"400 Bad Request")
        elif stream is tcp and not ip_address(peer.split("%")[0]).is_loopback:
            await self._redirect(stream, head)
        elif UPGRADE.match(head):
            await self._serve_socket(stream, head)
        else:
            guarded = _Guarded(stream, head, self._limits.write_timeout_s)
            await TCPServer(self._app, self._hypercorn, self._context, ConnectionState(self._state), guarded)  # type: ignore[arg-type]

    async def _read_head(self, stream: trio.abc.Stream) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and len(head) <= MAX_HEAD:
            part = await stream.receive_some(MAX_HEAD)
            if not part:
                return b""
            head += part
        return head

    async def _redirect(self, stream: trio.abc.Stream, head: bytes) -> None:
        host, target = HOST.search(head), TARGET.match(head)
        if host is None or target is None:
            await self._say(stream, b"400 Bad Request")
            return
        self._counts["redirected"] += 1
        await self._say(stream, b"308 Permanent Redirect\r\nLocation: https://" + host[1] + target[1])

    async def _say(self, stream: trio.abc.Stream, status: bytes) -> None:
        with trio.move_on_after(self._limits.write_timeout_s):
            await stream.send_all(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


class _Guarded(trio.abc.HalfCloseableStream):
    """A stream for Hypercorn: first gives back what was read of it, and writes within a deadline.

    Hypercorn shields its writes from cancellation, so a peer that stops reading would hold the server's end up.
    """

    def __init__(self, stream: trio.abc.Stream, head: bytes, write_timeout_s: float) -> None:
        self._stream, self._head, self._write_timeout_s = stream, head, write_timeout_s
        if isinstance(stream, trio.SocketStream):
            self.socket = stream.socket
        else:
            # By these names Hypercorn tells TLS from plain.
            assert isinstance(stream, trio.SSLStream)
            self.transport_stream = stream.transport_stream
            self.do_handshake = stream.do_handshake
            self.selected_alpn_protocol = lambda: "http/1.1"

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with trio.move_on_after(self._write_timeout_s) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the peer does not read")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.SocketStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
