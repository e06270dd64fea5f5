"""What is published here: broadcasts, their tracks, and the last groups of each, kept for whoever comes or lags.

Frames are kept once, however many read them. Nothing here knows of sessions or connections: a publisher of any kind
writes groups into tracks, and readers are told when there is more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from media.moq.protocol.frames import MICROSECONDS, Frame
from media.moq.protocol.messages import TrackInfo

MAX_CACHED_GROUPS = 64  # of a track: more than a second of audio in groups of one 20 ms frame
MAX_CACHED_BYTES = 16 << 20  # of a track: 16 s at 8 Mbit/s; a group that is longer is given up
MAX_CACHED_NS = 10_000_000_000  # older groups only help who fetches the past
DESCRIBING_TRACK = "catalog.json"  # whose frames are no picture and no sound
MAX_TRACKS = 64  # of a broadcast: a catalog, and the renditions of a picture and a sound


@dataclass(slots=True, eq=False)
class Group:
    """Frames that follow from the first of them, which needs none before it."""

    sequence: int
    began_ns: int
    frames: list[Frame] = field(default_factory=list)
    bytes: int = 0
    is_finished: bool = False
    is_dropped: bool = False  # given up by its publisher, or too old: readers let go of it


class Reader(Protocol):
    """Whoever reads a track; called at once when there is more, and told no contents."""

    def group_began(self, group: Group) -> None:
        """Take up a group."""

    def group_grew(self, group: Group) -> None:
        """Look at a group again: it has a frame more, or has ended."""

    def datagram(self, sequence: int, frame: Frame) -> None:
        """Take a frame that is sent once."""

    def track_ended(self) -> None:
        """Expect no more groups."""


@dataclass(slots=True, eq=False)
class Track:
    """A track's last groups and its readers. `info.timescale` is always microseconds: frames carry them."""

    name: str
    info: TrackInfo
    groups: dict[int, Group] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    bytes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    is_ended: bool = False
    is_reserved: bool = False  # for those whose rights give them the best of its broadcast
    next_sequence: int = 0  # after the highest group or datagram so far

    @property
    def latest(self) -> Group | None:
        """The group with the highest sequence."""
        return self.groups[max(self.groups)] if self.groups else None

    def begin_group(self, sequence: int, now_ns: int) -> Group:
        """Begin a group; one that is there already is begun anew."""
        if sequence in self.groups:
            self.drop_group(self.groups[sequence])
        self.next_sequence = max(self.next_sequence, sequence + 1)
        group = self.groups[sequence] = Group(sequence, now_ns)
        for reader in tuple(self.readers):
            reader.group_began(group)
        self._forget_old(now_ns)
        return group

    def append(self, group: Group, frame: Frame) -> None:
        """Add a frame; a group that has ended or grows too long takes none."""
        if group.is_finished or group.is_dropped:
            self.counts["frames_late"] += 1
            return
        size = len(frame.payload)
        if group.bytes + size > MAX_CACHED_BYTES:
            self.counts["groups_too_long"] += 1
            self.drop_group(group)
            return
        group.frames.append(frame)
        group.bytes += size
        self.bytes += size
        for reader in tuple(self.readers):
            reader.group_grew(group)

    def finish_group(self, group: Group) -> None:
        """Say that a group has all its frames."""
        if not group.is_finished and not group.is_dropped:
            group.is_finished = True
            for reader in tuple(self.readers):
                reader.group_grew(group)

    def drop_group(self, group: Group) -> None:
        """Let go of a group, whatever is still unsent of it."""
        if group.is_dropped:
            return
        group.is_dropped = True
        if self.groups.get(group.sequence) is group:
            del self.groups[group.sequence]
        self.bytes -= group.bytes
        for reader in tuple(self.readers):
            reader.group_grew(group)

    def forget(self) -> None:
        """Let go of everything so far: whoever reads from now on sees only what is yet to come."""
        for group in tuple(self.groups.values()):
            self.drop_group(group)

    def latest_after(self, sequence: int, now_ns: int) -> Group | None:
        """Return the latest group for a reader that has had others up to before `sequence`: numbers only rise.

        Where its own number is lower it is kept once more, under a higher one, of which nobody else is told.
        """
        latest = self.latest
        if latest is None or latest.sequence >= sequence:
            return latest
        self.next_sequence = sequence + 1
        again = replace(latest, sequence=sequence, began_ns=now_ns, frames=list(latest.frames), is_finished=True)
        self.groups[sequence] = again
        self.bytes += again.bytes
        self._forget_old(now_ns)
        return again

    def send_datagram(self, sequence: int, frame: Frame) -> None:
        """Pass a frame to all readers once, without keeping it. Groups and datagrams share their numbers."""
        self.next_sequence = max(self.next_sequence, sequence + 1)
        for reader in tuple(self.readers):
            reader.datagram(sequence, frame)

    def end(self) -> None:
        """End the track."""
        self.is_ended = True
        for group in tuple(self.groups.values()):
            if not group.is_finished:
                self.drop_group(group)
        for reader in tuple(self.readers):
            reader.track_ended()

    def _forget_old(self, now_ns: int) -> None:
        while len(self.groups) > 1:
            oldest = self.groups[min(self.groups)]
            if (
                len(self.groups) <= MAX_CACHED_GROUPS
                and self.bytes <= MAX_CACHED_BYTES
                and now_ns - oldest.began_ns <= MAX_CACHED_NS
            ):
                return
            self.drop_group(oldest)


