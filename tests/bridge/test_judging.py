"""Who comes over MoQ is judged as who comes over WebRTC: by follows, blocks and proofs, and again when these change."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from server.client import watch
from tests.access.test_access_node import Show as PrivateShow
from tests.access.test_kyf_node import demand, open_kyf_show, prove
from tests.bridge.players import Player, open_player, open_players
from tests.bridge.shows import open_show
from tests.server.nodes import open_socket

SETUP_BYTES = 32  # a session begins with these on a stream of their own, whoever has come


async def play(player: Player, stream: str) -> int:
    """Subscribe to the picture, and return the subscription when some of it has come."""
    await player.until(lambda: player.session is not None)
    video = player.subscribe(stream, "video")
    await player.until(lambda: len(player.frames[video]) >= 5)
    return video


async def test_a_follower_who_only_speaks_moq_plays_a_private_stream_until_the_follow_ends(tmp_path: Path) -> None:
    async with open_show(tmp_path, "private") as show:
        fan, eve = await show.site.person("fan"), await show.site.person("eve")
        await fan.ask("PUT", "/follows/streamer")
        targets = [show.target(fan), f"/moq?jwt={fan.token}", show.target(eve), f"/moq?jwt={eve.token}"]
        async with open_players(show.address, targets) as players:
            bound, roaming, *strangers = players
            await bound.until(lambda: show.stream in bound.announced)
            for player in (bound, roaming):
                await play(player, show.stream)
            for player in strangers:
                await player.until(lambda player=player: player.session is not None)
                asked = player.subscribe(show.stream, "video")
                await player.until(lambda player=player, asked=asked: asked in player.ended)
            assert (await show.owner.ask("GET", f"/streams/{show.stream}"))["card"]["viewers"] == 1
            await fan.ask("DELETE", "/follows/streamer")
            cut_ns = time.time_ns()
            for player in (bound, roaming):
                await player.until(lambda player=player: show.stream in player.retracted)
            await fan.ask("PUT", "/follows/streamer")
            await bound.until(lambda: show.stream in bound.announced)
            assert max(player.last_object_ns for player in (bound, roaming)) < cut_ns
            for player in (bound, roaming):
                await play(player, show.stream)
            for player in strangers:
                assert not player.announced
                assert player.object_bytes <= SETUP_BYTES


async def test_for_whom_the_streamer_blocked_the_stream_is_one_that_never_was(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        loser = await show.site.person("loser")
        async with open_players(show.address, [show.target(loser), f"/moq?jwt={loser.token}"]) as (bound, roaming):
            for player in (bound, roaming):
                await player.until(lambda player=player: show.stream in player.announced)
                await play(player, show.stream)
            await show.owner.ask("PUT", "/blocks/loser")
            blocked_ns = time.time_ns()
            await bound.until(lambda: bound.closed is not None)
            await roaming.until(lambda: show.stream in roaming.retracted)
            asked = roaming.subscribe(show.stream, "video")
            unknown = roaming.subscribe("s_0123456789abcdef", "video")
            await roaming.until(lambda: {asked, unknown} <= roaming.ended.keys())
            assert roaming.ended[asked] == roaming.ended[unknown]
            assert max(bound.last_object_ns, roaming.last_object_ns) < blocked_ns
        reasons = [bound.closed]
        for target in (show.target(loser), f"/moq/s_0123456789abcdef?jwt={loser.token}"):
            async with open_player(show.address, target) as player:
                await player.until(lambda player=player: player.closed is not None)
                reasons.append(player.closed)
        assert reasons == [(404, "stream_unknown: There is no such stream.")] * 3


async def test_a_proof_lets_those_in_who_wait_over_moq_and_its_end_cuts_them(tmp_path: Path) -> None:
    async with open_kyf_show(tmp_path) as show, trio.open_nursery() as nursery:
        nursery.start_soon(send_on, show)
        await demand(show, {"type": "kyf:verified"})
        bob = await show.site.person("bob")
        targets = [f"/moq/{show.stream}?jwt={bob.token}", f"/moq?jwt={bob.token}"]
        async with open_players(show.site.running.quic, targets) as (bound, roaming):
            for player in (bound, roaming):
                await player.until(lambda player=player: player.session is not None)
                asked = player.subscribe(show.stream, "video")
                await player.until(lambda player=player, asked=asked: asked in player.ended)
                assert not player.announced
            await prove(bob, expires_s=4)
            await bound.until(lambda: show.stream in bound.announced)
            for player in (bound, roaming):
                await play(player, show.stream)
            for player in (bound, roaming):
                await player.until(lambda player=player: show.stream in player.retracted)
            told_ns = time.time_ns()
            await show.frames(20)
            assert max(bound.last_object_ns, roaming.last_object_ns) < told_ns
        nursery.cancel_scope.cancel()


async def test_sessions_over_moq_count_as_devices_and_the_newest_stay(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show, AsyncExitStack() as stack:
        fan, other = await show.site.person("fan"), await show.site.person("other")
        heard = await stack.enter_async_context(open_socket(show.site, fan))
        await heard.ask("join", stream=show.stream)
        got: list[bytes] = []
        whep = show.site.url("whep", show.stream)
        await stack.enter_async_context(
            watch(show.site.http, whep, fan.token, ("video",), lambda packet, at_ns: got.append(packet))
        )
        targets = [show.target(fan), f"/moq?jwt={fan.token}", show.target(fan), show.target(other)]
        bound, roaming, newest, others = await stack.enter_async_context(open_players(show.address, targets))
        others_video = await play(others, show.stream)
        await play(bound, show.stream)
        with trio.fail_after(5):
            while not got:  # noqa: ASYNC110 - what is waited for comes over the socket
                await trio.sleep(0.05)
        roaming_video = await play(roaming, show.stream)
        first = await heard.wait_for("media.taken_over")
        assert (first["stream"], first["reason"]) == (show.stream, "device_limit")
        assert isinstance(first["session"], str)  # the oldest was the one over WHEP
        assert show.stream in bound.announced
        newest_video = await play(newest, show.stream)
        second = await heard.wait_for("media.taken_over")
        assert second["session"] is None
        await bound.until(lambda: show.stream in bound.retracted)
        told_ns = time.time_ns()
        asked = bound.subscribe(show.stream, "video")
        await bound.until(lambda: asked in bound.ended)
        for player, video in ((roaming, roaming_video), (newest, newest_video), (others, others_video)):
            seen = len(player.frames[video])
            await player.until(lambda player=player, video=video, seen=seen: len(player.frames[video]) > seen + 10)
        assert bound.last_object_ns < told_ns
        assert bound.closed is None  # its player would come again at once
        room = show.site.running.rooms._registry._running[show.stream].room  # type: ignore[index]
        assert room.state.takeovers == 2


async def send_on(show: PrivateShow) -> None:
    while True:
        await show.frames(10)


pytestmark = pytest.mark.filterwarnings("error")
