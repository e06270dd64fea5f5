"""Frames survive the way through packets, in every codec; what makes no sense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.bridge.depacketising import (
    START_CODE,
    begins_group,
    depacketise_untrusted,
    leb128,
    nal_units_untrusted,
    obus_untrusted,
)
from media.bridge.packetising import MAX_PAYLOAD, packetise_untrusted, split_annex_b_untrusted
from media.wire.codecs import Codec
from media.wire.malformed import MalformedPacket
from media.wire.rtp import parse_rtp_untrusted
from tests.media.packets import recorded

SIZES = st.integers(1, 5 * MAX_PAYLOAD)


def body(size: int) -> bytes:
    return bytes((7 * place + place // 251) % 255 + 1 for place in range(size))  # no zeros: no start codes


@given(size=SIZES, picture_id=st.integers(0, 1 << 16))
def test_a_vp8_frame_comes_out_as_it_went_in(size: int, picture_id: int) -> None:
    unit = b"\x10" + body(size)
    payloads = packetise_untrusted(Codec.VP8, unit, is_keyframe=True, picture_id=picture_id)
    assert depacketise_untrusted(Codec.VP8, payloads) == unit
    assert begins_group(Codec.VP8, payloads)
    assert not begins_group(Codec.VP8, packetise_untrusted(Codec.VP8, b"\x11" + unit, is_keyframe=False))
    assert max(map(len, payloads)) <= MAX_PAYLOAD


@given(size=SIZES, picture_id=st.integers(0, 1 << 16), is_keyframe=st.booleans())
def test_a_vp9_frame_comes_out_as_it_went_in(size: int, picture_id: int, is_keyframe: bool) -> None:
    payloads = packetise_untrusted(Codec.VP9, body(size), is_keyframe=is_keyframe, picture_id=picture_id)
    assert depacketise_untrusted(Codec.VP9, payloads) == body(size)
    assert begins_group(Codec.VP9, payloads) == is_keyframe
    assert max(map(len, payloads)) <= MAX_PAYLOAD


@given(sizes=st.lists(SIZES, min_size=1, max_size=6), three=st.booleans())
def test_the_units_of_an_h264_frame_come_out_as_they_went_in(sizes: list[int], three: bool) -> None:
    units = [
        bytes([0x67, 0x68, 0x65, 0x41][place % 4 : place % 4 + 1]) + body(size) for place, size in enumerate(sizes)
    ]
    annex_b = b"".join((START_CODE[1:] if three else START_CODE) + unit for unit in units)
    payloads = packetise_untrusted(Codec.H264, annex_b, is_keyframe=True)
    assert split_annex_b_untrusted(depacketise_untrusted(Codec.H264, payloads)) == units
    assert begins_group(Codec.H264, payloads)
    assert max(map(len, payloads)) <= MAX_PAYLOAD


def obu(kind: int, content: bytes, *, layer: int | None = None) -> bytes:
    extension = b"" if layer is None else bytes([layer << 3])
    return bytes([kind << 3 | (4 if extension else 0) | 2]) + extension + leb128(len(content)) + content


@given(sizes=st.lists(st.integers(0, 3 * MAX_PAYLOAD), min_size=1, max_size=6), layer=st.sampled_from([None, 0, 2]))
def test_the_obus_of_an_av1_frame_come_out_as_they_went_in_but_for_delimiters(
    sizes: list[int], layer: int | None
) -> None:
    unit = b"".join(obu([1, 6, 4][place % 3], body(size), layer=layer) for place, size in enumerate(sizes))
    payloads = packetise_untrusted(Codec.AV1, obu(2, b"") + unit, is_keyframe=True)
    assert depacketise_untrusted(Codec.AV1, payloads) == unit
    assert begins_group(Codec.AV1, payloads)
    assert max(map(len, payloads)) <= MAX_PAYLOAD


def test_opus_stays_as_it_is() -> None:
    assert packetise_untrusted(Codec.OPUS, b"sound", is_keyframe=True) == [b"sound"]
    assert depacketise_untrusted(Codec.OPUS, [b"sound"]) == b"sound"


RECORDED = {
    "chromium156-vp8": (96, Codec.VP8),
    "chromium156-vp9-L3T3_KEY": (98, Codec.VP9),
    "chromium156-h264": (108, Codec.H264),
    "ffmpeg812-h264-dtlsactive": (106, Codec.H264),
    "chromium156-av1-L3T3_KEY": (45, Codec.AV1),
    "firefox153-vp8": (120, Codec.VP8),
    "gstreamer122-vp8": (96, Codec.VP8),
}


@pytest.mark.parametrize("name", RECORDED)
def test_frames_of_real_encoders_come_out_as_their_decoders_take_them(name: str) -> None:
    payload_type, codec = RECORDED[name]
    frames: dict[int, list[bytes]] = {}
    for datagram in recorded(name, "rtp"):
        packet = parse_rtp_untrusted(datagram)
        if packet.header.payload_type == payload_type:
            frames.setdefault(packet.header.timestamp, []).append(datagram[packet.payload_start : packet.payload_end])
    units = []
    for payloads in frames.values():
        try:
            units.append((begins_group(codec, payloads), depacketise_untrusted(codec, payloads)))
        except MalformedPacket:
            continue  # the recording lacks some packets
    assert len(units) >= 3
    assert units[0][0]
    for is_keyframe, unit in units:
        match codec:
            case Codec.VP8:
                assert is_keyframe == (unit[3:6] == b"\x9d\x01\x2a")
            case Codec.VP9:
                assert unit[0] >> 6 == 2  # the frame marker
            case Codec.H264:
                kinds = {nal[0] & 31 for nal in split_annex_b_untrusted(unit)}
                assert is_keyframe == bool(kinds & {5, 7})
            case Codec.AV1:
                kinds = {head >> 3 & 15 for head, _, _ in obus_untrusted(unit)}
                assert is_keyframe == (1 in kinds)
                assert 2 not in kinds


@pytest.mark.parametrize(
    ("codec", "payloads"),
    [
        (Codec.VP8, [b"\x80"]),
        (Codec.VP8, [b"\x10"]),
        (Codec.VP9, [b"\x82\x80"]),
        (Codec.VP9, [b"\x50"]),
        (Codec.H264, [b"\x7c\x45x"]),  # a fragment without its beginning
        (Codec.H264, [b"\x7c\x85x"]),  # and without its end
        (Codec.H264, [b"\x7c\x85x", b"\x41x"]),
        (Codec.H264, [b"\x78\x00\x09x"]),
        (Codec.H264, [b"\x1f"]),
        (Codec.AV1, [b"\x40\x02\x30x"]),
        (Codec.AV1, [b"\x80\x02\x30x"]),
        (Codec.AV1, [b"\x20\x02\x30x"]),
        (Codec.AV1, [b"\x00\x09\x30x"]),
        (Codec.OPUS, [b"a", b"b"]),
        (Codec.OPUS, [b""]),
        (Codec.OPUS, []),
    ],
)
def test_what_makes_no_frame_is_refused(codec: Codec, payloads: list[bytes]) -> None:
    with pytest.raises(MalformedPacket):
        depacketise_untrusted(codec, payloads)


@pytest.mark.parametrize(
    ("codec", "unit"),
    [
        (Codec.H264, b"\x65no start code"),
        (Codec.H264, b"x\x00\x00\x01\x65"),
        (Codec.H264, START_CODE + b"\x18aggregate"),
        (Codec.AV1, b"\x32\x09short"),
        (Codec.AV1, b"\x12\x00"),
        (Codec.VP8, b""),
        (Codec.VP8, bytes((4 << 20) + 1)),
    ],
)
def test_what_is_no_frame_makes_no_packets(codec: Codec, unit: bytes) -> None:
    with pytest.raises(MalformedPacket):
        packetise_untrusted(codec, unit, is_keyframe=True)


@given(codec=st.sampled_from(Codec), payloads=st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_a_frame_or_malformed(codec: Codec, payloads: list[bytes]) -> None:
    try:
        unit = depacketise_untrusted(codec, payloads)
    except MalformedPacket:
        return
    assert 0 < len(unit) <= 6 * sum(map(len, payloads))


@given(codec=st.sampled_from(Codec), unit=st.binary(max_size=3_000), is_keyframe=st.booleans())
def test_any_unit_makes_packets_that_give_it_back_or_is_malformed(codec: Codec, unit: bytes, is_keyframe: bool) -> None:
    try:
        payloads = packetise_untrusted(codec, unit, is_keyframe=is_keyframe)
    except MalformedPacket:
        return
    back = depacketise_untrusted(codec, payloads)
    match codec:
        case Codec.H264:
            assert list(nal_units_untrusted(payloads)) == split_annex_b_untrusted(unit)
        case Codec.AV1:
            assert packetise_untrusted(codec, back, is_keyframe=is_keyframe) == payloads
        case _:
            assert back == unit
