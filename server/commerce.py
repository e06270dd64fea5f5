"""Puts the money parts of a node together: wallets, payouts, and the clerk who looks after what is due."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2
import trio

from server.config import Config
from server.money import books
from server.money.assets import Assets
from server.money.clerk import Clerk, Duty
from server.money.idempotency import forget_keys
from server.money.payouts import HttpProvider, Payouts
from server.money.wallets import Wallets
from server.store import Database
from server.web.money import money_routes
from server.web.ports import FindAccount
from server.web.routes import Route

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
    nursery: trio.Nursery,
    duties: Mapping[str, Duty],
) -> Commerce:
    """Start what a node needs for money, on a store that runs; its clerk does the `duties` of others, too."""
    secrets = {provider.name: provider.secret for provider in config.payment_providers}
    wallets = Wallets(store, Assets(config.assets), secrets, wall_ms)
    payouts = _start_payouts(config, store, nursery)

    async def expire_holds(now_ms: int) -> int:
        return len(await store.write(books.expire_due, now_ms, AT_ONCE))

    async def forget_old_keys(now_ms: int) -> int:
        return await store.write(forget_keys, now_ms)

    clerk = Clerk({"expired holds": expire_holds, "old keys": forget_old_keys, **duties}, wall_ms)
    nursery.start_soon(clerk.run)

    def count() -> dict[str, int]:
        return {**wallets.counters(), **payouts.counters(), **clerk.counters()}

    return Commerce(wallets, tuple(money_routes(wallets, find_account)), count)


def _start_payouts(config: Config, store: Database, nursery: trio.Nursery) -> Payouts:
    http = httpx2.AsyncClient()
    payouts = Payouts(store, {each.name: HttpProvider(each, http) for each in config.payment_providers})

    async def tell() -> None:
        async with http:
            await payouts.run()

    nursery.start_soon(tell)
    return payouts
