"""Puts the money parts of a node together: wallets, payouts, and the clerk who looks after what is due."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2
import trio

from server.access.service import Access
from server.config import Config
from server.money import books, debts, offers
from server.money.assets import Assets
from server.money.cashier import Cashier
from server.money.clerk import Clerk
from server.money.idempotency import forget_keys
from server.money.payouts import HttpProvider, Payouts
from server.money.quotes import FixedRates
from server.money.tip_jar import TipJar
from server.money.tips import House
from server.money.wallets import Wallets
from server.store import Database
from server.web.money import money_routes
from server.web.ports import FindAccount
from server.web.routes import Route
from server.web.tip_links import tip_link_routes
from server.web.tips import tip_routes
from server.web.wallet import wallet_routes
from signalling.rooms import Rooms

AT_ONCE = 200  # expired holds in one transaction: a few milliseconds of the writer


@dataclass(frozen=True, slots=True)
class Commerce:
    """The parts that are running: their routes, and their counters by name."""

    wallets: Wallets
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


def open_commerce(
    config: Config,
    store: Database,
    wall_ms: Callable[[], int],
    find_account: FindAccount,
    access: Access,
    rooms: Rooms,
    nursery: trio.Nursery,
) -> Commerce:
    """Start what a node needs for money, on a store that runs."""
    secrets = {provider.name: provider.secret for provider in config.payment_providers}
    assets = Assets(config.assets)
    wallets = Wallets(store, assets, secrets, wall_ms)
    jar = TipJar(store, _house(config, assets), wallets.keys, access, rooms, wall_ms)
    http = httpx2.AsyncClient()
    known = {each.name: HttpProvider(each, http) for each in config.payment_providers}
    payouts = Payouts(store, known)
    nursery.start_soon(_tell_payouts, payouts, http)
    cashier = Cashier(store, assets, wallets.keys, known, wall_ms)

    async def expire_holds(now_ms: int) -> int:
        return len(await store.write(books.expire_due, now_ms, AT_ONCE))

    async def forget_old_keys(now_ms: int) -> int:
        return await store.write(forget_keys, now_ms)

    async def settle_debts(now_ms: int) -> int:
        return await store.write(debts.settle_due, now_ms, AT_ONCE)

    async def forget_offers(now_ms: int) -> int:
        return await store.write(offers.forget, now_ms)

    duties = {"expired holds": expire_holds, "old keys": forget_old_keys}
    duties |= {"debts": settle_debts, "old offers": forget_offers}
    clerk = Clerk(duties, wall_ms)
    nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        return {**wallets.counters(), **payouts.counters(), **clerk.counters(), **jar.counters(), **cashier.counters()}

    routes = [
        *money_routes(wallets, find_account),
        *tip_routes(jar, assets),
        *wallet_routes(cashier),
        *tip_link_routes(store, assets, wall_ms),
    ]
    return Commerce(wallets, tuple(routes), count)


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
