"""One at a time for each of many things: who begins something waits for who is about to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import trio

Key = TypeVar("Key", bound=Hashable)


class Turns(Generic[Key]):
    """A lock for each key, for as long as somebody wants it."""

    def __init__(self) -> None:
        self._locks: dict[Key, trio.Lock] = {}

    @asynccontextmanager
    async def of(self, key: Key) -> AsyncIterator[None]:
        """Wait for whoever came before."""
        lock = self._locks.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():  # it passes on to who waits without being open in between
                self._locks.pop(key, None)
