"""The signalling socket's clocks and queues: who is silent, who is late, who does not read."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from websockets.frames import Frame, Opcode

from server.connections.framing import WebSocketFraming
from server.connections.inbox import BURST, FRAMES_PER_S
from server.connections.outbox import MAX_BYTES, MAX_FRAMES, SocketOutbox
from server.connections.signalling_socket import GONE_AFTER_S, HELLO_S, PING_AFTER_S, ROUND_S, SignallingSocket
from server.tokens import Claims
from signalling.identifiers import AccountId, Actor
from signalling.ports import Outbox
from signalling.refusals import Refused
from signalling.sessions.session import Soon
from signalling.wire.messages import Encoding
from tests.server.sockets import RawSocket, frame, text, upgrade
from tests.server.thread_node import read_until

HELLO = text({"type": "hello", "token": "good"})


@dataclass
class FakeRooms:
    """Sessions that remember what they hear; `failing` is raised by the next of it."""

    outboxes: list[Outbox] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    detached: list[Outbox] = field(default_factory=list)
    failing: Exception | None = None
    refusing: Refused | None = None

    def attach(self, actor: Actor, encoding: Encoding, outbox: Outbox, resume: Any) -> FakeRooms:
        if self.refusing is not None:
            raise self.refusing
        self.outboxes.append(outbox)
        return self

    async def receive_untrusted(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.failing is not None:
            raise self.failing
        self.heard.append(data)

    def receive_soon_untrusted(self, data: bytes, done: Callable[[], None]) -> Soon:
        return Soon.NOT_TAKEN

    def detach(self, outbox: Outbox) -> None:
        self.detached.append(outbox)


@dataclass
class FakeAuth:
    expires_at: int = 2**60

    def read(self, token: str) -> Claims:
        if token != "good":
            raise Refused("no_session")
        return Claims(Actor(AccountId("a"), "ann"), self.expires_at)


class World:
    def __init__(self) -> None:
        self.rooms, self.auth = FakeRooms(), FakeAuth()
        self.sockets = SignallingSocket(self.rooms, self.auth, 10.0)

    @asynccontextmanager
    async def connection(self, *, hello: bool = True) -> AsyncIterator[RawSocket]:
        here, there = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, there, upgrade())
            head = await read_until(here, lambda got: b"\r\n\r\n" in got)
            assert head.startswith(b"HTTP/1.1 101 ")
            if hello:
                await here.send_all(HELLO)
                await trio.testing.wait_all_tasks_blocked()
            yield RawSocket(here)
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.abc.Stream, head: bytes) -> None:
        await self.sockets.serve(stream, bytearray(head))
        await stream.aclose()

    def closed(self, reason: str) -> int:
        return self.sockets.counters()[f"sockets_closed_{reason}"]


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    made = World()
    await nursery.start(made.sockets.run)
    return made


async def test_who_never_says_hello_is_closed(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.connection(hello=False) as socket:
        began = trio.current_time()
        with trio.fail_after(HELLO_S + 1):
            await trio.sleep(HELLO_S + 0.1)
        assert await socket.closed() == 4408
        assert trio.current_time() - began >= HELLO_S
    assert world.closed("hello_timeout") == 1


async def test_the_silent_are_asked_once_and_those_that_answer_stay(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.connection() as socket:
        for _ in range(3):
            await trio.sleep(PING_AFTER_S + ROUND_S)
            assert (await socket.hear()).opcode is Opcode.PING
            await socket.send(frame(Opcode.PONG))
        assert not socket.received
        assert world.sockets.counters()["sockets"] == 1


async def test_those_that_do_not_answer_are_gone(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.connection() as socket:
        await trio.sleep(GONE_AFTER_S + 2 * ROUND_S)
        assert (await socket.hear()).opcode is Opcode.PING
        assert await socket.closed() == 1001
    assert world.closed("going_away") == 1
    assert world.rooms.detached == world.rooms.outboxes


async def test_a_token_that_expires_ends_its_connection(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.auth.expires_at = time.time_ns() // 1_000_000 + 100
    async with world.connection() as socket:
        time.sleep(0.15)  # noqa: ASYNC251  (tokens expire by the wall clock, which is nobody's to set)
        await trio.sleep(ROUND_S + 1)
        assert await socket.closed() == 4401
    assert world.closed("no_session") == 1


async def test_a_fault_in_a_session_closes_its_connection_and_says_so(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError), flatten_subgroups=True):
        async with world.connection() as socket:
            world.rooms.failing = ValueError("a fault of ours")
            await socket.send(text({}))
            await trio.sleep(1)
    assert world.closed("internal_error") == 1
    assert world.rooms.detached == world.rooms.outboxes


async def test_too_many_sessions_are_refused_in_words(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.rooms.refusing = Refused("too_many_sessions")
    async with world.connection() as socket:
        assert (await socket.message())["code"] == "too_many_sessions"
        assert await socket.closed() == 4429


async def test_a_client_may_send_its_rate_for_ever_and_a_burst_on_top(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.connection() as socket:
        for _ in range(int(BURST) - 2):
            await socket.send(text({}))
        for _ in range(500):
            await trio.sleep(1 / FRAMES_PER_S)
            await socket.send(text({}))
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.rooms.heard) == int(BURST) - 2 + 500
        await socket.send(text({}) * 5)
        assert await socket.closed() == 4429
    assert world.closed("rate_limited") == 1


# -- the outbox ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_outbox(*, write_timeout_s: float = 10.0) -> AsyncIterator[tuple[SocketOutbox, socket.socket]]:
    """An outbox on a real socket whose kernel buffers are small, and the reader's end, which does not block."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    with theirs:
        async with trio.open_nursery() as nursery:
            yield SocketOutbox(stream, WebSocketFraming(Opcode.BINARY), nursery, write_timeout_s), theirs
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)


