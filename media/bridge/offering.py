"""A WebRTC publisher's tracks as a hang broadcast: read from the cache only while somebody subscribes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from media.bridge.assembling import AssembledFrame, Assembler
from media.bridge.clocks import SourceClock, TrackClock
from media.bridge.tapping import Gap, Restarted, Tap, TapTables
from media.moq.containers import wrap_legacy
from media.moq.frames import Frame
from media.moq.hang import (
    AUDIO_PRIORITY,
    CATALOG_PRIORITY,
    CATALOG_TRACK,
    VIDEO_PRIORITY,
    Audio,
    AudioSection,
    Catalog,
    Container,
    Video,
    VideoSection,
    write_catalog,
)
from media.moq.origin import Broadcast, Group, Track, track_info
from media.webrtc.formats import CodecDescription
from media.wire.codecs import Codec

GROUP_NS = 2_000_000_000  # a picture's group is ended by asking for a keyframe: slow viewers skip to the next group
AUDIO_GROUP_FRAMES = 5  # 100 ms: what is lost at once when a viewer falls behind, at a tenth of the streams of one each
# What players may keep of a group that was overtaken. With 0, moq-rs lets go of whatever is not the newest: each stall
# of a viewer's machine cost it sound that had arrived already.
MAX_LATENCY_MS = 5_000
LEGACY = Container("legacy")


@dataclass(frozen=True, slots=True)
class OfferedTrack:
    """A track of the forwarding tables, and what it consists of."""

    row: int
    codec: CodecDescription


def codec_string(codec: CodecDescription) -> str:
    """Return what WebCodecs calls it (the registry of its codec strings); levels are those that hold any picture."""
    match codec.codec:
        case Codec.OPUS:
            return "opus"
        case Codec.VP8:
            return "vp8"
        case Codec.VP9:
            return "vp09.00.51.08"
        case Codec.AV1:
            return "av01.0.13M.08"
        case Codec.H264:
            return f"avc1.{codec.fmtp.rpartition('=')[2]}"


def catalog_of(tracks: Mapping[str, OfferedTrack]) -> Catalog:
    """Describe tracks, by kind ("audio", "video"), as renditions of these names."""
    video, audio = tracks.get("video"), tracks.get("audio")
    return Catalog(
        None if video is None else VideoSection({"video": Video(codec_string(video.codec), LEGACY)}),
        None
        if audio is None
        else AudioSection({"audio": Audio("opus", audio.codec.clock_rate, audio.codec.channels, LEGACY)}),
    )


class Offer:
    """One publisher's broadcast. `review` it when readers may have changed, `pump` it when packets may have come."""

    def __init__(self, path: str, tables: TapTables, tracks: Mapping[str, OfferedTrack], now_ns: int) -> None:
        self.tracks = dict(tracks)
        self.broadcast = Broadcast(path)
        self._tables = tables
        self._since_ns = 0
        self.counts = Counter[str]()
        self._clock = SourceClock()
        self._bridged = [
            _Bridged(self, kind, track, self._add_track(kind, priority))
            for kind, priority in (("video", VIDEO_PRIORITY), ("audio", AUDIO_PRIORITY))
            if (track := self.tracks.get(kind)) is not None
        ]
        named = self._add_track(CATALOG_TRACK, CATALOG_PRIORITY)
        group = named.begin_group(0, now_ns)
        named.append(group, Frame(0, write_catalog(catalog_of(self.tracks)), is_keyframe=True))
        named.finish_group(group)

    def _add_track(self, name: str, priority: int) -> Track:
        return self.broadcast.add_track(name, track_info(priority, max_latency_ms=MAX_LATENCY_MS))

    def counters(self) -> Counter[str]:
        """Count what was passed on, and what was not, so far."""
        return sum((bridged.counters() for bridged in self._bridged), self.counts)

    @property
    def is_tapped(self) -> bool:
        """Whether somebody reads it."""
        return any(bridged.tap is not None for bridged in self._bridged)

    def review(self) -> None:
        """Read what has subscribers, and nothing else."""
        for bridged in self._bridged:
            if bridged.track.readers and bridged.tap is None:
                bridged.open(Tap(self._tables, bridged.offered.row, self._since_ns))
            elif not bridged.track.readers and bridged.tap is not None:
                bridged.close()
        if not self.is_tapped:
            self._clock = SourceClock()

    def pump(self, now_ns: int) -> list[int]:
        """Pass on what has come; returns the rows of tracks of which a keyframe is needed."""
        return [bridged.offered.row for bridged in self._bridged if bridged.pump(now_ns)]

    def forget(self, now_ns: int) -> None:
        """Let whoever comes now see only what is sent from now on."""
        self._since_ns = now_ns
        for bridged in self._bridged:
            bridged.track.forget()

    def close(self) -> None:
        """Read no more."""
        for bridged in self._bridged:
            bridged.close()

    def clock(self, codec: CodecDescription) -> TrackClock:
        """Return a clock for one of the tracks, which share the publisher's."""
        return TrackClock(self._clock, codec.clock_rate)


class _Bridged:
    """One track on its way from packets to groups."""

    def __init__(self, offer: Offer, kind: str, offered: OfferedTrack, track: Track) -> None:
        self.offered, self.track = offered, track
        self.tap: Tap | None = None
        self._offer, self._is_video = offer, kind == "video"
        self._assembler = Assembler(offered.codec.codec)
        self._clock = offer.clock(offered.codec)
        self._group: Group | None = None

    def counters(self) -> Counter[str]:
        return Counter() if self.tap is None else self.tap.counts + self._assembler.counts

    def open(self, tap: Tap) -> None:
        self.tap = tap
        self._assembler = Assembler(self.offered.codec.codec)
        self._clock = self._offer.clock(self.offered.codec)

    def close(self) -> None:
        if self.tap is None:
            return
        self.tap.close()
        self._offer.counts += self.counters()
        self.tap = None
        self._end_group()
        self.track.forget()  # whoever subscribes later is not shown what was last seen now

    def pump(self, now_ns: int) -> bool:
        """Pass on what has come; returns whether a keyframe is needed."""
        if self.tap is None:
            return False
        for item in self.tap.read(now_ns):
            if isinstance(item, Restarted | Gap):
                self._assembler.lose()
                if self._is_video:
                    self._end_group()
            else:
                for frame in self._assembler.feed_untrusted(item):
                    self._write(frame, now_ns)
        if not self._is_video:
            return False
        group = self._group
        return group is None or group.is_dropped or now_ns - group.began_ns > GROUP_NS

    def _write(self, frame: AssembledFrame, now_ns: int) -> None:
        assert self.tap is not None
        at_us = self._clock.timestamp_us(frame.rtp_time, self.tap.report(), now_ns)
        group = self._group
        if group is not None and group.is_dropped:
            group = self._group = None
        is_full = group is not None and not self._is_video and len(group.frames) >= AUDIO_GROUP_FRAMES
        if group is None or is_full or (self._is_video and frame.is_keyframe):
            if self._is_video and not frame.is_keyframe:
                self._offer.counts["frames_without_group"] += 1
                return
            self._end_group()
            group = self._group = self.track.begin_group(self.track.next_sequence, now_ns)
        self.track.append(group, Frame(at_us, wrap_legacy(at_us, frame.unit), frame.is_keyframe))
        self._offer.counts["frames"] += 1

    def _end_group(self) -> None:
        if self._group is not None:
            self.track.finish_group(self._group)
            self._group = None
