"""The log as sessions follow it: all that one may see, in order and once, however slow one is, whoever comes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
import sqlalchemy as sa
import trio

from server.events import eventlog, lane
from server.events.eventlog import Fresh, Happened, LoggedEvent
from server.events.feed import Feed
from signalling.identifiers import AccountId, Actor
from signalling.sessions.session import Session
from signalling.wire.messages import Bundle, Encoded, Encoding
from tests.events.test_feed import feeding
from tests.money.databases import AnyStore
from tests.server.test_node import wait_until

ADMIN = Actor(AccountId("a_admin"), "admin", admin=True)
NAMES = ("ann", "bob", "eve")
PARTIES = ("p1", "p2")


class SlowSession:
    """A session, its own outbox, that keeps what it is shown, and says at times that much is waiting."""

    fanout, encoding = None, Encoding.JSON

    def __init__(self, actor: Actor, slow: Callable[[], bool]) -> None:
        self.actor, self._slow = actor, slow
        self.heard: list[int] = []
        self.outbox = self
        self.stop: Callable[[], None] = lambda: None

    def show(self, event: Encoded, key: str | None = None) -> None:
        self.heard.append(msgspec.json.decode(event.frame(Encoding.JSON))["entry"]["id"])

    def offer_all(self, bundle: Bundle, encoding: Encoding) -> None:
        for event in bundle.events:
            self.show(event)

    def waiting(self) -> int:
        return lane.MAX_AHEAD if self._slow() else 0

    def follow(self, stop: Callable[[], None]) -> None:
        self.stop = stop

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


async def follow(feed: Feed, name: str, slow: Callable[[], bool], after: int | None = 0) -> SlowSession:
    actor = ADMIN if name == "admin" else Actor(AccountId(name), name)
    session = SlowSession(actor, slow)
    await feed.follow(cast(Session, session), after)
    return session


def write_something(connection: sa.Connection, dice: random.Random, inside: dict[str, set[str]]) -> list[Fresh]:
    """Write some events; returns those that may be handed over."""
    party, name = dice.choice(PARTIES), dice.choice(NAMES)
    match dice.randrange(4):
        case 0:
            coming = name not in inside[party]
            number = eventlog.append(connection, Happened(party, "member.changed", 1, {}, (), party))
            if coming:
                eventlog.enter(connection, party, name, number - 1)
                inside[party].add(name)
            else:
                eventlog.leave(connection, party, name, number)
                inside[party].discard(name)
        case 1:
            eventlog.append(connection, Happened("s", "ticket.sold", 1, {}, (name,)))
        case _:
            events = [Happened(party, "message.created", 1, {"seq": 1}, (name,) * dice.randrange(2), party)]
            events *= dice.randrange(1, 3)
            first = eventlog.append_each(connection, events)
            if first:
                return [Fresh(logged, logged) for logged in map(LoggedEvent, range(first, first + 9), events)]
    return []


@pytest.mark.parametrize("seed", range(6))
async def test_each_follower_is_told_exactly_what_the_log_holds_for_him(store: AnyStore, seed: int) -> None:
    dice = random.Random(seed)
    inside: dict[str, set[str]] = {party: set() for party in PARTIES}
    async with feeding(store) as feed:
        sessions = [await follow(feed, name, lambda: dice.random() < 0.1) for name in (*NAMES, *NAMES, "admin")]
        for number in range(60):
            fresh = await store.write(write_something, dice, inside)
            if dice.random() < 0.8:
                for each in fresh[: dice.randrange(1, 3)]:
                    feed.hand(each)
            elif dice.random() < 0.5:
                feed.nudge()
            if dice.random() < 0.2:
                await trio.sleep(dice.random() / 50)
            if number == 30:
                for name in NAMES:
                    head = (await store.read(eventlog.span)).head
                    late = await follow(feed, name, lambda: dice.random() < 0.1, head)
                    late.heard = await expected(store, name, until=head)
                    sessions.append(late)
        for session in sessions:
            wanted = await expected(store, session.actor.name)
            await wait_until(lambda session=session, wanted=wanted: len(session.heard) >= len(wanted))  # type: ignore[misc]
            assert session.heard == wanted


async def expected(store: AnyStore, name: str, until: int = 2**62) -> list[int]:
    account = None if name == "admin" else name
    found = await store.read(eventlog.read_from, 0, 1000, None, account)
    return [logged.id for logged in found if logged.id <= until]


async def test_who_left_a_party_hears_that_and_who_comes_later_nothing_from_before(store: AnyStore) -> None:
    def enter(connection: sa.Connection, name: str) -> int:
        number = eventlog.append(connection, Happened("p", "member.joined", 1, {}, (), "p"))
        eventlog.enter(connection, "p", name, number - 1)
        return number

    def leave(connection: sa.Connection, name: str) -> int:
        number = eventlog.append(connection, Happened("p", "member.left", 1, {}, (), "p"))
        eventlog.leave(connection, "p", name, number)
        return number

    def say(connection: sa.Connection) -> int:
        return eventlog.append(connection, Happened("p", "message.created", 1, {"seq": 1}, (), "p"))

    async with feeding(store) as feed:
        ann = await follow(feed, "ann", lambda: False)
        bob = await follow(feed, "bob", lambda: False)
        came = await store.write(enter, "ann")
        first = await store.write(say)
        both = await store.write(enter, "bob")
        second = await store.write(say)
        gone = await store.write(leave, "ann")
        await store.write(say)
        back = await store.write(enter, "ann")
        await wait_until(lambda: bool(ann.heard) and ann.heard[-1] == back and len(bob.heard) > 2)
        assert ann.heard == [came, first, both, second, gone, back]
        assert bob.heard[:3] == [both, second, gone]
        assert await expected(store, "ann") == ann.heard


async def test_what_is_handed_over_is_told_unread_when_nothing_is_missing_before_it(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(connection: sa.Connection) -> int:
        number = eventlog.append(connection, Happened("p", "member.joined", 1, {}, (), "p"))
        eventlog.enter(connection, "p", "ann", number - 1)
        return number

    def say(connection: sa.Connection) -> Fresh:
        happened = Happened("p", "message.created", 1, {}, (), "p")
        logged = LoggedEvent(eventlog.append(connection, happened), happened)
        return Fresh(logged, logged)

    monkeypatch.setattr("server.events.feed.LOOK_S", 60.0)
    async with feeding(store) as feed:
        ann = await follow(feed, "ann", lambda: False)
        await wait_until(lambda: feed.counters()["feed_followers"] == 1)
        wanted = [await store.write(enter)]
        for handed in (1, 1, 2, 3, 3, 4):
            fresh = await store.write(say)
            wanted.append(fresh.logged.id)
            if feed.counters()["feed_handed"] == handed:
                wanted.append((fresh := await store.write(say)).logged.id)  # the one before is not handed over
            feed.hand(fresh)
            await wait_until(lambda: ann.heard == wanted)
        assert feed.counters()["feed_handed"] == 4


async def test_what_waits_is_told_at_a_nudge_and_not_only_at_the_next_look(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.events.feed.LOOK_S", 60.0)
    async with feeding(store) as feed:
        ann = await follow(feed, "ann", lambda: False)
        await wait_until(lambda: feed.counters()["feed_followers"] == 1)
        await trio.sleep(0.2)
        number: Any = await store.write(eventlog.append, Happened("s", "ticket.sold", 1, {}, ("ann",)))
        feed.nudge()
        await wait_until(lambda: ann.heard == [number])


async def test_parties_are_forgotten_with_the_events_that_they_could_see(store: AnyStore) -> None:
    def live(connection: sa.Connection) -> int:
        number = eventlog.append(connection, Happened("p", "member.joined", 1, {}, (), "p"))
        eventlog.enter(connection, "p", "ann", number - 1)
        eventlog.leave(connection, "p", "ann", number)
        return number

    number = await store.write(live)
    assert await store.write(eventlog.drop, 5, number, 10) == 1
    left = await store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM event_parties").scalar_one())
    assert left == 0


async def test_a_page_is_found_far_beyond_what_is_looked_through_at_once(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.events.feed.WINDOW", 5)
    others = [Happened("s", "ticket.sold", 1, {}, ("bob",))] * 40
    await store.write(eventlog.append_each, [*others, Happened("s", "ticket.sold", 1, {}, ("ann",)), *others])
    ann = Actor(AccountId("ann"), "ann")
    async with feeding(store) as feed:
        page = await feed.page(ann, 0, 10)
        assert len(page.events) == 1
        rest = await feed.page(ann, page.next, 10)
        assert (rest.events, rest.next) == ([], (await store.read(eventlog.span)).head)
