"""The usher with rooms that fail or never answer: what is written is answered, and carried as soon as it can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple, cast

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from server.access.service import Access
from server.database.store import StoreFailed
from server.events import eventlog
from server.events.eventlog import Happened
from server.events.feed import LOOK_S, Feed
from server.money import usher as ushers
from server.money.usher import Usher
from signalling.identifiers import AccountId, StreamId
from signalling.policy import commands as c
from signalling.policy.state import RoomState
from signalling.policy.step import step
from signalling.rooms.rooms import Rooms
from signalling.wire.events import WireEvent
from tests.money.databases import give_schema
from tests.signalling.worlds import SimulatedClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STREAM, OTHER = StreamId("s1"), StreamId("s2")
ANN, BOB = AccountId("ann"), AccountId("bob")


class InMemory:
    """A database in this thread: simulated time does not wait for others."""

    def __init__(self) -> None:
        self._engine = sa.create_engine("sqlite://")
        self.failing = False
        with self._engine.begin() as connection:
            give_schema(connection)

    async def read(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        if self.failing:
            raise StoreFailed("it is not there")
        with self._engine.begin() as connection:
            return work(connection, *arguments)

    write = read

    def counters(self) -> dict[str, int]:
        return {}


class Streams:
    """Rooms that take facts by the real rules, in which Bob is with a ticket that is bought no more."""

    def __init__(self) -> None:
        room = RoomState(ANN, present=frozenset({BOB}), bought=frozenset({BOB}))
        self.states = {STREAM: room, OTHER: room}
        self.hanging: set[StreamId] = set()
        self.asked = 0
        self.told: list[StreamId] = []

    def owners(self) -> dict[StreamId, AccountId]:
        return {}

    def state(self, stream: StreamId) -> RoomState | None:
        return self.states.get(stream)

    async def take(self, stream: StreamId, fact: c.Fact) -> None:
        self.asked += 1
        if stream in self.hanging:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.states[stream], _ = step(self.states[stream], None, fact, 0)

    def tell(self, account: AccountId, event: WireEvent) -> None:
        assert account == BOB

    def tell_room(self, stream: StreamId, event: WireEvent, *, key: str) -> None:
        self.told.append(stream)


class Judge:
    """Who is judged anew; it breaks down as often as it is told to."""

    def __init__(self) -> None:
        self.judged: list[tuple[StreamId, AccountId]] = []
        self.givers: list[tuple[AccountId, AccountId]] = []
        self.failing = 0

    async def reconsider(self, stream: StreamId, account: AccountId) -> None:
        await trio.lowlevel.checkpoint()
        if self.failing:
            self.failing -= 1
            raise RuntimeError("broken down")
        self.judged.append((stream, account))

    async def changed_for_many(self, accounts: Iterable[AccountId], streamer: AccountId) -> None:
        await trio.lowlevel.checkpoint()
        self.givers += [(account, streamer) for account in accounts]


def refunded(stream: StreamId) -> Happened:
    price = {"asset": "USD", "units": "500"}
    fields = {"sale": "s", "ticket": "t", "price": price, "free": 1, "account": BOB}
    return Happened(stream, "ticket.refunded", 0, fields, (ANN, BOB))


@asynccontextmanager
async def working(streams: Streams, judge: Judge) -> AsyncIterator[Usher]:
    store, clock = InMemory(), SimulatedClock()
    feed = Feed(store, clock.wall_ms)
    usher = Usher(store, cast(Rooms, streams), cast(Access, judge), clock, feed.wait_beyond)
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        await nursery.start(usher.run)
        yield usher
        nursery.cancel_scope.cancel()


@pytest.fixture
def mock_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


async def test_a_purchase_is_answered_although_its_room_never_answers_and_is_carried_once_it_does(
    mock_clock: trio.testing.MockClock,
) -> None:
    streams, judge = Streams(), Judge()
    streams.hanging.add(STREAM)
    async with working(streams, judge) as usher:
        with trio.fail_after(ushers.PATIENCE_S + 1):
            await usher.seat_soon(STREAM, [BOB])
        assert usher.counters()["tickets_late"] == 1
        assert BOB in streams.states[STREAM].bought
        streams.hanging.clear()  # what was asked of it before is lost all the same
        with trio.fail_after(ushers.ATTEMPT_S + ushers.RETRY_S + 1):
            await usher.seat(STREAM, [BOB])
        assert BOB not in streams.states[STREAM].bought
        assert (usher.failures, streams.asked) == (1, 3)


async def test_a_room_that_never_answers_keeps_no_news_from_the_others(mock_clock: trio.testing.MockClock) -> None:
    streams, judge = Streams(), Judge()
    streams.hanging.add(STREAM)
    async with working(streams, judge) as usher:
        for stream in (STREAM, OTHER):
            await usher._store.write(eventlog.append, refunded(stream))
            usher.look()
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(ushers.PATIENCE_S + LOOK_S)
        assert judge.judged == [(OTHER, BOB)]
        assert streams.told == [STREAM, OTHER]


async def test_who_was_not_judged_since_that_failed_is_judged_by_the_next_attempt(
    mock_clock: trio.testing.MockClock,
) -> None:
    streams, judge = Streams(), Judge()
    judge.failing = 1
    async with working(streams, judge) as usher:
        await usher.seat(STREAM, [BOB])
        assert judge.judged == [(STREAM, BOB)]
        assert usher.counters() == {"tickets_carried": 1, "tickets_late": 0, "ticket_failures": 1}


async def test_what_another_node_wrote_is_carried_as_soon_as_the_log_shows_it(
    mock_clock: trio.testing.MockClock,
) -> None:
    streams, judge = Streams(), Judge()
    async with working(streams, judge) as usher:
        for kind in ("tip.created", "tip.reversed"):
            await usher._store.write(eventlog.append, Happened(ANN, kind, 0, {"from": {"id": BOB}}, (ANN, BOB)))
        await usher._store.write(eventlog.append, refunded(OTHER))
        await trio.sleep(3 * LOOK_S)
        # Once where both were read together, twice where the log was read in between.
        assert judge.givers in ([(BOB, ANN)], 2 * [(BOB, ANN)])
        assert (judge.judged, streams.told) == ([(OTHER, BOB)], [OTHER])


async def test_while_the_log_can_t_be_read_it_is_asked_again_once_a_second(mock_clock: trio.testing.MockClock) -> None:
    streams, judge = Streams(), Judge()
    async with working(streams, judge) as usher:
        await usher._store.write(eventlog.append, refunded(STREAM))
        usher._store.failing = True
        usher.look()
        await trio.sleep(3.5 * ushers.RETRY_S)
        assert usher.counters()["ticket_failures"] == 4
        usher._store.failing = False
        await trio.sleep(2 * ushers.RETRY_S)
        assert streams.told == [STREAM]
