"""Puts Web Push of a node together: its key, who is told, the routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from server.access.service import Access
from server.database.store import Database
from server.events.feed import Feed
from server.push.desk import PushDesk
from server.push.pusher import Pusher
from server.push.sending import Sender
from server.push.settings import Push
from server.push.vapid import Vapid
from server.tokens import open_key
from server.web.push import push_routes
from server.web.routes import Route
from signalling.identifiers import AccountId, Mode, StreamId
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms

KEY = "push.key"  # in the data directory: browsers hold on to its public half, so it stays the same for ever


@dataclass(frozen=True, slots=True)
class Pushing:
    """The parts that are running: the routes, and counters by name."""

    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class PeopleHere:
    """What a node knows of people; implements `server.push.pusher.People`."""

    rooms: Rooms
    access: Access

    def is_looking(self, account: AccountId) -> bool:
        """Whether some page of an account is in sight."""
        return self.rooms.sessions.is_looking(account)

    def is_suspended(self, account: AccountId) -> bool:
        """Whether an account is shut out."""
        return account in self.access.suspended

    async def may_watch(self, stream: StreamId, owner: AccountId, account: AccountId) -> bool:
        """Whether a running stream would let an account in, or sell it a ticket."""
        state = self.rooms.state(stream)
        if state is None or account in state.hidden or account in state.ejected:
            return False
        if not state.demands.clauses and state.usual_mode is not Mode.PRIVATE:
            return True
        verdict = await self.access.appraise(stream, owner, account)
        return verdict.denied is None and (state.usual_mode is not Mode.PRIVATE or verdict.via is not None)


async def open_pushing(
    settings: Push,
    store: Database,
    clock: Clock,
    folder: Path,
    feed: Feed,
    rooms: Rooms,
    access: Access,
    nursery: trio.Nursery,
) -> Pushing:
    """Start to push, on a store and rooms that run. Raises InvalidSecret, OSError and StoreFailed."""
    vapid = Vapid(open_key(folder / KEY), settings.contact)
    sender = Sender(vapid, private=settings.private)
    pusher = Pusher(store, sender, clock.wall_ms, feed.wait_beyond, PeopleHere(rooms, access))
    await nursery.start(pusher.run)
    desk = PushDesk(store, clock.wall_ms, vapid.public_key, pusher.recount, private=settings.private)
    return Pushing(tuple(push_routes(desk)), pusher.counters)
