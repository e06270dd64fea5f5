"""What has arrived and was read: counted to the message, told to whom it may be, and never taken back."""

from __future__ import annotations

from typing import Any

from server.talk.marking import RECEIPTS_UP_TO, Mark, mark_each
from signalling.messenger.model import Member
from signalling.refusals import Refused
from tests.money.databases import AnyStore
from tests.talk.people import Talker, code, people


async def markers(who: Talker, conversation: str) -> dict[str, tuple[int, int]]:
    return {each.account: (each.delivered, each.read) for each in (await who.sees(conversation)).markers}


async def told(who: Talker, type: str) -> list[dict[str, Any]]:
    return [dict(event.fields) for _, event in await who.hears() if event.type == type]


async def test_unread_are_the_messages_of_others_above_ones_marker(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    for number in range(3):
        await ann.send(talk, f"{number}")
    await bob.send(talk, "mine")
    assert (await bob.unread(talk), await ann.unread(talk)) == (3, 1)
    await bob.mark(talk, 2)
    assert await bob.unread(talk) == 1
    await bob.mark(talk, 1)
    assert await bob.unread(talk) == 1, "no marker goes back"
    await bob.mark(talk, 99)
    assert (await bob.unread(talk), (await bob.sees(talk)).mine.seen) == (0, 4)
    await ann.send(talk, "one more")
    assert await bob.unread(talk) == 1, "a marker beyond the end marks nothing that comes"


async def test_the_other_is_told_what_arrived_and_was_read_once(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await ann.send(talk, "1")
    await ann.send(talk, "2")
    await bob.mark(talk, 0, delivered=2)
    assert await markers(ann, talk) == {"bob": (2, 0)}
    await bob.mark(talk, 1)
    await bob.mark(talk, 1)
    assert await markers(ann, talk) == {"bob": (2, 1)}
    assert await told(ann, "conversation.marked") == [
        {"account": "bob", "delivered": 2, "read": 0},
        {"account": "bob", "delivered": 2, "read": 1},
    ]


async def test_marks_that_come_at_once_are_one_event_and_one_that_is_refused_takes_none_along(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    talk = await ann.direct("bob")
    for number in range(5):
        await ann.send(talk, f"{number}")
    marks = [Mark(bob.doing(talk), delivered, read, False) for delivered, read in ((2, 0), (5, 1), (0, 3), (4, 2))]
    marks.insert(2, Mark(eve.doing(talk), 5, 5, False))
    found = await store.write(mark_each, marks)
    assert isinstance(found[2], Refused)
    assert [(each.delivered, each.read) for each in found if isinstance(each, Member)] == [(5, 3)] * 4
    assert await markers(ann, talk) == {"bob": (5, 3)}
    assert await told(ann, "conversation.marked") == [{"account": "bob", "delivered": 5, "read": 3}]
    await store.write(mark_each, [Mark(bob.doing(talk), 5, 5, True), Mark(bob.doing(talk), 5, 4, False)])
    assert await markers(ann, talk) == {"bob": (5, 4)}


async def test_what_is_read_in_private_counts_for_oneself_alone(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await ann.send(talk, "1")
    await bob.mark(talk, 1, private=True)
    assert (await bob.unread(talk), await markers(ann, talk)) == (0, {"bob": (0, 0)})
    assert await told(ann, "conversation.marked") == await told(ann, "conversation.seen") == []
    assert await told(bob, "conversation.seen") == [{"account": "bob", "seen": 1}]
    await bob.set(receipts=False)
    await ann.send(talk, "2")
    await bob.mark(talk, 2, delivered=2)
    assert (await bob.unread(talk), await markers(ann, talk)) == (0, {"bob": (0, 0)})


async def test_in_a_large_group_nobody_is_told_who_has_read_what(store: AnyStore) -> None:
    ann, bob, *others = await people(store, "ann", "bob", *(f"m{number}" for number in range(RECEIPTS_UP_TO - 1)))
    group = await ann.group(bob, *others[:-1], joining="open")
    await ann.send(group, "1")
    await bob.mark(group, 1)
    assert (await markers(ann, group))["bob"] == (1, 1)
    await others[-1].join(group)
    await ann.send(group, "2")
    before = len(await told(ann, "conversation.marked"))
    await bob.mark(group, 2)
    assert await markers(ann, group) == {}
    assert len(await told(ann, "conversation.marked")) == before
    assert (await told(bob, "conversation.marked"))[-1] == {"account": "bob", "delivered": 2, "read": 2}


async def test_who_was_blocked_writes_on_and_nothing_of_it_arrives_also_afterwards(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await ann.send(talk, "hello")
    await bob.mark(talk, 1)
    await ann.block(bob)
    heard = len(await ann.hears())
    sent = await bob.send(talk, "why?")
    assert (sent.seq, await bob.texts(talk)) == (2, ["hello", "why?"])
    await bob.mark(talk, 2, delivered=2)
    await ann.mark(talk, 2, delivered=2)
    assert await markers(bob, talk) == {"ann": (0, 0)}, "one tick, for ever"
    assert (await ann.texts(talk), await ann.unread(talk), await ann.finds("why")) == (["hello"], 0, [])
    assert [event.type for _, event in (await ann.hears())[heard:]] == ["conversation.seen"]
    assert await code(ann.send(talk, "you are blocked")) == "you_blocked_them"
    await bob.edit(talk, 2, "why not?")
    await bob.react(talk, 2, "👍")
    assert len(await ann.hears()) == heard + 1
    await ann.unblock(bob)
    assert await ann.texts(talk) == ["hello"], "what was written meanwhile is not delivered later"
    await bob.send(talk, "again?")
    assert (await ann.texts(talk), await ann.unread(talk)) == (["hello", "again?"], 1)
    assert await code(ann.react(talk, 2, "👍")) == "message_unknown"


async def test_a_message_that_is_edited_by_who_was_blocked_since_is_withheld_from_then_on(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await bob.direct("ann")
    await bob.send(talk, "nice")
    await ann.block(bob)
    await bob.edit(talk, 1, "not nice at all")
    assert (await bob.texts(talk), await ann.texts(talk)) == (["not nice at all"], [])
    assert "not nice" not in str(await ann.hears())


async def test_in_a_group_two_who_are_apart_read_each_other(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group = await eve.group(ann, bob)
    await ann.block(bob)
    await bob.send(group, "for all")
    assert (await ann.texts(group), await ann.unread(group)) == (["for all"], 1)
