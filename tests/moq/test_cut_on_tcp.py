"""A cut over QMux, judged at the receiving sockets: whatever TCP still has of an object never leaves it."""

from __future__ import annotations

import array
import fcntl
import socket
import ssl
import termios
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from media.io.tcp import SIOCOUTQNSD, UNSENT_BYTES, TcpStream
from media.moq import websocket
from media.moq.carrier import Code
from media.moq.frames import Frame
from media.moq.messages import Subscribe, write_message
from media.moq.origin import Broadcast, Track, track_info
from media.moq.qmux import APPLICATION_CLOSE, DATA, RESET_STREAM, STREAM, STREAM_LAST, UNI
from media.moq.varint import Cursor, varint
from media.moq.versions import Version
from tests.moq.certificates import CERTIFICATE
from tests.moq.nodes import Everything, Node, open_node
from tests.moq.test_qmux import BROWSER, parameters, stream_frame

V5 = Version.LITE_05
VIEWERS = 50
LITTLE = 4_096  # what the kernel keeps for a viewer that reads nothing, before it doubles it
UPGRADE = (
    "GET /anon?jwt=t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: qmux-02.moq-lite-05\r\n\r\n"
)
OFFERED = {**BROWSER, DATA: 1 << 24, UNI: 1 << 24}  # windows wide enough for TCP to be what holds bytes back


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

    def records(self, text: bytes) -> list[bytes]:
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


def frames_of(records: list[bytes]) -> list[int]:
    return [Cursor(record).varint_untrusted() for record in records]


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
            serve = partial(serve_secure, node, ours)
            await nursery.start(lambda task_status: trio.serve_listeners(serve, [listener], task_status=task_status))
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


def publish(node: Node) -> Track:
    broadcast = Broadcast("room/bob")
    track = broadcast.add_track("video", track_info(60))
    node.origin.begin(broadcast)
    return track


async def subscribed(track: Track, count: int) -> None:
    with trio.fail_after(20):
        while len(track.readers) < count:  # noqa: ASYNC110 - what is waited for comes over sockets
            await trio.sleep(0.01)


async def until_full(viewers: list[Viewer]) -> None:
    """Wait until no viewer's kernel takes any more."""
    before: list[int] = []
    with trio.fail_after(20):
        while before != (before := [viewer.arrived for viewer in viewers]) or not all(before):  # noqa: ASYNC110
            await trio.sleep(0.2)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_no_byte_of_an_object_leaves_after_a_cut_however_slowly_fifty_viewers_read(
    secure: bool, tmp_path: Path
) -> None:
    async with serving(secure, tmp_path, rights := Everything()) as (node, port, tls), AsyncExitStack() as stack:
        track = publish(node)
        viewers = [Viewer(tls, is_slow=number % 5 > 0) for number in range(VIEWERS)]
        async with trio.open_nursery() as nursery:
            for viewer in viewers:
                stack.callback(viewer.socket.close)
                nursery.start_soon(viewer.enter, port)
        await subscribed(track, VIEWERS)
        for number in range(8):
            group = track.begin_group(number, node.relay.now_ns())
            track.append(group, Frame(number, bytes(100_000), is_keyframe=True))
        await until_full(viewers)
        rights.is_admitted = rights.watches = False
        for peer in tuple(node.relay.peers):
            peer.cut()
        at_the_cut = [viewer.arrived for viewer in viewers]
        group = track.begin_group(9, node.relay.now_ns())
        track.append(group, Frame(9, bytes(100_000), is_keyframe=True))
        texts = [len(viewer.text) for viewer in viewers]
        assert min(at_the_cut) > max(texts)  # the slow ones have read nothing of it yet
        async with trio.open_nursery() as nursery:
            for viewer in viewers:
                nursery.start_soon(viewer.drain)
        assert [viewer.read for viewer in viewers] == at_the_cut
        assert node.qmux.counters()["qmux_cut_off"] == VIEWERS
        assert not node.relay.peers


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("ejected", [False, True])
async def test_a_viewer_that_has_everything_is_told_why_instead(secure: bool, ejected: bool, tmp_path: Path) -> None:
    async with serving(secure, tmp_path, rights := Everything()) as (node, port, tls):
        track = publish(node)
        viewer = Viewer(tls, is_slow=False)
        await viewer.enter(port)
        await subscribed(track, 1)
        group = track.begin_group(1, node.relay.now_ns())
        track.append(group, Frame(1, b"x" * 100_000, is_keyframe=True))
        with trio.fail_after(10):
            while viewer.text.count(b"x") < 100_000:
                await viewer.receive()
        text = len(viewer.text)
        (peer,) = node.relay.peers
        rights.is_admitted = rights.watches = False
        if ejected:
            peer.eject(4_403, "ticket expired")
        else:
            peer.cut()
        await viewer.drain()
        said = viewer.records(viewer.text[text:])
        kinds = frames_of(said)
        assert RESET_STREAM in kinds
        assert not [kind for kind in kinds if STREAM <= kind <= STREAM_LAST]
        if ejected:
            (close,) = [record for record in said if Cursor(record).varint_untrusted() == APPLICATION_CLOSE]
            assert b"ticket expired" in close
        else:
            assert node.relay.peers == {peer}
        assert not node.qmux.counters().get("qmux_cut_off")
        viewer.socket.close()


async def test_a_viewer_of_another_broadcast_is_left_alone(tmp_path: Path) -> None:
    async with serving(False, tmp_path, Everything()) as (node, port, _):
        track = publish(node)
        viewer = Viewer(None, is_slow=True)
        await viewer.enter(port)
        await subscribed(track, 1)
        group = track.begin_group(1, node.relay.now_ns())
        track.append(group, Frame(1, bytes(1_000_000), is_keyframe=True))
        await until_full([viewer])
        (peer,) = node.relay.peers
        peer.cut(Code.CUT, "room/eve")
        assert node.relay.peers == {peer}
        assert not node.qmux.counters().get("qmux_cut_off")
        viewer.socket.close()


async def test_a_viewer_that_reads_no_more_and_leaves_is_not_sent_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "WRITE_TIMEOUT_S", 0.3)
    async with serving(False, tmp_path, Everything()) as (node, port, _):
        track = publish(node)
        viewer = Viewer(None, is_slow=True)
        await viewer.enter(port)
        await subscribed(track, 1)
        group = track.begin_group(1, node.relay.now_ns())
        track.append(group, Frame(1, bytes(1_000_000), is_keyframe=True))
        await viewer.send(WebSocketFrame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        with trio.fail_after(10):
            while node.relay.peers:  # noqa: ASYNC110 - what is waited for comes over sockets
                await trio.sleep(0.05)
        arrived = viewer.arrived
        await viewer.drain()
        assert viewer.read == arrived
        viewer.socket.close()


async def test_the_kernel_is_given_little_more_than_it_can_send() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    viewer = Viewer(None, is_slow=True)
    await viewer.socket.connect(listener.socket.getsockname())
    async with listener, await listener.accept() as accepted:
        stream = TcpStream(accepted)
        assert stream.is_clear
        with trio.move_on_after(0.3):
            await stream.send_all(bytes(1 << 20))
        unsent = int.from_bytes(fcntl.ioctl(accepted.socket.fileno(), SIOCOUTQNSD, bytes(4)), "little")
        assert 0 < unsent <= 2 * UNSENT_BYTES  # and the buffer that was begun
        assert not stream.is_clear
        stream.reset()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"more")
    viewer.socket.close()
