"""Reads of which spatial and temporal layer a packet is, as VP8, VP9 and AV1 say it at the beginning of a payload."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from media.wire.codecs import Codec

MAX_LAYERS = 8  # of either kind: both ids have three bits in VP9 (RFC 9628 section 4.2)


class Mark(IntFlag):
    """What else a packet says of its place."""

    BEGINS = 1  # its layer's frame, that of one spatial layer in one picture
    ENDS = 2
    SYNC_AFTER = 4  # later pictures of higher temporal layers need none of those before this one
    SYNC_HERE = 8  # it needs pictures of the lowest temporal layer alone
    TOLD = 16  # its layers are what it says; of one without, nothing is known but that it is of the lowest
    CONTINUES = 32  # it is of the same layers as the packet before it


NOTHING = Mark(0)


@dataclass(frozen=True, slots=True)
class Layering:
    """The place of one packet among the layers of its encoding."""

    spatial: int = 0
    temporal: int = 0
    marks: Mark = NOTHING


UNLAYERED = Layering()


def read_layering_untrusted(codec: Codec, payload: bytes) -> Layering:
    """Return a packet's place; bytes that make no sense, and codecs that say nothing, are of the lowest layers."""
    match codec:
        case Codec.VP8:
            return _vp8(payload)
        case Codec.VP9:
            return _vp9(payload)
        case Codec.AV1:
            return _av1(payload)
    return UNLAYERED


def _vp8(payload: bytes) -> Layering:
    """Read TID and Y of the payload descriptor (RFC 7741 section 4.2)."""
    if len(payload) < 2 or not payload[0] & 0x80 or not payload[1] & 0x20:
        return UNLAYERED
    at = 2
    if payload[1] & 0x80:
        if len(payload) <= at:
            return UNLAYERED
        at += 2 if payload[at] & 0x80 else 1
    at += (payload[1] >> 6) & 1
    if len(payload) <= at:
        return UNLAYERED
    marks = Mark.TOLD | (Mark.SYNC_HERE if payload[at] & 0x20 else NOTHING)
    return Layering(0, payload[at] >> 6, marks | (Mark.BEGINS if payload[0] & 0x1F == 0x10 else NOTHING))


def _vp9(payload: bytes) -> Layering:
    """Read TID, U and SID of the payload descriptor, and B and E (RFC 9628 section 4.2)."""
    if len(payload) < 2 or not payload[0] & 0x20:
        return UNLAYERED
    at = 1
    if payload[0] & 0x80:
        at += 2 if payload[1] & 0x80 else 1
    if len(payload) <= at:
        return UNLAYERED
    marks = Mark.TOLD | (Mark.BEGINS if payload[0] & 0x08 else NOTHING) | (Mark.ENDS if payload[0] & 0x04 else NOTHING)
    if payload[at] & 0x10:
        marks |= Mark.SYNC_AFTER
    return Layering((payload[at] >> 1) & 7, payload[at] >> 5, marks)


def _av1(payload: bytes) -> Layering:
    """Read the extension of the first OBU's header (AV1 RTP specification section 4.4, AV1 section 5.3.3)."""
    if len(payload) < 2:
        return UNLAYERED
    ends = NOTHING if payload[0] & 0x40 else Mark.ENDS
    if payload[0] & 0x80:
        return Layering(0, 0, Mark.CONTINUES | ends)
    at = 1
    if payload[0] & 0x30 != 0x10:  # more elements than one: the first has its length before it
        while at < len(payload) and payload[at] & 0x80:
            at += 1
        at += 1
    if len(payload) < at + 2 or not payload[at] & 0x04:
        return Layering(0, 0, Mark.BEGINS | ends)
    return Layering((payload[at + 1] >> 3) & 3, payload[at + 1] >> 5, Mark.BEGINS | Mark.TOLD | ends)
