"""The service between the database and the rooms: no change is missed on the way in, and what is unknown is out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from server.access.standing import Bench, judge_all, judge_each
from server.database.store import StoreFailed
from signalling.identifiers import AccountId
from tests.access.test_access_node import Show, open_show
from tests.server.nodes import Person
from tests.server.test_node import wait_until


async def set_rule(show: Show, rule: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {show.ann.token}", "If-Match": "*"}
    path = f"/api/v1/streams/{show.stream}/rules"
    answer = await show.site.http.put(path, json={"watch": rule}, headers=headers)
    assert answer.is_success, answer.text


async def test_who_unfollows_while_being_let_in_is_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        await bob.ask("PUT", "/follows/ann")
        store = show.site.running.access._store
        read, seen, go_on = store.read, trio.Event(), trio.Event()

        async def slow_read(work: Any, *arguments: Any) -> Any:
            found = await read(work, *arguments)
            if work is judge_each and not seen.is_set():
                seen.set()
                await go_on.wait()
            return found

        monkeypatch.setattr(store, "read", slow_read)
        refused: list[str] = []

        async def come_in(person: Person) -> None:
            refused.append(await show.refused(person))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_in, bob)
            await seen.wait()
            await bob.ask("DELETE", "/follows/ann")
            go_on.set()
        assert refused == ["not_entitled"]


async def test_while_the_database_does_not_answer_whoever_is_in_doubt_is_out_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_show(tmp_path) as show:
        bob, eve, joe = [await show.site.person(name) for name in ("bob", "eve", "joe")]
        for person in (bob, eve):
            await person.ask("PUT", "/follows/ann")
        bobs, eves, socket = await show.watch(bob), await show.watch(eve), await show.socket(bob)
        access = show.site.running.access
        read, broken = access._store.read, [True]

        async def failing_read(work: Any, *arguments: Any) -> Any:
            if work in (judge_all, judge_each) and broken:
                raise StoreFailed("the disk is gone")
            return await read(work, *arguments)

        monkeypatch.setattr(access._store, "read", failing_read)
        await show.ann.ask("PUT", "/subscribers/bob", {"tier": 1})
        await show.sees_nothing_more(bobs)
        assert (await socket.wait_for("access.revoked"))["reason"] == "access_unavailable"
        assert await show.refused(joe) == "access_unavailable"
        await show.sees(eves)
        assert access.failures >= 1
        broken.clear()
        assert (await socket.wait_for("access.granted"))["via"]
        await show.sees(await show.watch(bob))


async def test_tips_count_and_a_refund_takes_the_right_away(tmp_path: Path) -> None:
    given: dict[str, list[int]] = {}

    class Table:
        """Tips by sender, as a ledger would tell of them."""

        def total(
            self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
        ) -> int:
            return sum(given.get(sender, [])) if asset == "USD" else 0

        def largest(
            self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
        ) -> int:
            return max(given.get(sender, [0]))

    async with open_show(tmp_path) as show:
        access, bob = show.site.running.access, await show.site.person("bob")
        access._bench = Bench((), Table())
        hundred = {"asset": "USD", "units": "100"}
        await set_rule(show, {"type": "tips_total", "at_least": hundred})
        given[bob.id] = [25, 25]
        ways = (await bob.ask("GET", f"/streams/{show.stream}/entitlement"))["ways"]
        assert ways["short"] == {"asset": "USD", "units": "50"}
        assert await show.refused(bob) == "not_entitled"
        given[bob.id].append(50)
        bobs = await show.watch(bob)
        await show.sees(bobs)
        given[bob.id].pop()
        await access.changed_between(AccountId(bob.id), AccountId(show.ann.id))
        await show.sees_nothing_more(bobs)
        given[bob.id].append(50)
        await set_rule(show, {"type": "single_tip", "at_least": hundred})
        assert await show.refused(bob) == "not_entitled"


async def test_a_ticket_can_be_a_rule_too_and_counts_at_once(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        await set_rule(show, {"type": "all_of", "of": [{"type": "ticket"}, {"type": "follows"}]})
        await bob.ask("PUT", "/follows/ann")
        socket = await show.socket(bob)
        await show.ann.ask("PUT", f"/streams/{show.stream}/tickets/bob")
        assert (await socket.wait_for("access.granted"))["via"] == "ticket+follows"
        bobs = await show.watch(bob)
        await show.sees(bobs)
        await show.ann.ask("DELETE", f"/streams/{show.stream}/tickets/bob")
        await show.sees_nothing_more(bobs)


async def test_a_follower_of_a_minimum_age_is_let_in_when_it_comes(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        await set_rule(show, {"type": "follows", "min_age_s": 2})
        await bob.ask("PUT", "/follows/ann")
        socket = await show.socket(bob)
        assert (await socket.wait_for("stream.state"))["you"]["reason"] == "not_entitled"
        assert (await socket.wait_for("access.granted"))["via"] == "follows"


async def test_the_timetable_forgets_who_left_and_does_not_grow_with_returns(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        access, bob = show.site.running.access, await show.site.person("bob")
        await show.ann.ask("PUT", "/subscribers/bob", {"tier": 1, "expires_s": 3600})
        for _ in range(5):
            socket = await show.socket(bob)
            await socket.ask("leave", stream=show.stream)
            await wait_until(lambda: not show.site.running.rooms.streams_with(AccountId(bob.id)))
        assert len(access._due) >= 5
        access._tidy()
        assert access._due == []
