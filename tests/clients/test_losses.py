"""Each client behind a bad network: what is lost on its way is sent again, and who restarts ICE goes on.

All publishers play one scene and all viewers another, and each test judges what became of one of them.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from bench.impairment import Impairment, Relay
from server.client import watch
from server.demo import TOKEN_VARIABLE
from tests.browser.browsers import Browser, start_chromium, start_firefox
from tests.browser.servers import Server, running
from tests.browser.visitors import Theatre, comes_true, open_theatre
from tests.clients.lossy import Numbers, open_front, until
from tests.clients.peers import PUBLISHERS, VIEWERS, Place, Viewer, process, serve_pages
from tests.moq.nodes import Node, open_node
from tests.server.nodes import Person

LOSSY = Impairment(loss=0.1, delay_ms=5)
ENOUGH = 25  # datagrams lost on one way
PATIENCE_S = 40.0  # for the slowest of many clients on two cores
REPAIRED_WITHIN_S = 1.5
TALKING = ("Chromium", "Firefox", "@roamhq/wrtc")
RESTARTING = ("Chromium", "Firefox", "@roamhq/wrtc")


@dataclass
class Fate:
    """What became of one client's packets or pictures, and after a restart of ICE."""

    wanted: int = 0  # packets that were missed by the server; pictures that were sent to the viewer
    got: int = 0
    got_after: int = 0  # pictures by the way that ICE found when it was restarted
    heard_as: str = ""  # the name under which it heard what it said over a data channel
    failure: Exception | None = None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Browser, Browser]]:
    folder = Path(tmp_path_factory.mktemp("losses"))
    with running(Server(folder)) as server, start_chromium() as chromium, start_firefox() as firefox:
        yield server, chromium, firefox


@asynccontextmanager
async def open_theatre_with_pages(stage: tuple[Server, Browser, Browser]) -> AsyncIterator[tuple[Theatre, Node]]:
    server, *browsers = stage
    async with open_node() as node, open_theatre(server, *browsers) as theatre:
        serve_pages(node)
        yield theatre, node


async def open_stream(theatre: Theatre, name: str) -> tuple[Person, str]:
    owner = await theatre.person(name)
    view = await owner.ask("POST", "/streams", {"title": f"Of {name}"})
    return owner, str(view["card"]["id"])


def account(client: str) -> str:
    return re.sub("[^a-z]", "", client.lower())


async def is_live(owner: Person, stream: str) -> bool:
    return bool((await owner.ask("GET", f"/streams/{stream}"))["card"]["state"] == "live")


async def publish_behind(theatre: Theatre, pages: Node, client: str, fate: Fate) -> None:
    """Have one client publish over a lossy way, beside somebody who counts what comes of it."""
    name = account(client)
    (owner, stream), observer = await open_stream(theatre, name), await theatre.person(f"observer of {name}")
    async with (
        open_front(theatre.server.url) as front,
        PUBLISHERS[client](Place(theatre, pages, front.url, stream, owner)),
    ):
        assert await comes_true(lambda: is_live(owner, stream), PATIENCE_S), f"{client} is not live"
        numbers = Numbers()
        url = f"{theatre.server.url}/whep/{stream}"
        async with watch(theatre.http, url, observer.token, on_rtp=numbers.take):
            await until(lambda: bool(numbers.got), PATIENCE_S)
            lossy = front.become(up=LOSSY)
            await until(lambda: lossy.up.counts.lost >= ENOUGH and numbers.late >= 5, PATIENCE_S)
            front.become()
            with trio.move_on_after(REPAIRED_WITHIN_S):
                await until(lambda: numbers.missing == 0, REPAIRED_WITHIN_S + 1)
            fate.got, fate.wanted = numbers.late, numbers.late + numbers.missing


async def play_publishers(stage: tuple[Server, Browser, Browser]) -> dict[str, Fate]:
    """Have all clients that publish do so at once, each its own stream."""
    async with open_theatre_with_pages(stage) as (theatre, pages):
        return await live_through(PUBLISHERS, lambda client, fate: publish_behind(theatre, pages, client, fate))


async def play_viewers(stage: tuple[Server, Browser, Browser]) -> dict[str, Fate]:
    """Have all clients that watch do so at once, one stream, and count while its publisher holds its breath."""
    async with open_theatre_with_pages(stage) as (theatre, pages):
        owner, stream = await open_stream(theatre, "sender")
        observer, numbers = await theatre.person("observer"), Numbers()
        url = f"{theatre.server.url}/whep/{stream}"
        async with (
            moving_picture(theatre, owner, stream) as publisher,
            watch(theatre.http, url, observer.token, on_rtp=numbers.take),
        ):
            scene = Scene(publisher, numbers, len(VIEWERS))
            return await live_through(
                VIEWERS, lambda client, fate: watch_behind(theatre, pages, client, fate, stream, scene)
            )


