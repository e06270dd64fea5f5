"""The books in both databases: what the ledger decides is what is there, also when many write at once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio

from server.database.store import StoreFailed
from server.money import audit, books
from server.money.ledger import PLATFORM, Account, Expire, Hold, Kind, Leg, Move, Phase, Post, Reverse, Void, held
from server.money.payments import Terms, pay, wallet
from signalling.refusals import Refused
from tests.money.commands import FAR, bank, deposit, do, give, quote
from tests.money.databases import AnyStore, running

HUGE = 10**57 + 1  # the largest supply there can be has 58 digits


async def has(store: AnyStore, owner: str, asset: str = "USD", kind: Kind = Kind.WALLET) -> int:
    return await store.read(books.balance, Account(owner, kind, asset))


async def test_amounts_of_any_size_are_kept_exactly(store: AnyStore) -> None:
    await store.write(do, deposit("ann", HUGE))
    await store.write(do, give("ann", "bob", HUGE - 1, "g"))
    assert (await has(store, "ann"), await has(store, "bob")) == (1, HUGE - 1)
    with pytest.raises(Refused, match="insufficient_funds"):
        await store.write(do, give("ann", "bob", 2, "h"))
    assert await store.read(audit.check, 0) == []


async def test_what_was_written_is_read_back_with_its_legs_and_quote(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    rate = quote(7, 3)
    hold = await store.write(do, Hold("h", "tip", wallet("ann", "USD"), 500, FAR))
    legs = pay(held(wallet("ann", "USD")), "bob", 300, Terms(1000, rate))
    posted = await store.write(do, Post("h", legs, rate))
    assert await store.read(books.find_transfer, "h") == hold
    assert await store.read(books.find_transfer, "h.posted") == posted
    assert posted.quote == rate
    assert await store.read(books.find_quote, "q1") == rate
    assert await store.read(books.find_transfer, "nothing") is None


async def test_a_transfer_is_made_once(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000, identifier="d"))
    with pytest.raises(Refused, match="transfer_exists"):
        await store.write(do, deposit("ann", 1000, identifier="d"))
    assert await has(store, "ann") == 1000


async def test_of_many_that_resolve_a_hold_at_once_one_does(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    await store.write(do, Hold("h", "tip", wallet("ann", "USD"), 600, 100))
    codes: list[str] = []

    async def attempt(command: Post | Void | Expire) -> None:
        try:
            codes.append((await store.write(do, command, 100 if isinstance(command, Expire) else 0)).phase)
        except Refused as refused:
            codes.append(refused.code)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            post = Post("h", (Leg(held(wallet("ann", "USD")), wallet("bob", "USD"), 200),))
            for command in (post, Void("h"), Expire("h")):
                nursery.start_soon(attempt, command)
    assert codes.count("hold_resolved") == 14
    assert await store.read(audit.check, 0) == []


async def test_nobody_spends_the_same_money_twice(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    codes: list[str] = []

    async def spend(number: int) -> None:
        try:
            await store.write(do, give("ann", f"taker{number % 3}", 150, f"g{number}"))
        except Refused as refused:
            codes.append(refused.code)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(spend, number)
    assert (codes, await has(store, "ann")) == (["insufficient_funds"] * 14, 100)
    assert await store.read(audit.check, 0) == []


async def test_people_who_pay_each_other_crosswise_don_t_stand_in_each_other_s_way(store: AnyStore) -> None:
    people = ["ann", "bob", "cem", "dee"]
    for name in people:
        await store.write(do, deposit(name, 10_000))
    chance = random.Random(7)

    async def payer(number: int) -> None:
        for turn in range(10):
            giver, taker = chance.sample(people, 2)
            legs = pay(wallet(giver, "USD"), taker, 10 + number, Terms(1000))
            await store.write(do, Move(f"p{number}-{turn}", "tip", legs))

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(payer, number)
    assert await store.read(audit.check, 0) == []
    total = sum([await has(store, name) for name in people]) + await has(store, PLATFORM, kind=Kind.FEE)
    assert total == 40_000


def half(connection: sa.Connection) -> None:
    do(connection, give("ann", "bob", 10, "g"))
    do(connection, give("ann", "bob", 10_000, "too much"))


async def test_what_comes_before_a_refusal_in_a_transaction_is_undone(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    with pytest.raises(Refused, match="insufficient_funds"):
        await store.write(half)
    assert (await has(store, "ann"), await has(store, "bob")) == (1000, 0)
    assert await store.read(books.find_transfer, "g") is None


async def test_what_has_run_out_is_given_back_and_only_that(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    for name, expires_at in (("early", 50), ("late", 60), ("never", None)):
        await store.write(do, Hold(name, "tip", wallet("ann", "USD"), 100, expires_at))
    assert await store.read(books.due_holds, 49, 10) == []
    expired = await store.write(books.expire_due, 50, 10)
    assert [transfer.of for transfer in expired] == ["early"]
    assert await has(store, "ann") == 800


async def test_a_history_is_read_in_pages_from_the_newest(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    for number in range(5):
        await store.write(do, give("ann", "bob", number + 1, f"g{number}"))
    first = await store.read(books.history, "ann", None, 4)
    rest = await store.read(books.history, "ann", first[-1].id, 4)
    assert [line.units for line in first + rest] == [-5, -4, -3, -2, -1, 1000]
    assert (first[0].transfer, first[0].phase, first[0].reason) == ("g4", Phase.IMMEDIATE, "gift")


async def test_a_reversal_is_made_once_and_leaves_the_original(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    await store.write(do, give("ann", "bob", 400, "g"))
    await store.write(do, give("bob", "cem", 300, "spent"))
    await store.write(do, Reverse("g"))
    with pytest.raises(Refused, match="already_reversed"):
        await store.write(do, Reverse("g"))
    assert await has(store, "bob", kind=Kind.DEBT) == -300
    assert await store.read(books.find_transfer, "g") is not None
    assert await store.read(audit.check, 0) == []


FLAWS = {
    "UPDATE balances SET units = '999' WHERE owner = 'ann' AND kind = 'wallet'": "wallet of ann in USD has 999",
    "UPDATE entries SET units = '1' WHERE owner = 'bank'": "the entries in USD add up to",
    "DELETE FROM open_holds": "hold h is open in one place and resolved in another",
    "UPDATE open_holds SET units = '7'": "held of ann in USD has 100, but 7 are promised",
    "UPDATE open_holds SET expires_at = 1": "hold h should have expired",
}


@pytest.mark.parametrize("flaw", FLAWS, ids=FLAWS.values())
async def test_the_check_finds_what_is_wrong(store: AnyStore, flaw: str) -> None:
    await store.write(do, deposit("ann", 1000))
    await store.write(do, Hold("h", "tip", wallet("ann", "USD"), 100, 10**12))
    assert await store.read(audit.check, 10**9) == []
    await store.write(lambda connection: connection.exec_driver_sql(flaw) and None)
    assert any(sentence.startswith(FLAWS[flaw]) for sentence in await store.read(audit.check, 10**9))


async def test_the_database_itself_keeps_wallets_from_falling_below_nothing(store: AnyStore) -> None:
    await store.write(do, deposit("ann", 1000))
    below = "UPDATE balances SET units = '-1' WHERE owner = 'ann'"
    with pytest.raises(sa.exc.IntegrityError):
        await store.write(lambda connection: connection.exec_driver_sql(below) and None)
    assert await has(store, "bank", kind=Kind.PROVIDER) == -1000
    assert bank().kind is Kind.PROVIDER


async def test_balances_survive_a_restart(place: Path | str) -> None:
    async with running(place) as store:
        await store.write(do, deposit("ann", 1000))
    async with running(place) as store:
        assert await has(store, "ann") == 1000
    with pytest.raises(StoreFailed):
        await store.write(do, deposit("late", 1))
