"""Messages off one WebSocket: whole, in order, checked as RFC 6455 asks, and no faster than a client may send."""

from __future__ import annotations

import trio
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from server.outbox import SocketOutbox

FRAMES_PER_S = 50.0  # of one connection, pings among them; a person makes a few requests
BURST = 200.0
RECEIVE_BYTES = 65_536


class SocketInbox:
    """Reads a connection whose handshake is done; `early` is what came right behind it.

    `heard_at` is when the client last sent something (s of Trio's clock). What the protocol has to answer, such as
    pongs, goes through `outbox`.
    """

    def __init__(self, stream: trio.abc.Stream, protocol: ServerProtocol, outbox: SocketOutbox, early: bytes) -> None:
        self._stream, self._protocol, self._outbox, self._early = stream, protocol, outbox, early
        self._is_text = False
        self._parts: list[bytes] = []
        self._ready: list[bytes] = []
        self._allowance = BURST
        self.heard_at = self._earned_at = trio.current_time()

    @property
    def ended(self) -> str:
        """Why there are no more messages: one of server.outbox.CLIENTS_ENDS."""
        if self._protocol.close_rcvd is not None:
            return "closed_by_client"
        return "lost" if self._protocol.close_sent is None else "protocol_error"

    async def next(self) -> bytes | None:
        """Return the next message, None when there will be none."""
        while self._outbox.closed is None:
            if self._ready:
                return self._ready.pop(0)
            if self._protocol.state is not State.OPEN:
                return None
            self._feed(self._early or await self._stream.receive_some(RECEIVE_BYTES))
            self._early = b""
        return None

    def _feed(self, data: bytes | bytearray) -> None:
        self.heard_at = trio.current_time()
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if not self._may_send():
                # Before the pongs are written: this is all that a flood of pings is answered with.
                self._outbox.close("rate_limited")
                return
            if isinstance(event, Frame):
                self._take(event)
        for out in self._protocol.data_to_send():
            if out:
                self._outbox.write(out)

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
            if self._is_text and not _is_utf8(message):
                self._protocol.fail(CloseCode.INVALID_DATA, "text must be UTF-8")
            else:
                self._ready.append(message)

    def _may_send(self) -> bool:
        earned = (self.heard_at - self._earned_at) * FRAMES_PER_S
        self._allowance, self._earned_at = min(BURST, self._allowance + earned), self.heard_at
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def _is_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
