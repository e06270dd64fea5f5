from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.wire.rtp import MalformedPacket, RtpHeader, build_rtp, parse_rtp_untrusted
from tests.media.packets import RECORDINGS, recorded

HEADER = RtpHeader(96, 65535, 2**32 - 1, 1)
one_byte = st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=6)
two_byte = st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=6)
headers = st.builds(
    RtpHeader,
    st.integers(0, 127),
    st.integers(0, 65_535),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.lists(st.integers(0, 2**32 - 1), max_size=15).map(tuple),
    one_byte | two_byte,
)


@given(headers, st.binary(max_size=1200), st.integers(0, 255))
def test_what_was_built_is_read_back(header: RtpHeader, payload: bytes, padding: int) -> None:
    datagram = build_rtp(header, payload, padding=padding)
    packet = parse_rtp_untrusted(datagram)
    assert packet.header == header
    assert datagram[packet.payload_start : packet.payload_end] == payload
    assert packet.padding == padding


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_packets_are_read_with_their_extensions(name: str) -> None:
    for datagram in recorded(name, "rtp"):
        packet = parse_rtp_untrusted(datagram)
        assert packet.payload_start <= packet.payload_end <= len(datagram)
        assert bool(packet.header.extensions) == bool(datagram[0] & 0x10)


def test_the_first_packet_of_chromium_is_a_probe_without_payload() -> None:
    probes = [parse_rtp_untrusted(datagram) for datagram in recorded("chromium156-vp8", "rtp")]
    assert any(packet.payload_start == packet.payload_end and packet.padding for packet in probes)


def test_a_two_byte_header_holds_what_a_one_byte_header_cannot() -> None:
    assert build_rtp(RtpHeader(96, 0, 0, 1, extensions={1: b"x"}), b"")[12:14] == b"\xbe\xde"
    assert build_rtp(RtpHeader(96, 0, 0, 1, extensions={1: b"x" * 17}), b"")[12:14] == b"\x10\x00"
    assert build_rtp(RtpHeader(96, 0, 0, 1, extensions={15: b"x"}), b"")[12:14] == b"\x10\x00"


def test_padding_between_elements_is_skipped_and_id_15_stops() -> None:
    block = bytes.fromhex("bede0003" + "0010aa00" + "0020bbf0" + "30cc0000")
    packet = parse_rtp_untrusted(bytes.fromhex("9060000000000000" + "00000001") + block)
    assert packet.header.extensions == {1: b"\xaa", 2: b"\xbb"}


def test_of_an_extension_given_twice_the_first_counts() -> None:
    packet = parse_rtp_untrusted(bytes.fromhex("9060000000000000" + "00000001" + "bede0001" + "10aa10bb"))
    assert packet.header.extensions == {1: b"\xaa"}


def test_elements_beyond_the_block_and_unknown_profiles_are_left_out() -> None:
    cut = bytes.fromhex("9060000000000000" + "00000001" + "bede0001" + "10aa2fbb")
    assert parse_rtp_untrusted(cut).header.extensions == {1: b"\xaa"}
    other = bytes.fromhex("9060000000000000" + "00000001" + "12340001" + "10aa0000")
    assert parse_rtp_untrusted(other).header.extensions == {}
    half = bytes.fromhex("9060000000000000" + "00000001" + "10000001" + "01010f02")
    assert parse_rtp_untrusted(half).header.extensions == {1: b"\x0f"}


@pytest.mark.parametrize(
    "datagram",
    [
        "",
        "80",
        "8060000000000000000000",
        "4060000000000000" + "00000001",
        "8f60000000000000" + "00000001",
        "9060000000000000" + "00000001",
        "9060000000000000" + "00000001" + "bede0001",
        "a060000000000000" + "00000001",
        "a060000000000000" + "00000001" + "00",
        "a060000000000000" + "00000001" + "ff",
        "a060000000000000" + "00000001" + "0003",
    ],
)
def test_malformed_packets_are_named_so(datagram: str) -> None:
    with pytest.raises(MalformedPacket):
        parse_rtp_untrusted(bytes.fromhex(datagram))


@given(st.binary(max_size=64).map(lambda tail: b"\xb0" + tail) | st.binary(max_size=64))
def test_any_bytes_are_a_packet_or_malformed(datagram: bytes) -> None:
    with suppress(MalformedPacket):
        packet = parse_rtp_untrusted(datagram)
        assert 12 <= packet.payload_start <= packet.payload_end <= len(datagram)


@pytest.mark.parametrize(
    "arguments",
    [
        {"header": RtpHeader(128, 0, 0, 1), "payload": b""},
        {"header": RtpHeader(96, 0, 0, 1, csrcs=(0,) * 16), "payload": b""},
        {"header": RtpHeader(96, 0, 0, 1, extensions={0: b"x"}), "payload": b""},
        {"header": RtpHeader(96, 0, 0, 1, extensions={1: b"x" * 256}), "payload": b""},
        {"header": HEADER, "payload": b"", "padding": 256},
    ],
)
def test_what_does_not_fit_its_field_is_not_built(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fit|are"):
        build_rtp(**arguments)  # type: ignore[arg-type]
