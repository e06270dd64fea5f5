"""HTTP/1.1 on one connection: what follows what, and what ends it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from server.connections.http11 import SKIP_BYTES, Gone, Http11

WAIT_S, READ_S, WRITE_S = 60.0, 70.0, 10.0
HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def post(length: int, *lines: str, path: str = "/deaf") -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {length}", *lines, "", ""]
    return "\r\n".join(head).encode()


class Served:
    """A connection, and an application whose paths say what it does."""

    def __init__(self) -> None:
        self.here, self.there = trio.testing.memory_stream_pair()
        self.responses: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        self.http = Http11(self.app, self.there, self.responses, wait_s=WAIT_S, read_s=READ_S, write_s=WRITE_S)
        self.over = trio.Event()

    async def run(self, first: bytes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self.http.serve(first, {"scheme": "http", "client": ("192.0.2.1", 0)}, 16_384)
        await self.there.send_eof()
        self.over.set()

    async def app(self, scope: Any, receive: Receive, send: Send) -> None:
        match scope["path"]:
            case "/deaf":
                await self.answer(send, b"deaf")
            case "/hello":
                await self.answer(send, b"hello")
            case "/wait":
                await receive()
                await receive()
                raise AssertionError("the client's departure ends this")
            case "/film":
                await self.show_film(receive, send)
            case "/echo":
                body, more = b"", True
                while more:
                    message = await receive()
                    body, more = body + message["body"], message["more_body"]
                self.bodies.append(body)
                await self.answer(send, b"echo")

    async def show_film(self, receive: Receive, send: Send) -> None:
        """Answer for longer than a body may take, and see meanwhile whether the client stays, as Quart does."""

        async def watch() -> None:
            while True:
                await receive()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(5):
                await trio.sleep(READ_S)
                await send({"type": "http.response.body", "body": b"scene", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.cancel_scope.cancel()

    async def answer(self, send: Send, body: bytes) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def rest(self) -> bytes:
        """Return all that was answered when the server has ended the connection."""
        got = b""
        while part := await self.here.receive_some(100_000):
            got += part
        return got


@asynccontextmanager
async def serving(first: bytes) -> AsyncIterator[Served]:
    async with trio.open_nursery() as nursery:
        served = Served()
        await nursery.start(served.run, first)
        yield served
        nursery.cancel_scope.cancel()


async def test_a_body_that_nobody_asked_for_does_not_end_the_connection() -> None:
    async with serving(post(10) + b"01234") as served:
        await trio.testing.wait_all_tasks_blocked()
        await served.here.send_all(b"56789" + HELLO)
        await served.here.send_eof()
        answer = await served.rest()
        assert answer.count(b"200") == 2
        assert answer.endswith(b"hello")


async def test_a_long_body_that_nobody_asked_for_does(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(post(SKIP_BYTES * 3)) as served:
        await served.here.send_all(b"x" * SKIP_BYTES * 3 + HELLO)
        assert (await served.rest()).count(b"200") == 1


async def test_one_that_does_not_come_ends_it_soon(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(post(10)) as served:
        await served.rest()
        assert trio.current_time() < WAIT_S


async def test_who_is_told_no_before_sending_a_body_is_told_that_the_connection_ends() -> None:
    async with serving(post(10, "Expect: 100-continue")) as served:
        answer = await served.rest()
        assert b"\r\nConnection: close\r\n" in answer
        assert b" 100 " not in answer


async def test_who_may_send_a_body_is_told() -> None:
    async with serving(post(5, "Expect: 100-continue", path="/echo")) as served:
        await trio.testing.wait_all_tasks_blocked()
        assert (await served.here.receive_some()).startswith(b"HTTP/1.1 100 ")
        await served.here.send_all(b"12345")
        await served.here.send_eof()
        assert (await served.rest()).endswith(b"echo")
        assert served.bodies == [b"12345"]
        assert served.responses == {"1xx": 1, "2xx": 1}


@pytest.mark.parametrize("more", ["", "Connection: upgrade\r\nUpgrade: h2c\r\n"], ids=["plain", "upgrade"])
async def test_who_leaves_is_no_longer_waited_for(more: str) -> None:
    async with serving(f"GET /wait HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode()) as served:
        await trio.testing.wait_all_tasks_blocked()
        await served.here.send_eof()
        assert not await served.rest()


async def test_a_body_that_is_no_http_is_refused_once() -> None:
    first = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    async with serving(first + HELLO) as served:
        answer = await served.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_half_a_body_and_no_more_ends_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    async with serving(post(10, path="/echo") + b"x") as served:
        assert not await served.rest()
        assert trio.current_time() - start == pytest.approx(READ_S)
        assert not served.bodies


async def test_a_connection_that_says_nothing_ends(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    async with serving(HELLO + HELLO[:20]) as served:
        assert (await served.rest()).endswith(b"hello")
        assert trio.current_time() - start == pytest.approx(WAIT_S)


async def test_an_answer_may_take_longer_than_a_body(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(b"GET /film HTTP/1.1\r\nHost: a\r\n\r\n") as served:
        assert (await served.rest()).count(b"scene") == 5


async def test_who_does_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    here, there = trio.testing.lockstep_stream_pair()
    served = Served()
    served.there = there  # type: ignore[assignment]
    served.http = Http11(served.app, there, served.responses, wait_s=WAIT_S, read_s=READ_S, write_s=WRITE_S)
    await served.http.serve(HELLO, {}, 16_384)
    assert served.http.gone is Gone.NOT_READING
    await here.aclose()


async def test_an_answer_goes_out_in_one_write() -> None:
    async with serving(HELLO[:9]) as served:
        writes: list[bool] = []
        pump = served.there.send_stream.send_all_hook
        assert pump is not None

        async def note() -> None:
            writes.append(True)
            await pump()

        served.there.send_stream.send_all_hook = note
        await served.here.send_all(HELLO[9:])
        await served.here.send_eof()
        answer = await served.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nDate: " in answer
        assert answer.endswith(b"\r\n\r\nhello")
        assert len(writes) == 1


async def test_a_head_alone_is_answered_without_a_body() -> None:
    async with serving(HELLO.replace(b"GET", b"HEAD") + HELLO) as served:
        await served.here.send_eof()
        answer = await served.rest()
        assert answer.count(b"content-length: 5\r\n") == 2
        assert answer.count(b"hello") == 1


REQUESTS = HELLO + post(5, path="/echo") + b"12345" + post(3) + b"abc" + HELLO


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(1, len(REQUESTS) - 1), max_size=12, unique=True))
def test_it_does_not_matter_in_which_parts_requests_come(cuts: list[int]) -> None:
    ends = [*sorted(cuts), len(REQUESTS)]

    async def main() -> None:
        async with serving(REQUESTS[: ends[0]]) as served:
            for start, end in itertools.pairwise(ends):
                await trio.testing.wait_all_tasks_blocked()
                await served.here.send_all(REQUESTS[start:end])
            await trio.testing.wait_all_tasks_blocked()
            await served.here.send_eof()
            answer = await served.rest()
            assert answer.count(b"HTTP/1.1 200 ") == 4
            assert served.bodies == [b"12345"]

    trio.run(main)


@settings(max_examples=200, deadline=None)
@given(junk=st.binary(max_size=200), place=st.integers(0, len(REQUESTS)))
def test_no_bytes_break_it(junk: bytes, place: int) -> None:
    async def main() -> None:
        async with serving(REQUESTS[:place] + junk + REQUESTS[place:]) as served:
            await served.here.send_eof()
            await served.rest()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
