"""Puts the calls of a node together, and groups that go live: how conversations keep them, and the routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from media.door import Media
from server.access.people import People
from server.access.service import Access
from server.config import IceServer
from server.database.store import Database
from server.events.feed import Feed
from server.parts.conversing import Conversing
from server.talk.calls import StoredCalls
from server.talk.lives import Lives
from server.web.calls import call_routes
from server.web.ice_servers import IceServers
from server.web.lives import live_routes
from server.web.routes import Route
from signalling.calls.calls import Calls
from signalling.identifiers import AccountId
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Calling:
    """The parts that are running: the calls, their routes, and their counters by name."""

    calls: Calls
    lives: Lives
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


async def open_calling(
    store: Database,
    clock: Clock,
    media: Media,
    rooms: Rooms,
    access: Access,
    people: People,
    feed: Feed,
    conversing: Conversing,
    ice_servers: Sequence[IceServer],
    nursery: trio.Nursery,
) -> Calling:
    """Start the calls, on a store, rooms and a messenger that run; those of before a restart have ended."""

    def is_on_air(account: AccountId) -> bool:
        state = rooms.state(stream) if (stream := rooms.stream_of(account)) is not None else None
        watched = (rooms.state(each) for each in rooms.streams_with(account))
        in_private = any(each is not None and each.in_one_to_one(account) for each in watched)
        return in_private or (state is not None and state.picture == "live")

    book = StoredCalls(store, conversing.paces, feed.nudge)
    calls = Calls(media, rooms.media_sessions, clock, book, rooms.sessions.of, is_on_air)
    await nursery.start(calls.run)
    access.elsewhere = calls
    lives = Lives(store, clock, rooms, people, calls, feed.nudge)
    await nursery.start(lives.run)

    async def look_again(conversation: str) -> None:
        await calls.look_again(conversation)
        await lives.look_again(conversation)

    conversing.messenger.mind(look_again)

    def count() -> dict[str, int]:
        return {**calls.counters(), **lives.counters(), "calls_unrung": conversing.paces.unrung}

    ice = IceServers(tuple(ice_servers))
    routes = (*call_routes(calls, ice), *live_routes(lives, rooms.media_sessions, ice))
    return Calling(calls, lives, routes, count)
