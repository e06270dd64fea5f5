"""Calls on a whole node: they ring all devices, carry real media, end when they must, and leave an entry each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from media.webrtc.ice import IceCredentials
from media.webrtc.sdpfrag import parse_sdpfrag_untrusted
from server.client import Endpoint, SessionFailed, publish, watch
from tests.server.nodes import Person, Site, Socket, open_site, open_socket, small_config
from tests.server.test_node import Viewer, send_frames
from tests.talk.test_conversations_node import Room, alike, talking, write

FRAGMENT = "application/trickle-ice-sdpfrag"
KINDS: tuple[Any, ...] = ("video",)


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  (nobody tells of a packet)
            await trio.sleep(0.01)


async def direct(room: Room, one: str = "ann", other: str = "bob") -> str:
    return str((await room[one].ask("PUT", f"/conversations/direct/{other}"))["id"])


async def call(who: Person, talk: str, txn: str = "t", status: int = 201, **more: Any) -> Any:
    body = {"device": f"{who.name}-1", "client_txn": txn, **more}
    return await who.ask("POST", f"/conversations/{talk}/calls", body, status)


async def do(who: Person, id: str, what: str, status: int = 200, method: str = "POST", body: object = None) -> Any:
    return await who.ask(method, f"/calls/{id}{what}", body, status)


async def answer(who: Person, id: str, status: int = 200, device: str = "") -> Any:
    return await do(who, id, "/answer", status, body={"device": device or f"{who.name}-1"})


async def told(socket: Socket, state: str) -> dict[str, Any]:
    """Return the first word of a call that it is in that state."""
    while True:
        found = (await socket.wait_for("call"))["call"]
        if found["state"] == state:
            return dict(found)


async def entry(who: Person, talk: str) -> dict[str, Any]:
    """Return the last entry of a call in a conversation."""
    page = await who.ask("GET", f"/conversations/{talk}/messages")
    return dict([each["card"] for each in page["messages"] if each["kind"] == "call"][-1])


async def entry_is(who: Person, talk: str, **expected: Any) -> None:
    """Wait for the entry to say so: it is written after the call is told of."""
    found: dict[str, Any] = {}
    with trio.move_on_after(5):
        while not found or {key: found[key] for key in expected} != expected:
            found = await entry(who, talk)
            await trio.sleep(0.02)
    assert {key: found[key] for key in expected} == expected


def address(site: Site, id: str, path: str) -> str:
    return f"{site.running.url}/api/v1/calls/{id}/{path}"


@asynccontextmanager
async def sending(site: Site, id: str, *people: Person) -> AsyncIterator[None]:
    """Have people send frames into a call."""
    async with AsyncExitStack() as stack:
        opened = [publish(site.http, address(site, id, "whip"), who.token, KINDS) for who in people]
        publishers = [await stack.enter_async_context(each) for each in opened]
        async with trio.open_nursery() as nursery:
            for publisher in publishers:
                nursery.start_soon(send_frames, publisher, 4000)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def seeing(site: Site, id: str, who: Person, whom: Person) -> AsyncIterator[Viewer]:
    got = Viewer()
    async with watch(site.http, address(site, id, f"whep/{whom.id}"), who.token, KINDS, got.take):
        yield got


async def refused(site: Site, id: str, path: str, who: Person) -> str:
    opened = publish(site.http, address(site, id, path), who.token, KINDS)
    if path != "whip":
        opened = watch(site.http, address(site, id, path), who.token, KINDS)  # type: ignore[assignment]
    with pytest.RaisesGroup(SessionFailed, allow_unwrapped=True) as failed:
        async with opened:
            pass
    fault = failed.value
    while isinstance(fault, BaseExceptionGroup):
        (fault,) = fault.exceptions
    assert isinstance(fault, SessionFailed)
    return str(fault.code)


async def test_a_call_rings_all_devices_is_answered_on_one_and_leaves_an_entry(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk = await direct(room)
        async with open_socket(room.site, bob) as first, open_socket(room.site, bob) as second:
            id = (await call(ann, talk, video=True))["id"]
            for socket in (first, second):
                ringing = await told(socket, "ringing")
                assert (ringing["id"], ringing["caller"]["name"], ringing["video"]) == (id, "ann", True)
            assert (await call(ann, talk, video=True))["id"] == id
            assert [each["id"] for each in (await bob.ask("GET", "/me/calls"))["calls"]] == [id]
            assert await refused(room.site, id, "whip", bob) == "not_in_call"
            await answer(bob, id)
            running = await told(second, "running")
            assert [each["device"] for each in running["parties"]] == ["ann-1", "bob-1"]
            assert (await answer(bob, id, 409, "bob-2"))["code"] == "answered_elsewhere"
            assert (await do(eve, id, "/hang_up", 404))["code"] == "call_unknown"
            assert await refused(room.site, id, "whip", eve) == "call_unknown"
            async with (
                sending(room.site, id, ann, bob),
                seeing(room.site, id, ann, bob) as anns,
                seeing(room.site, id, bob, ann) as bobs,
            ):
                await wait_until(lambda: len(anns.frames) > 20 and len(bobs.frames) > 20)
                assert await refused(room.site, id, f"whep/{ann.id}", ann) == "no_publisher"
                await do(ann, id, "/hang_up")
                ended = await told(first, "ended")
                seen = len(bobs.frames)
                await trio.sleep(0.1)
                assert len(bobs.frames) == seen
            assert ended["reason"] == "ended"
            await entry_is(bob, talk, call=id, state="ended", reason="ended", video=True)
            assert (await do(bob, id, "", 404, "GET"))["code"] == "call_unknown"
            again = await call(ann, talk)
            assert (again["id"], again["state"]) == (id, "ended")
            types = [each["type"] for each in (await bob.ask("GET", "/events?after=0"))["events"]]
            assert [each for each in types if each.startswith("call.")] == [
                *("call.started", "call.answered", "call.ended")
            ]


async def test_who_has_muted_a_conversation_is_not_rung_and_may_come_in_all_the_same(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = await direct(room)
        await bob.ask("PUT", f"/conversations/{talk}/mine", {"muted_until": -1})
        async with open_socket(room.site, bob) as bobs:
            await bobs.wait_for("welcome")
            id = (await call(ann, talk))["id"]
            assert [each["stage"] for each in (await do(ann, id, "", 200, "GET"))["parties"]] == ["joining", "rung"]
            assert (await bob.ask("GET", "/me/calls"))["calls"] == []
            assert (await do(bob, id, "/decline", 404))["code"] == "call_unknown"
            assert (await entry(bob, talk))["state"] == "ringing", "the conversation shows that there is one"
            await answer(bob, id)
            assert (await bobs.wait_for("call"))["call"]["state"] == "running", "the first word of it"
            await do(bob, id, "/hang_up")
        await bob.ask("PUT", f"/conversations/{talk}/mine", {"muted_until": 0})
        id = (await call(ann, talk, "t2"))["id"]
        assert [each["id"] for each in (await bob.ask("GET", "/me/calls"))["calls"]] == [id]


async def test_who_changes_the_network_in_a_call_goes_on_after_an_ice_restart(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        id = (await call(ann, await direct(room), video=True))["id"]
        await answer(bob, id)
        elsewhere = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        with elsewhere:
            async with (
                publish(room.site.http, address(room.site, id, "whip"), ann.token, KINDS) as publisher,
                seeing(room.site, id, bob, ann) as bobs,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(send_frames, publisher, 4000)
                await wait_until(lambda: len(bobs.frames) > 20)
                endpoint = publisher.endpoint
                await elsewhere.connect(endpoint.server)
                endpoint.socket = elsewhere
                await trio.sleep(0.1)
                seen = len(bobs.frames)
                await trio.sleep(0.2)
                assert len(bobs.frames) == seen, "what comes from where nobody was checked is not taken"
                await restart(room.site, endpoint, ann)
                await wait_until(lambda: len(bobs.frames) > seen + 20)
                assert (await do(ann, id, "", 200, "GET"))["state"] == "running"
                nursery.cancel_scope.cancel()


async def restart(site: Site, endpoint: Endpoint, who: Person) -> None:
    """Exchange new ICE credentials for a session."""
    local = IceCredentials.random()
    fragment = f"a=ice-ufrag:{local.ufrag}\r\na=ice-pwd:{local.password}\r\n"
    headers = {"Authorization": f"Bearer {who.token}", "Content-Type": FRAGMENT, "If-Match": "*"}
    answered = await site.http.patch(endpoint.session_url, content=fragment, headers=headers)
    assert answered.status_code == 200, answered.text
    remote = parse_sdpfrag_untrusted(answered.text).ice
    assert remote is not None
    endpoint.restart_ice(local, remote)


async def test_both_call_at_once_and_are_in_one_call(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = await direct(room)
        calls: dict[str, Any] = {}

        async def begin(who: Person) -> None:
            calls[who.name] = await call(who, talk, f"of {who.name}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin, ann)
            nursery.start_soon(begin, bob)
        assert calls["ann"]["id"] == calls["bob"]["id"]
        assert {each["stage"] for each in (await do(ann, calls["ann"]["id"], "", 200, "GET"))["parties"]} == {"joining"}
        page = await ann.ask("GET", f"/conversations/{talk}/messages")
        assert [each["kind"] for each in page["messages"]] == ["call"]


async def test_who_is_in_a_call_or_on_air_is_busy_and_calls_nobody_else(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk, other = await direct(room), await direct(room, "eve", "bob")
        id = (await call(ann, talk))["id"]
        await answer(bob, id)
        busy = await call(eve, other)
        assert (busy["state"], busy["reason"]) == ("ended", "busy")
        await entry_is(bob, other, state="ended", reason="busy")
        assert (await call(bob, other, "t2", 409))["code"] == "already_in_call"
        await do(bob, id, "/hang_up")
        stream = await room.site.stream(bob)
        async with publish(room.site.http, room.site.url("whip", stream), bob.token, KINDS) as publisher:
            await send_frames(publisher, 20)
            assert (await call(eve, other, "t3"))["reason"] == "busy"


async def test_calls_are_declined_taken_back_and_not_repeated_for_ever(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = await direct(room)
        await do(bob, (await call(ann, talk, "t1"))["id"], "/decline")
        await entry_is(ann, talk, reason="declined")
        await do(ann, (await call(ann, talk, "t2"))["id"], "/hang_up")
        await entry_is(bob, talk, reason="cancelled")
        for number in range(2):
            await do(ann, (await call(ann, talk, f"again {number}"))["id"], "/hang_up")
        spam = await call(ann, talk, "t9", 429)
        assert spam["code"] == "too_fast"
        assert spam["retry_after_ms"] > 1000
        assert (await call(bob, talk, "his own"))["state"] == "ringing"
        metrics = (await room.site.http.get("/metrics")).text
        assert 'mesi_calls_over_total{outcome="cancelled"} 3.0' in metrics
        assert "mesi_calls_unrung_total 1.0" in metrics
        message = (await ann.ask("GET", f"/conversations/{talk}/messages"))["messages"][0]
        refusal = await ann.ask("DELETE", f"/conversations/{talk}/messages/{message['seq']}", None, 409)
        assert refusal["code"] == "message_fixed"


async def test_pictures_come_when_both_want_them_and_not_before(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        id = (await call(ann, await direct(room)))["id"]
        await answer(bob, id)
        assert await refused(room.site, id, "whip", ann) == "unsupported_offer"
        async with open_socket(room.site, bob) as socket:
            await do(ann, id, "/video")
            assert (await told(socket, "running"))["asked"] == ann.id
            await do(bob, id, "/video", 200, "PUT", {"agreed": False})
            assert (await do(bob, id, "/video", 404, "PUT", {"agreed": True}))["code"] == "request_unknown"
            await do(ann, id, "/video")
            assert (await do(bob, id, "/video", 200, "PUT", {"agreed": True}))["video"] is True
        async with sending(room.site, id, ann), seeing(room.site, id, bob, ann) as bobs:
            await wait_until(lambda: len(bobs.frames) > 10)


async def test_a_block_in_the_middle_ends_it_at_once_and_says_no_more_than_hanging_up(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        id = (await call(ann, await direct(room), video=True))["id"]
        await answer(bob, id)
        async with (
            open_socket(room.site, bob) as socket,
            sending(room.site, id, ann),
            seeing(room.site, id, bob, ann) as bobs,
        ):
            await wait_until(lambda: len(bobs.frames) > 10)
            await ann.ask("PUT", "/blocks/bob")
            seen = len(bobs.frames)
            assert (await told(socket, "ended"))["reason"] == "ended"
            await trio.sleep(0.1)
            assert len(bobs.frames) == seen


async def test_who_is_blocked_rings_for_nobody_and_is_answered_as_by_somebody_who_is_away(tmp_path: Path) -> None:
    """Bob calls Ann, who has blocked him and is in another call, and Joe, who has not and is away."""
    async with talking(tmp_path, "ann", "bob", "joe", "eve") as room:
        ann, bob = room["ann"], room["bob"]
        hers = (await call(ann, await direct(room, "ann", "eve")))["id"]
        await answer(room["eve"], hers)
        talks = {name: await direct(room, "bob", name) for name in ("ann", "joe")}
        for talk in talks.values():
            await write(bob, talk, "hello", "t0")
        await ann.ask("PUT", "/blocks/bob")
        said: dict[str, list[str]] = {}
        async with open_socket(room.site, ann) as socket:
            for name, talk in talks.items():
                begun = await call(bob, talk)
                answers = [
                    str(begun),
                    str(await bob.ask("GET", "/me/calls")),
                    str(await do(bob, begun["id"], "/hang_up")),
                ]
                await entry_is(bob, talk, reason="cancelled")
                answers.append(str(await bob.ask("GET", f"/conversations/{talk}/messages")))
                events = (await bob.ask("GET", f"/events?after=0&limit=200&subject={talk}"))["events"]
                answers.append(str([{**each, "id": 0} for each in events]))
                said[name] = [alike(each, talk, room[name]).replace(begun["id"], "CALL") for each in answers]
                if name == "ann":
                    assert (await answer(ann, begun["id"], 404))["code"] == "call_unknown"
            assert said["ann"] == said["joe"]
            await socket.ask("ping")
            assert not [each for each in socket.events if each["type"] == "call"]
        await do(ann, hers, "/hang_up")
        assert (await call(ann, talks["ann"], "t", 409))["code"] == "you_blocked_them"
        kinds = [each["kind"] for each in (await ann.ask("GET", f"/conversations/{talks['ann']}/messages"))["messages"]]
        assert kinds == ["text"]


async def test_a_group_calls_and_each_sees_the_others_until_one_is_put_out(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve", "joe") as room:
        ann, bob, eve, joe = (room[name] for name in ("ann", "bob", "eve", "joe"))
        talk = await room.group(ann, bob, eve)
        id = (await call(bob, talk, video=True))["id"]
        await answer(ann, id)
        assert (await call(eve, talk, "mine too"))["id"] == id
        assert (await call(joe, talk, "t", 404))["code"] == "conversation_unknown"
        async with sending(room.site, id, ann, bob, eve), AsyncExitStack() as stack:
            pairs = [(one, other) for one in (ann, bob, eve) for other in (ann, bob, eve) if one is not other]
            got = [await stack.enter_async_context(seeing(room.site, id, *pair)) for pair in pairs]
            await wait_until(lambda: all(len(each.frames) > 5 for each in got))
            async with open_socket(room.site, eve) as socket:
                await ann.ask("DELETE", f"/conversations/{talk}/members/eve", None, 204)
                counts = [len(each.frames) for each in got]
                parties = (await told(socket, "running"))["parties"]
                assert {each["account"]["name"] for each in parties if each["why"] == "removed"} == {"eve"}
                staying = [each for pair, each in zip(pairs, got, strict=True) if eve not in pair]
                seen = [len(each.frames) for each in staying]
                await wait_until(lambda: all(len(each.frames) > n + 5 for n, each in zip(seen, staying, strict=True)))
                for pair, before, each in zip(pairs, counts, got, strict=True):
                    assert eve not in pair or len(each.frames) == before, [who.name for who in pair]
        assert (await answer(eve, id, 403))["code"] == "not_in_conversation"
        assert (await do(eve, id, "", 404, "GET"))["code"] == "call_unknown"
        await ann.ask("PUT", f"/conversations/{talk}/members/joe", None, 204)
        await joe.ask("POST", f"/conversations/{talk}/join")
        assert len((await answer(joe, id))["parties"]) == 4


async def test_who_blocked_each_other_do_not_see_each_other_in_a_group(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        talk = await room.group(ann, bob, eve)
        await bob.ask("PUT", "/blocks/eve")
        id = (await call(bob, talk, video=True))["id"]
        assert [each["account"]["name"] for each in (await do(bob, id, "", 200, "GET"))["parties"]] == ["bob", "ann"]
        await answer(ann, id)
        assert (await call(eve, talk, "t"))["id"] == id
        async with sending(room.site, id, ann, bob, eve):
            await trio.sleep(0.1)
            assert await refused(room.site, id, f"whep/{bob.id}", eve) == "no_publisher"
            assert await refused(room.site, id, f"whep/{eve.id}", bob) == "no_publisher"
            async with seeing(room.site, id, eve, ann) as eves:
                await wait_until(lambda: len(eves.frames) > 5)


async def test_a_suspended_account_is_out_of_its_call(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        id = (await call(ann, await direct(room)))["id"]
        await answer(bob, id)
        admin = {"Authorization": f"Bearer {await room.site.running.auth.admin_token()}"}
        body = {"suspended": True}
        await room.site.http.put("/api/v1/admin/accounts/ann", json=body, headers=admin)
        assert (await do(bob, id, "", 404, "GET"))["code"] == "call_unknown"


async def test_a_restart_ends_calls_and_their_entries_say_so(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = await direct(room)
        id = (await call(ann, talk))["id"]
        await answer(bob, id)
        await entry_is(ann, talk, state="running")
    async with open_site(tmp_path, small_config(tmp_path)) as site:
        ann = await site.person("ann")
        await entry_is(ann, talk, call=id, state="ended", reason="interrupted")
        assert (await ann.ask("GET", "/me/calls"))["calls"] == []
        assert (await call(ann, talk, "anew"))["state"] == "ringing"


@pytest.mark.parametrize("body", [{}, {"device": ""}, {"device": "x", "client_txn": "t", "video": "yes"}], ids=str)
async def test_what_is_no_call_is_refused(tmp_path: Path, body: object) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        talk = await direct(room)
        refusal = await room["ann"].ask("POST", f"/conversations/{talk}/calls", body, 422)
        assert refusal["code"] == "invalid_request"
