"""A MoQ publisher's broadcast as a WebRTC publisher's tracks: reads its catalog, takes what WebRTC viewers decode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from media.bridge.renditions import Rendition, choose_untrusted
from media.bridge.stamping import PublishersClock, Stamper
from media.moq.protocol.frames import Frame
from media.moq.protocol.hang import CATALOG_TRACK, read_catalog_untrusted
from media.moq.relaying.origin import Broadcast, Group, Track
from media.webrtc.formats import CodecDescription, Kind
from media.wire.malformed import MalformedPacket
from media.wire.rtcp import SenderReport

MAX_RETURNS = 64  # of tracks that ended while their broadcast went on; devices are not changed that often
PATIENCE_NS = 250_000_000  # for the rest of a group while the next is here already, as for a lost packet


class Sink(Protocol):
    """Where the packets go."""

    def open(self, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        """Take a track that begins, or consists of something else from now on; False when there is no room for it."""

    def send(self, packets: list[bytes], report: SenderReport | None) -> None:
        """Take one frame's packets."""


class Intake:
    """One broadcast on its way in, until it is closed."""

    def __init__(self, broadcast: Broadcast, kinds: tuple[str, ...], sink: Sink, now_ns: Callable[[], int]) -> None:
        self.broadcast, self.counts = broadcast, Counter[str]()
        self.sink, self.now_ns, self.clock = sink, now_ns, PublishersClock()
        self._kinds = kinds
        self._catalog: _Reader | None = None
        self._taken: dict[Kind, _Taken] = {}
        self._wanted: dict[Kind, Rendition] = {}
        self._is_closed = False
        self._returns = 0

    def begin(self) -> None:
        """Ask for the catalog."""
        self._want(CATALOG_TRACK, self._read_catalog)

    def close(self) -> None:
        """Read no more."""
        self._is_closed = True
        for reader in [self._catalog, *self._taken.values()]:
            if reader is not None:
                self._let_go(reader)
        self._taken.clear()
        self._catalog = None

    def _want(self, name: str, known: Callable[[Track], None]) -> None:
        def answer(path: str, name: str, track: Track | None) -> None:
            if self._is_closed:
                return
            if track is None:
                self.counts["tracks_unknown"] += 1
            else:
                known(track)

        track = self.broadcast.tracks.get(name)
        if track is not None:
            known(track)
        elif not self.broadcast.want_track(name, answer):
            self.counts["tracks_unknown"] += 1

    def _let_go(self, reader: _Reader) -> None:
        reader.close()
        if not reader.track.readers:
            self.broadcast.track_unused(reader.track)

    def _may_return(self, reader: _Reader) -> bool:
        """Whether a track that ended is to be asked for again: @moq/publish begins it anew when a device changes."""
        reader.close()
        if self._is_closed or self.broadcast.is_ended:
            return False
        self._returns += 1
        self.counts["tracks_ended"] += 1
        return self._returns <= MAX_RETURNS

    def _catalog_ended(self, reader: _Reader) -> None:
        if self._may_return(reader):
            self._catalog = None
            self._want(CATALOG_TRACK, self._read_catalog)

    def _track_ended(self, reader: _Reader) -> None:
        returns = self._may_return(reader)
        for kind, taken in tuple(self._taken.items()):
            if taken is reader:
                del self._taken[kind]
                if returns:
                    self._take_track(kind, self._wanted[kind])

    def _read_catalog(self, track: Track) -> None:
        if self._catalog is None:
            self._catalog = _Reader(track, self._take_catalog, self._catalog_ended, self.now_ns)
            self._catalog.advance()

    def _take_catalog(self, frame: Frame, is_first: bool) -> None:
        try:
            chosen = choose_untrusted(read_catalog_untrusted(frame.payload), self._kinds)
        except MalformedPacket:
            self.counts["catalogs_malformed"] += 1
            return
        before, self._wanted = self._wanted, chosen
        for kind in before.keys() | chosen.keys():
            if before.get(kind) == chosen.get(kind):
                continue
            if kind in self._taken:
                self._let_go(self._taken.pop(kind))
            rendition = chosen.get(kind)
            if rendition is not None:
                self._take_track(kind, rendition)

    def _take_track(self, kind: Kind, rendition: Rendition) -> None:
        def known(track: Track) -> None:
            if self._wanted.get(kind) != rendition or kind in self._taken:
                return
            try:
                stamper = Stamper(rendition, self.clock)
            except MalformedPacket:
                self.counts["descriptions_malformed"] += 1
                return
            if self.sink.open(kind, rendition.codec, stamper.payload_type):
                self._taken[kind] = _Taken(self, track, stamper)
                self._taken[kind].advance()

        self._want(rendition.name, known)


class _Reader:
    """Reads a track's newest group and those after it, in order, frame by frame."""

    def __init__(
        self,
        track: Track,
        take: Callable[[Frame, bool], None],
        ended: Callable[[_Reader], None],
        now_ns: Callable[[], int],
    ) -> None:
        self.track, self._take, self._ended, self._now_ns = track, take, ended, now_ns
        self._group: Group | None = track.latest
        self._at = 0
        track.readers.append(self)

    def close(self) -> None:
        if self in self.track.readers:
            self.track.readers.remove(self)

    def group_began(self, group: Group) -> None:
        self.advance()

    def group_grew(self, group: Group) -> None:
        self.advance()

    def datagram(self, sequence: int, frame: Frame) -> None:
        self._take(frame, True)

    def track_ended(self) -> None:
        self._ended(self)

    def advance(self) -> None:
        """Take what is there; a group that does not go on is given up when the next one has waited for it."""
        while True:
            group = self._group
            if group is None:
                group = self._group = self.track.latest
                if group is None:
                    return
            while self._at < len(group.frames) and not group.is_dropped:
                self._at += 1
                self._take(group.frames[self._at - 1], self._at == 1)
            later = [sequence for sequence in self.track.groups if sequence > group.sequence]
            if not later:
                return
            following = self.track.groups[min(later)]
            is_over = group.is_finished or group.is_dropped
            if not is_over and self._now_ns() - following.began_ns < PATIENCE_NS:
                return
            self._group, self._at = following, 0


class _Taken(_Reader):
    """A track whose frames become packets."""

    def __init__(self, intake: Intake, track: Track, stamper: Stamper) -> None:
        self._intake, self._stamper = intake, stamper
        super().__init__(track, self._pass_on, intake._track_ended, intake.now_ns)

    def _pass_on(self, frame: Frame, is_first: bool) -> None:
        try:
            packets = self._stamper.packets_untrusted(frame, is_keyframe=is_first)
        except MalformedPacket:
            self._intake.counts["frames_malformed"] += 1
            return
        if not packets:
            return
        self._intake.counts["frames"] += 1
        self._intake.sink.send(packets, self._stamper.report(self._intake.now_ns()))
