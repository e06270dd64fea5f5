"""A WebRTC publisher's tracks as a hang broadcast: read from the cache only while somebody subscribes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass

from media.bridge.assembling import AssembledFrame, Assembler
from media.bridge.clocks import Arrival, SourceClock, TrackClock
from media.bridge.tapping import Gap, Restarted, Tap, TapTables
from media.moq.protocol.containers import wrap_legacy
from media.moq.protocol.frames import Frame
from media.moq.protocol.hang import (
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
from media.moq.relaying.origin import Broadcast, Group, Track, track_info
from media.webrtc.formats import CodecDescription
from media.wire.codecs import Codec

GROUP_NS = 2_000_000_000  # a picture's group is ended by asking for a keyframe: slow viewers skip to the next group
AUDIO_GROUP_FRAMES = 5  # 100 ms: what is lost at once when a viewer falls behind, at a tenth of the streams of one each
# What players may keep of a group that was overtaken. With 0, moq-rs lets go of whatever is not the newest: each stall
# of a viewer's machine cost it sound that had arrived already.
MAX_LATENCY_MS = 5_000
LEGACY = Container("legacy")
PRIORITIES = {"video": VIDEO_PRIORITY, "audio": AUDIO_PRIORITY}


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


def catalog_of(tracks: Mapping[str, OfferedTrack], bitrates: Mapping[str, int]) -> Catalog:
    """Describe tracks as renditions of these names; `bitrates` (bit/s) of those that are known.

    The best comes first: @moq/watch takes the first that it has the way for, of pictures that have no size.
    """
    pictures = {
        name: Video(codec_string(track.codec), LEGACY, bitrate=bitrates.get(name))
        for name, track in sorted(tracks.items(), key=lambda named: -bitrates.get(named[0], 0))
        if track.codec.kind == "video"
    }
    sounds = {
        name: Audio("opus", track.codec.clock_rate, track.codec.channels, LEGACY)
        for name, track in tracks.items()
        if track.codec.kind == "audio"
    }
    return Catalog(VideoSection(pictures) if pictures else None, AudioSection(sounds) if sounds else None)


class Offer:
    """One publisher's broadcast, its tracks by name. `review` it when readers may have changed, `pump` it for packets.

    The layers of simulcast are renditions that come and go: `list_layers` says which there are.
    """

    def __init__(self, path: str, tables: TapTables, tracks: Mapping[str, OfferedTrack], now_ns: int) -> None:
        self.tracks = dict(tracks)
        self.broadcast = Broadcast(path)
        self._tables = tables
        self._since_ns = 0
        self.counts = Counter[str]()
        self._began_ns = now_ns
        self._clock = SourceClock(now_ns)
        self._bridged = {
            name: _Bridged(self, track, self._add_track(name, PRIORITIES[track.codec.kind]))
            for name, track in self.tracks.items()
        }
        self._unlisted: set[str] = set()
        self._bitrates: dict[str, int] = {}
        self._catalog = self._add_track(CATALOG_TRACK, CATALOG_PRIORITY)
        info = track_info(CATALOG_PRIORITY, max_latency_ms=MAX_LATENCY_MS)
        self._best_catalog = self.broadcast.add_reserved(CATALOG_TRACK, info)
        self._write_catalogs(now_ns)

    def list_layers(self, bitrates: Mapping[str, int], reserved: Set[str], now_ns: int) -> bool:
        """Offer of the picture's renditions only these, with the bitrates (bit/s) that were measured.

        Those of them that are `reserved` are in the catalog of whom the rights give the best of the broadcast, alone.
        Returns whether what is reserved has changed, so that every reader's right is to be looked at.
        """
        pictures = {name for name, track in self.tracks.items() if track.codec.kind == "video"}
        unlisted = pictures - bitrates.keys()
        known, before = self._bitrates, {name for name in pictures if self._bridged[name].track.is_reserved}
        is_same = unlisted == self._unlisted and before == reserved
        if is_same and all(_is_near(known.get(name, 0), rate) for name, rate in bitrates.items()):
            return False
        self._unlisted, self._bitrates = unlisted, {name: rate for name, rate in bitrates.items() if rate}
        for name in pictures:
            self._bridged[name].track.is_reserved = name in reserved
        self.review()
        self._write_catalogs(now_ns)
        return before != reserved

    def _write_catalogs(self, now_ns: int) -> None:
        listed = {name: track for name, track in self.tracks.items() if name not in self._unlisted}
        self._write_catalog(self._best_catalog, listed, now_ns)
        for_all = {name: track for name, track in listed.items() if not self._bridged[name].track.is_reserved}
        self._write_catalog(self._catalog, for_all, now_ns)

    def _write_catalog(self, track: Track, listed: Mapping[str, OfferedTrack], now_ns: int) -> None:
        catalog = write_catalog(catalog_of(listed, self._bitrates))
        if track.latest is not None and track.latest.frames[0].payload == catalog:
            return
        group = track.begin_group(track.next_sequence, now_ns)
        track.append(group, Frame(self._clock.since_us(now_ns), catalog, is_keyframe=True))
        track.finish_group(group)

    def _add_track(self, name: str, priority: int) -> Track:
        return self.broadcast.add_track(name, track_info(priority, max_latency_ms=MAX_LATENCY_MS))

    def counters(self) -> Counter[str]:
        """Count what was passed on, and what was not, so far."""
        return sum((bridged.counters() for bridged in self._bridged.values()), self.counts)

    @property
    def is_tapped(self) -> bool:
        """Whether somebody reads it."""
        return any(bridged.tap is not None for bridged in self._bridged.values())

    def review(self) -> None:
        """Read what has subscribers, and nothing else."""
        for name, bridged in self._bridged.items():
            is_read = bool(bridged.track.readers) and name not in self._unlisted
            if is_read and bridged.tap is None:
                bridged.open(Tap(self._tables, bridged.offered.row, self._since_ns))
            elif not is_read and bridged.tap is not None:
                bridged.close()
        if not self.is_tapped:
            self._clock = SourceClock(self._began_ns)

    def pump(self, now_ns: int) -> list[int]:
        """Pass on what has come; returns the rows of tracks of which a keyframe is needed."""
        return [bridged.offered.row for bridged in self._bridged.values() if bridged.pump(now_ns)]

    def forget(self, now_ns: int) -> None:
        """Let whoever comes now see only what is sent from now on."""
        self._since_ns = now_ns
        for bridged in self._bridged.values():
            bridged.track.forget()

    def close(self) -> None:
        """Read no more."""
        for bridged in self._bridged.values():
            bridged.close()

    def clock(self, codec: CodecDescription, newest: Arrival | None = None) -> TrackClock:
        """Return a clock for one of the tracks, which share the publisher's; `newest` is its newest packet."""
        return TrackClock(self._clock, codec.clock_rate, newest)


def _is_near(known: int, bitrate: int) -> bool:
    """Whether a bitrate in a catalog may stay: players choose by it, and a new catalog makes them choose anew."""
    return known <= 2 * bitrate and bitrate <= 2 * known


class _Bridged:
    """One track on its way from packets to groups."""

    def __init__(self, offer: Offer, offered: OfferedTrack, track: Track) -> None:
        self.offered, self.track = offered, track
        self.tap: Tap | None = None
        self._offer, self._is_video = offer, offered.codec.kind == "video"
        self._assembler = Assembler(offered.codec.codec)
        self._clock = offer.clock(offered.codec)
        self._group: Group | None = None

    def counters(self) -> Counter[str]:
        return Counter() if self.tap is None else self.tap.counts + self._assembler.counts

    def open(self, tap: Tap) -> None:
        self.tap = tap
        self._assembler = Assembler(self.offered.codec.codec)
        self._clock = self._offer.clock(self.offered.codec, tap.newest())

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
