"""The capsules on a WebTransport session's CONNECT stream (RFC 9297 section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from media.moq.protocol.varint import peek_varint_untrusted

CLOSE_CAPSULE = 0x2843
MAX_CLOSE_BYTES = 1_028  # a code and a reason (draft-ietf-webtrans-http3 section 6)


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The peer closed the session."""

    code: int
    reason: str


class CapsuleReader:
    """Takes capsules apart as they come; all but a close are skipped, however long, without being kept."""

    __slots__ = ("_buffer", "_skip")

    def __init__(self) -> None:
        self._buffer, self._skip = b"", 0

    def feed_untrusted(self, data: bytes) -> SessionClosed | None:
        """Add bytes; returns a close once it is whole. One that is too long closes with code 0."""
        self._buffer += data
        while True:
            if self._skip:
                skipped = min(self._skip, len(self._buffer))
                self._buffer, self._skip = self._buffer[skipped:], self._skip - skipped
                if self._skip:
                    return None
            type = peek_varint_untrusted(self._buffer, 0)
            size = None if type is None else peek_varint_untrusted(self._buffer, type[1])
            if type is None or size is None:
                return None
            if type[0] != CLOSE_CAPSULE:
                self._buffer, self._skip = self._buffer[size[1] :], size[0]
                continue
            if not 4 <= size[0] <= MAX_CLOSE_BYTES:
                return SessionClosed(0, "")
            body = self._buffer[size[1] : size[1] + size[0]]
            if len(body) < size[0]:
                return None
            return SessionClosed(int.from_bytes(body[:4], "big"), body[4:].decode(errors="replace"))
