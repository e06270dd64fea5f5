"""Puts the money parts of a node together: wallets, payouts, and the clerk who looks after what is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2
import trio

from server.access.service import Access
from server.config import Config
from server.database.store import Database
from server.money.assets import Assets
from server.money.cashier import Cashier
from server.money.clerk import Clerk
from server.money.duties import duties
from server.money.payouts import HttpProvider, Payouts
from server.money.quotes import FixedRates
from server.money.shows import Shows
from server.money.ticket_desk import TicketDesk
from server.money.tip_jar import TipJar
from server.money.tips import House
from server.money.usher import Usher, WaitBeyond
from server.money.wallets import Wallets
from server.web.goals import goal_routes
from server.web.money import money_routes
from server.web.ports import FindAccount
from server.web.routes import Route
from server.web.tickets import ticket_routes
from server.web.tip_links import tip_link_routes
from server.web.tips import tip_routes
from server.web.wallet import wallet_routes
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Commerce:
    """The parts that are running: their routes, and their counters by name."""

    usher: Usher
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


async def open_commerce(
    config: Config,
    assets: Assets,
    store: Database,
    clock: Clock,
    find_account: FindAccount,
    rooms: Rooms,
    access: Access,
    wait_beyond: WaitBeyond,
    nursery: trio.Nursery,
) -> Commerce:
    """Start what a node needs for money, on a store and rooms that run; returns when rooms know who has paid."""
    wall_ms = clock.wall_ms
    secrets = {provider.name: provider.secret for provider in config.payment_providers}
    house = _house(config, assets)
    wallets = Wallets(store, assets, secrets, wall_ms)
    http = httpx2.AsyncClient()
    known = {each.name: HttpProvider(each, http) for each in config.payment_providers}
    payouts = Payouts(store, known)
    nursery.start_soon(_tell_payouts, payouts, http)
    cashier = Cashier(store, assets, wallets.keys, known, wall_ms)
    jar = TipJar(store, house, wallets.keys, access, rooms, wall_ms)
    usher = Usher(store, rooms, access, clock, wait_beyond)
    await nursery.start(usher.run)
    shows = Shows(store, rooms, usher, assets, house.rates, house.fee_bps, wall_ms)
    tickets = TicketDesk(store, rooms, access, usher, shows, assets, wallets.keys, wall_ms)
    clerk = Clerk({**duties(store), **shows.duties()}, wall_ms)
    nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        total: Counter[str] = Counter()
        for part in (wallets, payouts, cashier, jar, usher, shows, tickets, clerk):
            total.update(part.counters())
        return total

    routes = (
        *money_routes(wallets, find_account),
        *wallet_routes(cashier),
        *tip_routes(jar, assets),
        *tip_link_routes(store, assets, wall_ms),
        *goal_routes(store, assets, wall_ms),
        *ticket_routes(tickets),
    )
    return Commerce(usher, routes, count)


def _house(config: Config, assets: Assets) -> House:
    money = config.money
    return House(
        assets,
        FixedRates(config.exchange, assets),
        money.fee_bps,
        money.withdraw_after_s * 1000,
        money.withdraw_large_after_s * 1000,
    )


async def _tell_payouts(payouts: Payouts, http: httpx2.AsyncClient) -> None:
    async with http:
        await payouts.run()
