"""The open data channels of a node: what the engines of their transports report of them, and where that goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from media.channel import Channel
from media.facts import DataChannelOpened, MediaEvent, TransportId
from media.webrtc.data_channel import ChannelClosed, ChannelEvent, ChannelMessage, ChannelOpened


class Engines(Protocol):
    """What sends on data channels."""

    def send_message(self, transport: TransportId, stream: int, message: bytes, key: str | None) -> None:
        """Send text on a channel, if it is still there."""
        ...

    def buffered(self, transport: TransportId) -> int:
        """Return how many bytes of messages have not arrived yet."""
        ...

    def close_channel(self, transport: TransportId, stream: int, reason: str) -> None:
        """Close a channel, if it is still there."""
        ...


class Channels:
    """Every open channel, by its transport and its stream; `tell` passes on that one was opened."""

    def __init__(self, engines: Engines, tell: Callable[[MediaEvent], None]) -> None:
        self._engines, self._tell = engines, tell
        self._open: dict[TransportId, dict[int, Channel]] = {}

    def take(self, transport: TransportId, event: ChannelEvent) -> None:
        """Take what an engine reports."""
        match event:
            case ChannelOpened(stream, label):
                channel = Channel(
                    label,
                    partial(self._engines.send_message, transport, stream),
                    partial(self._engines.close_channel, transport, stream),
                    partial(self._engines.buffered, transport),
                )
                self._open.setdefault(transport, {})[stream] = channel
                self._tell(DataChannelOpened(transport, channel))
            case ChannelMessage(stream, message):
                found = self._open.get(transport, {}).get(stream)
                if found is not None and not found.deliver(message):
                    self._engines.close_channel(transport, stream, "too_fast")
            case ChannelClosed(stream, reason):
                self._end(transport, stream, reason)

    def discard(self, transport: TransportId) -> None:
        """End the channels of a transport that ended."""
        for stream in tuple(self._open.get(transport, ())):
            self._end(transport, stream, "transport_closed")

    def _end(self, transport: TransportId, stream: int, reason: str) -> None:
        channels = self._open.get(transport, {})
        channel = channels.pop(stream, None)
        if channel is not None:
            channel.end(reason)
        if not channels:
            self._open.pop(transport, None)

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))
