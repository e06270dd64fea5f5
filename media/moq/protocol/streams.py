"""What each kind of stream says, read as it comes: the peer's requests, the answers to ours, and groups.

A stream is a small state machine: `read` takes what is whole from its reader and yields events; `end` says what the
end of the peer's half means, with the code of its reset or None after a FIN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from media.moq.protocol import events
from media.moq.protocol.events import Event
from media.moq.protocol.frames import StreamReader
from media.moq.protocol.messages import (
    ANNOUNCEMENTS_06,
    SUBSCRIBE_ANSWERS,
    Announce,
    AnnounceEnd,
    AnnounceOk,
    AnnounceRequest,
    AnnounceStart,
    BidiType,
    Fetch,
    Goaway,
    GroupHeader,
    Message,
    Probe,
    Setup,
    SetupParameter,
    Subscribe,
    SubscribeEnd,
    SubscribeUpdate,
    TrackInfo,
    TrackRequest,
    UniType,
    normal_path,
    read_message_untrusted,
)
from media.moq.protocol.varint import Cursor
from media.moq.protocol.versions import Version
from media.wire.malformed import MalformedPacket

MAX_CLOCK = 1 << 60  # of a timestamp: a number that can still be converted and written
MAX_ANNOUNCED = 1_024  # broadcasts that one peer may publish on one session; a person publishes one or two


@dataclass(slots=True, eq=False)
class Stream:
    """One stream as the session keeps it."""

    id: int
    version: Version
    reader: StreamReader = field(default_factory=StreamReader)
    has_ended: bool = False  # the peer's half
    unread: int = 0  # bytes of the reader, as the session has counted them
    is_over: bool = False  # what it meant was said, or is not wanted any more

    def read(self) -> Iterator[Event]:
        """Yield what the bytes so far say. Raises MalformedPacket."""
        yield from ()

    def end(self, code: int | None) -> Iterator[Event]:
        """Yield what it means that no more bytes come."""
        yield from ()


@dataclass(slots=True, eq=False)
class Untyped(Stream):
    """A stream the peer opened whose first number is not there yet; the session replaces it."""


@dataclass(slots=True, eq=False)
class Ignored(Stream):
    """A stream nobody listens to any more; it is kept until it ends, lest its bytes be taken for a new one's."""

    def read(self) -> Iterator[Event]:
        """Throw away what arrives."""
        self.reader = StreamReader()
        yield from ()


# -- the peer asks ---------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class AskedAnnouncements(Stream):
    """Asked for announcements; `numbers` are those given to active suffixes (06)."""

    prefix: str | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def read(self) -> Iterator[Event]:
        """Yield the request; later bytes have no meaning."""
        body = None if self.prefix is not None else self.reader.message_untrusted()
        if body is not None:
            request = read_message_untrusted(self.version, AnnounceRequest, body)
            self.prefix = request.prefix
            yield events.AnnouncementsWanted(self.id, request.prefix, request.exclude_hop)

    def end(self, code: int | None) -> Iterator[Event]:
        """Yield that the peer no longer listens."""
        if self.prefix is not None:
            yield events.RequestEnded(self.id)


@dataclass(slots=True, eq=False)
class AskedSubscription(Stream):
    """Asked for a track's groups, then changes of mind."""

    wish: Subscribe | None = None
    is_started: bool = False  # told which group is the first

    def read(self) -> Iterator[Event]:
        """Yield the request and its updates."""
        while (body := self.reader.message_untrusted()) is not None:
            if self.wish is None:
                self.wish = read_message_untrusted(self.version, Subscribe, body)
                yield events.SubscriptionWanted(self.id, self.wish)
            else:
                update = read_message_untrusted(self.version, SubscribeUpdate, body)
                yield events.SubscriptionChanged(self.id, update)

    def end(self, code: int | None) -> Iterator[Event]:
        """FIN and reset alike end a subscription."""
        if self.wish is not None:
            yield events.RequestEnded(self.id)


@dataclass(slots=True, eq=False)
class AskedOnce(Stream):
    """Asked one thing, answered once: a track's properties, or a group of the past."""

    type: BidiType = BidiType.TRACK
    is_read: bool = False

    def read(self) -> Iterator[Event]:
        """Yield the request."""
        body = None if self.is_read else self.reader.message_untrusted()
        if body is None:
            return
        self.is_read = True
        if self.type is BidiType.TRACK:
            track = read_message_untrusted(self.version, TrackRequest, body)
            yield events.TrackWanted(self.id, track.broadcast, track.track)
        else:
            fetch = read_message_untrusted(self.version, Fetch, body)
            yield events.FetchWanted(self.id, fetch.broadcast, fetch.track, fetch.priority, fetch.group)

    def end(self, code: int | None) -> Iterator[Event]:
        """Only a reset takes the question back; a FIN just ends it."""
        if self.is_read and code is not None:
            yield events.RequestEnded(self.id)


