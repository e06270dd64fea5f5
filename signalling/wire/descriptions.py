"""What those who follow a stream are told of what its streamer says about it."""

from __future__ import annotations

from signalling.identifiers import StreamId
from signalling.wire.events import WireEvent


class StreamUpdated(WireEvent, frozen=True, kw_only=True, tag="stream.updated"):
    """The stream is called, or described as, something else."""

    stream: StreamId
    title: str
    description: str
