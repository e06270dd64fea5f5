"""A group's frames on the wire, and a stream's bytes taken apart as they come."""

from __future__ import annotations

from typing import NamedTuple

from media.moq.protocol.messages import MAX_MESSAGE_BYTES
from media.moq.protocol.varint import peek_varint_untrusted, unzigzag, varint, zigzag
from media.wire.malformed import MalformedPacket

MAX_FRAME_BYTES = 4 << 20  # a keyframe of 4K video at a quality that nobody streams has half of it
MICROSECONDS = 1_000_000  # our own timescale


class Frame(NamedTuple):
    """One access unit of a track. `timestamp_us` counts from where the publisher likes; payload in its container."""

    timestamp_us: int
    payload: bytes
    is_keyframe: bool = False


class FrameWriter:
    """Writes what stands in front of each payload of one group."""

    __slots__ = ("_previous", "stamps")

    def __init__(self, *, stamps: bool) -> None:
        self.stamps, self._previous = stamps, 0

    def header(self, frame: Frame) -> bytes:
        """Return the frame's length, after its timestamp in microseconds where the version has one."""
        if not self.stamps:
            return varint(len(frame.payload))
        delta = frame.timestamp_us - self._previous
        self._previous = frame.timestamp_us
        return varint(zigzag(delta)) + varint(len(frame.payload))


class StreamReader:
    """The bytes of one stream not read yet; what is not whole is not taken.

    A length beyond its limit raises MalformedPacket before its bytes are waited for.
    """

    __slots__ = ("_at", "_buffer", "is_ended")

    def __init__(self) -> None:
        self._buffer, self._at, self.is_ended = bytearray(), 0, False

    def __len__(self) -> int:
        return len(self._buffer) - self._at

    def feed(self, data: bytes, *, is_last: bool) -> None:
        """Add what arrived."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data
        self.is_ended |= is_last

    @property
    def is_done(self) -> bool:
        """Whether the peer ended the stream and everything was read."""
        return self.is_ended and not len(self)

    def varint_untrusted(self) -> int | None:
        """Take a number, or None when it is not there yet."""
        found = peek_varint_untrusted(self._buffer, self._at)
        if found is None:
            self._check_end()
            return None
        value, self._at = found
        return value

    def message_untrusted(self) -> bytes | None:
        """Take a message's body, or None when it is not whole yet."""
        return self._prefixed_untrusted(self._at, MAX_MESSAGE_BYTES)

    def typed_message_untrusted(self) -> tuple[int, bytes] | None:
        """Take a number and the body of the message that follows, or None when they are not whole yet."""
        found = peek_varint_untrusted(self._buffer, self._at)
        if found is None:
            self._check_end()
            return None
        body = self._prefixed_untrusted(found[1], MAX_MESSAGE_BYTES)
        return None if body is None else (found[0], body)

    def frame_untrusted(self, *, stamps: bool) -> tuple[int, bytes] | None:
        """Take (difference of timestamps, payload), or None when the frame is not whole yet."""
        at, delta = self._at, 0
        if stamps:
            found = peek_varint_untrusted(self._buffer, at)
            if found is None:
                self._check_end()
                return None
            delta, at = unzigzag(found[0]), found[1]
        payload = self._prefixed_untrusted(at, MAX_FRAME_BYTES)
        return None if payload is None else (delta, payload)

    def _prefixed_untrusted(self, at: int, limit: int) -> bytes | None:
        found = peek_varint_untrusted(self._buffer, at)
        if found is None:
            self._check_end()
            return None
        size, begin = found
        if size > limit:
            raise MalformedPacket("a length beyond its limit")
        if begin + size > len(self._buffer):
            self._check_end()
            return None
        self._at = begin + size
        return bytes(self._buffer[begin : self._at])

    def _check_end(self) -> None:
        if self.is_ended and len(self):
            raise MalformedPacket("the stream ends within a message")
