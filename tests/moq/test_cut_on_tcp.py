"""A cut over QMux, judged at the receiving sockets: whatever TCP still has of an object never leaves it."""

from __future__ import annotations

import fcntl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from media.io.tcp import SIOCOUTQNSD, UNSENT_BYTES, TcpStream
from media.moq import websocket
from media.moq.carrier import Code
from media.moq.frames import Frame
from media.moq.origin import Broadcast, Track, track_info
from media.moq.qmux_frames import FrameType
from media.moq.varint import Cursor
from tests.moq.nodes import Everything, Node
from tests.moq.tcp_viewers import Viewer, serving

VIEWERS = 50


def frames_of(records: list[bytes]) -> list[int]:
    return [Cursor(record).varint_untrusted() for record in records]


def publish(node: Node) -> Track:
    broadcast = Broadcast("room/bob")
    track = broadcast.add_track("video", track_info(60))
    node.origin.begin(broadcast)
    return track


async def subscribed(track: Track, count: int) -> None:
    with trio.fail_after(20):
        while len(track.readers) < count:  # noqa: ASYNC110 - what is waited for comes over sockets
            await trio.sleep(0.01)


async def until_full(node: Node, viewers: list[Viewer]) -> None:
    """Wait until no viewer's kernel takes any more, and the server's has something left for each."""
    before: list[int] = []
    with trio.fail_after(20):
        while any(peer._carrier.recall.__self__._tcp.is_clear for peer in node.relay.peers):  # type: ignore[attr-defined]  # noqa: ASYNC110
            await trio.sleep(0.01)
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
        # One group: older ones that wait are given up, and whoever then has everything is told of the cut instead.
        group = track.begin_group(1, node.relay.now_ns())
        track.append(group, Frame(1, bytes(1_000_000), is_keyframe=True))
        await until_full(node, viewers)
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
                nursery.start_soon(viewer.read_to_the_end)
        assert [viewer.read for viewer in viewers] == at_the_cut
        with trio.fail_after(10):
            while node.qmux.counters()["qmux_connections"]:  # noqa: ASYNC110 - a counter has no event
                await trio.sleep(0.01)
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
        assert FrameType.RESET_STREAM in kinds
        assert not [kind for kind in kinds if FrameType.STREAM <= kind <= FrameType.STREAM_LAST]
        if ejected:
            (close,) = [record for record in said if Cursor(record).varint_untrusted() == FrameType.APPLICATION_CLOSE]
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
        await until_full(node, [viewer])
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
