"""Starts the clients that nobody here wrote, each as a process or as a page of a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2
import trio

from tests.browser.visitors import Theatre, Visitor
from tests.clients.test_aiortc import Process
from tests.clients.test_aiortc import start as start_aiortc
from tests.moq.nodes import Node
from tests.server.nodes import Person

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ROOT / "tests" / "browser" / "node_modules"
DEBIANS_PYTHON = "/usr/bin/python3"  # has GStreamer's bindings
FFMPEG = (sys.executable, "-m", "tests.clients.ffmpeg_client")
GSTREAMER = (DEBIANS_PYTHON, str(HERE / "gstreamer_client.py"))
WRTC = ("node", str(HERE / "wrtc_client.mjs"))
WERIFT = ("node", str(HERE / "werift_client.mjs"))


@cache
def bundle(name: str) -> bytes:
    """Return `web/<name>.js` with the npm packages that it imports, as one module."""
    command = [str(PACKAGES / ".bin" / "esbuild"), f"web/{name}.js", "--bundle", "--format=esm", "--log-level=error"]
    environment = {**os.environ, "NODE_PATH": str(PACKAGES)}
    return subprocess.run(command, cwd=HERE, env=environment, check=True, capture_output=True).stdout


def page_of(name: str) -> bytes:
    """Return a page with a video element and a script."""
    script = f"<script type=module src=/{name}.js></script>"
    return f"<!doctype html><meta charset=utf-8><video autoplay playsinline></video>{script}".encode()


def serve_pages(node: Node) -> None:
    """Have a node serve the pages of browsers, from another origin than the server's."""
    for name in ("client", "eyevinn"):
        node.files |= {f"/{name}.html": page_of(name), f"/{name}.js": bundle(name) if name == "eyevinn" else read(name)}
    node.files["/session.js"] = (HERE / "session.mjs").read_bytes()


def read(name: str) -> bytes:
    return (HERE / "web" / f"{name}.js").read_bytes()


@asynccontextmanager
async def process(*command: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """Run a client until the block ends; it is spoken to in lines. What is in `environment` is added to our own."""
    given = {**os.environ, **(environment or {})}
    client = await trio.lowlevel.open_process(
        list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=given
    )
    try:
        yield Process(client)
    finally:
        client.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await client.wait()
        for stream in (client.stdin, client.stdout):
            assert stream is not None
            await trio.aclose_forcefully(stream)


@dataclass
class Place:
    """Where a client goes: an address of a server, a stream there, and who it is."""

    theatre: Theatre
    pages: Node
    url: str
    stream: str
    person: Person

    def address(self, way: str) -> str:
        return f"{self.url}/{way}/{self.stream}"

    @asynccontextmanager
    async def open_page(self, browser: str, name: str) -> AsyncIterator[Visitor]:
        """Show one of the pages above in a window of its own, until the block ends."""
        visitor = await self.theatre.stranger(browser)
        await visitor.page.open(f"http://127.0.0.1:{self.pages.port}/{name}.html")
        try:
            yield visitor
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await visitor.page.open("about:blank")

    async def negotiate(self, way: str, offer: str) -> str:
        headers = {"Authorization": f"Bearer {self.person.token}", "Content-Type": "application/sdp"}
        async with httpx2.AsyncClient(timeout=20) as http:
            answer = await http.post(self.address(way), content=offer, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.text


Publish = Callable[[Place], AbstractAsyncContextManager[None]]
Watch = Callable[[Place], AbstractAsyncContextManager["Viewer"]]


class Viewer:
    """A viewer that is there, as a process that reports how many pictures (werift: packets) it has got."""

    def __init__(self, client: Process) -> None:
        self.client, self.got = client, 0
        self.heard_as = ""

    async def listen(self) -> None:
        """Keep the newest report."""
        while True:
            report = await self.client.read()
            if "heard" in report:
                self.heard_as = str(report["heard"])
                continue
            self.got = next(iter(report.values()))["video"]  # type: ignore[index]

    async def count(self) -> int:
        return self.got

    async def restart(self) -> None:
        """Have it restart ICE."""
        assert self.client.process.stdin is not None
        await self.client.process.stdin.send_all(b"restart\n")

    async def talk(self, text: str) -> str:
        """Have it say something over its data channel; returns the name under which it heard that."""
        assert self.client.process.stdin is not None
        await self.client.process.stdin.send_all(text.encode() + b"\n")
        while not self.heard_as:  # noqa: ASYNC110  (its reports come in a task of their own)
            await trio.sleep(0.05)
        return self.heard_as


class PageViewer(Viewer):
    """A viewer that is there, as a page."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    async def count(self) -> int:
        return int((await self.visitor.received())["framesDecoded"])

    async def restart(self) -> None:
        await self.visitor.page.run("await window.restart()")

    async def talk(self, text: str) -> str:
        return str(await self.visitor.page.run("return await window.talk(...values)", text))


@asynccontextmanager
async def _listening(client: Process) -> AsyncIterator[Viewer]:
    viewer = Viewer(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(viewer.listen)
        yield viewer
        nursery.cancel_scope.cancel()


def command_publisher(*command: str, last: tuple[str, ...] = ()) -> Publish:
    @asynccontextmanager
    async def publish(place: Place) -> AsyncIterator[None]:
        async with process(*command, place.address("whip"), place.person.token, *last):
            yield

    return publish


def command_viewer(*command: str) -> Watch:
    @asynccontextmanager
    async def watch(place: Place) -> AsyncIterator[Viewer]:
        asked = process(*command, place.address("whep"), place.person.token)
        async with asked as client, _listening(client) as viewer:
            yield viewer

    return watch


def page_publisher(browser: str, name: str) -> Publish:
    @asynccontextmanager
    async def publish(place: Place) -> AsyncIterator[None]:
        async with place.open_page(browser, name) as visitor:
            await visitor.page.run("await window.publish(...values)", place.address("whip"), place.person.token)
            yield

    return publish


def page_viewer(browser: str, name: str) -> Watch:
    @asynccontextmanager
    async def watch(place: Place) -> AsyncIterator[Viewer]:
        async with place.open_page(browser, name) as visitor:
            await visitor.page.run("await window.watch(...values)", place.address("whep"), place.person.token)
            yield PageViewer(visitor)

    return watch


@asynccontextmanager
async def aiortc_publisher(place: Place) -> AsyncIterator[None]:
    async with start_aiortc("publish") as client:
        await client.answer(await place.negotiate("whip", str((await client.read())["offer"])))
        yield


PUBLISHERS: dict[str, Publish] = {
    "Chromium": page_publisher("chromium", "client"),
    "Firefox": page_publisher("firefox", "client"),
    "FFmpeg": command_publisher(*FFMPEG, last=("dtls_active",)),
    "GStreamer": command_publisher(*GSTREAMER, "publish", last=("VP8",)),
    "aiortc": aiortc_publisher,
    "@roamhq/wrtc": command_publisher(*WRTC, "publish"),
    "@eyevinn/whip-web-client": page_publisher("chromium", "eyevinn"),
}
# Neither GStreamer nor aiortc: they ask for what they miss, but drop or hold back pictures that come after its repair.
VIEWERS: dict[str, Watch] = {
    "Chromium": page_viewer("chromium", "client"),
    "Firefox": page_viewer("firefox", "client"),
    "@roamhq/wrtc": command_viewer(*WRTC, "watch"),
    "werift": command_viewer(*WERIFT),
    "@eyevinn/webrtc-player": page_viewer("chromium", "eyevinn"),
}
