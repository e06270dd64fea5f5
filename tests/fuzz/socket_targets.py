"""What the reader of WebSocket frames promises: the messages, answers and end that the library would come to."""

from __future__ import annotations

from collections.abc import Iterator

import trio
from websockets.frames import Opcode

from tests.fuzz.target import Target
from tests.server.sockets import frame
from tests.server.websocket_reference import through_the_inbox, through_the_protocol


def read_websocket(data: bytes) -> None:
    cut, rest = data[0] if data else 0, data[1:]
    parts = [part for part in (rest[:cut], rest[cut:]) if part]
    assert trio.run(through_the_inbox, list(parts)) == through_the_protocol([rest])


def websocket_seeds() -> Iterator[bytes]:
    said = frame(Opcode.TEXT, b"{}"), frame(Opcode.PING), frame(Opcode.BINARY, b"x" * 200)
    yield b"\3" + b"".join(said)
    yield b"\0" + frame(Opcode.TEXT, b"{", fin=False) + said[1] + frame(Opcode.CONT, b"}") + frame(Opcode.CLOSE)


SOCKET_TARGETS = {"websocket": Target(read_websocket, websocket_seeds, 600)}
