"""Access units out of RTP payloads: one frame's packets, complete and in order, become what a decoder takes.

VP8 (RFC 7741), VP9 (RFC 9628), H264 (RFC 6184; Annex B comes out), AV1 (the AV1 RTP specification; an OBU stream with
sizes comes out) and Opus (RFC 7587).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from media.wire.codecs import Codec, starts_keyframe
from media.wire.malformed import MalformedPacket

MAX_UNIT_BYTES = 4 << 20  # what a frame may have on the other side, see media/moq/protocol/frames.py
START_CODE = b"\x00\x00\x00\x01"
IDR, SPS, PPS = 5, 7, 8
STAP_A, FU_A = 24, 28
OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, OBU_PADDING = 2, 8, 15
OBU_EXTENSION, OBU_HAS_SIZE = 0x04, 0x02
MAX_OBUS = 1024  # of a frame; each layer and each tile group is one


def depacketise_untrusted(codec: Codec, payloads: Sequence[bytes]) -> bytes:
    """Return the access unit that a frame's payloads carry; raises MalformedPacket."""
    if not payloads or sum(map(len, payloads)) > MAX_UNIT_BYTES:
        raise MalformedPacket("no frame, or one too long")
    unit = _DEPACKETISERS[codec](payloads)
    if not unit:
        raise MalformedPacket("a frame of nothing")
    return unit


def begins_group(codec: Codec, payloads: Sequence[bytes]) -> bool:
    """Whether a decoder can start with a frame: one of its packets says so."""
    return any(starts_keyframe(codec, payload) for payload in payloads)


def _opus(payloads: Sequence[bytes]) -> bytes:
    if len(payloads) != 1:
        raise MalformedPacket("sound in more than one packet")
    return payloads[0]


# -- VP8 and VP9 -------------------------------------------------------------------------------------------------------


def _vp8(payloads: Sequence[bytes]) -> bytes:
    return b"".join(payload[_vp8_descriptor(payload) :] for payload in payloads)


def _vp8_descriptor(payload: bytes) -> int:
    """Return the descriptor's size (RFC 7741 section 4.2)."""
    size = 1
    if _at(payload, 0) & 0x80:
        present, size = _at(payload, 1), 2
        if present & 0x80:
            size += 2 if _at(payload, 2) & 0x80 else 1
        size += (present >> 6) & 1
        size += 1 if present & 0x30 else 0
    return _within(payload, size)


def _vp9(payloads: Sequence[bytes]) -> bytes:
    # The layers of a picture follow each other: decoders take them as one chunk.
    return b"".join(payload[_vp9_descriptor(payload) :] for payload in payloads)


def _vp9_descriptor(payload: bytes) -> int:
    """Return the descriptor's size (RFC 9628 section 4.2)."""
    first, size = _at(payload, 0), 1
    if first & 0x80:  # I: picture id
        size += 2 if _at(payload, size) & 0x80 else 1
    if first & 0x20:  # L: layer indices, and TL0PICIDX where the mode is not flexible
        size += 1 if first & 0x10 else 2
    if first & 0x50 == 0x50:  # F and P: up to three references, N says that another follows
        for _ in range(3):
            size += 1
            if not _at(payload, size - 1) & 0x01:
                break
    if first & 0x02:  # V: scalability structure
        size += _vp9_structure(payload, size)
    return _within(payload, size)


def _vp9_structure(payload: bytes, begin: int) -> int:
    first, size = _at(payload, begin), 1
    if first & 0x10:  # Y: width and height of each spatial layer
        size += 4 * ((first >> 5) + 1)
    if first & 0x08:  # G: pictures of a group, each with its references
        pictures = _at(payload, begin + size)
        size += 1
        for _ in range(pictures):
            size += 1 + ((_at(payload, begin + size) >> 2) & 3)
    return size


# -- H264 --------------------------------------------------------------------------------------------------------------


def _h264(payloads: Sequence[bytes]) -> bytes:
    return b"".join(START_CODE + unit for unit in nal_units_untrusted(payloads))


