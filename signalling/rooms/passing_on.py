"""Passes what media reports on to the rooms, and to whoever else it concerns."""

from __future__ import annotations

from collections.abc import Callable

from media.door import AudienceChanged, BroadcastBegan, DataChannelOpened, Disconnected, Media, Speaking
from signalling.identifiers import AccountId, StreamId
from signalling.policy.showing import Now
from signalling.ports import Clock
from signalling.rooms.registry import Registry
from signalling.rooms.room import DEVICE_LIMIT
from signalling.rooms.speaking import show_speaking
from signalling.sessions.data_channels import DataChannels
from signalling.sessions.media_sessions import MediaSessions, Place
from signalling.sessions.moq_sessions import MoqSessions


async def pass_facts_on(
    media: Media,
    clock: Clock,
    registry: Registry,
    media_sessions: MediaSessions,
    moq_sessions: MoqSessions,
    data_channels: DataChannels,
    displaced: Callable[[StreamId, AccountId, str], None],
) -> None:
    """Pass facts on until cancelled; `displaced` hears of media sessions that made room for newer devices."""
    async for fact in media.events:
        if isinstance(fact, BroadcastBegan):
            if (live := registry.at(fact.room)) is not None:
                moq_sessions.begin(live, fact)
        elif isinstance(fact, AudienceChanged):
            if (live := registry.at(fact.room)) is not None:
                live.room.notice(fact)
        elif isinstance(fact, Speaking):
            if (live := registry.at(fact.room)) is not None:
                show_speaking(live, fact, Now.read(clock))
        elif (place := media_sessions.of(fact.transport)) is not None:
            if isinstance(fact, DataChannelOpened):
                data_channels.begin(place, fact.channel)
                continue
            place.room.notice(fact)
            if isinstance(fact, Disconnected):
                _forget(media_sessions, place, fact.reason, displaced)


def _forget(
    sessions: MediaSessions, place: Place, reason: str, displaced: Callable[[StreamId, AccountId, str], None]
) -> None:
    sessions.forget(place)
    if reason == DEVICE_LIMIT:
        displaced(place.stream, place.account, place.session.session_id)
