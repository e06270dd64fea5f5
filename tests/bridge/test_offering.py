"""From the cache of packets to groups of frames: gaps, restarts, parameter sets, clocks, and what is never shown."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from media.bridge.assembling import Assembler, Packet
from media.bridge.bridge import Bridge
from media.bridge.clocks import SenderReport, SourceClock, TrackClock
from media.bridge.offering import AUDIO_GROUP_FRAMES, GROUP_NS, OfferedTrack, codec_string
from media.bridge.tapping import PATIENCE_NS
from media.forwarding.memory import make_tables
from media.forwarding.tables import CACHE, PAYLOAD_HEAD, Limits, Tables
from media.moq.protocol.containers import unwrap_legacy_untrusted
from media.moq.protocol.frames import Frame
from media.moq.relaying.origin import Group, Origin
from media.webrtc.formats import CodecDescription
from media.wire.codecs import Codec

VP8 = CodecDescription(Codec.VP8, 90_000, 1, "")
OPUS = CodecDescription(Codec.OPUS, 48_000, 2, "")
VIDEO_ROW, AUDIO_ROW = 0, 1
KEY, DELTA = b"\x10\x00", b"\x10\x01"  # VP8's shortest descriptor, and a frame's first byte
MS, SECOND = 1_000_000, 1_000_000_000
FIRST = 65_536


@dataclass
class Seen:
    """A reader of a track."""

    groups: list[Group] = field(default_factory=list)

    def group_began(self, group: Group) -> None:
        self.groups.append(group)

    def group_grew(self, group: Group) -> None:
        pass

    def datagram(self, sequence: int, frame: Frame) -> None:
        raise AssertionError("bridged tracks send no datagrams")

    def track_ended(self) -> None:
        pass

    @property
    def units(self) -> list[list[bytes]]:
        return [[unwrap_legacy_untrusted(frame.payload)[1] for frame in group.frames] for group in self.groups]


class Stage:
    """The real tables, written as the forwarding thread writes them, and one offer over them."""

    def __init__(self, began_ns: int = 0) -> None:
        self.tables: Tables = make_tables(Limits(1, 1, 2, 1))[0]
        for row in (VIDEO_ROW, AUDIO_ROW):
            self.restart(row)
        self.origin = Origin()
        self.bridge = Bridge(self.tables, self.origin)
        self.now_ns = began_ns + SECOND
        tracks = {"video": OfferedTrack(VIDEO_ROW, VP8), "audio": OfferedTrack(AUDIO_ROW, OPUS)}
        self.bridge.begin("s", tracks, began_ns)

    def restart(self, row: int, first: int = FIRST) -> None:
        track = self.tables.tracks
        track["restarts"][row] += 1
        track["first_ext_seq"][row], track["highest_ext_seq"][row], track["key_ext_seq"][row] = first, first - 1, -1
        track["last_ts"][row] = -1
        self.tables.cache_seq[row] = -1

    def arrive(self, row: int, number: int, rtp_time: int, payload: bytes, *, is_last: bool = True) -> None:
        slot = number % CACHE
        info = self.tables.cache_info[row]
        info["ts"][slot], info["marker"][slot], info["size"][slot] = rtp_time, is_last, len(payload)
        head, tail = payload[:PAYLOAD_HEAD], payload[PAYLOAD_HEAD:]
        self.tables.cache_heads[row, slot, : len(head)] = memoryview(head)
        self.tables.cache_tails[row, slot, : len(tail)] = memoryview(tail)
        self.tables.cache_seq[row, slot] = number
        track = self.tables.tracks
        if number > track["highest_ext_seq"][row]:
            track["highest_ext_seq"][row], track["last_ts"][row], track["last_ns"][row] = number, rtp_time, self.now_ns
        if payload == KEY:
            track["key_ext_seq"][row], track["last_keyframe_ns"][row] = number, self.now_ns

    def read(self, name: str) -> Seen:
        broadcast = self.origin.find("s")
        assert broadcast is not None
        seen = Seen()
        broadcast.tracks[name].readers.append(seen)
        self.bridge.review("s")
        return seen

    def unread(self, name: str, seen: Seen) -> None:
        broadcast = self.origin.find("s")
        assert broadcast is not None
        broadcast.tracks[name].readers.remove(seen)
        self.bridge.review("s")

    def pump(self, after_ns: int = 0) -> list[int]:
        self.now_ns += after_ns
        return self.bridge.pump(self.now_ns)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_nothing_is_tapped_before_somebody_reads_nor_after(stage: Stage) -> None:
    tapped = stage.tables.tracks["tapped"][:2]
    assert tapped.tolist() == [0, 0]
    seen = stage.read("video")
    assert tapped.tolist() == [1, 0]
    stage.unread("video", seen)
    assert tapped.tolist() == [0, 0]
    broadcast = stage.origin.find("s")
    assert broadcast is not None
    assert not broadcast.tracks["video"].groups, "whoever comes later is not shown what was seen last"


def test_a_reader_begins_with_the_keyframe_that_is_there(stage: Stage) -> None:
    stage.arrive(VIDEO_ROW, FIRST, 0, DELTA)
    stage.arrive(VIDEO_ROW, FIRST + 1, 3_000, KEY)
    stage.arrive(VIDEO_ROW, FIRST + 2, 6_000, DELTA)
    seen = stage.read("video")
    assert stage.pump() == [], "and the publisher is not troubled"
    assert seen.units == [[b"\x00", b"\x01"]]


def test_without_one_a_keyframe_is_wanted_and_nothing_shown_before_it(stage: Stage) -> None:
    seen = stage.read("video")
    stage.arrive(VIDEO_ROW, FIRST, 0, DELTA)
    assert stage.pump() == [VIDEO_ROW]
    assert seen.groups == []
    stage.arrive(VIDEO_ROW, FIRST + 1, 3_000, KEY)
    assert stage.pump() == []
    assert seen.units == [[b"\x00"]]


def test_a_lost_packet_is_waited_for_and_a_picture_goes_on_when_it_comes(stage: Stage) -> None:
    seen = stage.read("video")
    stage.arrive(VIDEO_ROW, FIRST, 0, KEY)
    stage.arrive(VIDEO_ROW, FIRST + 2, 6_000, DELTA + b"2")
    stage.pump()
    assert seen.units == [[b"\x00"]]
    stage.arrive(VIDEO_ROW, FIRST + 1, 3_000, DELTA + b"1")
    stage.pump(PATIENCE_NS - MS)
    assert seen.units == [[b"\x00", b"\x011", b"\x012"]]


def test_when_it_never_comes_the_group_ends_and_the_next_keyframe_goes_on(stage: Stage) -> None:
    seen = stage.read("video")
    stage.arrive(VIDEO_ROW, FIRST, 0, KEY)
    stage.arrive(VIDEO_ROW, FIRST + 2, 6_000, DELTA)
    stage.pump()
    assert stage.pump(PATIENCE_NS) == [VIDEO_ROW]
    assert seen.groups[0].is_finished
    stage.arrive(VIDEO_ROW, FIRST + 3, 9_000, DELTA)
    stage.arrive(VIDEO_ROW, FIRST + 4, 12_000, KEY)
    stage.pump()
    assert seen.units == [[b"\x00"], [b"\x00"]]
    assert stage.bridge.counters()["bridged_frames"] == 2


def test_lost_sound_costs_itself_alone_and_a_group_has_a_tenth_of_a_second(stage: Stage) -> None:
    seen = stage.read("audio")
    for number in range(2 * AUDIO_GROUP_FRAMES):
        if number != 2:
            stage.arrive(AUDIO_ROW, FIRST + number, 960 * number, bytes([number]))
    stage.pump()
    stage.pump(PATIENCE_NS)
    heard = [unit for group in seen.units for unit in group]
    assert heard == [bytes([number]) for number in range(2 * AUDIO_GROUP_FRAMES) if number != 2]
    assert len(seen.groups[0].frames) == AUDIO_GROUP_FRAMES


def test_a_source_that_begins_anew_is_followed_from_its_first_keyframe(stage: Stage) -> None:
    seen = stage.read("video")
    stage.arrive(VIDEO_ROW, FIRST, 0, KEY)
    stage.pump()
    stage.restart(VIDEO_ROW, 2 * FIRST + 9)
    stage.arrive(VIDEO_ROW, 2 * FIRST + 9, 77, DELTA)
    assert stage.pump() == [VIDEO_ROW]
    stage.arrive(VIDEO_ROW, 2 * FIRST + 10, 3_077, KEY)
    stage.pump()
    assert seen.units == [[b"\x00"], [b"\x00"]]
    at_us = [frame.timestamp_us for group in seen.groups for frame in group.frames]
    assert at_us == sorted(set(at_us))


def test_a_reader_that_was_overrun_goes_on_with_the_next_keyframe(stage: Stage) -> None:
    seen = stage.read("video")
    for number in range(3 * CACHE):
        stage.arrive(VIDEO_ROW, FIRST + number, 3_000 * number, KEY if number % CACHE == CACHE - 9 else DELTA)
    stage.pump()
    assert [len(units) for units in seen.units] == [9]
    assert stage.bridge.counters()["bridged_gaps"] == 1


def test_a_long_group_is_ended_by_asking_for_a_keyframe(stage: Stage) -> None:
    stage.read("video")
    stage.arrive(VIDEO_ROW, FIRST, 0, KEY)
    assert stage.pump() == []
    stage.arrive(VIDEO_ROW, FIRST + 1, 3_000, DELTA)
    assert stage.pump(GROUP_NS + 1) == [VIDEO_ROW]


def test_what_came_before_a_room_opened_is_shown_to_nobody_who_comes_after(stage: Stage) -> None:
    before = stage.read("video")
    stage.arrive(VIDEO_ROW, FIRST, 0, KEY)
    stage.pump()
    stage.bridge.forget("s", stage.now_ns)
    after = stage.read("video")
    broadcast = stage.origin.find("s")
    assert broadcast is not None
    assert broadcast.tracks["video"].groups == {}
    stage.arrive(VIDEO_ROW, FIRST + 1, 3_000, DELTA)
    assert stage.pump(MS) == [VIDEO_ROW]
    assert after.groups == []
    stage.arrive(VIDEO_ROW, FIRST + 2, 6_000, KEY)
    stage.pump(MS)
    assert after.units == before.units[1:] == [[b"\x00"]]


def test_nor_from_the_cache_of_packets(stage: Stage) -> None:
    stage.arrive(VIDEO_ROW, FIRST, 0, KEY)
    stage.bridge.forget("s", stage.now_ns + 1)
    seen = stage.read("video")
    assert stage.pump(MS) == [VIDEO_ROW]
    assert seen.groups == []


def test_readers_go_on_with_a_publisher_of_the_same_and_have_to_look_anew_at_another(stage: Stage) -> None:
    before = stage.origin.find("s")
    same = {"video": OfferedTrack(VIDEO_ROW, VP8), "audio": OfferedTrack(AUDIO_ROW, OPUS)}
    stage.bridge.begin("s", same, stage.now_ns)
    assert stage.origin.find("s") is before
    stage.bridge.begin("s", {"audio": OfferedTrack(AUDIO_ROW, OPUS)}, stage.now_ns)
    after = stage.origin.find("s")
    assert after is not None
    assert after is not before
    assert set(after.tracks) == {"audio", "catalog.json"}
    stage.bridge.end("s")
    assert stage.origin.find("s") is None
    assert stage.bridge.counters()["bridged_broadcasts"] == 0


def test_h264_parameter_sets_that_came_apart_are_put_in_front_of_the_picture() -> None:
    assembler = Assembler(Codec.H264)
    sps, pps, idr, slice_ = b"\x67sps", b"\x68pps", b"\x65idr", b"\x41slice"
    for unit in (sps, pps):
        assembler.feed_untrusted(Packet(0, False, unit))
    (first,) = assembler.feed_untrusted(Packet(0, True, idr))
    (second,) = assembler.feed_untrusted(Packet(3_000, True, slice_))
    (third,) = assembler.feed_untrusted(Packet(6_000, True, idr))
    start = b"\x00\x00\x00\x01"
    assert first.unit == third.unit == start + sps + start + pps + start + idr
    assert second.unit == start + slice_
    assert [first.is_keyframe, second.is_keyframe, third.is_keyframe] == [True, False, True]


def test_a_frame_without_its_last_packets_mark_ends_where_the_next_begins() -> None:
    assembler = Assembler(Codec.VP8)
    assert assembler.feed_untrusted(Packet(0, False, KEY)) == []
    assert assembler.feed_untrusted(Packet(0, False, b"\x00more")) == []
    assert assembler.feed_untrusted(Packet(0, False, b"")) == [], "padding is nothing"
    (frame,) = assembler.feed_untrusted(Packet(3_000, False, DELTA))
    assert frame.unit == b"\x00more"


def test_a_malformed_picture_waits_for_a_keyframe() -> None:
    assembler = Assembler(Codec.VP8)
    assembler.feed_untrusted(Packet(0, True, KEY))
    assert assembler.feed_untrusted(Packet(3_000, True, b"\x80")) == []
    assert assembler.feed_untrusted(Packet(6_000, True, DELTA)) == []
    assert len(assembler.feed_untrusted(Packet(9_000, True, KEY))) == 1
    assert assembler.counts == {"frames_malformed": 1, "frames_undecodable": 1}


def test_sound_and_picture_are_brought_together_by_their_sender_reports() -> None:
    source = SourceClock(0)
    video, audio = TrackClock(source, 90_000), TrackClock(source, 48_000)
    now_ns = 100 * SECOND
    # Both sampled at the same moment of the publisher's clock, half a second after its reports of different times.
    of_video = SenderReport(7 << 32, 0xFFFFFF00, now_ns - 500 * MS)
    of_audio = SenderReport((6 << 32) + (1 << 31), 5, now_ns - 990 * MS)
    at_video = video.timestamp_us((0xFFFFFF00 + 45_000) & 0xFFFFFFFF, of_video, now_ns)
    at_audio = audio.timestamp_us(5 + 48_000, of_audio, now_ns + 80 * MS)
    assert at_video == at_audio == now_ns // 1_000


def test_without_reports_times_follow_the_packets_own_and_never_stand_still() -> None:
    clock = TrackClock(SourceClock(0), 48_000)
    times = [clock.timestamp_us((0xFFFFFFFF - 960 + 960 * n) & 0xFFFFFFFF, None, SECOND + n * n * MS) for n in range(5)]
    assert [later - times[0] for later in times] == [0, 20_000, 40_000, 60_000, 80_000]
    assert clock.timestamp_us(0, None, SECOND) == times[-1] + 1


def test_without_reports_a_picture_that_waited_in_the_cache_is_no_later_than_its_sound(stage: Stage) -> None:
    stage.arrive(VIDEO_ROW, FIRST, 500, KEY)
    for number in range(1, 24):
        stage.now_ns += 40 * MS
        stage.arrive(VIDEO_ROW, FIRST + number, 500 + 3_600 * number, DELTA)
    video, audio = stage.read("video"), stage.read("audio")
    stage.arrive(AUDIO_ROW, FIRST, 960, b"\xfc")
    stage.pump()
    times = [frame.timestamp_us for frame in video.groups[0].frames]
    assert times[-1] == audio.groups[0].frames[0].timestamp_us
    assert times[-1] - times[0] == 23 * 40_000


def test_times_begin_with_the_broadcast_however_long_the_machine_has_been_up() -> None:
    stage = Stage(13 * 3_600 * SECOND)  # in samples at 48 kHz more than 31 bits, which is too late for @moq/watch
    seen = stage.read("audio")
    stage.arrive(AUDIO_ROW, FIRST, 960, b"\xfc")
    stage.pump()
    (frame,) = seen.groups[0].frames
    assert (frame.timestamp_us, unwrap_legacy_untrusted(frame.payload)[0]) == (1_000_000, 1_000_000)


def test_a_report_from_nowhere_moves_no_frame_far_from_now() -> None:
    clock = TrackClock(SourceClock(0), 90_000)
    now_ns = 1_000 * SECOND
    clock.timestamp_us(0, SenderReport(50 << 32, 0, now_ns), now_ns)
    astray = clock.timestamp_us(3_000, SenderReport(9_999_999 << 32, 0, now_ns), now_ns)
    assert abs(astray - now_ns // 1_000) < 1_000_000
    beyond = clock.timestamp_us(1 << 31, SenderReport(9_999_999 << 32, 0, now_ns), now_ns)
    assert abs(beyond - now_ns // 1_000) < 1_000_000


def test_codecs_are_called_as_webcodecs_calls_them() -> None:
    h264 = CodecDescription(Codec.H264, 90_000, 1, "packetization-mode=1;profile-level-id=42e01f")
    assert [codec_string(codec) for codec in (VP8, OPUS, h264)] == ["vp8", "opus", "avc1.42e01f"]
