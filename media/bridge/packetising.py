"""RTP payloads out of access units, cut as a WebRTC publisher would: the way back, by which the way in is judged.

VP8 (RFC 7741), VP9 (RFC 9628, flexible mode of one layer), H264 (RFC 6184 mode 1; Annex B comes in), AV1
(the AV1 RTP specification) and Opus (RFC 7587).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from media.bridge.depacketising import (
    FU_A,
    MAX_OBUS,
    MAX_UNIT_BYTES,
    OBU_HAS_SIZE,
    OBU_PADDING,
    OBU_TEMPORAL_DELIMITER,
    OBU_TILE_LIST,
    leb128,
    obus_untrusted,
)
from media.wire.codecs import Codec
from media.wire.malformed import MalformedPacket

MAX_PAYLOAD = 1_160  # with RTP, RTX, SRTP, UDP and IPv6 it stays within 1280, which passes everywhere
MAX_UNITS = 1024  # NAL units of a frame; each slice is one
OBU_SEQUENCE_HEADER = 1
PICTURE_IDS = 1 << 15
_START_CODE = re.compile(rb"\x00\x00\x01")


def packetise_untrusted(codec: Codec, unit: bytes, *, is_keyframe: bool, picture_id: int = 0) -> list[bytes]:
    """Return a frame's payloads, each at most MAX_PAYLOAD bytes (Opus: as long as it is); raises MalformedPacket.

    `picture_id` rises by one from frame to frame of a track, where the codec has one. H264 comes as Annex B.
    """
    if not 0 < len(unit) <= MAX_UNIT_BYTES:
        raise MalformedPacket("no frame, or one too long")
    match codec:
        case Codec.OPUS:
            return [unit]
        case Codec.VP8:
            return _vp8(unit, picture_id)
        case Codec.VP9:
            return _vp9(unit, picture_id, is_keyframe=is_keyframe)
        case Codec.H264:
            return [payload for nal in split_annex_b_untrusted(unit) for payload in _h264(nal)]
        case Codec.AV1:
            return _av1(unit)


def _vp8(unit: bytes, picture_id: int) -> list[bytes]:
    # X with a picture id of 15 bits; S on the first packet, one partition
    tail = b"\x80" + (0x8000 | picture_id % PICTURE_IDS).to_bytes(2)
    parts = _cut(unit, MAX_PAYLOAD - 4)
    return [bytes([0x90 if place == 0 else 0x80]) + tail + part for place, part in enumerate(parts)]


def _vp9(unit: bytes, picture_id: int, *, is_keyframe: bool) -> list[bytes]:
    # I, F, and P with a reference to the picture before unless it is a keyframe; B and E mark the ends
    tail = (0x8000 | picture_id % PICTURE_IDS).to_bytes(2) + (b"" if is_keyframe else bytes([1 << 1]))
    flags = 0x90 | (0x00 if is_keyframe else 0x40)
    parts = _cut(unit, MAX_PAYLOAD - 1 - len(tail))
    last = len(parts) - 1
    return [
        bytes([flags | (0x08 if place == 0 else 0) | (0x04 if place == last else 0)]) + tail + part
        for place, part in enumerate(parts)
    ]


def split_annex_b_untrusted(unit: bytes) -> list[bytes]:
    """Return the NAL units between start codes; raises MalformedPacket when there are none, or too many."""
    starts = [found.end() for found in _START_CODE.finditer(unit)]
    if not starts or len(starts) > MAX_UNITS:
        raise MalformedPacket("no start codes, or too many")
    ends = [start - 3 for start in starts[1:]] + [len(unit)]
    # Zeros before the next start code are no part of a unit, which never ends in one (H.264 section 7.4.1).
    units = [unit[start:end].rstrip(b"\x00") for start, end in zip(starts, ends, strict=True)]
    units = [nal for nal in units if nal]
    if not units or unit[: starts[0] - 3].strip(b"\x00"):
        raise MalformedPacket("not Annex B")
    return units


def _h264(nal: bytes) -> Iterator[bytes]:
    if not 0 < nal[0] & 0x1F < 24:
        raise MalformedPacket("a NAL unit type that is no unit")
    if len(nal) <= MAX_PAYLOAD:
        yield nal
        return
    parts = _cut(nal[1:], MAX_PAYLOAD - 2)
    last = len(parts) - 1
    for place, part in enumerate(parts):
        ends = (0x80 if place == 0 else 0) | (0x40 if place == last else 0)
        yield bytes([nal[0] & 0xE0 | FU_A, ends | nal[0] & 0x1F]) + part


def _av1(unit: bytes) -> list[bytes]:
    obus = [_without_size(head, extension, body) for head, extension, body in obus_untrusted(unit)]
    obus = [obu for obu in obus if (obu[0] >> 3) & 0x0F not in (OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, OBU_PADDING)]
    if not obus or len(obus) > MAX_OBUS:
        raise MalformedPacket("a frame without OBUs, or with too many")
    begins = any((obu[0] >> 3) & 0x0F == OBU_SEQUENCE_HEADER for obu in obus)
    # One element each, all with lengths: W stays 0.
    packets: list[bytearray] = []
    for obu in obus:
        rest, continues = obu, False
        while rest:
            room = MAX_PAYLOAD - len(packets[-1]) - 2 if packets else 0
            if room < 16 or continues:
                packets.append(bytearray([0x80 if continues else 0x00]))
                room = MAX_PAYLOAD - 1 - 2
            part, rest = rest[:room], rest[room:]
            packets[-1] += leb128(len(part)) + part
            if rest:
                packets[-1][0] |= 0x40
            continues = bool(rest)
    if begins:
        packets[0][0] |= 0x08
    return [bytes(packet) for packet in packets]


def _without_size(head: int, extension: bytes, body: bytes) -> bytes:
    return bytes([head & ~OBU_HAS_SIZE & 0xFF]) + extension + body


def _cut(data: bytes, size: int) -> list[bytes]:
    """Cut into parts of about equal length, none longer than `size`: equal packets leave together (UDP GSO)."""
    count = -(-len(data) // size)
    length = -(-len(data) // count)
    return [data[at : at + length] for at in range(0, len(data), length)]
