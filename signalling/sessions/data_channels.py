"""Signalling over data channels, for WHIP and WHEP clients that have no socket: the same messages, in JSON.

A channel labelled `mesi.events` is a session of whoever opened the media session, which follows its stream from the
start. It ends with the channel, with the media session, and with the token that opened that.
"""

from __future__ import annotations

import math
from typing import Protocol

import structlog
import trio

from media.door import Channel
from signalling.identifiers import Actor, StreamId
from signalling.ports import Clock, Outbox
from signalling.refusals import Refused
from signalling.sessions.media_sessions import Place
from signalling.sessions.session import Session
from signalling.wire.messages import Bundle, Encoding, encode_error
from signalling.wire.requests import Resume

log = structlog.get_logger("signalling")


class Begins(Protocol):
    """Where sessions begin, and streams are joined. Raises Refused."""

    def attach(self, actor: Actor, encoding: Encoding, outbox: Outbox, resume: Resume | None) -> Session:
        """Begin a session."""
        ...

    async def join(self, session: Session, stream_id: StreamId) -> object:
        """Let a session follow a stream."""
        ...


class ChannelOutbox:
    """Frames on their way to one data channel, whose buffer is bounded in media."""

    fanout = None

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def offer(self, frame: bytes, *, droppable: bool = False, key: str | None = None) -> None:
        """Send, or queue; of queued frames with one key only the newest goes."""
        if not (droppable and self._channel.buffered()):
            self._channel.send(frame, key)

    def offer_all(self, bundle: Bundle, encoding: Encoding) -> None:
        """Send, or queue, one after the other."""
        for event in bundle.events:
            self._channel.send(event.frame(encoding))

    def waiting(self) -> int:
        """Return how many KiB are queued."""
        return self._channel.buffered() // 1024

    def close(self, reason: str) -> None:
        """Let what is queued arrive, then close the channel."""
        self._channel.close(reason)


class DataChannels:
    """The conversations over data channels; `live_in` a nursery before the first begins."""

    def __init__(self, begins: Begins, clock: Clock) -> None:
        self._begins, self._clock = begins, clock
        self._nursery: trio.Nursery | None = None

    def live_in(self, nursery: trio.Nursery) -> None:
        """Have conversations end with a nursery."""
        self._nursery = nursery

    def begin(self, place: Place, channel: Channel) -> None:
        """Converse over a channel that was opened in a media session."""
        assert self._nursery is not None, "they live in no nursery yet"
        self._nursery.start_soon(self._keep, place, channel)

    async def _keep(self, place: Place, channel: Channel) -> None:
        until_ms = place.actor.until_ms
        left_s = math.inf if until_ms is None else max(0, until_ms - self._clock.wall_ms()) / 1000
        reason = "no_session"
        try:
            with trio.move_on_after(left_s):
                reason = await self._converse(place, channel)
        except Exception as fault:
            log.error("data_channel_fault", transport=place.transport, exc_info=fault)
            reason = "internal_error"
        channel.close(reason)

    async def _converse(self, place: Place, channel: Channel) -> str:
        """Converse until there is nobody, or nothing, left; returns why the channel is to be closed."""
        outbox = ChannelOutbox(channel)
        session: Session | None = None
        try:
            session = self._begins.attach(place.actor, Encoding.JSON, outbox, None)
            session.media = place.session.session_id
            await self._begins.join(session, place.stream)
            while (message := await channel.receive()) is not None:
                await session.receive_untrusted(message)
        except Refused as refusal:
            outbox.offer(encode_error(None, refusal, self._clock.wall_ms(), Encoding.JSON))
            return refusal.code
        finally:
            if session is not None:
                session.detach(outbox)
        return "closed_by_peer"
