"""Codec numbers, and where a decoder can start in each codec's RTP payload."""

from __future__ import annotations

from enum import IntEnum

from media.wire import h264


class Codec(IntEnum):
    """What a track is encoded with; the numbers are columns of the forwarding tables."""

    OPUS = 1
    VP8 = 2
    VP9 = 3
    H264 = 4
    AV1 = 5


def starts_keyframe(codec: Codec, payload: bytes) -> bool:
    """Whether a decoder that has seen nothing yet can start with this packet.

    `payload` is what follows the RTP header, without padding. Bytes that make no sense are no keyframe. With H264 each
    packet that begins a parameter set or an IDR slice counts: a frame sent as SPS, PPS, IDR counts more than once.
    """
    match codec:
        case Codec.OPUS:
            return len(payload) > 0
        case Codec.VP8:
            return _vp8_starts_keyframe(payload)
        case Codec.VP9:
            return _vp9_starts_keyframe(payload)
        case Codec.H264:
            return h264.starts_keyframe(payload)
        case Codec.AV1:
            return _av1_starts_keyframe(payload)


def _vp8_starts_keyframe(payload: bytes) -> bool:
    """Skip the payload descriptor (RFC 7741 section 4.2) and look at the P bit of the frame header (section 4.3)."""
    if len(payload) < 2 or payload[0] & 0x1F != 0x10:  # S set, partition index 0: the first packet of a frame
        return False
    at = 1
    if payload[0] & 0x80:  # X: an octet that says what follows
        present = payload[1]
        at = 2
        if present & 0x80:  # I: picture id, in 15 bits when its M bit is set
            if len(payload) <= at:
                return False
            at += 2 if payload[at] & 0x80 else 1
        at += (present >> 6) & 1  # L: TL0PICIDX
        at += 1 if present & 0x30 else 0  # T or K: TID and KEYIDX share an octet
    return len(payload) > at and not payload[at] & 0x01


def vp8_numbers(payload: bytes) -> tuple[int, int]:
    """Return where the picture id and TL0PICIDX of a VP8 payload are, 0 for nowhere (RFC 7741 section 4.2)."""
    if len(payload) < 3 or not payload[0] & 0x80:
        return 0, 0
    has_picture, has_base = payload[1] & 0x80, payload[1] & 0x40
    picture_size = (2 if payload[2] & 0x80 else 1) if has_picture else 0
    picture_at, base_at = (2 if has_picture else 0), (2 + picture_size if has_base else 0)
    return (picture_at, base_at) if 2 + picture_size + bool(has_base) <= len(payload) else (0, 0)


def _vp9_starts_keyframe(payload: bytes) -> bool:
    """Tell from the payload descriptor alone (RFC 9628 section 4.2): not predicted, begins a frame, lowest layer."""
    if len(payload) < 2 or payload[0] & 0x48 != 0x08:  # P clear, B set
        return False
    at = 1
    if payload[0] & 0x80:  # I: picture id, in 15 bits when its M bit is set
        at += 2 if payload[at] & 0x80 else 1
    if payload[0] & 0x20:  # L: TID U SID D
        return len(payload) > at and not payload[at] & 0x0E
    return len(payload) > at


def _av1_starts_keyframe(payload: bytes) -> bool:
    """Read N, the start of a coded video sequence, of the aggregation header (AV1 RTP specification section 4.4)."""
    return len(payload) >= 2 and payload[0] & 0x88 == 0x08  # and Z clear: it does not continue an earlier packet's OBU