def read_all(reader: socket.socket) -> bytes:
    got = b""
    while True:
        try:
            part = reader.recv(65_536)
        except BlockingIOError:
            return got
        if not part:
            return got
        got += part


async def test_what_the_socket_takes_is_written_at_once() -> None:
    async with open_outbox() as (outbox, reader):
        outbox.offer(b"hello")
        assert read_all(reader) == b"\x82\x05hello"


async def test_a_reader_that_never_reads_costs_a_bounded_amount_and_is_closed() -> None:
    async with open_outbox() as (outbox, reader):
        for _ in range(10_000):
            outbox.offer(b"x" * 1000)
        assert outbox.closed == "slow_consumer"
        assert outbox._bytes <= MAX_BYTES
        assert len(outbox._queue) <= MAX_FRAMES
        with trio.fail_after(5):
            with outbox.life:
                await trio.sleep_forever()
        assert len(read_all(reader)) < 100_000


async def test_frames_arrive_whole_and_in_order_through_a_full_socket() -> None:
    async with open_outbox() as (outbox, reader):
        got = b""
        for number in range(200):
            outbox.offer(number.to_bytes(2) * 500)
        with trio.fail_after(5):
            while len(got) < 200 * 1004:
                got += read_all(reader)
                await trio.sleep(0.001)
        assert got == b"".join(b"\x82\x7e\x03\xe8" + number.to_bytes(2) * 500 for number in range(200))
        assert outbox.closed is None


async def test_of_what_only_its_newest_value_counts_no_more_than_that_waits() -> None:
    async with open_outbox() as (outbox, reader):
        for number in range(20):
            outbox.offer(bytes([number]) * 2000)
        for number in range(5000):
            outbox.offer(b"k%04d" % number, key="presence")
            outbox.offer(b"dropped", droppable=True)
        assert outbox.closed is None
        got = b""
        with trio.fail_after(5):
            while not got.endswith(b"k4999"):
                got += read_all(reader)
                await trio.sleep(0.001)
        assert got.count(b"k49") == 1
        assert b"dropped" not in got


async def test_a_reader_that_stops_for_too_long_is_lost() -> None:
    async with open_outbox(write_timeout_s=0.05) as (outbox, _):
        for _ in range(20):
            outbox.offer(b"x" * 2000)
        with trio.fail_after(5):
            with outbox.life:
                await trio.sleep_forever()
        assert outbox.closed == "lost"
        outbox.offer(b"no more")
        outbox.close("going_away")
        assert outbox.closed == "lost"


async def test_a_reader_that_has_gone_is_lost_at_the_first_write() -> None:
    async with open_outbox() as (outbox, reader):
        reader.close()
        outbox.offer(b"x")
        assert outbox.closed == "lost"
        assert outbox.life.cancel_called


async def test_the_words_before_the_end_arrive_before_the_end() -> None:
    async with open_outbox() as (outbox, reader):
        for number in range(20):
            outbox.offer(bytes([number]) * 2000)
        outbox.close("replaced")
        got = b""
        with trio.fail_after(5):
            while not outbox.life.cancel_called:
                got += read_all(reader)
                await trio.sleep(0.001)
        got += read_all(reader)
        assert got.endswith(b"\x88\x0a" + (4409).to_bytes(2) + b"replaced")
        assert len(got) == 20 * 2004 + 12


async def test_once_stopped_an_outbox_writes_nothing_more_of_what_waits() -> None:
    async with open_outbox() as (outbox, reader):
        for number in range(20):
            outbox.offer(bytes([number]) * 2000)
        before = len(read_all(reader))
        outbox.stop()
        for _ in range(10):
            await trio.sleep(0.001)
        after = before + len(read_all(reader))
        assert outbox.closed == "lost"
        assert after < 20 * 2004
        await trio.testing.wait_all_tasks_blocked()
        assert outbox._flushing is None


async def test_a_fault_while_one_connection_is_written_to_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_outbox() as (outbox, _):
        for number in range(20):
            outbox.offer(bytes([number]) * 2000)

        async def fail(self: SocketOutbox, data: bytes) -> int:
            raise RuntimeError("a bug")

        monkeypatch.setattr(SocketOutbox, "_send", fail)
        with outbox.life:
            await trio.sleep(5)
        assert outbox.closed == "lost"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_those_of_rfc_6455(size: int) -> None:
    data = b"x" * size
    assert WebSocketFraming(Opcode.BINARY).message(data) == Frame(Opcode.BINARY, data).serialize(mask=False)
    assert WebSocketFraming(Opcode.TEXT).message(data) == Frame(Opcode.TEXT, data).serialize(mask=False)
