"""Messages off one connection: whole, in order, and no faster than a client may send.

Off a WebSocket they are checked as RFC 6455 asks; off a stream of QUIC each has its length in front.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import Literal, Protocol

import trio
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import State

from media.io.tcp import NothingYet, TcpStream
from media.moq.carriers.byte_session import ByteSession, TooMuchUnread
from media.moq.protocol.varint import peek_varint_untrusted
from server.connections.outbox import SocketOutbox
from server.connections.plain_frames import TEXT, head_untrusted, payload
from signalling.wire.messages import MAX_MESSAGE_BYTES

FRAMES_PER_S = 50.0  # of one connection, pings among them; a person makes a few requests
BURST = 200.0
RECEIVE_BYTES = 65_536
PING = Frame(Opcode.PING, b"").serialize(mask=False)


class Silence(Enum):
    """That nothing has come yet, or that the socket has to be read to know."""

    SILENCE = 0
    UNREAD = 1


SILENCE: Literal[Silence.SILENCE] = Silence.SILENCE
UNREAD: Literal[Silence.UNREAD] = Silence.UNREAD
Taken = bytes | Literal[Silence.SILENCE] | None


class Inbox(Protocol):
    """Where a connection's messages come from."""

    @property
    def heard_at(self) -> float:
        """When the client last showed that it is there (s of Trio's clock)."""

    @property
    def ended(self) -> str:
        """Why there are no more messages: one of server.connections.outbox.CLIENTS_ENDS."""

    def ping(self) -> None:
        """Have the client show that it is there."""

    def hear(self) -> Taken:
        """Do what `take` does, without a task; None also where that takes one."""

    def give_back(self, message: bytes) -> None:
        """Have a message that was heard taken once more."""

    async def take(self) -> Taken:
        """Return the next message of what has come, None when there will be none. Raises BrokenResourceError."""

    async def next(self) -> bytes | None:
        """Return the next message, None when there will be none. Raises BrokenResourceError."""


class Pace:
    """How many frames a client may still send: BURST at once, FRAMES_PER_S in the long run."""

    def __init__(self) -> None:
        self._allowance, self._earned_at = BURST, trio.current_time()

    def spend(self, now: float) -> bool:
        """Take one, at `now` of Trio's clock; False when there is none left."""
        self._allowance = min(BURST, self._allowance + (now - self._earned_at) * FRAMES_PER_S)
        self._earned_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


