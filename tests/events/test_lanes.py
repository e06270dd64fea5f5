"""The log over real sockets: all who hear the same are written to at once, and each hears it in order and once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa

from server.events import eventlog
from server.events.crowd import Crowd, Follower
from server.events.eventlog import Fresh, Happened, LoggedEvent
from server.events.lane import AT_ONCE, AT_ONCE_BYTES, divided
from signalling.identifiers import StreamId
from signalling.wire.events import StreamStarted
from signalling.wire.messages import Encoded
from tests.events.test_feed import feeding
from tests.money.databases import AnyStore
from tests.server.test_fanout import PEOPLE, Person, open_crowd
from tests.server.test_node import wait_until

# Some are in one party, some in another, and some in both.
PARTIES = {"p1": range(10), "p2": range(7, PEOPLE)}


def enter(connection: sa.Connection, party: str, account: str) -> None:
    number = eventlog.append(connection, Happened(party, "member.joined", 1, {}, (), party))
    eventlog.enter(connection, party, account, number - 1)


def leave(connection: sa.Connection, party: str, account: str) -> None:
    number = eventlog.append(connection, Happened(party, "member.left", 1, {}, (), party))
    eventlog.leave(connection, party, account, number)


def say(connection: sa.Connection, party: str, words: str, count: int) -> list[Fresh]:
    events = [Happened(party, "message.created", 1, {"words": words}, (), party)] * count
    first = eventlog.append_each(connection, events)
    return [Fresh(logged, logged) for logged in map(LoggedEvent, range(first, first + count), events)] if first else []


def entries(person: Person) -> list[int]:
    return [message["entry"]["id"] for message in person.heard() if message["type"] == "events.entry"]


async def expected(store: AnyStore, account: str) -> list[int]:
    return [logged.id for logged in await store.read(eventlog.read_from, 0, 1000, None, account)]


@pytest.mark.parametrize("seed", range(4))
async def test_each_hears_in_order_and_once_what_is_for_him_however_slowly_he_reads(
    store: AnyStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.events.lane.MAX_AHEAD", 6)
    monkeypatch.setattr("server.events.feed.PAUSE_S", 0.002)
    dice = random.Random(seed)
    inside = {(party, f"a{number}") for party, numbers in PARTIES.items() for number in numbers}
    for party, account in sorted(inside):
        await store.write(enter, party, account)
    async with open_crowd() as crowd, feeding(store) as feed:
        for person in crowd.people:
            await feed.follow(person.session, 0)
        for _ in range(80):
            party, account = dice.choice(list(PARTIES)), f"a{dice.randrange(PEOPLE)}"
            if dice.random() < 0.1:
                await store.write(leave if (party, account) in inside else enter, party, account)
                inside ^= {(party, account)}
            fresh = await store.write(say, party, "x" * dice.randrange(2000), dice.randrange(1, 4))
            for each in fresh:
                feed.hand(each)
            if not fresh or dice.random() < 0.2:
                feed.nudge()
            for person in dice.sample(crowd.people, dice.randrange(PEOPLE)):
                person.take()
        wanted = [await expected(store, person.session.actor.account) for person in crowd.people]

        def all_heard() -> bool:
            for person in crowd.people:
                person.take()
            if any(person.outbox.waiting() for person in crowd.people):
                return False  # a frame may be there in part
            for person in crowd.people:
                person.take()
            return all(len(entries(each)) >= len(ids) for each, ids in zip(crowd.people, wanted, strict=True))

        await wait_until(all_heard)
        assert [entries(person) for person in crowd.people] == wanted
        assert min(crowd.fanout.calls, crowd.fanout.queued, feed.counters()["feed_fallen_behind"]) > 0


async def test_who_has_another_connection_or_none_is_not_written_to_over_the_old_one(store: AnyStore) -> None:
    for number in range(PEOPLE):
        await store.write(enter, "p1", f"a{number}")
    async with open_crowd() as crowd, feeding(store) as feed:
        head = (await store.read(eventlog.span)).head
        for person in crowd.people:
            await feed.follow(person.session, head)
        await wait_until(lambda: feed.counters()["feed_followers"] == PEOPLE)
        await store.write(say, "p1", "first", 1)
        feed.nudge()
        await wait_until(lambda: feed.counters()["feed_entries_sent"] == PEOPLE)
        gone, moved = crowd.people[:2]
        gone.session.detach(gone.outbox)
        moved.outbox.close("replaced")
        await store.write(say, "p1", "second", 1)
        feed.nudge()
        await wait_until(lambda: feed.counters()["feed_entries_sent"] >= 2 * PEOPLE - 2)
        await crowd.hear()
        assert [b"second" in person.read for person in crowd.people] == [False, False] + [True] * (PEOPLE - 2)


async def test_rows_are_looked_up_anew_once_one_may_be_anothers() -> None:
    async with open_crowd() as crowd:
        followers = [Follower(person.session, "a", 0) for person in crowd.people]
        together = Crowd(followers)
        parts, apart = together.parts()
        assert (sum(len(part.rows) for part in parts), apart) == (PEOPLE, [])
        assert together.parts()[0] is parts
        first = crowd.people[0]
        row = first.outbox.row
        first.session.detach(first.outbox)
        first.outbox.stop()
        again, _ = together.parts()
        assert sum(len(part.rows) for part in again) == PEOPLE - 1
        assert row not in {int(each) for part in again for each in part.rows}
        rows = [crowd.fanout.seat(first.reader.fileno()) for _ in range(2000)]
        assert len(set(rows)) == 2000
        assert not {int(each) for part in again for each in part.rows} & set(rows)


def events_of(*sizes: int) -> list[tuple[int, Encoded]]:
    return [(id, Encoded(StreamStarted(server_now=0, stream=StreamId("x" * size)))) for id, size in enumerate(sizes, 1)]


@pytest.mark.parametrize(
    ("sizes", "ends"),
    [
        ((), []),
        ((1,), [1]),
        ((1,) * AT_ONCE, [AT_ONCE]),
        ((1,) * (AT_ONCE + 1), [AT_ONCE, AT_ONCE + 1]),
        ((AT_ONCE_BYTES, 1), [1, 2]),
        ((1, AT_ONCE_BYTES, AT_ONCE_BYTES, 1, 1), [1, 2, 3, 5]),
    ],
    ids=["none", "one", "full", "too many", "large first", "large ones"],
)
def test_what_is_written_at_once_is_bounded_in_number_and_size(sizes: tuple[int, ...], ends: list[int]) -> None:
    pieces: list[Any] = divided(events_of(*sizes))
    assert [piece.last for piece in pieces] == ends
    assert [piece.first for piece in pieces] == [1, *(end + 1 for end in ends)][: len(ends)]
    assert sum(len(piece.bundle.events) for piece in pieces) == len(sizes)
