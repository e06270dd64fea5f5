"""Datagrams within a byte stream: two octets of length before each (RFC 4571), as ICE-TCP carries them (RFC 6544)."""

from __future__ import annotations

import struct

from media.wire.malformed import MalformedPacket

MAX_FRAME = 1_500  # what would have fitted into a datagram; checks, handshakes and media stay below
LENGTH = struct.Struct("!H")


def framed(datagrams: list[memoryview]) -> bytes:
    """Return datagrams of at most 65,535 octets as they follow each other in a stream."""
    return b"".join(part for datagram in datagrams for part in (LENGTH.pack(len(datagram)), datagram))


class FrameReader:
    """Takes bytes as they come, and gives the datagrams that are complete."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """Return what is complete by now, without empty frames.

        Raises MalformedPacket for a length beyond `MAX_FRAME`: after it the stream can't be read any more.
        """
        self._kept += data
        frames, at = [], 0
        while len(self._kept) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._kept, at)
            if length > MAX_FRAME:
                raise MalformedPacket(f"a frame of {length} octets")
            end = at + LENGTH.size + length
            if end > len(self._kept):
                break
            if length:
                frames.append(bytes(self._kept[at + LENGTH.size : end]))
            at = end
        del self._kept[:at]
        return frames
