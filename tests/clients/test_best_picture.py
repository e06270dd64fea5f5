"""The best picture as a perk on a whole node: Chromium's simulcast, and a viewer who comes to follow the streamer."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from tests.clients.chromium import Page, open_pages
from tests.clients.test_chromium import ANSWER, LAYERS, WATCH, decoded, publishing, stats, watched_in
from tests.server.nodes import Person, Site, open_site, open_socket


async def negotiate(site: Site, page: Page, way: str, stream: str, person: Person, script: str) -> None:
    offer = str(await page.run(script))
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/sdp"}
    answer = await site.http.post(site.url(way, stream), content=offer, headers=headers)
    assert answer.status_code == 201, answer.text
    await page.run(ANSWER.replace("SDP", json.dumps(answer.text)))


async def test_the_best_layer_goes_to_who_follows_and_not_one_picture_of_it_to_who_stops(tmp_path: Path) -> None:
    async with open_site(tmp_path / "first") as site, open_pages(2) as (publisher, viewer):
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
