"""Which message shows which file, on both databases: who sees it, when it goes, and whose space it takes."""

from __future__ import annotations

import pytest

from server.files import rows, uses
from server.files.rows import DAY_MS, Facts, File, Kept
from server.files.settings import FileSettings, FileSpace
from server.talk import keeping
from tests.money.databases import AnyStore
from tests.talk.people import NOW, Talker, code, people

SETTINGS = FileSettings(space=(FileSpace(0, 1),))
SIZE = 100_000


async def file_of(owner: Talker, id: str = "f_1", *, ready: bool = True) -> str:
    file = File(id, owner.id, "a.png", SIZE, "", "uploading", None, None, Facts(), 0, owner.now, owner.now + DAY_MS)
    await owner.store.write(rows.begin, file, SETTINGS)
    if ready:
        await owner.store.write(rows.arrive, id, owner.now)
        kept = Kept("image/png", SIZE // 2, Facts(8, 6, None, 99))
        assert await owner.store.write(rows.settle, id, kept, owner.now)
    return id


async def sees(viewer: Talker, id: str = "f_1") -> str:
    return await code(viewer.store.read(uses.require_seen, viewer.id, id, viewer.now))


async def used(owner: Talker) -> int:
    return (await owner.store.read(rows.usage, owner.id, SETTINGS)).used


async def collected(store: AnyStore, now: int) -> list[str]:
    return await store.write(rows.drop_each, await store.read(rows.due, now, 100))


async def test_a_message_shows_files_to_those_who_read_it(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    talk = await ann.direct("bob")
    await file_of(ann)
    assert [await sees(who) for who in (ann, bob, eve)] == ["done", "file_unknown", "file_unknown"]
    sent = await ann.send(talk, "", files=("f_1", "f_1"))
    assert [await sees(who) for who in (ann, bob, eve)] == ["done", "done", "file_unknown"]
    (message,) = await bob.messages(talk)
    (shown,) = message.attachments
    assert (shown.id, shown.name, shown.type, shown.size) == ("f_1", "a.png", "image/png", SIZE // 2)
    assert (shown.width, shown.height, shown.preview) == (8, 6, True)
    ((_, event),) = [entry for entry in await bob.hears() if entry[1].type == "message.created"]
    assert event.fields["message"]["attachments"][0]["id"] == "f_1"
    assert sent.seq == 1


async def test_a_message_is_written_once_with_its_files(store: AnyStore) -> None:
    ann, _ = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await file_of(ann)
    sent = await ann.send(talk, "look", "t", files=("f_1",))
    assert await ann.send(talk, "look", "t", files=("f_1",)) == sent
    assert await code(ann.send(talk, "look", "t")) == "idempotency_mismatch"
    await ann.erase(talk, 1)
    assert await ann.send(talk, "look", "t", files=("f_1",)) == sent


async def test_only_ones_own_files_that_are_ready_can_be_attached(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await file_of(ann)
    await file_of(ann, "f_2", ready=False)
    assert await code(bob.send(talk, "", files=("f_1",))) == "file_unknown"
    assert await code(ann.send(talk, "", files=("none",))) == "file_unknown"
    assert await code(ann.send(talk, "", files=("f_2",))) == "file_not_ready"
    await store.write(rows.refuse, "f_2", "file_broken", NOW)
    assert await code(ann.send(talk, "", files=("f_2",))) == "file_broken"
    many = [await file_of(ann, f"f_{number}") for number in range(3, 14)][:11]
    assert await code(ann.send(talk, "", files=tuple(many))) == "too_many_attachments"
    assert await ann.messages(talk) == []


async def test_with_the_message_its_file_is_gone_and_the_space_is_free(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await file_of(ann)
    assert await used(ann) == SIZE // 2
    await ann.send(talk, "", files=("f_1",))
    assert await collected(store, NOW + 10 * DAY_MS) == []
    await ann.erase(talk, 1)
    assert [await sees(who) for who in (ann, bob)] == ["file_unknown"] * 2
    assert await used(ann) == 0
    assert (await bob.messages(talk))[0].attachments == ()
    assert await collected(store, NOW) == ["f_1"]
    await store.write(rows.forget_each, ["f_1"])
    assert await store.read(rows.find, "f_1") is None


async def test_a_forwarded_file_stays_for_as_long_as_one_message_shows_it(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    talk, other = await ann.direct("bob"), await bob.direct("eve")
    await file_of(ann)
    await ann.send(talk, "look", files=("f_1",))
    await bob.send(other, "", origin=(talk, 1))
    assert await sees(eve) == "done"
    await ann.erase(talk, 1)
    assert [await sees(who) for who in (ann, bob, eve)] == ["file_unknown", "done", "done"]
    assert await used(ann) == SIZE // 2
    await bob.erase(other, 1)
    assert (await sees(eve), await used(ann)) == ("file_unknown", 0)


async def test_who_has_left_or_came_later_sees_what_the_history_shows_them(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group = await ann.group(bob)
    await file_of(bob)
    await bob.send(group, "", files=("f_1",))
    await ann.invite(group, eve)
    await eve.join(group)
    assert [await sees(who) for who in (ann, bob, eve)] == ["done", "done", "file_unknown"]
    await bob.leave(group)
    assert [await sees(who) for who in (ann, bob)] == ["done", "file_unknown"]


async def test_what_is_withheld_or_hidden_shows_no_file(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await bob.block(ann)
    await file_of(ann)
    await ann.send(talk, "", files=("f_1",))
    assert [await sees(who) for who in (ann, bob)] == ["done", "file_unknown"]
    await bob.unblock(ann)
    await file_of(ann, "f_2")
    await ann.send(talk, "", files=("f_2",))
    assert await sees(bob, "f_2") == "done"
    await bob.hide(talk, 2)
    assert [await sees(who, "f_2") for who in (ann, bob)] == ["done", "file_unknown"]


async def test_files_are_kept_no_longer_than_their_messages(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group(bob, keep_s=60)
    await file_of(ann)
    await ann.send(group, "", files=("f_1",))
    for who in (ann, bob):
        who.now += 61_000
        assert await sees(who) == "file_unknown"
    await store.write(keeping.drop_old, ann.now, 100)
    assert await used(ann) == 0
    assert await collected(store, ann.now) == ["f_1"]


async def test_what_no_message_shows_is_collected_after_a_day(store: AnyStore) -> None:
    (ann,) = await people(store, "ann")
    await file_of(ann)
    await file_of(ann, "f_2", ready=False)
    assert await collected(store, NOW + DAY_MS - 1) == []
    assert sorted(await collected(store, NOW + DAY_MS)) == ["f_1", "f_2"]
    assert await used(ann) == 0


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "uploading"])
async def test_space_is_given_back_once(store: AnyStore, ready: bool) -> None:
    (ann,) = await people(store, "ann")
    await file_of(ann)
    await file_of(ann, "f_2", ready=ready)
    for _ in range(2):
        await store.write(rows.drop, "f_2")
        await store.write(rows.refuse, "f_2", "file_broken", NOW)
        await store.write(rows.settle, "f_2", Kept("image/png", 7, Facts()), NOW)
    assert await used(ann) == SIZE // 2
    small = FileSettings(space=(FileSpace(0, 0),))
    assert (await store.read(rows.usage, ann.id, small)).limit == 0
