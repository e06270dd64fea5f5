"""How high pictures are, read from what real encoders sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.wire.codecs import Codec, starts_keyframe
from media.wire.heights import heights_untrusted
from media.wire.rtp import parse_rtp_untrusted
from tests.media.packets import recorded

HEIGHTS = {
    "chromium156-vp8": (96, Codec.VP8, {(480,)}),
    "chromium156-vp8-simulcast": (96, Codec.VP8, {(180,), (360,), (720,)}),
    "chromium156-vp9-L3T3_KEY": (98, Codec.VP9, {(180,), (180, 360, 720)}),
    "chromium156-h264": (108, Codec.H264, {(), (480,)}),
    "ffmpeg812-h264-dtlsactive": (106, Codec.H264, {(), (360,)}),
    "firefox153-vp8": (120, Codec.VP8, {(360,), (480,)}),
    "gstreamer122-vp8": (96, Codec.VP8, {(360,)}),
}


@pytest.mark.parametrize("name", HEIGHTS)
def test_keyframes_of_real_encoders_tell_how_high_they_are(name: str) -> None:
    payload_type, codec, expected = HEIGHTS[name]
    found = set()
    for datagram in recorded(name, "rtp"):
        packet = parse_rtp_untrusted(datagram)
        payload = datagram[packet.payload_start : packet.payload_end]
        if packet.header.payload_type == payload_type and starts_keyframe(codec, payload):
            found.add(heights_untrusted(codec, payload))
    assert found == expected


@given(st.sampled_from(Codec), st.sampled_from(["", "67", "18", "9d012a", "b2", "fe"]), st.binary(max_size=60))
def test_any_payload_has_heights_or_none(codec: Codec, head: str, tail: bytes) -> None:
    assert all(0 < height < 65_536 for height in heights_untrusted(codec, bytes.fromhex(head) + tail))
