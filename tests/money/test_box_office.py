"""Tickets in both databases: of more buyers than seats, exactly as many are charged as are seated."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa
import trio
from msgspec.structs import replace

from server.events import eventlog
from server.money import audit, books, box_office, ticket_reports
from server.money import tickets as t
from server.money.amounts import Amount
from server.money.box_office import Purchase
from server.money.ledger import PLATFORM, Account, Kind
from server.money.payments import Terms, wallet
from server.money.ticket_rows import name_ticket
from server.money.tickets import RESERVED_FOR_MS, Sale, SaleState, Ticket, TicketState
from signalling.refusals import Refused
from tests.money.commands import deposit, do, quote
from tests.money.databases import AnyStore

PRICE = Amount("USD", 500)
SALE = Sale("s1", "stream1", "streamer", PRICE, quantity=2, opens_at=0)
ESCROW = box_office.escrow(SALE)


def purchase(account: str, ticket: str | None = None) -> Purchase:
    return Purchase("s1", ticket or f"t-{account}", account, PRICE)


async def open_sale(store: AnyStore, quantity: int, *buyers: str) -> None:
    await store.write(box_office.open_sale, replace(SALE, quantity=quantity), 0)
    for buyer in buyers:
        await store.write(do, deposit(buyer, 1000))


async def has(store: AnyStore, account: Account) -> int:
    return await store.read(books.balance, account)


async def is_right(store: AnyStore) -> None:
    """The books are right, seats and tickets agree, and the escrow holds what the holders paid."""
    assert await store.read(audit.check, 0) == []
    report = await store.read(ticket_reports.report, "s1")
    holders = await store.read(ticket_reports.in_state, "s1", TicketState.SOLD)
    assert len(holders) == len(set(holders)) == report.sale.sold
    assert len(await store.read(ticket_reports.in_state, "s1", TicketState.RESERVED)) == report.sale.reserved
    assert report.sale.sold + report.sale.reserved <= report.sale.quantity
    if not report.sale.earned:
        assert await has(store, ESCROW) == report.taken


async def test_of_more_buyers_than_seats_as_many_are_charged_as_are_seated(store: AnyStore) -> None:
    buyers = [f"b{number}" for number in range(30)]
    await open_sale(store, 7, *buyers)
    outcomes: Counter[str] = Counter()

    async def attempt(buyer: str) -> None:
        try:
            outcomes[(await store.write(box_office.buy, purchase(buyer), 1)).state] += 1
        except Refused as refused:
            outcomes[refused.code] += 1

    async with trio.open_nursery() as nursery:
        for buyer in buyers:
            nursery.start_soon(attempt, buyer)
    assert outcomes == {"sold": 7, "sold_out": 23}
    holders = await store.read(ticket_reports.in_state, "s1", TicketState.SOLD)
    left = {buyer: await has(store, wallet(buyer, "USD")) for buyer in buyers}
    assert {buyer for buyer, units in left.items() if units == 500} == set(holders)
    assert {units for buyer, units in left.items() if buyer not in holders} == {1000}
    await is_right(store)
    told = [logged.event.type for logged in await store.read(eventlog.read_from, 0, 100)]
    assert Counter(told) == {"sale.opened": 1, "ticket.sold": 7, "sale.sold_out": 1}


async def test_of_many_tabs_of_one_buyer_one_buys(store: AnyStore) -> None:
    await open_sale(store, 5, "ann")
    outcomes: list[str] = []

    async def attempt(number: int) -> None:
        try:
            outcomes.append((await store.write(box_office.buy, purchase("ann", f"t{number}"), 1)).state)
        except Refused as refused:
            outcomes.append(refused.code)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(attempt, number)
    assert sorted(outcomes) == ["sold"] + ["ticket_exists"] * 9
    assert await has(store, wallet("ann", "USD")) == 500
    await is_right(store)


async def test_who_can_t_pay_takes_no_seat_and_one_kept_while_filling_the_wallet_is_paid_later(store: AnyStore) -> None:
    await open_sale(store, 1)
    with pytest.raises(Refused, match="insufficient_funds"):
        await store.write(box_office.buy, purchase("ann"), 1)
    reserved = await store.write(box_office.reserve, purchase("ann"), 1)
    assert await store.write(box_office.reserve, purchase("ann", "second tab"), 2) == reserved
    assert await store.read(ticket_reports.in_state, "s1", TicketState.RESERVED) == ["ann"]
    with pytest.raises(Refused, match="insufficient_funds"):
        await store.write(box_office.pay_for, reserved.id, "ann", 2)
    await store.write(do, deposit("ann", 500))
    with pytest.raises(Refused, match="reservation_unknown"):
        await store.write(box_office.pay_for, reserved.id, "bob", 3)
    assert (await store.write(box_office.pay_for, reserved.id, "ann", 3)).state is TicketState.SOLD
    await is_right(store)


async def test_who_lets_seat_after_seat_lapse_reserves_no_more_and_may_still_buy(store: AnyStore) -> None:
    await open_sale(store, 1, "bot", "ann")
    for number in range(ticket_reports.MAX_LAPSED):
        now = 1 + number * RESERVED_FOR_MS
        await store.write(box_office.reserve, purchase("bot", f"t{number}"), now)
        await store.write(box_office.run_out, now + RESERVED_FOR_MS, 10)
    with pytest.raises(Refused, match="reserved_too_often"):
        await store.write(box_office.reserve, purchase("bot", "once more"), now)
    reserved = await store.write(box_office.reserve, purchase("ann"), now)
    with pytest.raises(Refused, match="reserved_too_often"):
        await store.write(box_office.wait, "s1", "bot", now)
    await store.write(box_office.give_up, reserved.id, "ann", now)
    assert (await store.write(box_office.buy, purchase("bot"), now)).state is TicketState.SOLD
    await is_right(store)


async def test_buying_with_a_reservation_uses_it(store: AnyStore) -> None:
    await open_sale(store, 1, "ann")
    reserved = await store.write(box_office.reserve, purchase("ann"), 1)
    assert (await store.write(box_office.buy, purchase("ann", "t2"), 2)).id == reserved.id
    await is_right(store)


async def test_who_reserves_or_buys_anew_pays_for_no_former_reservation_as_well(store: AnyStore) -> None:
    await open_sale(store, 3, "ann")
    former = await store.write(box_office.reserve, purchase("ann", "former"), 1)
    await store.write(box_office.give_up, former.id, "ann", 2)
    newer = await store.write(box_office.reserve, purchase("ann", "newer"), 3)
    with pytest.raises(Refused, match="ticket_exists"):
        await store.write(box_office.pay_for, former.id, "ann", 4)
    assert (await store.write(box_office.pay_for, newer.id, "ann", 5)).state is TicketState.SOLD
    with pytest.raises(Refused, match="ticket_exists"):
        await store.write(box_office.pay_for, former.id, "ann", 6)
    assert await has(store, wallet("ann", "USD")) == 500
    await is_right(store)


async def test_a_seat_whose_reservation_ran_out_goes_to_who_waits(store: AnyStore) -> None:
    await open_sale(store, 1, "ann", "bob", "cem")
    with pytest.raises(Refused, match="not_sold_out"):
        await store.write(box_office.wait, "s1", "bob", 1)
    await store.write(box_office.reserve, purchase("ann"), 1)
    assert await store.write(box_office.wait, "s1", "bob", 2) == 1
    assert await store.write(box_office.wait, "s1", "cem", 3) == 2
    assert await store.write(box_office.wait, "s1", "bob", 4) == 1  # asking again does not move anybody
    assert await store.write(box_office.run_out, RESERVED_FOR_MS, 10) == []
    (ended,) = await store.write(box_office.run_out, 1 + RESERVED_FOR_MS, 10)
    assert (ended.account, ended.state) == ("ann", TicketState.EXPIRED)
    offered = await store.read(ticket_reports.ticket_of, "s1", "bob")
    assert offered is not None
    assert offered.state is TicketState.RESERVED
    with pytest.raises(Refused, match="sold_out"):
        await store.write(box_office.buy, purchase("ann", "again"), 2 + RESERVED_FOR_MS)
    assert (await store.write(box_office.buy, purchase("bob"), 2 + RESERVED_FOR_MS)).state is TicketState.SOLD
    assert await store.read(box_office.position, "s1", "cem") == 1
    await is_right(store)


async def test_a_refund_returns_what_was_paid_and_passes_the_seat_on(store: AnyStore) -> None:
    await open_sale(store, 1, "ann", "bob")
    sold = await store.write(box_office.buy, purchase("ann"), 1)
    await store.write(box_office.wait, "s1", "bob", 2)
    await store.write(box_office.change, "s1", t.Change(price=900), 3)
    await store.write(box_office.refund, sold.id, 4)
    assert await has(store, wallet("ann", "USD")) == 1000
    offered = await store.read(ticket_reports.ticket_of, "s1", "bob")
    assert offered is not None
    assert offered.price.units == 900
    with pytest.raises(Refused, match="ticket_unknown"):
        await store.write(box_office.refund, sold.id, 5)
    await is_right(store)


async def test_seats_that_are_added_go_to_those_who_wait_first(store: AnyStore) -> None:
    await open_sale(store, 1, "ann", "bob", "cem")
    await store.write(box_office.buy, purchase("ann"), 1)
    for name in ("bob", "cem"):
        await store.write(box_office.wait, "s1", name, 2)
    await store.write(box_office.stop_waiting, "s1", "bob")
    sale = await store.write(box_office.change, "s1", t.Change(quantity=3), 3)
    assert (sale.reserved, sale.free) == (1, 1)
    assert await store.read(ticket_reports.in_state, "s1", TicketState.RESERVED) == ["cem"]
    await is_right(store)


@pytest.mark.parametrize("rate", [None, quote(20, 1)], ids=["as it came", "converted"])
async def test_a_delivered_show_pays_its_seller_and_the_fee_out_of_the_escrow(store: AnyStore, rate: object) -> None:
    terms = Terms(1000, quote(20, 1) if rate else None)
    await open_sale(store, 2, "ann", "bob")
    for name in ("ann", "bob"):
        await store.write(box_office.buy, purchase(name), 1)
    assert (await store.write(box_office.earn, "s1", t.Settle(300), terms, 9)).state is SaleState.DELIVERED
    earned = ("MESI", 18_000) if rate else ("USD", 900)
    assert await has(store, wallet("streamer", earned[0])) == earned[1]
    assert await has(store, Account(PLATFORM, Kind.FEE, "USD")) == 100
    assert await has(store, ESCROW) == 0
    with pytest.raises(Refused, match="show_delivered"):
        await store.write(box_office.refund, "t-ann", 10)
    with pytest.raises(Refused, match="sale_closed"):
        await store.write(box_office.earn, "s1", t.Settle(300), terms, 10)
    await is_right(store)


@pytest.mark.parametrize("command", [t.Cancel(), t.Settle(299)], ids=["cancelled", "too short"])
async def test_a_show_that_is_not_delivered_is_paid_back_to_the_unit(store: AnyStore, command: t.Command) -> None:
    buyers = [f"b{number}" for number in range(5)]
    await open_sale(store, 5, *buyers)
    for buyer in buyers:
        await store.write(box_office.buy, purchase(buyer), 1)
    await store.write(box_office.earn, "s1", command, Terms(1000), 2)
    counts = [len(await store.write(box_office.refund_some, "s1", 3, 2)) for _ in range(4)]
    assert counts == [2, 2, 1, 0]
    assert {await has(store, wallet(buyer, "USD")) for buyer in buyers} == {1000}
    assert await has(store, wallet("streamer", "USD")) == 0
    await is_right(store)


async def test_after_the_show_was_delivered_late_comers_pay_its_seller_too(store: AnyStore) -> None:
    await open_sale(store, 3, "ann", "bob")
    await store.write(box_office.buy, purchase("ann"), 1)
    earned = await store.write(box_office.earn, "s1", t.Earn(300), Terms(1000), 2)
    assert (earned.earned, earned.state) == (True, SaleState.OPEN)
    assert await has(store, wallet("streamer", "USD")) == 450
    assert not await store.write(box_office.pay_out, "s1", Terms(1000), 3)
    await store.write(box_office.buy, purchase("bob"), 4)
    assert await store.write(box_office.pay_out, "s1", Terms(1000), 5)
    assert await has(store, wallet("streamer", "USD")) == 900
    with pytest.raises(Refused, match="show_delivered"):
        await store.write(box_office.refund, "t-bob", 6)
    assert (await store.write(box_office.earn, "s1", t.Cancel(), Terms(1000), 7)).state is SaleState.DELIVERED
    told = [logged.event.type for logged in await store.read(eventlog.read_from, 0, 100)]
    assert told == ["sale.opened", "ticket.sold", "sale.earned", "ticket.sold", "sale.delivered"]
    await is_right(store)


@pytest.mark.parametrize(
    ("terms", "left"),
    [(Terms(1000, quote(1, 10_000)), Kind.LIQUIDITY), (Terms(10_000), Kind.FEE)],
    ids=["too little to convert", "all of it the fee"],
)
async def test_a_show_whose_tickets_are_worth_less_than_a_unit_settles_all_the_same(
    store: AnyStore, terms: Terms, left: Kind
) -> None:
    await open_sale(store, 2, "ann", "bob")
    await store.write(box_office.buy, purchase("ann"), 1)
    earned = await store.write(box_office.earn, "s1", t.Earn(300), terms, 2)
    assert (earned.earned, await has(store, ESCROW)) == (True, 500)  # with what late comers pay it may be enough
    assert not box_office.is_worth_paying(earned, 500, terms)
    assert not await store.write(box_office.pay_out, "s1", terms, 3)
    await store.write(box_office.buy, purchase("bob"), 4)
    assert (await store.write(box_office.earn, "s1", t.Settle(300), terms, 5)).state is SaleState.DELIVERED
    assert (await has(store, ESCROW), await has(store, Account(PLATFORM, left, "USD"))) == (0, 1000)
    await is_right(store)


async def test_a_show_that_nobody_bought_pays_nobody(store: AnyStore) -> None:
    await open_sale(store, 2)
    assert (await store.write(box_office.earn, "s1", t.Settle(9999), Terms(1000), 9)).state is SaleState.DELIVERED
    await is_right(store)


async def test_a_stream_has_one_sale_at_a_time(store: AnyStore) -> None:
    await open_sale(store, 2)
    with pytest.raises(Refused, match="sale_exists"):
        await store.write(box_office.open_sale, replace(SALE, id="s2"), 1)
    await store.write(box_office.earn, "s1", t.Cancel(), Terms(1000), 2)
    await store.write(box_office.open_sale, replace(SALE, id="s2"), 3)
    found = await store.read(ticket_reports.sale_of, "stream1")
    assert found == replace(SALE, id="s2")
    with pytest.raises(Refused, match="sale_unknown"):
        await store.write(box_office.buy, Purchase("nothing", "t", "ann", PRICE), 1)
    with pytest.raises(Refused, match="ticket_unknown"):
        await store.write(box_office.pay_for, "nothing", "ann", 1)
    with pytest.raises(Refused, match="sale_unknown"):
        await store.read(ticket_reports.report, "another")


OVERSOLD = "UPDATE sales SET sold = 3"
TWICE = (
    "INSERT INTO tickets (id, sale, account, state, asset, price, until)"
    " VALUES ('t2', 's1', 'ann', 'sold', 'USD', '1', 0)"
)


@pytest.mark.parametrize("statement", [OVERSOLD, TWICE], ids=["oversold", "two tickets of one account"])
async def test_the_database_itself_refuses_what_must_not_be(store: AnyStore, statement: str) -> None:
    await open_sale(store, 2, "ann")
    await store.write(box_office.buy, purchase("ann"), 1)
    with pytest.raises(sa.exc.IntegrityError):
        await store.write(lambda connection: connection.exec_driver_sql(statement) and None)


async def test_people_who_buy_pay_run_out_and_leave_at_once_leave_all_in_order(store: AnyStore) -> None:
    buyers = [f"b{number}" for number in range(12)]
    await open_sale(store, 4, *buyers)
    outcomes: Counter[str] = Counter()

    async def attempt(what: Callable[[sa.Connection, str, str, int], object], *arguments: str, now_ms: int) -> None:
        try:
            await store.write(what, *arguments, now_ms)
            outcomes["done"] += 1
        except Refused as refused:
            outcomes[refused.code] += 1

    async def visit(number: int) -> None:
        buyer = buyers[number]
        for turn in range(4):
            now = turn * RESERVED_FOR_MS + number
            name = f"{buyer}-{turn}"
            try:
                await store.write(box_office.reserve, purchase(buyer, name), now)
            except Refused as refused:
                outcomes[refused.code] += 1
                await attempt(box_office.wait, "s1", buyer, now_ms=now)
            if number % 3 == 0:
                await attempt(box_office.pay_for, name, buyer, now_ms=now)
                await attempt(refund_for, name, buyer, now_ms=now)
            elif number % 3 == 1:
                await attempt(box_office.give_up, name, buyer, now_ms=now)
            await store.write(box_office.run_out, now, 10)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(visit, number)
    assert outcomes["done"] > 10
    assert outcomes.keys() <= EXPECTED
    await is_right(store)


EXPECTED = {"done", "sold_out", "not_sold_out", "ticket_exists", "ticket_unknown", "reservation_unknown"}
EXPECTED |= {"reservation_expired"}


def refund_for(connection: sa.Connection, ticket: str, account: str, now_ms: int) -> Ticket:
    return box_office.refund(connection, ticket, now_ms)


def change_slowly(connection: sa.Connection, sale: str) -> None:
    box_office.lock_sale(connection, sale)
    time.sleep(0.3)
    box_office.change(connection, sale, t.Change(quantity=50), 0)


async def test_reservations_of_many_shows_run_out_without_standing_in_anybodys_way(store: AnyStore) -> None:
    for show in ("s1", "s2"):
        await store.write(box_office.open_sale, replace(SALE, id=show, stream=f"stream{show}"), 0)
        await store.write(box_office.reserve, Purchase(show, f"t{show}", "b0", SALE.price), 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, change_slowly, "s2")
        await trio.sleep(0.1)
        # It has ended the first one's when it comes to the second's, which is being changed.
        assert len(await store.write(box_office.run_out, RESERVED_FOR_MS, 10)) == 2
    # What stands in each other's way is found out after a second, in which nobody can write an event.
    assert store.counters().get("store_collisions", 0) == 0
    told = [logged.event.type for logged in await store.read(eventlog.read_from, 0, 100)]
    assert told[4:] == ["sale.changed", "ticket.expired", "ticket.expired"]


def test_the_names_of_tickets_rise_with_time_and_no_two_are_the_same() -> None:
    names = [name_ticket(now_ms) for now_ms in (0, 9, 10, 0xFFFF, 0x10000, 1_796_000_000_000, 2**47)]
    assert names == sorted(names)
    assert len({name_ticket(1) for _ in range(1000)}) == 1000
