"""The catalog and the containers, against what real publishers write and against nonsense."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.moq.protocol.containers import unwrap_legacy_untrusted, unwrap_loc_untrusted, wrap_legacy, wrap_loc
from media.moq.protocol.hang import (
    MAX_CATALOG_BYTES,
    Audio,
    AudioSection,
    Catalog,
    Container,
    Display,
    Video,
    VideoSection,
    read_catalog_untrusted,
    write_catalog,
)
from media.moq.protocol.varint import MAX_VARINT, prefixed, varint
from media.wire.malformed import MalformedPacket

SEEN = b"""{"video":{"renditions":{"video0":{"codec":"vp8","container":{"kind":"legacy"},"codedWidth":320,
"codedHeight":240,"framerate":30,"bitrate":600000,"jitter":34}},"display":{"width":320,"height":240}},
"audio":{"renditions":{"audio0":{"codec":"opus","container":{"kind":"legacy"},"sampleRate":48000,
"numberOfChannels":1,"bitrate":32000,"jitter":20}}},"chat":{"of":"somebody else"}}"""
LEGACY = Container("legacy")
MEANT = Catalog(
    VideoSection({"video0": Video("vp8", LEGACY, 320, 240, 30, 600_000, 34)}, Display(320, 240)),
    AudioSection({"audio0": Audio("opus", 48_000, 1, LEGACY, 32_000, 20)}),
)


def test_a_catalog_is_read_and_sections_that_are_not_ours_are_passed_over() -> None:
    assert read_catalog_untrusted(SEEN) == MEANT


def test_a_catalog_comes_back_as_it_was_written_and_leaves_out_what_is_not_said() -> None:
    assert read_catalog_untrusted(write_catalog(MEANT)) == MEANT
    assert (
        write_catalog(Catalog(VideoSection({"v": Video("vp8")}))) == b'{"video":{"renditions":{"v":{"codec":"vp8"}}}}'
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        b'{"video":{"renditions":{"v":{}}}}',
        b'{"audio":{"renditions":{"a":{"codec":"opus","sampleRate":"x","numberOfChannels":1}}}}',
        b'{"video":{"renditions":{"v":{"codec":"vp8","container":{"kind":"tar"}}}}}',
        b"[" * 60_000,
        b" " * (MAX_CATALOG_BYTES + 1),
    ],
)
def test_what_is_no_catalog_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read_catalog_untrusted(payload)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_catalogs_reader(payload: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        assert isinstance(read_catalog_untrusted(payload), Catalog)


@given(st.integers(0, 1 << 60), st.binary(max_size=40))
def test_containers_come_back(timestamp_us: int, unit: bytes) -> None:
    assert unwrap_legacy_untrusted(wrap_legacy(timestamp_us, unit)) == (timestamp_us, unit)
    assert unwrap_loc_untrusted(wrap_loc(timestamp_us, unit)) == (timestamp_us, unit)


@pytest.mark.parametrize(
    ("properties", "timestamp_us"),
    [
        (varint(0x10) + varint(5), 5),
        (varint(0x06) + varint(5), 5),  # draft-03
        (varint(0x08) + varint(90_000) + varint(0x08) + varint(180_000), 2_000_000),  # timescale, then timestamp
        (varint(0x03) + prefixed(b"opaque") + varint(0x0D) + varint(7), 7),  # an odd id has bytes
        (b"", None),
    ],
)
def test_properties_of_loc_come_in_any_order_of_ids_and_units(properties: bytes, timestamp_us: int | None) -> None:
    assert unwrap_loc_untrusted(prefixed(properties) + b"unit") == (timestamp_us, b"unit")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        prefixed(varint(0x10)),  # no value
        prefixed(varint(0x08) + b"\x00"),  # a timescale of 0
        prefixed(varint(0x08) + b"\x01" + varint(0x08) + varint(MAX_VARINT)),  # seconds beyond all time
        prefixed(b"\x02\x01" * 65),
        varint(40) + b"short",
    ],
)
def test_what_is_no_loc_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedPacket):
        unwrap_loc_untrusted(payload)


@given(st.binary(max_size=60))
def test_no_bytes_break_the_containers_readers(payload: bytes) -> None:
    for unwrap in (unwrap_legacy_untrusted, unwrap_loc_untrusted):
        try:
            _, unit = unwrap(payload)
            assert payload.endswith(unit)
        except MalformedPacket:
            pass
