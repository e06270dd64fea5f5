"""Conversations on a whole node: over HTTP and the signalling socket, told in order, to all of one's devices."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from server.talk.settings import MessageQuota, Messages
from tests.server.nodes import Person, Site, Socket, open_site, open_socket, small_config


class Room:
    """A node with people who talk."""

    def __init__(self, site: Site, people: dict[str, Person]) -> None:
        self.site, self.people = site, people
        self._keys = 0

    def __getitem__(self, name: str) -> Person:
        return self.people[name]

    async def group(self, owner: Person, *members: Person, **shape: Any) -> str:
        made = await self.open_group(owner, {"title": "A group", **shape})
        assert made.status_code == 201, made.text
        id = str(made.json()["id"])
        for member in members:
            await owner.ask("PUT", f"/conversations/{id}/members/{member.name}")
            await member.ask("POST", f"/conversations/{id}/join")
        return id

    async def open_group(self, owner: Person, body: object, key: str = "") -> httpx2.Response:
        self._keys += 1
        headers = {"Authorization": f"Bearer {owner.token}", "Idempotency-Key": key or f"k{self._keys}"}
        return await self.site.http.post("/api/v1/conversations", json=body, headers=headers)


async def write(person: Person, conversation: str, text: str, txn: str, status: int | None = None, **more: Any) -> Any:
    body = {"text": text, "client_txn": txn, **more}
    return await person.ask("POST", f"/conversations/{conversation}/messages", body, status)


async def texts(person: Person, conversation: str, query: str = "") -> list[str]:
    page = await person.ask("GET", f"/conversations/{conversation}/messages?{query}")
    return [message["text"] for message in page["messages"]]


@asynccontextmanager
async def talking(folder: Path, *names: str, messages: Messages | None = None) -> AsyncIterator[Room]:
    config = small_config(folder)
    if messages is not None:
        config = msgspec.structs.replace(config, messages=messages)
    async with open_site(folder, config) as site:
        yield Room(site, {name: await site.person(name) for name in names})


async def entries(socket: Socket, count: int, *types: str) -> list[dict[str, Any]]:
    """Return the next events of the log that a socket hears, of some types."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        entry = (await socket.wait_for("events.entry"))["entry"]
        if not types or entry["type"] in types:
            found.append(entry)
    return found


