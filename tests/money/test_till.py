"""Tickets sold to many at once: to each as if he had come alone, in both databases."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
import trio

from server.database.store import Database
from server.money import audit, books, box_office, ticket_reports
from server.money.amounts import Amount
from server.money.box_office import Purchase
from server.money.idempotency import Answered, Asking, Idempotent, Outcome, read_request_untrusted
from server.money.ledger import Reverse
from server.money.payments import wallet
from server.money.ticket_desk import SELL
from server.money.tickets import Change, Sale, TicketState
from server.money.till import Wish
from signalling.refusals import Refused
from tests.money.commands import deposit, do, give
from tests.money.databases import AnyStore, running

PRICE = Amount("USD", 500)
BUYERS = [f"buyer{number:02}" for number in range(40)]
DEBTORS = BUYERS[36:]
SALES = {"cheap": 300, "small": 500, "large": 500}
SEATS = {"cheap": 60, "small": 10, "large": 60}
TABLES = [
    "sales",
    "tickets",
    "transfers",
    "entries",
    "balances",
    "open_holds",
    "idempotency_keys",
    "event_log",
    "event_audience",
]
# Everything that may become of somebody who wants a ticket.
OUTCOMES = {
    "sold",
    "again",
    "sale_unknown",
    "own_ticket",
    "price_changed",
    "sold_out",
    "ticket_exists",
    "insufficient_funds",
    "in_debt",
    "idempotency_mismatch",
}


def asking(sale: str, buyer: str, ticket: str, key: str = "once", units: int = 500, now_ms: int = 1) -> Asking[Wish]:
    body = msgspec.json.encode({"units": units})
    request = read_request_untrusted(buyer, f"POST /sales/{sale}/tickets", key, body)
    return Asking(request, now_ms, Wish(Purchase(sale, ticket, buyer, Amount("USD", units)), now_ms))


def prepare(connection: sa.Connection) -> None:
    """Open the sales; some buyers can pay for everything, others for little, and some owe what they have spent."""
    for sale, units in SALES.items():
        box_office.open_sale(connection, Sale(sale, sale, "buyer00", Amount("USD", units), SEATS[sale], 0), 0)
    for number, buyer in enumerate(BUYERS):
        do(connection, deposit(buyer, 700 if number % 4 == 1 else 5000))
    for debtor in DEBTORS:
        do(connection, deposit(debtor, 5100, identifier=f"bounced.{debtor}"))
        do(connection, give(debtor, "heir", books.balance(connection, wallet(debtor, "USD")) - 100, debtor))
        do(connection, Reverse(f"bounced.{debtor}"))
        do(connection, deposit(debtor, 2000, identifier=f"later.{debtor}"))


def rows(connection: sa.Connection) -> dict[str, list[tuple[object, ...]]]:
    found = {table: connection.execute(sa.text(f"SELECT * FROM {table}")).fetchall() for table in TABLES}
    return {table: sorted(map(tuple, there), key=repr) for table, there in found.items()}


def one_by_one(connection: sa.Connection, asked: list[Asking[Wish]]) -> list[Outcome]:
    """Serve each alone; who had a seat reserved after the others, as the till does."""
    outcomes: dict[int, Outcome] = {}
    for index in sorted(range(len(asked)), key=lambda index: is_reserved(connection, asked[index])):
        try:
            with connection.begin_nested():
                (outcomes[index],) = SELL(connection, [asked[index]])
        except Refused as refused:
            outcomes[index] = refused
    return [outcomes[index] for index in range(len(asked))]


def is_reserved(connection: sa.Connection, asked: Asking[Wish]) -> bool:
    there = ticket_reports.ticket_of(connection, asked.wish.purchase.sale, asked.request.account)
    return there is not None and there.state is TicketState.RESERVED


def say(outcome: Outcome) -> tuple[object, ...]:
    if isinstance(outcome, Refused):
        return outcome.code, str(outcome), outcome.extra
    assert isinstance(outcome, Answered)
    return outcome.status, outcome.body, outcome.replayed


def crowd(chance: random.Random, turn: int) -> list[Asking[Wish]]:
    """Return what a few want at the same time, each with a key of his own."""
    asked: dict[tuple[str, str, str], Asking[Wish]] = {}
    for number in range(chance.randint(2, 30)):
        sale = chance.choice([*SALES, "small", "none"] if turn else ["small", "large"])
        key = chance.choice(["once", "once", f"{turn}.{number}"])
        units = chance.choice([500] * 4 + [499, 600])
        each = asking(sale, chance.choice(BUYERS), f"t{turn}.{number}", key, units, turn)
        asked.setdefault((each.request.account, sale, key), each)
    return list(asked.values())


@pytest.mark.parametrize("seed", range(2))
async def test_a_crowd_served_at_once_leaves_the_very_rows_of_one_served_one_by_one(tmp_path: Path, seed: int) -> None:
    chance, seen = random.Random(seed), Counter[str]()
    async with running(tmp_path / "at_once") as at_once, running(tmp_path / "alone") as alone:
        for store in (at_once, alone):
            await store.write(prepare)
        for turn in range(20):
            buyer, sale = chance.choice(BUYERS[2:36]), chance.choice(["small", "large"])
            for store in (at_once, alone):
                await reserve(store, sale, buyer, f"r{turn}")
                if turn == 6:
                    await store.write(box_office.change, "cheap", Change(price=501), turn)
            asked = crowd(chance, turn)
            together, apart = await at_once.write(SELL, asked), await alone.write(one_by_one, asked)
            assert [say(outcome) for outcome in together] == [say(outcome) for outcome in apart]
            if turn % 4 == 3:
                assert await at_once.read(rows) == await alone.read(rows)
            for outcome in together:
                again = isinstance(outcome, Answered) and outcome.replayed
                seen[outcome.code if isinstance(outcome, Refused) else "again" if again else "sold"] += 1
        assert await at_once.read(audit.check, 0) == []
    assert set(seen) >= OUTCOMES


async def reserve(store: Database, sale: str, buyer: str, ticket: str) -> None:
    with contextlib.suppress(Refused):
        await store.write(box_office.reserve, Purchase(sale, ticket, buyer, PRICE), 0)


async def test_of_more_who_come_at_once_than_seats_as_many_are_charged_as_are_seated(store: AnyStore) -> None:
    await store.write(prepare)
    keys, outcomes = Idempotent(store), Counter[str]()

    async def attempt(buyer: str) -> None:
        asked = asking("small", buyer, f"t-{buyer}")
        try:
            answered = await keys.write_each(asked.request, 1, SELL, asked.wish)
            outcomes[msgspec.json.decode(answered.body)["state"]] += 1
        except Refused as refused:
            outcomes[refused.code] += 1

    async with trio.open_nursery() as nursery:
        for buyer in BUYERS[2:36]:
            nursery.start_soon(attempt, buyer)
    assert outcomes == {"sold": 10, "sold_out": 24}
    holders = await store.read(ticket_reports.in_state, "small", TicketState.SOLD)
    assert len(holders) == 10
    assert await store.read(books.balance, box_office.escrow(Sale("small", "", "", PRICE, 1, 0))) == 5000
    assert await store.read(audit.check, 0) == []


async def test_who_brings_the_name_of_another_s_transfer_is_refused_alone(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as store:
        await store.write(prepare)
        await store.write(do, deposit("somebody", 1, identifier="ticket.t3"))
        keys, outcomes = Idempotent(store), dict[int, str]()

        async def attempt(number: int) -> None:
            asked = asking("large", BUYERS[number * 4 + 2], f"t{number}")
            try:
                outcomes[number] = str((await keys.write_each(asked.request, 1, SELL, asked.wish)).status)
            except Refused as refused:
                outcomes[number] = refused.code

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(attempt, number)
        assert outcomes == {number: "transfer_exists" if number == 3 else "201" for number in range(8)}
        assert await store.read(books.balance, wallet(BUYERS[14], "USD")) == 5000
        assert await store.read(audit.check, 0) == []


async def test_one_key_that_comes_twice_at_once_buys_once(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as store:
        await store.write(prepare)
        first, second = (asking("large", "buyer02", ticket) for ticket in ("t1", "t2"))
        bought, refused = await store.write(SELL, [first, second])
        assert isinstance(bought, Answered)
        assert isinstance(refused, Refused)
        assert refused.code == "idempotency_in_flight"
        (again,) = await store.write(SELL, [second])
        assert isinstance(again, Answered)
        assert (again.body, again.replayed) == (bought.body, True)
        assert await store.read(books.balance, wallet("buyer02", "USD")) == 4500
