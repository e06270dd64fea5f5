"""Frames on their way to one connection: written at once while the socket takes them, queued in bounds when it doesn't.

A write that needs no task switch costs a tenth of one that does, and a broadcast is thousands of them. Over TLS, where
nothing can be written at once, everything goes through the queue.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

import structlog
import trio

from media.io.tcp import TcpStream
from server.connections.fanout import BUSY, Fanout
from server.connections.framing import Framing
from server.connections.parking import Heard, Parked, Parking
from signalling.wire.messages import Bundle, Encoding

MAX_FRAMES = 256  # queued; a reader that is so far behind is gone or hostile
MAX_BYTES = 262_144
CLOSING_S = 2.0  # for the last frames, once the connection is to end

# Why it ends without a close frame of this kind: the client has said one, the protocol has written one, or there is
# nobody left to read it.
CLIENTS_ENDS = ("closed_by_client", "protocol_error", "lost")
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError)

log = structlog.get_logger("socket")


@dataclass(slots=True)
class _Queued:
    """A frame that waits; `started` when a part of it is out."""

    data: bytes | memoryview
    key: str | None = None
    started: bool = False


class SocketOutbox:
    """Implements `signalling.ports.Outbox`; `nursery` must live at least until `stop` is called, and may be shared.

    `life` is cancelled when the connection should end: all is sent, or nothing more can be. It is another one
    after each time that the connection was parked, which it may be where the system watches the socket below.
    """

    __slots__ = (
        "_by_key",
        "_bytes",
        "_fd",
        "_flushing",
        "_nursery",
        "_parking",
        "_queue",
        "_stream",
        "_watched",
        "_write_timeout_s",
        "closed",
        "fanout",
        "framing",
        "life",
        "may_park",
        "row",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        framing: Framing,
        nursery: trio.Nursery,
        write_timeout_s: float,
        fanout: Fanout | None = None,
    ) -> None:
        self._stream, self.framing, self._nursery = stream, framing, nursery
        self._write_timeout_s = write_timeout_s
        self._fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        self.fanout = None if self._fd is None else fanout
        self.row = BUSY if self.fanout is None or self._fd is None else self.fanout.seat(self._fd)
        below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._watched = below.socket.fileno() if isinstance(below, trio.SocketStream | TcpStream) else None
        # Most connections never have a frame that waits: a list takes no memory until then.
        self._queue: list[_Queued] = []
        self._by_key: dict[str, _Queued] = {}
        self._bytes = 0
        self._flushing: trio.CancelScope | None = None
        self._parking: Parking | None = None
        self.may_park = self._watched is not None
        self.closed: str | None = None
        self.life = trio.CancelScope()

    def park(self, parking: Parking, parked: Parked) -> None:
        """Have the connection go on when something can be read, and woken when it should end."""
        assert self._watched is not None, "only sockets are parked"
        self.life, self._parking = trio.CancelScope(), parking
        try:
            parking.park(self._watched, parked)
        except OSError:
            self.may_park = False
            parked.wake()

    def go_on(self, heard: Heard) -> None:
        """Do what is next, when something is done that was under way while parked."""
        if self._parking is not None and self._watched is not None and self.closed is None:
            self._parking.go_on(self._watched, heard)

    def offer(self, frame: bytes, *, droppable: bool = False, key: str | None = None) -> None:
        """Send, or queue; does nothing once the connection is to end.

        A droppable frame is dropped rather than queued; of queued frames with one `key` only the newest is sent.
        """
        if self.closed is not None or (droppable and self._queue):
            return
        waiting = self._by_key.get(key) if key is not None else None
        data = self.framing.message(frame)
        if waiting is not None:
            self._bytes += len(data) - len(waiting.data)
            waiting.data = data
            return
        self._put(data, key)

    def offer_all(self, bundle: Bundle, encoding: Encoding) -> None:
        """Send, or queue, messages together: one write for all, and one place in the queue."""
        if self.closed is None:
            self._put(bundle.framed(encoding, self.framing), None)

    @property
    def idle_fd(self) -> int:
        """The socket to which a frame may be written just now; BUSY while something waits, over TLS, and at the end."""
        return BUSY if self._queue or self.closed is not None or self._fd is None else self._fd

    def _note(self) -> None:
        """Have it known whether a frame may be written just now."""
        if self.fanout is not None and self.row != BUSY:
            self.fanout.note(self.row, self.idle_fd)

    def take_up(self, data: bytes, taken: int, key: str | None = None) -> None:
        """Go on with frames of which the socket took so many bytes, or said minus an error's number."""
        if taken < 0 and -taken != errno.EAGAIN:
            self._give_up()
        else:
            self._queue_up(memoryview(data)[max(taken, 0) :], key, started=taken > 0)

    def waiting(self) -> int:
        """Return how many frames, or KiB, are queued, whichever is more."""
        return max(len(self._queue), self._bytes // 1024) if self._queue else 0

    def write(self, data: bytes) -> None:
        """Send, or queue, bytes that are frames already."""
        if self.closed is None:
            self._put(data, None)

    def close(self, reason: str) -> None:
        """Send what is queued and a close frame that says why, then end; a slow consumer gets the close frame alone."""
        if self.closed is not None:
            return
        if reason == "slow_consumer":
            self._clear()
        self._put(self.framing.close(reason), None)
        self._finish(reason)

    def end(self, reason: str) -> None:
        """Send what is queued, then end; for the reasons that need no close frame (CLIENTS_ENDS)."""
        if self.closed is None:
            self._finish(reason)

    async def farewell(self, reason: str) -> None:
        """Say why, and nothing else that is queued; for the end of the node, when `nursery` is cancelled already."""
        if self.closed is not None:
            return
        self.closed = reason
        self._note()
        if not self._queue:  # else half a frame may be out, and no other can follow
            await self._stream.send_all(self.framing.close(reason))

    def stop(self) -> None:
        """Write nothing more; for whoever closes the stream."""
        self.closed = self.closed or "lost"
        if self.fanout is not None and self.row != BUSY:
            self.fanout.unseat(self.row)
            self.row = BUSY
        if self._flushing is not None:
            self._flushing.cancel()

    def _finish(self, reason: str) -> None:
        self.closed = reason
        self._note()
        self.life.deadline = min(self.life.deadline, trio.current_time() + CLOSING_S)
        if not self._queue:
            self.life.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._parking is not None and self._watched is not None:
            self._parking.wake(self._watched)

    def _put(self, data: bytes, key: str | None) -> None:
        rest: bytes | memoryview = data
        if self._fd is not None and not self._queue:
            written = self._write_now(self._fd, data)
            if written == len(data):
                return
            rest = memoryview(data)[written:]
        self._queue_up(rest, key, started=len(rest) < len(data))

    def _queue_up(self, rest: bytes | memoryview, key: str | None, *, started: bool) -> None:
        queued = _Queued(rest, key, started)
        self._queue.append(queued)
        self._note()
        self._bytes += len(rest)
        if key is not None and not queued.started:
            self._by_key[key] = queued
        if self._flushing is None:
            self._flushing = trio.CancelScope()
            self._nursery.start_soon(self._flush, self._flushing)
        elif len(self._queue) > MAX_FRAMES or self._bytes > MAX_BYTES:
            self.close("slow_consumer")

    def _write_now(self, fd: int, data: bytes | memoryview) -> int:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            return 0
        except OSError:
            self._give_up()
            return len(data)

    async def _flush(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._write_queued()
        except BROKEN:
            self._give_up()
        except Exception as fault:
            log.error("outbox_fault", exc_info=fault)  # others write in the same nursery
            self._give_up()
        finally:
            self._flushing = None
        if self.closed is not None:
            self.life.cancel()

    async def _write_queued(self) -> None:
        while self._queue:
            head = self._queue[0]
            head.started = True
            self._by_key.pop(head.key or "", None)
            with trio.fail_after(self._write_timeout_s):
                sent = await self._send(head.data)
            if self._queue and self._queue[0] is head:
                self._bytes -= sent
                head.data = memoryview(head.data)[sent:]
                if not head.data:
                    del self._queue[0]
                    self._note()

    async def _send(self, data: bytes | memoryview) -> int:
        if self._fd is None:
            await self._stream.send_all(data)
            return len(data)
        await trio.lowlevel.wait_writable(self._fd)
        return self._write_now(self._fd, data)

    def _clear(self) -> None:
        self._queue = [queued for queued in self._queue if queued.started]
        self._by_key.clear()
        self._bytes = sum(len(queued.data) for queued in self._queue)
        self._note()

    def _give_up(self) -> None:
        self._queue.clear()
        self._by_key.clear()
        self.closed = self.closed or "lost"
        self._note()
        self.life.cancel()
        self._wake()
