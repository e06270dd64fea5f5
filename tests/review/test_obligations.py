"""What two people owe each other when one blocks the other: settled at once, and nobody pays for what did not come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.bids import rules
from server.database.prepared import Prepared
from server.money.amounts import split
from server.money.ledger import Kind, Leg, Move
from server.money.one_to_ones import State as Call
from server.money.one_to_ones import due
from server.money.payments import wallet
from server.review import deciding, evidence, rows
from server.review.cases import Object, RunOut, Second, State, Take
from server.review.stakes import Stake, repay
from signalling.refusals import Refused
from tests.money import commands
from tests.review.worlds import APPEAL_MS, FUNDS, PRICE, TERMS, World, copied, find_terms, outcome, template


@pytest.fixture(scope="module")
def empty() -> Iterator[sa.Engine]:
    engine = template()
    yield engine
    engine.dispose()


@pytest.fixture
def world(empty: sa.Engine) -> Iterator[World]:
    with copied(empty) as connection:
        yield World(connection)


def net(units: int) -> int:
    return split(units, [9000, 1000])[0]


@pytest.mark.parametrize("who", ["ann", "bob"])
@pytest.mark.parametrize("state", [Call.HELD, Call.QUEUED, Call.OFFERED, Call.ACCEPTED])
def test_what_waits_goes_back_whole_whoever_blocks(world: World, who: str, state: Call) -> None:
    world.ask()
    if state is not Call.HELD:
        world.reach(state)
    settled = world.block(who)
    assert [(one.refunded, one.captured) for one in settled.calls] == [(PRICE, 0)]
    assert (world.has("bob"), settled.cases, world.flaws()) == (FUNDS, (), [])
    world.hang_up(200_000)  # what the room says afterwards changes nothing
    assert (world.has("bob"), world.has("ann")) == (FUNDS, 0)


def test_who_blocks_in_the_middle_is_not_paid_before_it_was_looked_at(world: World) -> None:
    world.ask()
    world.reach(Call.RUNNING)
    world.deliver(50_000)
    settled = world.block("ann", 100_000)
    (filed,), (one,) = settled.cases, settled.calls
    assert (one.reason, one.captured, one.refunded) == ("guest_ejected", 1000, 2000), "nobody hears that it was a block"
    assert (filed.filing.kind, filed.case.reporter, filed.case.respondent) == ("cut_short", "bob", "ann")
    assert (world.has("bob"), world.has("ann"), world.has(f"case.{filed.case.id}", kind=Kind.ESCROW)) == (
        FUNDS - 1000,
        0,
        1000,
    )
    assert world.flaws() == []
    world.decide(filed.case.id, outcome(2500))
    assert (world.has("bob"), world.has("ann")) == (FUNDS - 750, net(750))
    assert world.has(f"case.{filed.case.id}", kind=Kind.ESCROW) == 0
    world.move(filed.case.id, Object("bob", "all of it"), "bob")
    world.decide(filed.case.id, outcome(10_000), "mod2")
    assert (world.has("bob"), world.worth("ann"), world.flaws()) == (FUNDS, 0, [])
    assert rows.find(world.connection, filed.case.id).case.state is State.CLOSED


def test_what_an_appeal_takes_back_from_who_has_spent_it_is_owed(world: World) -> None:
    world.ask()
    world.reach(Call.RUNNING)
    (filed,) = world.block("ann", 150_000).cases
    world.decide(filed.case.id, outcome(10_000))
    world.unblock("ann")
    world.tip(FUNDS)
    world.move(filed.case.id, Object("ann", "it was fair"), "ann")
    world.decide(filed.case.id, outcome(0), "mod2")
    assert (world.has("bob"), world.has("bob", kind=Kind.DEBT)) == (0, -1500)
    assert (world.has("ann"), world.flaws()) == (net(1500), [])


def test_a_viewer_who_blocks_pays_what_was_delivered_as_by_leaving(world: World) -> None:
    world.ask()
    world.reach(Call.RUNNING)
    settled = world.block("bob", 100_000)
    assert (settled.cases, world.has("bob"), world.has("ann")) == ((), FUNDS - 1000, net(1000))


def test_an_unseen_ticket_goes_back_whoever_blocks_and_one_of_a_show_that_began_when_its_seller_does(
    world: World,
) -> None:
    for began, who, back in ((False, "bob", True), (False, "ann", True), (True, "ann", True), (True, "bob", False)):
        world.open_sale()
        world.buy()
        settled = world.block(who, shown=began)  # the room knows before the sale does
        assert settled.seats == (("s1", "bob"),)
        assert world.has("bob") == FUNDS - (0 if back else PRICE), (began, who)
        assert (settled.cases, world.flaws()) == ((), [])
        world.unblock(who)
        world.cancel()
        assert world.has("bob") == FUNDS


def test_a_ticket_of_a_show_that_is_paid_and_still_on_becomes_a_case(world: World) -> None:
    world.open_sale()
    ticket = world.buy()
    world.earn()
    assert world.has("ann", "MESI") > 0
    (filed,) = world.block("ann").cases
    (stake,) = world.stakes(filed.case.id)
    assert (stake.kind, stake.subject, stake.units, stake.frozen) == ("ticket", ticket, PRICE, False)
    world.decide(filed.case.id, outcome(10_000))
    assert (world.has("bob"), world.has("ann", "MESI"), world.flaws()) == (FUNDS, 0, [])
    world.move(filed.case.id, Object("ann", "it was fair"), "ann")
    world.decide(filed.case.id, outcome(0), "mod2")
    assert (world.has("bob"), world.flaws()) == (FUNDS - PRICE, [])
    assert world.has("ann", "MESI") > 0


def test_reserved_seats_and_places_in_the_queue_are_given_up(world: World) -> None:
    sale = world.open_sale()
    world.connection.exec_driver_sql(f"INSERT INTO ticket_queue (sale, account, at) VALUES ('{sale.id}', 'bob', 0)")
    world.block("bob")
    waiting = Prepared("SELECT count(*) FROM ticket_queue")(world.connection).fetchone()
    assert waiting[0] == 0


def test_who_was_blocked_after_paying_reports_it_with_all_that_was_paid(world: World) -> None:
    world.ask()
    world.reach(Call.RUNNING)
    world.hang_up(300_000)
    world.tip(700)
    world.block("ann")
    filed = world.report()
    assert {(stake.kind, stake.units) for stake in world.stakes(filed.case.id)} == {("one_to_one", PRICE), ("tip", 700)}
    world.decide(filed.case.id, outcome(10_000))
    assert (world.has("bob"), world.worth("ann"), world.flaws()) == (FUNDS, 0, [])
    known = msgspec.json.decode(evidence.find(world.connection, filed.case.id).body)
    assert known["one_to_ones"][0]["delivered_ms"] == 300_000
    assert [block["blocker"] for block in known["blocks"]] == ["ann"]
    assert {line["phase"] for line in known["ledger"]} == {"hold", "posted", "immediate"}


def test_a_ticket_is_paid_back_by_reviewers_once_it_was_paid_out_and_by_the_sale_before(world: World) -> None:
    world.open_sale()
    ticket = world.buy()
    first = world.report()
    assert world.stakes(first.case.id) == []
    world.decide(first.case.id, outcome(0))
    world.earn()
    assert [stake.subject for stake in world.stakes(world.report().case.id)] == [ticket]


@pytest.mark.parametrize("parts", [(10_000, 2500), (2500, 10_000), (2500, 0), (0, 7500), (3333, 3334)])
@pytest.mark.parametrize("kind", ["frozen", "one_to_one", "ticket"])
def test_an_appeal_moves_the_difference_and_no_more(world: World, kind: str, parts: tuple[int, int]) -> None:
    if kind == "ticket":
        world.open_sale()
        world.buy()
        world.earn()
    else:
        world.ask()
        world.reach(Call.RUNNING)
    if kind == "one_to_one":
        world.hang_up(300_000)
    settled = world.block("ann", 300_000)
    case = settled.cases[0].case.id if settled.cases else world.report().case.id
    for part, reviewer in zip(parts, ("mod1", "mod2"), strict=True):
        world.decide(case, outcome(part), reviewer)
        back = split(PRICE, [part, 10_000 - part])[0]
        assert (world.worth("bob"), world.flaws()) == (FUNDS - PRICE + back, [])
        if kind != "ticket":
            assert abs(world.worth("ann") - net(PRICE - back)) <= 1
        if reviewer == "mod1":
            world.move(case, Object("bob", "no"), "bob")


def test_what_is_too_little_to_arrive_goes_back(world: World) -> None:
    stake = Stake("x", "c", "one_to_one", "r", "bob", "ann", "USD", 1, 9999, frozen=True)
    commands.do(world.connection, Move("m", "test", (Leg(wallet("bob", "USD"), stake.escrow, 1),)))
    after = repay(world.connection, stake, 0, find_terms, 1)
    assert (after.refunded, after.frozen, world.has("bob"), world.flaws()) == (1, False, FUNDS, [])


# -- any order ---------------------------------------------------------------------------------------------------------

Action = Callable[[World], object]
WHO = st.sampled_from(["ann", "bob"])
MS = st.integers(0, 400_000)
PART = st.sampled_from([0, 1, 2500, 9999, 10_000])


def in_case(act: Callable[[World, str], object], which: int) -> Action:
    return lambda world: act(world, world.filed[which % len(world.filed)]) if world.filed else None


def with_call(act: Callable[[World], object]) -> Action:
    return lambda world: act(world) if world.calls else None


def with_sale(act: Callable[[World], object]) -> Action:
    return lambda world: act(world) if world.sales else None


def chat(world: World, units: int) -> None:
    """Bid, and begin to chat."""
    world.bid(units)
    world.answer(rules.Accept())
    world.write()


def judge(world: World, case: str, part: int, other: int, who: str) -> None:
    """Decide a case, have a side appeal, and decide it for good."""
    world.decide(case, outcome(part))
    world.move(case, Object(who, "no"), who)
    world.decide(case, outcome(other), "mod2")


ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.just(World.ask),
    st.sampled_from([Call.QUEUED, Call.ACCEPTED, Call.RUNNING]).map(lambda s: with_call(lambda w: w.reach(s))),
    MS.map(lambda ms: with_call(lambda w: w.deliver(ms))),
    (MS | st.none()).map(lambda ms: with_call(lambda w: w.hang_up(ms))),
    st.integers(1, 5000).map(lambda units: lambda w: w.tip(units)),
    st.just(World.open_sale),
    st.sampled_from([World.buy, World.earn, World.cancel]).map(with_sale),
    st.tuples(WHO, MS | st.none()).map(lambda given: lambda w: w.block(*given)),
    WHO.map(lambda who: lambda w: w.unblock(who)),
    st.integers(1, 5000).map(lambda units: lambda w: w.bid(units)),
    st.integers(1, 5000).map(lambda units: lambda w: chat(w, units)),
    st.sampled_from([rules.Accept(), rules.Decline(), rules.Withdraw(), rules.Confirm()]).map(
        lambda command: lambda w: w.answer(command) if w.bids else None
    ),
    st.sampled_from([World.write, World.wait]),
    st.just(World.report),
    st.tuples(PART, st.sampled_from(["mod1", "mod2"]), st.integers(0, 9)).map(
        lambda given: in_case(lambda w, case: w.decide(case, outcome(given[0]), given[1]), given[2])
    ),
    st.tuples(PART, PART, WHO, st.integers(0, 9)).map(
        lambda given: in_case(lambda w, case: judge(w, case, *given[:3]), given[3])
    ),
    st.tuples(WHO, st.integers(0, 9)).map(
        lambda given: in_case(lambda w, case: w.move(case, Object(given[0], "no"), given[0]), given[1])
    ),
)


def do(world: World, action: Action) -> None:
    """Do one thing in a savepoint, as the store does: what is refused leaves nothing."""
    with ExitStack() as stack:
        stack.callback(world.connection.exec_driver_sql, "RELEASE one")
        world.connection.exec_driver_sql("SAVEPOINT one")
        try:
            action(world)
        except Refused:
            world.connection.exec_driver_sql("ROLLBACK TO one")


def finish(world: World) -> None:
    """Bring all that is open to its end: calls are over, shows not delivered, cases decided for nobody."""
    for _ in range(len(world.calls)):
        do(world, World.hang_up)
        world.calls.insert(0, world.calls.pop())
    for _ in range(len(world.sales)):
        do(world, World.cancel)
        world.sales.insert(0, world.sales.pop())
    for _ in range(2):
        do(world, World.wait)
    for case in world.filed:
        for reviewer in ("mod2", "mod3"):
            if rows.find(world.connection, case).case.state in (State.OPEN, State.APPEALED):
                do(world, lambda w, case=case, reviewer=reviewer: w.decide(case, outcome(0), reviewer))
        world.now_ms += APPEAL_MS
        do(world, lambda w, case=case: w.move(case, RunOut()))


def owed(world: World) -> int:
    """Return what Bob has to have paid in the end: what was delivered, less what a decision gave back."""
    known = {stake.subject: stake for case in world.filed for stake in world.stakes(case)}
    paid = 0
    for id in world.calls:
        row = Prepared("SELECT delivered_ms, captured FROM one_to_ones WHERE id = :id")(world.connection, id=id)
        delivered_ms, captured = row.fetchone()
        assert int(captured) <= due(PRICE, 300, delivered_ms), "no more is paid than was delivered"
        paid += int(captured)
    tickets = Prepared(
        "SELECT t.price FROM tickets t JOIN sales s ON s.id = t.sale WHERE t.state = 'sold' AND s.earned = 1"
    )
    paid += sum(int(price) for (price,) in tickets(world.connection))
    chats = Prepared("SELECT units, accepted_at FROM bids WHERE state IN ('paid', 'frozen')")
    for units, accepted_at in chats(world.connection).fetchall():
        assert accepted_at is not None, "nothing is paid that was not accepted"
        paid += int(units)
    given = Prepared("SELECT units FROM tips")(world.connection).fetchall()
    return paid + sum(int(units) for (units,) in given) - sum(stake.refunded for stake in known.values())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, max_size=25))
def test_in_any_order_the_books_balance_and_nobody_pays_for_what_was_not_delivered(
    empty: sa.Engine, actions: list[Action]
) -> None:
    with copied(empty) as connection:
        world = World(connection)
        for action in actions:
            do(world, action)
            assert world.flaws() == []
        finish(world)
        assert world.flaws() == []
        assert all(rows.find(connection, case).case.state is State.CLOSED for case in world.filed)
        assert not any(stake.frozen for case in world.filed for stake in world.stakes(case))
        left = Prepared("SELECT owner, units FROM balances WHERE kind IN ('escrow', 'held') AND units <> '0'")
        assert left(connection).fetchall() == []
        assert FUNDS - world.worth("bob") == owed(world)


def test_two_decide_about_much_money_and_one_about_little(world: World) -> None:
    strict = msgspec.structs.replace(TERMS, second_above={"USD": 100})
    for part, waits in ((300, False), (10_000, True)):
        world.ask()
        world.reach(Call.RUNNING)
        (filed,) = world.block("ann", 300_000).cases
        id = filed.case.id
        world.unblock("ann")
        world.move(id, Take("mod1"))
        moved = deciding.decide(world.connection, id, "mod1", outcome(part), APPEAL_MS, strict, world.tick())
        assert (moved.filed.case.proposal is not None, world.stakes(id)[0].frozen) == (waits, waits)
    world.move(id, Second("mod2", True, APPEAL_MS), "mod2")
    assert (world.stakes(id)[0].refunded, world.has("bob"), world.flaws()) == (PRICE, FUNDS - PRICE + 90, [])