def track_info(priority: int, *, max_latency_ms: int = 0) -> TrackInfo:
    """Return the properties of a track as we send it: with timestamps in microseconds."""
    return TrackInfo(priority, max_latency_ms=max_latency_ms, timescale=MICROSECONDS)


TrackKnown = Callable[[str, str, Track | None], None]  # (path, name, the track or None when there is none)


class Source(Protocol):
    """Where a broadcast's tracks come from when nobody has asked for them yet."""

    def want_track(self, broadcast: Broadcast, name: str) -> bool:
        """Begin to bring a track: `Broadcast.add_track` will add it or `refuse_track` refuse; False when it can't."""

    def stop(self, path: str) -> None:
        """Publish a broadcast no longer."""

    def track_unused(self, broadcast: Broadcast, track: Track) -> None:
        """Hear that a track's last reader has left."""


@dataclass(slots=True, eq=False)
class Broadcast:
    """What one publisher publishes under one path.

    `reserved` are tracks instead of those of the same name, for whom the rights give the best of it: its catalog.
    """

    path: str
    source: Source | None = None
    hops: tuple[int, ...] = ()
    tracks: dict[str, Track] = field(default_factory=dict)
    reserved: dict[str, Track] = field(default_factory=dict)
    is_ended: bool = False
    _wanted: dict[str, list[TrackKnown]] = field(default_factory=dict)

    def stop(self) -> None:
        """Have the source publish it no longer."""
        if self.source is not None and not self.is_ended:
            self.source.stop(self.path)

    def forget(self) -> None:
        """Let whoever reads from now on see only what is yet to come; what describes the tracks stays."""
        for track in self.tracks.values():
            if track.name != DESCRIBING_TRACK:
                track.forget()

    def want_track(self, name: str, known: TrackKnown) -> bool:
        """Have the source bring a track and call `known` when that is decided; False when it can't be brought."""
        if self.source is None or self.is_ended:
            return False
        if name in self._wanted:
            self._wanted[name].append(known)
            return True
        if len(self._wanted) + len(self.tracks) >= MAX_TRACKS or not self.source.want_track(self, name):
            return False
        self._wanted[name] = [known]
        return True

    @property
    def wanted(self) -> tuple[str, ...]:
        """The tracks that the source was asked for and has not brought yet."""
        return tuple(self._wanted)

    def track_unused(self, track: Track) -> None:
        """Let the source take back a track that nobody reads."""
        if self.source is not None:
            self.source.track_unused(self, track)

    def add_track(self, name: str, info: TrackInfo) -> Track:
        """Add a track; raises ValueError when there are too many, or it is there."""
        if name in self.tracks or len(self.tracks) >= MAX_TRACKS:
            raise ValueError(f"no place for track {name!r}")
        track = self.tracks[name] = Track(name, info)
        for known in self._wanted.pop(name, ()):
            known(self.path, name, track)
        return track

    def add_reserved(self, name: str, info: TrackInfo) -> Track:
        """Add what is given instead of the track of this name to those who have the best."""
        track = self.reserved[name] = Track(name, info, is_reserved=True)
        return track

    def refuse_track(self, name: str) -> None:
        """Say that there is no such track."""
        for known in self._wanted.pop(name, ()):
            known(self.path, name, None)

    def remove_track(self, name: str) -> None:
        """End a track and let go of it."""
        for track in (self.tracks.pop(name, None), self.reserved.pop(name, None)):
            if track is not None:
                track.end()


class Listener(Protocol):
    """Whoever wants to hear which broadcasts there are."""

    def broadcast_began(self, broadcast: Broadcast) -> None:
        """Hear of a new one."""

    def broadcast_ended(self, broadcast: Broadcast) -> None:
        """Hear of an end."""


class Origin:
    """The broadcasts of a node, by path."""

    def __init__(self) -> None:
        self._broadcasts: dict[str, Broadcast] = {}
        self._listeners: list[Listener] = []

    def __iter__(self) -> Iterator[Broadcast]:
        return iter(tuple(self._broadcasts.values()))

    def __len__(self) -> int:
        return len(self._broadcasts)

    def find(self, path: str) -> Broadcast | None:
        """Return the broadcast of a path, if there is one."""
        return self._broadcasts.get(path)

    def begin(self, broadcast: Broadcast) -> None:
        """Publish a broadcast; one of the same path ends: the newer publisher is the one that still lives."""
        before = self._broadcasts.get(broadcast.path)
        if before is not None:
            before.stop()
            self.end(before)
        self._broadcasts[broadcast.path] = broadcast
        for listener in tuple(self._listeners):
            listener.broadcast_began(broadcast)

    def end(self, broadcast: Broadcast) -> None:
        """End a broadcast and its tracks; twice is no error."""
        broadcast.is_ended = True
        if self._broadcasts.get(broadcast.path) is broadcast:
            del self._broadcasts[broadcast.path]
            for listener in tuple(self._listeners):
                listener.broadcast_ended(broadcast)
        for name in broadcast.wanted:
            broadcast.refuse_track(name)
        for name in tuple(broadcast.tracks):
            broadcast.remove_track(name)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every beginning and end from now on."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners.remove(listener)