async def test_a_conversation_over_http_as_two_hold_it(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        assert (await bob.ask("PUT", "/conversations/direct/ann"))["id"] == talk
        sent = await write(ann, talk, " hello ", "t1", 201)
        assert sent == await write(ann, talk, "hello", "t1", 201)
        assert (sent["seq"], await texts(bob, talk)) == (1, ["hello"])
        (listed,) = (await bob.ask("GET", "/conversations"))["conversations"]
        assert (listed["with"], listed["unread"], listed["last"]["text"]) == ({"id": ann.id, "name": "ann"}, 1, "hello")
        await bob.ask("PUT", f"/conversations/{talk}/markers", {"delivered": 1, "read": 1}, 204)
        seen = await ann.ask("GET", f"/conversations/{talk}")
        assert seen["markers"] == [{"account": bob.id, "delivered": 1, "read": 1}]
        await bob.ask("PUT", f"/conversations/{talk}/messages/1/reactions/👍", None, 204)
        await ann.ask("PUT", f"/conversations/{talk}/messages/1", {"text": "hello, bob"}, 204)
        await ann.ask("PUT", f"/conversations/{talk}/messages/1/pin", None, 204)
        (message,) = (await bob.ask("GET", f"/conversations/{talk}/messages?pinned=true"))["messages"]
        assert (message["text"], message["reactions"]) == (
            "hello, bob",
            [{"reaction": "👍", "count": 1, "accounts": [bob.id]}],
        )
        (found,) = (await bob.ask("GET", "/messages?text=hell"))["messages"]
        assert found == message
        await ann.ask("DELETE", f"/conversations/{talk}/messages/1", None, 204)
        assert (await write(bob, talk, "well", "t", 410, reply_to=1))["code"] == "message_erased"
        assert (await write(bob, talk, "x" * 4001, "t", 413))["code"] == "message_too_long"
        assert (await ann.ask("DELETE", f"/conversations/{talk}/messages/one", None, 404))["code"] == "message_unknown"
        settings = {"receipts": False, "presence": "nobody", "reached_by": "nobody"}
        assert await ann.ask("PUT", "/me/messenger", settings) == await ann.ask("GET", "/me/messenger") == settings


async def test_a_group_over_http_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        made = await room.open_group(ann, {"title": "Friends"}, "once")
        again = await room.open_group(ann, {"title": "Friends"}, "once")
        assert (again.content, again.headers["Idempotent-Replayed"]) == (made.content, "true")
        group = made.json()["id"]
        for who in (bob, eve):
            await ann.ask("PUT", f"/conversations/{group}/members/{who.name}", None, 204)
            assert (await who.ask("POST", f"/conversations/{group}/join"))["mine"]["standing"] == "in"
        await ann.ask("PUT", f"/conversations/{group}/members/bob/role", {"role": "admin"}, 204)
        assert (await bob.ask("PUT", f"/conversations/{group}/shape", {"title": "Enemies"}))["title"] == "Enemies"
        async with open_socket(room.site, eve) as socket:
            await socket.ask("ping")
            members = (await ann.ask("GET", f"/conversations/{group}/members"))["members"]
        assert {m["account"]["name"]: (m["role"], m["online"]) for m in members} == {
            "ann": ("owner", False),
            "bob": ("admin", False),
            "eve": ("member", True),
        }
        await bob.ask("PUT", f"/conversations/{group}/banned/eve", None, 204)
        assert (await write(eve, group, "wait", "t", 403))["code"] == "not_in_conversation"
        await ann.ask("POST", f"/conversations/{group}/leave", None, 204)
        assert (await bob.ask("GET", f"/conversations/{group}"))["mine"]["role"] == "owner"
        await ann.ask("PUT", "/conversations/direct/bob")
        assert (await ann.ask("PUT", "/conversations/direct/ann", None, 422))["code"] == "self_message"


async def test_what_is_written_reaches_all_devices_of_all_in_order_and_once(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        async with (
            open_socket(room.site, ann) as first,
            open_socket(room.site, bob) as second,
            open_socket(room.site, bob) as third,
        ):
            for socket in (first, second, third):
                await socket.ask("events.follow", after=0)
            for number in range(20):
                sender, txn = (first, second)[number % 2], f"t{number}"
                sent = await sender.ask("message.send", conversation=talk, text=f"{number}", client_txn=txn)
                assert sent["result"]["seq"] == number + 1
            told = [await entries(socket, 20, "message.created") for socket in (first, second, third)]
        assert told[0] == told[1] == told[2]
        assert [entry["data"]["message"]["text"] for entry in told[0]] == [str(number) for number in range(20)]
        assert [entry["id"] for entry in told[0]] == sorted(entry["id"] for entry in told[0])
        page = await ann.ask("GET", "/events?after=0&limit=200")
        assert [entry for entry in page["events"] if entry["type"] == "message.created"] == told[0]


async def test_a_device_that_was_away_goes_on_where_it_was_and_is_told_of_a_gap(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        talk = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        async with open_socket(room.site, bob) as socket:
            await socket.ask("events.follow", after=0)
            await write(ann, talk, "before", "t0")
            last = (await entries(socket, 1, "message.created"))[0]["id"]
        for number in range(5):
            await write(ann, talk, f"away {number}", f"t{number + 1}")
        async with open_socket(room.site, bob) as socket:
            await socket.ask("events.follow", after=last)
            told = await entries(socket, 5, "message.created")
            assert [entry["data"]["message"]["text"] for entry in told] == [f"away {number}" for number in range(5)]
            await write(ann, talk, "here", "t9")
            assert (await entries(socket, 1, "message.created"))[0]["data"]["seq"] == 7
            assert not [event for event in socket.events if event["type"] == "events.entry"]


async def test_typing_is_shown_while_it_lasts_and_only_to_the_others(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        group = await room.group(ann, bob)
        async with open_socket(room.site, ann) as his, open_socket(room.site, bob) as hers:
            assert (await hers.ask("conversation.type", conversation=group))["type"] == "ok"
            shown = await his.wait_for("conversation.typing")
            assert (shown["conversation"], shown["accounts"]) == (group, [{"id": bob.id, "name": "bob"}])
            await hers.ask("message.send", conversation=group, text="done", client_txn="t")
            assert (await his.wait_for("conversation.typing"))["accounts"] == []
            await ann.ask("PUT", "/blocks/bob")
            talk = (await ann.ask("GET", "/conversations"))["conversations"][0]["id"]
            assert talk == group
        async with open_socket(room.site, eve) as socket:
            refused = await socket.ask("conversation.type", conversation=group)
            assert refused["code"] == "conversation_unknown"


async def test_floods_and_quotas_are_refused_with_when_to_come_again(tmp_path: Path) -> None:
    few = Messages(per_s=1.0, burst=4, quotas=(MessageQuota(0, 3),))
    async with talking(tmp_path, "ann", "bob", messages=few) as room:
        ann, bob = room["ann"], room["bob"]
        talk = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        for number in range(3):
            await write(ann, talk, f"{number}", f"t{number}", 201)
        used = await write(ann, talk, "too many", "t3", 429)
        assert (used["code"], used["limit"]) == ("message_quota_used", 3)
        flooded = await write(ann, talk, "too fast", "t4", 429)
        assert flooded["code"] == "too_fast"
        assert 0 < flooded["retry_after_ms"] <= 1001
        metrics = (await room.site.http.get("/metrics")).text
        assert "mesi_messages_sent_total 3.0" in metrics
        assert "mesi_messages_paced_total 1.0" in metrics
        own = {"Authorization": f"Bearer {ann.token}"}
        for _ in range(65):
            answer = await ann.http.put("/api/v1/conversations/direct/bob", headers=own)
        assert answer.json()["code"] == "too_fast"
        assert (await write(bob, talk, "his own pace", "t", 201))["seq"] == 4


async def test_what_people_write_is_in_no_administrators_log(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann = room["ann"]
        talk = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        await write(ann, talk, "between us", "t")
        admin = {"Authorization": f"Bearer {await room.site.running.auth.admin_token()}"}
        page = (await room.site.http.get("/api/v1/events", headers=admin)).json()
        assert [event["type"] for event in page["events"] if event["subject"] == talk][-1] == "message.created"
        assert "between us" not in str(page)


async def test_who_is_blocked_is_answered_as_somebody_whose_friend_is_away(tmp_path: Path) -> None:
    """Bob writes to Ann, who has blocked him, and to Joe, who has not."""
    async with talking(tmp_path, "ann", "bob", "joe") as room:
        bob = room["bob"]
        talks = {name: (await bob.ask("PUT", f"/conversations/direct/{name}"))["id"] for name in ("ann", "joe")}
        for talk in talks.values():
            await write(bob, talk, "hello", "t0")
        await room["ann"].ask("PUT", "/blocks/bob")
        told: dict[str, list[str]] = {}
        for name, talk in talks.items():
            answers = []
            for method, path, body in (
                ("POST", "messages", {"text": "why?", "client_txn": "t1"}),
                ("PUT", "markers", {"read": 2}),
                ("PUT", "messages/2/reactions/👍", None),
                ("PUT", "messages/1", {"text": "hello?"}),
                ("PUT", "messages/1/pin", None),
                ("DELETE", "messages/2", None),
                ("GET", "messages", None),
                ("GET", "members", None),
                ("GET", "", None),
                ("POST", "leave", None),
            ):
                answer = await bob.http.request(
                    method,
                    f"/api/v1/conversations/{talk}/{path}".rstrip("/"),
                    json=body,
                    headers={"Authorization": f"Bearer {bob.token}"},
                )
                said = answer.text
                if path == "members":  # listed by ids, which are random
                    said = str(sorted(answer.json()["members"], key=lambda each: each["account"]["id"] == bob.id))
                answers.append(f"{answer.status_code} {said}")
            events = (await bob.ask("GET", f"/events?after=0&limit=200&subject={talk}"))["events"]
            answers.append(str([{**event, "id": 0} for event in events]))
            told[name] = [alike(said, talk, room[name]) for said in answers]
        assert told["ann"] == told["joe"]


def alike(said: str, talk: str, other: Person) -> str:
    """Return an answer without what tells one conversation from another: ids, names and times."""
    said = (
        said.replace(talk, "TALK")
        .replace(other.id, "ID")
        .replace(f'"{other.name}"', '"NAME"')
        .replace(f"'{other.name}'", '"NAME"')
    )
    return re.sub(r"\d{13}", "TIME", said)
