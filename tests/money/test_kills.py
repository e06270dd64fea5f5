"""Killed at every step between a request and its answer: nobody pays for nothing, and who asks again finds out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest
import sqlalchemy as sa
import trio
from trio.testing import MockClock

from server.money import audit, books, providers, tip_links
from server.money import ticket_reports as reports
from server.money.amounts import Amount, WireAmount
from server.money.idempotency import Answered, Request, read_request_untrusted
from server.money.one_to_one_desk import Wish as OneToOneWish
from server.money.one_to_one_terms import Choice, Offer
from server.money.payments import wallet
from server.money.ticket_desk import NewSale
from server.money.tip_jar import Wish
from server.money.webhooks import DepositReversed, DepositSettled, ProviderEvent, WithdrawalFailed, WithdrawalPaid
from signalling.identifiers import AccountId, Mode
from signalling.policy import commands as c
from tests.money.killing import Doing, Killer, Life, code_of
from tests.money.small_nodes import FUNDS, SmallNode, actor, session
from tests.money.test_crashes import resolved_twice

PRICE = WireAmount("USD", "500")


def request(name: str, key: str = "once") -> Request:
    return read_request_untrusted(name, f"POST /{key}", key, b"{}")


# -- what is done ------------------------------------------------------------------------------------------------------


async def go_live(node: SmallNode) -> None:
    await node.rooms.create_stream(actor("ann"), title="A stream", mode=Mode.PUBLIC)


async def open_sale(node: SmallNode) -> object:
    new = NewSale(PRICE, 2, None, None, None, 1)
    return await node.tickets.open_sale(actor("ann"), node.stream(), new)


async def sale(node: SmallNode) -> str:
    found = await node.store.read(reports.sale_of, node.stream())
    assert found is not None
    return found.id


async def mine(node: SmallNode) -> str:
    (ticket,) = await node.store.read(names_of, "SELECT id FROM tickets WHERE account = 'bob'")
    return ticket


async def buy(node: SmallNode) -> Answered:
    return await node.tickets.buy(session("bob"), await sale(node), PRICE, request("bob"))


async def reserve(node: SmallNode) -> Answered:
    return await node.tickets.reserve(session("bob"), await sale(node), PRICE, request("bob", "seat"))


async def pay(node: SmallNode) -> Answered:
    held = await node.tickets.reserve(session("bob"), await sale(node), PRICE, request("bob", "seat"))
    ticket = msgspec.json.decode(held.body)["ticket"]
    return await node.tickets.pay(session("bob"), ticket, request("bob", "pay"))


async def give_up(node: SmallNode) -> None:
    await node.tickets.give_up(actor("bob"), await mine(node))


async def refund(node: SmallNode) -> None:
    await node.tickets.refund(actor("ann"), await sale(node), await mine(node))


async def cancel(node: SmallNode) -> None:
    await node.tickets.cancel(actor("ann"), await sale(node))
    await node.tidy()


async def deliver(node: SmallNode) -> None:
    """Have the stream be on for ticket holders, and seen, for longer than its sale asks for, and end it."""
    stream, ann = node.rooms.stream_of(AccountId("ann")), actor("ann")
    if stream is not None:
        sessions = node.rooms.media_sessions
        published = sessions._places[(await sessions.publish(stream, ann, "offer")).session_id].transport
        node.media.connect(published)
        node.media.flow(published)
        await trio.testing.wait_all_tasks_blocked()
        state = node.rooms.state(stream)
        if state is not None and state.mode is Mode.PUBLIC:
            await node.rooms.command(stream, ann, c.PrepareMode(Mode.PAID, "t"))
            await node.rooms.command(stream, ann, c.ConfirmMode("t"))
        await trio.sleep(1.5)
        await node.rooms.command(stream, ann, c.EndStream())
    await node.tidy()


async def tip(node: SmallNode) -> Answered:
    return await node.jar.give(session("bob"), Wish("ann", Amount("USD", 700), node.stream()), request("bob"))


async def tip_by_link(node: SmallNode) -> Answered:
    (link,) = await node.store.read(tip_links.listed, "ann", 0)
    return await node.jar.give(session("bob"), Wish("ann", Amount("MESI", 70_000), link=link.code), request("bob"))


async def reverse(node: SmallNode) -> None:
    (given,) = await node.store.read(names_of, "SELECT id FROM tips")
    await node.jar.reverse(given)


async def ask(node: SmallNode) -> Answered:
    await node.come_in("bob")
    wish = OneToOneWish(300, PRICE)
    return await node.desk.ask(node.stream(), actor("bob"), wish, request("bob"))


async def ask_and(node: SmallNode, who: str, command: c.Command) -> Answered:
    answered = await ask(node)
    if not answered.replayed:
        await node.rooms.command(node.stream(), actor(who), command)
    await trio.testing.wait_all_tasks_blocked()
    return answered


async def take_back(node: SmallNode) -> Answered:
    return await ask_and(node, "bob", c.CancelOneToOne())


async def decline(node: SmallNode) -> Answered:
    return await ask_and(node, "ann", c.DeclineOneToOne(AccountId("bob")))


async def accept_and_end(node: SmallNode) -> Answered:
    answered = await ask_and(node, "ann", c.AcceptOneToOne(AccountId("bob"), 300))
    if not answered.replayed:
        await node.rooms.command(node.stream(), actor("bob"), c.ConfirmOneToOne())
        await node.rooms.command(node.stream(), actor("bob"), c.EndOneToOne())
    await trio.testing.wait_all_tasks_blocked()
    return answered


async def start_deposit(node: SmallNode) -> Answered:
    return await node.cashier.start_deposit(None, Amount("USD", 900), request("bob"))


async def withdraw(node: SmallNode) -> Answered:
    answered = await node.cashier.withdraw(None, Amount("USD", 900), request("bob"))
    await node.payouts.tell()
    return answered


def hears(*events: ProviderEvent) -> Doing:
    """Take up what a provider says, again and again until it was answered."""

    async def act(node: SmallNode) -> object:
        for event in events:
            await node.store.write(providers.settle, "shop", event, node.wallets.assets, node.clock.wall_ms())
        return None

    return act


def withdrawn(node_says: Callable[[str], ProviderEvent]) -> Doing:
    async def act(node: SmallNode) -> Answered:
        answered = await withdraw(node)
        await hears(node_says(msgspec.json.decode(answered.body)["withdrawal"]))(node)
        return answered

    return act


async def operator_deposit(node: SmallNode) -> Answered:
    return await node.wallets.deposit("bob", Amount("USD", 5000), request("admin"))


# -- and what must be right --------------------------------------------------------------------------------------------


def names_of(connection: sa.Connection, query: str) -> list[str]:
    return [row[0] for row in connection.execute(sa.text(query))]


def spent(connection: sa.Connection, asset: str) -> int:
    """Return what Bob has less than he was given, by what he has for it: not by the books."""

    def total(query: str) -> int:
        return sum(int(units) for units in names_of(connection, query))

    standing = f"asset = '{asset}'"
    return (
        total(f"SELECT price FROM tickets WHERE account = 'bob' AND state = 'sold' AND {standing}")
        + total(
            f"SELECT units FROM tips WHERE sender = 'bob' AND {standing}"
            " AND NOT EXISTS (SELECT 1 FROM transfers WHERE of = tips.id)"
        )
        + total(f"SELECT held FROM one_to_ones WHERE viewer = 'bob' AND ended_at IS NULL AND {standing}")
        + total(f"SELECT captured FROM one_to_ones WHERE viewer = 'bob' AND ended_at IS NOT NULL AND {standing}")
        + total(
            f"SELECT units FROM withdrawals WHERE account = 'bob' AND {standing}"
            " AND NOT EXISTS (SELECT 1 FROM transfers WHERE id = withdrawals.id || '.voided')"
        )
    )


def came_in(connection: sa.Connection, asset: str) -> int:
    """Return what was paid into Bob's wallet since it was filled, and not taken back."""
    if asset != "USD":
        return 0
    names = names_of(
        connection,
        "SELECT id FROM transfers t WHERE reason = 'deposit' AND of IS NULL AND id NOT LIKE 'deposit:%'"
        " AND NOT EXISTS (SELECT 1 FROM transfers WHERE of = t.id)",
    )
    found = [books.find_transfer(connection, name) for name in names]
    return sum(leg.units for transfer in found if transfer is not None for leg in transfer.legs)


