"""What QMUX records hold: types of frames, transport parameters, and what is read of them (draft-ietf-quic-qmux)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class FrameType(IntEnum):
    """Types of frames: QUIC's (RFC 9000 section 19, RFC 9221 section 4), and the drafts' own, which are long."""

    PADDING = 0x00
    RESET_STREAM = 0x04
    STOP_SENDING = 0x05
    STREAM = 0x08  # to STREAM_LAST, by what it has
    STREAM_LAST = 0x0F
    MAX_DATA = 0x10
    MAX_STREAM_DATA = 0x11
    MAX_STREAMS_BIDI = 0x12
    MAX_STREAMS_UNI = 0x13
    DATA_BLOCKED = 0x14
    STREAM_DATA_BLOCKED = 0x15
    STREAMS_BLOCKED_BIDI = 0x16
    STREAMS_BLOCKED_UNI = 0x17
    CONNECTION_CLOSE = 0x1C
    APPLICATION_CLOSE = 0x1D
    DATAGRAM = 0x30
    DATAGRAM_WITH_LENGTH = 0x31
    TRANSPORT_PARAMETERS = 0x3F5153300D0A0D0A
    PING = 0x348C67529EF8C7BD
    PONG = 0x348C67529EF8C7BE


HAS_FIN, HAS_LENGTH, HAS_OFFSET = 0x01, 0x02, 0x04  # bits of a STREAM frame's type


class Parameter(IntEnum):
    """Transport parameters that are looked at (RFC 9000 section 18.2, RFC 9221 section 3, and the drafts')."""

    IDLE_MS = 1
    DATA = 4
    BIDI_LOCAL = 5
    BIDI_REMOTE = 6
    UNI = 7
    STREAMS_BIDI = 8
    STREAMS_UNI = 9
    DATAGRAM_SIZE = 0x20
    RECORD_SIZE = 0x0571C59429CD0845


KNOWN_PARAMETERS = frozenset(Parameter)


@dataclass(frozen=True, slots=True)
class StreamArrived:
    """A part of a stream, in order."""

    stream: int
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer gave up its half of a stream."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The peer wants no more of our half, which was reset."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class DatagramArrived:
    """A datagram."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over."""

    code: int
    reason: str


QmuxEvent = StreamArrived | StreamReset | StreamStopped | DatagramArrived | Closed
