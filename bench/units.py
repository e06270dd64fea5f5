"""What the load tools' publishers made, as it comes out of a bridge to MoQ: whole frames, checked byte by byte.

A frame of hang's `legacy` container is its time (a varint) and the payloads of its packets in order, without what RTP
adds (bench/payload.py says what is in them).
"""

from __future__ import annotations

from typing import NamedTuple

from bench.payload import (
    DELTA_HEADER,
    DESCRIPTOR_SIZE,
    FILLER,
    FILLER_STARTS,
    FILLER_STEPS,
    FRAME_HEADER_SIZE,
    KEY,
    KEY_HEADER,
    MAGIC,
    STAMP,
    STAMP_SIZE,
    WORDS,
)

FILLER_BYTES = FILLER.tobytes()


class Unit(NamedTuple):
    """One frame: when its first packet was sent (ns since the epoch), of how many packets it is, and if all is right.

    Without `whole` only the first packet's stamp is looked at, and `packets` is 0.
    """

    sent_ns: int
    packets: int
    is_right: bool


def is_empty(payload: bytes) -> bool:
    """Whether a frame is nothing but its time: so moq-rs says when its group ends."""
    return bool(payload) and len(payload) == 1 << (payload[0] >> 6)


def read_unit(payload: bytes, *, is_video: bool, whole: bool) -> Unit:
    """Read one frame as it came; raises nothing, whatever it holds."""
    at = (1 << (payload[0] >> 6)) if payload else 0  # a varint's length is in its first two bits (RFC 9000 section 16)
    stamp_at = at + FRAME_HEADER_SIZE * is_video
    if len(payload) < stamp_at + STAMP_SIZE:
        return Unit(0, 0, False)
    stamp = STAMP.unpack_from(payload, stamp_at)
    sent_ns, is_stamp = stamp[8], _is_stamp(payload, stamp_at)
    if not whole or not is_stamp:
        return Unit(sent_ns, 0, is_stamp)
    if is_video and payload[at:stamp_at] != (KEY_HEADER if stamp[2] & KEY else DELTA_HEADER):
        return Unit(sent_ns, 0, False)
    count = stamp[4]
    at = stamp_at
    for index in range(count):
        header = DESCRIPTOR_SIZE * is_video + FRAME_HEADER_SIZE * (is_video and index == 0)
        end = _packet_end(payload, at, index, count, header)
        if end is None:
            return Unit(sent_ns, index, False)
        at = end
    return Unit(sent_ns, count, at == len(payload))


def _packet_end(payload: bytes, at: int, index: int, count: int, header: int) -> int | None:
    """Return where a packet's part ends; None when it is not what its stamp says."""
    if len(payload) < at + STAMP_SIZE or not _is_stamp(payload, at):
        return None
    _, publisher, _, own_index, own_count, size, _, number, _ = STAMP.unpack_from(payload, at)
    end: int = at + size - header
    start = (number * FILLER_STEPS[0] + publisher * FILLER_STEPS[1]) % FILLER_STARTS
    filler = FILLER_BYTES[start : start + size - header - STAMP_SIZE]
    if (own_index, own_count) != (index, count) or payload[at + STAMP_SIZE : end] != filler:
        return None
    return end


def _is_stamp(payload: bytes, at: int) -> bool:
    check: int = MAGIC + sum(WORDS.unpack_from(payload, at + 4)) & 0xFFFFFFFF
    return int.from_bytes(payload[at : at + 4], "little") == check
