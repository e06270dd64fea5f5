"""People at browser windows: what they do on the page, what they see there, and what they hear."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import trio

from tests.browser.bidi import CommandFailed, Connection, Page
from tests.browser.browsers import Browser
from tests.browser.servers import Server
from tests.server.nodes import Person

PATIENCE_S = 30.0  # for anything to appear; a page that takes longer on a busy machine is broken
AUDIBLE = 0.001  # of the loudest, over some seconds: 60 dB below it; silence that was encoded is far below that
ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts"
PHONE, DESKTOP = (360, 740), (1280, 800)

# Keeps every connection that the page makes where a test can ask for its statistics.
PRELOAD = """() => {
  const Made = window.RTCPeerConnection;
  window.connections = [];
  window.RTCPeerConnection = class extends Made {
    constructor(...given) { super(...given); window.connections.push(this); }
  };
}"""
RECEIVED = """
  const sums = {framesDecoded: 0, audioPackets: 0, audioEnergy: 0, audioSeconds: 0};
  for (const connection of window.connections) {
    if (connection.connectionState === 'closed') continue;
    (await connection.getStats()).forEach(s => {
      if (s.type !== 'inbound-rtp') return;
      if (s.kind === 'video') sums.framesDecoded += s.framesDecoded ?? 0;
      else {
        sums.audioPackets += s.packetsReceived ?? 0;
        sums.audioEnergy += s.totalAudioEnergy ?? 0;
        sums.audioSeconds += s.totalSamplesDuration ?? 0;
      }
    });
  }
  return sums;
"""
# Waits for a frame, and gives the sum of its pixels in an 8 x 8 raster.
PICTURE = """
  const video = document.querySelector(values[0]);
  const shown = await Promise.race([
    new Promise(done => video.requestVideoFrameCallback(() => done(true))),
    new Promise(done => setTimeout(() => done(false), 3000))]);
  if (!shown) return null;
  const canvas = document.createElement('canvas'); canvas.width = canvas.height = 8;
  const paint = canvas.getContext('2d'); paint.drawImage(video, 0, 0, 8, 8);
  return [...paint.getImageData(0, 0, 8, 8).data].filter((_, place) => place % 4 !== 3);
"""
SHOWN = """
  const element = document.querySelector(values[0]);
  return element !== null && element.checkVisibility() && element.innerText.includes(values[1]);
"""
SEEN = "return document.querySelector(values[0])?.innerText ?? null;"


async def comes_true(condition: Callable[[], Awaitable[bool]], patience_s: float = PATIENCE_S) -> bool:
    """Ask a page again and again, as a person looks at it."""
    with trio.move_on_after(patience_s):
        while not await condition():  # noqa: ASYNC110 -- the condition is in another process
            await trio.sleep(0.05)
        return True
    return False


def difference(one: list[int], other: list[int]) -> float:
    """Return by how much two pictures of `PICTURE` differ, on average over their values, from 0 to 255."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


