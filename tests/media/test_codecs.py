from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.wire import h264
from media.wire.codecs import Codec, starts_keyframe
from media.wire.rtp import parse_rtp_untrusted
from tests.media.packets import RECORDINGS, recorded

# Payload type and codec of the video, and the sequence numbers at which a decoder can start (in VP8 told by the start
# code 9d012a, in H264 by SPS and IDR units, in VP9 and AV1 by the timestamps that the recorded viewer decoded first).
KEYFRAMES = {
    "chromium156-vp8": (96, Codec.VP8, [10389, 10406]),
    "chromium156-vp8-simulcast": (96, Codec.VP8, [28926, 4786, 28928, 4794, 28934, 18642, 4821, 28954]),
    "chromium156-vp9-L3T3_KEY": (98, Codec.VP9, [26505, 26507, 26544]),
    "chromium156-h264": (108, Codec.H264, [24812, 24813, 24820, 24821]),
    "ffmpeg812-h264-dtlsactive": (106, Codec.H264, [2894, 2895, 2945]),
    "chromium156-av1-L3T3_KEY": (45, Codec.AV1, [9573, 9577, 9617]),
    "firefox153-vp8": (120, Codec.VP8, [3316, 3317, 3325, 3379]),
    "gstreamer122-vp8": (96, Codec.VP8, [21173, 21301]),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_keyframes_of_real_encoders_are_found_and_nothing_else(name: str) -> None:
    payload_type, codec, expected = KEYFRAMES[name]
    found = []
    for datagram in recorded(name, "rtp"):
        packet = parse_rtp_untrusted(datagram)
        if packet.header.payload_type == payload_type:
            payload = datagram[packet.payload_start : packet.payload_end]
            if starts_keyframe(codec, payload):
                found.append(packet.header.sequence_number)
            if codec is Codec.VP8:
                assert starts_keyframe(codec, payload) == (b"\x9d\x01\x2a" in payload[:16])
    assert found == expected


@pytest.mark.parametrize(
    ("codec", "payload", "starts"),
    [
        (Codec.OPUS, "00", True),
        (Codec.OPUS, "", False),
        (Codec.VP8, "1000", True),
        (Codec.VP8, "1001", False),
        (Codec.VP8, "0000", False),
        (Codec.VP8, "1100", False),
        (Codec.VP8, "90807f00", True),
        (Codec.VP8, "9080ff0000", True),
        (Codec.VP8, "9080ff00", False),
        (Codec.VP8, "90e07f000000", True),
        (Codec.VP8, "90e07f000001", False),
        (Codec.VP8, "9080", False),
        (Codec.VP9, "0800", True),
        (Codec.VP9, "4800", False),
        (Codec.VP9, "0000", False),
        (Codec.VP9, "28f100", True),
        (Codec.VP9, "280200", False),
        (Codec.VP9, "a8ffff00", True),
        (Codec.VP9, "a8ffff04", False),
        (Codec.VP9, "a8ff", False),
        (Codec.H264, "6742", True),
        (Codec.H264, "65", True),
        (Codec.H264, "4142", False),
        (Codec.H264, "18000109000265ff", True),
        (Codec.H264, "18000109000241ff", False),
        (Codec.H264, "7c85", True),
        (Codec.H264, "7c05", False),
        (Codec.H264, "7c81", False),
        (Codec.H264, "7c", False),
        (Codec.AV1, "0801", True),
        (Codec.AV1, "8801", False),
        (Codec.AV1, "1001", False),
    ],
)
def test_each_form_of_payload_is_told_apart(codec: Codec, payload: str, starts: bool) -> None:
    assert starts_keyframe(codec, bytes.fromhex(payload)) is starts


@given(st.sampled_from(Codec), st.binary(max_size=40))
def test_any_payload_is_a_keyframe_or_not(codec: Codec, payload: bytes) -> None:
    assert starts_keyframe(codec, payload) in (True, False)


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("42e01f", h264.Profile.CONSTRAINED_BASELINE),
        ("42C01E", h264.Profile.CONSTRAINED_BASELINE),
        ("4d801f", h264.Profile.CONSTRAINED_BASELINE),
        ("58c01f", h264.Profile.CONSTRAINED_BASELINE),
        ("42001e", h264.Profile.BASELINE),
        ("58801f", h264.Profile.BASELINE),
        ("4d001f", h264.Profile.MAIN),
        ("58001f", h264.Profile.EXTENDED),
        ("640c1f", h264.Profile.CONSTRAINED_HIGH),
        ("64001f", h264.Profile.HIGH),
        ("f4001f", h264.Profile.HIGH_444_PREDICTIVE),
    ],
)
def test_profiles_are_told_by_the_table_of_rfc_6184(text: str, profile: h264.Profile) -> None:
    level = h264.parse_profile_level_id(text)
    assert level is not None
    assert level.profile is profile


@pytest.mark.parametrize("text", ["", "42e01", "42e01g", "42e01f0", "00001f", "42e11f"])
def test_unknown_profiles_are_none(text: str) -> None:
    assert h264.parse_profile_level_id(text) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "limited"),
    [
        ("42e01f", "42e034", "42e01f"),
        ("42e034", "42c01f", "42e01f"),
        ("42e01f", "42f00b", "42f00b"),
        ("42e00b", "42f00b", "42f00b"),
        ("42f00b", "42e00b", "42f00b"),
        ("42e00a", "42f00b", "42e00a"),
        ("64001f", "640009", "640009"),
    ],
)
def test_the_lower_level_wins_with_1b_between_1_and_1_1(ours: str, theirs: str, limited: str) -> None:
    first, second = h264.parse_profile_level_id(ours), h264.parse_profile_level_id(theirs)
    assert first is not None
    assert second is not None
    assert first.limited_to(second) == limited
