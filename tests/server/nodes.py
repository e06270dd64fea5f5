"""A whole node in the test's own process, and people who use it over the network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from server.config import Config, load, override
from server.node import Running, run_node
from tests.media.test_door import LIMITS
from tests.money.databases import lay_schema


@dataclass
class Person:
    """An account with its token."""

    name: str
    id: str
    token: str
    http: httpx2.AsyncClient

    async def ask(self, method: str, path: str, body: object = None, status: int | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = await self.http.request(method, f"/api/v1{path}", json=body, headers=headers)
        if status is not None:
            assert answer.status_code == status, answer.text
        else:
            assert answer.is_success, answer.text
        return answer.json() if answer.content else None


class Site:
    """A running node."""

    def __init__(self, running: Running, http: httpx2.AsyncClient, nursery: trio.Nursery) -> None:
        self.running, self.http, self.nursery = running, http, nursery

    async def person(self, name: str) -> Person:
        account = await self.running.auth.add_account(name)
        return Person(name, account.id, self.running.auth.issue(account, 3600, "user"), self.http)

    async def stream(self, owner: Person, **values: str) -> str:
        view = await owner.ask("POST", "/streams", {"title": "A stream", **values})
        return str(view["card"]["id"])

    def url(self, kind: str, stream: str) -> str:
        return f"{self.running.url}/{kind}/{stream}"


def small_config(folder: Path) -> Config:
    config = override(load(None), listen="127.0.0.1:0", media="127.0.0.1:0", data=str(folder))
    limits = msgspec.structs.replace(
        config.limits,
        rooms=LIMITS.rooms,
        transports=LIMITS.transports,
        tracks=LIMITS.tracks,
        subscriptions=LIMITS.subscriptions,
        head_timeout_s=1.0,
        body_timeout_s=1.0,
        write_timeout_s=1.0,
    )
    return msgspec.structs.replace(config, limits=limits)


def lay_database(config: Config) -> None:
    """Spare a node that has never run the making of its schema."""
    if not config.data.database:
        lay_schema(Path(config.data.dir) / "mesi.sqlite")


@asynccontextmanager
async def open_site(folder: Path, config: Config | None = None) -> AsyncIterator[Site]:
    config = config or small_config(folder)
    lay_database(config)
    async with trio.open_nursery() as nursery:
        running = await nursery.start(run_node, config)
        # Without authorities, which take long to read: the node speaks plain HTTP.
        async with httpx2.AsyncClient(base_url=running.url, timeout=20, verify=False) as http:
            yield Site(running, http, nursery)
        nursery.cancel_scope.cancel()


class Socket:
    """A signalling connection, in JSON."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self._ids = 0

    async def say(self, message: dict[str, Any]) -> None:
        await self.connection.send_message(msgspec.json.encode(message).decode())

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(5):
            return dict(msgspec.json.decode(await self.connection.get_message()))

    async def ask(self, type: str, **values: Any) -> dict[str, Any]:
        """Return the answer; events on the way are kept."""
        self._ids += 1
        await self.say({"type": type, "id": self._ids, **values})
        while True:
            message = await self.hear()
            if message["type"] in ("ok", "error"):
                return message
            self.events.append(message)

    async def wait_for(self, type: str) -> dict[str, Any]:
        """Return the first event of a type, also of those that came before; older ones are forgotten."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["type"] == type:
                    return event
            self.events.append(await self.hear())


@asynccontextmanager
async def open_socket(site: Site, person: Person, resume: object = None) -> AsyncIterator[Socket]:
    url = site.running.url.replace("http", "ws") + "/ws"
    connection: WebSocketConnection | None = None
    try:
        async with open_websocket_url(url, subprotocols=["mesi.v1.json"]) as connection:
            socket = Socket(connection)
            await socket.say({"type": "hello", "token": person.token, "resume": resume})
            yield socket
    finally:
        # The library leaves the TCP connection open when the server closed the WebSocket first.
        if connection is not None:
            await connection._stream.aclose()
