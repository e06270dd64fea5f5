"""The clerk's duties: what is due is done, and while nothing is due nothing is written."""

from __future__ import annotations

from dataclasses import replace

import trio
from trio.testing import MockClock

from server.database.store import StoreFailed
from server.money import books, box_office, clerk, offers
from server.money.amounts import Amount
from server.money.box_office import Purchase
from server.money.clerk import Clerk
from server.money.duties import duties
from server.money.idempotency import KEY_FOR_MS, Answered, Idempotent, read_request_untrusted
from server.money.ledger import Account, Hold, Kind, Leg, Move
from server.money.offers import KEPT_MS
from server.money.payments import wallet
from server.money.tickets import RESERVED_FOR_MS, Sale
from tests.money.commands import deposit, do, quote
from tests.money.databases import AnyStore

LATE = KEY_FOR_MS + KEPT_MS


async def fill(store: AnyStore) -> None:
    """Leave something for each duty that is due late, and nothing before."""
    await store.write(do, deposit("ann", 1000))
    await store.write(do, Hold("h", "request", wallet("ann", "USD"), 10, LATE))
    await store.write(offers.add, replace(quote(1, 1), expires_at=0))
    request = read_request_untrusted("ann", "POST /tips", "k", b"")
    await Idempotent(store).write(request, 0, lambda _: Answered(201, b"{}"))


async def test_while_nothing_is_due_the_clerk_writes_nothing(store: AnyStore) -> None:
    await fill(store)
    before = store.counters()["store_writes"]
    assert [await duty(1000) for duty in duties(store).values()] == [0, 0, 0, 0]
    assert store.counters()["store_writes"] == before


async def test_each_duty_finds_what_is_due_and_then_has_nothing_left_to_write(store: AnyStore) -> None:
    await fill(store)
    owed = Leg(Account("bob", Kind.DEBT, "USD"), wallet("bob", "USD"), 5)
    await store.write(do, Move("late chargeback", "test", (owed,)))
    assert {name: await duty(LATE + 1) for name, duty in duties(store).items()} == {
        "expired holds": 1,
        "debts": 1,
        "old keys": 1,
        "old offers": 1,
    }
    assert await store.read(books.balance, wallet("ann", "USD")) == 1000
    before = store.counters()["store_writes"]
    assert sum([await duty(LATE + 1) for duty in duties(store).values()]) == 0
    assert store.counters()["store_writes"] == before


async def test_reservations_are_known_to_have_run_out_before_anything_is_written(store: AnyStore) -> None:
    price = Amount("USD", 500)
    await store.write(box_office.open_sale, Sale("s1", "stream1", "streamer", price, quantity=2, opens_at=0), 0)
    await store.write(box_office.reserve, Purchase("s1", "t1", "ann", price), 0)
    assert not await store.read(box_office.any_run_out, RESERVED_FOR_MS - 1)
    assert await store.read(box_office.any_run_out, RESERVED_FOR_MS)
    assert len(await store.write(box_office.run_out, RESERVED_FOR_MS, 10)) == 1
    assert not await store.read(box_office.any_run_out, RESERVED_FOR_MS)


async def test_a_duty_that_fails_or_never_ends_keeps_no_other_waiting_and_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    tried, done = [0], [0]

    async def fail(now_ms: int) -> int:
        tried[0] += 1
        raise StoreFailed("the disk is full") if tried[0] % 2 else RuntimeError("a fault")

    async def hang(now_ms: int) -> int:
        await trio.sleep_forever()
        raise AssertionError

    async def work(now_ms: int) -> int:
        await trio.lowlevel.checkpoint()
        done[0] += 1
        return 0

    worker = Clerk({"fails": fail, "hangs": hang, "works": work}, lambda: 0)
    with trio.move_on_after(10.5 * clerk.LOOK_S):
        await worker.run()
    assert (tried[0], done[0]) == (11, 11)
    assert worker.counters() == {"duties_done": 0, "duty_failures": 11}