class Visitor:
    """One person at one window."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page, self.url, self.name = page, url, name

    async def log_in(self, person: Person) -> None:
        """Be logged in already, as after an earlier visit."""
        session = {
            "token": person.token,
            "expires_at": 4_000_000_000_000,
            "account": {"id": person.id, "name": person.name},
        }
        await self.page.open(f"{self.url}/icon.svg")
        await self.page.run("localStorage.setItem('mesi.session', values[0])", json.dumps(session))

    async def sign_up(self, name: str, password: str) -> None:
        """Make an account on the page."""
        await self.page.open(f"{self.url}/account?new&next=/live")
        await self.fill("[name=name]", name)
        await self.fill("[name=password]", password)
        await self.press("#submit")
        await self.sees("#who", name)
        await self.sees("#setup h1", "Go live")

    async def go_live(
        self, title: str, *, source: str = "camera", mode: str = "public", best_picture: str = "everyone"
    ) -> str:
        """Fill the form and start; returns the stream's id once it is on air."""
        await self.page.open(f"{self.url}/live")
        await self.fill("#title-field", title)
        await self.fill("[name=mode]", mode)
        await self.fill("[name=best_picture]", best_picture)
        await self.press(f"[name=source][value={source}]")
        await self.press("#go")
        await self.sees("#sending", "On air")
        address = await self.page.run("return document.querySelector('#watch-link').href")
        return str(address).partition("stream=")[2]

    async def watch(self, stream: str) -> None:
        await self.page.open(f"{self.url}/watch?stream={stream}")

    async def press(self, selector: str) -> None:
        """Click what can be seen; waits until it is there, and can be pressed."""
        await self.sees(selector)
        await self.sees_no(f"{selector}:disabled")
        await self.page.run("document.querySelector(values[0]).click()", selector)

    async def fill(self, selector: str, value: str) -> None:
        await self.sees(selector)
        await self.page.run(
            "const field = document.querySelector(values[0]); field.value = values[1];"
            "for (const type of ['input', 'change']) field.dispatchEvent(new Event(type, {bubbles: true}));",
            selector,
            value,
        )

    async def sees(self, selector: str, text: str = "") -> None:
        """Wait until something can be seen, with a text in it."""
        if await comes_true(lambda: self._shows(selector, text)):
            return
        there = await self.page.run(SEEN, selector)
        body = await self.page.run("return document.body.innerText")
        raise AssertionError(f"{self.name} does not see {selector} with {text!r}; it says {there!r}. The page: {body}")

    async def sees_no(self, selector: str) -> None:
        """Wait until something can't be seen any more."""

        async def is_gone() -> bool:
            return not await self._shows(selector, "")

        if await comes_true(is_gone):
            return
        raise AssertionError(f"{self.name} still sees {selector}: {await self.page.run(SEEN, selector)!r}")

    async def _shows(self, selector: str, text: str) -> bool:
        try:
            return bool(await self.page.run(SHOWN, selector, text))
        except CommandFailed:
            return False  # the page is just being left for another

    async def reads(self, selector: str) -> str:
        return str(await self.page.run(SEEN, selector))

    async def sees_moving_picture(self, selector: str = "#video") -> None:
        """Wait until frames are decoded and painted, and one differs from another."""
        with trio.move_on_after(PATIENCE_S):
            former: list[int] | None = None
            while True:
                pixels = await self.page.run(PICTURE, selector)
                if pixels and former and pixels != former and max(pixels) > 40:
                    return
                former = pixels
                await trio.sleep(0.1)
        raise AssertionError(f"{self.name} sees no moving picture in {selector}; {await self.received()}")

    async def sees_picture_of(self, other: Visitor, selector: str, theirs: str, own: str) -> None:
        """Wait until what is shown is like the other's picture, and less like the own one."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                shown, sent, mine = [
                    await page.run(PICTURE, where)
                    for page, where in ((self.page, selector), (other.page, theirs), (self.page, own))
                ]
                if shown and sent and mine and difference(shown, sent) < difference(shown, mine) / 2:
                    return
                await trio.sleep(0.1)
        raise AssertionError(f"{self.name} does not see {other.name} in {selector}")

    async def hears(self) -> None:
        """Wait until decoded sound is played that is loud enough to be heard."""
        before = await self.received()

        async def is_audible() -> bool:
            now = await self.received()
            seconds = now["audioSeconds"] - before["audioSeconds"]
            # W3C webrtc-stats: energy over time is the square of the level, of which 1 is the loudest.
            return seconds > 0 and (now["audioEnergy"] - before["audioEnergy"]) / seconds > AUDIBLE**2

        if await comes_true(is_audible):
            return
        raise AssertionError(f"{self.name} hears nothing; {await self.received()}")

    async def received(self) -> dict[str, float]:
        """Return what the connections that are open got: decoded frames, audio packets, played energy and seconds."""
        return dict(await self.page.run(RECEIVED))

    async def seconds_left(self, selector: str) -> int:
        """Return what a countdown shows."""
        clock = (await self.reads(selector)).strip()
        seconds = 0
        for part in clock.split(":"):
            seconds = seconds * 60 + int(part)
        return seconds

    async def shoot(self, name: str, sizes: tuple[tuple[int, int], ...] = (PHONE, DESKTOP)) -> None:
        """Leave screenshots in the test's artefacts."""
        for width, height in sizes:
            await self.page.resize(width, height)
            await trio.sleep(0.15)  # the picture is laid out and painted anew
            await self.keep_picture(f"{name}-{width}")
        await self.page.resize(*DESKTOP)

    async def keep_picture(self, name: str) -> None:
        """Leave a screenshot of the page as it is in the test's artefacts."""
        ARTEFACTS.mkdir(exist_ok=True)
        await self.page.shoot(ARTEFACTS / f"{name}.png")


class Theatre:
    """The people of one test: each in a window with a storage of its own."""

    def __init__(self, server: Server, http: httpx2.AsyncClient, connections: dict[str, Connection]) -> None:
        self.server, self.http, self.connections = server, http, connections
        self._storages: list[tuple[Connection, str]] = []

    async def close(self) -> None:
        for connection, storage in self._storages:
            await connection.ask("browser.removeUserContext", userContext=storage)

    async def person(self, name: str) -> Person:
        return await self.server.person(self.http, name)

    async def fill_wallet(self, name: str, asset: str, amount: str) -> None:
        await self.server.fill_wallet(self.http, name, asset, amount)

    async def stranger(self, browser: str) -> Visitor:
        """Open a window of somebody who is not logged in."""
        connection = self.connections[browser]
        storage = str((await connection.ask("browser.createUserContext"))["userContext"])
        self._storages.append((connection, storage))
        return await self._window(connection, storage, "a stranger")

    async def visitor(self, browser: str, person: Person) -> Visitor:
        """Open a window of somebody who is logged in."""
        visitor = await self.stranger(browser)
        visitor.name = f"{person.name} ({browser})"
        await visitor.log_in(person)
        return visitor

    async def _window(self, connection: Connection, storage: str, name: str) -> Visitor:
        made = await connection.ask("browsingContext.create", type="window", userContext=storage)
        page = Page(connection, made["context"])
        await page.resize(*DESKTOP)
        await connection.ask("script.addPreloadScript", functionDeclaration=PRELOAD, contexts=[page.context])
        return Visitor(page, self.server.url, name)


@asynccontextmanager
async def open_theatre(server: Server, *browsers: Browser) -> AsyncIterator[Theatre]:
    """Connect to the browsers, and close the windows afterwards. No page may have thrown what nobody caught."""
    async with AsyncExitStack() as stack:
        # No connection is kept: a server that ends while one rests would leave it open on this side.
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=server.url, timeout=20, limits=limits))
        connections = {browser.name: await stack.enter_async_context(browser.connect()) for browser in browsers}
        theatre = Theatre(server, http, connections)
        try:
            yield theatre
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
                await theatre.close()
        for name, connection in connections.items():
            assert not connection.complaints, f"{name}: {connection.complaints}"
