"""Compiled: where a decoder can start in each codec's payload, judged in tests against media/wire/codecs.py.

Cost: a few ns a packet. Reads only the bytes given; every index is checked, since compiled code does not check for us.
"""

from __future__ import annotations

from numba import njit

from media.wire.codecs import Codec


@njit(nogil=True)
def starts_keyframe(codec, data, size):
    """Whether a decoder can start with this payload (uint8[size] of `data`)."""
    if codec == Codec.VP8:
        return _vp8(data, size)
    if codec == Codec.VP9:
        return _vp9(data, size)
    if codec == Codec.H264:
        return _h264(data, size)
    if codec == Codec.AV1:
        return size > 1 and (data[0] & 0x08) != 0 and (data[0] & 0x80) == 0
    return size > 0


@njit(nogil=True)
def _vp8(data, size):
    # RFC 7741 section 4.2: descriptor X R N S R PID, then I L T K, then the optional fields
    if size < 2 or (data[0] & 0x1F) != 0x10:
        return False
    at = 1
    if data[0] & 0x80:
        if size < 2:
            return False
        extension = data[1]
        at = 2
        if extension & 0x80:
            if size <= at:
                return False
            at += 2 if data[at] & 0x80 else 1
        if extension & 0x40:
            at += 1
        if extension & 0x30:
            at += 1
    return size > at and (data[at] & 1) == 0


@njit(nogil=True)
def vp8_numbers(data, size):
    """Return where in a payload of VP8 its picture id and its TL0PICIDX are, 0 for nowhere (RFC 7741 section 4.2)."""
    if size < 3 or not data[0] & 0x80:
        return 0, 0
    at, picture_at, base_at = 2, 0, 0
    if data[1] & 0x80:
        picture_at = 2
        at += 2 if data[2] & 0x80 else 1
    if data[1] & 0x40:
        base_at = at
        at += 1
    return (picture_at, base_at) if at <= size else (0, 0)


@njit(nogil=True)
def _vp9(data, size):
    # RFC 9628 section 4.2: I P L F B E V Z; not predicted, begins a frame, lowest spatial layer
    if size < 2 or (data[0] & 0x48) != 0x08:
        return False
    at = 1
    if data[0] & 0x80:
        at += 2 if data[1] & 0x80 else 1
    if data[0] & 0x20:
        return size > at and (data[at] & 0x0E) == 0
    return size > at


@njit(nogil=True)
def _h264(data, size):
    # RFC 6184: single NAL unit, STAP-A (24), or the start of an FU-A (28)
    if size < 1:
        return False
    kind = data[0] & 31
    if kind == 28:
        return size > 1 and (data[1] & 0x80) != 0 and _is_key_unit(data[1] & 31)
    if kind != 24:
        return _is_key_unit(kind)
    at = 1
    while at + 2 < size:
        if _is_key_unit(data[at + 2] & 31):
            return True
        at += 2 + ((data[at] << 8) | data[at + 1])
    return False


@njit(nogil=True)
def _is_key_unit(kind):
    return kind == 5 or kind == 7