class Scene:
    """What all viewers of a stream wait for: those who are ready, and a publisher that stands still meanwhile."""

    def __init__(self, publisher: trio.Process, numbers: Numbers, viewers: int) -> None:
        self.publisher, self.numbers, self.viewers = publisher, numbers, viewers
        self.came = 0

    async def meet(self) -> None:
        """Return when all have come here."""
        self.came += 1
        all_of_turn = -(-self.came // self.viewers) * self.viewers
        await until(lambda: self.came >= all_of_turn, PATIENCE_S)

    async def still(self) -> None:
        """Return when all have come here and nothing is on its way any more."""
        await self.meet()
        self.publisher.send_signal(signal.SIGSTOP)
        await trio.sleep(REPAIRED_WITHIN_S)

    async def go_on(self) -> None:
        """Let the publisher send, once all have looked."""
        await self.meet()
        self.publisher.send_signal(signal.SIGCONT)


async def live_through(clients: Iterable[str], live: Callable[[str, Fate], Awaitable[None]]) -> dict[str, Fate]:
    """Have each client live through a scene, whatever becomes of the others."""
    fates = {client: Fate() for client in clients}

    async def one(client: str) -> None:
        try:
            await live(client, fates[client])
        except Exception as failure:
            fates[client].failure = failure  # the test of this client raises it

    async with trio.open_nursery() as nursery:
        for client in fates:
            nursery.start_soon(one, client)
    return fates


@asynccontextmanager
async def moving_picture(theatre: Theatre, owner: Person, stream: str) -> AsyncIterator[trio.Process]:
    """Publish what costs next to nothing."""
    command = (sys.executable, "-m", "server.demo", f"{theatre.server.url}/whip/{stream}")
    async with process(*command, environment={TOKEN_VARIABLE: owner.token}) as publisher:
        assert await comes_true(lambda: is_live(owner, stream), PATIENCE_S)
        yield publisher.process


async def watch_behind(theatre: Theatre, pages: Node, client: str, fate: Fate, stream: str, scene: Scene) -> None:
    """Have one client watch over a lossy way, and restart ICE if it can."""
    person = await theatre.person(f"{account(client)} viewer")
    async with (
        open_front(theatre.server.url) as front,
        VIEWERS[client](Place(theatre, pages, front.url, stream, person)) as viewer,
    ):
        await sees(viewer, 30)
        await scene.still()
        sent, seen = sent_to(client, scene.numbers), await viewer.count()
        lossy = front.become(down=LOSSY)
        await scene.go_on()
        if client in TALKING:
            with trio.fail_after(PATIENCE_S):
                fate.heard_as = await viewer.talk(f"here is {client}")
        await until(lambda: lossy.down.counts.lost >= ENOUGH, PATIENCE_S)
        front.become()
        await trio.sleep(0.5)  # what is lost last is missed when the next comes
        await scene.still()
        fate.wanted, fate.got = sent_to(client, scene.numbers) - sent, await viewer.count() - seen
        await scene.go_on()
        if client in RESTARTING:
            fate.got_after = await restart(lossy, viewer)


def sent_to(client: str, numbers: Numbers) -> int:
    return len(numbers.got) if client == "werift" else numbers.frames


async def restart(relay: Relay, viewer: Viewer) -> int:
    """Have a viewer restart ICE; returns how many pictures it got by its new way alone."""
    former = set(relay.clients)
    await viewer.restart()
    await until(lambda: len(relay.clients) > len(former), PATIENCE_S)
    relay.gone |= former
    await trio.sleep(1)
    seen = await viewer.count()
    await sees(viewer, seen + 40)
    return await viewer.count() - seen


async def sees(viewer: Viewer, at_least: int) -> None:
    async def enough() -> bool:
        return await viewer.count() >= at_least

    assert await comes_true(enough, PATIENCE_S), f"got {await viewer.count()} of {at_least}"


@pytest.fixture(scope="module")
def published(stage: tuple[Server, Browser, Browser]) -> dict[str, Fate]:
    return trio.run(play_publishers, stage)


@pytest.fixture(scope="module")
def watched(stage: tuple[Server, Browser, Browser]) -> dict[str, Fate]:
    return trio.run(play_viewers, stage)


def fate_of(client: str, fates: dict[str, Fate]) -> Fate:
    fate = fates[client]
    if fate.failure is not None:
        raise fate.failure
    return fate


@pytest.mark.parametrize("client", PUBLISHERS)
def test_what_a_publisher_s_network_loses_it_sends_again(published: dict[str, Fate], client: str) -> None:
    fate = fate_of(client, published)
    assert fate.got >= 5
    assert fate.got >= 0.9 * fate.wanted, fate


@pytest.mark.parametrize("client", VIEWERS)
def test_what_a_viewer_s_network_loses_is_sent_again(watched: dict[str, Fate], client: str) -> None:
    fate = fate_of(client, watched)
    assert fate.got >= 0.95 * fate.wanted, fate


@pytest.mark.parametrize("client", RESTARTING)
def test_a_viewer_restarts_ice_and_goes_on(watched: dict[str, Fate], client: str) -> None:
    fate = fate_of(client, watched)
    assert fate.got_after >= 40


@pytest.mark.parametrize("client", TALKING)
def test_a_viewer_talks_over_a_data_channel_while_its_network_loses(watched: dict[str, Fate], client: str) -> None:
    assert fate_of(client, watched).heard_as == f"{account(client)} viewer"
