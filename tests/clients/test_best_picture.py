"""The best picture as a perk on a whole node: Chromium's simulcast, and viewers who come to follow the streamer."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from media.moq.protocol.hang import read_catalog_untrusted
from tests.bridge.players import Player, open_player
from tests.clients.chromium import Page, open_pages
from tests.clients.test_chromium import ANSWER, LAYERS, WATCH, decoded, publishing, stats, watched_in
from tests.moq.nodes import open_node
from tests.moq.pages import bundle, watch_page
from tests.server.nodes import Person, Site, open_site, open_socket

BEST = "video-f"
SHOWN = """
  const frame = document.querySelector('moq-watch')?.video?.out.frame.peek();
  return frame ? [frame.displayWidth, frame.timestamp] : [0, 0];
"""
FEW_BYTES = 2_000  # a catalog has less, and ten pictures of the best layer more


async def negotiate(site: Site, page: Page, way: str, stream: str, person: Person, script: str) -> None:
    offer = str(await page.run(script))
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/sdp"}
    answer = await site.http.post(site.url(way, stream), content=offer, headers=headers)
    assert answer.status_code == 201, answer.text
    await page.run(ANSWER.replace("SDP", json.dumps(answer.text)))


def offered(player: Player, catalog: int) -> set[str]:
    """Return the renditions of the picture in the newest catalog that came."""
    if not player.frames[catalog]:
        return set()
    video = read_catalog_untrusted(max(player.frames[catalog])[2]).video
    return set() if video is None else set(video.renditions)


async def shown_in(page: Page, width: int) -> None:
    """Wait until the page of @moq/watch plays pictures of this width, and goes on."""
    with trio.fail_after(30):
        moments: set[object] = set()
        while len(moments) < 5:
            await trio.sleep(0.1)
            seen, at = await page.run(SHOWN)  # type: ignore[misc]
            if seen == width:
                moments.add(at)


async def over_quic(site: Site, stream: str, dora: Person) -> None:
    """Judge at a socket who has the best rendition, from when until when."""
    target = f"/moq/{stream}?jwt={dora.token}"
    async with open_player(site.running.quic, target) as player, open_socket(site, dora) as socket:
        await socket.ask("join", stream=stream)
        await player.until(lambda: stream in player.announced)
        catalog, refused = player.subscribe(stream, "catalog.json"), player.subscribe(stream, BEST)
        await player.until(lambda: refused in player.ended and offered(player, catalog))
        assert BEST not in offered(player, catalog)
        await dora.ask("PUT", "/follows/ann")
        await player.until(lambda: BEST in offered(player, catalog))
        best = player.subscribe(stream, BEST)
        await player.until(lambda: len(player.frames[best]) > 10)
        assert (await socket.wait_for("stream.best_picture"))["yours"]
        await dora.ask("DELETE", "/follows/ann")
        assert not (await socket.wait_for("stream.best_picture"))["yours"]
        await trio.sleep(0.3)  # until the socket has given what came before
        before = player.object_bytes
        await player.until(lambda: BEST not in offered(player, catalog))
        await player.until(lambda: best in player.ended)  # streams come in any order
        await trio.sleep(1)
        assert player.object_bytes - before < FEW_BYTES


async def in_moq_watch(site: Site, stream: str, page: Page, cleo: Person) -> None:
    """Have the ecosystem's own player follow a catalog that changes."""
    async with open_node() as pages:
        port = int(site.running.url.rpartition(":")[2])
        pages.files["/watch.js"] = bundle("watch")
        pages.files["/watch.html"] = watch_page(port, stream, f"?jwt={cleo.token}", f"moq/{stream}")
        await page.run(f"location.href = 'http://127.0.0.1:{pages.port}/watch.html';")
        await shown_in(page, 480)
        await cleo.ask("PUT", "/follows/ann")
        await shown_in(page, 960)
        await cleo.ask("DELETE", "/follows/ann")
        await shown_in(page, 480)
        await page.run("location.href = 'about:blank';")


async def test_the_best_layer_goes_to_who_follows_and_not_one_picture_of_it_to_who_stops(tmp_path: Path) -> None:
    async with open_site(tmp_path / "first") as site, open_pages(3) as (publisher, viewer, player):
        ann, bob = await site.person("ann"), await site.person("bob")
        view = await ann.ask("POST", "/streams", {"title": "Sharp", "best_picture": "entitled"})
        stream = view["card"]["id"]
        async with open_socket(site, bob) as socket:
            await negotiate(site, publisher, "whip", stream, ann, publishing("video/VP8", width=960, encodings=LAYERS))
            assert (await socket.ask("join", stream=stream))["type"] == "ok"
            assert not (await socket.wait_for("stream.state"))["you"]["best_picture"]
            await trio.sleep(3)  # until it is known which layer is the best
            await negotiate(site, viewer, "whep", stream, bob, WATCH)
            await watched_in(viewer, 480)
            await over_quic(site, stream, await site.person("dora"))
            await in_moq_watch(site, stream, player, await site.person("cleo"))
            ways = (await bob.ask("GET", f"/streams/{stream}/entitlement"))["ways"]
            assert {"type": "follows", "min_age_s": 0} in [way["clause"] for way in ways["of"]]

            await bob.ask("PUT", "/follows/ann")
            assert (await socket.wait_for("stream.best_picture"))["yours"]
            await watched_in(viewer, 960)
            assert (await bob.ask("GET", f"/streams/{stream}/entitlement"))["best_picture"]
            await bob.ask("DELETE", "/follows/ann")
            assert not (await socket.wait_for("stream.best_picture"))["yours"]
            await watched_in(viewer, 480)
            frames = (await stats(viewer))["video"]["frames"]
            await decoded(viewer, more_than=frames + 10)
            assert (await stats(viewer))["video"]["width"] == 480

            await ann.ask("PUT", f"/streams/{stream}/best_picture", {"best_picture": "everyone"})
            told = await socket.wait_for("stream.best_picture")
            assert (told["yours"], told["best_picture"]) == (True, "everyone")
            await watched_in(viewer, 960)
            await ann.ask("PUT", f"/streams/{stream}/best_picture", {"best_picture": "entitled"})
            await watched_in(viewer, 480)
            assert (await bob.ask("PUT", f"/streams/{stream}/best_picture", {"best_picture": "everyone"}, 403))[
                "code"
            ] == "not_the_owner"
            await ann.ask("PUT", f"/streams/{stream}/best_picture", {"best_picture": "nobody"}, 422)