@dataclass(slots=True, eq=False)
class AskedProbe(Stream):
    """Asked to be told what the path carries. The peer may say what it would like; we pace by congestion alone."""

    def read(self) -> Iterator[Event]:
        """Take the peer's wishes."""
        while (body := self.reader.message_untrusted()) is not None:
            read_message_untrusted(self.version, Probe, body)
        yield from ()


@dataclass(slots=True, eq=False)
class ToldGoaway(Stream):
    """Told to leave."""

    def read(self) -> Iterator[Event]:
        """Yield where to."""
        while (body := self.reader.message_untrusted()) is not None:
            yield events.GoawayReceived(read_message_untrusted(self.version, Goaway, body).uri)


# -- the peer answers ------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Announcements(Stream):
    """What the peer publishes under a prefix we asked for."""

    prefix: str = ""
    is_greeted: bool = False
    active: dict[str, None] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def read(self) -> Iterator[Event]:
        """Yield broadcasts that come and go."""
        if self.version.traits.has_announce_ok and not self.is_greeted:
            body = self.reader.message_untrusted()
            if body is None:
                return
            read_message_untrusted(self.version, AnnounceOk, body)
            self.is_greeted = True
        read = self._read_numbered if self.version.traits.numbers_announcements else self._read_named
        yield from read()

    def end(self, code: int | None) -> Iterator[Event]:
        """Everything announced here ends with it."""
        while self.active:
            yield events.BroadcastRetracted(self.active.popitem()[0])

    def _read_named(self) -> Iterator[Event]:
        while (body := self.reader.message_untrusted()) is not None:
            message = read_message_untrusted(self.version, Announce, body)
            path = normal_path(f"{self.prefix}/{message.suffix}")
            if message.status:
                yield from self._start(path, message.hops)
            else:
                yield from self._stop(path)

    def _read_numbered(self) -> Iterator[Event]:
        while (typed := self.reader.typed_message_untrusted()) is not None:
            kind = ANNOUNCEMENTS_06.get(typed[0])
            if kind is AnnounceStart:
                start = read_message_untrusted(self.version, AnnounceStart, typed[1])
                path = self.names[len(self.names)] = normal_path(f"{self.prefix}/{start.suffix}")
                if len(self.names) > MAX_ANNOUNCED:
                    raise MalformedPacket("too many announcements")
                yield from self._start(path, start.hops)
            elif kind is AnnounceEnd:
                number = read_message_untrusted(self.version, AnnounceEnd, typed[1]).number
                yield from self._stop(self.names.get(number, ""))

    def _start(self, path: str, hops: tuple[int, ...]) -> Iterator[Event]:
        # Announced again means restarted: what was read of it before belongs to what ended.
        yield from self._stop(path)
        if len(self.active) >= MAX_ANNOUNCED:
            raise MalformedPacket("too many broadcasts")
        self.active[path] = None
        yield events.BroadcastAnnounced(path, hops)

    def _stop(self, path: str) -> Iterator[Event]:
        if path in self.active:
            del self.active[path]
            yield events.BroadcastRetracted(path)


@dataclass(slots=True, eq=False)
class TrackQuestion(Stream):
    """A track's properties, asked for."""

    broadcast: str = ""
    track: str = ""
    is_answered: bool = False

    def read(self) -> Iterator[Event]:
        """Yield the answer."""
        body = None if self.is_answered else self.reader.message_untrusted()
        if body is not None:
            info = read_message_untrusted(self.version, TrackInfo, body)
            if info.timescale == 0:
                raise MalformedPacket("a timescale of 0")
            self.is_answered = True
            yield events.TrackDescribed(self.broadcast, self.track, info)

    def end(self, code: int | None) -> Iterator[Event]:
        """No answer is an answer."""
        if not self.is_answered:
            self.is_answered = True
            yield events.TrackUnknown(self.broadcast, self.track)


