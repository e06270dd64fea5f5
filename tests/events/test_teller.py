"""Webhooks end to end: everything, in order, at least once, to each endpoint by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from server.config import WebhookSettings
from server.events import eventlog
from server.events.eventlog import Happened, LoggedEvent
from server.events.feed import Feed
from server.parts.telling import drop_told
from server.webhooks import places, teller
from server.webhooks.schedule import RETRIES_S, Progress
from server.webhooks.teller import MAX_BODY, Teller, WebhookState, encode
from signalling.refusals import Refused
from tests.events.receiver import OTHER_SECRET, SECRET, Answer, Receiver, receiving
from tests.events.waiting import until
from tests.money.databases import AnyStore, running
from tests.server.test_node import wait_until


class Clock:
    """The wall clock, which a test may put forward. (Signatures are only good within five minutes of it.)"""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


def settings(receiver: Receiver, name: str = "books", **values: object) -> WebhookSettings:
    known = {"name": name, "url": receiver.url, "secrets": (SECRET,), "private": True}
    return msgspec.convert({**known, **values}, WebhookSettings)


@asynccontextmanager
async def telling(
    store: AnyStore, *endpoints: WebhookSettings, clock: Clock | None = None, holder: str = "node"
) -> AsyncIterator[Teller]:
    clock = clock or Clock()
    feed = Feed(store, clock)
    told = Teller(store, endpoints, feed.wait_beyond, clock, holder)
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        await nursery.start(told.run)
        yield told
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller, "LOOK_S", 0.02)


def event(number: int, type: str = "ticket.sold", **fields: object) -> Happened:
    return Happened("s_1", type, 1_784_000_000_000, {"number": number, **fields})


async def write(store: AnyStore, *events: Happened) -> list[int]:
    return [await store.write(eventlog.append, each) for each in events]


async def stands(told: Teller, name: str = "books") -> WebhookState:
    return next(state for state in await told.states() if state.name == name)


async def test_what_happens_is_told_in_order_with_the_ids_of_the_log(store: AnyStore) -> None:
    await write(store, event(0))
    async with receiving() as receiver, telling(store, settings(receiver)) as told:
        ids = await write(store, *(event(number) for number in range(1, 8)))
        await wait_until(lambda: len(receiver.taken) == 7)
        assert receiver.numbers() == list(range(1, 8)), "a new endpoint hears of nothing from before"
        assert [message["id"] for message in receiver.taken] == ids
        first = receiver.taken[0]
        assert (first["type"], first["subject"], first["timestamp"]) == (
            "ticket.sold",
            "s_1",
            "2026-07-14T03:33:20.000+00:00",
        )
        await until(lambda: has_everything(told))
        assert told.delivered == 7
        state = await stands(told)
        assert (state.state, state.failure) == ("active", None)


async def test_an_endpoint_hears_only_of_the_types_that_it_wants(store: AnyStore) -> None:
    async with receiving() as receiver, telling(store, settings(receiver, events=["tip.*"])) as told:
        await write(store, event(1), event(2, "tip.created"), event(3), event(4, "tip.reversed"))
        (last,) = await write(store, event(5))
        await wait_until(lambda: len(receiver.taken) == 2)
        assert receiver.numbers() == [2, 4]
        await until(lambda: has_everything(told))
        assert (await stands(told)).position == last


async def test_each_of_several_secrets_is_good_while_they_are_changed(store: AnyStore) -> None:
    async with receiving() as old, receiving(secret=OTHER_SECRET) as new:
        both = [SECRET, OTHER_SECRET]
        async with telling(store, settings(old, "old", secrets=both), settings(new, "new", secrets=both)):
            await write(store, event(1))
            await wait_until(lambda: old.numbers() == new.numbers() == [1])


async def test_what_was_not_taken_is_told_again_before_anything_else(store: AnyStore) -> None:
    clock = Clock()
    async with receiving(answers=[Answer(500)]) as receiver, telling(store, settings(receiver), clock=clock) as told:
        first, second = await write(store, event(1), event(2))
        await wait_until(lambda: told.failed == 1)
        await trio.sleep(0.2)
        assert receiver.heard == [str(first)], "it is left alone until it is due"
        state = await stands(told)
        assert (state.state, state.attempts, state.failure, state.lag) == ("waiting", 1, "answered 500", 2)
        clock.ahead_ms += RETRIES_S[0] * 1200
        await wait_until(lambda: receiver.numbers() == [1, 2])
        assert receiver.heard == [str(first), str(first), str(second)]


async def test_who_is_too_busy_gets_the_time_that_he_asks_for(store: AnyStore) -> None:
    clock = Clock()
    busy = Answer(429, (("Retry-After", "60"),))
    async with receiving(answers=[busy]) as receiver, telling(store, settings(receiver), clock=clock) as told:
        await write(store, event(1))
        await wait_until(lambda: told.failed == 1)
        clock.ahead_ms += 50_000
        await trio.sleep(0.2)
        assert len(receiver.heard) == 1
        clock.ahead_ms += 10_000
        await wait_until(lambda: receiver.numbers() == [1])


async def test_who_is_gone_is_left_alone_until_an_administrator_says_otherwise(store: AnyStore) -> None:
    clock = Clock()
    async with receiving(answers=[Answer(410)]) as receiver, telling(store, settings(receiver), clock=clock) as told:
        await write(store, event(1))
        await wait_until(lambda: told.disabled == 1)
        await write(store, event(2))
        clock.ahead_ms += 200_000
        await trio.sleep(0.2)
        assert len(receiver.heard) == 1
        assert (await stands(told)).disabled == "gone"
        clock.ahead_ms = 0
        assert (await told.enable("books")).state == "active"
        await wait_until(lambda: receiver.numbers() == [1, 2])
        with pytest.raises(Refused, match="webhook_unknown"):
            await told.enable("other")


async def test_one_slow_endpoint_delays_no_other(store: AnyStore) -> None:
    async with (
        receiving(usual=Answer(after_s=10)) as slow,
        receiving() as fast,
        telling(store, settings(slow, "slow"), settings(fast, "fast")) as told,
    ):
        await write(store, *(event(number) for number in range(20)))
        await wait_until(lambda: len(fast.taken) == 20)
        await wait_until(lambda: bool(slow.taken))
        assert len(slow.taken) == 1
        assert (await stands(told, "slow")).lag == 20


async def test_a_node_goes_on_where_the_one_before_it_stopped(store: AnyStore) -> None:
    async with receiving() as receiver:
        async with telling(store, settings(receiver)):
            await write(store, event(1))
            await wait_until(lambda: receiver.numbers() == [1])
        await write(store, event(2))
        async with telling(store, settings(receiver)):
            await wait_until(lambda: receiver.numbers()[-1] == 2)
    assert set(receiver.numbers()) == {1, 2}


async def test_of_two_nodes_one_tells_and_the_other_takes_over_when_that_is_gone(store: AnyStore) -> None:
    clock = Clock()
    async with receiving() as receiver:
        async with (
            telling(store, settings(receiver), clock=clock, holder="one") as one,
            telling(store, settings(receiver), clock=clock, holder="two") as two,
        ):
            await write(store, *(event(number) for number in range(10)))
            await wait_until(lambda: len(receiver.taken) == 10)
            await trio.sleep(0.1)
            assert receiver.numbers() == list(range(10))
            assert (one.delivered, two.delivered) == (10, 0)
        async with telling(store, settings(receiver), clock=clock, holder="two") as two:
            await write(store, event(10))
            await trio.sleep(0.2)
            assert two.delivered == 0, "the other may still be at it"
            clock.ahead_ms += places.LEASE_MS
            await wait_until(lambda: two.delivered == 1)
    assert receiver.numbers() == list(range(11))


def test_what_would_be_too_large_is_told_without_its_data() -> None:
    def message(size: int) -> bytes:
        return encode(LoggedEvent(7, event(1, pad="x" * size)))

    assert b'"pad"' in message(19_000)
    large = msgspec.json.decode(message(25_000))
    assert large == {
        "type": "ticket.sold",
        "timestamp": "2026-07-14T03:33:20.000+00:00",
        "id": 7,
        "subject": "s_1",
        "truncated": True,
    }
    assert all(len(message(size)) < MAX_BODY for size in range(19_700, 20_000))


async def test_old_events_are_dropped_only_when_every_webhook_that_is_told_has_them(store: AnyStore) -> None:
    ids = await write(store, *(event(number) for number in range(6)))

    async def place(name: str, position: int, disabled: str | None = None) -> None:
        await store.write(places.claim, name, "node", 1)
        assert await store.write(places.save, name, "node", Progress(position, disabled=disabled), 1)

    async def drop(*names: str) -> int:
        return await store.write(drop_told, names, 2_000_000_000_000, 100)

    await place("behind", ids[1])
    await place("ahead", ids[3])
    await place("given_up", ids[0], "gone")
    assert await drop("behind", "ahead", "given_up") == 2
    assert await drop("ahead", "given_up") == 2, "one that is not in the configuration any more needs nothing"
    assert await drop("given_up") == 2
    assert (await store.read(eventlog.span)).dropped_to == ids[-1]


async def test_who_was_away_for_too_long_goes_on_behind_the_gap(store: AnyStore) -> None:
    async with receiving() as receiver:
        async with telling(store, settings(receiver)):
            pass
        ids = await write(store, *(event(number) for number in range(4)))
        await store.write(eventlog.drop, 2_000_000_000_000, ids[1], 100)
        async with telling(store, settings(receiver)) as told:
            await wait_until(lambda: receiver.numbers() == [2, 3])
            assert told.gaps == 1


TELLING = """
import sys, time, trio, msgspec
from pathlib import Path
from server.events import eventlog
from server.config import WebhookSettings
from server.events.eventlog import Happened
from server.events.feed import Feed
from server.webhooks.teller import Teller
from tests.money.databases import running

