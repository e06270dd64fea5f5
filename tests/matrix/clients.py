"""Publishers and viewers that nobody here wrote, each as it comes; every viewer tells what it saw and heard."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import escape
from typing import Any

from media.wire.codecs import Codec
from tests.browser.bidi import Page
from tests.matrix.stage import Stage, process

Look = Callable[[], Awaitable[dict[str, Any]]]


def looking_at(page: Page) -> Look:
    """Return what asks a page for what was seen and heard there."""

    async def look() -> dict[str, Any]:
        return dict(await page.run("return window.seen"))

    return look


@asynccontextmanager
async def whip_chromium(stage: Stage) -> AsyncIterator[None]:
    html = "<script type=module src=/clapper.js></script><script type=module src=/whip.js></script>"
    async with stage.page("chromium", "whip", html) as page:
        await stage.negotiate(page, "whip", stage.owner)
        yield


@asynccontextmanager
async def whip_ffmpeg(stage: Stage) -> AsyncIterator[None]:
    url = f"{stage.server.url}/whip/{stage.stream}"
    async with process(["-m", "tests.clients.ffmpeg_client", url, stage.owner.token, ""]):
        yield


def moq_publish(codec: str) -> Callable[[Stage], Any]:
    """Return a page with <moq-publish>, set to a codec that it offers; "" leaves the choice to it: H264."""

    @asynccontextmanager
    async def publisher(stage: Stage) -> AsyncIterator[None]:
        config = json.dumps({"codec": codec} if codec else {})
        html = f"""<moq-publish url="{escape(stage.moq_url(stage.owner))}" name="{stage.stream}"></moq-publish>
          <script type=module src=/clapper.js></script>
          <script type=module src=/moq-publish.js></script>
          <script type=module>
            const publisher = document.querySelector("moq-publish");
            publisher.broadcast.video.hd.config.set({config});
            publisher.source = "camera";
          </script>"""
        async with stage.page("chromium", "publish", html):
            yield

    return publisher


@asynccontextmanager
async def moqrs_publisher(stage: Stage) -> AsyncIterator[None]:
    async with stage.moqrs("publish", stage.owner, "moqt"):
        yield


def whep(browser: str) -> Callable[[Stage], Any]:
    @asynccontextmanager
    async def viewer(stage: Stage) -> AsyncIterator[Look]:
        html = "<video playsinline></video><script type=module src=/whep.js></script>"
        async with stage.page(browser, "whep", html) as page:
            await stage.negotiate(page, "whep", await stage.person(f"whep-{browser}"))
            yield looking_at(page)

    return viewer


def moq_watch(browser: str) -> Callable[[Stage], Any]:
    @asynccontextmanager
    async def viewer(stage: Stage) -> AsyncIterator[Look]:
        url = escape(stage.moq_url(await stage.person(f"watch-{browser}")))
        html = f"""<moq-watch url="{url}" name="{stage.stream}" visible="always">
          <canvas width=320 height=240></canvas></moq-watch>
          <script type=module src=/moq-watch.js></script><script type=module src=/watch.js></script>"""
        async with stage.page(browser, f"watch-{browser}", html) as page:
            yield looking_at(page)

    return viewer


@asynccontextmanager
async def moqrs_viewer(stage: Stage) -> AsyncIterator[Look]:
    async with stage.moqrs("watch", await stage.person("moq-rs"), "https") as client:
        assert client.stdin is not None
        assert client.stdout is not None
        stdin, stdout = client.stdin, client.stdout

        async def look() -> dict[str, Any]:
            await stdin.send_all(b"?\n")
            line = b""
            while not line.endswith(b"\n"):
                chunk = await stdout.receive_some()
                assert chunk, "moq-rs ended early"
                line += chunk
            return dict(json.loads(line)["seen"])

        yield look


PUBLISHERS = {
    "WHIP Chromium": whip_chromium,
    "WHIP FFmpeg": whip_ffmpeg,
    "@moq/publish VP8": moq_publish("vp8"),
    "@moq/publish H264": moq_publish(""),
    "moq-rs": moqrs_publisher,
}
VIEWERS = {
    "WHEP Chromium": whep("chromium"),
    "WHEP Firefox": whep("firefox"),
    "@moq/watch Chromium": moq_watch("chromium"),
    "@moq/watch Firefox": moq_watch("firefox"),
    "moq-rs": moqrs_viewer,
}

# @moq/publish counts the samples that reach its AudioWorklet, from when that is made, and takes the picture's times
# from the camera, from when the first one comes (audio/capture-worklet.ts, video/polyfill.ts; moq-dev/moq pull request
# 1652). Samples that a busy machine never rendered are missing in the count for good: what it publishes is apart by
# itself, for any player over any relay. moq-rs gets the times untouched: others are held to what it sees.
PARTED_BY_ITSELF = {"@moq/publish VP8": Codec.VP8, "@moq/publish H264": Codec.H264}
SEES_TIMES_UNTOUCHED = "moq-rs"


def shows_no_picture(publisher: str, viewer: str, seen: dict[str, Any]) -> bool:
    """Whether a browser has no decoder for what is published.

    Firefox takes H264 over WebRTC only with a plug-in that it fetches from Mozilla's servers when it first runs.
    """
    return publisher in ("WHIP FFmpeg", "@moq/publish H264") and viewer.startswith("WHEP") and not seen["h264"]
