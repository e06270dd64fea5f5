"""Who is told that somebody is here: those who may see it, some seconds later at most, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.access import relations
from server.database.store import StoreFailed
from server.talk import attendance, marking, presence
from server.talk.marking import Settings
from signalling.identifiers import AccountId
from tests.money.databases import AnyStore
from tests.server.nodes import Socket, open_socket
from tests.talk.people import NOW, people
from tests.talk.test_conversations_node import talking

ANN, BOB = AccountId("ann"), AccountId("bob")


async def sees(store: AnyStore, viewer: str, account: str) -> bool:
    pair = AccountId(viewer), AccountId(account)
    return pair in await store.read(presence.shown, [pair])


async def test_one_is_seen_by_those_with_whom_one_is_in_a_conversation_and_as_far_as_one_says(
    store: AnyStore,
) -> None:
    ann, bob, _ = await people(store, "ann", "bob", "eve")
    assert not await sees(store, "bob", "ann")
    group = await ann.group(bob)
    assert await sees(store, "bob", "ann")
    assert await sees(store, "ann", "ann")
    assert not await sees(store, "eve", "ann")
    await store.write(marking.set_settings, "ann", Settings(presence="followed"))
    assert not await sees(store, "bob", "ann")
    await store.write(relations.follow, ANN, "bob", NOW)
    assert await sees(store, "bob", "ann")
    await store.write(marking.set_settings, "ann", Settings(presence="nobody"))
    assert not await sees(store, "bob", "ann")
    await store.write(marking.set_settings, "ann", Settings())
    await bob.leave(group)
    assert not await sees(store, "bob", "ann")


async def test_a_block_hides_both_from_each_other(store: AnyStore) -> None:
    ann, _ = await people(store, "ann", "bob")
    await ann.direct("bob")
    assert await sees(store, "bob", "ann")
    await store.write(relations.block, ANN, "bob", NOW)
    assert not await sees(store, "bob", "ann")
    assert not await sees(store, "ann", "bob")


async def test_when_one_was_here_is_kept_to_the_minute_and_not_at_all_for_who_is_invisible(store: AnyStore) -> None:
    ann, _ = await people(store, "ann", "bob")
    await ann.direct("bob")
    assert await store.read(presence.shown, [(BOB, ANN)]) == {(BOB, ANN): None}
    await store.write(presence.note, [ANN], NOW + 59_000)
    assert await store.read(presence.shown, [(BOB, ANN)]) == {(BOB, ANN): NOW + 59_000 - (NOW + 59_000) % 60_000}
    await store.write(marking.set_settings, "ann", Settings(presence="nobody"))
    await store.write(presence.note, [ANN], NOW + 120_000)
    await store.write(marking.set_settings, "ann", Settings())
    assert await store.read(presence.shown, [(BOB, ANN)]) == {(BOB, ANN): None}


async def shown(socket: Socket) -> dict[str, Any]:
    (view,) = (await socket.wait_for("presence"))["people"]
    return dict(view)


def fails_once(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a look into a database that is not there for a moment."""
    real = presence.shown

    def look(*_: object) -> Any:
        monkeypatch.setattr(presence, "shown", real)
        raise StoreFailed("the disk is full")

    return look


async def test_comings_and_goings_are_told_to_who_watches_until_they_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "ROUND_S", 0.05)
    monkeypatch.setattr(attendance, "GRACE_NS", 100_000_000)
    async with talking(tmp_path, "ann", "bob", "eve") as room:
        ann, bob, eve = room["ann"], room["bob"], room["eve"]
        await ann.ask("PUT", "/conversations/direct/bob")
        away = {"account": ann.id, "online": False, "last_seen": None}
        async with open_socket(room.site, bob) as bobs, open_socket(room.site, eve) as eves:
            answer = await bobs.ask("presence.watch", accounts=[ann.id, ann.id])
            assert answer["result"] == {"people": [away]}
            assert (await eves.ask("presence.watch", accounts=[ann.id]))["result"] == {"people": [away]}
            async with open_socket(room.site, ann):
                assert (await shown(bobs))["online"] is True
            left = await shown(bobs)
            assert left["online"] is False
            assert left["last_seen"] is None or left["last_seen"] % 60_000 == 0
            async with open_socket(room.site, ann):
                assert (await shown(bobs))["online"] is True
                await ann.ask("PUT", "/me/messenger", {"presence": "nobody"})
                assert await shown(bobs) == away
                await ann.ask("PUT", "/me/messenger", {})
                assert (await shown(bobs))["online"] is True
                monkeypatch.setattr(presence, "shown", fails_once(monkeypatch))
                await ann.ask("PUT", "/blocks/bob")
                assert await shown(bobs) == away
            assert not [event for event in eves.events if event.get("people") not in (None, [away])]
            too_many = await bobs.ask("presence.watch", accounts=["a"] * 201)
            assert too_many["code"] == "malformed_message"
