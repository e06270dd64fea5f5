"""What a WebSocket client sends, read by an inbox and, for comparison, by the library alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import trio
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import Side

from server.connections.inbox import SocketInbox
from server.connections.outbox import SocketOutbox
from signalling.wire.messages import MAX_MESSAGE_BYTES


@dataclass
class Stream:
    """What arrives, part by part, and then its end."""

    parts: list[bytes]

    async def receive_some(self, _: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.parts.pop(0) if self.parts else b""


@dataclass
class Said:
    """An outbox that keeps what is written to it."""

    written: bytearray = field(default_factory=bytearray)
    closed: str | None = None

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self, reason: str) -> None:
        self.closed = reason


async def through_the_inbox(parts: list[bytes]) -> tuple[list[bytes], bytes, str]:
    protocol, said = WebSocketProtocol(Side.SERVER, max_size=MAX_MESSAGE_BYTES), Said()
    taking = SocketInbox(cast(trio.abc.Stream, Stream(parts)), protocol, cast(SocketOutbox, said), b"")
    messages = []
    while (message := await taking.next()) is not None:
        messages.append(message)
    return messages, bytes(said.written), taking.ended


def through_the_protocol(parts: list[bytes]) -> tuple[list[bytes], bytes, str]:
    """What the library makes of it, message by message; the reference."""
    protocol = WebSocketProtocol(Side.SERVER, max_size=MAX_MESSAGE_BYTES)
    messages, written, fragments, is_text = [], b"", list[bytes](), False
    for part in [*parts, b""]:
        for at in range(max(len(part), 1)):
            # Byte by byte, so that a text that is none ends it before what follows is looked at.
            if part:
                protocol.receive_data(part[at : at + 1])
            else:
                protocol.receive_eof()
            for event in protocol.events_received():
                assert isinstance(event, Frame)
                if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                    is_text = event.opcode is Opcode.TEXT
                elif event.opcode is not Opcode.CONT:
                    continue
                fragments.append(bytes(event.data))
                if event.fin:
                    message = b"".join(fragments)
                    fragments.clear()
                    try:
                        message.decode() if is_text else None
                        messages.append(message)
                    except UnicodeDecodeError:
                        protocol.fail(CloseCode.INVALID_DATA, "text must be UTF-8")
            written += b"".join(protocol.data_to_send())
    return messages, written, ended(protocol)


def ended(protocol: WebSocketProtocol) -> str:
    if protocol.close_rcvd is not None:
        return "closed_by_client"
    return "lost" if protocol.close_sent is None else "protocol_error"
