"""The wire format of SCTP packets and chunks (RFC 9260 section 3, RFC 3758, RFC 6525): bytes to values and back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import google_crc32c

from media.wire.malformed import MalformedPacket

HEADER, CHUNK_HEADER, DATA_HEADER = 12, 4, 16  # bytes
MAX_PACKET = 1_152  # what one DTLS record carries within an MTU of 1,200, and so never splits
MAX_PAYLOAD = MAX_PACKET - HEADER - DATA_HEADER

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT = range(7)
SHUTDOWN, SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK = range(7, 12)
SHUTDOWN_COMPLETE, RE_CONFIG, FORWARD_TSN = 14, 130, 192

ENDS, BEGINS, UNORDERED = 1, 2, 4  # flags of DATA
REFLECTED = 1  # flag of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's own

HEARTBEAT_INFO, IPV4, IPV6, COOKIE, UNRECOGNISED, PRESERVATIVE, ADDRESS_TYPES = 1, 5, 6, 7, 8, 9, 12
SUPPORTED_EXTENSIONS, FORWARD_TSN_SUPPORTED = 0x8008, 0xC000
KNOWN_PARAMETERS = (
    IPV4,
    IPV6,
    COOKIE,
    UNRECOGNISED,
    PRESERVATIVE,
    ADDRESS_TYPES,
    SUPPORTED_EXTENSIONS,
    FORWARD_TSN_SUPPORTED,
)
OUTGOING_RESET, INCOMING_RESET, TSN_RESET, RESET_RESPONSE, ADD_OUTGOING, ADD_INCOMING = range(13, 19)

# Causes of ERROR and ABORT (RFC 9260 section 3.3.10).
INVALID_STREAM, STALE_COOKIE, UNRECOGNISED_CHUNK, NO_USER_DATA, PROTOCOL_VIOLATION = 1, 3, 6, 9, 13


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of whatever type, without its padding."""

    kind: int
    flags: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its ports, its verification tag and its chunks in order."""

    source: int
    destination: int
    tag: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Init:
    """What INIT and INIT ACK say; `parameters` are those that follow, in order."""

    tag: int
    window: int
    outgoing: int
    incoming: int
    tsn: int
    parameters: tuple[tuple[int, bytes], ...] = ()

    def parameter(self, kind: int) -> bytes | None:
        """Return the first parameter of a type, None where there is none."""
        return next((value for found, value in self.parameters if found == kind), None)

    @property
    def forwards(self) -> bool:
        """Whether its sender takes FORWARD TSN."""
        return self.parameter(FORWARD_TSN_SUPPORTED) is not None


@dataclass(frozen=True, slots=True)
class Data:
    """A message, or the part of one."""

    flags: int
    tsn: int
    stream: int
    number: int
    protocol: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Sack:
    """What has arrived: all up to `cumulative`, and beyond it `gaps`, first and last as distances from it."""

    cumulative: int
    window: int
    gaps: tuple[tuple[int, int], ...] = ()
    duplicates: tuple[int, ...] = ()


def parse_packet_untrusted(packet: bytes) -> Packet:
    """Read one packet; raises MalformedPacket, also for a wrong checksum."""
    if len(packet) < HEADER + CHUNK_HEADER or len(packet) % 4:
        raise MalformedPacket("no SCTP packet has this length")
    source, destination, tag, checksum = struct.unpack_from("!HHI4s", packet)
    if checksum != _checksum(packet[:8], packet[HEADER:]):
        raise MalformedPacket("the checksum is wrong")
    return Packet(source, destination, tag, tuple(_chunks_untrusted(packet)))


def build_packet(source: int, destination: int, tag: int, chunks: Iterable[bytes]) -> bytes:
    """Write one packet of chunks that are written already."""
    head, body = struct.pack("!HHI", source, destination, tag), b"".join(chunks)
    return head + _checksum(head, body) + body


def _checksum(head: bytes, body: bytes) -> bytes:
    # RFC 9260 appendix A: over the packet with zeros in its place, and the least octet first.
    crc = google_crc32c.extend(google_crc32c.value(head + bytes(4)), body)
    return int(crc).to_bytes(4, "little")


def _chunks_untrusted(packet: bytes) -> Iterator[Chunk]:
    at = HEADER
    while at + CHUNK_HEADER <= len(packet):
        kind, flags, size = struct.unpack_from("!BBH", packet, at)
        if size < CHUNK_HEADER or at + size > len(packet):
            raise MalformedPacket("a chunk is cut short")
        yield Chunk(kind, flags, packet[at + CHUNK_HEADER : at + size])
        at += size + -size % 4


def build_chunk(kind: int, value: bytes = b"", flags: int = 0) -> bytes:
    """Write one chunk, padded."""
    return struct.pack("!BBH", kind, flags, CHUNK_HEADER + len(value)) + value + bytes(-len(value) % 4)


def parameters_untrusted(value: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read parameters, or causes of an error: each a type, a length and a value (RFC 9260 section 3.2.1)."""
    found, at = [], 0
    while at + 4 <= len(value):
        kind, size = struct.unpack_from("!HH", value, at)
        if size < 4 or at + size > len(value):
            raise MalformedPacket("a parameter is cut short")
        found.append((kind, value[at + 4 : at + size]))
        at += size + -size % 4
    return tuple(found)


