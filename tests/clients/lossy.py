"""A WHIP and WHEP server behind a bad network: HTTP is passed on, and answers name a relay that loses datagrams."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import httpx2
import trio

from bench.impairment import Impairment, Link, Relay, relay

CANDIDATE = re.compile(r"127\.0\.0\.1 (\d+) typ host")  # also those for TCP, where the relay does not answer
OWN_HEADERS = (b"host", b"connection", b"content-length", b"transfer-encoding", b"accept-encoding", b"date")
NOTHING = Impairment()


@dataclass
class Front:
    """Where clients ask; `relay` is there once the first has its answer."""

    url: str
    server: str
    http: httpx2.AsyncClient
    nursery: trio.Nursery
    relay: Relay | None = None
    answering: trio.Lock = field(default_factory=trio.Lock)

    def become(self, *, up: Impairment = NOTHING, down: Impairment = NOTHING) -> Relay:
        """Have the network be like this from now on, with counts that begin anew; it begins without faults."""
        assert self.relay is not None
        self.relay.up, self.relay.down = Link(up, seed=1), Link(down, seed=2)
        return self.relay

    async def serve(self, stream: trio.SocketStream) -> None:
        """Pass one request on."""
        async with stream:
            connection = h11.Connection(h11.SERVER)
            request, body = await _read(connection, stream)
            headers = [(name, value) for name, value in request.headers if name not in OWN_HEADERS]
            answer = await self.http.request(
                request.method.decode(), self.server + request.target.decode(), headers=headers, content=body
            )
            text = await self._detour(answer.text)
            given = [(name, value) for name, value in answer.headers.raw if name.lower() not in OWN_HEADERS]
            given += [(b"Content-Length", str(len(text)).encode()), (b"Connection", b"close")]
            response = h11.Response(status_code=answer.status_code, headers=given)
            events = (response, h11.Data(data=text.encode()), h11.EndOfMessage())
            await stream.send_all(b"".join(connection.send(event) or b"" for event in events))

    async def _detour(self, text: str) -> str:
        candidate = CANDIDATE.search(text)
        if candidate is None:
            return text
        async with self.answering:
            if self.relay is None:
                self.relay = await self.nursery.start(self._forward, ("127.0.0.1", int(candidate[1])))
        return CANDIDATE.sub(f"127.0.0.1 {self.relay.address[1]} typ host", text)

    async def _forward(self, target: tuple[str, int], *, task_status: trio.TaskStatus[Relay]) -> None:
        async with relay(target, NOTHING, NOTHING, seed=1) as running:
            task_status.started(running)
            await trio.sleep_forever()


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> tuple[h11.Request, bytes]:
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            assert isinstance(event, h11.EndOfMessage), event
            assert request is not None
            return request, body


@asynccontextmanager
async def open_front(server: str) -> AsyncIterator[Front]:
    """Serve in front of `server` (its address) for as long as the block runs."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=20, limits=limits) as http, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        front = Front(url, server, http, nursery)
        await nursery.start(trio.serve_listeners, front.serve, listeners)
        yield front
        nursery.cancel_scope.cancel()


class Numbers:
    """The video packets that somebody got who loses nothing: the gaps are what the publisher's network lost."""

    def __init__(self) -> None:
        self.got: set[int] = set()
        self.frames = 0
        self.late = 0  # came after a later one, as only what was sent again does
        self.highest = -1

    def take(self, packet: bytes, at_ns: int) -> None:
        """Take what `server.client.watch` receives."""
        if packet[1] & 1:  # Opus, and what is sent again
            return
        number = int.from_bytes(packet[2:4])
        if self.highest >= 0:
            number = self.highest + ((number - self.highest + 0x8000) & 0xFFFF) - 0x8000
        self.late += number < self.highest
        self.highest = max(self.highest, number)
        self.got.add(number)
        self.frames += packet[1] >> 7

    @property
    def missing(self) -> int:
        return max(self.got) - min(self.got) + 1 - len(self.got) if self.got else 0


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds; fails after `seconds`."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 -- what it asks about is in another process
            await trio.sleep(0.05)
