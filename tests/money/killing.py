"""Kills a node at every step of what it does, and has a later one look at each disk that this can leave."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from signalling.refusals import Refused
from tests.money.mortal import Killed, MortalStore
from tests.money.small_nodes import SmallNode, open_node

Doing = Callable[[SmallNode], Awaitable[object]]


@dataclass
class Life:
    """What a node did until it was killed, or until it had answered."""

    steps: list[str]
    committed: list[str]
    answer: object
    asked: list[str]

    @property
    def left(self) -> tuple[object, ...]:
        """What a later node can know of it: times and random names aside."""
        return tuple(self.committed), len(self.asked), self.answer is None


class Killer:
    """Has things done on copies of one database."""

    def __init__(self, filled: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # In an order that is always the same, so that no step is met twice instead of another.
        monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        self._ready, self._path = folder / "ready", folder / "db"
        shutil.copy(filled, self._ready)

    async def kill_at_every_step(
        self, act: Doing, before: Sequence[Doing], look: Callable[[Life], Awaitable[None]]
    ) -> None:
        """Do it after what comes before, once for each step at which it may end, and look at what is left then."""
        for doing in before:
            await _live(self._ready, doing, 0, [])
        whole = await self._on_a_copy(act, 0)
        seen = set[object]()
        for dies_at in range(1, len(whole.steps) + 2):
            life = await self._on_a_copy(act, dies_at)
            assert life.steps == whole.steps[:dies_at]
            # A node that starts knows what is on the disk and nothing else, so each disk need be looked at once.
            if life.left in seen:
                continue
            seen.add(life.left)
            await look(life)
        assert len(seen) > 1

    async def live_on(self, act: Doing, asked: list[str]) -> Life:
        """Have the next node do something on the disk that the last one left."""
        return await _live(self._path, act, 0, asked)

    async def _on_a_copy(self, act: Doing, dies_at: int) -> Life:
        shutil.copy(self._ready, self._path)
        return await _live(self._path, act, dies_at, [])


async def _live(path: Path, act: Doing, dies_at: int, asked: list[str]) -> Life:
    """Do it on a node of its own, which may be killed."""
    trio._core._run._r.seed(0)
    store: MortalStore | None = None
    answer: object = None
    try:
        async with open_node(path, dies_at, asked) as node:
            store = node.store
            answer = await act(node)
            await trio.testing.wait_all_tasks_blocked()
    except (Killed, BaseExceptionGroup):
        if store is None or not store.is_dead:
            raise
    return Life(store.steps, store.committed, answer, asked)


async def code_of(doing: Awaitable[object]) -> object:
    """Return what is answered, or the code with which it is refused."""
    try:
        return await doing
    except Refused as refused:
        return refused.code
