"""Finds the frames of RFC 6455 in what a client sends, and reads those of the usual kind. Pure.

Nearly all are messages of one frame, masked and short; a state machine for all that the RFC allows takes twenty times
as long for them. Whatever is not of that kind is for that machine, frame by frame.
"""

from __future__ import annotations

from typing import NamedTuple

from websockets.frames import Opcode
from websockets.utils import apply_mask

MASKED = 0x80
LENGTH = 0x7F
TWO_BYTES, EIGHT_BYTES = 126, 127  # lengths that say how long the length is
MASK_BYTES = 4
TEXT, BINARY = 0x80 | Opcode.TEXT, 0x80 | Opcode.BINARY  # final, without extensions


class Head(NamedTuple):
    """A frame's head: its first byte, where its payload begins and ends, and whether that is masked."""

    first: int
    begin: int
    end: int
    is_masked: bool

    def is_plain(self, most: int) -> bool:
        """Whether it is a whole message of at most so many bytes, as a client should send it."""
        return self.is_masked and self.first in (TEXT, BINARY) and self.end - self.begin <= most


def head_untrusted(data: bytes, at: int) -> Head | None:
    """Read the head that begins at a place; None where not all of it is there."""
    if len(data) < at + 2:
        return None
    second = data[at + 1]
    begin, length = at + 2, second & LENGTH
    if length >= TWO_BYTES:
        size = 2 if length == TWO_BYTES else 8
        if len(data) < begin + size:
            return None
        length = int.from_bytes(data[begin : begin + size])
        begin += size
    is_masked = second >= MASKED
    if is_masked:
        begin += MASK_BYTES
    return Head(data[at], begin, begin + length, is_masked) if len(data) >= begin else None


def payload(data: bytes, head: Head) -> bytes:
    """Return what a masked frame holds that is there as a whole."""
    return apply_mask(data[head.begin : head.end], data[head.begin - MASK_BYTES : head.begin])
