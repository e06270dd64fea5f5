"""What passes through the door of media besides calls: settings in, facts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from media.channel import Channel
from media.forwarding.forwarder import Limits
from media.moq.relaying.origin import Broadcast
from media.moq.relaying.rights import Rights
from media.webrtc.ice import Address

RoomRow = NewType("RoomRow", int)
TransportId = NewType("TransportId", int)


class NoSource(Exception):
    """Nobody publishes what was asked for; a viewer may try again shortly."""


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """Where media arrives: `address` is bound, and `also` are, other addresses of this machine.

    `advertise` lists what clients are told besides (1:1 NAT). Connections of clients without UDP are taken on
    `tcp_port`: 0 is the number of the UDP port, None takes none. The first of the `workers` (forwarding threads) has
    the UDP ports that are named here, and the others have those that follow.
    """

    address: Address
    advertise: tuple[Address, ...] = ()
    tcp_port: int | None = 0
    also: tuple[Address, ...] = ()
    limits: Limits = field(default_factory=Limits)
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A transport whose answer is ready; it lives from now on, and dies by itself when the client never comes."""

    transport: TransportId
    answer_sdp: str
    etag: str


@dataclass(frozen=True, slots=True)
class Connected:
    """ICE and DTLS are done: media can flow."""

    transport: TransportId


@dataclass(frozen=True, slots=True)
class Flowing:
    """The first media packet of a publisher was accepted, and it is known what all it publishes."""

    transport: TransportId


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The transport is gone, its rows are free; `reason` is a word for people and logs."""

    transport: TransportId
    reason: str


@dataclass(frozen=True, slots=True)
class Attendee:
    """A MoQ session that is here for a room: by its rights, and whether it subscribes or only waits to."""

    rights: Rights
    subscribes: bool


@dataclass(frozen=True, slots=True)
class BroadcastBegan:
    """A MoQ session announced what `source` of a room publishes; `Media.take_in` or `turn_down` is the answer."""

    room: RoomRow
    source: str
    rights: Rights
    broadcast: Broadcast


@dataclass(frozen=True, slots=True)
class AudienceChanged:
    """Who is here for a room's broadcasts may have changed."""

    room: RoomRow


@dataclass(frozen=True, slots=True)
class Speaking:
    """Who is heard in a room that several publish in, by source: who speaks, and how loud each is (-dBov)."""

    room: RoomRow
    speaker: str | None
    levels: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DataChannelOpened:
    """A client opened a data channel; whoever hears of it converses over it, or closes it."""

    transport: TransportId
    channel: Channel


MediaEvent = DataChannelOpened | Connected | Flowing | Disconnected | AudienceChanged | BroadcastBegan | Speaking
