"""Groups in the database: who comes, goes and leads, who reads what, and who is told of it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from server.talk import belonging, keeping
from server.talk.opening import Shape
from signalling.messenger import membership
from signalling.messenger.model import Role
from tests.money.databases import AnyStore
from tests.talk.people import Talker, code, people


def last_type(events: list[str]) -> str:
    return events[-1]


async def test_who_is_invited_reads_nothing_before_he_came_in_and_then_what_comes(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group()
    await ann.send(group, "before")
    await ann.invite(group, bob)
    assert await bob.list() == [group]
    assert (await bob.sees(group)).last is None
    assert await code(bob.texts(group)) == "not_in_conversation"
    assert await bob.hears_types() == ["conversation.invited"]
    await bob.join(group)
    assert (await bob.texts(group), await bob.unread(group)) == ([], 0)
    await ann.send(group, "after")
    assert (await bob.texts(group), await bob.unread(group)) == (["after"], 1)
    assert await bob.hears_types() == ["conversation.invited", "member.joined", "message.created"]


async def test_where_history_is_for_all_newcomers_read_it_and_none_of_it_is_unread(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group(history="all")
    await ann.send(group, "before")
    await ann.invite(group, bob)
    await bob.join(group)
    assert (await bob.texts(group), await bob.unread(group)) == (["before"], 0)


async def test_who_was_put_out_hears_that_and_nothing_more(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group = await ann.group(bob, eve)
    await ann.send(group, "all of you")
    await ann.remove(group, bob)
    await ann.send(group, "the rest of you")
    heard = await bob.hears()
    assert (heard[-1][1].type, heard[-1][1].fields["account"]) == ("member.left", "bob")
    assert "the rest" not in str(heard)
    for doing in (bob.send(group, "wait"), bob.texts(group), bob.mark(group, 2), bob.edit(group, 1, "x")):
        assert await code(doing) == "not_in_conversation"
    assert await bob.finds("rest") == []
    assert (await eve.sees(group)).members == 2
    assert await bob.list() == []
    await ann.invite(group, bob)
    await bob.join(group)
    await ann.send(group, "again")
    assert await bob.texts(group) == ["again"]
    told = [event.fields["message"]["text"] for _, event in await bob.hears() if event.type == "message.created"]
    assert told == ["all of you", "again"]


async def test_a_group_that_all_have_left_has_ended_also_for_who_was_asked_to_come(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group = await ann.group(bob, joining="open")
    await ann.invite(group, eve)
    assert await eve.list() == [group]
    await bob.leave(group)
    await ann.leave(group)
    assert await eve.list() == []
    for person in (ann, bob, eve):
        assert await code(person.join(group)) == "conversation_unknown"


async def test_a_ban_keeps_out_until_it_is_taken_back(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group(bob, joining="open")
    await ann.remove(group, bob, ban=True)
    assert await code(bob.join(group)) == "conversation_unknown"
    assert await code(ann.invite(group, bob)) == "member_banned"
    await store.write(belonging.pardon, ann.doing(group), "bob")
    assert await code(bob.join(group)) == "done"


async def test_who_asks_is_let_in_by_who_leads(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group = await ann.group(eve, joining="asked")
    await bob.join(group)
    assert await code(bob.texts(group)) == "not_in_conversation"
    assert last_type(await ann.hears_types()) == "conversation.asked"
    assert "conversation.asked" not in await eve.hears_types()
    await ann.invite(group, bob)
    assert await code(bob.send(group, "thanks")) == "done"
    closed = await ann.group(id="c_closed")
    assert await code(bob.join(closed)) == "conversation_unknown"


async def test_invitations_are_turned_down_and_taken_back(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group()
    await ann.invite(group, bob)
    assert await code(ann.invite(group, bob)) == "member_exists"
    await bob.leave(group)
    assert (await bob.list(), await code(bob.join(group))) == ([], "conversation_unknown")
    await ann.invite(group, bob)
    await ann.remove(group, bob)
    assert await code(bob.join(group)) == "conversation_unknown"
    assert await code(ann.remove(group, bob)) == "member_unknown"


async def test_nobody_is_invited_by_whom_he_blocked_and_neither_by_who_blocked_him(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group = await ann.group()
    await bob.block(ann)
    await ann.block(eve)
    for name in ("bob", "eve", "nobody"):
        assert await code(store.write(belonging.invite, ann.doing(group), name)) == "account_unknown"


async def test_whom_a_leader_blocked_finds_no_group_that_is_open(store: AnyStore) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    group = await ann.group(eve, joining="open")
    await ann.block(bob)
    assert await code(bob.join(group)) == "conversation_unknown"
    await ann.unblock(bob)
    await bob.block(eve)
    assert await code(bob.join(group)) == "done", "she does not lead it"


async def test_roles_say_who_may_what(store: AnyStore) -> None:
    ann, bob, eve, joe = await people(store, "ann", "bob", "eve", "joe")
    group = await ann.group(bob, eve, joe)
    assert await code(bob.remove(group, eve)) == "not_admin"
    await ann.give_role(group, bob, Role.ADMIN)
    await ann.give_role(group, eve, Role.ADMIN)
    assert await code(bob.remove(group, eve)) == "outranked", "two who lead do not put each other out"
    assert await code(bob.give_role(group, joe, Role.ADMIN)) == "outranked"
    await bob.give_role(group, joe, Role.READER)
    assert await code(joe.send(group, "may I?")) == "read_only"
    await joe.mark(group, 1)
    await ann.send(group, "a rude word")
    await bob.erase(group, 1)
    assert await code(joe.erase(group, 1)) == "message_erased"
    await store.write(belonging.change_shape, ann.doing(group), Shape("News", posting="admins"))
    await bob.give_role(group, joe, Role.MEMBER)
    assert await code(joe.send(group, "and now?")) == "read_only"
    assert await code(bob.send(group, "I may")) == "done"
    assert await code(ann.give_role(group, ann, Role.MEMBER)) == "last_owner"
    await ann.give_role(group, bob, Role.OWNER)
    assert [(await who.sees(group)).mine.role for who in (ann, bob)] == ["admin", "owner"]


async def test_who_only_reads_gets_no_more_by_going_and_coming_back(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group(bob, joining="open")
    await ann.give_role(group, bob, Role.READER)
    await bob.leave(group)
    await bob.join(group)
    assert await code(bob.send(group, "hello")) == "read_only"


async def test_who_leaves_as_the_owner_is_followed_by_an_admin_and_then_the_eldest(store: AnyStore) -> None:
    ann, bob, eve, joe = await people(store, "ann", "bob", "eve", "joe")
    group = await ann.group(bob)
    for who in (eve, joe):
        ann.now = who.now = ann.now + 1
        await ann.invite(group, who)
        await who.join(group)
    await ann.give_role(group, joe, Role.ADMIN)
    await ann.leave(group)
    assert (await joe.sees(group)).mine.role == "owner"
    await joe.leave(group)
    assert [(await who.sees(group)).mine.role for who in (bob, eve)] == ["owner", "member"]
    await bob.leave(group)
    await eve.leave(group)
    assert await code(eve.send(group, "anybody?")) == "not_in_conversation"


async def test_a_suspended_owner_is_followed_too(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group(bob)
    await store.write(
        lambda connection: connection.exec_driver_sql("INSERT INTO account_facts VALUES ('ann', TRUE, 0)")
    )
    assert await store.write(belonging.succeed_suspended, ann.now, 10) == 1
    assert [(await who.sees(group)).mine.role for who in (ann, bob)] == ["member", "owner"]
    assert await store.write(belonging.succeed_suspended, ann.now, 10) == 0


async def test_a_group_has_a_thousand_members_and_one_row_for_what_is_written(store: AnyStore) -> None:
    ann, late = await people(store, "ann", "late")
    group = await ann.group(joining="open", history="all")

    def seat(connection: sa.Connection) -> None:
        for number in range(998):
            name = f"m{number:03}"
            connection.exec_driver_sql(
                f"INSERT INTO accounts (id, name, folded, created_at) VALUES ('{name}', '{name}', '{name}', 0)"
            )
            belonging.join(connection, Talker(store, name).doing(group))  # type: ignore[arg-type]

    await store.write(seat)
    await late.join(group)
    before = await store.read(count_rows)
    await ann.send(group, "to all of you")
    after = await store.read(count_rows)
    grown = {table: after[table] - before[table] for table in before}
    assert grown == {"messages": 1, "event_log": 1, "event_audience": 1, "conversation_members": 0, "event_parties": 0}
    m500, outside = Talker(store, "m500"), Talker(store, "m999")  # type: ignore[arg-type]
    assert (await m500.unread(group), (await m500.hears())[-1][1].fields["message"]["text"]) == (1, "to all of you")
    await store.write(
        lambda connection: connection.exec_driver_sql(
            "INSERT INTO accounts (id, name, folded, created_at) VALUES ('m999', 'm999', 'm999', 0)"
        )
    )
    assert await code(outside.join(group)) == "too_many_members"


def count_rows(connection: sa.Connection) -> dict[str, int]:
    tables = ("messages", "event_log", "event_audience", "conversation_members", "event_parties")
    return {table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in tables}


async def test_what_is_older_than_a_group_keeps_it_is_gone_at_once_and_dropped_soon(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    group = await ann.group(bob, keep_s=60)
    await ann.send(group, "old words")
    await bob.react(group, 1, "👍")
    ann.now += 30_000
    await ann.send(group, "newer words")
    for who in (ann, bob):
        who.now = ann.now + 30_000 if who is ann else who.now + 60_000
    assert (await bob.texts(group), await bob.unread(group), await bob.finds("words")) == (
        ["newer words"],
        1,
        ["newer words"],
    )
    assert await store.write(keeping.drop_old, bob.now, 10) == 1
    assert await store.write(keeping.drop_old, bob.now, 10) == 0
    left = await store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM message_reactions").scalar_one())
    assert left == 0
    assert (await ann.send(group, "and on")).seq == 3, "numbers go on"


@pytest.mark.parametrize("kind", ["direct", "group"])
async def test_a_conversation_of_two_is_not_left_and_nobody_leads_it(store: AnyStore, kind: str) -> None:
    ann, bob, eve = await people(store, "ann", "bob", "eve")
    talk = await (ann.direct("bob") if kind == "direct" else ann.group(bob))
    await ann.send(talk, "hello")
    told = {await code(doing) for doing in (bob.leave(talk),)} | {await code(ann.invite(talk, eve))}
    assert told == ({"not_a_group"} if kind == "direct" else {"done"})
    assert membership.MAX_MEMBERS == 1000
