"""Messages in the database: written once, in order, changed by whom may, and shown to whom may see them."""

from __future__ import annotations

import pytest
import trio

from server.talk import changing
from signalling.messenger.policy import EDIT_MS
from signalling.messenger.quotas import DAY_MS, Quotas
from tests.money.databases import AnyStore
from tests.talk.people import code, people


async def test_two_people_have_one_conversation_and_its_messages_are_numbered(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    assert await bob.direct("ann") == talk
    assert await bob.list() == [], "nothing was written yet"
    sent = [(await sender.send(talk, text)).seq for sender, text in ((ann, "one"), (bob, "two"), (ann, "three"))]
    assert sent == [1, 2, 3]
    assert await ann.texts(talk) == await bob.texts(talk) == ["one", "two", "three"]
    assert await bob.texts(talk, after=1, limit=1) == ["two"]
    assert await bob.texts(talk, before=3) == ["one", "two"]
    assert await bob.list() == [talk]
    assert await code(ann.direct("ann")) == "self_message"
    assert await code(ann.direct("nobody")) == "account_unknown"


async def test_a_message_that_comes_twice_is_written_once_whatever_came_between(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    first = await ann.post(talk, "hello", "t1")
    await bob.send(talk, "well")
    again = await ann.post(talk, "hello", "t1")
    assert (again.sent, again.replayed) == (first.sent, True)
    assert await code(ann.send(talk, "another", "t1")) == "idempotency_mismatch"
    await ann.edit(talk, 1, "hello there")
    assert (await ann.post(talk, "hello", "t1")).sent == first.sent, "what it says now is another matter"
    assert (await bob.post(talk, "hello", "t1")).sent.seq == 3, "each names his own"
    assert await bob.texts(talk) == ["hello there", "well", "hello"]


async def test_many_who_write_at_once_get_numbers_without_a_gap(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    seen: list[int] = []

    async def write(number: int) -> None:
        sender = (ann, bob)[number % 2]
        seen.append((await sender.send(talk, f"{number}", f"t{number}")).seq)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(write, number)
    assert sorted(seen) == list(range(1, 41))
    assert [message.seq for message in await ann.messages(talk)] == list(range(1, 41))
    told = [event.fields["seq"] for _, event in await bob.hears() if event.type == "message.created"]
    assert sorted(told) == list(range(1, 41))


async def test_strangers_find_no_conversation_whatever_they_do(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    talk = await ann.direct("bob")
    await ann.send(talk, "between us")
    for there in (talk, "c_none"):
        for doing in (
            eve.send(there, "hello"),
            eve.messages(there),
            eve.sees(there),
            eve.edit(there, 1, "changed"),
            eve.erase(there, 1),
            eve.hide(there, 1),
            eve.react(there, 1, "👍"),
            eve.mark(there, 1),
            eve.keep(there, pinned=True),
            eve.leave(there),
            eve.join(there),
            eve.invite(there, bob),
        ):
            assert await code(doing) == "conversation_unknown"
    assert await eve.hears() == []
    assert await eve.finds("between") == []
    assert await eve.list() == []


async def test_a_message_is_edited_by_its_sender_within_two_days(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await ann.send(talk, "helo")
    assert await code(bob.edit(talk, 1, "mine")) == "not_the_sender"
    assert await code(ann.edit(talk, 2, "none")) == "message_unknown"
    ann.now += EDIT_MS
    await ann.edit(talk, 1, "hello")
    ann.now += 1
    assert await code(ann.edit(talk, 1, "late")) == "edit_too_late"
    (message,) = await bob.messages(talk)
    assert (message.text, message.edited_at) == ("hello", ann.now - 1)
    (told,) = [event for _, event in await bob.hears() if event.type == "message.changed"]
    assert told.fields["message"]["text"] == "hello"


async def test_what_is_taken_back_for_all_is_gone_everywhere_and_stays_so(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await ann.send(talk, "a secret")
    await bob.react(talk, 1, "👍")
    assert await code(bob.erase(talk, 1)) == "not_the_sender"
    assert await bob.finds("secret") == ["a secret"]
    await ann.erase(talk, 1)
    (message,) = await bob.messages(talk)
    assert (message.text, message.reactions, message.erased_at) == ("", (), ann.now)
    assert await bob.finds("secret") == []
    assert "secret" not in str(await bob.hears()), "events hold what a message says now"
    for doing in (
        ann.edit(talk, 1, "again"),
        ann.erase(talk, 1),
        bob.react(talk, 1, "👍"),
        bob.send(talk, "re", reply_to=1),
    ):
        assert await code(doing) == "message_erased"
    assert await bob.unread(talk) == 0


async def test_what_is_taken_back_for_oneself_is_there_for_the_others(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await ann.send(talk, "one")
    await ann.send(talk, "two")
    await bob.hide(talk, 1)
    await bob.hide(talk, 1)
    assert (await bob.texts(talk), await ann.texts(talk)) == (["two"], ["one", "two"])
    assert await bob.unread(talk) == 1
    assert await bob.finds("one") == []
    assert (await bob.hears_types()).count("message.hidden") == 1
    assert "message.hidden" not in await ann.hears_types()


async def test_replies_reactions_forwards_and_pins(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    talk, other = await ann.direct("bob"), await bob.direct("eve")
    await ann.send(talk, "question?")
    await bob.send(talk, "answer", reply_to=1)
    assert (await ann.messages(talk))[1].reply_to == 1
    assert await code(bob.send(talk, "what?", reply_to=9)) == "message_unknown"
    for reaction in ("👍", "❤️"):
        await bob.react(talk, 1, reaction)
    await bob.react(talk, 1, "👍")
    await ann.react(talk, 1, "👍")
    reactions = {each.reaction: (each.count, set(each.accounts)) for each in (await ann.messages(talk))[0].reactions}
    assert reactions == {"👍": (2, {"ann", "bob"}), "❤️": (1, {"bob"})}
    await bob.send(other, "", origin=(talk, 1))
    (forwarded,) = await eve.messages(other)
    assert (forwarded.text, forwarded.forwarded, forwarded.sender.id) == ("question?", True, "bob")
    assert await code(bob.edit(other, 1, "changed")) == "message_fixed"
    assert await code(eve.send(other, "", origin=(talk, 1))) == "message_unknown", "she does not see what it comes from"
    await bob.change(changing.pin, talk, 1)
    assert await ann.texts(talk, pinned=True) == ["question?"]
    await ann.change(changing.unpin, talk, 1)
    assert await ann.texts(talk, pinned=True) == []


async def test_who_was_mentioned_is_told_so_and_nobody_outside(store: AnyStore) -> None:
    ann, bob, eve, _ = await people(store, "ann", "bob", "eve", "out")
    group = await ann.group(bob, eve)
    await ann.send(group, "@bob, and @out and @BOB: mail@eve.example")
    (message,) = await ann.messages(group)
    assert message.mentions == ("bob",)
    assert (await bob.sees(group)).mentioned
    assert not (await eve.sees(group)).mentioned
    await bob.mark(group, 1)
    assert not (await bob.sees(group)).mentioned


async def test_words_are_found_by_beginnings_in_what_one_sees_the_newest_first(store: AnyStore) -> None:
    ann, bob, _ = await people(store, "ann", "bob", "eve")
    talk, other = await ann.direct("bob"), await ann.direct("eve")
    await ann.send(talk, "The blue lamp")
    await bob.send(talk, "blue lamps, many")
    await ann.send(other, "a blue door")
    assert await ann.finds("blue") == ["a blue door", "blue lamps, many", "The blue lamp"]
    assert await ann.finds("BLUE lam") == ["blue lamps, many", "The blue lamp"]
    assert await ann.finds("blue", other) == ["a blue door"]
    assert await bob.finds("door") == await bob.finds("blue", other) == []
    await ann.edit(talk, 1, "The red lamp")
    assert await bob.finds("lamp") == ["blue lamps, many", "The red lamp"]
    assert await bob.finds("blue lamp") == ["blue lamps, many"]
    for strange in ('"', "'", "*", "lamp) OR (", "NEAR(", "a:b", "' | 'x", "\\", "-", "^lamp"):
        await bob.finds(strange)


async def test_a_quota_is_counted_by_tier_and_day_and_nothing_refused_uses_it(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    ann.quotas = bob.quotas = Quotas.of([(0, 3), (2, 5)])
    assert await code(ann.send(talk, "what?", reply_to=99)) == "message_unknown"
    await ann.send(talk, "again", "t")
    await ann.send(talk, "again", "t")
    outcomes: list[str] = []

    async def write(number: int) -> None:
        outcomes.append(await code(ann.send(talk, f"{number}")))

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(write, number)
    assert sorted(outcomes) == ["done"] * 2 + ["message_quota_used"] * 4
    assert await code(bob.send(talk, "his own")) == "done"
    await store.write(
        lambda connection: connection.exec_driver_sql("INSERT INTO account_facts VALUES ('ann', FALSE, 2)")
    )
    assert [await code(ann.send(talk, "more")) for _ in range(3)] == ["done", "done", "message_quota_used"]
    ann.now += DAY_MS
    assert await code(ann.send(talk, "a new day")) == "done"


async def test_a_draft_mute_and_pins_are_ones_own_and_told_to_ones_devices(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await ann.keep(talk, draft="dear b")
    await ann.keep(talk, muted_until=-1, pinned=True)
    mine = (await ann.sees(talk)).mine
    assert (mine.draft, mine.muted_until, mine.pinned, mine.archived) == ("dear b", -1, True, False)
    assert (await bob.sees(talk)).mine.draft == ""
    await ann.keep(talk, muted_until=0)
    assert (await ann.sees(talk)).mine.muted_until is None
    await ann.send(talk, "dear bob")
    assert (await ann.sees(talk)).mine.draft == "", "what was sent is no draft any more"
    assert "conversation.mine" not in await bob.hears_types()
    assert (await ann.hears_types()).count("conversation.mine") == 3


@pytest.mark.parametrize("wanted", ["followed", "nobody"])
async def test_people_are_reached_by_whom_they_want_and_go_on_with_whom_they_know(store: AnyStore, wanted: str) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    talk = await bob.direct("ann")
    await ann.set(reached_by=wanted)
    assert await code(eve.direct("ann")) == "not_reachable"
    group = await eve.group()
    assert await code(eve.invite(group, ann)) == "not_reachable"
    assert await bob.direct("ann") == talk
    assert await code(bob.send(talk, "still here")) == "done"
    await store.write(lambda connection: connection.exec_driver_sql("INSERT INTO follows VALUES ('ann', 'eve', 1)"))
    assert await code(eve.direct("ann")) == ("done" if wanted == "followed" else "not_reachable")


def test_quotas_are_those_of_the_highest_tier_that_is_reached() -> None:
    quotas = Quotas.of([(5, 100), (1, 10)])
    assert [quotas.limit(tier) for tier in (0, 1, 4, 5, 9)] == [None, 10, 10, 100, 100]
