"""A broadcast's frames become packets out of which the same frames are put together again, whatever the codec."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from media.bridge.assembling import AssembledFrame, Assembler, Packet
from media.bridge.avc import read_avc_record_untrusted, to_annex_b_untrusted
from media.bridge.intake import MAX_RETURNS, PATIENCE_NS, Intake
from media.bridge.renditions import choose_untrusted
from media.bridge.stamping import PASSED, PublishersClock, Stamper
from media.moq.protocol.containers import wrap_legacy, wrap_loc
from media.moq.protocol.frames import Frame
from media.moq.protocol.hang import (
    CATALOG_TRACK,
    Audio,
    AudioSection,
    Catalog,
    Container,
    Video,
    VideoSection,
    read_catalog_untrusted,
    write_catalog,
)
from media.moq.relaying.origin import Broadcast, Track, track_info
from media.webrtc.formats import CodecDescription, Kind
from media.wire.codecs import Codec
from media.wire.extensions import Passed
from media.wire.malformed import MalformedPacket
from media.wire.rtcp import SenderReport
from media.wire.rtp import parse_rtp_untrusted

SPS, PPS, IDR, SLICE = b"\x67\x42\xe0\x1f", b"\x68\xce\x3c\x80", b"\x65" + b"i" * 3_000, b"\x41slice"
AVCC = b"\x01\x42\xe0\x1f\xff\xe1" + len(SPS).to_bytes(2) + SPS + b"\x01" + len(PPS).to_bytes(2) + PPS
START = b"\x00\x00\x00\x01"
KEY = {
    "vp8": b"\x10" + b"k" * 3_000,
    "vp09.00.51.08": b"k" * 3_000,
    "av01.0.13M.08": b"\x0a\x01s" + b"\x32\xb8\x17" + b"k" * 3_000,
    "avc1.42e01f": b"".join(START + unit for unit in (SPS, PPS, IDR)),
}
DELTA = {
    "vp8": b"\x11delta",
    "vp09.00.51.08": b"delta",
    "av01.0.13M.08": b"\x32\x05delta",
    "avc1.42e01f": START + SLICE,
}


@dataclass
class Sink:
    """Puts together again what it is sent."""

    has_room: bool = True
    codecs: dict[int, CodecDescription] = field(default_factory=dict)
    frames: dict[Codec, list[AssembledFrame]] = field(default_factory=dict)
    reports: list[SenderReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._assemblers: dict[Codec, Assembler] = {}

    def open(self, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        self.codecs[payload_type] = codec
        self._assemblers[codec.codec] = Assembler(codec.codec)
        return self.has_room

    def send(self, packets: list[bytes], report: SenderReport | None) -> None:
        for datagram in packets:
            packet = parse_rtp_untrusted(datagram)
            codec = self.codecs[packet.header.payload_type].codec
            payload = datagram[packet.payload_start : packet.payload_end]
            whole = Packet(packet.header.timestamp, packet.header.marker, payload)
            self.frames.setdefault(codec, []).extend(self._assemblers[codec].feed_untrusted(whole))
        self.reports += [] if report is None else [report]


@dataclass
class Stage:
    """A broadcast that is taken in."""

    sink: Sink = field(default_factory=Sink)
    now_ns: int = 50_000_000_000

    def __post_init__(self) -> None:
        self.broadcast = Broadcast("path")
        self.named = self.broadcast.add_track(CATALOG_TRACK, track_info(100))
        self.tracks = {name: self.broadcast.add_track(name, track_info(60)) for name in ("video", "audio", "other")}
        self.intake = Intake(self.broadcast, ("audio", "video"), self.sink, lambda: self.now_ns)

    def describe(self, codec: str, container: str = "legacy", description: str | None = None) -> None:
        kind = Container(container)  # type: ignore[arg-type]
        video = VideoSection({"video": Video(codec, kind, description=description)})
        audio = AudioSection({"audio": Audio("opus", 48_000, 2, kind)})
        put(self.named, self.named.next_sequence, [write_catalog(Catalog(video, audio))])


def put(track: Track, sequence: int, payloads: list[bytes]) -> None:
    group = track.begin_group(sequence, 0)
    for payload in payloads:
        track.append(group, Frame(0, payload, is_keyframe=not group.frames))
    track.finish_group(group)


@pytest.mark.parametrize("container", ["legacy", "loc"])
@pytest.mark.parametrize("codec", KEY)
def test_frames_come_out_as_they_went_in(codec: str, container: str) -> None:
    stage, wrap = Stage(), wrap_loc if container == "loc" else wrap_legacy
    stage.intake.begin()
    stage.describe(codec, container)
    put(stage.tracks["video"], 0, [wrap(1_000_000, KEY[codec]), wrap(1_040_000, DELTA[codec])])
    put(stage.tracks["audio"], 0, [wrap(1_000_000, b"sound")])
    assert stage.intake.counts == {"frames": 3}
    (video,) = (codec for codec in stage.sink.frames if codec is not Codec.OPUS)
    key, delta = stage.sink.frames[video]
    assert (key.unit, key.is_keyframe) == (KEY[codec], True)
    assert (delta.unit, delta.is_keyframe) == (DELTA[codec], False)
    assert (delta.rtp_time - key.rtp_time) & 0xFFFFFFFF == 3_600
    assert [frame.unit for frame in stage.sink.frames[Codec.OPUS]] == [b"sound"]


def test_the_reports_of_sound_and_picture_pair_their_times_with_one_clock() -> None:
    stage = Stage()
    stage.intake.begin()
    stage.describe("vp8")
    put(stage.tracks["video"], 0, [wrap_legacy(7_000_000, KEY["vp8"])])
    stage.now_ns += 30_000_000
    put(stage.tracks["audio"], 0, [wrap_legacy(7_030_000, b"sound")])
    video, audio = stage.sink.reports
    seconds = {
        Codec.VP8: (video, stage.sink.frames[Codec.VP8][0].rtp_time, 90_000),
        Codec.OPUS: (audio, stage.sink.frames[Codec.OPUS][0].rtp_time, 48_000),
    }
    taken = [
        report.ntp / 2**32 + ((at - report.rtp_timestamp + 2**31) % 2**32 - 2**31) / rate
        for report, at, rate in seconds.values()
    ]
    assert taken[1] - taken[0] == pytest.approx(0.03, abs=0.001)


def test_parameter_sets_from_a_description_come_before_each_keyframe() -> None:
    stage = Stage()
    stage.intake.begin()
    stage.describe("avc1.42e01f", description=AVCC.hex())
    frames = [len(unit).to_bytes(4) + unit for unit in (IDR, SLICE)]
    put(stage.tracks["video"], 0, [wrap_legacy(1, frames[0]), wrap_legacy(40_000, frames[1])])
    units = [frame.unit for frame in stage.sink.frames[Codec.H264]]
    assert units == [KEY["avc1.42e01f"], DELTA["avc1.42e01f"]]


def test_a_group_that_does_not_go_on_is_given_up_for_the_next_one_after_a_while() -> None:
    stage = Stage()
    stage.intake.begin()
    stage.describe("vp8")
    stage.tracks["video"].append(
        stage.tracks["video"].begin_group(0, stage.now_ns), Frame(0, wrap_legacy(1, KEY["vp8"]), is_keyframe=True)
    )
    late = stage.tracks["video"].begin_group(1, stage.now_ns)
    stage.tracks["video"].append(late, Frame(0, wrap_legacy(2_000_000, KEY["vp8"]), is_keyframe=True))
    assert stage.intake.counts["frames"] == 1
    stage.now_ns += PATIENCE_NS
    stage.tracks["video"].append(late, Frame(0, wrap_legacy(2_040_000, DELTA["vp8"]), is_keyframe=False))
    assert stage.intake.counts["frames"] == 3


def test_what_cannot_be_read_or_forwarded_is_counted_and_ends_nothing() -> None:
    stage = Stage()
    stage.intake.begin()
    put(stage.named, 0, [b"no catalog"])
    stage.describe("hvc1.1.6.L93.B0")
    stage.describe("avc1.42e01f", description="00")
    stage.describe("vp8")
    put(stage.tracks["video"], 0, [b"", wrap_legacy(40_000, KEY["vp8"])])
    assert stage.intake.counts == {
        "catalogs_malformed": 1,
        "descriptions_malformed": 1,
        "frames_malformed": 1,
        "frames": 1,
    }


def test_an_empty_frame_ends_a_group_and_is_no_picture() -> None:
    stage = Stage()
    stage.intake.begin()
    stage.describe("vp8")
    put(stage.tracks["video"], 0, [wrap_legacy(1, KEY["vp8"]), wrap_legacy(40_000, b"")])
    put(stage.tracks["video"], 1, [wrap_legacy(40_000, KEY["vp8"])])
    assert stage.intake.counts == {"frames": 2}


@dataclass
class Asked:
    """A source that is asked for tracks, and has them added by hand."""

    names: list[str] = field(default_factory=list)

    def want_track(self, broadcast: Broadcast, name: str) -> bool:
        self.names.append(name)
        return True

    def stop(self, path: str) -> None: ...

    def track_unused(self, broadcast: Broadcast, track: Track) -> None: ...


def test_a_track_that_ends_while_its_broadcast_goes_on_is_asked_for_again() -> None:
    stage, asked = Stage(), Asked()
    stage.broadcast.source = asked
    stage.intake.begin()
    stage.describe("vp8")
    put(stage.tracks["video"], 0, [wrap_legacy(1, KEY["vp8"])])
    for name in ("video", CATALOG_TRACK):
        stage.broadcast.remove_track(name)
    assert asked.names == ["video", CATALOG_TRACK]
    stage.named = stage.broadcast.add_track(CATALOG_TRACK, track_info(100))
    again = stage.broadcast.add_track("video", track_info(60))
    put(again, 0, [wrap_legacy(40_000, KEY["vp8"])])
    assert len(stage.sink.frames[Codec.VP8]) == 2
    stage.describe("vp09.00.51.08")
    put(again, 1, [wrap_legacy(80_000, KEY["vp09.00.51.08"])])
    assert stage.sink.frames[Codec.VP9][-1].unit == KEY["vp09.00.51.08"]


def test_a_track_that_is_named_again_before_it_came_is_taken_when_it_comes() -> None:
    stage, asked = Stage(), Asked()
    for name in ("video", "audio"):
        stage.broadcast.remove_track(name)
    stage.broadcast.source = asked
    stage.intake.begin()
    stage.describe("vp8")
    stage.describe("vp8")
    assert sorted(asked.names) == ["audio", "video"]
    for name, frame in (("video", KEY["vp8"]), ("audio", b"sound")):
        track = stage.broadcast.add_track(name, track_info(60))
        put(track, 0, [wrap_legacy(1, frame)])
        assert len(track.readers) == 1
    assert stage.intake.counts == {"frames": 2}


def test_tracks_that_end_all_the_time_are_given_up() -> None:
    stage, asked = Stage(), Asked()
    stage.broadcast.source = asked
    stage.intake.begin()
    stage.describe("vp8")
    for _ in range(MAX_RETURNS + 3):
        stage.broadcast.remove_track("video")
        stage.broadcast.add_track("video", track_info(60))
    assert asked.names == ["video"] * MAX_RETURNS


def test_a_closed_intake_reads_nothing() -> None:
    stage = Stage()
    stage.intake.begin()
    stage.describe("vp8")
    stage.intake.close()
    put(stage.tracks["video"], 0, [wrap_legacy(1, KEY["vp8"])])
    assert not stage.intake.counts
    assert not any(track.readers for track in stage.broadcast.tracks.values())


@pytest.mark.parametrize("record", [b"", AVCC[:6], AVCC[:-1], b"\x02" + AVCC[1:]])
def test_a_record_cut_short_is_malformed(record: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read_avc_record_untrusted(record)


@pytest.mark.parametrize("frame", [b"\x00\x00\x00\x00", b"\x00\x00\x00\x09x", b"\x00"])
def test_a_frame_whose_lengths_do_not_fit_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedPacket):
        to_annex_b_untrusted(read_avc_record_untrusted(AVCC), frame)


@pytest.mark.parametrize(
    ("rotation", "flip", "octet"),
    [
        (None, None, None),
        (0, None, 0),
        (90, None, 1),
        (-90, False, 3),
        (450.0, True, 5),
        (None, True, 4),
        (1e308, None, 0),
    ],
)
def test_how_the_picture_is_to_be_turned_goes_with_the_last_packet_of_each_frame(
    rotation: float | None, flip: bool | None, octet: int | None
) -> None:
    section = VideoSection({"video": Video("vp8")}, rotation=rotation, flip=flip)
    rendition = choose_untrusted(read_catalog_untrusted(write_catalog(Catalog(section))), ("video",))["video"]
    stamper = Stamper(rendition, PublishersClock())
    for frame in (KEY["vp8"], DELTA["vp8"]):
        packets = stamper.packets_untrusted(Frame(0, wrap_legacy(0, frame), is_keyframe=True), is_keyframe=True)
        told = [parse_rtp_untrusted(packet).header.extensions for packet in packets]
        last = {} if octet is None else {PASSED[Passed.ORIENTATION]: bytes([octet])}
        assert told == [{}] * (len(packets) - 1) + [last]
