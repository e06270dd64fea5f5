"""Silent signalling sockets keep no task, and are woken by what they are sent, by who closes them, and by the end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from websockets.frames import Opcode

from server.connections.parking import Heard, Parked, Parking
from tests.server.nodes import small_config
from tests.server.sockets import RawSocket, frame, open_raw, text
from tests.server.test_hostile_http import CLOSED
from tests.server.thread_node import Samples, ThreadNode, rises, samples, thread_node

PARKED = "mesi_sockets_parked"


@asynccontextmanager
async def parking_lot() -> AsyncIterator[tuple[Parking, trio.CancelScope]]:
    parking = Parking()
    async with trio.open_nursery() as nursery:
        await nursery.start(parking.run)
        yield parking, nursery.cancel_scope
        nursery.cancel_scope.cancel()


def needs_task() -> Heard:
    return Heard.NEEDS_TASK


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


async def test_who_is_sent_something_is_woken_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    woken = trio.Event()
    with ours, theirs:
        async with parking_lot() as (parking, _):
            parking.park(ours.fileno(), Parked(needs_task, woken.set))
            await trio.testing.wait_all_tasks_blocked()
            assert not woken.is_set()
            assert parking.counters() == {"parked": 1, "parked_woken": 0, "parked_heard": 0, "parked_refused": 0}
            theirs.send(b"x")
            with trio.fail_after(5):
                await woken.wait()
            theirs.send(b"y")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert parking.counters() == {"parked": 0, "parked_woken": 1, "parked_heard": 0, "parked_refused": 0}


async def test_who_is_heard_without_a_task_is_listened_to_again_when_that_is_done(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    heard: list[bytes] = []
    answers = [Heard.ALL, Heard.UNDER_WAY, Heard.NEEDS_TASK]

    def hear() -> Heard:
        heard.append(ours.recv(100))
        return answers.pop(0)

    woken = trio.Event()
    with ours, theirs:
        async with parking_lot() as (parking, _):
            parking.park(ours.fileno(), Parked(hear, woken.set))
            for sent in (b"all", b"under way"):
                theirs.send(sent)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert heard[-1] == sent
            theirs.send(b"later")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert (len(heard), woken.is_set()) == (2, False), "one thing after the other"
            parking.go_on(ours.fileno(), Heard.ALL)
            with trio.fail_after(5):
                await woken.wait()
            assert heard[-1] == b"later"
            parking.go_on(ours.fileno(), Heard.ALL)
            assert parking.counters() == {"parked": 0, "parked_woken": 1, "parked_heard": 2, "parked_refused": 0}


async def test_at_the_end_all_are_woken_and_nobody_waits_any_more(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    woken: list[int] = []
    with ours, theirs:
        async with parking_lot() as (parking, scope):
            for end in pair:
                parking.park(end.fileno(), Parked(needs_task, partial(woken.append, end.fileno())))
            scope.cancel()
        assert sorted(woken) == sorted(end.fileno() for end in pair)
        parking.park(ours.fileno(), Parked(needs_task, lambda: woken.append(0)))
        assert woken[-1] == 0


async def until_parked(node: ThreadNode, count: int) -> Samples:
    with trio.fail_after(5):
        while (found := await samples(node))[PARKED, ""] != count:  # noqa: ASYNC110
            await trio.sleep(0.02)
    return found


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_silent_socket_takes_no_task_and_answers_when_it_is_asked(node: ThreadNode, tls: bool) -> None:
    _, token = await node.account("silent")
    before = await until_parked(node, 0)
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(open_raw(node, token, tls=tls)) for _ in range(20)]
        after = await until_parked(node, 20)
        assert after["mesi_sockets", ""] == 20
        assert after["mesi_tasks", ""] == before["mesi_tasks", ""]
        for one in sockets * 2:
            assert await asked(one) == "ok"
        half = frame(Opcode.PING, b"whole")
        await sockets[0].send(half[:3])
        await until_parked(node, 20)
        await sockets[0].send(half[3:])
        assert (await sockets[0].hear()).opcode is Opcode.PONG
        await until_parked(node, 20)
    await rises(node, after, CLOSED, "lost", 20)
    await until_parked(node, 0)


async def asked(one: RawSocket) -> str:
    await one.send(text({"type": "watch_directory", "id": 1}))
    while (answer := await one.message())["type"] not in ("ok", "error"):
        pass
    return str(answer["type"])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_silent_socket_is_closed_when_others_close_it(node: ThreadNode, tls: bool) -> None:
    _, token = await node.account("twice")
    async with open_raw(node, None, tls=tls) as first, open_raw(node, None, tls=tls) as second:
        await first.send(text({"type": "hello", "token": token}))
        session = (await first.message())["session"]
        before = await until_parked(node, 1)
        await second.send(text({"type": "hello", "token": token, "resume": {"session": session, "after": 0}}))
        assert await first.closed() == 4409
        assert not await first.stream.receive_some(1)
        await rises(node, before, CLOSED, "replaced")
        assert await asked(second) == "ok"


async def test_where_the_system_watches_no_more_a_task_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, real: object) -> None:
            self._real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

        def register(self, descriptor: int, events: int) -> None:
            raise OSError("too many are watched")

    with thread_node(small_config(tmp_path)) as node:
        park = Parking.park

        def park_in_vain(parking: Parking, descriptor: int, wake: object) -> None:
            parking._epoll = Full(parking._epoll)
            park(parking, descriptor, wake)

        monkeypatch.setattr(Parking, "park", park_in_vain)
        _, token = await node.account("alone")
        async with open_raw(node, token) as one:
            assert await asked(one) == "ok"
            found = await samples(node)
            assert (found[PARKED, ""], found["mesi_sockets_not_parked_total", ""]) == (0, 1)
            assert await asked(one) == "ok"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_silent_hear_that_the_node_ends(tmp_path: Path, tls: bool) -> None:
    with thread_node(small_config(tmp_path)) as node:
        _, token = await node.account("patient")
        async with open_raw(node, token, tls=tls) as one:
            await until_parked(node, 1)
            node.stop()
            assert await one.closed() == 1001
