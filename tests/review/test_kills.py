"""Killed at every step of a block or a decision: what follows is done once, and whoever asks again changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
import trio
from trio.testing import MockClock

from server.access.people import People
from server.money import audit, books
from server.money.one_to_ones import Deliver, Reach, State
from server.money.payments import wallet
from server.review import rows
from server.review.desk import ReviewDesk
from tests.money.killing import Doing, Killer, Life, code_of
from tests.money.small_nodes import FUNDS, SmallNode, actor
from tests.money.test_crashes import resolved_twice
from tests.money.test_kills import ask, buy, go_live, names_of, open_sale, put_offer, spent
from tests.review.worlds import APPEAL_MS, FEE_BPS, TERMS, outcome


def desk_of(node: SmallNode) -> ReviewDesk:
    parts = (node.store, node.clock, node.rooms, node.access, node.usher, node.desk, TERMS, lambda: None)
    return ReviewDesk(*parts, fee_bps=FEE_BPS, appeal_ms=APPEAL_MS)


async def block(node: SmallNode) -> None:
    people = People(node.store, node.clock, node.access, node.rooms, desk_of(node))
    await people.block(actor("ann"), "bob")


async def ask_and_block(node: SmallNode) -> None:
    await code_of(ask(node))
    await block(node)


async def block_in_the_middle(node: SmallNode) -> None:
    await code_of(ask(node))
    for id in await node.store.read(names_of, "SELECT id FROM one_to_ones WHERE ended_at IS NULL"):
        for command in (Reach(State.RUNNING), Deliver(150_000)):
            node.desk.note(id, command)
    await trio.testing.wait_all_tasks_blocked()
    await block(node)


async def decide(node: SmallNode) -> None:
    await _decide(node, 2500, "mia")


async def appeal(node: SmallNode) -> None:
    (case,) = await node.store.read(names_of, "SELECT id FROM cases")
    await code_of(desk_of(node).appeal(actor("bob"), case, "no"))


async def decide_otherwise(node: SmallNode) -> None:
    await _decide(node, 10_000, "max")


async def _decide(node: SmallNode, refund_bps: int, by: str) -> None:
    desk = desk_of(node)
    (case,) = await node.store.read(names_of, "SELECT id FROM cases")
    await code_of(desk.take(actor(by), case))
    await code_of(desk.decide(actor(by), case, outcome(refund_bps)))


def refunded(connection: sa.Connection) -> int:
    return sum(map(int, names_of(connection, "SELECT refunded FROM case_stakes")))


async def short(node: SmallNode) -> int:
    """Return what Bob has less than he was given, which is what he has for it; all that must hold, holds."""
    assert await node.store.read(audit.check, node.clock.wall_ms()) == []
    assert await node.store.read(resolved_twice) == []
    missing = FUNDS - await node.store.read(books.balance, wallet("bob", "USD"))
    assert missing == await node.store.read(spent, "USD") - await node.store.read(refunded)
    for case in await node.store.read(names_of, "SELECT id FROM cases"):
        filed = await node.store.read(rows.find, case)
        assert len(filed.case.decisions) <= 2
    return missing


@dataclass(frozen=True)
class Step:
    """What is done, after what, and what Bob may have less in the end."""

    name: str
    act: Callable[[SmallNode], Awaitable[None]]
    before: tuple[Doing, ...]
    short: frozenset[int]


PAID = (go_live, put_offer, block_in_the_middle)
STEPS = [
    Step("block who asks", ask_and_block, (go_live, put_offer), frozenset({0})),
    Step("block a ticket holder", block, (go_live, open_sale, buy), frozenset({0})),
    # A node that starts anew pays what was delivered: then there is nothing to freeze.
    Step("block in the middle", block_in_the_middle, (go_live, put_offer), frozenset({0, 250})),
    Step("decide", decide, PAID, frozenset({188, 187})),
    Step("decide otherwise", decide_otherwise, (*PAID, decide, appeal), frozenset({0})),
]


def again(step: Step) -> Doing:
    async def act(node: SmallNode) -> object:
        await short(node)
        for _ in range(2):
            await step.act(node)
            await node.tidy()
            assert await short(node) in step.short
        return await node.store.read(names_of, "SELECT state || course FROM cases ORDER BY number")

    return act


@pytest.fixture
def mock_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
async def test_whoever_is_killed_at_any_step_of_a_block_or_a_decision_finds_it_done_once(
    step: Step, killer: Killer, mock_clock: MockClock
) -> None:
    async def look(life: Life) -> None:
        await killer.live_on(again(step), [])

    await killer.kill_at_every_step(step.act, step.before, look)
