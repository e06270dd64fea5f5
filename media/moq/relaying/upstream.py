"""What one session publishes, taken into the origin: its broadcasts, and the tracks that somebody here wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from media.moq.protocol import events
from media.moq.protocol.frames import MICROSECONDS, Frame
from media.moq.protocol.messages import TrackInfo
from media.moq.protocol.session import Session
from media.moq.relaying.origin import Broadcast, Group, Origin, Track, track_info

MAX_BROADCASTS = 64  # of a session; a person publishes one or two
MAX_OPEN_GROUPS = 32  # of a track at a time; audio in groups of one frame has a few on their way
SUBSCRIBE_LATENCY_MS = 5_000  # what a publisher may keep for us when its uplink is poor
UNREAD_NS = 2_000_000_000  # for whoever asked for a track to read it: a round trip, and a busy machine
OUT_OF_RANGE_US = 1 << 60  # timestamps beyond could not be written again


@dataclass(slots=True, eq=False)
class _Taken:
    """One track being taken in; `timescale` is the publisher's, None where its version stamps no frames."""

    broadcast: Broadcast
    track: Track
    timescale: int
    since_ns: int
    groups: dict[int, Group] = field(default_factory=dict)
    is_ending: bool = False
    end: int | None = None  # the first group that will not come
    next: int = 0  # after the highest group that came

    @property
    def is_whole(self) -> bool:
        """Whether its publisher has ended it and everything of it is here, as far as its version can tell.

        Should the last group or datagram be lost on the way, the track ends with its broadcast or its last reader.
        """
        return self.is_ending and not self.groups and (self.end is None or self.next >= self.end)


