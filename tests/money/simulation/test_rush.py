"""Ten thousand people, a hundred seats: whatever they do, each pays for the seat that he has and for nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from server.database.store import Database
from server.money import audit, books, box_office
from server.money.amounts import split
from server.money.payments import wallet
from tests.money.databases import running
from tests.money.simulation.rush import EXPECTED, FUNDS, SALE, Rush

DONE = {"buy", "send_again", "reserve", "wait", "take_offer", "pay", "give_up", "run_out", "refund"}
DONE |= {"change_price", "change_quantity"}
BUYERS = 10_000
AT_ONCE = 1000  # buyers between two looks at all the books


def tickets(connection: sa.Connection) -> dict[str, str]:
    """Return the state of every ticket."""
    rows = connection.execute(sa.text("SELECT id, state FROM tickets"))
    return {row[0]: row[1] for row in rows}


def left(connection: sa.Connection) -> dict[str, int]:
    """Return what is in each wallet."""
    rows = connection.execute(sa.text("SELECT owner, units FROM balances WHERE kind = 'wallet'"))
    return {row[0]: int(row[1]) for row in rows}


async def is_right(store: Database, rush: Rush) -> None:
    """The books are right, and agree with what everybody was told."""
    assert await store.read(audit.check, 0) == []
    states = await store.read(tickets)
    assert {name for name, state in states.items() if state in ("sold", "refunded")} == rush.paid.keys()
    assert {name for name, state in states.items() if state == "refunded"} == rush.back.keys()
    assert all(units <= rush.paid[name] for name, units in rush.back.items())
    spent: Counter[str] = Counter()
    for name, units in rush.paid.items():
        spent[rush.owner[name]] += units - rush.back.get(name, 0)
    wallets = await store.read(left)
    for number, buyer in enumerate(rush.buyers):
        assert wallets[buyer] == (FUNDS if number % 10 else 100) - spent[buyer]


@pytest.mark.parametrize(("seed", "delivered"), [(1, True), (2, False)], ids=["delivered", "cancelled"])
async def test_in_a_rush_for_few_seats_each_pays_for_the_seat_he_has(
    tmp_path: Path, seed: int, *, delivered: bool
) -> None:
    rush = Rush(seed, BUYERS if delivered else BUYERS // 5)
    async with running(tmp_path / "mesi.sqlite") as store:
        await store.write(rush.open)
        for start in range(0, len(rush.buyers), AT_ONCE):
            await store.write(rush.play, rush.buyers[start : start + AT_ONCE])
            await is_right(store, rush)
        taken = sum(rush.paid.values()) - sum(rush.back.values())
        assert await store.read(books.balance, box_office.escrow(SALE)) == taken > 0
        await store.write(lambda connection: rush.end(connection, delivered=delivered))
        await is_right(store, rush)
        assert await store.read(books.balance, box_office.escrow(SALE)) == 0
        earned = await store.read(books.balance, wallet(SALE.seller, "USD"))
        assert earned == (split(taken, [9, 1])[0] if delivered else 0)
    assert set(rush.outcomes) - EXPECTED == DONE
