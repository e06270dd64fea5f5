"""Signalling over the data channel of a WHEP session, at a whole node: the same words as over the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from media.channel import WAITING
from media.webrtc.data_channel import BURST, MAX_CHANNELS, ChannelClosed, ChannelEvent, ChannelMessage
from media.webrtc.ice import IceCredentials
from server.client import Endpoint, open_session, publish, watch
from server.offers import build_offer, choose_sources, with_data
from tests.server.nodes import Person, Site, open_site, open_socket
from tests.server.test_node import send_frames, switch


class Talk:
    """What a client hears and says on data channels."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.heard: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self.stirred = trio.Event()
        endpoint.on_channel = self.take

    def take(self, event: ChannelEvent) -> None:
        if isinstance(event, ChannelMessage):
            self.heard.append(msgspec.json.decode(event.data))
        elif isinstance(event, ChannelClosed):
            self.closed.append(event.stream)
        self.stirred.set()

    def ask(self, type: str, id: int = 1, **values: Any) -> None:
        self.endpoint.say(msgspec.json.encode({"type": type, "id": id, **values}))

    async def until(self, condition: Any) -> None:
        with trio.fail_after(10):
            while not condition():
                self.stirred = trio.Event()
                with trio.move_on_after(0.05):  # some conditions are the server's
                    await self.stirred.wait()

    async def wait_for(self, type: str) -> dict[str, Any]:
        """Return the first of a type; what came before it is forgotten."""
        await self.until(lambda: any(message["type"] == type for message in self.heard))
        while (message := self.heard.pop(0))["type"] != type:
            pass
        return message


@asynccontextmanager
async def talking(site: Site, stream: str, person: Person, label: str = "mesi.events") -> AsyncIterator[Talk]:
    async with watch(site.http, site.url("whep", stream), person.token, ("video",), offers_data=True) as endpoint:
        talk = Talk(endpoint)
        endpoint.open_channel(label)
        yield talk


@asynccontextmanager
async def live(folder: Path) -> AsyncIterator[tuple[Site, Person, Person, str]]:
    """A node on which ann streams, and bob is somebody."""
    async with open_site(folder) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        stream = await site.stream(ann)
        async with publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher:
            await send_frames(publisher, 3)
            yield site, ann, bob, stream


async def counter(site: Site, name: str) -> int:
    lines = (await site.http.get("/metrics")).text.splitlines()
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith(f"mesi_{name}")))


async def test_a_viewer_hears_what_a_socket_hears_and_may_say_the_same(tmp_path: Path) -> None:
    async with live(tmp_path) as (site, ann, bob, stream), open_socket(site, ann) as socket:
        await socket.ask("join", stream=stream)
        async with talking(site, stream, bob) as talk:
            assert (await talk.wait_for("welcome"))["account"]["name"] == "bob"
            state = await talk.wait_for("stream.state")
            assert (state["stream"], state["event"]) == (stream, 1)
            await socket.ask("chat", stream=stream, text="welcome", client_txn="1")
            assert (await talk.wait_for("chat.message"))["text"] == "welcome"
            talk.ask("chat", stream=stream, text="thank you", client_txn="2")
            assert (await talk.wait_for("chat.message"))["from"]["name"] == "bob"
            assert (await talk.wait_for("ok"))["id"] == 1
            assert (await socket.wait_for("chat.message"))["text"] == "welcome"
            assert (await socket.wait_for("chat.message"))["text"] == "thank you"
            talk.ask("media.prefer", id=2, quality="low", max_height=180)
            assert (await talk.wait_for("ok"))["id"] == 2
            talk.ask("nonsense", id=3)
            refused = await talk.wait_for("error")
            assert (refused["id"], refused["code"]) == (3, "malformed_message")
            await socket.ask("set_time_limit", stream=stream, seconds=1200)
            assert (await talk.wait_for("stream.time_limit"))["ends_at"]


