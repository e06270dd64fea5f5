"""Many connections told at once: each hears all, in order and whole, however slow it is; who is cut hears nothing."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import trio
from websockets.frames import Opcode

from server.connections import fanout
from server.connections.fanout import Fanout
from server.connections.framing import WebSocketFraming
from server.connections.outbox import SocketOutbox
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.sessions.fanning import show_each, show_newest, tell_all
from signalling.sessions.session import Session
from signalling.wire.events import StreamStarted
from signalling.wire.messages import Bundle, Encoded, Encoding
from tests.server.sockets import frames_in
from tests.signalling.test_session import Clock, nothing

FRAMINGS = {Encoding.JSON: WebSocketFraming(Opcode.TEXT), Encoding.MSGPACK: WebSocketFraming(Opcode.BINARY)}
LOADS = {Encoding.MSGPACK: msgspec.msgpack.decode, Encoding.JSON: msgspec.json.decode}
PEOPLE = 2 * fanout.LEAST


@dataclass
class Person:
    """A session on a real socket, and what its client has read."""

    session: Session
    outbox: SocketOutbox
    reader: socket.socket
    read: bytearray = field(default_factory=bytearray)

    def take(self) -> None:
        with suppress(BlockingIOError):
            self.read += self.reader.recv(65_536)

    def heard(self) -> list[dict[str, Any]]:
        return [LOADS[self.session.encoding](frame) for frame in frames_in(self.read)]

    def numbers(self) -> list[int]:
        return [message["event"] for message in self.heard() if message["type"] == "stream.started"]


@dataclass
class Crowd:
    people: list[Person]
    fanout: Fanout

    def sessions(self) -> Iterator[Session]:
        return (person.session for person in self.people)

    async def hear(self) -> None:
        """Let everybody read all."""
        with trio.fail_after(10):
            while True:
                for person in self.people:
                    person.take()
                if not any(person.outbox.waiting() for person in self.people):
                    break
                await trio.sleep(0.001)
        for person in self.people:
            person.take()


@asynccontextmanager
async def open_crowd(count: int = PEOPLE) -> AsyncIterator[Crowd]:
    crowd = Crowd([], Fanout())
    streams = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            ours, theirs = socket.socketpair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            theirs.setblocking(False)
            streams.append(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
            encoding = list(Encoding)[number % 2]
            outbox = SocketOutbox(streams[-1], FRAMINGS[encoding], nursery, 10.0, crowd.fanout)
            session = Session(f"{number}", Actor(AccountId(f"a{number}"), "a"), encoding, Clock(), nothing)
            session.attach(outbox, encoding, None)
            crowd.people.append(Person(session, outbox, theirs))
        yield crowd
        nursery.cancel_scope.cancel()
    for stream, person in zip(streams, crowd.people, strict=True):
        person.reader.close()
        await trio.aclose_forcefully(stream)


def started(words: str = "s") -> Encoded:
    return Encoded(StreamStarted(server_now=0, stream=StreamId(words)))


async def test_all_hear_an_event_in_one_call_for_each_encoding_and_under_their_own_numbers() -> None:
    async with open_crowd() as crowd:
        early = crowd.people[3]
        early.session.tell(started("before"))
        tell_all(crowd.sessions(), started("said"))
        await crowd.hear()
        assert crowd.fanout.counters() == {"fanout_calls": 2, "fanout_copies": PEOPLE, "fanout_queued": 0}
        for person in crowd.people:
            last = person.heard()[-1]
            assert (last["stream"], last["event"]) == ("said", 2 if person is early else 1)


async def test_few_are_written_to_one_by_one() -> None:
    async with open_crowd(fanout.LEAST - 1) as crowd:
        tell_all(crowd.sessions(), started())
        show_newest(crowd.sessions(), started(), "key")
        show_each([(Bundle([started()]), crowd.sessions())])
        await crowd.hear()
        assert [len(person.heard()) for person in crowd.people] == [4] * len(crowd.people)
        assert crowd.fanout.calls == 0


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_told_together_or_alone_arrives_in_order_and_whole_at_slow_readers(seed: int) -> None:
    dice = random.Random(seed)
    async with open_crowd() as crowd:
        told: dict[str, list[str]] = {person.session.id: [] for person in crowd.people}
        for turn in range(120):
            words = f"{turn} " + "x" * dice.randrange(3000)
            some = dice.sample(crowd.people, dice.randrange(1, PEOPLE + 1))
            match dice.randrange(4):
                case 0:
                    some[0].session.tell(started(words))
                    told[some[0].session.id].append(words)
                case 1:
                    bundles = [Bundle([started(words), started(words)]), Bundle([started(words + "!")])]
                    rows = [(bundle, dice.sample(some, dice.randrange(len(some) + 1))) for bundle in bundles]
                    show_each((bundle, [each.session for each in them]) for bundle, them in rows)
                    for bundle, them in rows:
                        for each in them:
                            told[each.session.id] += [event.event.stream for event in bundle.events]  # type: ignore[union-attr]
                case _:
                    tell_all((each.session for each in some), started(words))
                    for each in some:
                        told[each.session.id].append(words)
            for person in dice.sample(crowd.people, dice.randrange(PEOPLE)):
                person.take()
            if dice.random() < 0.3:
                await trio.lowlevel.checkpoint()
        await crowd.hear()
        assert crowd.fanout.queued > 0
        for person in crowd.people:
            heard = person.heard()[1:]
            assert [message["stream"] for message in heard] == told[person.session.id]
            numbers = [message["event"] for message in heard if "event" in message]
            assert numbers == list(range(1, len(numbers) + 1))


async def test_of_what_only_its_newest_value_counts_a_slow_one_hears_no_more_than_that() -> None:
    async with open_crowd() as crowd:
        for number in range(600):
            show_newest(crowd.sessions(), started(f"{number} " + "x" * 1000), "presence")
        await crowd.hear()
        for person in crowd.people:
            heard = [message["stream"].split()[0] for message in person.heard()[1:]]
            assert heard[-1] == "599"
            assert heard == sorted(heard, key=int)
            assert len(heard) < 500
            assert person.outbox.closed is None


async def test_who_never_reads_is_closed_and_costs_the_others_nothing() -> None:
    async with open_crowd() as crowd:
        silent, *others = crowd.people
        for _ in range(600):
            tell_all(crowd.sessions(), started("x" * 1000))
            for person in others:
                person.take()
            await trio.lowlevel.checkpoint()
        assert silent.outbox.closed == "slow_consumer"
        for person in others:
            while person.outbox.waiting():
                person.take()
                await trio.sleep(0.001)
            person.take()
            assert person.numbers() == list(range(1, 601))


async def test_who_is_gone_or_was_closed_gets_nothing_and_is_given_up() -> None:
    async with open_crowd() as crowd:
        gone, closed, *others = crowd.people
        gone.reader.close()
        closed.outbox.close("suspended")
        tell_all(crowd.sessions(), started())
        assert gone.outbox.closed == "lost"
        for person in (closed, *others):
            person.take()
        assert b"stream.started" not in closed.read
        assert [person.numbers() for person in others] == [[1]] * len(others)
        gone.reader = socket.socket()
