"""Reads and writes RTP packets with their header extensions (RFC 3550 section 5.1, RFC 8285)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from media.wire.malformed import MalformedPacket

__all__ = ["MalformedPacket", "RtpHeader", "RtpPacket", "build_rtp", "parse_rtp_untrusted"]

FIXED_HEADER = 12  # bytes
ONE_BYTE_PROFILE = 0xBEDE
TWO_BYTE_PROFILE = 0x1000  # the low four bits belong to the application
MAX_ONE_BYTE_ID, MAX_ONE_BYTE_LENGTH = 14, 16
MAX_TWO_BYTE_LENGTH = 255
STOP_ID = 15  # in one-byte headers: nothing after it may be read


@dataclass(frozen=True, slots=True)
class RtpHeader:
    """The fields of an RTP header; `extensions` maps local ids to their bytes."""

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    marker: bool = False
    csrcs: tuple[int, ...] = ()
    extensions: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """A parsed packet: the payload is `datagram[payload_start:payload_end]`, followed by `padding` bytes."""

    header: RtpHeader
    payload_start: int
    payload_end: int
    padding: int


def parse_rtp_untrusted(datagram: bytes) -> RtpPacket:
    """Parse one RTP packet; an empty payload is legal (padding probes). Raises MalformedPacket."""
    if len(datagram) < FIXED_HEADER:
        raise MalformedPacket(f"{len(datagram)} bytes are fewer than an RTP header has")
    first, second, sequence_number, timestamp, ssrc = struct.unpack_from("!BBHII", datagram)
    if first >> 6 != 2:
        raise MalformedPacket(f"RTP version {first >> 6}")
    at = FIXED_HEADER + 4 * (first & 0x0F)
    extensions: dict[int, bytes] = {}
    if at > len(datagram):
        raise MalformedPacket("the contributing sources do not fit")
    csrcs = struct.unpack_from(f"!{first & 0x0F}I", datagram, FIXED_HEADER)
    if first & 0x10:
        if at + 4 > len(datagram):
            raise MalformedPacket("the extension header does not fit")
        profile, words = struct.unpack_from("!HH", datagram, at)
        end = at + 4 + 4 * words
        if end > len(datagram):
            raise MalformedPacket("the extensions do not fit")
        extensions = _extensions(profile, datagram[at + 4 : end])
        at = end
    padding = datagram[-1] if first & 0x20 else 0
    if first & 0x20 and (padding == 0 or at + padding > len(datagram)):
        raise MalformedPacket(f"{padding} bytes of padding in {len(datagram) - at} of payload")
    header = RtpHeader(second & 0x7F, sequence_number, timestamp, ssrc, bool(second & 0x80), csrcs, extensions)
    return RtpPacket(header, at, len(datagram) - padding, padding)


def build_rtp(header: RtpHeader, payload: bytes, *, padding: int = 0) -> bytes:
    """Write one RTP packet; two-byte extension headers only where one-byte ones can't hold what is given.

    `padding` counts bytes, 0 to 255. Raises ValueError for values that do not fit their fields.
    """
    extension = _extension_block(header.extensions)
    first = 0x80 | (0x20 if padding else 0) | (0x10 if extension else 0) | len(header.csrcs)
    if len(header.csrcs) > 15 or not 0 <= padding <= 255 or not 0 <= header.payload_type < 128:
        raise ValueError("csrcs, padding or payload type do not fit their fields")
    second = header.payload_type | (0x80 if header.marker else 0)
    fixed = struct.pack("!BBHII", first, second, header.sequence_number, header.timestamp, header.ssrc)
    sources = struct.pack(f"!{len(header.csrcs)}I", *header.csrcs)
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    return fixed + sources + extension + payload + tail


def _extensions(profile: int, block: bytes) -> dict[int, bytes]:
    """Read the elements; what does not fit ends the reading, and unknown profiles hold nothing for us."""
    one_byte = profile == ONE_BYTE_PROFILE
    if not one_byte and profile & 0xFFF0 != TWO_BYTE_PROFILE:
        return {}
    found: dict[int, bytes] = {}
    at = 0
    while at < len(block):
        if block[at] == 0:
            at += 1
            continue
        if one_byte:
            identifier, length, at = block[at] >> 4, (block[at] & 0x0F) + 1, at + 1
            if identifier == STOP_ID:
                break
        else:
            if at + 1 >= len(block):
                break
            identifier, length, at = block[at], block[at + 1], at + 2
        if at + length > len(block):
            break
        if identifier:
            found.setdefault(identifier, block[at : at + length])
        at += length
    return found


def _extension_block(extensions: Mapping[int, bytes]) -> bytes:
    if not extensions:
        return b""
    sizes = [len(value) for value in extensions.values()]
    one_byte = max(extensions) <= MAX_ONE_BYTE_ID and min(sizes) >= 1 and max(sizes) <= MAX_ONE_BYTE_LENGTH
    if min(extensions) < 1 or max(extensions) > 255 or max(sizes) > MAX_TWO_BYTE_LENGTH:
        raise ValueError("extension ids are 1 to 255, their values at most 255 bytes")
    if one_byte:
        body = b"".join(bytes([item << 4 | len(value) - 1]) + value for item, value in extensions.items())
    else:
        body = b"".join(bytes([item, len(value)]) + value for item, value in extensions.items())
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", ONE_BYTE_PROFILE if one_byte else TWO_BYTE_PROFILE, len(body) // 4) + body
