"""Watches connections that are silent, all of them together, so that none keeps a task while nobody says anything.

A task that waits for a socket takes six kilobytes, most of them frames of coroutines; an entry here takes a hundred
bytes.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import trio

AT_ONCE = 256  # connections woken before others have a turn

Wake = Callable[[], None]


class Heard(Enum):
    """What became of what a parked connection was sent."""

    ALL = 0  # nothing is left to do
    UNDER_WAY = 1  # something is being done; who does it says when there is to be listened again
    NEEDS_TASK = 2


class Parked(NamedTuple):
    """How a connection goes on: `hear` does without a task what can be done so, `wake` begins one."""

    hear: Callable[[], Heard]
    wake: Wake


class Parking:
    """The sockets that are watched, by their descriptors; `run` it in the nursery in which who is woken goes on."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._parked: dict[int, Parked] = {}
        self._woken = self._refused = self._heard = 0

    def counters(self) -> dict[str, int]:
        """How many are watched, were woken, did without, and could not be watched, by name."""
        return {
            "parked": len(self._parked),
            "parked_woken": self._woken,
            "parked_heard": self._heard,
            "parked_refused": self._refused,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake those to whom something is sent, until cancelled; then all, so that each can end in order."""
        with select.epoll() as epoll:
            self._epoll = epoll
            task_status.started()
            try:
                while True:
                    await trio.lowlevel.wait_readable(epoll.fileno())
                    for descriptor, _ in epoll.poll(0, AT_ONCE):
                        self._listen(descriptor)
            finally:
                for descriptor in tuple(self._parked):
                    self.wake(descriptor)
                self._epoll = None

    def park(self, descriptor: int, parked: Parked) -> None:
        """Have a connection go on when something can be read; woken at once where nobody watches.

        Raises OSError where the system watches no more.
        """
        if self._epoll is None:
            parked.wake()
            return
        try:
            self._watch(self._epoll, descriptor)
        except OSError:
            self._refused += 1
            raise
        self._parked[descriptor] = parked

    def go_on(self, descriptor: int, heard: Heard) -> None:
        """Do what is next for a connection of which that was heard; does nothing for one that is not parked."""
        if self._epoll is None or descriptor not in self._parked:
            return
        if heard is Heard.NEEDS_TASK:
            self.wake(descriptor)
        elif heard is Heard.ALL:
            self._heard += 1
            self._watch(self._epoll, descriptor)

    def _listen(self, descriptor: int) -> None:
        parked = self._parked.get(descriptor)
        if parked is not None:
            self.go_on(descriptor, parked.hear())

    def _watch(self, epoll: select.epoll, descriptor: int) -> None:
        # Told of once, it stays known until it is closed; that is for the system to notice.
        try:
            epoll.modify(descriptor, select.EPOLLIN | select.EPOLLONESHOT)
        except FileNotFoundError:
            epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def wake(self, descriptor: int) -> None:
        """Wake a connection now; does nothing for one that is not parked."""
        parked = self._parked.pop(descriptor, None)
        if parked is not None and self._epoll is not None:
            self._woken += 1
            parked.wake()
