"""What an SCTP association reports: frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from media.webrtc.sctp_inbound import Message


@dataclass(frozen=True, slots=True)
class Established:
    """Messages can be sent; what was open on a former association of the two ends is gone."""


@dataclass(frozen=True, slots=True)
class StreamsReset:
    """The peer sends no more on these streams, or `ours` is true: we do not, and it knows."""

    streams: tuple[int, ...]
    ours: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The association is over; the peer may begin another."""

    reason: str


Event = Established | StreamsReset | Ended | Message
