"""How data channels are opened over SCTP, and which payload is what: DCEP and its identifiers (RFC 8831, RFC 8832)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from media.webrtc.sctp_reliability import RELIABLE, Reliability
from media.wire.malformed import MalformedPacket

ACK, OPEN = 2, 3
ACKNOWLEDGED = bytes([ACK])
UNORDERED = 0x80  # in the type of a channel; the other bits say how reliable it is
ALL_ARRIVE, FEW_RETRANSMISSIONS, SHORT_LIFETIME = 0, 1, 2
KINDS = (ALL_ARRIVE, FEW_RETRANSMISSIONS, SHORT_LIFETIME)
MAX_LABEL, MAX_PROTOCOL = 128, 128  # bytes; RFC 8832 has up to 65,535


class Payload(IntEnum):
    """SCTP payload protocol identifiers (RFC 8831 section 8)."""

    DCEP = 50
    STRING = 51
    BINARY = 53
    EMPTY_STRING = 56
    EMPTY_BINARY = 57


@dataclass(frozen=True, slots=True)
class Opening:
    """What DATA_CHANNEL_OPEN asks for."""

    label: str
    protocol: str = ""
    unordered: bool = False
    reliability: Reliability = RELIABLE


def parse_open_untrusted(message: bytes) -> Opening | None:
    """Read a DCEP message: what it opens, None for an acknowledgement. Raises MalformedPacket."""
    if message == ACKNOWLEDGED:
        return None
    if len(message) < 12 or message[0] != OPEN:
        raise MalformedPacket("no message of DCEP")
    kind, bound, label_size, protocol_size = message[1], *struct.unpack_from("!IHH", message, 4)
    if kind & ~UNORDERED not in KINDS or len(message) != 12 + label_size + protocol_size:
        raise MalformedPacket("a channel of an unknown type, or another length than it says")
    if label_size > MAX_LABEL or protocol_size > MAX_PROTOCOL:
        raise MalformedPacket("a label or a protocol is too long")
    try:
        label, protocol = message[12 : 12 + label_size].decode(), message[12 + label_size :].decode()
    except UnicodeDecodeError:
        raise MalformedPacket("a label or a protocol is no UTF-8") from None
    return Opening(label, protocol, bool(kind & UNORDERED), _reliability(kind & ~UNORDERED, bound))


def _reliability(kind: int, bound: int) -> Reliability:
    if kind == ALL_ARRIVE:
        return RELIABLE
    return Reliability(retransmissions=bound) if kind == FEW_RETRANSMISSIONS else Reliability(lifetime_ms=bound)


def build_open(opening: Opening) -> bytes:
    """Write DATA_CHANNEL_OPEN."""
    label, protocol = opening.label.encode(), opening.protocol.encode()
    kind, bound = ALL_ARRIVE, 0
    if opening.reliability.retransmissions is not None:
        kind, bound = FEW_RETRANSMISSIONS, opening.reliability.retransmissions
    elif opening.reliability.lifetime_ms is not None:
        kind, bound = SHORT_LIFETIME, opening.reliability.lifetime_ms
    kind |= UNORDERED if opening.unordered else 0
    return struct.pack("!BBHIHH", OPEN, kind, 0, bound, len(label), len(protocol)) + label + protocol
