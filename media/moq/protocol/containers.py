"""What wraps an access unit in a frame: hang's `legacy` container, and LOC (draft-ietf-moq-loc)."""

from __future__ import annotations

from media.moq.protocol.varint import Cursor, prefixed, varint
from media.wire.malformed import MalformedPacket

LOC_TIMESTAMP = 0x10  # draft-04
LOC_TIMESTAMP_03 = 0x06  # before; players take both
LOC_TIMESCALE = 0x08
MICROSECONDS = 1_000_000
MAX_PROPERTIES = 64
MAX_TIMESTAMP_US = 1 << 60


def wrap_legacy(timestamp_us: int, unit: bytes) -> bytes:
    """Put the timestamp in front; raises ValueError when it is negative."""
    return varint(timestamp_us) + unit


def unwrap_legacy_untrusted(payload: bytes) -> tuple[int, bytes]:
    """Return (timestamp in µs, access unit); raises MalformedPacket."""
    cursor = Cursor(payload)
    return cursor.varint_untrusted(), cursor.rest()


def wrap_loc(timestamp_us: int, unit: bytes) -> bytes:
    """Put LOC's properties in front, of which there is the timestamp alone; raises ValueError when it is negative."""
    return prefixed(varint(LOC_TIMESTAMP) + varint(timestamp_us)) + unit


def unwrap_loc_untrusted(payload: bytes) -> tuple[int | None, bytes]:
    """Return (timestamp in µs or None, access unit); raises MalformedPacket.

    Properties come as differences of their ids: an even id has a number, an odd one bytes.
    """
    cursor = Cursor(payload)
    properties = Cursor(cursor.prefixed_untrusted())
    numbers: dict[int, int] = {}
    id = 0
    for _ in range(MAX_PROPERTIES):
        if properties.is_at_end:
            break
        id += properties.varint_untrusted()
        if id % 2:
            properties.prefixed_untrusted()
        else:
            numbers[id] = properties.varint_untrusted()
    else:
        raise MalformedPacket("too many properties")
    timestamp = numbers.get(LOC_TIMESTAMP, numbers.get(LOC_TIMESTAMP_03))
    timescale = numbers.get(LOC_TIMESCALE, MICROSECONDS)
    if timescale == 0:
        raise MalformedPacket("a timescale of 0")
    timestamp_us = None if timestamp is None else timestamp * MICROSECONDS // timescale
    if timestamp_us is not None and timestamp_us > MAX_TIMESTAMP_US:
        raise MalformedPacket("a timestamp out of range")
    return timestamp_us, cursor.rest()
