"""Frames read without the protocol: the same messages, answers and ends as with it, however they arrive."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import trio
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import Side

from server import inbox
from server.inbox import SocketInbox
from server.outbox import SocketOutbox
from server.plain_frames import head_untrusted, payload
from signalling.messages import MAX_MESSAGE_BYTES
from tests.server.sockets import frame

SIZES = st.sampled_from([0, 1, 5, 125, 126, 127, 300, 16_000, MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1])
TEXTS = st.sampled_from([b"x", "ä".encode(), b"\xff", b"{}"])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame: mostly such as clients send, sometimes not."""
    if draw(st.integers(0, 20)) == 0:
        return draw(st.binary(max_size=20))
    opcode = draw(st.sampled_from([*[Opcode.TEXT, Opcode.BINARY] * 4, *Opcode]))
    data = (draw(TEXTS) * MAX_MESSAGE_BYTES)[: draw(SIZES)]
    if opcode >= Opcode.CLOSE:
        data = data[:125]
    made = frame(opcode, data, mask=draw(st.integers(0, 20)) > 0)
    final, extended = draw(st.integers(0, 5)) > 0, draw(st.integers(0, 20)) == 0
    return bytes([made[0] & (0xFF if final else 0x7F) | (0x40 if extended else 0)]) + made[1:]


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


@given(st.lists(frames(), max_size=8), st.lists(st.integers(0, 200_000), max_size=12))
@example([frame(Opcode.TEXT, b"{}")] * 3, [3])
@example([frame(Opcode.TEXT, b"{", fin=False), frame(Opcode.PING, b"p"), frame(Opcode.CONT, b"}")], [4, 9])
@example([frame(Opcode.TEXT, b"{", fin=False), frame(Opcode.TEXT, b"{}")], [])
@example([frame(Opcode.CLOSE, b""), frame(Opcode.TEXT, b"{}")], [])
@example([frame(Opcode.BINARY, b"x" * (MAX_MESSAGE_BYTES + 1)), frame(Opcode.TEXT, b"{}")], [])
def test_whatever_comes_is_read_as_the_protocol_would(made: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(made)
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    parts = [whole[begin:end] for begin, end in pairwise(places)]
    expected = through_the_protocol([whole])
    assert trio.run(through_the_inbox, list(parts)) == expected


@given(st.binary(max_size=40))
def test_any_bytes_have_a_head_or_need_more(data: bytes) -> None:
    head = head_untrusted(data, 0)
    if head is not None:
        assert 2 <= head.begin <= len(data)
        assert head.begin <= head.end < head.begin + 2**64
        if head.is_plain(inbox.MAX_MESSAGE_BYTES) and head.end <= len(data):
            assert len(payload(data, head)) == head.end - head.begin
