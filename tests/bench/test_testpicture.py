"""The test picture is judged as a viewer would: decoded."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.testpicture import (
    AUDIO_FRAME,
    MAX_PAYLOAD,
    SECOND_NS,
    Format,
    MediaPayload,
    MovingPicture,
    clock_text,
    packetize_vp8,
)
from media.wire.codecs import Codec, starts_keyframe

FORM = Format()
DESCRIPTOR = 4  # bytes
NOON_NS = 12 * 3600 * SECOND_NS
START_NS = 5 * SECOND_NS


def produce(seconds: float, *, form: Format = FORM, ask_at: int | None = None) -> list[MediaPayload]:
    source = MovingPicture(form, started_ns=START_NS, wall_ns=NOON_NS)
    payloads: list[MediaPayload] = []
    pictures = 0
    while source.deadline_ns() <= START_NS + seconds * SECOND_NS:
        new = source.due(source.deadline_ns())
        payloads += new
        pictures += sum(item.marker for item in new if item.kind == "video")
        if pictures == ask_at:
            source.request_keyframe()
            ask_at = None
    return payloads


def frames(payloads: list[MediaPayload]) -> list[bytes]:
    whole: list[bytes] = []
    parts: list[bytes] = []
    for item in payloads:
        if item.kind == "video":
            parts.append(item.payload[DESCRIPTOR:])
            if item.marker:
                whole.append(b"".join(parts))
                parts = []
    assert not parts, "the last frame is not complete"
    return whole


def decode_pictures(payloads: list[MediaPayload]) -> list[np.ndarray]:
    decoder = av.CodecContext.create("vp8", "r")
    pictures = [picture for frame in frames(payloads) for picture in decoder.decode(av.Packet(frame))]
    return [picture.to_ndarray(format="gray") for picture in pictures]


def decode_sound(payloads: list[MediaPayload]) -> np.ndarray:
    decoder = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "stereo"
    samples = []
    for item in payloads:
        if item.kind == "audio":
            packet = av.Packet(item.payload)
            packet.time_base = Fraction(1, 48_000)
            samples += [frame.to_ndarray()[0] for frame in decoder.decode(packet)]
    return np.concatenate(samples)


def test_every_picture_decodes_at_its_size_and_the_clock_and_the_square_move() -> None:
    pictures = decode_pictures(produce(1.0))
    assert len(pictures) == 31
    assert {picture.shape for picture in pictures} == {(360, 640)}
    clock, field = slice(40, 120), slice(180, 240)
    for before, after in itertools.pairwise(pictures[5:26]):
        assert np.abs(before[clock].astype(int) - after[clock]).max() > 50
        assert np.abs(before[field].astype(int) - after[field]).max() > 50


def test_flash_and_beep_come_together_at_each_full_second() -> None:
    payloads = produce(2.5)
    pictures, sound = decode_pictures(payloads), decode_sound(payloads)
    bright = [number / 30 for number, picture in enumerate(pictures) if picture[180:240].mean() > 150]
    assert [round(time, 2) for time in bright] == [0, 0.03, 0.07, 1, 1.03, 1.07, 2, 2.03, 2.07]
    loud = np.abs(sound).max() / 4
    heard = np.abs(sound).reshape(-1, 480).max(axis=1) > loud
    begins = np.flatnonzero(heard[1:] & ~heard[:-1]) + 1
    assert begins == pytest.approx([100, 200], abs=2)
    assert heard[:10].any()


def test_the_beep_is_a_tone_of_one_kilohertz() -> None:
    sound = decode_sound(produce(0.2))[1_000:3_800]
    spectrum = np.abs(np.fft.rfft(sound))
    assert np.argmax(spectrum) * 48_000 / len(sound) == pytest.approx(1_000, abs=20)


def test_a_keyframe_comes_first_and_when_asked_for_and_not_otherwise() -> None:
    payloads = [item for item in produce(1.0, ask_at=10) if item.kind == "video"]
    starts = [item for item in payloads if starts_keyframe(Codec.VP8, item.payload)]
    assert [item.timestamp // 3000 for item in starts] == [0, 10]
    assert {item.timestamp // 3000 for item in payloads if item.keyframe} == {0, 10}


def test_timestamps_follow_the_media_clocks() -> None:
    payloads = produce(0.5)
    for kind, clock in (("audio", 48_000), ("video", 90_000)):
        items = [item for item in payloads if item.kind == kind]
        for item in items:
            assert item.timestamp == pytest.approx((item.at_ns - START_NS) * clock / SECOND_NS, abs=1)
    sounds = [item.timestamp for item in payloads if item.kind == "audio"]
    assert sounds == list(range(0, len(sounds) * AUDIO_FRAME, AUDIO_FRAME))


def test_who_asks_late_gets_no_burst_of_old_frames() -> None:
    source = MovingPicture(FORM, started_ns=START_NS, wall_ns=NOON_NS)
    source.due(START_NS)
    late = source.due(START_NS + 60 * SECOND_NS)
    assert min(item.at_ns for item in late) >= START_NS + 59.4 * SECOND_NS
    assert source.deadline_ns() > START_NS + 60 * SECOND_NS


def test_a_picture_stays_within_its_rate() -> None:
    payloads = [item for item in produce(3.0) if item.kind == "video"]
    assert sum(len(item.payload) for item in payloads) * 8 / 3 < 1.3 * FORM.video_bps


def test_the_clock_shows_the_time_of_day_to_the_millisecond() -> None:
    assert clock_text(NOON_NS + 90_007_000_000) == "12:01:30.007"
    assert clock_text(86_400 * SECOND_NS) == "00:00:00.000"


@given(frame=st.binary(min_size=1, max_size=20_000), picture_id=st.integers(0, 32_767))
def test_a_frame_is_cut_into_equal_parts_below_the_limit(frame: bytes, picture_id: int) -> None:
    parts = packetize_vp8(frame, picture_id)
    assert b"".join(part[DESCRIPTOR:] for part in parts) == frame
    sizes = [len(part) for part in parts]
    assert max(sizes) <= MAX_PAYLOAD
    assert max(sizes) - min(sizes) <= 1
    assert [part[0] for part in parts] == [0x90] + [0x80] * (len(parts) - 1)
    assert {part[1:4] for part in parts} == {bytes([0x80, 0x80 | picture_id >> 8, picture_id & 0xFF])}
