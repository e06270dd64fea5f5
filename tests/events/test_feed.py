"""The log as people read it: each what concerns him, in order, waiting for what comes, told of what is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
import trio

from server.events import eventlog
from server.events.eventlog import Happened
from server.events.feed import Feed
from signalling.identifiers import AccountId, Actor
from signalling.refusals import Refused
from tests.money.databases import AnyStore
from tests.server.test_node import wait_until

ANN, BOB = Actor(AccountId("a_ann"), "Ann"), Actor(AccountId("a_bob"), "Bob")
ADMIN = Actor(AccountId("a_admin"), "admin", admin=True)
SOON_S = 5.0


def event(number: int, *accounts: str, subject: str = "s_1") -> Happened:
    return Happened(subject, "ticket.sold", 1000 + number, {"number": number}, accounts)


async def write(store: AnyStore, *events: Happened) -> list[int]:
    return [await store.write(eventlog.append, each) for each in events]


@asynccontextmanager
async def feeding(store: AnyStore) -> AsyncIterator[Feed]:
    feed = Feed(store, lambda: 77)
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        yield feed
        nursery.cancel_scope.cancel()


async def numbers(feed: Feed, actor: Actor, after: int = 0, limit: int = 50, subject: str | None = None) -> list[int]:
    page = await feed.page(actor, after, limit, subject=subject)
    return [entry.data["number"] for entry in page.events]


async def test_each_account_reads_what_it_is_named_in_and_administrators_read_all(store: AnyStore) -> None:
    await write(store, event(1, ANN.account), event(2, ANN.account, BOB.account), event(3), event(4, BOB.account))
    await write(store, event(5, subject=ANN.account))
    async with feeding(store) as feed:
        assert await numbers(feed, ANN) == [1, 2, 5]
        assert await numbers(feed, BOB) == [2, 4]
        assert await numbers(feed, ADMIN) == [1, 2, 3, 4, 5]


async def test_a_subject_narrows_what_may_be_read_and_never_widens_it(store: AnyStore) -> None:
    await write(store, event(1, ANN.account), event(2, ANN.account, subject="s_2"), event(3, BOB.account))
    async with feeding(store) as feed:
        assert await numbers(feed, ANN, subject="s_1") == [1]
        assert await numbers(feed, BOB, subject="s_2") == []
        assert await numbers(feed, BOB, subject=ANN.account) == []


async def test_pages_follow_each_other_without_a_gap_and_skip_what_is_for_others(store: AnyStore) -> None:
    await write(store, *(event(number, (ANN, BOB)[number % 2].account) for number in range(9)))
    async with feeding(store) as feed:
        read, after = [], 0
        while (page := await feed.page(ANN, after, 2)).events:
            read += [entry.data["number"] for entry in page.events]
            after = page.next
        assert read == [0, 2, 4, 6, 8]
        quiet = await feed.page(BOB, after, 2)
        assert (quiet.events, quiet.next, quiet.gap) == ([], page.next, None)


async def test_a_place_where_the_log_has_not_been_yet_is_refused(store: AnyStore) -> None:
    (last,) = await write(store, event(1))
    async with feeding(store) as feed:
        with pytest.raises(Refused, match="invalid_cursor"):
            await feed.page(ANN, last + 1, 10)


async def test_a_reader_waits_for_the_next_event_that_concerns_him(store: AnyStore) -> None:
    (last,) = await write(store, event(1))
    async with feeding(store) as feed:
        read: list[int] = []

        async def wait() -> None:
            page = await feed.page(ANN, last, 10, wait_s=SOON_S)
            read.extend(entry.data["number"] for entry in page.events)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_until(lambda: feed.counters()["feed_waiting"] == 1)
            await write(store, event(2, BOB.account))
            await trio.sleep(0.3)
            assert read == []
            await write(store, event(3, ANN.account))
        assert read == [3]
        assert feed.counters()["feed_waiting"] == 0


async def test_a_reader_waits_no_longer_than_he_asked_for(store: AnyStore) -> None:
    async with feeding(store) as feed:
        page = await feed.page(ANN, 0, 10, wait_s=0.2)
    assert (page.events, page.next, page.gap) == ([], 0, None)


async def test_nothing_is_missed_between_a_look_and_the_wait_for_what_comes(store: AnyStore) -> None:
    async with feeding(store) as feed:
        read: list[int] = []

        async def follow() -> None:
            after = 0
            while len(read) < 100:
                page = await feed.page(ANN, after, 3, wait_s=SOON_S)
                assert page.events, f"stuck behind {read}"
                read.extend(entry.data["number"] for entry in page.events)
                after = page.next

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                for number in range(100):
                    await write(store, event(number, ANN.account), event(number, BOB.account))
        assert read == list(range(100))


async def test_what_was_dropped_unread_is_told_as_a_gap(store: AnyStore) -> None:
    ids = await write(store, *(event(number, ANN.account) for number in range(6)))
    dropped = await store.write(eventlog.drop, 1003, ids[-1], 100)
    assert dropped == 3
    async with feeding(store) as feed:
        page = await feed.page(ANN, ids[0], 10)
        assert page.gap == ids[2]
        assert [entry.id for entry in page.events] == ids[3:]
        assert (await feed.page(ANN, ids[2], 10)).gap is None
        assert feed.counters()["feed_gaps"] == 1


async def test_ids_go_on_after_everything_was_dropped(store: AnyStore) -> None:
    ids = await write(store, event(1, ANN.account), event(2, ANN.account))
    await store.write(eventlog.drop, 5000, ids[-1], 100)
    async with feeding(store) as feed:
        page = await feed.page(ANN, 0, 10)
        assert (page.events, page.next, page.gap) == ([], ids[-1], ids[-1])
    (new,) = await write(store, event(3, ANN.account))
    assert new > ids[-1]


async def test_only_the_front_of_the_log_is_dropped_in_bounds_and_up_to_an_id(store: AnyStore) -> None:
    ids = await write(store, *(event(number) for number in (1, 2, 9, 3)))
    assert await store.write(eventlog.drop, 1005, ids[0], 100) == 1
    assert await store.write(eventlog.drop, 1005, ids[-1], 100) == 1
    assert await store.write(eventlog.drop, 1005, ids[-1], 100) == 0, "what is younger keeps what came after it"
    assert await store.write(eventlog.drop, 9000, ids[-1], 1) == 1
    left = await store.read(lambda connection: connection.execute(sa.text("SELECT event FROM event_audience")).all())
    assert [row[0] for row in left] == ids[3:], "audiences go with their events"


async def test_an_event_that_is_not_committed_holds_back_those_after_it(store: AnyStore) -> None:
    """Ids drawn out of the order of commits would let a reader pass over the slow one."""
    seen: list[int] = []

    def write_slowly(connection: sa.Connection) -> None:
        eventlog.append(connection, event(1))
        wait = "SELECT pg_sleep(0.4)" if connection.dialect.name == "postgresql" else "SELECT 1"
        connection.execute(sa.text(wait))

    async def follow() -> None:
        after = 0
        while len(seen) < 2:
            for logged in await store.read(eventlog.read_from, after, 10):
                after = logged.id
                seen.append(logged.event.fields["number"])
            await trio.sleep(0.01)

    with trio.fail_after(SOON_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            nursery.start_soon(store.write, write_slowly)
            await trio.sleep(0.1)
            await write(store, event(2))
    assert seen == [1, 2]
