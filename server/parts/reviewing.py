"""Puts together what reviews: the desk, its duties, the routes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from server.access.service import Access
from server.config import Config
from server.database.store import Database
from server.money.assets import Assets
from server.money.clerk import Clerk
from server.money.one_to_one_desk import OneToOneDesk
from server.money.payments import Terms as PaymentTerms
from server.money.quotes import FixedRates, make_quote
from server.parts.commerce import Commerce
from server.review.deciding import Terms
from server.review.desk import ReviewDesk
from server.web.moderation import moderation_routes
from server.web.review import review_routes
from server.web.routes import Route
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Reviewing:
    """The parts that are running: the desk, its routes, and its counters by name."""

    desk: ReviewDesk
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


async def open_reviewing(
    config: Config,
    assets: Assets,
    store: Database,
    clock: Clock,
    rooms: Rooms,
    access: Access,
    commerce: Commerce,
    calls: OneToOneDesk,
    nudge: Callable[[], None],
    nursery: trio.Nursery,
) -> Reviewing:
    """Start the desk of reviews, on parts that run."""
    desk = ReviewDesk(
        store,
        clock,
        rooms,
        access,
        commerce.usher,
        calls,
        review_terms(config, assets),
        nudge,
        fee_bps=config.money.fee_bps,
        appeal_ms=config.review.appeal_days * DAY_MS,
    )
    await desk.recover()
    clerk = Clerk(desk.duties(), clock.wall_ms)
    nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        return {**desk.counters(), "review_duty_failures": clerk.failures}

    return Reviewing(desk, (*review_routes(desk), *moderation_routes(desk)), count)


def review_terms(config: Config, assets: Assets) -> Terms:
    """Return by what terms a node decides."""
    rates = FixedRates(config.exchange, assets)

    def find(asset: str, fee_bps: int, now_ms: int) -> PaymentTerms:
        target = assets.find(asset).settles_in
        if target == asset:
            return PaymentTerms(fee_bps)
        return PaymentTerms(
            fee_bps, make_quote(f"case.{secrets.token_hex(12)}", rates.rate(asset, target, now_ms), now_ms)
        )

    above = int(config.review.second_above)
    return Terms(find, {asset.code: above * 10**asset.scale for asset in assets})
