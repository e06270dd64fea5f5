"""One moq-lite session over any carrier: bytes and commands in, events out (draft-lcurley-moq-lite).

Both roles at once, on either end: it answers what the peer asks and asks on its own. It knows streams and messages;
which broadcasts there are, who may have them and what is sent first is decided above it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from media.moq.carriers.carrier import UNIDIRECTIONAL, Carrier, Code
from media.moq.protocol import events
from media.moq.protocol.events import Event
from media.moq.protocol.frames import Frame, FrameWriter
from media.moq.protocol.messages import (
    MAX_HOPS,
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
    SubscribeOk,
    SubscribeStart,
    TrackInfo,
    TrackRequest,
    UniType,
    suffix_of,
    write_message,
)
from media.moq.protocol.streams import (
    BIDIRECTIONAL,
    UNIDIRECTIONAL_STREAMS,
    Announcements,
    AskedAnnouncements,
    AskedOnce,
    AskedProbe,
    AskedSubscription,
    Ignored,
    IncomingGroup,
    OwnFetch,
    OwnProbe,
    OwnSubscription,
    Stream,
    TrackQuestion,
    Untyped,
)
from media.moq.protocol.varint import MAX_VARINT, Cursor, varint
from media.moq.protocol.versions import Version
from media.wire.malformed import MalformedPacket

MAX_OPEN_STREAMS = 1_024  # that a peer keeps half read: its carrier grants it 128 of a kind at a time
MAX_UNREAD_BYTES = 16 << 20  # of all streams together: four of the longest frames
MAX_MALFORMED = 16  # a peer that sends nonsense so often speaks another language
PROBE_NS = 500_000_000  # between two reports of what the path carries
NEVER_NS = (1 << 63) - 1


class Session:
    """One end of a session. `origin` is this node's hop number, not 0 and below 2^53 (older clients' floats)."""

    def __init__(self, carrier: Carrier, version: Version, *, origin: int, path: str | None = None) -> None:
        self.version, self.counts = version, Counter[str]()
        self._carrier, self._traits, self._origin = carrier, version.traits, origin
        self._streams: dict[int, Stream] = {}
        self._subscriptions: dict[int, OwnSubscription] = {}
        self._finishing: set[int] = set()  # ended by the peer, with groups that may still be on their way
        self._next_subscription = 0
        self._unread = 0
        self._probe_at_ns = NEVER_NS
        self.is_closed = False
        if self._traits.has_setup:
            self._send_setup(path)

    # -- what arrives --------------------------------------------------------------------------------------------------

    def receive_untrusted(self, stream: int, data: bytes, *, is_last: bool) -> list[Event]:
        """Take a part of a stream, in order."""
        if self.is_closed:
            return []
        reading = self._streams.get(stream) or self._accept(stream)
        if reading is None:
            return []
        reading.reader.feed(data, is_last=is_last)
        found: list[Event] = []
        try:
            reading = self._typed(reading)
            found.extend(reading.read())
        except MalformedPacket:
            self._malformed(reading)
        if isinstance(reading, IncomingGroup) and not self._is_ours(reading):
            reading.is_over, found = True, []
            self._turn_away(reading, Code.NOT_FOUND)
        self._count_unread(stream)
        if self._unread > MAX_UNREAD_BYTES:
            self.close(Code.TOO_MUCH, "too much unfinished")
        ending = self._streams.get(stream) if is_last else None
        return found if ending is None else found + self._end(ending, None)

    def reset_untrusted(self, stream: int, code: int) -> list[Event]:
        """Take note that the peer gave up its half of a stream."""
        reading = self._streams.get(stream)
        if reading is not None:
            return self._end(reading, code)
        if not stream & UNIDIRECTIONAL:
            self._carrier.reset(stream, Code.CANCELLED)  # it never said anything, and our half would stay open for ever
        return []

    def stopped_untrusted(self, stream: int, code: int) -> list[Event]:
        """Take note that the peer wants no more of our half, which the carrier has reset."""
        if stream & UNIDIRECTIONAL:
            return [events.GroupRefused(stream)]
        reading = self._streams.get(stream)
        return [] if reading is None else self._end(reading, code)

    def datagram_untrusted(self, data: bytes) -> list[Event]:
        """Take a datagram."""
        if not self._traits.has_datagrams or self.is_closed:
            self.counts["datagrams_unexpected"] += 1
            return []
        cursor = Cursor(data)
        try:
            subscription, sequence, timestamp = (cursor.varint_untrusted() for _ in range(3))
        except MalformedPacket:
            self.counts["datagrams_malformed"] += 1
            return []
        if not self._awaits(subscription):
            self.counts["datagrams_unexpected"] += 1
            return []
        return [events.DatagramArrived(subscription, sequence, timestamp, cursor.rest())]

    def ended(self) -> list[Event]:
        """End everything that was open: the carrier is gone."""
        self.is_closed = True
        return [event for stream in tuple(self._streams) for event in self._conclude(stream)]

    # -- time ----------------------------------------------------------------------------------------------------------

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called (monotonic)."""
        return self._probe_at_ns

    def handle_timeout(self, now_ns: int) -> None:
        """Report to who asked what the path carries."""
        if now_ns < self._probe_at_ns:
            return
        asked = [stream for stream in self._streams.values() if isinstance(stream, AskedProbe)]
        self._probe_at_ns = now_ns + PROBE_NS if asked else NEVER_NS
        bitrate_bps, rtt_ms = self._carrier.estimate
        for stream in asked:
            self._send(stream.id, Probe(bitrate_bps, rtt_ms))

    # -- we answer -----------------------------------------------------------------------------------------------------

    def begin_announcements(self, request: int, paths: Iterable[str]) -> None:
        """Answer a request for announcements with what there is now."""
        asked = self._streams.get(request)
        if not isinstance(asked, AskedAnnouncements):
            return
        present = tuple(paths)
        if self._traits.has_announce_ok:
            self._send(request, AnnounceOk(self._origin, len(present)))
        for path in present:
            self.announce(request, path)

    def announce(self, request: int, path: str, hops: tuple[int, ...] = ()) -> None:
        """Say that a broadcast is there."""
        asked = self._streams.get(request)
        if not isinstance(asked, AskedAnnouncements) or asked.prefix is None:
            return
        suffix = suffix_of(path, asked.prefix)
        assert suffix is not None
        hops = (*hops[-(MAX_HOPS - 1) :], self._origin) if self._traits.stamps_itself else hops
        if self._traits.numbers_announcements:
            asked.numbers[suffix] = asked.count
            asked.count += 1
            self._send(request, AnnounceStart(suffix, hops), type=0)
        else:
            self._send(request, Announce(1, suffix, hops))

    def retract(self, request: int, path: str) -> None:
        """Say that a broadcast is there no longer."""
        asked = self._streams.get(request)
        if not isinstance(asked, AskedAnnouncements) or asked.prefix is None:
            return
        suffix = suffix_of(path, asked.prefix)
        assert suffix is not None
        if self._traits.numbers_announcements:
            self._send(request, AnnounceEnd(asked.numbers.pop(suffix)), type=1)
        else:
            self._send(request, Announce(0, suffix))

    def describe_track(self, request: int, info: TrackInfo) -> None:
        """Answer a question for a track's properties."""
        self._send(request, info, is_last=True)
        self._settle(request)

    def accept(self, request: int, info: TrackInfo) -> None:
        """Accept a subscription; where the version names its first group, the opening of that group says so."""
        if isinstance(self._streams.get(request), AskedSubscription) and not self._traits.has_track_stream:
            self._send(request, SubscribeOk(info.priority, info.is_ordered, info.max_latency_ms), type=0)

    def finish_subscription(self, request: int, end: int) -> None:
        """End a subscription whose track has ended; `end` is the first group that will not come."""
        if isinstance(self._streams.get(request), AskedSubscription) and self._traits.has_track_stream:
            self._send(request, SubscribeEnd(end), type=1)
        self.finish(request)

    def refuse(self, request: int, code: int) -> None:
        """End a request of the peer, answered or not, with a reason."""
        self._carrier.reset(request, code)
        self._carrier.stop(request, code)
        self._settle(request)

    def finish(self, request: int) -> None:
        """End a request of the peer as one that has all it asked for."""
        self._carrier.write(request, b"", is_last=True)
        self._settle(request)

    def open_group(self, request: int, sequence: int) -> tuple[int, FrameWriter] | None:
        """Open a group's stream for a subscription; None when the peer grants no stream or wants no groups."""
        asked = self._streams.get(request)
        if not isinstance(asked, AskedSubscription) or asked.wish is None:
            return None
        stream = self._carrier.open(unidirectional=True)
        if stream is None:
            self.counts["streams_not_granted"] += 1
            return None
        if self._traits.has_track_stream and not asked.is_started:
            asked.is_started = True
            self._send(request, SubscribeStart(sequence), type=0)
        header = write_message(self.version, GroupHeader(asked.wish.id, sequence))
        self._carrier.write(stream, varint(UniType.GROUP) + header)
        return stream, self.frame_writer()

    def frame_writer(self) -> FrameWriter:
        """Return a writer for the frames of one group, as this version writes them."""
        return FrameWriter(stamps=self._traits.stamps_frames)

    def send_datagram(self, request: int, sequence: int, frame: Frame) -> bool:
        """Send a frame as a datagram to a subscription; False when it can't be."""
        asked = self._streams.get(request)
        if not isinstance(asked, AskedSubscription) or asked.wish is None or not self._traits.has_datagrams:
            return False
        timestamp = min(max(frame.timestamp_us, 0), MAX_VARINT)
        data = varint(asked.wish.id) + varint(sequence) + varint(timestamp) + frame.payload
        return self._carrier.send_datagram(data)

    # -- we ask --------------------------------------------------------------------------------------------------------

    def request_announcements(self, prefix: str) -> bool:
        """Ask what the peer publishes under a prefix; False when no stream is granted now."""
        message = AnnounceRequest(prefix, exclude_hop=self._origin)
        return self._ask(BidiType.ANNOUNCE, message, lambda id: Announcements(id, self.version, prefix=prefix))

    def request_track(self, broadcast: str, track: str) -> bool:
        """Ask for a track's properties; False when the version or the peer does not let us."""
        if not self._traits.has_track_stream:
            return False
        message = TrackRequest(broadcast, track)
        return self._ask(
            BidiType.TRACK, message, lambda id: TrackQuestion(id, self.version, broadcast=broadcast, track=track)
        )

    def subscribe(
        self, broadcast: str, track: str, *, priority: int = 128, max_latency_ms: int = 0, start: int = 0
    ) -> int | None:
        """Ask for a track's groups; returns the subscription's number, or None when no stream is granted now."""
        number = self._next_subscription
        message = Subscribe(number, broadcast, track, priority, max_latency_ms=max_latency_ms, start=start)

        def subscription(id: int) -> OwnSubscription:
            self._subscriptions[number] = OwnSubscription(id, self.version, number=number)
            return self._subscriptions[number]

        if not self._ask(BidiType.SUBSCRIBE, message, subscription):
            return None
        self._next_subscription += 1
        return number

    def unsubscribe(self, subscription: int) -> None:
        """End a subscription of ours, or expect nothing more of one that the peer has ended."""
        self._finishing.discard(subscription)
        own = self._subscriptions.get(subscription)
        if own is not None:
            self._carrier.write(own.id, b"", is_last=True)
            self._carrier.stop(own.id, Code.CANCELLED)
            self._settle(own.id)

    def fetch(self, broadcast: str, track: str, group: int, *, priority: int = 128) -> bool:
        """Ask for one group of the past; False when no stream is granted now."""
        return self._ask(
            BidiType.FETCH, Fetch(broadcast, track, priority, group), lambda id: OwnFetch(id, self.version)
        )

    def probe(self) -> bool:
        """Ask for reports of what the path carries; False when no stream is granted now."""
        return self._ask(BidiType.PROBE, None, lambda id: OwnProbe(id, self.version))

    def send_goaway(self, uri: str = "") -> None:
        """Ask the peer to leave, for `uri` when there is one, where the version has words for it."""
        if self._traits.has_goaway and self._ask(BidiType.GOAWAY, Goaway(uri), lambda id: Stream(id, self.version)):
            self._carrier.wake()

    def close(self, code: int, reason: str) -> None:
        """End the session."""
        if not self.is_closed:
            self.is_closed = True
            self._carrier.close(code, reason)

    # -- the streams ---------------------------------------------------------------------------------------------------

    def _send_setup(self, path: str | None) -> None:
        stream = self._carrier.open(unidirectional=True)
        if stream is None:
            self.counts["streams_not_granted"] += 1
            return
        parameters = [(int(SetupParameter.ORIGIN), varint(self._origin)), (int(SetupParameter.PROBE), varint(1))]
        if path is not None:
            parameters.append((int(SetupParameter.PATH), path.encode()))
        body = write_message(self.version, Setup(tuple(parameters)))
        self._carrier.write(stream, varint(UniType.SETUP) + body, is_last=True)

    def _ask(self, type: BidiType, message: Message | None, stream_of: Callable[[int], Stream]) -> bool:
        # Never a FIN after the question: moq-rs takes it for a change of mind.
        id = self._carrier.open(unidirectional=False)
        if id is None:
            self.counts["streams_not_granted"] += 1
            return False
        self._streams[id] = stream_of(id)
        self._carrier.write(id, varint(type) + (b"" if message is None else write_message(self.version, message)))
        return True

    def _send(self, stream: int, message: Message, *, type: int | None = None, is_last: bool = False) -> None:
        body = write_message(self.version, message)
        self._carrier.write(stream, body if type is None else varint(type) + body, is_last=is_last)

    def _accept(self, stream: int) -> Stream | None:
        if len(self._streams) >= MAX_OPEN_STREAMS:
            self.close(Code.TOO_MUCH, "too many streams")
            return None
        accepted = self._streams[stream] = Untyped(stream, self.version)
        return accepted

    def _typed(self, stream: Stream) -> Stream:
        """Return the stream as what its first number says."""
        if not isinstance(stream, Untyped):
            return stream
        number = stream.reader.varint_untrusted()
        if number is None:
            return stream
        kinds = UNIDIRECTIONAL_STREAMS if stream.id & UNIDIRECTIONAL else BIDIRECTIONAL
        kind = kinds.get(number)
        if kind is None:
            # Not ours to judge: later versions and GREASE add kinds.
            self.counts["streams_unknown"] += 1
            self._turn_away(stream, Code.CANCELLED)
            return self._streams[stream.id]
        typed = self._streams[stream.id] = kind(stream.id, self.version, stream.reader)
        typed.unread = stream.unread
        if isinstance(typed, AskedProbe):
            self._probe_at_ns = 0
            self._carrier.wake()
        return typed

    def _count_unread(self, id: int) -> None:
        stream = self._streams.get(id)
        if stream is not None:
            self._unread += len(stream.reader) - stream.unread
            stream.unread = len(stream.reader)

    def _is_ours(self, group: IncomingGroup) -> bool:
        return group.header is None or self._awaits(group.header.subscription)

    def _awaits(self, subscription: int) -> bool:
        return subscription in self._subscriptions or subscription in self._finishing

    def _end(self, stream: Stream, code: int | None) -> list[Event]:
        """Take note that the peer's half has ended: by FIN, or by a reset with its code."""
        found = [] if stream.is_over else list(stream.end(code))
        is_over, stream.is_over, stream.has_ended = stream.is_over, True, True
        if code is None and isinstance(stream, AskedOnce) and stream.is_read:
            return found  # still to be answered
        self._forget(stream)
        if isinstance(stream, OwnSubscription) and code is None and not is_over:
            self._finishing.add(stream.number)
        if not stream.id & UNIDIRECTIONAL and not is_over:
            if code is None:
                self._carrier.write(stream.id, b"", is_last=True)
            else:
                self._carrier.reset(stream.id, Code.CANCELLED)
        return found

    def _settle(self, id: int) -> None:
        """Conclude a stream by our own decision, of which nobody needs to be told."""
        if id in self._streams:
            self._streams[id].is_over = True
            self._conclude(id)

    def _conclude(self, id: int) -> list[Event]:
        """Expect nothing more of a stream; what still arrives on it is not looked at."""
        stream = self._streams.get(id)
        if stream is None:
            return []
        found = [] if stream.is_over else list(stream.end(Code.CANCELLED))
        self._forget(stream)
        if not stream.has_ended:
            self._streams[id] = Ignored(id, self.version, is_over=True)
        return found

    def _forget(self, stream: Stream) -> None:
        del self._streams[stream.id]
        self._unread -= stream.unread
        if isinstance(stream, OwnSubscription):
            self._subscriptions.pop(stream.number, None)

    def _malformed(self, stream: Stream) -> None:
        self.counts["malformed"] += 1
        self._turn_away(stream, Code.MALFORMED)
        if self.counts["malformed"] > MAX_MALFORMED:
            self.close(Code.MALFORMED, "malformed messages")

    def _turn_away(self, stream: Stream, code: int) -> list[Event]:
        self._carrier.stop(stream.id, code)
        if not stream.id & UNIDIRECTIONAL:
            self._carrier.reset(stream.id, code)
        return self._conclude(stream.id)