async def is_right(node: SmallNode) -> None:
    """Check all that must hold whenever a node is open."""
    now_ms = node.clock.wall_ms()
    assert await node.store.read(audit.check, now_ms) == []
    assert await node.store.read(resolved_twice) == []
    for asset in ("USD", "MESI"):
        has = await node.store.read(books.balance, wallet("bob", asset))
        assert has == FUNDS - await node.store.read(spent, asset) + await node.store.read(came_in, asset)
    for stream in node.rooms.owners():
        state = node.rooms.state(stream)
        assert state is not None
        sold = names_of_sold = await node.store.read(
            names_of,
            f"SELECT account FROM tickets t JOIN sales s ON s.id = t.sale WHERE s.stream = '{stream}'"
            " AND t.state = 'sold' AND s.state <> 'cancelled'",
        )
        assert state.bought == frozenset(names_of_sold), sold


@dataclass(frozen=True)
class Case:
    """What is asked, after what, and again after a crash; `done` are refusals that say that it was done by then.

    `short` is what Bob has less in the end, by asset; None where that depends on when the node was killed, for what he
    has for it is compared anyway. `asked` is for how many things the provider was asked.
    """

    name: str
    act: Doing
    before: tuple[Doing, ...] = ()
    done: frozenset[str] = frozenset()
    short: dict[str, int] | None = field(default_factory=dict)
    asked: int = 0


