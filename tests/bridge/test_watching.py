"""A stream published over WHIP, watched over MoQ against a whole node: the same rules, the same cut."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from media.moq.protocol.hang import read_catalog_untrusted
from server.client import publish
from server.demo import send_picture
from tests.bridge.decoding import decoded
from tests.bridge.players import Player, open_player, open_players
from tests.bridge.shows import Show, open_show
from tests.server.nodes import open_site, open_socket

# What was written before the end may leave up to a flush later, from a process that is not scheduled at once.
FLUSHED_NS = 100_000_000


async def test_a_stream_published_over_whip_plays_over_quic_with_picture_and_sound_together(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_show(tmp_path) as show:
            viewer = await show.site.person("viewer")
            assert await show.counter("bridged_broadcasts_read") == 0
            async with open_player(show.address, show.target(viewer)) as player:
                await player.until(lambda: show.stream in player.announced)
                named = player.subscribe(show.stream, "catalog.json")
                await player.until(lambda: player.frames[named])
                catalog = read_catalog_untrusted(player.frames[named][0][2])
                assert catalog.video is not None
                assert catalog.audio is not None
                assert catalog.video.renditions["video"].codec == "vp8"
                assert catalog.audio.renditions["audio"].codec == "opus"
                assert await show.counter("bridged_broadcasts_read") == 0, "the catalog alone costs no reading"
                video = player.subscribe(show.stream, "video")
                audio = player.subscribe(show.stream, "audio")
                await player.until(lambda: len(player.frames[video]) >= 90 and len(player.frames[audio]) >= 150)
                assert await show.counter("bridged_broadcasts_read") == 1
                decoded(player.frames[video], player.frames[audio])
                groups = {sequence for subscription, sequence in player.groups if subscription == video}
                assert len(groups) >= 2, "a new group begins every two seconds"
            while await show.counter("bridged_broadcasts_read"):  # noqa: ASYNC110
                await trio.sleep(0.05)


async def test_a_session_is_let_in_by_a_token_and_hears_only_of_what_it_may_watch(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_show(tmp_path) as show:
            viewer = await show.site.person("viewer")
            for target, status in (
                (f"/moq/{show.stream}", 401),
                (f"/moq/{show.stream}?jwt=wrong", 401),
                (f"/moq/s_unknown?jwt={viewer.token}", 404),
                (f"/elsewhere?jwt={viewer.token}", 404),
            ):
                async with open_player(show.address, target) as player:
                    await player.until(lambda player=player: player.closed is not None)
                    assert player.closed is not None
                    assert player.closed[0] == status
            await show.switch("paid")
            async with open_player(show.address, f"/moq?jwt={viewer.token}") as player:
                await player.until(lambda: player.session is not None)
                refused = player.subscribe(show.stream, "video")
                await player.until(lambda: refused in player.ended)
                assert show.stream not in player.announced
                await show.owner.ask("PUT", f"/streams/{show.stream}/tickets/viewer")
                await player.until(lambda: show.stream in player.announced)
                video = player.subscribe(show.stream, "video")
                await player.until(lambda: len(player.frames[video]) >= 10)


@pytest.mark.parametrize("carrier", ["quic", "webtransport"])
async def test_after_the_confirmation_of_a_cut_no_object_byte_reaches_any_of_fifty_viewers(
    carrier: str, tmp_path: Path
) -> None:
    with trio.fail_after(60):
        async with open_show(tmp_path) as show:
            people = [await show.site.person(name) for name in ("keeper", *(f"viewer{n}" for n in range(50)))]
            targets = [show.target(one) for one in people]
            async with open_players(show.address, targets, is_web=carrier == "webtransport") as players:
                await be_cut(show, players)


async def drained(players: list[Player]) -> None:
    """Return when nothing was read for a second: what had come before may wait in a socket of a busy machine."""
    seen: list[int] = []
    while seen != (seen := [player.object_bytes for player in players]):  # noqa: ASYNC110 -- sockets tell nobody
        await trio.sleep(1)


async def be_cut(show: Show, players: list[Player]) -> None:
    for player in players:
        await player.until(lambda player=player: show.stream in player.announced)
        for track in ("video", "audio"):
            player.subscribe(show.stream, track)
    for player in players:
        await player.until(lambda player=player: player.object_bytes > 20_000)
    await show.owner.ask("PUT", f"/streams/{show.stream}/tickets/keeper")
    done = await show.switch("paid")
    confirmed_ns = time.time_ns()
    assert done["removed_count"] == 50
    before = [player.object_bytes for player in players]
    await trio.sleep(1)
    assert players[0].object_bytes > before[0]
    await drained(players[1:])
    assert max(player.last_object_ns for player in players[1:]) < confirmed_ns
    assert all(show.stream in player.retracted for player in players[1:])
    await show.switch("public")
    for player in players:
        await player.until(lambda player=player: show.stream in player.announced)


async def test_who_is_ejected_or_whose_stream_ends_is_told_why(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_show(tmp_path) as show:
            loser, other = await show.site.person("loser"), await show.site.person("other")
            async with (
                open_player(show.address, show.target(loser)) as lost,
                open_player(show.address, show.target(other)) as kept,
            ):
                for player in (lost, kept):
                    await player.until(lambda player=player: show.stream in player.announced)
                    video = player.subscribe(show.stream, "video")
                    await player.until(lambda player=player, video=video: player.frames[video])
                view = await show.owner.ask("GET", f"/streams/{show.stream}")
                assert view["card"]["viewers"] == 2
                await show.owner.ask("PUT", f"/streams/{show.stream}/ejected/loser")
                await lost.until(lambda: lost.closed is not None)
                assert lost.closed is not None
                assert lost.closed[0] == 403
                assert lost.closed[1].startswith("ejected")
                seen = len(kept.frames[video])
                await kept.until(lambda: len(kept.frames[video]) > seen + 10)
                await show.owner.ask("POST", f"/streams/{show.stream}/end")
                await kept.until(lambda: kept.closed is not None)
                assert kept.closed is not None
                assert kept.closed[1].startswith("stream_ended")


async def test_the_two_of_a_one_to_one_receive_each_other_and_nobody_else_anything(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_show(tmp_path) as show:
            guest, eve = await show.site.person("guest"), await show.site.person("eve")
            people = [show.owner, guest, eve]
            async with open_players(show.address, [show.target(one) for one in people]) as (owners, guests, eves):
                for player in (guests, eves):
                    await player.until(lambda player=player: show.stream in player.announced)
                    video = player.subscribe(show.stream, "video")
                    await player.until(lambda player=player, video=video: player.frames[video])
                at = f"/streams/{show.stream}/one_to_one"
                await guest.ask("POST", f"{at}/requests", {"seconds": 300})
                await show.owner.ask("POST", f"{at}/accept", {"account": guest.id, "seconds": 300})
                await guest.ask("POST", f"{at}/confirm")
                confirmed_ns = time.time_ns()
                await eves.until(lambda: show.stream in eves.retracted)
                seen = len(guests.frames[video])
                async with (
                    publish(
                        show.site.http, show.site.url("whip", show.stream), guest.token, ("audio", "video")
                    ) as sent,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(send_picture, sent)
                    theirs = f"{show.stream}/guest"
                    await owners.until(lambda: theirs in owners.announced)
                    answer = owners.subscribe(theirs, "video")
                    await owners.until(lambda: len(owners.frames[answer]) > 10)
                    await guests.until(lambda: len(guests.frames[video]) > seen + 10)
                    assert theirs not in guests.announced | eves.announced
                    asked = eves.subscribe(theirs, "video")
                    await eves.until(lambda: asked in eves.ended)
                    nursery.cancel_scope.cancel()
                assert eves.last_object_ns < confirmed_ns
                await show.owner.ask("POST", f"{at}/end")
                await eves.until(lambda: show.stream in eves.announced)
                await owners.until(lambda: theirs in owners.retracted)


async def test_what_two_people_watch_over_moq_is_delivered_and_paid_for(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_show(tmp_path) as show:
            guest = await show.site.person("guest")
            async with (
                open_socket(show.site, guest) as heard,
                open_players(show.address, [show.target(one) for one in (show.owner, guest)]) as (owners, guests),
            ):
                await heard.ask("join", stream=show.stream)
                at = f"/streams/{show.stream}/one_to_one"
                await guest.ask("POST", f"{at}/requests", {"seconds": 300})
                await show.owner.ask("POST", f"{at}/accept", {"account": guest.id, "seconds": 300})
                await guest.ask("POST", f"{at}/confirm")
                async with (
                    publish(
                        show.site.http, show.site.url("whip", show.stream), guest.token, ("audio", "video")
                    ) as sent,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(send_picture, sent)
                    for player, path in ((owners, f"{show.stream}/guest"), (guests, show.stream)):
                        await player.until(lambda player=player, path=path: path in player.announced)
                        video = player.subscribe(path, "video")
                        await player.until(lambda player=player, video=video: player.frames[video])
                    await trio.sleep(3.5)
                    await show.owner.ask("POST", f"{at}/end")
                    ended = await heard.wait_for("one_to_one.ended")
                    nursery.cancel_scope.cancel()
                assert ended["delivered_s"] >= 2


async def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_show(tmp_path) as show:
            account = await show.site.running.auth.add_account("brief")
            token = show.site.running.auth.issue(account, 3, "user")
            expires_ns = show.site.running.auth.expires_at(token) * 1_000_000
            async with open_player(show.address, f"/moq?jwt={token}") as player:
                await player.until(lambda: show.stream in player.announced)
                video = player.subscribe(show.stream, "video")
                await player.until(lambda: player.closed is not None)
                assert player.frames[video]
                assert player.closed is not None
                assert player.closed[0] == 401
                assert player.closed[1].startswith("no_session")
                assert player.last_object_ns < expires_ns + FLUSHED_NS


async def test_the_hash_of_the_certificate_is_shown_to_any_page(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        answer = await site.http.get("/certificate.sha256")
        assert len(bytes.fromhex(answer.text)) == 32
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert site.running.quic[1] == int(site.running.url.rpartition(":")[2])


pytestmark = pytest.mark.filterwarnings("error")
