"""A whole node, used over the network by people with real media: streams, the cut, one-to-one, and restarts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from server.client import Publisher, SessionFailed, publish, watch
from server.node import NodeFailed, run_node
from tests.media.test_door import DELTA, KEY
from tests.server.nodes import Person, open_site, open_socket, small_config


async def send_frames(publisher: Publisher, count: int, first: int = 0) -> None:
    """Send small frames, 5 ms apart."""
    for number in range(first, first + count):
        payload = (KEY if number % 10 == 0 else DELTA) + number.to_bytes(4)
        publisher.send("video", payload, timestamp=number * 450, marker=True, at_ns=time.monotonic_ns())
        await trio.sleep(0.005)


class Viewer:
    """What one viewer got: frame numbers, by the decrypted payload."""

    def __init__(self) -> None:
        self.frames: list[int] = []

    def take(self, packet: bytes, at_ns: int) -> None:
        self.frames.append(int.from_bytes(packet[14:18]))


async def test_what_is_published_over_whip_is_received_over_whep(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        stream = await site.stream(ann)
        got = Viewer()
        async with (
            publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher,
            watch(site.http, site.url("whep", stream), bob.token, ("video",), got.take),
        ):
            await send_frames(publisher, 30)
            card = (await bob.ask("GET", "/streams"))["streams"][0]
            assert (card["id"], card["state"], card["viewers"]) == (stream, "live", 1)
        assert got.frames == list(range(30))


async def test_a_viewer_of_what_nobody_publishes_may_try_again(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann = await site.person("ann")
        with pytest.RaisesGroup(pytest.RaisesExc(SessionFailed, match="no_publisher"), allow_unwrapped=True):
            async with watch(site.http, site.url("whep", await site.stream(ann)), ann.token):
                pass


async def test_ticket_only_leaves_holders_alone_and_gives_others_not_one_packet_more(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        stream = await site.stream(ann)
        bobs, eves = Viewer(), Viewer()
        async with (
            publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher,
            watch(site.http, site.url("whep", stream), bob.token, ("video",), bobs.take),
            watch(site.http, site.url("whep", stream), eve.token, ("video",), eves.take) as eves_endpoint,
            open_socket(site, eve) as socket,
        ):
            assert (await socket.hear())["type"] == "welcome"
            await socket.ask("join", stream=stream)
            await ann.ask("PUT", f"/streams/{stream}/tickets/bob")
            await send_frames(publisher, 20)
            changed = await switch(ann, stream, "paid")
            assert changed["removed"] == ["eve"]
            before = len(eves.frames)
            await send_frames(publisher, 20, 20)
            revoked = await socket.wait_for("access.revoked")
            assert (revoked["reason"], revoked["readmit"]) == ("ticket_required", ["ticket"])
            await wait_until(lambda: len(bobs.frames) >= 40)
            assert len(eves.frames) == before <= 20
            assert bobs.frames == list(range(40))
            await wait_until(lambda: eves_endpoint.ended is not None)
            with pytest.RaisesGroup(pytest.RaisesExc(SessionFailed, match="ticket_required"), allow_unwrapped=True):
                async with watch(site.http, site.url("whep", stream), eve.token):
                    pass


async def switch(owner: Person, stream: str, mode: str) -> dict[str, Any]:
    prepared = await owner.ask("POST", f"/streams/{stream}/mode/prepare", {"mode": mode})
    body = {"confirm_token": prepared["confirm_token"], "allow_empty": True}
    changed = await owner.ask("POST", f"/streams/{stream}/mode/confirm", body)
    assert changed == await owner.ask("POST", f"/streams/{stream}/mode/confirm", body) | {
        "fenced_ns": changed["fenced_ns"]
    }
    return dict(changed)


async def wait_until(condition: Any) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_one_to_one_from_the_request_to_the_return(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        stream = await site.stream(ann)
        async with (
            publish(site.http, site.url("whip", stream), ann.token, ("video",)) as streamer,
            open_socket(site, ann) as anns,
            open_socket(site, bob) as bobs,
            open_socket(site, eve) as eves,
        ):
            await send_frames(streamer, 5)
            for socket in (anns, bobs, eves):
                assert (await socket.ask("join", stream=stream))["type"] == "ok"
            await bobs.ask("request_one_to_one", stream=stream, seconds=300)
            asked = await anns.wait_for("one_to_one.requested")
            assert (asked["name"], asked["seconds"]) == ("bob", 300)
            refused = await anns.ask("accept_one_to_one", stream=stream, account=bob.id, seconds=299)
            assert refused["code"] == "duration_out_of_range"
            accepted = await anns.ask("accept_one_to_one", stream=stream, account=bob.id, seconds=300)
            assert accepted["type"] == "ok", accepted
            assert (await eve.ask("GET", f"/streams/{stream}"))["card"]["state"] == "live", "the stream goes on"
            assert (await bobs.ask("confirm_one_to_one", stream=stream))["type"] == "ok"
            assert (await bobs.wait_for("one_to_one.accepted"))["publish"]
            assert (await eves.wait_for("one_to_one.notice"))["ends_at"] is None
            got = Viewer()
            async with publish(site.http, site.url("whip", stream), bob.token, ("video",)) as guest:
                await send_frames(guest, 10)
                started = await anns.wait_for("one_to_one.started")
                assert abs(started["ends_at"] - started["server_now"] - 300_000) < 2000
                assert abs((await eves.wait_for("one_to_one.notice"))["ends_at"] - started["ends_at"]) <= 5
                async with watch(site.http, site.url("whep", stream), ann.token, ("video",), got.take):
                    await send_frames(guest, 10, 20)
                    await wait_until(lambda: len(got.frames) >= 10)
                card = (await eve.ask("GET", f"/streams/{stream}"))["card"]
                assert card["state"] == "one_to_one"
                assert abs(card["one_to_one_ends_at"] - started["ends_at"]) <= 5  # read twice off two clocks
                await bobs.ask("chat", stream=stream, text="between us", client_txn="1")
                assert (await anns.wait_for("chat.message"))["circle"] == "one_to_one"
                await bobs.ask("end_one_to_one", stream=stream)
                assert (await anns.wait_for("one_to_one.ended"))["reason"] == "ended_by_guest"
                await wait_until(lambda: guest.endpoint.ended is not None)
            seen = [event["type"] for event in eves.events]
            assert "chat.message" not in seen


async def test_a_restart_keeps_streams_and_tickets_and_opens_no_door(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann = await site.person("ann")
        await site.person("bob")
        stream = await site.stream(ann)
        await ann.ask("PUT", f"/streams/{stream}/tickets/bob")
        await switch(ann, stream, "paid")
        await ann.ask("POST", f"/streams/{stream}/chat", {"text": "hello", "client_txn": "1"})
        await ann.ask("PUT", f"/streams/{stream}/time_limit", {"seconds": 3600})
        before = (await ann.ask("GET", f"/streams/{stream}"))["card"]
    async with open_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        view = await bob.ask("GET", f"/streams/{stream}")
        assert (view["card"]["mode"], view["you"]["admitted"]) == ("paid", True)
        assert view["card"]["epoch"] > before["epoch"]
        assert abs(view["card"]["ends_at"] - before["ends_at"]) < 1500
        assert not (await eve.ask("GET", f"/streams/{stream}"))["you"]["admitted"]
        async with open_socket(site, bob) as socket:
            await socket.ask("join", stream=stream)
            state = await socket.wait_for("stream.state")
            assert [message["text"] for message in state["chat"]] == ["hello"]


async def test_two_servers_cannot_share_a_data_directory(tmp_path: Path) -> None:
    async with open_site(tmp_path):
        with pytest.raises(NodeFailed, match="another server uses"):
            await run_node(small_config(tmp_path))


async def test_a_lost_connection_resumes_and_misses_nothing(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        stream = await site.stream(ann)
        async with open_socket(site, bob) as first:
            welcome = await first.hear()
            await first.ask("join", stream=stream)
            await first.wait_for("stream.state")
            await ann.ask("POST", f"/streams/{stream}/chat", {"text": "one", "client_txn": "1"})
            last = (await first.wait_for("chat.message"))["event"]
        await ann.ask("POST", f"/streams/{stream}/chat", {"text": "two", "client_txn": "2"})
        async with open_socket(site, bob, {"session": welcome["session"], "after": last}) as again:
            resumed = await again.hear()
            assert (resumed["type"], resumed["resumed"], resumed["event"]) == ("welcome", True, last)
            assert (await again.hear())["text"] == "two"
            assert (await again.hear())["type"] == "stream.state"
        async with open_socket(site, ann, {"session": welcome["session"], "after": last}) as foreign:
            assert not (await foreign.hear())["resumed"]