async def put_offer(node: SmallNode) -> object:
    return await node.desk.put_offer(node.stream(), actor("ann"), Offer((Choice(300, PRICE),)))


async def make_link(node: SmallNode) -> object:
    return await node.store.write(tip_links.create, tip_links.NewLink("ann", None, "", None), 0)


SETTLED = DepositSettled("t1", "bob", WireAmount("USD", "900"))
CASES = [
    Case("open a sale", open_sale, (go_live,), frozenset({"sale_exists"})),
    Case("buy", buy, (go_live, open_sale), short={"USD": 500}),
    Case("reserve", reserve, (go_live, open_sale)),
    Case("reserve and pay", pay, (go_live, open_sale), short={"USD": 500}),
    Case("give up", give_up, (go_live, open_sale, reserve), frozenset({"reservation_unknown"})),
    Case("refund", refund, (go_live, open_sale, buy), frozenset({"ticket_unknown"})),
    Case("cancel a sale", cancel, (go_live, open_sale, buy), frozenset({"sale_closed"})),
    Case("deliver a show", deliver, (go_live, open_sale, buy), short={"USD": 500}),
    Case("tip", tip, (go_live,), short={"USD": 700}),
    Case("tip by a link", tip_by_link, (make_link,), short={"MESI": 70_000}),
    Case("take a tip back", reverse, (go_live, tip), frozenset({"already_reversed"})),
    Case("ask for a one-to-one", ask, (go_live, put_offer), short=None),
    Case("cancel a one-to-one", take_back, (go_live, put_offer)),
    Case("decline a one-to-one", decline, (go_live, put_offer)),
    Case("accept and end a one-to-one", accept_and_end, (go_live, put_offer)),
    Case("start a deposit", start_deposit, asked=1),
    Case("a deposit", hears(SETTLED), short={"USD": -900}),
    Case("a deposit taken back", hears(DepositReversed("t1")), (hears(SETTLED),)),
    Case("withdraw", withdraw, short={"USD": 900}, asked=1),
    Case("a withdrawal that is paid", withdrawn(WithdrawalPaid), short={"USD": 900}, asked=1),
    Case("a withdrawal that fails", withdrawn(WithdrawalFailed), asked=1),
    Case("an operator's deposit", operator_deposit, short={"USD": -5000}),
]


def promised(answered: Answered) -> object:
    """Return what an answer says but for what became of it since."""
    said = msgspec.json.decode(answered.body)
    return {name: said[name] for name in said.keys() - {"state", "reason"}}


def again(case: Case) -> Doing:
    """Return what is asked after a crash, with what must be right before and after."""

    async def act(node: SmallNode) -> object:
        await is_right(node)
        answers = []
        for _ in range(2):
            answers.append(await code_of(case.act(node)))
            await node.tidy()
            await is_right(node)
        first, second = answers
        if isinstance(first, Answered):
            assert isinstance(second, Answered)
            assert (promised(first), second.replayed) == (promised(second), True)
        assert {each for each in answers if isinstance(each, str)} <= case.done
        for asset in () if case.short is None else ("USD", "MESI"):
            has = await node.store.read(books.balance, wallet("bob", asset))
            assert FUNDS - has == case.short.get(asset, 0)
        return first

    return act


@pytest.fixture
def mock_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_whoever_is_killed_at_any_step_has_what_was_paid_for_and_asks_again_for_the_same(
    case: Case, killer: Killer, mock_clock: MockClock
) -> None:
    async def look(life: Life) -> None:
        after = await killer.live_on(again(case), life.asked)
        if isinstance(life.answer, Answered):
            assert isinstance(after.answer, Answered)
            assert promised(after.answer) == promised(life.answer)
        assert len(set(life.asked)) == case.asked

    await killer.kill_at_every_step(case.act, case.before, look)
