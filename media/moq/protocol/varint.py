"""QUIC's variable-length integers (RFC 9000 section 16) and bounded reading of what is built from them."""

from __future__ import annotations

from media.wire.malformed import MalformedPacket

MAX_VARINT = (1 << 62) - 1


def varint(value: int) -> bytes:
    """Encode in the fewest bytes; raises ValueError outside 0 to 2^62 - 1."""
    if value < 0x40:
        if value < 0:
            raise ValueError("a varint is not negative")
        return bytes((value,))
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    if value <= MAX_VARINT:
        return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")
    raise ValueError("a varint has 62 bits")


def zigzag(value: int) -> int:
    """Map a signed number to an unsigned one, small ones to small ones: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """Undo `zigzag`."""
    return (value >> 1) ^ -(value & 1)


def prefixed(body: bytes) -> bytes:
    """Put the length in front."""
    return varint(len(body)) + body


def peek_varint_untrusted(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Return (value, where the next thing begins), or None when the bytes end before the number does."""
    if at >= len(data):
        return None
    size = 1 << (data[at] >> 6)
    end = at + size
    if end > len(data):
        return None
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * size - 2)) - 1), end


class Cursor:
    """Reads one whole message from front to back; every method raises MalformedPacket when the bytes run out."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def varint_untrusted(self) -> int:
        """Read a number."""
        found = peek_varint_untrusted(self._data, self._at)
        if found is None:
            raise MalformedPacket("ends within a number")
        value, self._at = found
        return value

    def byte_untrusted(self) -> int:
        """Read one byte."""
        return self.take_untrusted(1)[0]

    def take_untrusted(self, size: int) -> bytes:
        """Read `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise MalformedPacket("ends too early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def prefixed_untrusted(self) -> bytes:
        """Read bytes that have their length in front."""
        return self.take_untrusted(self.varint_untrusted())

    def rest(self) -> bytes:
        """Read everything that is left."""
        return self.take_untrusted(len(self._data) - self._at)

    @property
    def is_at_end(self) -> bool:
        """Whether everything was read."""
        return self._at == len(self._data)
