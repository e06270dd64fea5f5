"""Viewers over QMux that see their sockets' very bytes, and a node that serves them, on TLS or plain."""

from __future__ import annotations

import array
import fcntl
import socket
import ssl
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from media.io.tcp import TcpStream
from media.moq.messages import Subscribe, write_message
from media.moq.qmux_frames import Parameter
from media.moq.varint import varint
from media.moq.versions import Version
from tests.moq.certificates import CERTIFICATE
from tests.moq.nodes import Everything, Node, open_node
from tests.moq.test_qmux import BROWSER, parameters, stream_frame

V5 = Version.LITE_05
LITTLE = 4_096  # what the kernel keeps for a viewer that reads nothing, before it doubles it
UPGRADE = (
    "GET /anon?jwt=t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: qmux-02.moq-lite-05\r\n\r\n"
)
# Windows wide enough for TCP to be what holds bytes back.
OFFERED = {**BROWSER, Parameter.DATA: 1 << 24, Parameter.UNI: 1 << 24}


class Viewer:
    """A client that sees its connection's very bytes. `arrived` counts them, those it has not read yet included."""

    def __init__(self, tls: ssl.SSLContext | None, *, is_slow: bool) -> None:
        self.socket = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if is_slow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE)
        self._inward, self._outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None if tls is None else tls.wrap_bio(self._inward, self._outward)
        self.read = 0
        self.text = b""

    @property
    def arrived(self) -> int:
        waiting = array.array("i", [0])
        fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, waiting)
        return self.read + waiting[0]

    async def enter(self, port: int) -> None:
        await self.socket.connect(("127.0.0.1", port))
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self.receive()
                continue
            await self._flush()
            break
        await self.send(UPGRADE.encode())
        while b"\r\n\r\n" not in self.text:
            await self.receive()
        self.text = self.text.partition(b"\r\n\r\n")[2]
        wish = varint(2) + write_message(V5, Subscribe(1, "room/bob", "video", priority=7))
        for record in (parameters(OFFERED), stream_frame(0, 0, wish)):
            await self.send(WebSocketFrame(Opcode.BINARY, record).serialize(mask=True))

    async def send(self, data: bytes) -> None:
        if self._tls is None:
            await self.socket.send(data)
        else:
            self._tls.write(data)
            await self._flush()

    async def _flush(self) -> None:
        if self._outward.pending:
            await self.socket.send(self._outward.read())

    async def receive(self) -> bool:
        """Take what has arrived; False at the end, however it comes."""
        try:
            data = await self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self.read += len(data)
        if self._tls is None:
            self.text += data
        else:
            self._inward.write(data)
            try:
                while part := self._tls.read(65_536):
                    self.text += part
            except (ssl.SSLWantReadError, ssl.SSLSyscallError):
                pass
        return bool(data)

    async def drain(self) -> None:
        """Take everything until there is nothing for a while, or the end."""
        with trio.move_on_after(0.2):
            while await self.receive():
                pass

    async def read_to_the_end(self) -> None:
        """Take everything until the connection has ended."""
        with trio.fail_after(10):
            while await self.receive():
                pass

    @staticmethod
    def records(text: bytes) -> list[bytes]:
        """Return the records of whole WebSocket frames (RFC 6455 section 5.2)."""
        found, at = [], 0
        while at + 2 <= len(text):
            size, start = text[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(text[at + 2 : at + 4], "big"), at + 4
            if len(text) < start + size:
                break
            if text[at] == 0x82:
                found.append(text[start : start + size])
            at = start + size
        return found


@asynccontextmanager
async def serving(
    secure: bool, folder: Path, rights: Everything
) -> AsyncIterator[tuple[Node, int, ssl.SSLContext | None]]:
    """Serve QMux, on TLS or plain; yields the node, the port and what a client needs for TLS."""
    async with open_node(lambda request: rights) as node, trio.open_nursery() as nursery:
        port, theirs = node.port, None
        if secure:
            ours, theirs = contexts(folder)
            listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
            port = listener.socket.getsockname()[1]
            await nursery.start(trio.serve_listeners, partial(serve_secure, node, ours), [listener])
        yield node, port, theirs
        nursery.cancel_scope.cancel()


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what a server and what a client need."""
    files = folder / "certificate", folder / "key"
    files[0].write_bytes(CERTIFICATE.cert.public_bytes(Encoding.PEM))
    files[1].write_bytes(CERTIFICATE.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(*files)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    return ours, theirs


async def serve_secure(node: Node, context: ssl.SSLContext, tcp: trio.SocketStream) -> None:
    stream = trio.SSLStream(TcpStream(tcp), context, server_side=True, https_compatible=True)
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(65_536)
    await node.qmux.serve(stream, head, "127.0.0.1")
    await trio.aclose_forcefully(tcp)