async def main(place, url, secret, first):
    wall_ms = lambda: time.time_ns() // 1_000_000
    async with running(Path(place) if "://" not in place else place) as store, trio.open_nursery() as nursery:
        feed = Feed(store, wall_ms)
        await nursery.start(feed.run)
        endpoint = WebhookSettings("books", url, (secret,), private=True)
        await nursery.start(Teller(store, [endpoint], feed.wait_beyond, wall_ms, "node").run)
        for number in range(int(first), 100_000):
            await store.write(eventlog.append, Happened("s_1", "ticket.sold", 1, {"number": number}))
            print(number, flush=True)
            await trio.sleep(0.002)

trio.run(main, *sys.argv[1:])
"""


def start(place: Path | str, url: str, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TELLING, str(place), url, SECRET, str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> list[int]:
    """End a process at once; returns the numbers of the events that it had committed."""
    os.kill(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    return [int(line) for line in said.split("\n")[:-1]]


async def test_nodes_that_are_killed_at_any_moment_have_told_everything_in_order(place: Path | str) -> None:
    """Each process writes events and tells them. What one had no time to tell, the next does."""
    committed: list[int] = []
    async with receiving() as receiver:
        for turn in range(3):
            before = len(receiver.heard)
            process = start(place, receiver.url, turn * 10_000)
            try:
                with trio.fail_after(30):
                    while len(receiver.heard) < before + 10 * turn + 3:  # noqa: ASYNC110  (another process does it)
                        await trio.sleep(0.001)
            finally:
                committed += kill(process)
        async with running(place) as store, telling(store, settings(receiver)) as told:
            await until(lambda: has_everything(told))
    assert set(committed) <= set(receiver.numbers())
    heard = [int(identifier) for identifier in receiver.heard]
    assert heard == sorted(heard), "what is told again is told before anything newer"
    assert receiver.numbers() == sorted(receiver.numbers())


async def has_everything(told: Teller) -> bool:
    return (await stands(told)).lag == 0
