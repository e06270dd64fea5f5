"""Messages that are written together: each as if alone, in their order, and told as the log would show them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
import trio

from server.database.store import StoreFailed
from server.events import eventlog
from server.events.tail import entry
from server.talk import posting
from server.talk.postbox import MAX_TOGETHER, Postbox
from server.talk.posting import Draft, Posted
from server.talk.showing import fill
from signalling.messenger.model import ConversationId, Role
from signalling.messenger.quotas import Quotas
from signalling.refusals import Refused
from tests.money.databases import AnyStore
from tests.server.nodes import Person, open_site, small_config
from tests.server.sockets import RawSocket, text, upgrade
from tests.server.test_node import wait_until
from tests.server.thread_node import read_until
from tests.talk.people import NOW, Talker, people
from tests.talk.test_conversations_node import Room

COUNTER = itertools.count()


def draft(talker: Talker, conversation: str, text: str, txn: str = "", **more: Any) -> Draft:
    name = txn or f"t{next(COUNTER)}"
    return Draft(ConversationId(conversation), talker.id, text, name, NOW, talker.quotas, **more)


async def together(store: AnyStore, *drafts: Draft) -> list[Any]:
    """Return the number of each message, a code, or what it repeats."""
    outcomes = await store.write(posting.post_each, drafts)
    return [
        (outcome.code if isinstance(outcome, Refused) else str(outcome))
        if isinstance(outcome, Exception)
        else (outcome.sent.seq if not outcome.replayed else f"again {outcome.sent.seq}")
        for outcome in outcomes
    ]


async def test_each_of_many_is_refused_repeated_or_written_as_if_alone(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group, talk = await ann.group(bob), await ann.direct("bob")
    await ann.send(group, "earlier", "known")
    await ann.give_role(group, bob, Role.READER)
    said = await together(
        store,
        draft(ann, group, "one", "first"),
        draft(eve, group, "I am not in it"),
        draft(ann, "c_nowhere", "there is none"),
        draft(bob, group, "I only read"),
        draft(ann, group, "earlier", "known"),
        draft(ann, group, "another", "known"),
        draft(bob, talk, "two of us"),
        draft(ann, group, "one", "first"),
        draft(ann, group, "an answer", reply_to=2),
        draft(ann, group, "to nothing", reply_to=9),
    )
    refused = ["conversation_unknown", "conversation_unknown", "read_only"]
    assert said == [2, *refused, "again 1", "idempotency_mismatch", 1, "again 2", 3, "message_unknown"]
    assert await ann.texts(group) == ["earlier", "one", "an answer"]
    assert await ann.texts(talk) == ["two of us"]


async def test_of_many_no_more_are_written_than_a_quota_allows_and_none_to_who_has_blocked(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group, talk = await ann.group(bob), await ann.direct("bob")
    ann.quotas = Quotas.of([(0, 2)])
    assert await together(store, *(draft(ann, group, f"{n}") for n in range(3))) == [1, 2, "message_quota_used"]
    await ann.block(bob)
    assert await together(store, draft(bob, talk, "hello"), draft(bob, group, "to all")) == [1, 3]
    assert await ann.texts(talk) == []
    assert await bob.texts(talk) == ["hello"]


async def test_what_is_told_at_once_is_what_the_log_would_show(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group, talk = await ann.group(bob), await ann.direct("eve")
    await ann.block(eve)
    head = (await store.read(eventlog.span)).head
    outcomes = await store.write(
        posting.post_each,
        [
            draft(ann, group, "hello @bob"),
            draft(bob, group, "an answer", reply_to=1),
            draft(eve, talk, "which ann does not see"),
            draft(bob, group, "", origin=(group, 1)),
        ],
    )
    posted = [outcome for outcome in outcomes if isinstance(outcome, Posted)]
    fresh = {each.fresh.logged.id: each.fresh for each in posted if each.fresh is not None}

    def read(connection: sa.Connection) -> dict[int, tuple[bytes, bytes]]:
        logged = eventlog.read_from(connection, head, 100)
        filled = fill(connection, logged, None)
        return {each.id: (encoded(each), encoded(shown)) for each, shown in zip(logged, filled, strict=True)}

    def encoded(logged: eventlog.LoggedEvent) -> bytes:
        return msgspec.msgpack.encode(entry(logged))

    log = await store.read(read)
    assert len(posted) == len(log) == 4
    if store.gathers:
        assert sorted(fresh) == [head + 1, head + 2, head + 4], "what was withheld is read"
    assert {id: (encoded(each.logged), encoded(each.filled)) for id, each in fresh.items()} == {
        id: log[id] for id in fresh
    }


async def test_a_postbox_writes_what_waits_in_few_goes_and_tells_each_in_order(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group(bob)
    postbox = Postbox(store)
    done: list[tuple[int, Any]] = []
    count = MAX_TOGETHER + 50
    assert not postbox.takes, "nobody writes yet"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(postbox.run)
        await trio.testing.wait_all_tasks_blocked()
        if not store.gathers:
            assert not postbox.takes, "side by side costs less here"
        else:
            for number in range(count):
                where = "c_nowhere" if number == 7 else group
                postbox.post(
                    draft(ann, where, f"{number}"), lambda outcome, number=number: done.append((number, outcome))
                )
            await wait_until(lambda: len(done) == count)
            assert [number for number, _ in done] == list(range(count))
            assert isinstance(done[7][1], Refused)
            assert [posted.sent.seq for _, posted in done[:7] + done[8:]] == list(range(1, count))
            assert (postbox.batches, postbox.gathered) == (2, count)
        nursery.cancel_scope.cancel()
    assert not postbox.takes


class FailingStore:
    """Writes nothing."""

    gathers = True

    async def write_all(self, work: object, items: object) -> Any:
        await trio.lowlevel.checkpoint()
        raise StoreFailed("no disk")


async def test_who_can_not_be_written_hears_it_and_the_next_is_tried() -> None:
    postbox = Postbox(FailingStore())  # type: ignore[arg-type]
    heard: list[Exception | Posted] = []

    def broken(outcome: object) -> None:
        raise ValueError("of one")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(postbox.run)
        await trio.testing.wait_all_tasks_blocked()
        lonely = Draft(ConversationId("c"), "ann", "x", "t", NOW, Quotas())  # type: ignore[arg-type]
        for _ in range(2):
            postbox.post(lonely, broken)
            postbox.post(lonely, heard.append)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [str(each) for each in heard] == ["no disk", "no disk"]


async def test_over_a_socket_all_are_answered_and_told_in_order_without_a_task(tmp_path: Path) -> None:
    async with open_site(tmp_path, small_config(tmp_path)) as site:
        room = Room(site, {name: await site.person(name) for name in ("ann", "bob")})
        group = await room.group(room["ann"], room["bob"])
        async with trio.open_nursery() as nursery:
            heard: dict[str, list[dict[str, Any]]] = {"ann": [], "bob": []}
            for name in heard:
                nursery.start_soon(write_and_hear, site.running.url, room[name], group, heard[name])
        for name, messages in heard.items():
            answers = [each for each in messages if each["type"] in ("ok", "error") and each["id"] > 1]
            assert [each["id"] for each in answers] == list(range(2, 2 + SAID + 1)), name
            assert [each["type"] for each in answers] == ["ok"] * SAID + ["error"]
            told = [each["entry"]["data"]["message"] for each in messages if each["type"] == "events.entry"]
            assert [each["seq"] for each in told] == list(range(1, 2 * SAID + 1)), "in order, each once"
            own = [each["result"]["seq"] for each in answers[:SAID]]
            assert [each["seq"] for each in told if each["from"]["id"] == room[name].id] == own
        counted = dict(
            line.rsplit(" ", 1) for line in (await site.http.get("/metrics")).text.splitlines() if line[0] != "#"
        )
        assert float(counted["mesi_sockets_heard_total"]) > 0
        assert float(counted["mesi_messages_gathered_total"]) > SAID


SAID = 30


async def write_and_hear(url: str, person: Person, group: str, heard: list[dict[str, Any]]) -> None:
    host, port = url.removeprefix("http://").split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(upgrade())
        socket = RawSocket(stream)
        socket.received += (await read_until(stream, lambda got: b"\r\n\r\n" in got)).partition(b"\r\n\r\n")[2]
        await socket.send(text({"type": "hello", "token": person.token}))
        await socket.send(text({"type": "events.follow", "id": 1}))
        while not (heard and heard[-1].get("id") == 1):
            heard.append(await socket.message())
        asked = [
            {"type": "message.send", "id": 2 + n, "conversation": group, "text": f"{n}", "client_txn": f"t{n}"}
            for n in range(SAID)
        ]
        asked.append({**asked[0], "id": 2 + SAID, "text": "another"})
        for part in (asked[:1], asked[1:20], asked[20:]):
            await socket.send(b"".join(text(each) for each in part))
        while sum(each["type"] == "events.entry" for each in heard) < 2 * SAID or not is_answered(heard):
            heard.append(await socket.message())


def is_answered(heard: list[dict[str, Any]]) -> bool:
    return any(each.get("id") == 2 + SAID for each in heard)
