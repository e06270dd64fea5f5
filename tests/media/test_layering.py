"""Of which layers a packet is: what real encoders say, what the octets mean, and the compiled reader against it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.forwarding.kernel import layering as compiled
from media.wire.codecs import Codec
from media.wire.layering import UNLAYERED, Layering, Mark, read_layering_untrusted
from media.wire.rtp import parse_rtp_untrusted
from tests.media.packets import recorded


def test_the_layers_of_chromium_s_vp9_are_what_it_was_asked_for() -> None:
    seen: dict[tuple[int, int], list[bool]] = {}
    for datagram in recorded("chromium156-vp9-L3T3_KEY", "rtp"):
        packet = parse_rtp_untrusted(datagram)
        if packet.header.payload_type == 98:
            place = read_layering_untrusted(Codec.VP9, datagram[packet.payload_start : packet.payload_end])
            seen.setdefault((place.spatial, place.temporal), []).append(packet.header.marker)
            assert not packet.header.marker or Mark.ENDS in place.marks
    assert set(seen) == {(0, 0), (0, 2), (1, 0), (2, 1)}  # those that the excerpt holds
    assert not any(seen[1, 0])  # the marker is on the last spatial layer alone


@pytest.mark.parametrize(
    ("codec", "payload", "place"),
    [
        (Codec.VP9, "bebe6313", Layering(1, 0, Mark.BEGINS | Mark.ENDS | Mark.SYNC_AFTER | Mark.TOLD)),
        (Codec.VP9, "f1be6354", Layering(2, 2, Mark.SYNC_AFTER | Mark.TOLD)),
        (Codec.VP9, "a87f44", Layering(2, 2, Mark.BEGINS | Mark.TOLD)),
        (Codec.VP9, "2c2a", Layering(5, 1, Mark.BEGINS | Mark.ENDS | Mark.TOLD)),
        (Codec.VP9, "bebe63", UNLAYERED),
        (Codec.VP9, "9ebe6313", UNLAYERED),
        (Codec.VP9, "20", UNLAYERED),
        (Codec.VP8, "90e0800180a0", Layering(0, 2, Mark.BEGINS | Mark.SYNC_HERE | Mark.TOLD)),
        (Codec.VP8, "80a00540", Layering(0, 1, Mark.TOLD)),
        (Codec.VP8, "902080", Layering(0, 2, Mark.BEGINS | Mark.TOLD)),
        (Codec.VP8, "90800080", UNLAYERED),
        (Codec.VP8, "1020", UNLAYERED),
        (Codec.VP8, "90e08001", UNLAYERED),
        (Codec.AV1, "281d0800", Layering(0, 0, Mark.BEGINS | Mark.ENDS)),
        (Codec.AV1, "10340831", Layering(1, 0, Mark.BEGINS | Mark.ENDS | Mark.TOLD)),
        (Codec.AV1, "50345034", Layering(2, 2, Mark.BEGINS | Mark.TOLD)),
        (Codec.AV1, "2081013448", Layering(1, 2, Mark.BEGINS | Mark.ENDS | Mark.TOLD)),
        (Codec.AV1, "d0f8", Layering(0, 0, Mark.CONTINUES)),
        (Codec.AV1, "90f8", Layering(0, 0, Mark.CONTINUES | Mark.ENDS)),
        (Codec.AV1, "1034", Layering(0, 0, Mark.BEGINS | Mark.ENDS)),
        (Codec.AV1, "00ffff", Layering(0, 0, Mark.BEGINS | Mark.ENDS)),
        (Codec.AV1, "10", UNLAYERED),
        (Codec.H264, "6742", UNLAYERED),
        (Codec.OPUS, "a0a0a0", UNLAYERED),
    ],
)
def test_each_form_of_descriptor_is_told_apart(codec: Codec, payload: str, place: Layering) -> None:
    assert read_layering_untrusted(codec, bytes.fromhex(payload)) == place


HEADS = ["", "90e0", "80a0", "9020", "9060", "90e08001", "20", "a8", "be", "bebe63", "2c", "a87f", "1034", "00", "2881"]


@settings(max_examples=500)
@given(st.sampled_from(Codec), st.sampled_from(HEADS).map(bytes.fromhex), st.binary(max_size=8))
def test_the_kernel_reads_the_same_layers(codec: Codec, head: bytes, tail: bytes) -> None:
    data = head + tail
    expected = read_layering_untrusted(codec, data)
    for behind in (b"\x00", b"\xff"):  # another packet's bytes, which must not matter
        array = np.frombuffer(data + behind * 8, np.uint8)
        found = compiled.read_layering(np.uint8(codec), array, np.int64(len(data)))
        assert found == (expected.spatial, expected.temporal, expected.marks)
