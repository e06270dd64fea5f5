"""Measures ticket purchases: `python -m bench.purchases [--seconds 5] [--buyers 64] [--dir DIR]`.

A purchase is what the API does for one: an idempotency key, a seat, the payment into the sale's escrow, the event, in
one durable transaction. Beside it runs a bare loop on the same disk: the plain sqlite3 module, as many purchases in a
commit as there are buyers, with the same guarantees (synchronous=FULL, a guarded debit, unique keys) and no rules.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import sqlalchemy as sa
import trio

from server.money import audit, books, box_office
from server.money.amounts import Amount, wire_amount
from server.money.box_office import Purchase
from server.money.idempotency import Answered, Idempotent, read_request_untrusted
from server.money.ledger import Account, Kind, Leg, Move
from server.money.payments import wallet
from server.money.tickets import MAX_QUANTITY, Sale
from server.store import Store

PRICE = Amount("USD", 500)
FUNDS = 10**12
SCHEMA = """
CREATE TABLE accounts (id TEXT PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0));
CREATE TABLE entries (id INTEGER PRIMARY KEY, transfer TEXT NOT NULL, account TEXT NOT NULL, units INTEGER NOT NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY, answer TEXT NOT NULL);
CREATE TABLE tickets (id INTEGER PRIMARY KEY, sale TEXT NOT NULL, account TEXT NOT NULL, key TEXT NOT NULL UNIQUE);
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a run went: purchases per second, and how long they took."""

    per_s: float
    p50_ms: float
    p99_ms: float


def sell(connection: sa.Connection, purchase: Purchase, now_ms: int) -> Answered:
    """Do what the API does for a purchase."""
    ticket = box_office.buy(connection, purchase, now_ms)
    body = {"ticket": ticket.id, "state": ticket.state.value, "price": wire_amount(ticket.price)}
    return Answered(201, msgspec.json.encode(body))


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
    async with trio.open_nursery() as nursery:
        store = Store(folder / "mesi.sqlite")
        await nursery.start(store.run)
        sales = int(4000 * seconds / buyers) + 100
        await store.write(prepare, sales, buyers)
        keys = Idempotent(store)
        took: list[float] = []
        start = time.perf_counter()

        async def buyer(number: int) -> None:
            for turn in range(sales):
                began = time.perf_counter()
                if began - start > seconds:
                    return
                name = f"buyer{number}"
                purchase = Purchase(f"sale{turn}", f"{name}-{turn}", name, PRICE)
                body = msgspec.json.encode(purchase)
                request = read_request_untrusted(name, "POST /sales/{sale}/tickets", purchase.ticket, body)
                await keys.write(request, turn, sell, purchase, turn)
                took.append(time.perf_counter() - began)

        async with trio.open_nursery() as crowd:
            for number in range(buyers):
                crowd.start_soon(buyer, number)
        elapsed = time.perf_counter() - start
        flaws = await store.read(audit.check, 0)
        nursery.cancel_scope.cancel()
    assert not flaws, flaws
    return _summary(took, elapsed)


def measure_bare(folder: Path, buyers: int, seconds: float) -> Measured:
    """Commit `buyers` purchases at a time, with sqlite3 alone."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None, cached_statements=64)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(SCHEMA)
    connection.executemany("INSERT INTO accounts VALUES (?, ?)", [(f"buyer{n}", FUNDS) for n in range(buyers)])
    connection.execute("INSERT INTO accounts VALUES ('escrow', 0)")
    took: list[float] = []
    start = began = time.perf_counter()
    turn = 0
    while began - start < seconds:
        connection.execute("BEGIN IMMEDIATE")
        for number in range(buyers):
            _bare_purchase(connection.execute, f"buyer{number}", f"{number}-{turn}")
        connection.execute("COMMIT")
        turn += 1
        now = time.perf_counter()
        took += [now - began] * buyers
        began = now
    elapsed = time.perf_counter() - start
    connection.close()
    return _summary(took, elapsed)


def _bare_purchase(execute: Callable[..., sqlite3.Cursor], buyer: str, key: str) -> None:
    execute("SAVEPOINT one")
    assert execute("SELECT answer FROM keys WHERE key = ?", (key,)).fetchone() is None
    execute("UPDATE accounts SET balance = balance - 500 WHERE id = ? AND balance >= 500", (buyer,))
    execute("UPDATE accounts SET balance = balance + 500 WHERE id = 'escrow'")
    execute("INSERT INTO entries (transfer, account, units) VALUES (?, ?, -500)", (key, buyer))
    execute("INSERT INTO entries (transfer, account, units) VALUES (?, 'escrow', 500)", (key,))
    execute("INSERT INTO tickets (sale, account, key) VALUES ('sale', ?, ?)", (buyer, key))
    execute("INSERT INTO keys VALUES (?, 'sold')", (key,))
    execute("RELEASE one")


def _summary(took: list[float], elapsed: float) -> Measured:
    took.sort()
    return Measured(len(took) / elapsed, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3)


def main() -> None:
    """Measure both and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--buyers", type=int, default=64)
    parser.add_argument("--dir", type=Path, help="a directory on the disk to measure [default: a temporary one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        bare = measure_bare(Path(folder), options.buyers, options.seconds)
        ours = trio.run(measure, Path(folder), options.buyers, options.seconds)
    for name, run in (("bare loop", bare), ("purchases", ours)):
        print(f"{name}  {run.per_s:7.0f}/s   p50 {run.p50_ms:6.1f} ms   p99 {run.p99_ms:6.1f} ms")
    print(f"{options.buyers} buyers; the bare loop is {bare.per_s / ours.per_s:.1f} times as fast")


if __name__ == "__main__":
    main()
