"""Looks once for all who ask at the same time: a look into the database costs a hop between threads, however short.

Whoever asks while a look is on its way waits for the next one, so that nobody is answered with what was before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

AT_ONCE = 256  # keys in one look: some milliseconds; the rest has the next


class _Batch(Generic[K, V]):
    """Who asks together, and what they are told; `found` stays None when their look was never made."""

    def __init__(self) -> None:
        self.keys: dict[K, None] = {}
        self.done = trio.Event()
        self.found: Mapping[K, V | Exception] | None = None
        self.failure: Exception | None = None


class Gathered(Generic[K, V]):
    """Answers by key through `look`, which returns a value, or what to raise, for each of several keys."""

    def __init__(self, look: Callable[[Sequence[K]], Awaitable[Mapping[K, V | Exception]]]) -> None:
        self._look = look
        self._coming: _Batch[K, V] | None = None
        self._turn = trio.Lock()
        self.asked = self.looks = 0

    async def ask(self, key: K) -> V:
        """Return what a look says that begins from now on. Raises what it says for the key, or what it raises."""
        self.asked += 1
        while True:
            batch = await self._join(key)
            if batch.failure is not None:
                raise batch.failure
            if batch.found is not None:
                found = batch.found[key]
                if isinstance(found, Exception):
                    raise found
                return found

    async def _join(self, key: K) -> _Batch[K, V]:
        """Wait for a look; the first to ask makes it, and when that one is cancelled before, the others ask again."""
        batch = self._coming
        if batch is not None and len(batch.keys) < AT_ONCE:
            batch.keys[key] = None
            await batch.done.wait()
            return batch
        batch = self._coming = _Batch[K, V]()
        batch.keys[key] = None
        try:
            async with self._turn:
                self._leave(batch)
                self.looks += 1
                batch.found = await self._look(list(batch.keys))
        except Exception as error:
            batch.failure = error
        finally:
            self._leave(batch)
            batch.done.set()
        return batch

    def _leave(self, batch: _Batch[K, V]) -> None:
        if self._coming is batch:
            self._coming = None
