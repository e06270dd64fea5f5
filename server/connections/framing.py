"""How messages and closes of a signalling connection are written: in WebSocket frames, or behind their length."""

from __future__ import annotations

from typing import Protocol

from websockets.frames import Close, Frame, Opcode

from media.moq.protocol.varint import prefixed

# Why the server ends a connection: RFC 6455 section 7.4.2 leaves 4000-4999 to applications.
CLOSE_CODES = {
    "going_away": 1001,
    "malformed": 4400,
    "no_session": 4401,
    "suspended": 4403,
    "hello_timeout": 4408,
    "replaced": 4409,
    "slow_consumer": 4413,
    "rate_limited": 4429,
    "internal_error": 1011,
}

FINAL = 0x80  # the bit of a frame that nothing continues (RFC 6455 section 5.2)


class Framing(Protocol):
    """Turns what is said into bytes."""

    def message(self, data: bytes) -> bytes:
        """Return a message as it is sent."""

    def close(self, reason: str) -> bytes:
        """Return what says that and why the connection ends (one of CLOSE_CODES)."""


class WebSocketFraming:
    """RFC 6455; `opcode` is that of messages."""

    def __init__(self, opcode: Opcode) -> None:
        self._first = bytes([FINAL | opcode])

    def message(self, data: bytes) -> bytes:
        """Return one unmasked frame; a message to thousands is as many frames."""
        size = len(data)
        if size < 126:
            return b"%b%c%b" % (self._first, size, data)
        if size < 65_536:
            return b"%b\x7e%b%b" % (self._first, size.to_bytes(2, "big"), data)
        return b"%b\x7f%b%b" % (self._first, size.to_bytes(8, "big"), data)

    def close(self, reason: str) -> bytes:
        """Return a close frame."""
        return Frame(Opcode.CLOSE, Close(CLOSE_CODES[reason], reason).serialize()).serialize(mask=False)


class LengthFraming:
    """A varint of the length, and the message (RFC 9000 section 16)."""

    def message(self, data: bytes) -> bytes:
        """Return a message with its length in front."""
        return prefixed(data)

    def close(self, reason: str) -> bytes:
        """Return nothing: the session that carries the stream ends with code and reason."""
        return b""