@dataclass(slots=True, eq=False)
class OwnSubscription(Stream):
    """A track's groups, asked for; `number` is ours, and stands in front of each group."""

    number: int = 0

    def read(self) -> Iterator[Event]:
        """Yield the answers."""
        answers = SUBSCRIBE_ANSWERS[self.version]
        while (typed := self.reader.typed_message_untrusted()) is not None:
            kind: type[Message] | None = answers.get(typed[0])
            if kind is None:
                raise MalformedPacket("an unknown answer")
            answer = read_message_untrusted(self.version, kind, typed[1])
            if typed[0] == 0:
                yield events.SubscriptionAccepted(self.number)
            elif isinstance(answer, SubscribeEnd):
                yield events.FinalGroup(self.number, answer.group)
            # A DROP tells nothing new: the groups that do come say so themselves.

    def end(self, code: int | None) -> Iterator[Event]:
        """No more groups begin."""
        yield events.SubscriptionEnded(self.number, code)


@dataclass(slots=True, eq=False)
class OwnFetch(Stream):
    """A group of the past, asked for."""

    clock: int = 0

    def read(self) -> Iterator[Event]:
        """Yield its frames."""
        stamps = self.version.traits.stamps_frames
        while (found := self.reader.frame_untrusted(stamps=stamps)) is not None:
            self.clock = advanced_untrusted(self.clock, found[0])
            yield events.FetchedFrame(self.id, self.clock if stamps else None, found[1])

    def end(self, code: int | None) -> Iterator[Event]:
        """Yield that the group is whole, or refused."""
        yield events.FetchEnded(self.id, code is None)


@dataclass(slots=True, eq=False)
class OwnProbe(Stream):
    """What the path carries, asked for."""

    def read(self) -> Iterator[Event]:
        """Yield the peer's reports."""
        while (body := self.reader.message_untrusted()) is not None:
            probe = read_message_untrusted(self.version, Probe, body)
            yield events.ProbeReceived(probe.bitrate_bps, probe.rtt_ms)


# -- groups, and who the peer is -------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class IncomingGroup(Stream):
    """A group's frames."""

    header: GroupHeader | None = None
    clock: int = 0

    def read(self) -> Iterator[Event]:
        """Yield the group's beginning, then each frame."""
        if self.header is None:
            body = self.reader.message_untrusted()
            if body is None:
                return
            self.header = read_message_untrusted(self.version, GroupHeader, body)
            yield events.GroupBegan(self.header.subscription, self.header.sequence)
        stamps = self.version.traits.stamps_frames
        while (found := self.reader.frame_untrusted(stamps=stamps)) is not None:
            self.clock = advanced_untrusted(self.clock, found[0])
            timestamp = self.clock if stamps else None
            yield events.FrameArrived(self.header.subscription, self.header.sequence, timestamp, found[1])

    def end(self, code: int | None) -> Iterator[Event]:
        """Yield that the group is whole, or given up."""
        if self.header is not None:
            yield events.GroupEnded(self.header.subscription, self.header.sequence, code is None)


@dataclass(slots=True, eq=False)
class IncomingSetup(Stream):
    """Who the peer is."""

    is_read: bool = False

    def read(self) -> Iterator[Event]:
        """Yield what it says."""
        body = None if self.is_read else self.reader.message_untrusted()
        if body is None:
            return
        self.is_read = True
        parameters = dict(read_message_untrusted(self.version, Setup, body).parameters)
        path, origin = parameters.get(SetupParameter.PATH), parameters.get(SetupParameter.ORIGIN)
        try:
            shown = None if path is None else path.decode()
        except UnicodeDecodeError as error:
            raise MalformedPacket("a path that is no UTF-8") from error
        yield events.SetupReceived(shown, None if origin is None else Cursor(origin).varint_untrusted())


def advanced_untrusted(clock: int, delta: int) -> int:
    """Return the next frame's timestamp; raises MalformedPacket when it is out of this world."""
    clock += delta
    if abs(clock) > MAX_CLOCK:
        raise MalformedPacket("a timestamp out of range")
    return clock


BIDIRECTIONAL: dict[int, Callable[[int, Version, StreamReader], Stream]] = {
    BidiType.ANNOUNCE: AskedAnnouncements,
    BidiType.SUBSCRIBE: AskedSubscription,
    BidiType.FETCH: lambda id, version, reader: AskedOnce(id, version, reader, type=BidiType.FETCH),
    BidiType.TRACK: lambda id, version, reader: AskedOnce(id, version, reader, type=BidiType.TRACK),
    BidiType.PROBE: AskedProbe,
    BidiType.GOAWAY: ToldGoaway,
}
UNIDIRECTIONAL_STREAMS: dict[int, Callable[[int, Version, StreamReader], Stream]] = {
    UniType.GROUP: IncomingGroup,
    UniType.SETUP: IncomingSetup,
}
