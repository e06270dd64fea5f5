"""The ecosystem's own publisher and player, unchanged, in real browsers."""

from __future__ import annotations

import json

import pytest
import trio

from tests.clients.chromium import Page, open_pages
from tests.moq.firefox import open_firefox
from tests.moq.nodes import Everything, Node, open_node
from tests.moq.pages import CAMERA, WATCHED, bundle, publish_page, reporting_watch_page, watch_page
from tests.moq.streamer import stream_picture

COLOURS = 4  # the fake camera shows green and yellow shapes and digits on black; an empty canvas has one


async def show(page: Page, url: str) -> None:
    await page.run(f"location.href = {json.dumps(url)};")


async def watched(page: Page, changes: int) -> dict[str, object]:
    """Wait until the picture has changed so often, and return what the page shows."""
    sums: set[object] = set()
    seen: dict[str, object] = {}
    with trio.move_on_after(30):
        while True:
            await trio.sleep(0.2)
            try:
                seen = await page.run(WATCHED)  # type: ignore[assignment]
            except AssertionError:
                continue  # the page is still loading
            if int(str(seen["colours"])) >= COLOURS:
                sums.add(seen["sum"])
            if len(sums) > changes:
                return seen
    raise AssertionError(f"the picture does not move: {seen}")


async def serve_pages(node: Node) -> None:
    node.files["/publish.js"] = bundle("publish")
    node.files["/watch.js"] = bundle("watch")
    node.files["/publish.html"] = publish_page(node.port, "room/bob.hang")
    node.files["/watch.html"] = watch_page(node.port, "room/bob.hang", "?jwt=secret")
    node.files["/report.html"] = reporting_watch_page(node.port, "room/bob.hang")


async def test_chromium_publishes_with_moq_publish_and_chromium_plays_with_moq_watch() -> None:
    async with open_node() as node, open_pages(2, *CAMERA) as (publisher, viewer):
        await serve_pages(node)
        await show(publisher, f"http://127.0.0.1:{node.port}/publish.html")
        await show(viewer, f"http://127.0.0.1:{node.port}/watch.html")
        seen = await watched(viewer, changes=5)
        assert (seen["version"], seen["transport"]) == ("moq-lite-05", "webtransport")
        assert seen["audio"]["bytesReceived"] > 0  # type: ignore[index]
        assert {(request.version.value, request.path, request.token) for request in node.requests} == {
            ("moq-lite-04", "anon", None),
            ("moq-lite-05", "anon", "secret"),
        }


@pytest.mark.parametrize("container", ["legacy", "loc"])
async def test_chromium_plays_frames_that_were_written_here(container: str) -> None:
    async with open_node() as node, open_pages(1) as (viewer,), trio.open_nursery() as nursery:
        nursery.start_soon(stream_picture, node.origin, "room/bob.hang", container)
        await serve_pages(node)
        await show(viewer, f"http://127.0.0.1:{node.port}/watch.html")
        seen = await watched(viewer, changes=5)
        assert seen["audio"]["bytesReceived"] > 0  # type: ignore[index]
        nursery.cancel_scope.cancel()


async def test_a_cut_stops_the_picture_in_chromium_at_once_and_a_right_given_back_lets_it_go_on() -> None:
    rights = Everything()
    async with open_node(lambda request: rights) as node, open_pages(1) as (viewer,), trio.open_nursery() as nursery:
        nursery.start_soon(stream_picture, node.origin, "room/bob.hang")
        await serve_pages(node)
        await show(viewer, f"http://127.0.0.1:{node.port}/watch.html")
        await watched(viewer, changes=3)
        rights.is_admitted = False
        await trio.sleep(0.5)  # what had left before is drawn by now
        before = await frames(viewer)
        await trio.sleep(1)
        assert await frames(viewer) == before
        rights.is_admitted = True
        await watched(viewer, changes=3)
        assert await frames(viewer) > before
        nursery.cancel_scope.cancel()


async def test_firefox_plays_over_a_websocket() -> None:
    async with open_node() as node, trio.open_nursery() as nursery:
        nursery.start_soon(stream_picture, node.origin, "room/bob.hang")
        await serve_pages(node)
        async with open_firefox(f"http://127.0.0.1:{node.port}/report.html"):
            moved: set[object] = set()
            with trio.move_on_after(60):
                while len(moved) < 5:
                    await trio.sleep(0.2)
                    moved = {seen["sum"] for seen in node.reports if int(str(seen["colours"])) >= COLOURS}
        assert len(moved) >= 5, node.reports[-1:]
        assert node.reports[-1]["transport"] == "websocket"
        assert {request.carrier for request in node.requests} == {"websocket"}
        nursery.cancel_scope.cancel()


async def frames(page: Page) -> int:
    seen = await page.run(WATCHED)
    return int(seen["video"]["frameCount"])  # type: ignore[index]
