"""What clients are told of those who publish beside a streamer."""

from __future__ import annotations

from signalling.identifiers import StreamId
from signalling.wire.events import WireEvent
from signalling.wire.views import Person


class HostsTold(WireEvent, frozen=True, kw_only=True, tag="stream.hosts"):
    """These are live beside the streamer now."""

    stream: StreamId
    hosts: tuple[Person, ...]
