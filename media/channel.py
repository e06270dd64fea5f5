"""One open data channel of a WebRTC client, as those above media hold it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

EVENTS = "mesi.events"  # the label of the channel that says what a signalling socket does
WAITING = 64  # messages of a client that wait to be answered; a person makes a few requests


class Channel:
    """Text both ways. It ends with its transport, or by itself; then `receive` returns None and sending does nothing.

    `send`, `close` and `buffered` are what the methods of these names come down to.
    """

    def __init__(
        self,
        label: str,
        send: Callable[[bytes, str | None], None],
        close: Callable[[str], None],
        buffered: Callable[[], int],
    ) -> None:
        self.label = label
        self.closed: str | None = None
        self._send, self._close, self._buffered = send, close, buffered
        self._waiting: deque[bytes] = deque()
        self._stirred = trio.Event()

    def send(self, message: bytes, key: str | None = None) -> None:
        """Send, or queue in bounds; a client that does not read loses the channel."""
        if self.closed is None:
            self._send(message, key)

    def buffered(self) -> int:
        """Return how many bytes have not arrived yet, of all channels of its transport."""
        return 0 if self.closed is not None else self._buffered()

    def close(self, reason: str) -> None:
        """Let what was sent arrive, and end the channel."""
        if self.closed is None:
            self._close(reason)

    async def receive(self) -> bytes | None:
        """Return the next message of the client, None when there will be none."""
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self.closed is not None:
                return None
            self._stirred = trio.Event()
            await self._stirred.wait()
        return self._waiting.popleft()

    def deliver(self, message: bytes) -> bool:
        """Have a message received; False when too many wait."""
        if len(self._waiting) >= WAITING:
            return False
        self._waiting.append(message)
        self._stirred.set()
        return True

    def end(self, reason: str) -> None:
        """Note that the channel is closed; what waits is received no more."""
        self.closed = self.closed or reason
        self._waiting.clear()
        self._stirred.set()
