"""Watches connections that are silent, all of them together, so that none keeps a task while nobody says anything.

A task that waits for a socket takes six kilobytes, most of them frames of coroutines; an entry here takes a hundred
bytes.
"""

from __future__ import annotations

import select
from collections.abc import Callable

import trio

AT_ONCE = 256  # connections woken before others have a turn

Wake = Callable[[], None]


class Parking:
    """The sockets that are watched, by their descriptors; `run` it in the nursery in which who is woken goes on."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._wake: dict[int, Wake] = {}
        self._woken = self._refused = 0

    def counters(self) -> dict[str, int]:
        """How many are watched, were woken, and could not be watched, by name."""
        return {"parked": len(self._wake), "parked_woken": self._woken, "parked_refused": self._refused}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake those to whom something is sent, until cancelled; then all, so that each can end in order."""
        with select.epoll() as epoll:
            self._epoll = epoll
            task_status.started()
            try:
                while True:
                    await trio.lowlevel.wait_readable(epoll.fileno())
                    for descriptor, _ in epoll.poll(0, AT_ONCE):
                        self.wake(descriptor)
            finally:
                for descriptor in tuple(self._wake):
                    self.wake(descriptor)
                self._epoll = None

    def park(self, descriptor: int, wake: Wake) -> None:
        """Have `wake` called, once, when something can be read; at once where nobody watches.

        Raises OSError where the system watches no more.
        """
        if self._epoll is None:
            wake()
            return
        try:
            self._watch(self._epoll, descriptor)
        except OSError:
            self._refused += 1
            raise
        self._wake[descriptor] = wake

    def _watch(self, epoll: select.epoll, descriptor: int) -> None:
        # Told of once, it stays known until it is closed; that is for the system to notice.
        try:
            epoll.modify(descriptor, select.EPOLLIN | select.EPOLLONESHOT)
        except FileNotFoundError:
            epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def wake(self, descriptor: int) -> None:
        """Wake a connection now; does nothing for one that is not parked."""
        wake = self._wake.pop(descriptor, None)
        if wake is not None and self._epoll is not None:
            self._woken += 1
            wake()
