"""Fences: what is to happen once every worker has sent all that it decided before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from media.forwarding.tables import Shared, Tables


class Fences:
    """The fences of all workers, in order; `wake` has them look."""

    def __init__(self, workers: Sequence[Tables], wake: Callable[[], None]) -> None:
        self._cells, self._wake = [tables.shared for tables in workers], wake
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._asked = 0
        self._is_ended = False

    def after(self, do: Callable[[], None]) -> None:
        """Do something when every batch begun before this call is out, whichever worker's."""
        if self._is_ended:
            do()
            return
        self._asked += 1
        for shared in self._cells:
            shared[Shared.FENCE_ASKED] = self._asked
        self._waiting.append((self._asked, do))
        self._wake()

    def look(self) -> None:
        """Do what waited for fences that all workers have passed."""
        done = min(int(shared[Shared.FENCE_DONE]) for shared in self._cells)
        while self._waiting and self._waiting[0][0] <= done:
            self._waiting.popleft()[1]()

    def end(self) -> None:
        """Do all that still waits: the threads have ended, and nothing is on its way any more."""
        self._is_ended = True
        while self._waiting:
            self._waiting.popleft()[1]()
