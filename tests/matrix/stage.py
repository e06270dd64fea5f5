"""A whole server, its clients' browsers and pages, for scenes in which one publishes and everybody watches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import trio

from tests.browser.bidi import Connection, Page
from tests.browser.browsers import Browser
from tests.browser.servers import Server
from tests.moq.nodes import Node, open_node
from tests.moq.pages import bundle
from tests.server.nodes import Person

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
SCRIPTS = ("clapper.js", "judge.js", "tone.js", "ear.js", "whip.js", "whep.js", "watch.js")


@dataclass
class Stage:
    """What a scene is played on; `stream` is the one that its publisher fills."""

    server: Server
    http: httpx2.AsyncClient
    pages: Node
    connections: dict[str, Connection]
    owner: Person
    stream: str

    async def person(self, name: str) -> Person:
        return await self.server.person(self.http, name)

    async def is_live(self) -> bool:
        return bool((await self.owner.ask("GET", f"/streams/{self.stream}"))["card"]["state"] == "live")

    def moq_url(self, person: Person, scheme: str = "http") -> str:
        """Return where a MoQ client connects; with http it asks for the certificate's hash there first."""
        return f"{scheme}://{self.server.listen}/moq/{self.stream}?jwt={person.token}"

    @asynccontextmanager
    async def page(self, browser: str, name: str, html: str) -> AsyncIterator[Page]:
        """Show a page in a window of its own."""
        self.pages.files[f"/{name}.html"] = b"<!doctype html><meta charset=utf-8><body>" + html.encode()
        connection = self.connections[browser]
        made = await connection.ask("browsingContext.create", type="window")
        page = Page(connection, str(made["context"]))
        try:
            await page.open(f"http://127.0.0.1:{self.pages.port}/{name}.html")
            yield page
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await connection.ask("browsingContext.close", context=page.context)

    async def negotiate(self, page: Page, kind: str, person: Person) -> None:
        """Carry a page's offer to the server and the answer back (RFC 9725)."""
        headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/sdp"}
        offer = await page.run("return await window.offer()")
        answer = await self.http.post(f"/{kind}/{self.stream}", content=offer, headers=headers)
        assert answer.status_code == 201, answer.text
        await page.run("await window.answer(values[0])", answer.text)

    @asynccontextmanager
    async def moqrs(self, role: str, person: Person, scheme: str) -> AsyncIterator[trio.Process]:
        fingerprint = (await self.http.get("/certificate.sha256")).text
        command = ["-m", "tests.matrix.moqrs_peer", role, self.moq_url(person, scheme), fingerprint, self.stream]
        async with process(command) as client:
            yield client


@asynccontextmanager
async def process(arguments: list[str]) -> AsyncIterator[trio.Process]:
    """Run Python until the block ends."""
    client = await trio.lowlevel.open_process(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        yield client
    finally:
        client.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await client.wait()
        for stream in (client.stdin, client.stdout):
            assert stream is not None
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_stage(server: Server, streamer: str, *browsers: Browser) -> AsyncIterator[Stage]:
    """Open a stream of that person's, for as long as the block does."""
    async with AsyncExitStack() as stack:
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=server.url, timeout=20, limits=limits))
        pages = await stack.enter_async_context(open_node())
        pages.files |= {f"/{name}": (FOLDER / "web" / name).read_bytes() for name in SCRIPTS}
        pages.files |= {"/moq-publish.js": bundle("publish"), "/moq-watch.js": bundle("watch")}
        connections = {browser.name: await stack.enter_async_context(browser.connect()) for browser in browsers}
        owner = await server.person(http, streamer)
        view = await owner.ask("POST", "/streams", {"title": "A clapper board"})
        yield Stage(server, http, pages, connections, owner, str(view["card"]["id"]))


async def until(claim: Callable[[], Awaitable[bool]], patience_s: float) -> bool:
    """Ask again and again."""
    with trio.move_on_after(patience_s):
        while not await claim():  # noqa: ASYNC110 -- what it asks about is in another process
            await trio.sleep(0.1)
        return True
    return False
