"""The money of a node with real rooms and without a network, over a database that may die at any step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trio
import trio.testing

from media.door import Media
from server.access.service import Access
from server.database.archive import StoredArchive
from server.events.feed import Feed
from server.money.amounts import Amount
from server.money.assets import Assets
from server.money.cashier import Cashier
from server.money.duties import duties
from server.money.one_to_one_desk import OneToOneDesk
from server.money.payouts import Payouts
from server.money.providers import Withdrawal
from server.money.quotes import DEFAULT_RATES, FixedRates
from server.money.shows import Shows
from server.money.ticket_desk import TicketDesk
from server.money.tip_jar import TipJar
from server.money.tips import House, TipsGiven
from server.money.usher import Usher
from server.money.wallets import Wallets
from server.tokens import Claims
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.rooms.rooms import Rooms
from tests.money.commands import deposit, do
from tests.money.mortal import MortalStore
from tests.money.provider_service import SECRET
from tests.money.test_tips import open_accounts
from tests.signalling.worlds import Client, SimulatedClock, SimulatedMedia

FEE_BPS = 1000
FUNDS = 100_000


def actor(name: str) -> Actor:
    """Return somebody by name, which is the id, too."""
    return Actor(AccountId(name), name)


def session(name: str) -> Claims:
    """Return the session of somebody who has just logged in on the web."""
    return Claims(actor(name), 2**52, 2**52)


async def fill(path: Path) -> None:
    """Make a database with accounts, and money in Bob's wallets."""
    store = MortalStore(path)
    store.migrate()
    await store.write(open_accounts, "ann", "bob")
    for asset in ("USD", "MESI"):
        await store.write(do, deposit("bob", FUNDS, asset))
    store.close()


class MortalMedia(SimulatedMedia):
    """Media whose fences are moments at which the process may die, too."""

    def __init__(self, store: MortalStore) -> None:
        super().__init__()
        self._store = store

    async def fence(self) -> None:
        await super().fence()
        self._store.step("after a fence")


class Shop:
    """A payment provider that takes everything; what it was asked is kept over crashes: it is not ours."""

    def __init__(self, store: MortalStore, asked: list[str]) -> None:
        self._store, self._asked = store, asked

    async def start_deposit(self, reference: str, account: str, amount: Amount) -> str:
        self._asked.append(reference)
        self._store.step("after the provider was asked")
        await trio.lowlevel.checkpoint()
        return f"https://shop/{reference}"

    async def pay_out(self, withdrawal: Withdrawal) -> None:
        self._asked.append(withdrawal.id)
        self._store.step("after the provider was told")
        await trio.lowlevel.checkpoint()


@dataclass
class SmallNode:
    """Parts that are running."""

    store: MortalStore
    media: MortalMedia
    rooms: Rooms
    access: Access
    tickets: TicketDesk
    jar: TipJar
    desk: OneToOneDesk
    cashier: Cashier
    wallets: Wallets
    payouts: Payouts
    usher: Usher
    due: Mapping[str, Callable[[int], Awaitable[int]]]
    clock: SimulatedClock

    def stream(self, owner: str = "ann") -> StreamId:
        """Return the stream that somebody has on."""
        stream = self.rooms.stream_of(AccountId(owner))
        assert stream is not None
        return stream

    async def come_in(self, name: str, owner: str = "ann") -> Client:
        """Have somebody follow a stream."""
        client = Client(self.rooms, actor(name))
        assert client.session is not None
        await self.rooms.join(client.session, self.stream(owner))
        return client

    async def tidy(self) -> None:
        """Do all that is due by now, as the clerk does in time."""
        while sum([await duty(self.clock.wall_ms()) for duty in self.due.values()]):
            pass
        await self.payouts.tell()


@asynccontextmanager
async def open_node(path: Path, dies_at: int, asked: list[str]) -> AsyncIterator[SmallNode]:
    """Open a node on a file like `server.node` does, recovery included; only then it begins to count its steps."""
    store = MortalStore(path)
    try:
        async with trio.open_nursery() as nursery:
            node = await _start(store, asked, nursery)
            await trio.testing.wait_all_tasks_blocked()
            store.count(dies_at)
            yield node
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def _start(store: MortalStore, asked: list[str], nursery: trio.Nursery) -> SmallNode:
    clock, assets, media = SimulatedClock(), Assets(), MortalMedia(store)
    access = Access(store, clock, tips=TipsGiven())
    await access.load()
    rooms = Rooms(cast(Media, media), StoredArchive(store), clock, access)
    await nursery.start(lambda task_status: rooms.run(task_status=task_status))
    await nursery.start(lambda task_status: access.run(rooms, task_status=task_status))
    desk = OneToOneDesk(
        store, rooms, clock, assets, FEE_BPS, confirm_s=60, judge=access.finding, require_proven=access.require_proven
    )
    await desk.recover()
    rooms.attend(desk)
    nursery.start_soon(desk.run)
    house = House(assets, FixedRates(DEFAULT_RATES, assets), FEE_BPS, 1000, 9000)
    wallets = Wallets(store, assets, {"shop": SECRET}, clock.wall_ms)
    shop = {"shop": Shop(store, asked)}
    feed = Feed(store, clock.wall_ms)
    await nursery.start(feed.run)
    usher = Usher(store, rooms, access, clock, feed.wait_beyond)
    await nursery.start(usher.run)
    shows = Shows(store, rooms, usher, assets, house.rates, FEE_BPS, clock.wall_ms)
    return SmallNode(
        store,
        media,
        rooms,
        access,
        TicketDesk(store, rooms, access, usher, shows, assets, wallets.keys, clock.wall_ms),
        TipJar(store, house, wallets.keys, access, rooms, clock.wall_ms),
        desk,
        Cashier(store, assets, wallets.keys, shop, clock.wall_ms),
        wallets,
        Payouts(store, shop),
        usher,
        {**duties(store), **shows.duties()},
        clock,
    )
