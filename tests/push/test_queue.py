"""Devices and what they are to be told, as rows: the newest of each tag, within bounds, and not for ever."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from server.push import devices, queue
from server.push.devices import MAX_DEVICES, PAUSES_S, Subscription, subscription_untrusted
from server.push.notices import USEFUL_S, Kinds, Notice, of_case, of_message, of_tip
from server.push.queue import MAX_QUEUED
from tests.money.databases import AnyStore
from tests.money.test_tips import open_accounts
from tests.push.services import Browser

NOW = 1_700_000_000_000


def browser(name: str) -> Subscription:
    given = Browser().subscription(f"https://push.example.org/{name}")
    return subscription_untrusted(given["endpoint"], given["keys"]["p256dh"], given["keys"]["auth"], private=False)


def talk(number: int, at: int = NOW) -> Any:
    return of_message(f"c_{number}", "message", at, "bob", group=False)


async def test_the_newest_of_a_tag_is_told_and_one_that_comes_meanwhile_stays(store: AnyStore) -> None:
    await store.write(open_accounts, "ann")
    await store.write(devices.place, "d_1", "ann", browser("x"), NOW)
    assert await store.write(queue.add, [Notice("ann", talk(1)), Notice("ann", talk(1, NOW + 5))], 7) == 1
    assert await store.read(queue.position) == 7
    (old,) = await store.read(queue.due, NOW, 10)
    assert (old.words.at, old.version, old.account) == (NOW + 5, 1, "ann")
    await store.write(queue.add, [Notice("ann", talk(1, NOW + 9))], 8)
    await store.write(queue.take, old)
    (new,) = await store.read(queue.due, NOW, 10)
    assert (new.words.at, new.version) == (NOW + 9, 2)
    await store.write(queue.take, new)
    assert await store.read(queue.due, NOW, 10) == []


async def test_a_device_is_told_so_much_at_most_and_nothing_that_is_of_no_use(store: AnyStore) -> None:
    await store.write(open_accounts, "ann")
    await store.write(devices.place, "d_1", "ann", browser("x"), NOW)
    many = [Notice("ann", talk(number, NOW + number)) for number in range(MAX_QUEUED + 5)]
    await store.write(queue.add, many, 1)
    due = await store.read(queue.due, NOW, 1000)
    assert [each.words.at - NOW for each in due] == list(range(5, MAX_QUEUED + 5))
    await store.write(queue.add, [Notice("ann", of_case("k_1", NOW + 1000))], 2)
    later = NOW + USEFUL_S["message"] * 1000 + MAX_QUEUED + 5
    assert await store.write(queue.expire, later) == MAX_QUEUED - 1
    assert [each.words.kind for each in await store.read(queue.due, later, 10)] == ["case"]


async def test_a_device_that_fails_rests_longer_each_time_and_is_forgotten_in_the_end(store: AnyStore) -> None:
    await store.write(open_accounts, "ann")
    await store.write(devices.place, "d_1", "ann", browser("x"), NOW)
    await store.write(queue.add, [Notice("ann", of_tip(NOW))], 1)
    for failures, pause_s in enumerate(PAUSES_S):
        (queued,) = await store.read(queue.due, NOW, 10)
        assert queued.failures == failures
        assert await store.write(devices.fails, "d_1", failures, 0.0, NOW - 1)
        assert await store.read(queue.due, NOW + pause_s * 1000 - 2, 10) == []
        assert await store.read(queue.due, NOW + pause_s * 1000 - 1, 10) != []
        await store.write(_rest_until, NOW)
    assert not await store.write(devices.fails, "d_1", len(PAUSES_S), 0.0, NOW)
    assert await store.read(devices.counts) == {}
    assert await store.read(queue.due, 2 * NOW, 10) == []


async def test_a_success_forgives_failures_and_a_service_that_asks_for_longer_gets_it(store: AnyStore) -> None:
    await store.write(open_accounts, "ann")
    await store.write(devices.place, "d_1", "ann", browser("x"), NOW)
    await store.write(queue.add, [Notice("ann", of_tip(NOW))], 1)
    await store.write(devices.fails, "d_1", 0, 100.0, NOW)
    assert await store.read(queue.due, NOW + 99_999, 10) == []
    (queued,) = await store.read(queue.due, NOW + 100_000, 10)
    assert queued.failures == 1
    await store.write(devices.works, "d_1")
    (queued,) = await store.read(queue.due, NOW, 10)
    assert queued.failures == 0


async def test_who_uses_a_device_anew_gets_none_of_what_another_was_to_be_told_there(store: AnyStore) -> None:
    await store.write(open_accounts, "ann", "bob")
    shared = browser("shared")
    await store.write(devices.place, "d_1", "ann", shared, NOW)
    await store.write(queue.add, [Notice("ann", of_tip(NOW))], 1)
    kept = await store.write(devices.place, "d_2", "bob", shared, NOW + 1)
    assert kept.id == "d_1"
    assert await store.read(queue.due, NOW, 10) == []
    assert await store.read(devices.counts) == {"bob": 1}


async def test_the_device_that_was_not_used_for_longest_gives_way(store: AnyStore) -> None:
    await store.write(open_accounts, "ann")
    for number in range(MAX_DEVICES + 2):
        await store.write(devices.place, f"d_{number}", "ann", browser(str(number)), NOW + number)
    found = await store.read(devices.list_of, "ann")
    assert [each.id for each in found] == [f"d_{number}" for number in range(MAX_DEVICES + 1, 1, -1)]


async def test_what_one_is_told_of_is_kept(store: AnyStore) -> None:
    await store.write(open_accounts, "ann")
    assert await store.read(devices.kinds_of, "ann") == Kinds()
    await store.write(devices.set_kinds, "ann", Kinds(tip=False))
    await store.write(devices.set_kinds, "ann", Kinds(live=False))
    assert await store.read(devices.kinds_of, "ann") == Kinds(live=False)


def _rest_until(connection: sa.Connection, at: int) -> None:
    connection.execute(sa.text("UPDATE push_devices SET next_at = :at"), {"at": at})
