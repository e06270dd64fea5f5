"""The event log: one order for all readers, nothing without what it tells, nothing passed over."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
import trio

from server.events import eventlog
from server.events.eventlog import MAX_READ, Happened
from tests.money.databases import AnyStore


def event(number: int, subject: str = "s1") -> Happened:
    return Happened(subject, "ticket.sold", 1000 + number, {"number": number})


async def test_events_are_read_in_order_after_an_id(store: AnyStore) -> None:
    ids = [await store.write(eventlog.append, event(number)) for number in range(5)]
    assert ids == sorted(set(ids))
    rest = await store.read(eventlog.read_from, ids[1], 2)
    assert [(logged.id, logged.event) for logged in rest] == [(ids[2], event(2)), (ids[3], event(3))]
    assert await store.read(eventlog.read_from, ids[-1], 10) == []


async def test_one_subject_may_be_read_alone(store: AnyStore) -> None:
    for number in range(6):
        await store.write(eventlog.append, event(number, f"s{number % 2}"))
    mine = await store.read(eventlog.read_from, 0, MAX_READ + 1, "s1")
    assert [logged.event.fields["number"] for logged in mine] == [1, 3, 5]


def told_too_early(connection: sa.Connection) -> None:
    eventlog.append(connection, event(1))
    raise ZeroDivisionError


async def test_what_did_not_happen_is_not_told(store: AnyStore) -> None:
    with pytest.raises(ZeroDivisionError):
        await store.write(told_too_early)
    assert await store.read(eventlog.read_from, 0, 10) == []


async def test_a_reader_who_follows_many_writers_misses_nothing(store: AnyStore) -> None:
    seen: list[int] = []

    async def writer(number: int) -> None:
        for turn in range(20):
            await store.write(eventlog.append, event(number * 100 + turn))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(writer, number)
        after = 0
        with trio.fail_after(60):
            while len(seen) < 200:
                for logged in await store.read(eventlog.read_from, after, 50):
                    after = logged.id
                    seen.append(logged.event.fields["number"])
    assert sorted(seen) == sorted(number * 100 + turn for number in range(10) for turn in range(20))