async def test_a_streamer_needs_no_socket_either(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann = await site.person("ann")
        stream, ice = await site.stream(ann), IceCredentials.random()
        ssrcs, rtx_ssrc = choose_sources(ice, ("video",))
        offer = with_data(build_offer(ice, "sendonly", ("video",), ssrcs, rtx_ssrc), ice)
        async with open_session(site.http, site.url("whip", stream), ann.token, ice, offer) as endpoint:
            talk = Talk(endpoint)
            endpoint.open_channel("mesi.events")
            assert (await talk.wait_for("stream.state"))["card"]["streamer"]["name"] == "ann"
            talk.ask("set_time_limit", stream=stream, seconds=1200)
            assert (await talk.wait_for("stream.time_limit"))["ends_at"]
            talk.ask("media.prefer", id=2)
            assert (await talk.wait_for("ok"))["id"] == 1


async def test_who_is_cut_hears_that_and_nothing_after(tmp_path: Path) -> None:
    async with live(tmp_path) as (site, ann, bob, stream), open_socket(site, ann) as socket:
        await socket.ask("join", stream=stream)
        async with talking(site, stream, bob) as talk:
            await talk.wait_for("stream.state")
            await switch(ann, stream, "paid")
            revoked = await talk.wait_for("access.revoked")
            assert revoked["reason"] == "ticket_required"
            await talk.until(lambda: talk.endpoint.ended)
            await socket.ask("chat", stream=stream, text="among us", client_txn="1")
            await socket.wait_for("chat.message")
            assert not [message for message in talk.heard if message["type"] == "chat.message"]
        assert talk.endpoint.ended == "closed_by_peer"


async def test_channels_of_another_label_and_too_many_are_closed_and_media_go_on(tmp_path: Path) -> None:
    async with live(tmp_path) as (site, _, bob, stream):
        async with talking(site, stream, bob, "chat") as talk:
            await talk.until(lambda: talk.closed == [0])
            for number in range(1, MAX_CHANNELS + 2):
                talk.endpoint.open_channel("mesi.events", 2 * number)
            await talk.until(lambda: len(talk.closed) == 2)
            assert talk.closed == [0, 2 * MAX_CHANNELS + 2]
            assert (talk.endpoint.ended, await counter(site, "data_channels ")) == (None, MAX_CHANNELS)
            refused = 'data_channel_events_total{event="refused_'
            assert await counter(site, f'{refused}label"}}') == 1
            assert await counter(site, f'{refused}limit"}}') == 1
        await talk.until(lambda: site.running.rooms.counters()["media_sessions"] == 1)
        assert await counter(site, "data_channels ") == 0
        assert await counter(site, f'{refused}label"}}') == 1


async def test_who_says_too_much_at_once_loses_the_channel(tmp_path: Path) -> None:
    async with live(tmp_path) as (site, _, bob, stream), talking(site, stream, bob) as talk:
        await talk.wait_for("stream.state")
        for number in range(max(BURST, WAITING) + 10):
            talk.ask("ping", id=number)
        await talk.until(lambda: talk.closed == [0])
        assert await counter(site, 'data_channel_events_total{event="closed_too_fast"}') == 1
        assert talk.endpoint.ended is None


async def test_a_channel_ends_with_the_token_that_opened_its_session(tmp_path: Path) -> None:
    async with live(tmp_path) as (site, _, bob, stream):
        account = await site.running.auth.add_account("cyd")
        cyd = Person("cyd", account.id, site.running.auth.issue(account, 2, "user"), bob.http)
        async with talking(site, stream, cyd) as talk:
            await talk.wait_for("stream.state")
            await talk.until(lambda: talk.closed == [0])
            assert talk.endpoint.ended is None


async def test_a_suspended_account_loses_the_channel(tmp_path: Path) -> None:
    async with live(tmp_path) as (site, _, bob, stream), talking(site, stream, bob) as talk:
        await talk.wait_for("stream.state")
        site.running.rooms.close_sessions_of(bob.id, "no_session")
        await talk.until(lambda: talk.closed == [0])
