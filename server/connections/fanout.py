"""Writes what many connections are told in one call of compiled code; what one does not take waits in its outbox.

Only sockets without TLS on which nothing waits are among them, and they are looked up when it is written, so that what
a connection is sent stays in order, and who was cut off a moment before gets nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from media.io.fanout import NO_NUMBER, write_each

if TYPE_CHECKING:
    from server.connections.framing import Framing
    from server.connections.outbox import SocketOutbox
    from signalling.ports import Outbox
    from signalling.wire.messages import Bundle, Encoded, Encoding

Rows = npt.NDArray[np.int64]
LEAST = 8  # connections: preparing the arrays takes as long as some writes
FIRST_ROWS = 1024  # of connections; twice as many whenever they are full
BUSY = -1  # instead of a descriptor: something waits on this connection, or it is named a second time


class Fanout:
    """Implements `signalling.ports.Fanout` for `SocketOutbox`.

    What it makes for each of thousands are numbers: anything else would set off the collector in the middle of them.
    """

    def __init__(self) -> None:
        self.calls = self.copies = self.queued = 0
        self.generation = 0  # rises when a row may become another's: whoever keeps rows looks them up anew
        self._fds = np.full(FIRST_ROWS, BUSY, dtype=np.int32)
        self._free = list(range(FIRST_ROWS))

    def counters(self) -> dict[str, int]:
        """How many calls wrote how many copies, and how many of these were not taken whole, by name."""
        return {"fanout_calls": self.calls, "fanout_copies": self.copies, "fanout_queued": self.queued}

    def seat(self, fd: int) -> int:
        """Return a row for a connection, of which it is noted to which socket may be written just now."""
        if not self._free:
            rows = len(self._fds)
            self._fds = np.concatenate((self._fds, np.full(rows, BUSY, dtype=np.int32)))
            self._free = list(range(rows, 2 * rows))
        row = self._free.pop()
        self._fds[row] = fd
        return row

    def note(self, row: int, fd: int) -> None:
        """Write to this socket, or not at all (BUSY), for a row."""
        self._fds[row] = fd

    def unseat(self, row: int) -> None:
        """Take a connection's row back."""
        self._fds[row] = BUSY
        self._free.append(row)
        self.generation += 1

    def show_rows(
        self, encoding: Encoding, framing: Framing, shown: Sequence[tuple[Bundle, Rows]]
    ) -> Iterator[tuple[int, int, int | None]]:
        """Send each bundle to the connections in its rows, each of them named once.

        Returns who did not take it whole: which bundle, which of its rows, and how much was taken, minus an error's
        number where there was one, None where something waits already.
        """
        frames = [bundle.framed(encoding, framing) for bundle, _ in shown]
        counts = [len(rows) for _, rows in shown]
        lengths = np.array([len(frame) for frame in frames], dtype=np.int64)
        starts, sizes = np.repeat(np.cumsum(lengths) - lengths, counts), np.repeat(lengths, counts)
        fds = self._fds[np.concatenate([rows for _, rows in shown])]
        ends = np.cumsum(counts)
        for row, taken in self._write(fds, starts, sizes, sizes, b"".join(frames), (NO_NUMBER, 0)):
            which = int(np.searchsorted(ends, row, side="right"))
            yield which, row - int(ends[which]) + counts[which], taken

    def tell(self, encoding: Encoding, event: Encoded, outboxes: Sequence[Outbox], numbers: Sequence[int]) -> None:
        """Send each connection its copy of an event, under a number of its own."""
        sockets = cast("Sequence[SocketOutbox]", outboxes)  # nobody else names a Fanout as what writes to it
        if len(sockets) < LEAST:
            for outbox, number in zip(sockets, numbers, strict=True):
                outbox.offer(event.frame(encoding, number))
            return
        framing, numbered = sockets[0].framing, event.numbered(encoding)
        frame = framing.message(numbered.data)
        counts = np.array(numbers, dtype=np.int64)
        starts, sizes = np.zeros_like(counts), np.full_like(counts, len(frame))
        at = len(frame) - len(numbered.data) + numbered.at
        for row, taken in self._write(_idle(sockets), starts, sizes, counts, frame, (at, numbered.width)):
            copy = event.frame(encoding, numbers[row])
            if taken is None:
                sockets[row].offer(copy)
            else:
                sockets[row].take_up(framing.message(copy), taken)

    def show(self, encoding: Encoding, shown: Sequence[tuple[Bundle, Sequence[Outbox]]]) -> None:
        """Send each bundle to its connections."""
        sockets = cast("list[SocketOutbox]", list(chain.from_iterable(outboxes for _, outboxes in shown)))
        if len(sockets) < LEAST:
            for bundle, outboxes in shown:
                for outbox in outboxes:
                    outbox.offer_all(bundle, encoding)
            return
        frames = [bundle.framed(encoding, sockets[0].framing) for bundle, _ in shown]
        counts = [len(outboxes) for _, outboxes in shown]
        lengths = np.array([len(frame) for frame in frames], dtype=np.int64)
        starts, sizes = np.repeat(np.cumsum(lengths) - lengths, counts), np.repeat(lengths, counts)
        which = np.repeat(np.arange(len(shown)), counts)
        for row, taken in self._write(_idle(sockets), starts, sizes, sizes, b"".join(frames), (NO_NUMBER, 0)):
            if taken is None:
                sockets[row].offer_all(shown[which[row]][0], encoding)
            else:
                sockets[row].take_up(frames[which[row]], taken)

    def show_newest(self, encoding: Encoding, event: Encoded, outboxes: Sequence[Outbox], key: str) -> None:
        """Send each connection an event, of which those that can't take it now get the newest of its key."""
        sockets, message = cast("Sequence[SocketOutbox]", outboxes), event.frame(encoding)
        if len(sockets) < LEAST:
            for outbox in sockets:
                outbox.offer(message, key=key)
            return
        frame = sockets[0].framing.message(message)
        starts, sizes = np.zeros(len(sockets), dtype=np.int64), np.full(len(sockets), len(frame), dtype=np.int64)
        for row, taken in self._write(_idle(sockets), starts, sizes, sizes, frame, (NO_NUMBER, 0)):
            if taken is None:
                sockets[row].offer(message, key=key)
            else:
                sockets[row].take_up(frame, taken, key)

    def _write(
        self,
        fds: npt.NDArray[np.int32],
        starts: Rows,
        sizes: Rows,
        numbers: Rows,
        frames: bytes,
        place: tuple[int, int],
    ) -> Iterator[tuple[int, int | None]]:
        """Write to each its part of `frames`; returns the rows that did not take it whole, and how much they took.

        That is minus an error's number where there was one, and None where it was not tried.
        """
        data, taken = np.frombuffer(bytearray(frames), dtype=np.uint8), np.empty_like(sizes)
        whole = write_each(fds, starts, sizes, numbers, taken, data, *place)
        self.calls += 1
        self.copies += whole
        self.queued += len(fds) - whole
        missing = np.flatnonzero(taken != sizes).tolist() if whole < len(fds) else []
        return ((row, None if fds[row] == BUSY else int(taken[row])) for row in missing)


def _idle(sockets: Sequence[SocketOutbox]) -> npt.NDArray[np.int32]:
    fds = [outbox.idle_fd for outbox in sockets]
    if len(set(fds)) < len(fds):
        met: set[int] = set()
        for row, fd in enumerate(fds):
            if fd in met:
                fds[row] = BUSY
            met.add(fd)
    return np.array(fds, dtype=np.int32)
