"""Looks that several share: each sees what is there after it asked, and nobody waits for who has gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio
import trio.testing

from server.database.gathered import AT_ONCE, Gathered


class Source:
    """What is looked at: a number that rises, and looks that take until they are let go on."""

    def __init__(self) -> None:
        self.now = 0
        self.looks: list[list[str]] = []
        self.go_on = trio.Semaphore(0)
        self.failure: Exception | None = None
        self.gathered: Gathered[str, int] = Gathered(self.look)
        self.told: dict[str, int] = {}

    async def look(self, keys: Sequence[str]) -> Mapping[str, int | Exception]:
        self.looks.append(sorted(keys))
        seen = self.now
        await self.go_on.acquire()
        if self.failure is not None:
            raise self.failure
        return {key: KeyError(key) if key == "bad" else seen for key in keys}

    async def ask(self, key: str) -> None:
        self.told[key] = await self.gathered.ask(key)


async def test_who_asks_during_a_look_shares_the_next_one_and_is_told_what_is_new() -> None:
    source = Source()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.ask, "a")
        await trio.testing.wait_all_tasks_blocked()
        source.now = 1
        for key in ("b", "c", "d"):
            nursery.start_soon(source.ask, key)
        await trio.testing.wait_all_tasks_blocked()
        source.go_on.release()
        source.go_on.release()
    assert source.looks == [["a"], ["b", "c", "d"]]
    assert source.told == {"a": 0, "b": 1, "c": 1, "d": 1}
    assert source.gathered.looks == 2


async def test_what_is_wrong_with_one_is_raised_to_that_one_alone() -> None:
    source = Source()
    wrong: list[str] = []

    async def ask_wrongly() -> None:
        try:
            await source.gathered.ask("bad")
        except KeyError:
            wrong.append("bad")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.ask, "first")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(source.ask, "a")
        nursery.start_soon(ask_wrongly)
        await trio.testing.wait_all_tasks_blocked()
        source.go_on.release()
        source.go_on.release()
    assert source.looks == [["first"], ["a", "bad"]]
    assert source.told == {"first": 0, "a": 0}
    assert wrong == ["bad"]


async def test_a_look_that_fails_fails_all_of_it_and_no_later_one() -> None:
    source = Source()
    source.failure = OSError("the disk is gone")
    failed: list[str] = []

    async def ask(key: str) -> None:
        try:
            await source.gathered.ask(key)
        except OSError:
            failed.append(key)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "a")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, "b")
        nursery.start_soon(ask, "c")
        await trio.testing.wait_all_tasks_blocked()
        source.go_on.release()
        source.go_on.release()
    assert sorted(failed) == ["a", "b", "c"]
    source.failure = None
    source.go_on.release()
    assert await source.gathered.ask("a") == 0


async def test_when_the_first_of_several_goes_the_others_are_told_all_the_same() -> None:
    source = Source()

    async def go(scope: trio.CancelScope) -> None:
        with scope:
            await source.ask("gone")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.ask, "a")
        await trio.testing.wait_all_tasks_blocked()
        scope = trio.CancelScope()
        nursery.start_soon(go, scope)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(source.ask, "b")
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            source.go_on.release()
    assert source.told == {"a": 0, "b": 0}


async def test_a_look_is_for_so_many_at_most() -> None:
    source = Source()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.ask, "first")
        await trio.testing.wait_all_tasks_blocked()
        for number in range(AT_ONCE + 10):
            nursery.start_soon(source.ask, str(number))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            source.go_on.release()
    assert [len(look) for look in source.looks] == [1, AT_ONCE, 10]
    assert len(source.told) == AT_ONCE + 11
