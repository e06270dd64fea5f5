"""Keeps the WHIP and WHEP sessions: answers offers, and leads what follows to the session that it is about."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from media.door import Media, MediaEvent, NoSource, TransportId, Wish
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy import commands as c
from signalling.refusals import Refused
from signalling.rooms.judging import Judging
from signalling.rooms.registry import Registry

SESSION_BYTES = 24  # of a session's id: unguessable, since its address alone ends it for its owner


@dataclass(slots=True)
class MediaSession:
    """A WHIP or WHEP session; `etag` is that of its ICE session."""

    session_id: str
    answer_sdp: str
    etag: str


class MediaRoom(Protocol):
    """The room of a stream or of a call."""

    def notice(self, fact: MediaEvent) -> None:
        """Take a fact about one of its transports."""

    def restart_ice(self, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        """Answer an ICE restart; raises Refused."""


@dataclass(slots=True)
class Place:
    """Where a media session lives; `stream` names the room."""

    room: MediaRoom
    stream: StreamId
    transport: TransportId
    actor: Actor
    session: MediaSession

    @property
    def account(self) -> AccountId:
        """Whose it is."""
        return self.actor.account


class MediaSessions:
    """All media sessions of a node; `command` does what someone asks of a room."""

    def __init__(
        self,
        registry: Registry,
        media: Media,
        judging: Judging,
        command: Callable[[StreamId, Actor, c.ConfirmOneToOne], Awaitable[object]],
    ) -> None:
        self._registry, self._media, self._judging, self._command = registry, media, judging, command
        self._places: dict[str, Place] = {}
        self._by_transport: dict[TransportId, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    async def publish(self, stream_id: StreamId, actor: Actor, offer_sdp: str) -> MediaSession:
        """Answer a WHIP offer. Raises Refused, MalformedSdp, OfferRejected and NoCapacity."""
        await trio.lowlevel.checkpoint()
        live = self._registry.find(stream_id, actor)
        if actor.account in (live.room.state.owner, *live.room.state.hosts):
            await self._judging.require_streamer(actor.account)
        called = live.room.state.called
        if called is not None and called.account == actor.account:
            await self._command(stream_id, actor, c.ConfirmOneToOne())  # whose camera is on has come
        negotiated = live.room.publish(actor, offer_sdp)
        return self.keep(live.room, stream_id, actor, negotiated.transport, negotiated.answer_sdp, negotiated.etag)

    async def watch(
        self, stream_id: StreamId, actor: Actor, offer_sdp: str, host: AccountId | None = None
    ) -> MediaSession:
        """Answer a WHEP offer for the streamer, or a host. Raises Refused and what media raises of an offer."""
        await trio.lowlevel.checkpoint()
        live = self._registry.find(stream_id, actor)
        verdict = await self._judging.weigh(live.room, actor)
        try:
            negotiated = live.room.watch(actor, offer_sdp, verdict, host)
        except NoSource:
            raise Refused("no_publisher") from None
        return self.keep(live.room, stream_id, actor, negotiated.transport, negotiated.answer_sdp, negotiated.etag)

    async def restart_ice(self, session_id: str, actor: Actor, if_match: str, sdpfrag: str) -> tuple[str, str] | None:
        """Take an ICE fragment: (new ETag, answer) for a restart, None for candidates, which this server needs none of.

        Raises Refused("precondition_failed") when `if_match` is neither "*" nor the session's ETag.
        """
        await trio.lowlevel.checkpoint()
        place = self._place(session_id, actor)
        if if_match not in ("*", place.session.etag):
            raise Refused("precondition_failed")
        try:
            is_restart = self._media.is_ice_restart(place.transport, sdpfrag)
        except KeyError:  # it ended this moment, and the news of it is still on its way
            raise Refused("session_unknown") from None
        if not is_restart:
            return None
        place.session.etag, fragment = place.room.restart_ice(place.transport, sdpfrag)
        return place.session.etag, fragment

    async def prefer(self, session_id: str, actor: Actor, wish: Wish) -> None:
        """Have a media session of the actor's get the picture that it wishes for; raises Refused("session_unknown")."""
        await trio.lowlevel.checkpoint()
        self._media.prefer(self._place(session_id, actor).transport, wish)

    async def close_session(self, session_id: str, actor: Actor) -> None:
        """End a media session of the actor's; raises Refused("session_unknown")."""
        await trio.lowlevel.checkpoint()
        place = self._place(session_id, actor)
        del self._places[session_id]
        self._media.close(place.transport, "closed_by_client")

    def keep(
        self,
        room: MediaRoom,
        stream: StreamId,
        actor: Actor,
        transport: TransportId,
        answer_sdp: str = "",
        etag: str = "",
    ) -> MediaSession:
        """Take in a transport that has been opened; those of MoQ have no answer and no tag."""
        session = MediaSession(secrets.token_urlsafe(SESSION_BYTES), answer_sdp, etag)
        place = Place(room, stream, transport, actor, session)
        self._places[session.session_id] = self._by_transport[transport] = place
        return session

    def of(self, transport: TransportId) -> Place | None:
        """Return the place of a transport that is not known to have ended."""
        return self._by_transport.get(transport)

    def forget(self, place: Place) -> None:
        """Let go of a session whose transport has ended."""
        del self._by_transport[place.transport]
        self._places.pop(place.session.session_id, None)

    def _place(self, session_id: str, actor: Actor) -> Place:
        place = self._places.get(session_id)
        if place is None or not (actor.admin or place.account == actor.account):
            raise Refused("session_unknown")
        return place
