"""Puts the messenger of a node together: what people write, the duties, the routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from server.database.store import Database
from server.events.feed import Feed
from server.money.clerk import Clerk
from server.talk import belonging, keeping
from server.talk.messenger import Messenger
from server.talk.pace import Paces
from server.talk.settings import Messages
from server.web.conversations import conversation_routes
from server.web.messages import message_routes
from server.web.routes import Route
from signalling.messenger.quotas import Quotas
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms

AT_ONCE = 500  # old messages in one transaction: some milliseconds of the writer


@dataclass(frozen=True, slots=True)
class Conversing:
    """The parts that are running: the messenger and its paces, its routes, and its counters by name."""

    messenger: Messenger
    paces: Paces
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


def open_conversing(
    settings: Messages, store: Database, clock: Clock, rooms: Rooms, feed: Feed, nursery: trio.Nursery
) -> Conversing:
    """Start the messenger, on a store and rooms that run."""
    quotas = Quotas.of((quota.tier, quota.per_day) for quota in settings.quotas)
    paces = Paces(settings.per_s, settings.burst)
    messenger = Messenger(store, clock, rooms, quotas, paces, feed)
    rooms.talk_through(messenger)
    nursery.start_soon(messenger.run)

    async def drop_old(now_ms: int) -> int:
        return await store.write(keeping.drop_old, now_ms, AT_ONCE)

    async def succeed(now_ms: int) -> int:
        return await store.write(belonging.succeed_suspended, now_ms, AT_ONCE)

    dropper = Clerk({"old messages": drop_old}, clock.wall_ms)
    successor = Clerk({"groups without an owner": succeed}, clock.wall_ms)
    for clerk in (dropper, successor):
        nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        failures = dropper.failures + successor.failures
        return {**messenger.counters(), "messages_dropped": dropper.done, "message_duty_failures": failures}

    return Conversing(messenger, paces, (*conversation_routes(messenger), *message_routes(messenger)), count)