class SocketInbox:
    """Reads a WebSocket whose handshake is done; `early` is what came right behind it.

    `heard_at` is when the client last sent something (s of Trio's clock). What the protocol has to answer, such as
    pongs, goes through `outbox`.
    """

    def __init__(
        self, stream: trio.abc.Stream, protocol: WebSocketProtocol, outbox: SocketOutbox, early: bytes
    ) -> None:
        self._stream, self._protocol, self._outbox, self._early = stream, protocol, outbox, early
        self._fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        below = stream.transport_stream if isinstance(stream, trio.SSLStream) else None
        self._below_tls = below if isinstance(below, TcpStream) else None
        self._is_text = False
        self._is_drained = False  # the last read took all; what has come since wakes whoever waits for it
        self._held = b""  # the beginning of a frame
        self._owed = 0  # bytes of a frame of which the protocol has the beginning
        self._parts: list[bytes] = []
        self._ready: list[bytes] = []
        self._pace = Pace()
        self.heard_at = trio.current_time()

    @property
    def ended(self) -> str:
        """Why there are no more messages: one of server.connections.outbox.CLIENTS_ENDS."""
        if self._protocol.close_rcvd is not None:
            return "closed_by_client"
        return "lost" if self._protocol.close_sent is None else "protocol_error"

    def ping(self) -> None:
        """Have the client show that it is there."""
        self._outbox.write(PING)

    async def take(self) -> Taken:
        """Return the next message of what has come, None when there will be none. Raises BrokenResourceError."""
        while (message := self._at_hand()) is UNREAD:
            came = self._early or await self._read()
            self._early = b""
            if came is None:
                return SILENCE
            self._feed(came)
        return message

    def hear(self) -> Taken:
        """Do what `take` does, without a task; None also where that takes one."""
        if self._fd is None:
            return None
        try:
            while (message := self._at_hand()) is UNREAD:
                came = self._read_socket(self._fd)
                if came is None:
                    return SILENCE
                self._feed(came)
        except trio.BrokenResourceError:
            return None  # the task that looks will meet it
        return message

    def give_back(self, message: bytes) -> None:
        """Have a message that was heard taken once more."""
        self._ready.insert(0, message)

    def _at_hand(self) -> Taken | Literal[Silence.UNREAD]:
        if self._outbox.closed is not None:
            return None
        if self._ready:
            return self._ready.pop(0)
        if self._protocol.state is not State.OPEN:
            return None
        if self._is_drained:
            self._is_drained = False
            return SILENCE
        return UNREAD

    async def next(self) -> bytes | None:
        """Return the next message, None when there will be none. Raises BrokenResourceError."""
        while (message := await self.take()) is SILENCE:
            self._feed(await self._stream.receive_some(RECEIVE_BYTES))
        return message

    async def _read(self) -> bytes | None:
        """Read what is there, None where nothing is; only with a socket below can that be told."""
        if self._below_tls is not None:
            return await self._read_through_tls(self._below_tls)
        return None if self._fd is None else self._read_socket(self._fd)

    def _read_socket(self, fd: int) -> bytes | None:
        try:
            came = os.read(fd, RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError from error
        self._is_drained = 0 < len(came) < RECEIVE_BYTES
        return came

    async def _read_through_tls(self, below: TcpStream) -> bytes | None:
        below.waits = False
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except NothingYet:
            return None
        finally:
            below.waits = True

    def _feed(self, data: bytes | bytearray) -> None:
        self.heard_at = trio.current_time()
        if data:
            self._held = self._split(self._held + data)
        else:
            self._protocol.receive_data(self._held)
            self._protocol.receive_eof()
            self._follow_protocol()

    def _split(self, data: bytes) -> bytes:
        """Take the frames that are there; returns the beginning of one that is not there as a whole.

        Between two frames messages are read here; the protocol is given all others, and what the client says while it
        puts one together.
        """
        at = min(self._owed, len(data))
        if at:
            self._owed -= at
            self._give_protocol(data[:at])
        while at < len(data) and self._outbox.closed is None:
            head = head_untrusted(data, at)
            if head is None:
                return data[at:]
            if head.is_plain(MAX_MESSAGE_BYTES) and not self._parts and self._protocol.state is State.OPEN:
                if head.end > len(data):
                    return data[at:]
                if self._spend():
                    self._end_message(payload(data, head), is_text=head.first == TEXT)
            else:
                self._owed = max(head.end - len(data), 0)
                self._give_protocol(data[at : head.end])
            at = head.end
        return b""

    def _give_protocol(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._follow_protocol()

    def _follow_protocol(self) -> None:
        for event in self._protocol.events_received():
            if not self._spend():
                return
            if isinstance(event, Frame):
                self._take(event)
        self._write_out()

    def _write_out(self) -> None:
        for out in self._protocol.data_to_send():
            if out:
                self._outbox.write(out)

    def _spend(self) -> bool:
        """Whether the client may send one more frame; else it is closed.

        That is before pongs are written: this is all that a flood of pings is answered with.
        """
        if self._pace.spend(self.heard_at):
            return True
        self._outbox.close("rate_limited")
        return False

    def _take(self, frame: Frame) -> None:
        # The protocol has checked their order and the size of the whole.
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            message = b"".join(self._parts)
            self._parts.clear()
            self._end_message(message, is_text=self._is_text)

    def _end_message(self, message: bytes, *, is_text: bool) -> None:
        if is_text and not _is_utf8(message):
            self._protocol.fail(CloseCode.INVALID_DATA, "text must be UTF-8")
            self._write_out()
        else:
            self._ready.append(message)


class StreamInbox:
    """Reads a session of QUIC's: each message follows its length, a varint (RFC 9000 section 16)."""

    def __init__(self, stream: ByteSession, outbox: SocketOutbox) -> None:
        self._stream, self._outbox = stream, outbox
        self._received = bytearray()
        self._pace = Pace()

    @property
    def heard_at(self) -> float:
        """When the client last sent or acknowledged something (s of Trio's clock)."""
        return self._stream.heard_at

    @property
    def ended(self) -> str:
        """Why there are no more messages: the client ended its half, within a message or after one."""
        return "protocol_error" if self._received else "closed_by_client"

    def ping(self) -> None:
        """Have the client show that it is there."""
        self._stream.ping()

    def hear(self) -> Taken:
        """Have a task look."""
        return None

    def give_back(self, message: bytes) -> None:
        """Have a message taken once more: nothing is heard without a task, so that there is none."""
        raise AssertionError("nothing was heard")

    async def next(self) -> bytes | None:
        """Return the next message, None when there will be none. Raises BrokenResourceError."""
        while (message := await self.take()) is SILENCE:
            try:
                part = await self._stream.receive_some(RECEIVE_BYTES)
            except TooMuchUnread:
                self._outbox.close("rate_limited")
                return None
            if not part:
                return None
            self._received += part
        return message

    async def take(self) -> Taken:
        """Return the next message of what has come, None when there will be none."""
        if self._outbox.closed is not None:
            return None
        found = peek_varint_untrusted(self._received, 0)
        if found is None:
            return SILENCE
        size, begin = found
        if size > MAX_MESSAGE_BYTES:
            # Not worth waiting for: where the next message begins is as far away.
            self._outbox.close("malformed")
            return None
        if len(self._received) < begin + size:
            return SILENCE
        if not self._pace.spend(trio.current_time()):
            self._outbox.close("rate_limited")
            return None
        message = bytes(self._received[begin : begin + size])
        del self._received[: begin + size]
        return message


def _is_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
