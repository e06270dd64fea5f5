"""Tips in both databases: paid, written down and counted in one transaction, and never to whom they may not go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from server.database.store import Store
from server.events import eventlog
from server.money import audit, books, debts, goals, offers, tips
from server.money.amounts import Amount, WireAmount
from server.money.assets import Assets
from server.money.ledger import PLATFORM, Account, Kind, Reverse
from server.money.payments import wallet
from server.money.quotes import DEFAULT_RATES, QUOTE_FOR_MS, FixedRates
from server.money.tips import DAY_MS, Gift, House, TipsGiven, TipView, tidy_message_untrusted
from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused
from signalling.wire.views import Person
from tests.money.commands import deposit, do
from tests.money.databases import AnyStore, running

ASSETS = Assets()
HOUSE = House(ASSETS, FixedRates(DEFAULT_RATES, ASSETS), fee_bps=1000, ripe_after_ms=1000, large_ripe_after_ms=9000)
GIVEN = TipsGiven()
ANN, BOB = AccountId("ann"), AccountId("bob")
A_TIP = Gift("tip.1", Person(BOB, "bob"), "Ann", Amount("USD", 100), "web", is_fresh=True)


def open_accounts(connection: sa.Connection, *names: str) -> None:
    for name in names:
        connection.exec_driver_sql(
            f"INSERT INTO accounts (id, name, folded, created_at) VALUES ('{name}', '{name}', '{name}', 0)"
        )


def statement(text: str) -> Callable[[sa.Connection], object]:
    return lambda connection: connection.exec_driver_sql(text)


async def open_wallets(store: AnyStore, units: int = 100_000, asset: str = "USD") -> None:
    await store.write(open_accounts, "ann", "bob", "eve")
    await store.write(do, deposit("bob", units, asset))


async def give(store: AnyStore, gift: Gift, now_ms: int = 0) -> TipView:
    return await store.write(tips.give, gift, HOUSE, now_ms)


async def has(store: AnyStore, owner: str, asset: str = "USD", kind: Kind = Kind.WALLET) -> int:
    return await store.read(books.balance, Account(owner, kind, asset))


async def given_to_ann(store: AnyStore, asset: str = "USD", since: int | None = None) -> tuple[int, int]:
    total = await store.read(GIVEN.total, BOB, ANN, asset, since)
    return total, await store.read(GIVEN.largest, BOB, ANN, asset, since)


async def refused(store: AnyStore, gift: Gift, now_ms: int = 0) -> str:
    with pytest.raises(Refused) as caught:
        await give(store, gift, now_ms)
    return caught.value.code


async def test_a_tip_in_fiat_arrives_as_the_token_with_the_fee_and_the_rate_in_the_books(store: AnyStore) -> None:
    await open_wallets(store, 100)
    tip = await give(store, replace(A_TIP, message="for you", anonymous=True), 5)
    assert tip == TipView(
        id="tip.1",
        sender=Person(BOB, "bob"),
        to=Person(ANN, "ann"),
        amount=WireAmount("USD", "100"),
        fee=WireAmount("USD", "10"),
        arrives=WireAmount("MESI", "9000000"),
        stream=None,
        menu_item=None,
        message="for you",
        anonymous=True,
        at=5,
        withdrawable_at=1005,
    )
    assert await store.read(tips.find, "tip.1") == tip
    assert (await has(store, "bob"), await has(store, "ann", "MESI")) == (0, 9_000_000)
    assert await has(store, PLATFORM, kind=Kind.FEE) == 10
    transfer = await store.read(books.find_transfer, "tip.1")
    assert transfer is not None
    assert transfer.quote is not None
    assert transfer.quote.rate.numerator / transfer.quote.rate.denominator == 100_000
    (logged,) = await store.read(eventlog.read_from, 0, 10)
    assert (logged.event.subject, logged.event.type, logged.event.at) == ("ann", "tip.created", 5)
    assert logged.event.fields["from"] == {"id": "bob", "name": "bob"}
    assert await store.read(audit.check, 5) == []


async def test_small_tips_add_up_to_a_total_and_not_to_a_single_one(store: AnyStore) -> None:
    await open_wallets(store)
    for number, units in enumerate((25, 25, 50)):
        await give(store, replace(A_TIP, id=f"tip.{number}", amount=Amount("USD", units)), now_ms=number)
    assert await given_to_ann(store) == (100, 50)
    assert await given_to_ann(store, since=1) == (75, 50)
    assert await given_to_ann(store, since=3) == (0, 0)
    assert await given_to_ann(store, "MESI") == (10_000_000, 5_000_000)  # at the rate of each, the fee included
    assert await given_to_ann(store, "EUR") == (0, 0)
    assert await store.read(GIVEN.total, ANN, BOB, "USD", None) == 0
    await store.write(tips.reverse, "tip.2", 9)
    assert await given_to_ann(store) == (50, 25)


async def test_a_tip_is_taken_back_once_in_the_asset_in_which_it_was_given(store: AnyStore) -> None:
    await open_wallets(store, 100)
    await give(store, A_TIP)
    assert (await store.write(tips.reverse, "tip.1", 7)).sender.id == BOB
    with pytest.raises(Refused, match="already_reversed"):
        await store.write(tips.reverse, "tip.1", 8)
    with pytest.raises(Refused, match="tip_unknown"):
        await store.write(tips.reverse, "deposit:bob:USD", 8)
    assert (await has(store, "bob"), await has(store, "ann", "MESI")) == (100, 0)
    kinds = [logged.event.type for logged in await store.read(eventlog.read_from, 0, 10)]
    assert kinds == ["tip.created", "tip.reversed"]
    assert await store.read(audit.check, 0) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"to": "nobody"}, "account_unknown"),
        ({"to": "bob"}, "self_tip"),
        ({"to": "BOB"}, "self_tip"),
        ({"stream": StreamId("none")}, "bad_context"),
        ({"stream": StreamId("eves")}, "bad_context"),
        ({"quote": "none"}, "quote_expired"),
        ({"amount": Amount("USD", 100_001)}, "insufficient_funds"),
        ({"amount": Amount("EUR", 1)}, "insufficient_funds"),
        ({"amount": Amount("MESI", 1), "surface": "mobile"}, "asset_not_allowed_on_surface"),
        ({"amount": Amount("BONUS", 1)}, "recipient_not_eligible"),
    ],
)
async def test_a_tip_that_may_not_be_given_charges_nobody(
    store: AnyStore, change: dict[str, object], code: str
) -> None:
    await open_wallets(store)
    await store.write(statement(STREAM.format(id="eves", owner="eve")))
    assert await refused(store, replace(A_TIP, **change)) == code  # type: ignore[arg-type]
    assert await has(store, "bob") == 100_000
    assert await store.read(eventlog.read_from, 0, 10) == []
    assert await store.read(books.find_transfer, "tip.1") is None


STREAM = (
    "INSERT INTO streams (id, number, owner, owner_name, title, description, kind, mode, epoch, tickets, entitled,"
    " ejected, started_at, ended) VALUES ('{id}', 1, '{owner}', '{owner}', '', '', 'video', 'public', 1, '[]', '[]',"
    " '[]', 0, 'left')"
)


async def test_the_money_of_a_tip_to_a_stream_that_has_ended_arrives(store: AnyStore) -> None:
    await open_wallets(store)
    await store.write(statement(STREAM.format(id="anns", owner="ann")))
    assert (await give(store, replace(A_TIP, stream=StreamId("anns")))).stream == "anns"


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO blocks (blocker, blocked, since) VALUES ('ann', 'bob', 0)",
        "INSERT INTO blocks (blocker, blocked, since) VALUES ('bob', 'ann', 0)",
        "INSERT INTO account_facts (account, suspended, tier) VALUES ('ann', TRUE, 0)",
    ],
)
async def test_who_can_t_be_tipped_is_refused_in_the_words_for_who_is_not_there(store: AnyStore, change: str) -> None:
    await open_wallets(store)
    with pytest.raises(Refused) as unknown:
        await give(store, replace(A_TIP, to="Zoe"))
    await store.write(statement(change))
    with pytest.raises(Refused) as caught:
        await give(store, A_TIP)
    assert str(caught.value) == str(unknown.value).replace("Zoe", "Ann")
    assert caught.value.extra == unknown.value.extra


async def test_bonus_tokens_go_to_creators_of_a_high_tier_and_arrive_as_they_are(store: AnyStore) -> None:
    await open_wallets(store, 50, "BONUS")
    await store.write(statement("INSERT INTO account_facts (account, suspended, tier) VALUES ('ann', FALSE, 5)"))
    tip = await give(store, replace(A_TIP, amount=Amount("BONUS", 50)))
    assert tip.arrives == WireAmount("BONUS", "45")


async def test_a_quote_holds_until_it_expires(store: AnyStore) -> None:
    await open_wallets(store)
    quote = await store.write(tips.quote_for, "USD", None, HOUSE, "q.1", 0)
    assert quote is not None
    await store.write(offers.add, quote)
    rateless = replace(HOUSE, rates=FixedRates(DEFAULT_RATES[:0], ASSETS))
    tip = await store.write(tips.give, replace(A_TIP, quote="q.1"), rateless, QUOTE_FOR_MS - 1)
    assert tip.arrives == WireAmount("MESI", "9000000")
    late = replace(A_TIP, id="tip.2", quote="q.1")
    assert await refused(store, late, QUOTE_FOR_MS) == "quote_expired"
    assert await refused(store, replace(late, amount=Amount("EUR", 1)), 0) == "quote_expired"
    with pytest.raises(Refused, match="rate_unavailable"):
        await store.write(tips.give, replace(A_TIP, id="tip.3"), rateless, 0)
    assert await store.write(offers.forget, QUOTE_FOR_MS + offers.KEPT_MS) == 0
    assert await store.write(offers.forget, QUOTE_FOR_MS + offers.KEPT_MS + 1) == 1
    assert await store.read(books.find_quote, "q.1") == quote  # with the tip that it was used for
    assert await has(store, "bob") == 99_900


async def test_much_within_a_day_needs_a_fresh_log_in_and_is_withdrawn_later(store: AnyStore) -> None:
    await open_wallets(store)
    old = replace(A_TIP, is_fresh=False)
    at_once = await give(store, replace(old, amount=Amount("USD", 49_999)))
    assert at_once.withdrawable_at == 1000
    more = replace(old, id="tip.2", amount=Amount("USD", 2))
    assert await refused(store, more) == "step_up_required"
    assert await has(store, "bob") == 50_001
    assert (await give(store, replace(more, is_fresh=True))).withdrawable_at == 9000
    assert await refused(store, replace(more, id="tip.3"), DAY_MS - 1) == "step_up_required"
    assert (await give(store, replace(more, id="tip.3"), DAY_MS)).withdrawable_at == DAY_MS + 1000


async def test_of_two_tips_in_one_instant_the_second_sees_the_first(store: AnyStore) -> None:
    await open_wallets(store, 60_000)
    outcomes: list[str] = []

    async def one(number: int) -> None:
        gift = replace(A_TIP, id=f"tip.{number}", amount=Amount("USD", 30_000), is_fresh=False)
        try:
            outcomes.append((await give(store, gift)).id)
        except Refused as refusal:
            outcomes.append(refusal.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 1)
        nursery.start_soon(one, 2)
    assert "step_up_required" in outcomes
    assert await has(store, "bob") == 30_000


async def test_two_equal_tips_in_one_instant_are_two_tips_while_the_money_lasts(store: AnyStore) -> None:
    await open_wallets(store, 250)
    outcomes: list[str] = []

    async def one(number: int) -> None:
        try:
            await give(store, replace(A_TIP, id=f"tip.{number}"))
            outcomes.append("given")
        except Refused as refusal:
            outcomes.append(refusal.code)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(one, number)
    assert sorted(outcomes) == ["given"] * 2 + ["insufficient_funds"] * 4
    assert await given_to_ann(store) == (200, 100)
    assert await store.read(audit.check, 0) == []


async def test_what_arrived_lately_is_not_ripe_until_its_time(store: AnyStore) -> None:
    await open_wallets(store)
    await give(store, A_TIP)
    await give(store, replace(A_TIP, id="tip.2"), 500)
    for now_ms, units in ((0, 18_000_000), (1000, 9_000_000), (1500, 0)):
        assert await store.read(tips.unripe, "ann", "MESI", now_ms) == units
    await store.write(tips.reverse, "tip.2", 0)
    assert await store.read(tips.unripe, "ann", "MESI", 0) == 9_000_000


async def test_who_owes_can_t_spend_and_what_comes_in_pays_it_first(store: AnyStore) -> None:
    await open_wallets(store, 100)
    await give(store, A_TIP)
    await store.write(do, Reverse("deposit:bob:USD"))
    assert await has(store, "bob", kind=Kind.DEBT) == -100
    await store.write(do, deposit("bob", 30, identifier="second"))
    await store.write(do, deposit("bob", 500, "MESI", "third"))
    for gift in (replace(A_TIP, amount=Amount("USD", 1)), replace(A_TIP, amount=Amount("MESI", 1))):
        assert await refused(store, replace(gift, id="tip.2")) == "in_debt"
    assert await store.write(debts.settle_due, 0, 10) == 1
    assert (await has(store, "bob"), await has(store, "bob", kind=Kind.DEBT)) == (0, -70)
    assert await store.write(debts.settle_due, 0, 10) == 0
    await store.write(do, deposit("bob", 100, identifier="fourth"))
    assert await store.write(debts.settle, "bob", "USD", 0)
    assert (await has(store, "bob"), await has(store, "bob", kind=Kind.DEBT)) == (30, 0)
    await give(store, replace(A_TIP, id="tip.2", amount=Amount("USD", 30)))
    assert await store.read(audit.check, 0) == []


@settings(max_examples=12, deadline=None)  # each makes a database
@given(st.lists(st.tuples(st.integers(1, 10**30), st.booleans()), max_size=12))
def test_sums_of_tips_are_what_was_given_and_not_taken_back(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, bool]]
) -> None:
    async def check() -> None:
        async with running(tmp_path_factory.mktemp("tips") / "db") as store:
            assert isinstance(store, Store)
            await open_wallets(store, 10**32, "MESI")

            def all_at_once(connection: sa.Connection) -> None:
                for number, (units, taken_back) in enumerate(plan):
                    gift = replace(A_TIP, id=f"tip.{number}", amount=Amount("MESI", units))
                    tips.give(connection, gift, HOUSE, number)
                    if taken_back:
                        tips.reverse(connection, f"tip.{number}", number)

            await store.write(all_at_once)
            standing = [units for units, taken_back in plan if not taken_back]
            assert await given_to_ann(store, "MESI") == (sum(standing), max(standing, default=0))
            assert await store.read(books.balance, wallet("bob", "MESI")) == 10**32 - sum(standing)
            assert await store.read(audit.check, 0) == []

    trio.run(check)


async def test_a_large_tip_that_is_passed_on_in_small_ones_ripens_no_sooner(store: AnyStore) -> None:
    await open_wallets(store, 6000 * 10**6, "MESI")
    await store.write(do, deposit("ann", 300, "MESI"))
    large = await give(store, replace(A_TIP, amount=Amount("MESI", 6000 * 10**6)))
    assert large.withdrawable_at == 9000
    to_eve = Gift("", Person(ANN, "ann"), "eve", Amount("MESI", 300), "web", is_fresh=True)
    own, *passed_on = [await give(store, replace(to_eve, id=f"on.{number}"), 10) for number in range(3)]
    assert own.withdrawable_at == 1010  # her own, which she had before
    assert [tip.withdrawable_at for tip in passed_on] == [9000, 9000]
    to_bob = replace(to_eve, id="back", sender=Person(AccountId("eve"), "eve"), to="bob", amount=Amount("MESI", 700))
    assert (await give(store, to_bob, 20)).withdrawable_at == 9000
    assert (await give(store, replace(to_eve, id="later"), 9000)).withdrawable_at == 10_000


@pytest.mark.parametrize(
    ("text", "code"),
    [("a\x00b", "invalid_message"), ("x" * 501, "invalid_message"), ("pay \u202eme", "invalid_message")],
)
def test_a_message_is_judged_before_anybody_is_charged(text: str, code: str) -> None:
    with pytest.raises(Refused, match=code):
        tidy_message_untrusted(text)


def test_a_message_may_be_missing_or_in_any_writing() -> None:
    assert tidy_message_untrusted("  ") == ""
    assert (
        tidy_message_untrusted(" e\u0301\u0644\u06c1 \U0001f469\u200d\U0001f680\n")
        == "\u00e9\u0644\u06c1 \U0001f469\u200d\U0001f680"
    )


async def test_a_goal_is_told_of_once_and_after_the_tip_that_reached_it(store: AnyStore) -> None:
    await open_wallets(store)
    await store.write(goals.create, ANN, None, "A lamp", Amount("USD", 150), 0)
    for number in range(3):
        await give(store, replace(A_TIP, id=f"tip.{number}"))
    kinds = [logged.event.type for logged in await store.read(eventlog.read_from, 0, 10)]
    assert kinds == ["tip.created", "tip.created", "goal.reached", "tip.created"]
