"""A TCP connection that knows what of it has not left yet, and can be ended so that it never does."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

import trio

SIOCOUTQNSD = 0x894B  # linux/sockios.h: what was written and not sent once; what waits for acknowledgement is not in it
# What the kernel takes beyond what it can send now, as Trio asks of it (TCP_NOTSENT_LOWAT): the rest stays where it can
# still be dropped.
UNSENT_BYTES = 16_384
READ_BYTES = 65_536  # at once
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger


def has_unsent(connection: trio.socket.SocketType) -> bool:
    """Whether the kernel holds something of a connection that has not left once."""
    return connection.fileno() >= 0 and any(fcntl.ioctl(connection.fileno(), SIOCOUTQNSD, bytes(4)))


def reset(connection: trio.socket.SocketType) -> None:
    """End a connection at once; nothing leaves any more but the reset itself."""
    if connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        connection.close()


class NothingYet(Exception):
    """Nothing has come, and whoever reads does not wait for it."""


class TcpStream(trio.abc.HalfCloseableStream):
    """A connected socket, alone or below TLS. After `expect`, `is_clear` says whether that has left the machine.

    While `waits` is unset, reading what has not come raises NothingYet, through TLS as well, and changes nothing there.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self.waits = True
        self._stream = stream
        self._expected = 0  # bytes that TLS still has before they come here
        self._left = 0  # bytes that the kernel has not taken

    def expect(self, size: int) -> None:
        """Count so many bytes as not sent from now on, until at least as many have been written."""
        self._expected = size

    @property
    def is_clear(self) -> bool:
        """Whether everything has left once: only its loss could have it leave again."""
        if self._expected or self._left:
            return False
        return not has_unsent(self.socket)

    def reset(self) -> None:
        """End the connection at once; nothing leaves any more but the reset itself, and every use of it raises."""
        reset(self.socket)

    # -- as a stream ---------------------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; raises BrokenResourceError when the peer has gone, ClosedResourceError after a close or reset."""
        # Trio's own yields between the kernel having taken bytes and saying so: a cut just then would find them unsent.
        with memoryview(data) as whole:
            self._left = len(whole)
            await trio.lowlevel.checkpoint()
            while self._left:
                if self.socket.fileno() < 0:
                    raise trio.ClosedResourceError
                try:
                    self._left -= os.write(self.socket.fileno(), whole[-self._left :])
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self.socket)
                except OSError as error:
                    raise trio.BrokenResourceError from error
            if len(whole) >= self._expected:
                self._expected = 0

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send no more."""
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what comes; raises NothingYet, BrokenResourceError and ClosedResourceError."""
        if self.waits:
            return await self._stream.receive_some(max_bytes)
        try:
            return os.read(self.socket.fileno(), max_bytes or READ_BYTES)
        except BlockingIOError:
            raise NothingYet from None
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()


def tcp_below(stream: trio.abc.Stream) -> TcpStream:
    """Return the connection below TLS. Raises TypeError when `stream` is neither that nor on top of it."""
    below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(below, TcpStream):
        raise TypeError(f"{type(below).__name__} can't say what has left")
    return below
