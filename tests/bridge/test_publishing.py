"""A stream published over MoQ is forwarded to WebRTC viewers as if it came over WHIP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import pytest
import trio

from media import incoming
from server.client import SessionFailed, publish, watch
from server.demo import send_picture
from tests.bridge.players import open_player, open_streamer
from tests.bridge.viewers import Watcher, open_watcher
from tests.server.nodes import Person, Site, open_site

TOGETHER_US = 60_000  # what nobody notices between sound and picture


async def shown(owner: Person, stream: str) -> dict[str, Any]:
    return dict((await owner.ask("GET", f"/streams/{stream}"))["card"])


async def until_state(owner: Person, stream: str, state: str) -> None:
    with trio.fail_after(10):
        while (await shown(owner, stream))["state"] != state:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def until(claim: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not claim():  # noqa: ASYNC110 -- what it asks about is in another task, which tells nobody
            await trio.sleep(0.05)


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncIterator[tuple[Site, Person, str]]:
    async with open_site(folder) as site:
        owner = await site.person("streamer")
        yield site, owner, await site.stream(owner)


def target(stream: str, person: Person) -> str:
    return f"/moq/{stream}?jwt={person.token}"


def decode(watcher: Watcher) -> None:
    context = av.CodecContext.create("vp8", "r")
    pictures = [one for frame in watcher.frames["video"] for one in context.decode(av.Packet(frame.unit))]  # type: ignore[attr-defined]
    assert len(pictures) >= len(watcher.frames["video"]) - 2
    assert (pictures[-1].width, pictures[-1].height) == (320, 240)


async def test_what_is_published_over_moq_reaches_webrtc_viewers_with_sound_and_picture_together(
    tmp_path: Path,
) -> None:
    async with open_stage(tmp_path) as (site, owner, stream):
        viewer = await site.person("viewer")
        async with open_streamer(site.running.quic, target(stream, owner), stream):
            await until_state(owner, stream, "live")
            async with open_watcher(site, stream, viewer) as watcher, open_watcher(site, stream, viewer) as late:
                await watcher.until(video=70, audio=100)
                assert late.frames["video"][0].is_keyframe
                decode(watcher)
                apart_us = watcher.delay_us("video") - watcher.delay_us("audio")
                assert abs(apart_us) < TOGETHER_US
            async with open_player(site.running.quic, target(stream, viewer)) as player:
                await player.until(lambda: stream in player.announced)
                video = player.subscribe(stream, "video")
                await player.until(lambda: len(player.frames[video]) > 10)
        await until_state(owner, stream, "interrupted")


async def test_a_stream_is_live_when_its_publisher_has_named_picture_and_sound_however_long_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "SETTLE_NS", 60_000_000_000)
    async with open_stage(tmp_path) as (site, owner, stream):
        viewer = await site.person("viewer")
        named = trio.Event()
        async with open_streamer(site.running.quic, target(stream, owner), stream, named):
            with trio.fail_after(10):
                while "mesi_incoming_frames 0.0" in (await site.http.get("/metrics")).text:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            assert (await shown(owner, stream))["state"] == "waiting"
            with pytest.raises(SessionFailed, match="no_publisher"):
                async with open_watcher(site, stream, viewer):
                    pass
            named.set()
            await until_state(owner, stream, "live")
            async with open_watcher(site, stream, viewer) as watcher:
                await watcher.until(video=20, audio=20)


async def test_who_watches_a_stream_of_sound_alone_asks_again_when_it_gets_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "SETTLE_NS", 500_000_000)
    async with open_stage(tmp_path) as (site, owner, stream):
        viewer = await site.person("viewer")
        named = trio.Event()
        async with open_streamer(site.running.quic, target(stream, owner), stream, named):
            await until_state(owner, stream, "live")
            url = site.url("whep", stream)
            async with (
                watch(site.http, url, viewer.token) as watching,
                watch(site.http, url, viewer.token, ("audio",)) as listening,
            ):
                named.set()
                await until(lambda: watching.ended is not None)
                async with open_watcher(site, stream, viewer) as again:
                    await again.until(video=20, audio=20)
                assert listening.ended is None


async def test_nobody_else_can_publish_over_moq(tmp_path: Path) -> None:
    async with open_stage(tmp_path) as (site, owner, stream):
        eve = await site.person("eve")
        async with (
            open_streamer(site.running.quic, target(stream, eve), stream),
            open_streamer(site.running.quic, target(stream, owner), f"{stream}/guest"),
        ):
            await trio.sleep(0.5)
            assert (await shown(owner, stream))["state"] == "waiting"
            lines = (await site.http.get("/metrics")).text.splitlines()
            assert "mesi_incoming_broadcasts 0.0" in lines


async def test_the_newest_publisher_takes_over_whichever_way_it_came(tmp_path: Path) -> None:
    async with open_stage(tmp_path) as (site, owner, stream):
        viewer = await site.person("viewer")
        moq = site.running.quic, target(stream, owner), stream
        whip = site.http, site.url("whip", stream), owner.token
        async with open_streamer(*moq):
            await until_state(owner, stream, "live")
            async with open_watcher(site, stream, viewer) as watcher:
                await watcher.until(video=10, audio=10)
                async with publish(*whip, ("audio", "video")) as sent, trio.open_nursery() as nursery:
                    nursery.start_soon(send_picture, sent)
                    await watcher.until(video=60, audio=60)
                    assert sent.endpoint.ended is None
                    async with open_streamer(*moq):
                        with trio.fail_after(10):
                            while sent.endpoint.ended is None:  # noqa: ASYNC110
                                await trio.sleep(0.05)
                        await watcher.until(video=60, audio=60)
                    nursery.cancel_scope.cancel()


async def test_the_guest_of_a_one_to_one_may_publish_over_moq_until_it_ends(tmp_path: Path) -> None:
    async with open_stage(tmp_path) as (site, owner, stream):
        guest = await site.person("guest")
        async with open_streamer(site.running.quic, target(stream, owner), stream):
            await until_state(owner, stream, "live")
            async with open_watcher(site, stream, guest) as watcher:
                await watcher.until(video=5, audio=5)
                at = f"/streams/{stream}/one_to_one"
                await guest.ask("POST", f"{at}/requests", {"seconds": 300})
                await owner.ask("POST", f"{at}/accept", {"account": guest.id, "seconds": 300})
                await guest.ask("POST", f"{at}/confirm")
                async with open_streamer(site.running.quic, target(stream, guest), f"{stream}/guest"):
                    with trio.fail_after(10):
                        while "mesi_media_rows_tracks 4" not in (await site.http.get("/metrics")).text:  # noqa: ASYNC110
                            await trio.sleep(0.05)
                    async with open_watcher(site, stream, owner) as owners:
                        await owners.until(video=20, audio=20)
                        await owner.ask("POST", f"{at}/end")
                        seen = len(owners.frames["video"])
                        await trio.sleep(0.5)
                        assert len(owners.frames["video"]) - seen <= 1


pytestmark = pytest.mark.filterwarnings("error")
