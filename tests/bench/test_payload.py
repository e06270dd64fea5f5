"""What the load tools publish has a real stream's pace, sizes and keyframes."""

from __future__ import annotations

import itertools

import pytest

from bench.payload import MAX_PAYLOAD, Rate, Source
from media.wire.codecs import Codec, starts_keyframe

SECOND_NS = 1_000_000_000


def everything(source: Source, seconds: int) -> list[tuple[str, bytes]]:
    packets = []
    while source.deadline_ns() < seconds * SECOND_NS:
        packets += [(packet.kind, packet.stamp(1)) for packet in source.due(source.deadline_ns())]
    return packets


@pytest.mark.parametrize("video_bps", [300_000, 1_000_000, 4_000_000])
def test_a_source_keeps_its_rate(video_bps: int) -> None:
    packets = everything(Source(0, Rate(video_bps), started_ns=0), 10)
    assert sum(len(payload) for kind, payload in packets if kind == "video") / 10 * 8 == pytest.approx(video_bps, 0.06)
    assert sum(kind == "audio" for kind, _ in packets) == 500
    assert max(len(payload) for _, payload in packets) <= MAX_PAYLOAD


def test_a_megabit_comes_in_about_four_packets_a_frame() -> None:
    packets = everything(Source(0, Rate(sound=False), started_ns=0), 10)
    assert len(packets) / 300 == pytest.approx(4.2, abs=0.4)


def test_servers_find_its_keyframes_and_one_comes_when_asked_for() -> None:
    source = Source(0, Rate(sound=False), started_ns=0)
    frames = [source.due(source.deadline_ns()) for _ in range(5)]
    source.request_keyframe()
    frames += [source.due(source.deadline_ns()) for _ in range(5)]
    keys = [starts_keyframe(Codec.VP8, frame[0].stamp(0)) for frame in frames]
    assert keys == [True, False, False, False, False, True, False, False, False, False]
    assert not any(starts_keyframe(Codec.VP8, packet.stamp(0)) for frame in frames for packet in frame[1:])


def test_packets_of_a_frame_share_a_time_and_only_the_last_has_the_marker() -> None:
    source = Source(0, Rate(), started_ns=0)
    packets = [packet for _ in range(60) for packet in source.due(source.deadline_ns()) if packet.kind == "video"]
    for _, frame in itertools.groupby(packets, key=lambda packet: packet.timestamp):
        marks = [packet.marker for packet in frame]
        assert marks == [False] * (len(marks) - 1) + [True]


def test_what_was_missed_by_more_than_half_a_second_is_never_sent() -> None:
    source = Source(0, Rate(), started_ns=0)
    source.due(0)
    late = source.due(10 * SECOND_NS)
    assert min(packet.at_ns for packet in late) >= 9.5 * SECOND_NS
    assert len({packet.timestamp for packet in late if packet.kind == "video"}) == 16


def test_a_pause_ends_with_what_is_due_then() -> None:
    source = Source(0, Rate(), started_ns=0)
    source.due(0)
    source.skip(10 * SECOND_NS)
    assert source.deadline_ns() == 10 * SECOND_NS
