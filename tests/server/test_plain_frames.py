"""Frames read without the protocol: the same messages, answers and ends as with it, however they arrive."""

from __future__ import annotations

from itertools import pairwise

import trio
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Opcode

from server.connections.plain_frames import head_untrusted, payload
from signalling.wire.messages import MAX_MESSAGE_BYTES
from tests.server.sockets import frame
from tests.server.websocket_reference import through_the_inbox, through_the_protocol

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
        if head.is_plain(MAX_MESSAGE_BYTES) and head.end <= len(data):
            assert len(payload(data, head)) == head.end - head.begin
