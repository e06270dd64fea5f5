"""What a session reports: what the peer asks for, and what it sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from media.moq.protocol.messages import Subscribe, SubscribeUpdate, TrackInfo


@dataclass(frozen=True, slots=True)
class AnnouncementsWanted:
    """The peer wants to hear of every broadcast under `prefix`; answer with `Session.begin_announcements`."""

    request: int
    prefix: str
    exclude_hop: int


@dataclass(frozen=True, slots=True)
class TrackWanted:
    """The peer wants a track's properties; answer with `describe_track` or `refuse`."""

    request: int
    broadcast: str
    track: str


@dataclass(frozen=True, slots=True)
class SubscriptionWanted:
    """The peer wants a track's groups; answer with `accept` or `refuse`. `wish.id` is the peer's own number."""

    request: int
    wish: Subscribe


@dataclass(frozen=True, slots=True)
class SubscriptionChanged:
    """The peer wants something else of its subscription."""

    request: int
    wish: SubscribeUpdate


@dataclass(frozen=True, slots=True)
class FetchWanted:
    """The peer wants one group of the past; answer by writing its frames to the request's stream, or `refuse`."""

    request: int
    broadcast: str
    track: str
    priority: int
    group: int


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """The peer no longer wants what it asked for with `request`."""

    request: int


@dataclass(frozen=True, slots=True)
class GroupRefused:
    """The peer wants no more of the group on this stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class BroadcastAnnounced:
    """The peer publishes a broadcast."""

    path: str
    hops: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BroadcastRetracted:
    """The peer publishes it no longer."""

    path: str


@dataclass(frozen=True, slots=True)
class TrackDescribed:
    """The peer says what a track is like."""

    broadcast: str
    track: str
    info: TrackInfo


@dataclass(frozen=True, slots=True)
class TrackUnknown:
    """The peer has no such track."""

    broadcast: str
    track: str


@dataclass(frozen=True, slots=True)
class SubscriptionAccepted:
    """The peer will send groups."""

    subscription: int


@dataclass(frozen=True, slots=True)
class FinalGroup:
    """The peer will send no group from `group` on."""

    subscription: int
    group: int


@dataclass(frozen=True, slots=True)
class SubscriptionEnded:
    """The peer begins no more groups; `code` is None when the track simply ended, and its last may still arrive."""

    subscription: int
    code: int | None


@dataclass(frozen=True, slots=True)
class GroupBegan:
    """The peer sends a group of a track."""

    subscription: int
    sequence: int


class FrameArrived(NamedTuple):
    """A frame, whole; `timestamp` is in the track's timescale, None in versions without."""

    subscription: int
    sequence: int
    timestamp: int | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class GroupEnded:
    """A group has all its frames, or, not complete, gets no more."""

    subscription: int
    sequence: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class FetchedFrame:
    """A frame of a group that was fetched."""

    request: int
    timestamp: int | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class FetchEnded:
    """A fetched group has all its frames, or, not complete, gets no more."""

    request: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class DatagramArrived:
    """A frame that came as a datagram: a group of its own, sent once."""

    subscription: int
    sequence: int
    timestamp: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SetupReceived:
    """Who the peer says it is; `path` has the token in its query, where the carrier has no URL of its own."""

    path: str | None
    origin: int | None


@dataclass(frozen=True, slots=True)
class ProbeReceived:
    """What the peer's congestion control believes the path to carry."""

    bitrate_bps: int
    rtt_ms: int


@dataclass(frozen=True, slots=True)
class GoawayReceived:
    """The peer asks us to leave, for `uri` when there is one."""

    uri: str


Event = (
    AnnouncementsWanted
    | TrackWanted
    | SubscriptionWanted
    | SubscriptionChanged
    | FetchWanted
    | RequestEnded
    | GroupRefused
    | BroadcastAnnounced
    | BroadcastRetracted
    | TrackDescribed
    | TrackUnknown
    | SubscriptionAccepted
    | FinalGroup
    | SubscriptionEnded
    | GroupBegan
    | FrameArrived
    | GroupEnded
    | FetchedFrame
    | FetchEnded
    | DatagramArrived
    | SetupReceived
    | ProbeReceived
    | GoawayReceived
)
