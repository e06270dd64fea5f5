"""Groups that go live on a whole node: for whom, once, out of a call and back to it, with the card up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from server.client import publish, watch
from server.demo import send_picture
from tests.bridge.players import open_players, open_streamer
from tests.server.nodes import Person, Site, open_site, open_socket, small_config
from tests.server.test_node import Viewer, send_frames
from tests.talk.test_calls_node import (
    KINDS,
    answer,
    call,
    do,
    refused,
    seeing,
    sending,
    told,
    wait_until,
)
from tests.talk.test_conversations_node import talking


async def go_live(who: Person, talk: str, audience: str = "members", status: int = 200) -> Any:
    return await who.ask("POST", f"/conversations/{talk}/go_live", {"audience": audience}, status)


async def card(who: Person, talk: str, state: str) -> dict[str, Any]:
    """Return the card of the last stream once it is in a state."""
    found: dict[str, Any] = {}

    async def look() -> bool:
        messages = (await who.ask("GET", f"/conversations/{talk}/messages"))["messages"]
        cards = [each["card"] for each in messages if each["kind"] == "live"]
        found.update(cards[-1] if cards else {})
        return found.get("state") == state

    for _ in range(200):
        if await look():
            break
    assert found["state"] == state
    return found


async def may_watch(site: Site, who: Person, stream: str) -> str:
    return str((await who.ask("GET", f"/streams/{stream}"))["you"]["reason"] or "yes")


async def test_a_group_goes_live_once_for_its_members_alone_and_the_card_says_so(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve", "joe") as room:
        ann, bob, eve, joe = (room[name] for name in ("ann", "bob", "eve", "joe"))
        talk = await room.group(ann, bob, eve)
        await joe.ask("PUT", "/follows/ann")
        live = await go_live(ann, talk)
        assert await go_live(bob, talk) == await go_live(ann, talk) == live
        assert (live["starter"], live["audience"]) == (ann.id, "members")
        stream = live["stream"]
        assert [await may_watch(room.site, who, stream) for who in (bob, eve, joe)] == ["yes", "yes", "not_entitled"]
        assert (await card(bob, talk, "live"))["stream"] == stream
        title = (await bob.ask("GET", f"/streams/{stream}"))["card"]["title"]
        assert "A group" not in title
        got = Viewer()
        async with (
            publish(room.site.http, room.site.url("whip", stream), ann.token, KINDS) as publisher,
            watch(room.site.http, room.site.url("whep", stream), eve.token, KINDS, got.take),
        ):
            await send_frames(publisher, 40)
            await wait_until(lambda: len(got.frames) > 20)
            await ann.ask("DELETE", f"/conversations/{talk}/members/eve", None, 204)
            seen = len(got.frames)
            await send_frames(publisher, 40, 40)
            assert len(got.frames) == seen
            assert await may_watch(room.site, eve, stream) == "not_entitled"
            await ann.ask("PUT", f"/conversations/{talk}/members/joe", None, 204)
            await joe.ask("POST", f"/conversations/{talk}/join")
            assert await may_watch(room.site, joe, stream) == "yes"
        await ann.ask("POST", f"/streams/{stream}/end")
        assert (await card(bob, talk, "ended"))["stream"] == stream
        types = [each["type"] for each in (await bob.ask("GET", f"/events?after=0&limit=200&subject={talk}"))["events"]]
        assert [each for each in types if each.startswith("conversation.live")] == [
            *("conversation.live_started", "conversation.live_ended")
        ]
        assert (await go_live(ann, talk))["stream"] != stream


async def test_it_is_for_others_only_where_that_is_chosen(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "joe") as room:
        ann, bob, joe = room["ann"], room["bob"], room["joe"]
        talk = await room.group(ann, bob)
        for audience, before, after in (("followers", "not_entitled", "yes"), ("everyone", "yes", "yes")):
            stream = (await go_live(ann, talk, audience))["stream"]
            assert await may_watch(room.site, joe, stream) == before
            await joe.ask("PUT", "/follows/ann")
            assert await may_watch(room.site, joe, stream) == after
            await ann.ask("POST", f"/streams/{stream}/end")
            await card(ann, talk, "ended")
        assert (await go_live(ann, talk, "nobody", 422))["code"] == "invalid_request"


async def test_who_may_not_take_it_live_is_told(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk = await room.group(ann, bob, posting="admins")
        assert (await go_live(bob, talk, status=403))["code"] == "read_only"
        assert (await go_live(eve, talk, status=404))["code"] == "conversation_unknown"
        direct = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        assert (await go_live(ann, direct, status=409))["code"] == "not_a_group"
        await room.site.stream(ann)
        assert (await go_live(ann, talk, status=409))["code"] == "already_live"


async def test_a_call_becomes_the_stream_without_anybody_elses_camera_and_goes_on_afterwards(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk = await room.group(ann, bob, eve)
        id = (await call(ann, talk, video=True))["id"]
        await answer(bob, id)
        async with open_socket(room.site, bob) as socket:
            async with sending(room.site, id, ann, bob), seeing(room.site, id, ann, bob) as anns:
                await wait_until(lambda: len(anns.frames) > 5)
                stream = (await go_live(ann, talk))["stream"]
                seen = len(anns.frames)
                live = await told(socket, "live")
                assert live["stream"] == stream
                assert await refused(room.site, id, "whip", bob) == "not_in_call"
                assert len(anns.frames) == seen
            room_of = await ann.ask("GET", f"/streams/{stream}/room")
            assert {each["name"] for each in room_of["entitled"]} == {"bob", "eve"}
            await ann.ask("POST", f"/streams/{stream}/end")
            assert (await told(socket, "running"))["stream"] is None
        async with sending(room.site, id, ann, bob), seeing(room.site, id, bob, ann) as bobs:
            await wait_until(lambda: len(bobs.frames) > 5)
        await do(ann, id, "/hang_up")


async def test_whom_the_starter_names_may_be_live_too_until_put_out(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk = await room.group(ann, bob, eve)
        path = f"/conversations/{talk}/go_live"
        assert (await bob.ask("PUT", f"{path}/me", None, 409))["code"] == "not_live"
        stream = (await ann.ask("POST", path, {"audience": "everyone", "named": [bob.id]}))["stream"]
        assert (await eve.ask("PUT", f"{path}/me", None, 403))["code"] == "not_named"
        whep = f"{room.site.running.url}/api/v1/streams/{stream}/hosts/{bob.id}/whep"
        assert (await bob.ask("PUT", f"{path}/me"))["stream"] == stream
        got = Viewer()
        async with (
            publish(room.site.http, room.site.url("whip", stream), bob.token, KINDS) as publisher,
            watch(room.site.http, whep, eve.token, KINDS, got.take),
        ):
            await send_frames(publisher, 40)
            await wait_until(lambda: len(got.frames) > 20)
            hosts = (await eve.ask("GET", f"/streams/{stream}"))["card"]["hosts"]
            assert hosts == [{"id": bob.id, "name": "bob"}]
            await ann.ask("DELETE", f"/conversations/{talk}/members/bob", None, 204)
            seen = len(got.frames)
            await send_frames(publisher, 40, 40)
            assert len(got.frames) == seen
        assert (await eve.ask("GET", f"/streams/{stream}"))["card"]["hosts"] == []
        assert (await bob.ask("PUT", f"{path}/me", None, 403))["code"] == "not_in_conversation"
        await eve.ask("DELETE", f"{path}/me", None, 204)


async def test_whom_the_starter_names_is_heard_over_moq_too_until_put_out(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk = await room.group(ann, bob, eve)
        path = f"/conversations/{talk}/go_live"
        stream = (await ann.ask("POST", path, {"named": [bob.id]}))["stream"]
        await bob.ask("PUT", f"{path}/me")
        theirs = f"{stream}/host:{bob.id}"
        target = f"/moq/{stream}?jwt={{}}"
        outsider = await room.site.person("odo")
        async with (
            publish(room.site.http, room.site.url("whip", stream), bob.token, ("audio", "video")) as publisher,
            open_players(room.site.running.quic, [target.format(who.token) for who in (eve, outsider)]) as players,
            trio.open_nursery() as nursery,
        ):
            eves, others = players
            nursery.start_soon(send_picture, publisher)
            await eves.until(lambda: theirs in eves.announced)
            sound, picture = eves.subscribe(theirs, "audio"), eves.subscribe(theirs, "video")
            await eves.until(lambda: len(eves.frames[sound]) > 20 and len(eves.frames[picture]) > 10)
            await ann.ask("DELETE", f"/conversations/{talk}/members/bob", None, 204)
            await eves.until(lambda: {sound, picture} <= set(eves.ended))
            seen = len(eves.frames[sound])
            await trio.sleep(0.3)
            assert (len(eves.frames[sound]), theirs in others.announced) == (seen, False)
            nursery.cancel_scope.cancel()


async def test_whom_the_starter_names_may_publish_over_moq_too_until_put_out(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk = await room.group(ann, bob, eve)
        path = f"/conversations/{talk}/go_live"
        stream = (await ann.ask("POST", path, {"named": [bob.id]}))["stream"]
        await bob.ask("PUT", f"{path}/me")
        quic, site, got = room.site.running.quic, room.site, Viewer()
        whep = f"{site.running.url}/api/v1/streams/{stream}/hosts/{bob.id}/whep"
        target = f"/moq/{stream}?jwt={{}}"
        async with (
            open_streamer(quic, target.format(eve.token), f"{stream}/host:{eve.id}"),
            open_streamer(quic, target.format(eve.token), f"{stream}/host:{bob.id}"),
            open_streamer(quic, target.format(bob.token), f"{stream}/host:{bob.id}"),
        ):
            await until_counted(site, "mesi_incoming_broadcasts 1.0")
            async with watch(site.http, whep, eve.token, KINDS, got.take):
                await wait_until(lambda: len(got.frames) > 20)
                await ann.ask("DELETE", f"/conversations/{talk}/members/bob", None, 204)
                seen = len(got.frames)
                await trio.sleep(0.3)
                assert len(got.frames) == seen
            await until_counted(site, "mesi_incoming_broadcasts 0.0")


async def until_counted(site: Site, line: str) -> None:
    with trio.fail_after(10):
        while line not in (await site.http.get("/metrics")).text:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_a_starter_who_leaves_the_group_ends_its_stream(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = await room.group(ann, bob)
        stream = (await go_live(bob, talk))["stream"]
        await bob.ask("POST", f"/conversations/{talk}/leave", None, 204)
        await card(ann, talk, "ended")
        assert (await ann.ask("GET", f"/streams/{stream}", None, 410))["code"] == "stream_ended"


async def test_after_a_restart_the_card_tells_of_a_stream_that_goes_on_or_has_ended(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        talk = await room.group(room["ann"], room["bob"])
        stream = (await go_live(room["ann"], talk))["stream"]
    async with open_site(tmp_path, small_config(tmp_path)) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        assert (await go_live(bob, talk))["stream"] == stream
        await bob.ask("POST", f"/conversations/{talk}/leave", None, 204)
        assert await may_watch(site, bob, stream) == "not_entitled"
        await ann.ask("POST", f"/streams/{stream}/end")
        await card(ann, talk, "ended")
