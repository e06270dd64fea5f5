"""A box office killed in the middle of a rush: who was told of a ticket has it, and nobody paid for none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
import trio

from server.database.store import Database
from server.money import audit, books, ticket_reports
from server.money.idempotency import Idempotent
from server.money.payments import wallet
from server.money.tickets import TicketState
from signalling.refusals import Refused
from tests.money.buyers import BUYERS, FUNDS, PRICE, SEATS, buy, sale_id
from tests.money.databases import running

CRASHES = int(os.environ.get("MESI_CRASHES", "5"))  # a different moment each; more of them on demand
MOST_SAID = 900  # purchases before the end comes: from the first group to about the fifteenth sale

Told = dict[tuple[str, int], bytes]  # the answer by buyer and turn


def told_before_the_end(path: Path, moment: random.Random) -> Told:
    """Let buyers rush, kill them at some moment; returns what they were told by then."""
    process = subprocess.Popen([sys.executable, "-m", "tests.money.buyers", str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as pipe:
        said = [pipe.readline() for _ in range(moment.randint(1, MOST_SAID))]
        # Right after an answer, which would show one that came too early, or somewhere in the next group.
        time.sleep(moment.choice([0, 0, moment.uniform(0, 0.02)]))
        os.kill(process.pid, signal.SIGKILL)
        said += pipe.readlines()
    assert process.wait() == -signal.SIGKILL
    told = {}
    for line in said:
        turn, buyer, answer = line.rstrip(b"\n").split(b" ", 2)
        told[buyer.decode(), int(turn)] = answer
    return told


def spent_and_held(connection: sa.Connection) -> tuple[dict[str, int], Counter[str]]:
    """Return what each buyer is short of, and how many tickets each has."""
    rows = connection.execute(sa.text("SELECT account FROM tickets WHERE state = 'sold'"))
    tickets = Counter(row[0] for row in rows)
    return {buyer: FUNDS - books.balance(connection, wallet(buyer, "USD")) for buyer in BUYERS}, tickets


def resolved_twice(connection: sa.Connection) -> list[str]:
    """Return the holds that more than one transfer has ended."""
    rows = connection.execute(sa.text("SELECT of FROM transfers WHERE of IS NOT NULL GROUP BY of HAVING count(*) > 1"))
    return [row[0] for row in rows]


async def is_right(store: Database) -> None:
    assert await store.read(audit.check, 0) == []
    assert await store.read(resolved_twice) == []
    spent, tickets = await store.read(spent_and_held)
    assert spent == {buyer: tickets[buyer] * PRICE.units for buyer in BUYERS}


async def ask_again(store: Database, told: Told) -> Told:
    """Send every purchase again, also those that got no answer; returns what is answered out of the books."""
    keys, again, refusals = Idempotent(store), dict[tuple[str, int], bytes](), set[str]()

    async def send(buyer: str, turn: int) -> None:
        try:
            answer = await buy(keys, buyer, turn)
        except Refused as refused:
            refusals.add(refused.code)
        else:
            again[buyer, turn] = answer.body
            assert answer.replayed or (buyer, turn) not in told

    async with trio.open_nursery() as nursery:
        for turn in range(max(turn for _, turn in told) + 2):
            for buyer in BUYERS:
                nursery.start_soon(send, buyer, turn)
    assert refusals == {"sold_out"}
    return again


@pytest.mark.parametrize("seed", range(CRASHES))
async def test_of_buyers_killed_in_a_rush_each_has_what_he_was_told_and_paid_for(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "mesi.sqlite"
    told = await trio.to_thread.run_sync(told_before_the_end, path, random.Random(seed))
    assert told
    async with running(path) as store:
        for (buyer, turn), answer in told.items():
            ticket = await store.read(ticket_reports.find_ticket, msgspec.json.decode(answer)["ticket"])
            assert ticket is not None
            assert (ticket.account, ticket.sale, ticket.state) == (buyer, sale_id(turn), TicketState.SOLD)
        await is_right(store)
        again = await ask_again(store, told)
        assert {key: again.get(key) for key in told} == told
        await is_right(store)
        assert set(Counter(turn for _, turn in again).values()) == {SEATS}
