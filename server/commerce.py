"""Puts the money parts of a node together: wallets, payouts, and the clerk who looks after what is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2
import trio

from server.access.service import Access
from server.config import Config
from server.money import books
from server.money.assets import Assets
from server.money.clerk import Clerk
from server.money.idempotency import forget_keys
from server.money.payouts import HttpProvider, Payouts
from server.money.quotes import FixedRates
from server.money.shows import Shows
from server.money.ticket_desk import TicketDesk
from server.money.usher import Usher
from server.money.wallets import Wallets
from server.store import Database
from server.web.money import money_routes
from server.web.ports import FindAccount
from server.web.routes import Route
from server.web.tickets import ticket_routes
from signalling.ports import Clock
from signalling.rooms import Rooms

AT_ONCE = 200  # expired holds in one transaction: a few milliseconds of the writer


@dataclass(frozen=True, slots=True)
class Commerce:
    """The parts that are running: their routes, and their counters by name."""

    wallets: Wallets
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


async def open_commerce(
    config: Config,
    store: Database,
    clock: Clock,
    find_account: FindAccount,
    rooms: Rooms,
    access: Access,
    nursery: trio.Nursery,
) -> Commerce:
    """Start what a node needs for money, on a store and rooms that run; returns when rooms know who has paid."""
    wall_ms = clock.wall_ms
    secrets = {provider.name: provider.secret for provider in config.payment_providers}
    assets = Assets(config.assets)
    wallets = Wallets(store, assets, secrets, wall_ms)
    payouts = _start_payouts(config, store, nursery)

    async def expire_holds(now_ms: int) -> int:
        return len(await store.write(books.expire_due, now_ms, AT_ONCE))

    async def forget_old_keys(now_ms: int) -> int:
        return await store.write(forget_keys, now_ms)

    usher = Usher(store, rooms, access, clock)
    await nursery.start(usher.run)
    rates = FixedRates(config.exchange, assets)
    shows = Shows(store, rooms, usher, assets, rates, config.money.fee_bps, wall_ms)
    tickets = TicketDesk(store, rooms, access, usher, shows, assets, wall_ms)
    duties = {"expired holds": expire_holds, "old keys": forget_old_keys, **shows.duties()}
    clerk = Clerk(duties, wall_ms)
    nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        total: Counter[str] = Counter()
        for part in (wallets, payouts, clerk, usher, shows, tickets):
            total.update(part.counters())
        return total

    routes = (*money_routes(wallets, find_account), *ticket_routes(tickets))
    return Commerce(wallets, routes, count)


def _start_payouts(config: Config, store: Database, nursery: trio.Nursery) -> Payouts:
    http = httpx2.AsyncClient()
    payouts = Payouts(store, {each.name: HttpProvider(each, http) for each in config.payment_providers})

    async def tell() -> None:
        async with http:
            await payouts.run()

    nursery.start_soon(tell)
    return payouts