def nal_units_untrusted(payloads: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the NAL units in a frame's payloads (RFC 6184 sections 5.6 to 5.8); raises MalformedPacket."""
    parts: list[bytes] = []
    for payload in payloads:
        kind = _at(payload, 0) & 0x1F
        if kind == FU_A:
            head = _at(payload, 1)
            if bool(head & 0x80) == bool(parts):
                raise MalformedPacket("a fragment astray")
            if not parts:
                parts.append(bytes([payload[0] & 0xE0 | head & 0x1F]))
            parts.append(payload[2:])
            if head & 0x40:
                yield b"".join(parts)
                parts = []
        elif parts:
            raise MalformedPacket("a unit within another's fragments")
        elif kind == STAP_A:
            yield from _aggregated(payload)
        elif 0 < kind < STAP_A:
            yield payload
        else:
            raise MalformedPacket("a packet type that was not negotiated")
    if parts:
        raise MalformedPacket("a unit without its end")


def _aggregated(payload: bytes) -> Iterator[bytes]:
    at = 1
    while at < len(payload):
        size = _at(payload, at) << 8 | _at(payload, at + 1)
        unit = payload[at + 2 : at + 2 + size]
        if len(unit) < size or not unit:
            raise MalformedPacket("an aggregate cut short")
        yield unit
        at += 2 + size


# -- AV1 ---------------------------------------------------------------------------------------------------------------


def _av1(payloads: Sequence[bytes]) -> bytes:
    return b"".join(_with_size(obu) for obu in _obus(payloads) if obu)


def _obus(payloads: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the OBUs of a frame (section 4.4), joining what runs on from packet to packet."""
    open_obu: bytes | None = None
    count = 0
    for payload in payloads:
        aggregation = _at(payload, 0)
        continues, goes_on = bool(aggregation & 0x80), bool(aggregation & 0x40)
        if continues != (open_obu is not None):
            raise MalformedPacket("an OBU astray")
        elements = list(_elements(payload, (aggregation >> 4) & 3))
        if not elements:
            raise MalformedPacket("a packet without an OBU")
        for place, element in enumerate(elements):
            whole = element if open_obu is None else open_obu + element
            open_obu = None
            if goes_on and place == len(elements) - 1:
                open_obu = whole
                continue
            count += 1
            if count > MAX_OBUS:
                raise MalformedPacket("too many OBUs")
            yield whole
    if open_obu is not None:
        raise MalformedPacket("an OBU without its end")


def _elements(payload: bytes, count: int) -> Iterator[bytes]:
    at, place = 1, 0
    while at < len(payload):
        place += 1
        if place == count:  # the last of a stated number has no length
            yield payload[at:]
            return
        size, at = _leb128(payload, at)
        element = payload[at : at + size]
        if len(element) < size:
            raise MalformedPacket("an OBU cut short")
        yield element
        at += size
    if count and place != count:
        raise MalformedPacket("fewer OBUs than stated")


def _with_size(obu: bytes) -> bytes:
    """Return an OBU with its size, as streams that are no RTP have it; nothing for what decoders don't need."""
    head = _at(obu, 0)
    kind = (head >> 3) & 0x0F
    if kind in (OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, OBU_PADDING):
        return b""
    begin = 2 if head & OBU_EXTENSION else 1
    _within(obu, begin)
    body = obu[begin:]
    if head & OBU_HAS_SIZE:
        size, at = _leb128(body, 0)
        if at + size > len(body):
            raise MalformedPacket("an OBU larger than its bytes")
        body = body[at : at + size]
    return bytes([head | OBU_HAS_SIZE]) + obu[1:begin] + leb128(len(body)) + body


def obus_untrusted(unit: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (header, extension, body) of each OBU of a stream with sizes; raises MalformedPacket."""
    at = 0
    while at < len(unit):
        head = unit[at]
        begin = at + (2 if head & OBU_EXTENSION else 1)
        extension = unit[at + 1 : begin]
        if head & OBU_HAS_SIZE:
            size, begin = _leb128(unit, begin)
        else:
            size = len(unit) - _within(unit, begin)  # only the last has no size
        at = _within(unit, begin + size)
        yield head, extension, unit[begin:at]


def leb128(value: int) -> bytes:
    """Write a number as AV1 does, seven bits at a time."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(5):  # 35 bits: more than any size that is one
        byte = _at(data, at + place)
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return value, at + place + 1
    raise MalformedPacket("a size out of range")


# -- bytes -------------------------------------------------------------------------------------------------------------


def _at(data: bytes, at: int) -> int:
    if at >= len(data):
        raise MalformedPacket("a payload cut short")
    return data[at]


def _within(data: bytes, size: int) -> int:
    if size > len(data):
        raise MalformedPacket("a payload cut short")
    return size


_DEPACKETISERS: dict[Codec, Callable[[Sequence[bytes]], bytes]] = {
    Codec.OPUS: _opus,
    Codec.VP8: _vp8,
    Codec.VP9: _vp9,
    Codec.H264: _h264,
    Codec.AV1: _av1,
}
