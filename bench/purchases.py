"""`python -m bench.purchases`: how many tickets a second are bought, each durable when it is answered.

A purchase is what the API does for one: an idempotency key, a seat, the payment into the sale's escrow, the event, in
one durable transaction. Beside it runs a bare group-commit loop on the same disk: as many tasks write the rows of a
purchase through the same writer thread (synchronous=FULL, a guarded debit, unique keys) with no rules, no checks of
requests and no event. With --http, people buy from a real server instead (bench/purchases_http.py).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import sqlalchemy as sa
import trio

from bench.outputs import Outputs, with_outputs
from bench.plots import Bars
from bench.purchases_http import Bought, measure_http
from bench.report import Report
from server import garbage
from server.database.store import Store
from server.money import audit, books, box_office
from server.money.amounts import Amount, wire_amount
from server.money.box_office import Purchase
from server.money.idempotency import Idempotent, read_request_untrusted
from server.money.ledger import Account, Kind, Leg, Move
from server.money.payments import wallet
from server.money.ticket_desk import SELL
from server.money.ticket_rows import name_ticket
from server.money.tickets import MAX_QUANTITY, Sale
from server.money.till import Wish

PRICE = Amount("USD", 500)
SEEN = {"price_seen": wire_amount(PRICE)}
FUNDS = 10**12
FASTEST = 20_000  # purchases per second for which there are sales
SCHEMA = (
    "CREATE TABLE bare_accounts (id TEXT PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0))",
    "CREATE TABLE bare_entries (id INTEGER PRIMARY KEY, transfer TEXT, account TEXT, units INTEGER NOT NULL)",
    "CREATE TABLE bare_keys (key TEXT PRIMARY KEY, answer TEXT NOT NULL)",
    "CREATE TABLE bare_tickets (id INTEGER PRIMARY KEY, sale TEXT, account TEXT, key TEXT NOT NULL UNIQUE)",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """How a run went: purchases per second, and how long they took."""

    per_s: float
    p50_ms: float
    p99_ms: float


def prepare(connection: sa.Connection, sales: int, buyers: int) -> None:
    """Fill the wallets and open sales enough for the fastest machine."""
    for number in range(buyers):
        legs = (Leg(Account("bench", Kind.PROVIDER, "USD"), wallet(f"buyer{number}", "USD"), FUNDS),)
        books.apply(connection, Move(f"deposit{number}", "deposit", legs), 0)
    for number in range(sales):
        sale = Sale(f"sale{number}", f"stream{number}", "streamer", PRICE, MAX_QUANTITY, opens_at=0)
        box_office.open_sale(connection, sale, 0)


async def measure(folder: Path, buyers: int, seconds: float) -> Measured:
    """Let `buyers` buy one ticket after the other, each of another sale, as an account has one ticket of each."""
    async with open_store(folder / "mesi.sqlite") as store:
        await store.write(prepare, int(FASTEST * seconds / buyers) + 100, buyers)
        keys = Idempotent(store)

        async def buy(number: int, turn: int) -> None:
            name, sale, now_ms = f"buyer{number}", f"sale{turn}", time.time_ns() // 1_000_000
            purchase = Purchase(sale, name_ticket(now_ms), name, PRICE)
            body = msgspec.json.encode(SEEN)
            request = read_request_untrusted(name, f"POST /sales/{sale}/tickets", f"{name}-{turn}", body)
            await keys.write_each(request, now_ms, SELL, Wish(purchase, now_ms))

        measured = await _crowd(buy, buyers, seconds)
        flaws = await store.read(audit.check, 0)
        assert not flaws, flaws
        return measured


async def measure_bare(folder: Path, buyers: int, seconds: float) -> Measured:
    """Let as many tasks write the bare rows of purchases."""
    async with open_store(folder / "bare.sqlite") as store:
        await store.write(_prepare_bare, buyers)

        async def buy(number: int, turn: int) -> None:
            await store.write(_buy_bare, f"buyer{number}", f"{number}-{turn}")

        return await _crowd(buy, buyers, seconds)


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """Give a store that runs."""
    async with trio.open_nursery() as nursery:
        store = Store(path)
        await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


async def _crowd(buy: Callable[[int, int], Awaitable[None]], buyers: int, seconds: float) -> Measured:
    took: list[float] = []
    start = time.perf_counter()

    async def buyer(number: int) -> None:
        turn = 0
        began = time.perf_counter()
        while began - start < seconds:
            await buy(number, turn)
            now = time.perf_counter()
            took.append(now - began)
            began, turn = now, turn + 1

    async with trio.open_nursery() as crowd:
        for number in range(buyers):
            crowd.start_soon(buyer, number)
    took.sort()
    rate = len(took) / (time.perf_counter() - start)
    return Measured(rate, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3)


def _prepare_bare(connection: sa.Connection, buyers: int) -> None:
    driver: Any = connection.connection.driver_connection
    for statement in SCHEMA:
        driver.execute(statement)
    driver.executemany("INSERT INTO bare_accounts VALUES (?, ?)", [(f"buyer{n}", FUNDS) for n in range(buyers)])
    driver.execute("INSERT INTO bare_accounts VALUES ('escrow', 0)")


def _buy_bare(connection: sa.Connection, buyer: str, key: str) -> None:
    driver: Any = connection.connection.driver_connection
    execute = driver.execute
    assert execute("SELECT answer FROM bare_keys WHERE key = ?", (key,)).fetchone() is None
    execute("UPDATE bare_accounts SET balance = balance - 500 WHERE id = ? AND balance >= 500", (buyer,))
    execute("UPDATE bare_accounts SET balance = balance + 500 WHERE id = 'escrow'")
    execute("INSERT INTO bare_entries (transfer, account, units) VALUES (?, ?, -500)", (key, buyer))
    execute("INSERT INTO bare_entries (transfer, account, units) VALUES (?, 'escrow', 500)", (key,))
    execute("INSERT INTO bare_tickets (sale, account, key) VALUES ('sale', ?, ?)", (buyer, key))
    execute("INSERT INTO bare_keys VALUES (?, 'sold')", (key,))


def describe(runs: dict[str, Measured | Bought], title: str) -> Report:
    """Put one or both into a report."""
    report = Report(title)
    for name, run in runs.items():
        report.add(f"{name}: a second", run.per_s)
        report.add(f"{name}: answered p50", run.p50_ms, "ms")
        report.add(f"{name}: answered p99", run.p99_ms, "ms")
        if isinstance(run, Bought):
            report.add(f"{name}: server CPU for one", run.cpu_us, "us")
    report.draw(Bars(f"{title}: a second", "", [(name, run.per_s) for name, run in runs.items()]))
    return report


@click.command()
@click.option("--seconds", default=5.0, show_default=True)
@click.option("--buyers", default=64, show_default=True)
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="On the disk to measure [default: temporary].")
@click.option("--http", is_flag=True, help="Buy over HTTP from a server on one core.")
@with_outputs
def main(seconds: float, buyers: int, folder: Path | None, http: bool, outputs: Outputs) -> None:
    """Measure purchases beside a bare loop of commits, or over HTTP."""
    runs: dict[str, Measured | Bought] = {}
    if http:
        runs["over HTTP"] = trio.run(measure_http, buyers, seconds)
        outputs.deliver(describe(runs, f"Tickets bought over HTTP on {buyers} connections"))
        return
    garbage.keep_what_is_there()  # as a server does once it has started
    with tempfile.TemporaryDirectory(dir=folder) as place:
        runs["bare loop"] = bare = trio.run(measure_bare, Path(place), buyers, seconds)
        runs["purchases"] = ours = trio.run(measure, Path(place), buyers, seconds)
    report = describe(runs, f"Tickets bought by {buyers} buyers")
    report.add("bare loop / purchases", bare.per_s / ours.per_s, "x")
    outputs.deliver(report)


if __name__ == "__main__":
    main()
