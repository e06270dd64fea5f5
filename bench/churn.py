"""People who come and go: viewers that join, leave, restart ICE and change layers, sockets, streams, and cuts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
import msgspec
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from bench.crowd import Place, Viewer
from bench.mesi import Mesi, Person, ServerFailed
from bench.payload import Rate
from bench.receiver import Receiver
from bench.simulcast import publish_simulcast
from media.webrtc.ice import IceCredentials
from media.webrtc.sdpfrag import parse_sdpfrag_untrusted
from server.client import SessionFailed

SHORT_RATE = Rate(300_000)
SHORT_STREAM_S = 1.5
SOCKET_S = 0.5
QUALITIES = ("low", "medium", "high")
SDPFRAG = "application/trickle-ice-sdpfrag"
SUBPROTOCOL = "mesi.v1.msgpack"


@dataclass(slots=True)
class Churn:
    """All of it around one stream that is always live; `done` counts what happened, `failed` what did not."""

    mesi: Mesi
    http: httpx2.AsyncClient
    receiver: Receiver
    nursery: trio.Nursery
    owner: Person
    people: list[Person]
    stream: str
    chance: random.Random
    viewers: list[Viewer] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    _streams: int = 0

    async def join(self) -> None:
        """Let one more watch."""
        person = self.chance.choice(self.people)
        viewer = Viewer(Place(f"{self.mesi.url}/whep/{self.stream}", person.token, 0, person.name), self.receiver)
        self.viewers.append(viewer)
        self.nursery.start_soon(viewer.run, self.http)
        await viewer.settled.wait()

    async def leave(self) -> None:
        """Let one go."""
        if self.viewers:
            self.viewers.pop(self.chance.randrange(len(self.viewers))).leave()

    async def restart(self) -> None:
        """Let one restart ICE."""
        viewer = self._connected()
        if viewer is None or viewer.endpoint is None:
            return
        local = IceCredentials.random()
        fragment = f"a=ice-ufrag:{local.ufrag}\r\na=ice-pwd:{local.password}\r\n"
        headers = {"Authorization": f"Bearer {viewer.place.token}", "Content-Type": SDPFRAG, "If-Match": "*"}
        answer = await self.http.patch(viewer.endpoint.session_url, content=fragment, headers=headers)
        if answer.status_code != 200:
            raise ServerFailed(f"ICE restart: {answer.status_code} {answer.text}")
        remote = parse_sdpfrag_untrusted(answer.text).ice
        if remote is None:
            raise ServerFailed("the answer to an ICE restart has no credentials")
        viewer.endpoint.restart_ice(local, remote)

    async def change_layer(self) -> None:
        """Let one wish for another picture."""
        viewer = self._connected()
        if viewer is not None and viewer.endpoint is not None:
            headers = {"Authorization": f"Bearer {viewer.place.token}"}
            wish = {"encodingId": self.chance.choice(QUALITIES)}
            answer = await self.http.post(f"{viewer.endpoint.session_url}/layer", json=wish, headers=headers)
            if not answer.is_success:
                raise ServerFailed(f"layer: {answer.status_code} {answer.text}")

    async def cut(self) -> None:
        """Make the stream ticket-only, which puts all out, and public again, so that others may come."""
        path = f"/streams/{self.stream}/mode"
        for mode in ("paid", "public"):
            prepared = await self.mesi.ask(self.owner, "POST", f"{path}/prepare", {"mode": mode})
            body = {"confirm_token": prepared["confirm_token"], "allow_empty": True}
            await self.mesi.ask(self.owner, "POST", f"{path}/confirm", body)
        gone, self.viewers = self.viewers, []
        for viewer in gone:
            viewer.leave()
        for _ in gone:
            self.nursery.start_soon(self.attempt, "join", self.join)

    async def open_socket(self) -> None:
        """Connect to signalling, follow the stream for a moment, and go."""
        where = urlsplit(self.mesi.url)
        url = f"ws://{where.hostname}:{where.port}/ws"
        with suppress(ConnectionClosed):
            async with open_websocket_url(url, subprotocols=[SUBPROTOCOL]) as socket:
                token = self.chance.choice(self.people).token
                await socket.send_message(msgspec.msgpack.encode({"type": "hello", "token": token}))
                await socket.send_message(msgspec.msgpack.encode({"type": "join", "id": 1, "stream": self.stream}))
                with trio.move_on_after(SOCKET_S):
                    while True:
                        await socket.get_message()

    async def open_stream(self) -> None:
        """Let somebody else stream for a moment to one viewer, and end it."""
        self._streams += 1
        person = await self.mesi.person(f"streamer{self._streams % 8}")
        stream = await self.mesi.stream(person)
        try:
            url = f"{self.mesi.url}/whip/{stream}"
            async with publish_simulcast(self.http, url, person.token, SHORT_RATE) as publisher:
                viewer = Viewer(Place(f"{self.mesi.url}/whep/{stream}", person.token), self.receiver)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publisher.run)
                    nursery.start_soon(viewer.run, self.http)
                    await trio.sleep(SHORT_STREAM_S)
                    viewer.leave()
                    await viewer.settled.wait()
                    publisher.endpoint.close()
        finally:
            with trio.CancelScope(shield=True):
                await self.mesi.ask(person, "POST", f"/streams/{stream}/end")

    async def attempt(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do one of these, and count how it went."""
        try:
            await act()
            self.done[name] += 1
        except* (SessionFailed, ServerFailed, httpx2.HTTPError, HandshakeError, OSError):
            self.failed[name] += 1

    async def run(self, seconds: float, per_s: float) -> None:
        """Let things happen at an even pace, in an order that only the seed decides."""
        acts: list[tuple[int, str, Callable[[], Awaitable[None]]]] = [
            (30, "join", self.join),
            (30, "leave", self.leave),
            (12, "ICE restart", self.restart),
            (12, "layer", self.change_layer),
            (12, "socket", self.open_socket),
            (3, "stream", self.open_stream),
            (1, "cut", self.cut),
        ]
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(int(seconds * per_s)):
                await trio.sleep_until(began + number / per_s)
                _, name, act = self.chance.choices(acts, [weight for weight, _, _ in acts])[0]
                nursery.start_soon(self.attempt, name, act)

    def _connected(self) -> Viewer | None:
        connected = [viewer for viewer in self.viewers if viewer.row is not None and viewer.ended is None]
        return self.chance.choice(connected) if connected else None
