"""Puts paid chats of a node together: the desk, its duty, the routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from server.bids.desk import BidDesk
from server.database.store import Database
from server.events.feed import Feed
from server.money.assets import Assets
from server.money.clerk import Clerk
from server.talk.pace import Paces
from server.web.bids import bid_routes
from server.web.routes import Route
from signalling.ports import Clock


@dataclass(frozen=True, slots=True)
class Bids:
    """The parts that are running: the routes, and counters by name."""

    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


def open_bids(
    store: Database, clock: Clock, assets: Assets, fee_bps: int, paces: Paces, feed: Feed, nursery: trio.Nursery
) -> Bids:
    """Begin to take requests for paid chats, on a store that runs."""
    desk = BidDesk(store, assets, paces, fee_bps, clock.wall_ms, feed.nudge)
    clerk = Clerk(desk.duties(), clock.wall_ms)
    nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        return {**desk.counters(), "bid_duty_failures": clerk.failures}

    return Bids(tuple(bid_routes(desk, assets)), count)
