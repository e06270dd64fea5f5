"""Clients that nobody here wrote, against a whole server over HTTP: they publish, and they watch each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trio

from tests.browser.browsers import Browser, start_chromium
from tests.browser.servers import Server, running
from tests.browser.test_ways import NO_PATH, preload
from tests.browser.visitors import open_theatre
from tests.clients.peers import FFMPEG, GSTREAMER, WERIFT, WRTC, Place, process, serve_pages
from tests.clients.relays import SECRET, relay
from tests.clients.test_aiortc import Process
from tests.clients.test_aiortc import start as start_aiortc
from tests.moq.nodes import open_node
from tests.server.nodes import Person


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = Path(tmp_path_factory.mktemp("clients"))
    with relay(tmp_path_factory.mktemp("relay")) as address:
        (folder / "config.toml").write_text(f'[[ice_servers]]\nurl = "{address}"\nsecret = "{SECRET}"\n')
        with running(Server(folder)) as server:
            yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


async def new_stream(server: Server, owner: Person) -> str:
    view = await owner.ask("POST", "/streams", {"title": f"Sent by {owner.name}"})
    return str(view["card"]["id"])


async def until_live(owner: Person, stream: str) -> None:
    with trio.fail_after(30):
        while (await owner.ask("GET", f"/streams/{stream}"))["card"]["state"] != "live":  # noqa: ASYNC110
            await trio.sleep(0.1)


async def until_over(owner: Person, stream: str) -> None:
    """Wait until nobody publishes."""
    with trio.fail_after(30):
        while (await owner.ask("GET", f"/streams/{stream}"))["card"]["state"] == "live":  # noqa: ASYNC110
            await trio.sleep(0.1)


async def test_ffmpeg_publishes_h264_and_chromium_decodes_it_through_a_turn_server(
    server: Server, chromium: Browser
) -> None:
    async with open_theatre(server, chromium) as theatre:
        owner = await theatre.person("ffmpeg")
        stream = await new_stream(server, owner)
        async with process(*FFMPEG, f"{server.url}/whip/{stream}", owner.token, "dtls_active"):
            await until_live(owner, stream)
            viewer = await theatre.visitor("chromium", await theatre.person("viewer"))
            await preload(viewer, NO_PATH)
            await viewer.watch(stream)
            await viewer.sees(".way", "Plays over WebRTC")
            await viewer.sees_moving_picture()
            await viewer.hears()
        await owner.ask("POST", f"/streams/{stream}/end")


async def test_wrtc_publishes_and_chromium_and_wrtc_watch(server: Server, chromium: Browser) -> None:
    async with open_theatre(server, chromium) as theatre:
        owner, other = await theatre.person("wrtc"), await theatre.person("wrtc-viewer")
        stream = await new_stream(server, owner)
        async with process(*WRTC, "publish", f"{server.url}/whip/{stream}", owner.token):
            await until_live(owner, stream)
            viewer = await theatre.visitor("chromium", await theatre.person("viewer"))
            await viewer.watch(stream)
            await viewer.sees_moving_picture()
            await viewer.hears()
            async with process(*WRTC, "watch", f"{server.url}/whep/{stream}", other.token) as watching:
                await gets(watching, 20)


async def gets(viewer: Process, least: int) -> None:
    """Wait for a viewer's first report."""
    with trio.fail_after(30):
        (got,) = (await viewer.read()).values()
    assert isinstance(got, dict)
    assert min(got.values()) >= least, got


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_gstreamer_publishes_and_chromium_gstreamer_and_werift_watch(
    server: Server, chromium: Browser, codec: str
) -> None:
    async with open_theatre(server, chromium) as theatre:
        owner, other = await theatre.person(f"gstreamer-{codec}"), await theatre.person("another")
        stream = await new_stream(server, owner)
        async with process(*GSTREAMER, "publish", f"{server.url}/whip/{stream}", owner.token, codec):
            await until_live(owner, stream)
            viewer = await theatre.visitor("chromium", await theatre.person("viewer"))
            await viewer.watch(stream)
            await viewer.sees_moving_picture()
            await viewer.hears()
            async with (
                process(*GSTREAMER, "watch", f"{server.url}/whep/{stream}", other.token, codec) as watching,
                process(*WERIFT, f"{server.url}/whep/{stream}", owner.token) as receiving,
            ):
                await gets(watching, 20)
                await gets(receiving, 20)
        await owner.ask("POST", f"/streams/{stream}/end")


async def test_the_publisher_and_the_player_of_eyevinn_work_from_another_origin(
    server: Server, chromium: Browser
) -> None:
    async with open_node() as pages, open_theatre(server, chromium) as theatre:
        serve_pages(pages)
        owner, other = await theatre.person("eyevinn"), await theatre.person("eyevinn-viewer")
        stream = await new_stream(server, owner)
        sending, watching = (Place(theatre, pages, server.url, stream, person) for person in (owner, other))
        async with sending.open_page("chromium", "eyevinn") as streamer:
            await streamer.page.run("await window.publish(...values)", sending.address("whip"), owner.token)
            await until_live(owner, stream)
            async with watching.open_page("chromium", "eyevinn") as viewer:
                await viewer.page.run("await window.watch(...values)", watching.address("whep"), other.token)
                await viewer.sees_moving_picture("video")
                await viewer.hears()
                await viewer.page.run("await window.leave()")
            await streamer.page.run("await window.stop()")
            await until_over(owner, stream)


async def negotiate(http: httpx2.AsyncClient, kind: str, stream: str, person: Person, offer: str) -> str:
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/sdp"}
    answer = await http.post(f"/{kind}/{stream}", content=offer, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.text


async def test_aiortc_publishes_over_whip_and_watches_over_whep(server: Server) -> None:
    async with httpx2.AsyncClient(base_url=server.url, timeout=20) as http:
        owner, viewer = await server.person(http, "aiortc"), await server.person(http, "aiortc-viewer")
        stream = await new_stream(server, owner)
        async with start_aiortc("publish") as publishing, start_aiortc("watch") as watching:
            with trio.fail_after(40):
                offer = str((await publishing.read())["offer"])
                await publishing.answer(await negotiate(http, "whip", stream, owner, offer))
                await until_live(owner, stream)
                offer = str((await watching.read())["offer"])
                await watching.answer(await negotiate(http, "whep", stream, viewer, offer))
                decoded = (await watching.read())["decoded"]
    assert isinstance(decoded, dict)
    assert min(decoded.values()) >= 20, decoded
