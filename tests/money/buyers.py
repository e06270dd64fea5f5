"""Buyers in a process of their own, to be killed: `python -m tests.money.buyers DATABASE`.

They buy like the API's callers do, and print each answer as soon as they have it: sale, buyer, answer. Beside them
somebody holds money, captures and releases it.
"""

from __future__ import annotations

import itertools
import os
import secrets
import sys
from pathlib import Path

import msgspec
import sqlalchemy as sa
import trio
from msgspec.structs import replace

from server.database.store import Database
from server.money import box_office
from server.money.amounts import Amount, wire_amount
from server.money.box_office import Purchase
from server.money.idempotency import Answered, Idempotent, Request, read_request_untrusted
from server.money.ledger import Hold, Leg, Post, Void, held
from server.money.payments import wallet
from server.money.ticket_desk import SELL
from server.money.tickets import Sale
from server.money.till import Wish
from signalling.refusals import Refused
from tests.money.commands import deposit, do
from tests.money.databases import running

PRICE = Amount("USD", 500)
FUNDS = 10**9
BUYERS = [f"buyer{number}" for number in range(64)]
SEATS = 60  # fewer than buyers: some are refused in every sale
SALES = 400  # more than are sold out before anybody is killed


def sale_id(turn: int) -> str:
    """Return the sale in which everybody buys at that turn."""
    return f"sale{turn}"


def ask(buyer: str, turn: int) -> Request:
    """Return a purchase as the API reads it; it is the same when it is sent again."""
    body = msgspec.json.encode({"price": wire_amount(PRICE)})
    return read_request_untrusted(buyer, f"POST /sales/{sale_id(turn)}/tickets", "once", body)


async def buy(keys: Idempotent, buyer: str, turn: int) -> Answered:
    """Buy a ticket as the API does, whose id is another one each time it is tried. Raises Refused("sold_out")."""
    wish = Wish(Purchase(sale_id(turn), secrets.token_hex(8), buyer, PRICE), turn)
    return await keys.write_each(ask(buyer, turn), turn, SELL, wish)


def prepare(connection: sa.Connection) -> None:
    """Fill the wallets and open the sales."""
    for name in (*BUYERS, "holder"):
        do(connection, deposit(name, FUNDS))
    first = Sale("", "", "streamer", PRICE, SEATS, opens_at=0)
    for turn in range(SALES):
        box_office.open_sale(connection, replace(first, id=sale_id(turn), stream=f"stream{turn}"), 0)


async def _buy_all(keys: Idempotent, buyer: str) -> None:
    for turn in range(SALES):
        try:
            answer = await buy(keys, buyer, turn)
        except Refused:
            continue
        # One write of less than PIPE_BUF: nothing waits in a buffer when the process is killed.
        os.write(sys.stdout.fileno(), b"%d %b %b\n" % (turn, buyer.encode(), answer.body))


async def _hold_on(store: Database, number: int) -> None:
    for turn in itertools.count():
        name = f"hold{number}.{turn}"
        await store.write(do, Hold(name, "request", wallet("holder", "USD"), 2, None))
        leg = Leg(held(wallet("holder", "USD")), wallet("taker", "USD"), 2)
        await store.write(do, Post(name, (leg,)) if turn % 2 else Void(name))


async def _main(path: Path) -> None:
    async with running(path) as store, trio.open_nursery() as nursery:
        await store.write(prepare)
        keys = Idempotent(store)
        for buyer in BUYERS:
            nursery.start_soon(_buy_all, keys, buyer)
        for number in range(4):
            nursery.start_soon(_hold_on, store, number)


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]))