class Upstream:
    """The publishing side of a session, as a `Source` of the broadcasts it announced."""

    def __init__(
        self,
        session: Session,
        origin: Origin,
        now_ns: Callable[[], int],
        may_publish: Callable[[str], bool],
    ) -> None:
        self._session, self._origin, self._now_ns, self._may_publish = session, origin, now_ns, may_publish
        self._broadcasts: dict[str, Broadcast] = {}
        self._asked: dict[int, tuple[Broadcast, str, TrackInfo]] = {}  # subscriptions not accepted yet
        self._taken: dict[int, _Taken] = {}
        self.counts = Counter[str]()

    def handle(self, event: events.Event) -> None:
        """Do what one of the session's events asks for; those of the other side are passed over."""
        match event:
            case events.FrameArrived(subscription, sequence, timestamp, payload):
                self._take_frame(subscription, sequence, timestamp, payload)
            case events.GroupBegan(subscription, sequence):
                self._begin_group(subscription, sequence)
            case events.GroupEnded(subscription, sequence, is_complete):
                self._end_group(subscription, sequence, is_complete)
            case events.DatagramArrived(subscription, sequence, timestamp, payload):
                self._take_datagram(subscription, sequence, timestamp, payload)
            case events.BroadcastAnnounced(path, hops):
                self._begin(path, hops)
            case events.BroadcastRetracted(path):
                self._end_broadcast(path)
            case events.TrackDescribed(path, name, info):
                self._subscribe(self._broadcasts.get(path), name, info)
            case events.TrackUnknown(path, name):
                if path in self._broadcasts:
                    self._broadcasts[path].refuse_track(name)
            case events.SubscriptionAccepted(subscription):
                self._accepted(subscription)
            case events.FinalGroup(subscription, group):
                if subscription in self._taken:
                    self._taken[subscription].end = group
            case events.SubscriptionEnded(subscription, code):
                self._ended(subscription, code)

    def end(self) -> None:
        """End everything this session publishes."""
        for path in tuple(self._broadcasts):
            self._end_broadcast(path)

    def stop(self, path: str) -> None:
        """Take nothing more of a broadcast: the right to publish it ended."""
        self._end_broadcast(path)

    # -- as a source -------------------------------------------------------------------------------------------------

    def want_track(self, broadcast: Broadcast, name: str) -> bool:
        """Ask the peer for a track, first for its properties where the version has a way to."""
        if self._session.version.traits.has_track_stream:
            return self._session.request_track(broadcast.path, name)
        return self._subscribe(broadcast, name, track_info(0))

    def track_unused(self, broadcast: Broadcast, track: Track) -> None:
        """Take a track no longer."""
        for subscription, taken in tuple(self._taken.items()):
            if taken.track is track:
                self._let_go(subscription)

    # -- broadcasts and tracks ----------------------------------------------------------------------------------------

    def _begin(self, path: str, hops: tuple[int, ...]) -> None:
        if not self._may_publish(path) or len(self._broadcasts) >= MAX_BROADCASTS:
            self.counts["broadcasts_refused"] += 1
            return
        self._end_broadcast(path)
        broadcast = self._broadcasts[path] = Broadcast(path, self, hops)
        self._origin.begin(broadcast)

    def _end_broadcast(self, path: str) -> None:
        broadcast = self._broadcasts.pop(path, None)
        if broadcast is None:
            return
        self._origin.end(broadcast)
        for subscription, taken in tuple(self._taken.items()):
            if taken.broadcast is broadcast:
                del self._taken[subscription]
                self._session.unsubscribe(subscription)
        for subscription, (asked, _, _) in tuple(self._asked.items()):
            if asked is broadcast:
                del self._asked[subscription]
                self._session.unsubscribe(subscription)

    def _subscribe(self, broadcast: Broadcast | None, name: str, info: TrackInfo) -> bool:
        if broadcast is None:
            return False
        if self._session.version.traits.has_track_stream and name not in broadcast.wanted:
            return False  # nobody waits any more
        subscription = self._session.subscribe(broadcast.path, name, max_latency_ms=SUBSCRIBE_LATENCY_MS)
        if subscription is None:
            broadcast.refuse_track(name)
            return False
        self._asked[subscription] = (broadcast, name, info)
        if self._session.version.traits.has_track_stream:
            # The answer may not come before the first group: the properties are enough to begin.
            self._accepted(subscription)
        return True

    def _accepted(self, subscription: int) -> None:
        asked = self._asked.pop(subscription, None)
        if asked is None:
            return
        broadcast, name, info = asked
        ours = track_info(info.priority, max_latency_ms=info.max_latency_ms)
        track = broadcast.add_track(name, ours)
        self._taken[subscription] = _Taken(broadcast, track, info.timescale, self._now_ns())

    def _ended(self, subscription: int, code: int | None) -> None:
        asked = self._asked.pop(subscription, None)
        if asked is not None:
            asked[0].refuse_track(asked[1])
        taken = self._taken.get(subscription)
        if taken is None:
            self._session.unsubscribe(subscription)
            return
        taken.is_ending = True
        if code is not None or taken.is_whole:
            self._let_go(subscription)

    def _let_go(self, subscription: int) -> None:
        taken = self._taken.pop(subscription)
        self._session.unsubscribe(subscription)
        taken.broadcast.remove_track(taken.track.name)

    # -- groups and frames --------------------------------------------------------------------------------------------

    def _read(self, subscription: int) -> _Taken | None:
        """Return a track that comes; one that nobody reads who asked for it, or for its properties, is let go."""
        taken = self._taken.get(subscription)
        if taken is None or taken.track.readers or self._now_ns() - taken.since_ns < UNREAD_NS:
            return taken
        self.counts["tracks_unread"] += 1
        self._let_go(subscription)
        return None

    def _begin_group(self, subscription: int, sequence: int) -> None:
        self._accepted(subscription)
        taken = self._read(subscription)
        if taken is None:
            return
        if len(taken.groups) >= MAX_OPEN_GROUPS:
            self.counts["groups_too_many"] += 1
            taken.track.drop_group(taken.groups.pop(min(taken.groups)))
        taken.next = max(taken.next, sequence + 1)
        taken.groups[sequence] = taken.track.begin_group(sequence, self._now_ns())

    def _take_frame(self, subscription: int, sequence: int, timestamp: int | None, payload: bytes) -> None:
        taken = self._read(subscription)
        group = None if taken is None else taken.groups.get(sequence)
        if taken is None or group is None:
            self.counts["frames_late"] += 1
            return
        if not self._may_publish(taken.broadcast.path):
            self.counts["frames_refused"] += 1
            self._end_broadcast(taken.broadcast.path)
            return
        timestamp_us = self._timestamp_us(timestamp, taken.timescale)
        if timestamp_us is None:
            self.counts["frames_out_of_time"] += 1
            return
        taken.track.append(group, Frame(timestamp_us, payload, is_keyframe=not group.frames))

    def _end_group(self, subscription: int, sequence: int, is_complete: bool) -> None:
        taken = self._taken.get(subscription)
        group = None if taken is None else taken.groups.pop(sequence, None)
        if taken is None or group is None:
            return
        if is_complete:
            taken.track.finish_group(group)
        else:
            taken.track.drop_group(group)
        if taken.is_whole:
            self._let_go(subscription)

    def _take_datagram(self, subscription: int, sequence: int, timestamp: int, payload: bytes) -> None:
        taken = self._read(subscription)
        if taken is None or not self._may_publish(taken.broadcast.path):
            self.counts["datagrams_refused"] += 1
            return
        taken.next = max(taken.next, sequence + 1)  # groups and datagrams share their numbers
        timestamp_us = self._timestamp_us(timestamp, taken.timescale)
        if timestamp_us is not None:
            taken.track.send_datagram(sequence, Frame(timestamp_us, payload, is_keyframe=True))

    def _timestamp_us(self, timestamp: int | None, timescale: int) -> int | None:
        """Return microseconds; when the version has no timestamps, those of arrival."""
        if timestamp is None:
            return self._now_ns() // 1_000
        microseconds = timestamp * MICROSECONDS // timescale
        return microseconds if abs(microseconds) < OUT_OF_RANGE_US else None
