"""The dependency descriptor: what Chromium's says, malformed ones, and the compiled reader against the plain one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.forwarding.kernel.dependency import MALFORMED, read_dependency
from media.forwarding.structures import STRUCTURE
from media.wire.codecs import Codec
from media.wire.dependency import Descriptor, Structure, described_heights_untrusted, parse_dependency_untrusted
from media.wire.layering import Layering, Mark, read_layering_untrusted
from media.wire.malformed import MalformedPacket
from media.wire.rtp import parse_rtp_untrusted
from tests.media.packets import recorded

EXTENSION = 12  # as those recordings negotiated it
VIDEO = {"chromium156-vp9-L3T3_KEY": 98, "chromium156-av1-L3T3_KEY": 45}


def descriptors(name: str) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield each packet's descriptor, its payload, and whether it has the marker."""
    for datagram in recorded(name, "rtp"):
        packet = parse_rtp_untrusted(datagram)
        if packet.header.payload_type == VIDEO[name]:
            payload = datagram[packet.payload_start : packet.payload_end]
            yield packet.header.extensions[EXTENSION], payload, packet.header.marker


def read(data: bytes, known: Structure | None) -> Descriptor | None:
    try:
        return parse_dependency_untrusted(data, known)
    except MalformedPacket:
        return None


@pytest.mark.parametrize("name", VIDEO)
def test_chromium_s_descriptors_tell_of_three_by_three_layers(name: str) -> None:
    known: Structure | None = None
    numbers = []
    for data, payload, marker in descriptors(name):
        found = parse_dependency_untrusted(data, known)
        known = found.structure or known
        numbers.append(found.frame_number)
        assert not marker or Mark.ENDS in found.place.marks
        if name.startswith("chromium156-vp9"):
            told = read_layering_untrusted(Codec.VP9, payload)
            # That nothing above the highest temporal layer needs an earlier one says nothing, and is said by VP9 alone.
            above = Mark.SYNC_AFTER if told.temporal == 2 else Mark(0)
            assert Layering(told.spatial, told.temporal, told.marks & ~above) == found.place
    assert known is not None
    assert (known.decode_targets, known.chains) == (9, 3)
    assert known.resolutions == ((320, 180), (640, 360), (1280, 720))
    assert {(one.spatial, one.temporal) for one in known.templates} == {(s, t) for s in range(3) for t in range(3)}
    assert numbers == sorted(numbers)


def structures() -> list[bytes]:
    return [data for name in VIDEO for data, _, _ in descriptors(name) if len(data) > 20]


@pytest.mark.parametrize("cut", [0, 1, 2, 4, 5, 20, 40, 70])
def test_what_ends_early_is_refused(cut: int) -> None:
    with pytest.raises(MalformedPacket):
        parse_dependency_untrusted(structures()[0][:cut], None)


def test_a_keyframe_s_descriptor_tells_how_high_the_pictures_are() -> None:
    assert described_heights_untrusted(structures()[0]) == (180, 360, 720)
    for nothing in (b"", bytes.fromhex("850004"), structures()[0][:40]):
        assert described_heights_untrusted(nothing) == ()


def test_frames_before_a_structure_or_outside_of_it_are_refused() -> None:
    with pytest.raises(MalformedPacket):
        parse_dependency_untrusted(bytes.fromhex("850004"), None)
    known = parse_dependency_untrusted(structures()[0], None).structure
    assert known is not None
    assert parse_dependency_untrusted(bytes.fromhex("8e0004"), known).place.spatial == 2
    with pytest.raises(MalformedPacket):
        parse_dependency_untrusted(bytes.fromhex("8f0004"), known)


def test_own_indications_are_not_taken_for_the_template_s() -> None:
    known = parse_dependency_untrusted(structures()[0], None).structure
    assert Mark.SYNC_AFTER in parse_dependency_untrusted(bytes.fromhex("810004"), known).place.marks
    assert Mark.SYNC_AFTER not in parse_dependency_untrusted(bytes.fromhex("81000420aaaaaaaa"), known).place.marks


def changed(data: bytes, edits: list[tuple[int, int]], size: int) -> bytes:
    out = bytearray(data)
    for place, value in edits:
        if out:
            out[place % len(out)] = value
    return bytes(out[:size])


packets = st.builds(
    changed,
    st.sampled_from(
        [*structures(), bytes.fromhex("850004"), bytes.fromhex("c300021a00080000"), b"\xc1\0\4\x40\xff\xff"]
    ),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=3),
    st.just(255) | st.integers(0, 90),
) | st.binary(max_size=12)


@settings(max_examples=400)
@given(st.lists(packets, min_size=1, max_size=6))
def test_the_kernel_reads_the_same(sequence: list[bytes]) -> None:
    structure, drawn = np.zeros(1, STRUCTURE), np.zeros(1, STRUCTURE)
    known: Structure | None = None
    for data in sequence:
        expected = read(data, known)
        array = np.frombuffer(b"\xff" * 3 + data + b"\xff" * 40, np.uint8)
        found = read_dependency(array, np.int64(3), np.int64(len(data)), structure, drawn)
        if expected is None:
            assert found[0] == MALFORMED
            continue
        known = expected.structure or known
        assert found == (expected.place.spatial, expected.place.temporal, expected.place.marks)
