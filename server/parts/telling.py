"""Puts together what tells others what happened: the feed, the webhooks, and the duty that drops old events."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
import trio

from server.config import Config
from server.database.store import Database
from server.events import eventlog
from server.events.feed import Feed
from server.money.clerk import Clerk
from server.talk.showing import fill
from server.web.events import event_routes
from server.web.routes import Route
from server.web.webhooks import webhook_routes
from server.webhooks import places
from server.webhooks.teller import Teller

AT_ONCE = 500  # old events in one transaction: some milliseconds of the writer
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Telling:
    """The parts that are running: their routes, and their counters by name."""

    feed: Feed
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


async def open_telling(config: Config, store: Database, wall_ms: Callable[[], int], nursery: trio.Nursery) -> Telling:
    """Start what tells of events, on a store that runs."""
    feed = Feed(store, wall_ms, fill)
    await nursery.start(feed.run)
    # Of a database that no other node uses, who told before a crash is nobody else, and nothing need be waited for.
    holder = secrets.token_hex(8) if config.data.database else "node"
    teller = Teller(store, config.webhooks, feed.wait_beyond, wall_ms, holder)
    await nursery.start(teller.run)

    async def drop_old(now_ms: int) -> int:
        until_ms = now_ms - config.events.keep_days * DAY_MS
        return await store.write(drop_told, teller.names, until_ms, AT_ONCE)

    clerk = Clerk({"old events": drop_old}, wall_ms)
    nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        dropped = {"events_dropped": clerk.done, "event_drop_failures": clerk.failures}
        return {**feed.counters(), **teller.counters(), **dropped}

    return Telling(feed, (*event_routes(feed), *webhook_routes(teller)), count)


def drop_told(connection: sa.Connection, webhooks: tuple[str, ...], until_ms: int, limit: int) -> int:
    """Drop events from before `until_ms` that every one of these webhooks has, but for disabled ones."""
    return eventlog.drop(connection, until_ms, places.furthest_drop(connection, webhooks), limit)
