"""Sessions over QMux with a WebSocket client that nobody here wrote."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from media.moq import websocket
from media.moq.frames import Frame
from media.moq.messages import AnnounceRequest, Subscribe, write_message
from media.moq.origin import Broadcast, track_info
from media.moq.qmux_frames import FrameType
from media.moq.requests import Refusal
from media.moq.varint import Cursor, varint
from media.moq.versions import Version
from tests.moq.nodes import Everything, Node, open_node
from tests.moq.test_qmux import BROWSER, frame, parameters, stream_frame

V5 = Version.LITE_05


@asynccontextmanager
async def opened(node: Node, *subprotocols: str) -> AsyncIterator[WebSocketConnection]:
    url = f"ws://127.0.0.1:{node.port}/anon?jwt=t"
    async with open_websocket_url(url, subprotocols=list(subprotocols), message_queue_size=10_000) as client:
        yield client
    await trio.aclose_forcefully(client._stream)  # trio-websocket leaves it open when the server closed first


async def streams_until(client: WebSocketConnection, text: bytes) -> bytes:
    """Read records until one has the text in it; returns that one."""
    with trio.fail_after(5):
        while text not in (record := await client.get_message()):
            pass
    return bytes(record)


async def closed(client: WebSocketConnection) -> None:
    """Read until the server closes."""
    with trio.fail_after(5), contextlib.suppress(ConnectionClosed):
        while True:
            await client.get_message()


def publish(node: Node) -> Broadcast:
    broadcast = Broadcast("room/bob")
    broadcast.add_track("video", track_info(60))
    node.origin.begin(broadcast)
    return broadcast


@pytest.mark.parametrize("draft", ["qmux-00", "qmux-01", "qmux-02"])
async def test_a_session_begins_and_frames_arrive(draft: str) -> None:
    async with open_node() as node, opened(node, "qmux-09.moq-lite-05", f"{draft}.moq-lite-05") as client:
        assert client.subprotocol == f"{draft}.moq-lite-05"
        broadcast = publish(node)
        await client.send_message(parameters(BROWSER))
        await client.send_message(stream_frame(0, 0, varint(1) + write_message(V5, AnnounceRequest(""))))
        await streams_until(client, b"room/bob")
        await client.send_message(stream_frame(4, 0, varint(2) + write_message(V5, Subscribe(1, "room/bob", "video"))))
        with trio.fail_after(5):
            while not broadcast.tracks["video"].readers:  # noqa: ASYNC110 - what is waited for comes over the socket
                await trio.sleep(0.01)
        group = broadcast.tracks["video"].begin_group(0, node.relay.now_ns())
        broadcast.tracks["video"].append(group, Frame(1, b"picture", is_keyframe=True))
        await streams_until(client, b"picture")
    (request,) = node.requests
    assert (request.path, request.token, request.carrier, request.version) == ("anon", "t", "websocket", V5)


async def test_our_preference_decides_among_what_is_offered() -> None:
    offered = ("qmux-02.moq-lite-03", "qmux-00.moq-lite-04", "qmux-01.moq-lite-04")
    async with open_node() as node, opened(node, *offered) as client:
        assert client.subprotocol == "qmux-01.moq-lite-04"


async def status_of(node: Node, *subprotocols: str) -> bytes:
    """Ask for an upgrade and return what the first line of the answer says."""
    offer = f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}\r\n" if subprotocols else ""
    request = (
        "GET /anon HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{offer}\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
        await stream.send_all(request.encode())
        with trio.fail_after(5):
            return bytes(await stream.receive_some()).split(b"\r\n")[0]


@pytest.mark.parametrize("offered", [(), ("qmux-02.moqt-18",), ("webtransport",)])
async def test_what_is_not_spoken_here_is_rejected(offered: tuple[str, ...]) -> None:
    async with open_node() as node:
        assert b" 400 " in await status_of(node, *offered)
        assert not node.requests


async def test_a_refused_session_gets_its_status() -> None:
    async with open_node(lambda request: Refusal(403, "no ticket")) as node:
        assert b" 403 " in await status_of(node, "qmux-02.moq-lite-05")
        assert node.qmux.counters()["qmux_sessions_refused"] == 1


async def test_an_ejected_session_is_told_why_and_closed() -> None:
    async with open_node() as node, opened(node, "qmux-02.moq-lite-05") as client:
        await client.send_message(parameters(BROWSER))
        with trio.fail_after(5):
            while not node.relay.peers:  # noqa: ASYNC110 - what is waited for comes over the socket
                await trio.sleep(0.01)
        (peer,) = node.relay.peers
        peer.eject(4_403, "ticket expired")
        record = await streams_until(client, b"ticket expired")
        cursor = Cursor(record)
        assert (cursor.varint_untrusted(), cursor.varint_untrusted()) == (0x1D, 4_403)
        await closed(client)


async def test_a_peer_that_breaks_the_rules_is_closed_and_the_rest_lives() -> None:
    async with open_node() as node, opened(node, "qmux-02.moq-lite-05") as good:
        await good.send_message(parameters(BROWSER))
        async with opened(node, "qmux-02.moq-lite-05") as bad:
            await bad.send_message(b"\xff\xff nonsense")
            await closed(bad)
        publish(node)
        await good.send_message(stream_frame(0, 0, varint(1) + write_message(V5, AnnounceRequest(""))))
        await streams_until(good, b"room/bob")


async def test_a_client_that_goes_takes_its_session_with_it() -> None:
    async with open_node() as node:
        async with opened(node, "qmux-02.moq-lite-05") as client:
            await client.send_message(parameters(BROWSER))
            await client.send_message(frame(FrameType.PING, 5))
            await streams_until(client, varint(5))
            assert node.relay.peers
        with trio.fail_after(5):
            while node.relay.peers:  # noqa: ASYNC110 - what is waited for comes over the socket
                await trio.sleep(0.01)


async def test_whoever_is_quiet_is_shown_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "QUIET_S", 0.05)
    async with open_node(lambda request: Everything()) as node, opened(node, "qmux-02.moq-lite-05") as client:
        await client.send_message(parameters(BROWSER))
        await streams_until(client, varint(FrameType.PING))


async def test_a_client_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "SILENT_S", 0.1)
    async with open_node() as node, opened(node, "qmux-02.moq-lite-05") as client:
        await closed(client)
        assert not node.relay.peers
