"""A node's log over HTTP and over the signalling socket: the same events with the same ids, each to whom it is for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from server.database.store import Store
from server.events import eventlog
from server.events.eventlog import Happened
from tests.events.waiting import until
from tests.server.nodes import Person, Site, Socket, open_site, open_socket


@asynccontextmanager
async def a_stream_with_a_past(tmp_path: Path) -> AsyncIterator[tuple[Site, Person, Person, str]]:
    """Ann streams, Bob was put out and let in again, and the stream is over."""
    async with open_site(tmp_path / "node") as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        stream = await site.stream(ann)
        async with open_socket(site, bob) as socket:
            await socket.ask("join", stream=stream)
            await socket.wait_for("stream.state")
            await ann.ask("PUT", f"/streams/{stream}/ejected/bob")
            await ann.ask("DELETE", f"/streams/{stream}/ejected/bob")
            await socket.wait_for("access.granted")
        await ann.ask("POST", f"/streams/{stream}/end")
        await until(lambda: has_ended(ann, stream))
        yield site, ann, bob, stream


async def read(person: Person, **which: Any) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in which.items())
    return list((await person.ask("GET", f"/events?{query}"))["events"])


async def has_ended(owner: Person, stream: str) -> bool:
    return "stream.ended" in [event["type"] for event in await read(owner, subject=stream)]


async def follow(site: Site, count: int) -> bool:
    return f"mesi_feed_followers {count}.0" in (await site.http.get("/metrics")).text


async def hear(socket: Socket, count: int) -> list[dict[str, Any]]:
    return [(await socket.wait_for("events.entry"))["entry"] for _ in range(count)]


async def test_a_stream_s_life_is_told_to_its_streamer_and_to_whom_it_concerned(tmp_path: Path) -> None:
    async with a_stream_with_a_past(tmp_path) as (site, ann, bob, stream):
        told = await read(ann)
        assert [event["type"] for event in told if event["data"].get("account") in (None, bob.id)] == [
            "access.revoked",
            "access.granted",
            "stream.ended",
        ]
        assert {event["subject"] for event in told} == {stream}
        his = await read(bob)
        assert [event["type"] for event in his] == ["access.revoked", "access.granted"]
        assert his[0]["data"] == {
            "account": bob.id,
            "reason": "ejected",
            "readmit": [],
            "epoch": his[0]["data"]["epoch"],
        }
        carol = await site.person("carol")
        assert await read(carol, subject=stream) == []
        refused = await carol.ask("GET", f"/events?after={2**40}", status=422)
        assert refused["code"] == "invalid_cursor"


async def test_the_socket_sends_what_the_api_shows_and_goes_on_after_an_id(tmp_path: Path) -> None:
    async with a_stream_with_a_past(tmp_path) as (site, ann, _, _stream):
        known = await read(ann)
        async with open_socket(site, ann) as socket:
            assert (await socket.ask("events.follow", after=0))["result"] == {"after": 0}
            heard = await hear(socket, len(known))
            assert heard == known
            second = await site.stream(ann)
            await ann.ask("POST", f"/streams/{second}/end")
            (ended,) = await hear(socket, 1)
            assert (ended["type"], ended["subject"]) == ("stream.ended", second)
        async with open_socket(site, ann) as socket:
            await socket.ask("events.follow", after=known[-1]["id"])
            assert await hear(socket, 1) == [ended]
            assert (await socket.ask("events.follow", after=2**40))["code"] == "invalid_cursor"


async def test_a_follower_without_a_past_hears_only_what_comes_and_nothing_once_he_asked_so(tmp_path: Path) -> None:
    async with a_stream_with_a_past(tmp_path) as (site, ann, _, _stream):
        async with open_socket(site, ann) as socket:
            start = (await socket.ask("events.follow"))["result"]["after"]
            assert start == (await read(ann))[-1]["id"]
            second = await site.stream(ann)
            await ann.ask("POST", f"/streams/{second}/end")
            assert (await hear(socket, 1))[0]["subject"] == second
            await socket.ask("events.unfollow")
            third = await site.stream(ann)
            await ann.ask("POST", f"/streams/{third}/end")
            await until(lambda: has_ended(ann, third))
            await trio.sleep(0.3)
            await socket.ask("ping")
            assert [event for event in socket.events if event["type"] == "events.entry"] == []
        await until(lambda: follow(site, 0))


async def test_a_follower_s_lost_connection_ends_what_is_sent_to_him(tmp_path: Path) -> None:
    async with a_stream_with_a_past(tmp_path) as (site, ann, _, _stream):
        async with open_socket(site, ann) as socket:
            await socket.ask("events.follow")
            await until(lambda: follow(site, 1))
        await until(lambda: follow(site, 0))


async def test_a_follower_who_comes_too_late_is_told_of_the_gap(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    async with open_site(folder) as site:
        ann = await site.person("ann")
    async with trio.open_nursery() as nursery:
        store = Store(folder / "mesi.sqlite")
        await nursery.start(store.run)
        now_ms = time.time_ns() // 1_000_000
        ids = [
            await store.write(eventlog.append, Happened(ann.id, "payment.settled", now_ms + number, {"number": number}))
            for number in range(5)
        ]
        await store.write(eventlog.drop, now_ms + 3, ids[-1], 10)
        nursery.cancel_scope.cancel()
    async with open_site(folder) as site:
        ann = await site.person("ann")
        async with open_socket(site, ann) as socket:
            await socket.ask("events.follow", after=ids[0])
            gap = await socket.wait_for("events.gap")
            assert (gap["after"], gap["dropped_to"]) == (ids[0], ids[2])
            assert [entry["id"] for entry in await hear(socket, 2)] == ids[3:]
        assert (await ann.ask("GET", f"/events?after={ids[0]}"))["gap"] == ids[2]


async def test_a_long_backlog_reaches_a_reader_whole_without_closing_his_connection(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    async with open_site(folder) as site:
        ann = await site.person("ann")
    count, now_ms = 2000, time.time_ns() // 1_000_000

    def write_many(connection: Any) -> None:
        for number in range(count):
            eventlog.append(
                connection, Happened(ann.id, "payment.settled", now_ms + number, {"number": number, "pad": "x" * 500})
            )

    async with trio.open_nursery() as nursery:
        store = Store(folder / "mesi.sqlite")
        await nursery.start(store.run)
        await store.write(write_many)
        nursery.cancel_scope.cancel()
    async with open_site(folder) as site:
        ann = await site.person("ann")
        async with open_socket(site, ann) as socket:
            await socket.ask("events.follow", after=0)
            await trio.sleep(0.5)  # the client reads nothing; a socket takes less than this backlog
            assert [entry["data"]["number"] for entry in await hear(socket, count)] == list(range(count))


async def test_a_request_that_waits_is_answered_by_what_happens(tmp_path: Path) -> None:
    async with a_stream_with_a_past(tmp_path) as (site, ann, _, _stream):
        last = (await read(ann))[-1]["id"]
        second = await site.stream(ann)
        answers: list[dict[str, Any]] = []

        async def wait() -> None:
            answers.extend(await read(ann, after=last, wait_s=10))

        with trio.fail_after(8):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(0.2)
                assert answers == []
                await ann.ask("POST", f"/streams/{second}/end")
        assert [event["type"] for event in answers] == ["stream.ended"]


async def test_streams_are_found_by_what_they_are(tmp_path: Path) -> None:
    async with open_site(tmp_path / "node") as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        sung = await site.stream(ann, title="Songs", kind="audio")
        sold = await site.stream(bob, title="A show", mode="paid")
        admin = {"Authorization": f"Bearer {await site.running.auth.admin_token()}"}

        async def found(query: str) -> list[str]:
            answer = await site.http.get(f"/api/v1/streams?{query}", headers=admin)
            assert answer.status_code == 200, answer.text
            return [card["id"] for card in answer.json()["streams"]]

        assert await found("") == [sold, sung]
        assert await found("kind=audio") == [sung]
        assert await found("mode=paid") == [sold]
        assert await found("text=SONG") == [sung]
        assert await found("text=bob&mode=public") == []
        for wrong in ("mode=secret", "kind=smell", "text=" + "x" * 201):
            assert (await ann.ask("GET", f"/streams?{wrong}", status=422))["code"] == "invalid_request"
