"""QMux as the server's end speaks it: streams, windows, limits, and what a peer may not do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.moq.qmux import BUFFER_BYTES, DRAFTS, MAX_CONTROL, PAYLOAD_BYTES, STREAM_WINDOW, STREAMS, WINDOW, QmuxCarrier
from media.moq.qmux_frames import (
    Closed,
    DatagramArrived,
    FrameType,
    Parameter,
    StreamArrived,
    StreamReset,
    StreamStopped,
)
from media.moq.varint import Cursor, prefixed, varint

BROWSER = {
    Parameter.DATA: 1 << 20,
    Parameter.BIDI_LOCAL: 1 << 18,
    Parameter.BIDI_REMOTE: 1 << 18,
    Parameter.UNI: 1 << 18,
    Parameter.STREAMS_BIDI: 100,
    Parameter.STREAMS_UNI: 100,
}


def parameters(values: dict[int, int]) -> bytes:
    body = b"".join(varint(id) + prefixed(varint(value)) for id, value in values.items())
    return varint(FrameType.TRANSPORT_PARAMETERS) + prefixed(body)


def frame(type: int, *numbers: int, data: bytes | None = None) -> bytes:
    return b"".join(map(varint, (type, *numbers))) + (b"" if data is None else prefixed(data))


def stream_frame(stream: int, offset: int, data: bytes, *, is_last: bool = False) -> bytes:
    return frame(0x0E | is_last, stream, offset, data=data)


def opened(draft: str = "qmux-02", **changes: int) -> QmuxCarrier:
    carrier = QmuxCarrier(draft, lambda: None, lambda: None)
    assert carrier.open(unidirectional=True) is None  # nothing is granted yet
    values = {**BROWSER, Parameter.DATAGRAM_SIZE: 1_500, **{Parameter[name]: value for name, value in changes.items()}}
    assert carrier.receive_untrusted(parameters(values)) == []
    drain(carrier)
    return carrier


def drain(carrier: QmuxCarrier) -> list[bytes]:
    records = []
    while (record := carrier.next_record()) is not None:
        records.append(record)
    return records


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_first_frame_says_what_is_granted(draft: str) -> None:
    carrier = QmuxCarrier(draft, lambda: None, lambda: None)
    cursor = Cursor(drain(carrier)[0])
    assert cursor.varint_untrusted() == FrameType.TRANSPORT_PARAMETERS
    body, granted = Cursor(cursor.prefixed_untrusted()), {}
    while not body.is_at_end:
        id, value = body.varint_untrusted(), Cursor(body.prefixed_untrusted())
        granted[id] = value.varint_untrusted()
    assert granted[Parameter.DATA] == WINDOW
    assert (Parameter.DATAGRAM_SIZE in granted) is (draft != "qmux-00")


def test_streams_are_numbered_as_in_quic_and_opened_as_granted() -> None:
    carrier = opened(STREAMS_UNI=2)
    assert [carrier.open(unidirectional=True) for _ in range(3)] == [3, 7, None]
    assert [carrier.open(unidirectional=False) for _ in range(2)] == [1, 5]
    carrier.receive_untrusted(frame(FrameType.MAX_STREAMS_UNI, 3))
    assert carrier.open(unidirectional=True) == 11


def test_bytes_leave_in_frames_that_released_peers_take_and_in_turns() -> None:
    carrier = opened()
    first, second = carrier.open(unidirectional=True), carrier.open(unidirectional=True)
    assert first is not None
    assert second is not None
    carrier.write(first, b"a" * (PAYLOAD_BYTES + 10), is_last=True)
    carrier.write(second, b"b", is_last=True)
    assert not carrier.is_done(first)
    assert drain(carrier) == [
        stream_frame(first, 0, b"a" * PAYLOAD_BYTES),
        stream_frame(second, 0, b"b", is_last=True),
        stream_frame(first, PAYLOAD_BYTES, b"a" * 10, is_last=True),
    ]
    assert carrier.is_done(first)
    assert not carrier.write(first, b"late")


def test_the_peers_windows_hold_bytes_back_until_they_open() -> None:
    carrier = opened(DATA=100, UNI=60)
    streams = [carrier.open(unidirectional=True) for _ in range(2)]
    for stream in streams:
        assert stream is not None
        carrier.write(stream, bytes(80), is_last=True)
    assert [len(record) for record in drain(carrier)] == [64, 44]
    carrier.receive_untrusted(frame(FrameType.MAX_DATA, 1_000))
    assert [len(record) for record in drain(carrier)] == [24]
    carrier.receive_untrusted(frame(FrameType.MAX_STREAM_DATA, 3, 80) + frame(FrameType.MAX_STREAM_DATA, 7, 80))
    assert [len(record) for record in drain(carrier)] == [24, 24]


def test_room_is_what_the_buffer_and_the_window_take() -> None:
    carrier = opened()
    assert carrier.room() == BUFFER_BYTES
    stream = carrier.open(unidirectional=True)
    assert stream is not None
    carrier.write(stream, bytes(1_000))
    assert carrier.room() == BUFFER_BYTES - 1_000
    assert carrier.stream_room(stream) == BROWSER[Parameter.UNI] - 1_000
    drain(carrier)
    assert carrier.room() == BUFFER_BYTES


def test_a_reset_loses_what_waits_and_says_how_much_had_left() -> None:
    carrier = opened()
    stream = carrier.open(unidirectional=True)
    assert stream is not None
    carrier.write(stream, bytes(PAYLOAD_BYTES * 2))
    assert carrier.next_record() is not None
    carrier.reset(stream, 9)
    assert drain(carrier) == [frame(FrameType.RESET_STREAM, stream, 9, PAYLOAD_BYTES)]


@pytest.mark.parametrize("pieces", [1, 2])
def test_streams_of_the_peer_arrive_in_order_and_end(pieces: int) -> None:
    carrier = opened()
    if pieces == 1:
        record = stream_frame(0, 0, b"ask") + stream_frame(0, 3, b"ing", is_last=True)
        found = carrier.receive_untrusted(record)
    else:
        found = carrier.receive_untrusted(stream_frame(0, 0, b"ask"))
        found += carrier.receive_untrusted(frame(0x0B, 0) + prefixed(b"ing"))  # no offset: it goes on
    assert found == [StreamArrived(0, b"ask", is_last=False), StreamArrived(0, b"ing", is_last=True)]
    assert carrier.write(0, b"answer", is_last=True)
    assert drain(carrier)[-1] == stream_frame(0, 0, b"answer", is_last=True)


def test_resets_stops_datagrams_and_pings_are_passed_on_or_answered() -> None:
    carrier = opened()
    carrier.receive_untrusted(stream_frame(2, 0, b"x") + stream_frame(0, 0, b"y"))
    drain(carrier)
    assert carrier.receive_untrusted(frame(FrameType.RESET_STREAM, 2, 5, 1)) == [StreamReset(2, 5)]
    assert carrier.receive_untrusted(frame(FrameType.STOP_SENDING, 0, 6)) == [StreamStopped(0, 6)]
    assert not carrier.write(0, b"unwanted")
    assert carrier.receive_untrusted(frame(FrameType.DATAGRAM_WITH_LENGTH, data=b"d")) == [DatagramArrived(b"d")]
    assert carrier.receive_untrusted(frame(FrameType.PING, 77)) == []
    assert frame(FrameType.PONG, 77) in drain(carrier)
    assert carrier.receive_untrusted(frame(FrameType.APPLICATION_CLOSE, 3, data=b"bye")) == [Closed(3, "bye")]
    assert carrier.is_closed


def test_windows_are_refilled_as_bytes_are_taken() -> None:
    carrier = opened()
    offset, chunk = 0, bytes(60_000)
    while offset < 3 * WINDOW:
        assert carrier.receive_untrusted(stream_frame(2, offset, chunk)) == [StreamArrived(2, chunk, is_last=False)]
        offset += len(chunk)
    types = {Cursor(record).varint_untrusted() for record in drain(carrier)}
    assert types == {FrameType.MAX_DATA, FrameType.MAX_STREAM_DATA}


def test_ended_streams_let_the_peer_open_new_ones() -> None:
    carrier = opened()
    for number in range(3 * STREAMS):
        stream = 2 + 4 * number
        assert carrier.receive_untrusted(stream_frame(stream, 0, b"g", is_last=True))
        drain(carrier)
    assert not carrier.is_closed


def test_datagrams_go_where_they_are_taken_and_fit() -> None:
    carrier = opened()
    assert carrier.send_datagram(b"d" * 1_400)
    assert not carrier.send_datagram(b"d" * 1_500)
    carrier.drop_datagrams()
    assert drain(carrier) == []
    assert not opened(DATAGRAM_SIZE=0).send_datagram(b"d")
    assert not opened("qmux-00").send_datagram(b"d")


BROKEN = {
    "streams before parameters": [stream_frame(0, 0, b"x")],
    "parameters twice": [parameters(BROWSER), parameters(BROWSER)],
    "a parameter twice": [
        varint(FrameType.TRANSPORT_PARAMETERS) + prefixed((varint(Parameter.DATA) + prefixed(b"\x01")) * 2)
    ],
    "an unknown frame": [parameters(BROWSER), frame(0x4242)],
    "out of order": [parameters(BROWSER), stream_frame(0, 7, b"x")],
    "our own unidirectional stream": [parameters(BROWSER), stream_frame(3, 0, b"x")],
    "a stream of ours that we did not open": [parameters(BROWSER), stream_frame(1, 0, b"x")],
    "too many streams": [parameters(BROWSER), stream_frame(4 * STREAMS, 0, b"x")],
    "more than the window": [
        parameters(BROWSER),
        *[stream_frame(2 + 4 * n, 0, bytes(STREAM_WINDOW // 2)) for n in range(1)],
        stream_frame(6, 0, bytes(STREAM_WINDOW + 1)),
    ],
    "cut off": [parameters(BROWSER), stream_frame(0, 0, b"xyz")[:-1]],
}


@pytest.mark.parametrize("records", BROKEN.values(), ids=BROKEN)
def test_a_peer_that_breaks_the_rules_is_told_so_and_closed(records: list[bytes]) -> None:
    carrier = QmuxCarrier("qmux-02", lambda: None, lambda: None)
    found: list[object] = []
    for record in records:
        assert not carrier.is_closed
        found += carrier.receive_untrusted(record)
    assert isinstance(found[-1], Closed)
    assert carrier.counts["malformed"] == 1
    assert Cursor(drain(carrier)[-1]).varint_untrusted() == FrameType.APPLICATION_CLOSE


def test_a_peer_that_pings_without_reading_is_cut_off() -> None:
    carrier = opened()
    for number in range(MAX_CONTROL):
        carrier.receive_untrusted(frame(FrameType.PING, number))
    assert not carrier.is_closed
    carrier.receive_untrusted(frame(FrameType.PING, MAX_CONTROL))
    assert carrier.is_closed
    assert carrier.counts["control_overflow"] == 1


FRAMES = st.one_of(
    st.builds(stream_frame, st.integers(0, 12), st.integers(0, 4), st.binary(max_size=6), is_last=st.booleans()),
    st.builds(frame, st.sampled_from([4, 5, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15]), *[st.integers(0, 20)] * 3),
    st.builds(lambda data: frame(FrameType.DATAGRAM_WITH_LENGTH, data=data), st.binary(max_size=6)),
    st.binary(max_size=20),
)


@given(records=st.lists(st.lists(FRAMES, max_size=3).map(b"".join), max_size=12))
@settings(max_examples=300)
def test_nothing_a_peer_sends_breaks_the_carrier(records: list[bytes]) -> None:
    carrier = QmuxCarrier("qmux-02", lambda: None, lambda: None)
    carrier.receive_untrusted(
        parameters(
            {
                Parameter.DATA: 40,
                Parameter.BIDI_LOCAL: 9,
                Parameter.BIDI_REMOTE: 9,
                Parameter.UNI: 9,
                Parameter.STREAMS_UNI: 2,
                Parameter.STREAMS_BIDI: 2,
            }
        )
    )
    mine = carrier.open(unidirectional=True)
    ended: set[int] = set()
    for record in records:
        for event in carrier.receive_untrusted(record):
            if isinstance(event, StreamArrived):
                assert event.stream not in ended
                ended |= {event.stream} if event.is_last else set()
                carrier.write(event.stream, b"echo")
        assert mine is not None
        carrier.write(mine, b"more")
        drain(carrier)
    assert carrier._used <= carrier._credit
