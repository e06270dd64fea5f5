"""Tips in conversations: money and message in one transaction, each once, and neither without the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from server.money.amounts import Amount
from server.money.books import balance
from server.money.payments import wallet
from server.money.tips import Gift, give, reverse
from signalling.messenger.model import Role
from signalling.wire.views import Person
from tests.money.commands import deposit, do
from tests.money.databases import AnyStore
from tests.money.test_tips import HOUSE, open_wallets
from tests.talk.people import NOW, Talker, code
from tests.talk.test_conversations_node import Room, talking, write


def gift(id: str, conversation: str, to: str = "bob", **more: Any) -> Gift:
    return Gift(id, Person("ann", "ann"), to, Amount("USD", 700), "web", True, conversation=conversation, **more)  # type: ignore[arg-type]


async def has(store: AnyStore, account: str) -> int:
    return await store.read(balance, wallet(account, "USD"))


async def talkers(store: AnyStore) -> tuple[Talker, Talker, Talker]:
    await open_wallets(store)
    await store.write(do, deposit("ann", 100_000, "USD"))
    ann, bob, eve = (Talker(store, name) for name in ("ann", "bob", "eve"))  # type: ignore[arg-type]
    return ann, bob, eve


async def test_a_tip_is_a_message_that_nobody_edits_or_takes_back(store: AnyStore) -> None:
    ann, bob, _ = await talkers(store)
    talk = await ann.direct("bob")
    before = await has(store, "ann")
    await store.write(give, gift("tip.1", talk, message="For you"), HOUSE, NOW)
    assert await has(store, "ann") == before - 700
    (message,) = await bob.messages(talk)
    assert (message.kind, message.text, message.sender.id) == ("tip", "For you", "ann")
    assert message.card == {
        "tip": "tip.1",
        "to": {"id": "bob", "name": "bob"},
        "amount": {"asset": "USD", "units": "700"},
        "reversed": False,
    }
    assert await bob.unread(talk) == 1
    assert await code(ann.erase(talk, 1)) == "message_fixed"
    assert await code(ann.edit(talk, 1, "For me")) == "message_fixed"
    await store.write(reverse, "tip.1", NOW + 1)
    assert (await bob.messages(talk))[0].card["reversed"] is True  # type: ignore[index]
    assert await has(store, "ann") == before
    assert (await bob.hears_types())[-1] == "message.changed"


async def test_who_may_not_write_there_is_not_charged_either(store: AnyStore) -> None:
    ann, bob, eve = await talkers(store)
    group, other = await bob.group(ann), await bob.direct("eve")
    before = await has(store, "ann")
    await bob.give_role(group, ann, Role.READER)
    for wanted, refusal in (
        (gift("t1", group), "read_only"),
        (gift("t2", other), "conversation_unknown"),
        (gift("t3", "c_none"), "conversation_unknown"),
    ):
        assert await code(store.write(give, wanted, HOUSE, NOW)) == refusal
    await bob.give_role(group, ann, Role.MEMBER)
    assert await code(store.write(give, gift("t4", group, "eve"), HOUSE, NOW)) == "bad_context"
    assert (await has(store, "ann"), await bob.texts(group), await eve.texts(other)) == (before, [], [])
    poor = replace(gift("t5", group), amount=Amount("USD", 10**12))
    assert await code(store.write(give, poor, HOUSE, NOW)) == "insufficient_funds"
    assert await bob.texts(group) == []


async def test_over_the_interface_a_tip_that_is_sent_twice_is_one_and_is_told_with_its_message(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as room:
        ann, bob = room["ann"], room["bob"]
        await fill(room, "ann", "20.00")
        talk = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        await write(ann, talk, "hello", "t")
        answers = [await tip(room, talk, "once") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].content == answers[1].content
        page = await bob.ask("GET", f"/conversations/{talk}/messages")
        assert [message["kind"] for message in page["messages"]] == ["text", "tip"]
        assert page["messages"][1]["card"]["tip"] == answers[0].json()["id"]
        types = [event["type"] for event in (await bob.ask("GET", "/events?after=0"))["events"]]
        assert types.index("tip.created") < len(types)
        assert types.count("message.created") == 2
        await bob.ask("PUT", "/blocks/ann")
        assert (await tip(room, talk, "again")).json()["code"] == "account_unknown"


async def tip(room: Room, talk: str, key: str) -> Any:
    body = {
        "to": "bob",
        "amount": {"asset": "USD", "units": "500"},
        "context": {"kind": "conversation", "id": talk},
        "message": "For you",
    }
    headers = {"Authorization": f"Bearer {room['ann'].token}", "Idempotency-Key": key}
    return await room.site.http.post("/api/v1/tips", json=body, headers=headers)


async def fill(room: Room, name: str, amount: str) -> None:
    headers = {"Authorization": f"Bearer {await room.site.running.auth.admin_token()}"}
    body = {"name": name, "asset": "USD", "amount": amount}
    answer = await room.site.http.post("/api/v1/admin/ledger/deposits", json=body, headers=headers)
    assert answer.is_success, answer.text
