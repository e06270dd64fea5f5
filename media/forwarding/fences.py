"""Fences: what is to happen once the forwarding thread has sent all that it decided before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from media.forwarding.tables import Shared, Tables


class Fences:
    """The fences of one thread, in order; `wake` has it look."""

    def __init__(self, tables: Tables, wake: Callable[[], None]) -> None:
        self._shared, self._wake = tables.shared, wake
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._is_ended = False

    def after(self, do: Callable[[], None]) -> None:
        """Do something when every batch begun before this call is out."""
        if self._is_ended:
            do()
            return
        number = int(self._shared[Shared.FENCE_ASKED]) + 1
        self._shared[Shared.FENCE_ASKED] = number
        self._waiting.append((number, do))
        self._wake()

    def look(self) -> None:
        """Do what waited for fences that the thread has passed."""
        done = int(self._shared[Shared.FENCE_DONE])
        while self._waiting and self._waiting[0][0] <= done:
            self._waiting.popleft()[1]()

    def end(self) -> None:
        """Do all that still waits: the thread has ended, and nothing is on its way any more."""
        self._is_ended = True
        while self._waiting:
            self._waiting.popleft()[1]()