def build_parameter(kind: int, value: bytes = b"") -> bytes:
    """Write one parameter, or one cause of an error, padded."""
    return struct.pack("!HH", kind, 4 + len(value)) + value + bytes(-len(value) % 4)


def parse_init_untrusted(value: bytes) -> Init:
    """Read INIT or INIT ACK; raises MalformedPacket also for what they must not say (section 3.3.2)."""
    if len(value) < 16:
        raise MalformedPacket("INIT is cut short")
    tag, window, outgoing, incoming, tsn = struct.unpack_from("!IIHHI", value)
    init = Init(tag, window, outgoing, incoming, tsn, parameters_untrusted(value[16:]))
    if not init.tag or not init.outgoing or not init.incoming or init.window < 1_500:
        raise MalformedPacket("INIT without a tag, streams or a window")
    return init


def build_init(init: Init) -> bytes:
    """Write the value of INIT or INIT ACK."""
    fixed = struct.pack("!IIHHI", init.tag, init.window, init.outgoing, init.incoming, init.tsn)
    return fixed + b"".join(build_parameter(kind, value) for kind, value in init.parameters)


def unrecognised(init: Init) -> list[bytes]:
    """Return the parameters to be reported as unknown, up to one that says to read no further (section 3.2.1)."""
    reports = []
    for kind, value in init.parameters:
        if kind in KNOWN_PARAMETERS:
            continue
        if kind & 0x4000:
            reports.append(build_parameter(kind, value))
        if not kind & 0x8000:
            break
    return reports


def parse_data_untrusted(chunk: Chunk) -> Data:
    """Read DATA."""
    if len(chunk.value) <= DATA_HEADER - CHUNK_HEADER:
        raise MalformedPacket("DATA without data")
    tsn, stream, number, protocol = struct.unpack_from("!IHHI", chunk.value)
    return Data(chunk.flags & 7, tsn, stream, number, protocol, chunk.value[12:])


def build_data(data: Data) -> bytes:
    """Write DATA as a chunk."""
    head = struct.pack("!IHHI", data.tsn & 0xFFFFFFFF, data.stream, data.number, data.protocol)
    return build_chunk(DATA, head + data.payload, data.flags)


def parse_sack_untrusted(value: bytes) -> Sack:
    """Read SACK; the distances of its gaps rise."""
    if len(value) < 12:
        raise MalformedPacket("SACK is cut short")
    cumulative, window, gap_count, duplicate_count = struct.unpack_from("!IIHH", value)
    if len(value) != 12 + 4 * gap_count + 4 * duplicate_count:
        raise MalformedPacket("SACK of another length than it says")
    numbers = struct.unpack_from(f"!{2 * gap_count}H", value, 12)
    gaps = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    before = 1
    for first, last in gaps:
        if not before < first <= last:
            raise MalformedPacket("gaps that do not rise")
        before = last
    return Sack(cumulative, window, gaps, struct.unpack_from(f"!{duplicate_count}I", value, 12 + 4 * gap_count))


def build_sack(sack: Sack) -> bytes:
    """Write SACK as a chunk."""
    fixed = struct.pack("!IIHH", sack.cumulative & 0xFFFFFFFF, sack.window, len(sack.gaps), len(sack.duplicates))
    gaps = b"".join(struct.pack("!HH", first, last) for first, last in sack.gaps)
    return build_chunk(SACK, fixed + gaps + struct.pack(f"!{len(sack.duplicates)}I", *sack.duplicates))


def parse_forward_untrusted(value: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Read FORWARD TSN (RFC 3758 section 3.2): up to where to go on, and each skipped stream with its last number."""
    if len(value) < 4 or len(value) % 4:
        raise MalformedPacket("FORWARD TSN of a wrong length")
    pairs = struct.unpack_from(f"!{(len(value) - 4) // 2}H", value, 4)
    return int.from_bytes(value[:4]), tuple(zip(pairs[::2], pairs[1::2], strict=True))


def build_forward(cumulative: int, skipped: Iterable[tuple[int, int]]) -> bytes:
    """Write FORWARD TSN as a chunk."""
    pairs = b"".join(struct.pack("!HH", *pair) for pair in skipped)
    return build_chunk(FORWARD_TSN, struct.pack("!I", cumulative & 0xFFFFFFFF) + pairs)


def tsn_after(reference: int, tsn: int) -> int:
    """Return the number without end that a TSN stands for, of those the one nearest to `reference` (section 1.6)."""
    return reference + ((tsn - reference + 0x80000000) & 0xFFFFFFFF) - 0x80000000
