"""What moq-lite's versions put on the wire, against bytes that real peers sent; and that no bytes break a reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.moq.protocol import messages
from media.moq.protocol.frames import MAX_FRAME_BYTES, Frame, FrameWriter, StreamReader
from media.moq.protocol.messages import (
    LAYOUTS,
    Announce,
    AnnounceRequest,
    AnnounceStart,
    GroupHeader,
    Message,
    Setup,
    Subscribe,
    SubscribeOk,
    TrackInfo,
    normal_path,
    read_message_untrusted,
    suffix_of,
    write_message,
)
from media.moq.protocol.varint import MAX_VARINT, peek_varint_untrusted, unzigzag, varint, zigzag
from media.moq.protocol.versions import PREFERRED, Version, choose_version
from media.wire.malformed import MalformedPacket

# Bodies that peers nobody here wrote put on the wire, and what they mean.
SEEN = [
    (Version.LITE_05, "020101010508c009710e434e7c92", Setup(((1, b"\x01"), (5, bytes.fromhex("c009710e434e7c92"))))),
    (Version.LITE_04, "8001000000", SubscribeOk(128, is_ordered=True)),
    (Version.LITE_06, "7f5388800f4240", TrackInfo(127, max_latency_ms=5_000, timescale=1_000_000)),
]


@pytest.mark.parametrize(("version", "body", "message"), SEEN, ids=lambda part: type(part).__name__)
def test_bytes_of_real_peers_are_read_and_written_alike(version: Version, body: str, message: Message) -> None:
    raw = bytes.fromhex(body)
    assert read_message_untrusted(version, type(message), raw) == message
    assert write_message(version, message) == varint(len(raw)) + raw


@pytest.mark.parametrize(
    ("version", "announce", "body"),
    [
        (Version.LITE_03, Announce(1, "bob", (0,)), "01 03626f62 01"),
        (Version.LITE_04, Announce(1, "bob", (7,)), "01 03626f62 01 07"),
        (Version.LITE_05, Announce(1, "bob"), "01 03626f62 00"),
        (Version.LITE_06, AnnounceStart("bob"), "03626f62 00 00 00"),
        (Version.LITE_03, AnnounceRequest("a/b"), "03612f62"),
        (Version.LITE_05, AnnounceRequest("a/b", 9), "03612f62 09"),
        (Version.LITE_06, AnnounceRequest("a/b", 9), "03612f62"),
        (Version.LITE_05, GroupHeader(2, 70), "02 4046"),
        (Version.LITE_06, GroupHeader(2, 70), "02 4046 00"),
        (
            Version.LITE_05,
            Subscribe(1, "r/b", "v", 60, is_ordered=True, max_latency_ms=100, start=3),
            "01 03722f62 0176 3c 01 4064 03 00",
        ),
        (
            Version.LITE_06,
            Subscribe(1, "r/b", "v", 60, is_ordered=True, max_latency_ms=100, start=3),
            "01 03722f62 0176 3c 4064 03 00 00 00",
        ),
    ],
)
def test_versions_differ_where_they_should(version: Version, announce: Message, body: str) -> None:
    raw = bytes.fromhex(body)
    assert write_message(version, announce) == varint(len(raw)) + raw


NAMES = st.text(min_size=1, max_size=12).filter(lambda text: "/" not in text)
NUMBERS = st.integers(0, MAX_VARINT)
FIELDS = {
    messages.VARINT: NUMBERS,
    messages.BYTE: st.integers(0, 255),
    messages.FLAG: st.booleans(),
    messages.TEXT: NAMES,
    messages.PATH: st.lists(NAMES, max_size=4).map("/".join),
    messages.HOPS: st.lists(NUMBERS, max_size=messages.MAX_HOPS).map(tuple),
    messages.HOP_COUNT: st.integers(0, messages.MAX_HOPS).map(lambda count: (0,) * count),
    messages.PARAMETERS: st.lists(st.tuples(NUMBERS, st.binary(max_size=20)), max_size=4).map(tuple),
}
KINDS = [(version, kind) for version, layouts in LAYOUTS.items() for kind in layouts]


@given(st.data(), st.sampled_from(KINDS))
def test_every_message_of_every_version_comes_back_as_it_was_written(
    data: st.DataObject, case: tuple[Version, type[Message]]
) -> None:
    version, kind = case
    fields = {name: data.draw(FIELDS[field]) for name, field in LAYOUTS[version][kind].items()}
    message = kind(**fields)
    written = write_message(version, message)
    reader = StreamReader()
    reader.feed(written, is_last=True)
    body = reader.message_untrusted()
    assert body is not None
    assert read_message_untrusted(version, kind, body) == message
    assert reader.is_done


@given(st.sampled_from(KINDS), st.binary(max_size=60))
def test_no_bytes_break_a_message_reader(case: tuple[Version, type[Message]], body: bytes) -> None:
    version, kind = case
    try:
        message = read_message_untrusted(version, kind, body)
    except MalformedPacket:
        return
    # What was read means the same when written, even if its numbers were longer than they need be.
    again = write_message(version, message)
    size = peek_varint_untrusted(again, 0)
    assert size is not None
    assert read_message_untrusted(version, kind, again[size[1] :]) == message


@pytest.mark.parametrize(
    "body",
    [
        b"\x44\x00" + b"a" * 1024 + b"b",  # 1,025 bytes are more than a name has
        b"\x02\xff\xfe" + b"\x00",  # no UTF-8
        b"\x04bob",  # ends too early
        b"\x03bob\x00\x00",  # something after the end
        b"\x40\x41" + b"a/" * 32 + b"a" + b"\x00",  # 33 segments
    ],
)
def test_a_request_for_announcements_out_of_bounds_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read_message_untrusted(Version.LITE_05, AnnounceRequest, body)


def test_a_message_that_a_version_lacks_is_malformed() -> None:
    with pytest.raises(MalformedPacket, match="has no TrackInfo"):
        read_message_untrusted(Version.LITE_04, TrackInfo, b"\x00\x00\x00\x01")


@given(st.integers(0, MAX_VARINT))
def test_numbers_come_back(value: int) -> None:
    assert peek_varint_untrusted(varint(value), 0) == (value, len(varint(value)))


@given(st.integers(-(1 << 60), 1 << 60))
def test_signed_numbers_come_back(value: int) -> None:
    assert unzigzag(zigzag(value)) == value


@pytest.mark.parametrize("value", [-1, MAX_VARINT + 1])
def test_numbers_that_do_not_fit_are_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="varint"):
        varint(value)


def test_paths_are_compared_by_segments() -> None:
    assert normal_path("//a///b/") == "a/b"
    assert suffix_of("room/bob.hang", "room") == "bob.hang"
    assert suffix_of("room/bob.hang", "room/bob.hang") == ""
    assert suffix_of("roommate/bob", "room") is None
    assert suffix_of("a/b", "") == "a/b"


def test_the_version_we_like_best_is_chosen_of_those_offered() -> None:
    watch = ["moq-lite-05", "moq-lite-04", "moq-lite-03", "moql", "moqt-19"]
    assert choose_version(watch) is Version.LITE_05
    assert choose_version(["moq-lite-06", "moq-lite-04"]) is Version.LITE_04
    assert choose_version(["moq-lite-06", "moqt-18"]) is Version.LITE_06
    assert choose_version(["moql", "moqt-18"]) is None
    assert set(PREFERRED) == set(Version)


@pytest.mark.parametrize("stamps", [True, False])
@given(
    frames=st.lists(st.tuples(st.integers(-(1 << 59), 1 << 59), st.binary(max_size=40)), max_size=6),
    piece=st.integers(1, 9),
)
def test_frames_come_back_from_any_pieces(stamps: bool, frames: list[tuple[int, bytes]], piece: int) -> None:
    writer = FrameWriter(stamps=stamps)
    wire = b"".join(writer.header(Frame(at, payload)) + payload for at, payload in frames)
    reader, clock, found = StreamReader(), 0, []
    for at in range(0, len(wire), piece):
        reader.feed(wire[at : at + piece], is_last=at + piece >= len(wire))
        while (frame := reader.frame_untrusted(stamps=stamps)) is not None:
            clock += frame[0]
            found.append((clock if stamps else 0, frame[1]))
    assert found == [(at if stamps else 0, payload) for at, payload in frames]
    assert not len(reader)


def test_a_frame_too_long_is_refused_before_its_bytes_are_waited_for() -> None:
    reader = StreamReader()
    reader.feed(b"\x00" + varint(MAX_FRAME_BYTES + 1), is_last=False)
    with pytest.raises(MalformedPacket, match="limit"):
        reader.frame_untrusted(stamps=True)


def test_a_stream_that_ends_within_a_message_is_malformed() -> None:
    reader = StreamReader()
    reader.feed(b"\x05abc", is_last=True)
    with pytest.raises(MalformedPacket, match="within"):
        reader.message_untrusted()
