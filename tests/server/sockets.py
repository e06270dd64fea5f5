"""WebSocket clients made by hand: they can send what no honest library would."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from websockets.frames import Close, Frame, Opcode

from tests.server.thread_node import ThreadNode, connect, read_until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def upgrade(path: str = "/ws", subprotocols: str | None = "mesi.v1.json", *more: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
    lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *more]
    if subprotocols is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocols}")
    return "\r\n".join([*lines, "", ""]).encode("latin1")


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


def text(message: dict[str, Any]) -> bytes:
    return frame(Opcode.TEXT, msgspec.json.encode(message))


class RawSocket:
    """A signalling connection whose bytes are the test's own."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def hear(self) -> Frame:
        """Return the next frame; a connection that just ends is a close frame with 1006."""
        with trio.fail_after(5):
            while (found := self._take()) is None:
                try:
                    part = await self.stream.receive_some(65_536)
                except trio.BrokenResourceError:
                    part = b""
                if not part:
                    return Frame(Opcode.CLOSE, (1006).to_bytes(2))
                self.received += part
        return found

    async def message(self) -> dict[str, Any]:
        """Return the next message."""
        while (heard := await self.hear()).opcode is not Opcode.TEXT:
            assert heard.opcode is not Opcode.CLOSE, heard
        return dict(msgspec.json.decode(bytes(heard.data)))

    async def closed(self) -> int:
        """Return the code of the close frame, which must come."""
        while (heard := await self.hear()).opcode is not Opcode.CLOSE:
            pass
        return int.from_bytes(heard.data[:2])

    async def ping(self) -> None:
        """Fails unless the server answers."""
        payload = os.urandom(4)
        await self.send(frame(Opcode.PING, payload))
        while (heard := await self.hear()).opcode is not Opcode.PONG:
            assert heard.opcode is not Opcode.CLOSE, Close.parse(bytes(heard.data))
        assert heard.data == payload

    def _take(self) -> Frame | None:
        if len(self.received) < 2:
            return None
        size, at = self.received[1] & 127, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(self.received[2 : 2 + width]), 2 + width
        if len(self.received) < at + size:
            return None
        taken = Frame(Opcode(self.received[0] & 15), bytes(self.received[at : at + size]))
        del self.received[: at + size]
        return taken


def frames_in(data: bytes | bytearray) -> list[bytes]:
    """Return what the frames of a server hold, all of which must be there as a whole."""
    found, at = [], 0
    while at < len(data):
        size, at = data[at + 1] & 127, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width]), at + width
        assert at + size <= len(data)
        found.append(bytes(data[at : at + size]))
        at += size
    return found


@asynccontextmanager
async def open_raw(node: ThreadNode, token: str | None, **options: Any) -> AsyncIterator[RawSocket]:
    """Open a signalling connection; with a token it has said hello and been welcomed."""
    async with connect(node, **options) as stream:
        await stream.send_all(upgrade())
        head = await read_until(stream, lambda got: b"\r\n\r\n" in got)
        assert head.startswith(b"HTTP/1.1 101 "), head
        socket = RawSocket(stream)
        socket.received += head.partition(b"\r\n\r\n")[2]
        if token is not None:
            await socket.send(text({"type": "hello", "token": token}))
            assert (await socket.message())["type"] == "welcome"
        yield socket
