"""What conversations keep of calls, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from server.talk import calls as kept
from signalling.calls.book import Begun, Wanted
from signalling.calls.state import RUNG_UP_TO, CallId
from signalling.calls.views import CallCard, CallView
from signalling.identifiers import Actor
from signalling.messenger.model import ConversationId
from signalling.refusals import Refused
from tests.money.databases import AnyStore
from tests.talk.people import NOW, Talker, code, people


async def begin(who: Talker, conversation: str, txn: str = "t") -> Begun | CallView:
    wanted = Wanted(ConversationId(conversation), True, "telephone", txn)
    return await who.store.write(kept.begin, Actor(who.id, who.id), CallId(f"call_{txn}"), wanted, NOW)


async def settle(who: Talker, conversation: str, **shown: Any) -> None:
    card = CallCard(**{"call": CallId("call_t"), "video": True, "state": "running", **shown})
    await who.store.write(kept.bring_up_to_date, ConversationId(conversation), card, NOW)


async def test_a_call_is_one_message_that_is_brought_up_to_date(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    begun = await begin(ann, talk)
    assert isinstance(begun, Begun)
    assert (begun.kind, dict(begun.names), begun.unaware) == ("direct", {"bob": "bob"}, frozenset())
    assert await bob.unread(talk) == 1
    await settle(ann, talk)
    await settle(ann, talk, state="ended", reason="ended", seconds=65)
    await settle(ann, talk, state="running")  # what has ended stays so
    (message,) = await bob.messages(talk)
    assert (message.kind, message.card) == (
        "call",
        {"call": "call_t", "video": True, "state": "ended", "reason": "ended", "seconds": 65, "stream": None},
    )
    types = [each for each in await bob.hears_types() if each.startswith(("call.", "message."))]
    assert types == [
        *("message.created", "call.started", "message.changed", "call.answered", "message.changed", "call.ended")
    ]
    assert await code(ann.erase(talk, 1)) == "message_fixed"


async def test_a_call_begun_twice_is_one_and_its_name_is_used_for_nothing_else(store: AnyStore) -> None:
    ann, _ = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await begin(ann, talk)
    again = await begin(ann, talk)
    assert isinstance(again, CallView)
    assert (again.id, len(await ann.messages(talk))) == ("call_t", 1)
    await ann.send(talk, "hello", "text")
    with pytest.raises(Refused, match="idempotency_mismatch"):
        await begin(ann, talk, "text")


async def test_who_is_blocked_calls_for_himself_alone(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await bob.block(ann)
    begun = await begin(ann, talk)
    assert isinstance(begun, Begun)
    assert begun.unaware == {"bob"}
    await settle(ann, talk, state="ended", reason="missed")
    assert await bob.messages(talk) == []
    assert not [each for each in await bob.hears_types() if each.startswith(("call.", "message."))]
    assert (await ann.messages(talk))[0].card["reason"] == "missed"  # type: ignore[index]
    assert await code(begin(bob, talk, "u")) == "you_blocked_them"


async def test_a_group_is_rung_without_those_who_are_parted_from_the_caller_and_a_large_one_not_at_all(
    store: AnyStore,
) -> None:
    ann, bob, eve, joe = await people(store, "ann", "bob", "eve", "joe")
    talk = await ann.group(bob, eve, joe)
    await bob.block(ann)
    await eve.block(joe)
    begun = await begin(ann, talk)
    assert isinstance(begun, Begun)
    assert set(begun.names) == {"eve", "joe"}
    assert begun.apart == {frozenset(("ann", "bob")), frozenset(("eve", "joe"))}
    crowd = await people(store, *[f"p{number}" for number in range(RUNG_UP_TO)])
    for member in crowd:
        await ann.invite(talk, member)
        await member.join(talk)
    large = await begin(ann, talk, "u")
    assert isinstance(large, Begun)
    assert large.names == {}
    assert await code(begin(Talker(store, ann.id), "c_none", "v")) == "conversation_unknown"


async def test_a_restart_ends_what_was_going_on_once(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await ann.direct("bob")
    await begin(ann, talk)
    await settle(ann, talk)
    for _ in range(2):
        await store.write(kept.interrupt_all, NOW)
    (message,) = await bob.messages(talk)
    assert message.card is not None
    assert (message.card["state"], message.card["reason"]) == ("ended", "interrupted")
    assert (await bob.hears_types()).count("call.ended") == 1
