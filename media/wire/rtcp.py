"""Reads and writes compound and reduced-size RTCP (RFC 3550 section 6, RFC 4585, RFC 5104, RFC 5506)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from media.wire import twcc
from media.wire.malformed import MalformedPacket
from media.wire.twcc import Twcc

SR, RR, SDES, BYE, RTPFB, PSFB = 200, 201, 202, 203, 205, 206
NACK_FORMAT, TWCC_FORMAT = 1, 15  # of RTPFB
PLI_FORMAT, FIR_FORMAT, REMB_FORMAT = 1, 4, 15  # of PSFB
MAX_REPORT_BLOCKS = 31  # five bits
_REPORT_BLOCK = struct.Struct("!IB3sIIII")
_SENDER_INFO = struct.Struct("!IQIII")
_CNAME = 1
_MANTISSA_BITS = 18  # of REMB's rate; what is lost of it is rounded down


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one source (RFC 3550 section 6.4.1).

    `fraction_lost` counts 256ths; `lost` is signed, 24 bits; `jitter` is in RTP clock units; `last_sr` is the middle
    of an NTP time, `since_last_sr` counts 65536ths of a second.
    """

    ssrc: int
    fraction_lost: int
    lost: int
    highest_seq: int
    jitter: int
    last_sr: int
    since_last_sr: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    """`ntp` is a 64-bit NTP time, `rtp_timestamp` the same moment on the media clock (RFC 3550 section 6.4.1)."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RFC 3550 section 6.4.2."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class Sdes:
    """Names of sources: (SSRC, CNAME) for each chunk that has one; other items are skipped (RFC 3550 section 6.5)."""

    names: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """Sources that end (RFC 3550 section 6.6)."""

    ssrcs: tuple[int, ...]
    reason: bytes = b""


@dataclass(frozen=True, slots=True)
class Nack:
    """Sequence numbers that are missing, in rising order modulo 2^16 (RFC 4585 section 6.2.1)."""

    sender_ssrc: int
    media_ssrc: int
    sequence_numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pli:
    """A decoder lost the picture (RFC 4585 section 6.3.1)."""

    sender_ssrc: int
    media_ssrc: int


@dataclass(frozen=True, slots=True)
class Fir:
    """A full picture is demanded: (SSRC, command number) for each source (RFC 5104 section 4.3.1)."""

    sender_ssrc: int
    requests: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Remb:
    """A receiver's estimate for several sources, in bit/s (draft-alvestrand-rmcat-remb-03)."""

    sender_ssrc: int
    bitrate_bps: int
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A packet that nobody here reads, such as XR; `count` are the five bits after the version."""

    packet_type: int
    count: int
    body: bytes


RtcpPacket = SenderReport | ReceiverReport | Sdes | Bye | Nack | Pli | Fir | Remb | Twcc | Unknown


def parse_rtcp_untrusted(compound: bytes) -> list[RtcpPacket]:
    """Parse all packets of a datagram; what follows a malformed one is dropped.

    Raises MalformedPacket when not even the first one can be read.
    """
    packets: list[RtcpPacket] = []
    at = 0
    while at < len(compound) or not packets:
        try:
            packet, at = _parse_one(compound, at)
        except MalformedPacket:
            if packets:
                break
            raise
        packets.append(packet)
    return packets


def build_rtcp(*packets: RtcpPacket) -> bytes:
    """Write packets one after the other."""
    return b"".join(_build_one(packet) for packet in packets)


def _parse_one(compound: bytes, at: int) -> tuple[RtcpPacket, int]:
    if at + 4 > len(compound):
        raise MalformedPacket("no room for an RTCP header")
    first, packet_type, words = struct.unpack_from("!BBH", compound, at)
    end = at + 4 + 4 * words
    if first >> 6 != 2 or end > len(compound):
        raise MalformedPacket("not RTCP version 2, or longer than the datagram")
    body = compound[at + 4 : end]
    if first & 0x20:
        # Browsers pad transport feedback by 1 to 3 bytes, which RFC 3550 does not allow: only the size is checked.
        if not body or body[-1] == 0 or body[-1] > len(body):
            raise MalformedPacket("impossible padding")
        body = body[: -body[-1]]
    count = first & 0x1F
    reader = _READERS.get((packet_type, count)) or _READERS.get((packet_type, None))
    return (reader(count, body) if reader else Unknown(packet_type, count, body)), end


def _parse_sr(count: int, body: bytes) -> SenderReport:
    _need(body, _SENDER_INFO.size)
    ssrc, ntp, rtp_timestamp, packets, octets = _SENDER_INFO.unpack_from(body)
    return SenderReport(ssrc, ntp, rtp_timestamp, packets, octets, _blocks(count, body[_SENDER_INFO.size :]))


def _parse_rr(count: int, body: bytes) -> ReceiverReport:
    _need(body, 4)
    return ReceiverReport(int.from_bytes(body[:4], "big"), _blocks(count, body[4:]))


def _blocks(count: int, body: bytes) -> tuple[ReportBlock, ...]:
    _need(body, count * _REPORT_BLOCK.size)
    blocks = []
    for ssrc, fraction, lost, *rest in _REPORT_BLOCK.iter_unpack(body[: count * _REPORT_BLOCK.size]):
        blocks.append(ReportBlock(ssrc, fraction, int.from_bytes(lost, "big", signed=True), *rest))
    return tuple(blocks)


def _parse_sdes(count: int, body: bytes) -> Sdes:
    names: list[tuple[int, bytes]] = []
    at = 0
    for _ in range(count):
        _need(body, at + 4)
        ssrc = int.from_bytes(body[at : at + 4], "big")
        at += 4
        while at < len(body) and body[at] != 0:
            _need(body, at + 2)
            kind, end = body[at], at + 2 + body[at + 1]
            _need(body, end)
            if kind == _CNAME:
                names.append((ssrc, body[at + 2 : end]))
            at = end
        at += 4 - at % 4  # at least one zero ends the chunk, and it ends on a word
    return Sdes(tuple(names))


def _parse_bye(count: int, body: bytes) -> Bye:
    _need(body, 4 * count)
    reason = body[4 * count :]
    if reason:
        _need(reason, 1 + reason[0])
    return Bye(struct.unpack_from(f"!{count}I", body), reason[1 : 1 + reason[0]] if reason else b"")


def _parse_nack(count: int, body: bytes) -> Nack:
    sender, media = _two_ssrcs(body)
    numbers: list[int] = []
    for first, mask in struct.iter_unpack("!HH", body[8 : len(body) - len(body) % 4]):
        numbers += [first, *((first + 1 + bit) & 0xFFFF for bit in range(16) if mask >> bit & 1)]
    return Nack(sender, media, tuple(numbers))


def _parse_twcc(count: int, body: bytes) -> Twcc:
    return twcc.decode_untrusted(*_two_ssrcs(body), body[8:])


def _parse_pli(count: int, body: bytes) -> Pli:
    return Pli(*_two_ssrcs(body))


def _parse_fir(count: int, body: bytes) -> Fir:
    sender, _ = _two_ssrcs(body)
    entries = body[8 : len(body) - len(body) % 8]
    return Fir(sender, tuple((ssrc, number) for ssrc, number in struct.iter_unpack("!IB3x", entries)))


def _parse_remb(count: int, body: bytes) -> Remb | Unknown:
    sender, _ = _two_ssrcs(body)
    if body[8:12] != b"REMB":
        return Unknown(PSFB, count, body)  # another application's message (RFC 4585 section 6.4)
    _need(body, 16)
    _need(body, 16 + 4 * body[12])
    exponent, mantissa = body[13] >> 2, int.from_bytes(body[13:16], "big") & 0x3FFFF
    return Remb(sender, mantissa << exponent, struct.unpack_from(f"!{body[12]}I", body, 16))


_READERS: dict[tuple[int, int | None], Callable[[int, bytes], RtcpPacket]] = {
    (SR, None): _parse_sr,
    (RR, None): _parse_rr,
    (SDES, None): _parse_sdes,
    (BYE, None): _parse_bye,
    (RTPFB, NACK_FORMAT): _parse_nack,
    (RTPFB, TWCC_FORMAT): _parse_twcc,
    (PSFB, PLI_FORMAT): _parse_pli,
    (PSFB, FIR_FORMAT): _parse_fir,
    (PSFB, REMB_FORMAT): _parse_remb,
}


def _two_ssrcs(body: bytes) -> tuple[int, int]:
    _need(body, 8)
    return int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")


def _need(body: bytes, size: int) -> None:
    if len(body) < size:
        raise MalformedPacket(f"{len(body)} bytes where {size} are announced")


def _build_one(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport(ssrc, ntp, rtp_timestamp, packets, octets, blocks):
            return _packet(
                SR, len(blocks), _SENDER_INFO.pack(ssrc, ntp, rtp_timestamp, packets, octets), *_pack(blocks)
            )
        case ReceiverReport(ssrc, blocks):
            return _packet(RR, len(blocks), struct.pack("!I", ssrc), *_pack(blocks))
        case Sdes(names):
            return _packet(SDES, len(names), *(_chunk(ssrc, name) for ssrc, name in names))
        case Bye(ssrcs, reason):
            text = bytes([len(reason)]) + reason if reason else b""
            return _packet(BYE, len(ssrcs), struct.pack(f"!{len(ssrcs)}I", *ssrcs), text + bytes(-len(text) % 4))
        case Nack(sender, media, numbers):
            return _packet(RTPFB, NACK_FORMAT, struct.pack("!II", sender, media), *_nack_entries(numbers))
        case Twcc(sender, media):
            return _packet(RTPFB, TWCC_FORMAT, struct.pack("!II", sender, media), twcc.encode(packet))
        case Pli(sender, media):
            return _packet(PSFB, PLI_FORMAT, struct.pack("!II", sender, media))
        case Fir(sender, requests):
            entries = (struct.pack("!IB3x", ssrc, number) for ssrc, number in requests)
            return _packet(PSFB, FIR_FORMAT, struct.pack("!II", sender, 0), *entries)
        case Unknown(packet_type, count, body):
            return _packet(packet_type, count, body)
        case Remb(sender, bitrate, ssrcs):
            exponent = max(bitrate.bit_length() - _MANTISSA_BITS, 0)
            told = len(ssrcs) << 24 | exponent << _MANTISSA_BITS | bitrate >> exponent
            return _packet(PSFB, REMB_FORMAT, struct.pack(f"!II4sI{len(ssrcs)}I", sender, 0, b"REMB", told, *ssrcs))


def _packet(packet_type: int, count: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if count > MAX_REPORT_BLOCKS or len(body) % 4:
        raise ValueError("more entries than five bits count, or no whole words")
    return struct.pack("!BBH", 0x80 | count, packet_type, len(body) // 4) + body


def _pack(blocks: Iterable[ReportBlock]) -> Iterator[bytes]:
    for block in blocks:
        lost = block.lost.to_bytes(3, "big", signed=True)
        rest = (block.highest_seq, block.jitter, block.last_sr, block.since_last_sr)
        yield _REPORT_BLOCK.pack(block.ssrc, block.fraction_lost, lost, *rest)


def _chunk(ssrc: int, name: bytes) -> bytes:
    items = bytes([_CNAME, len(name)]) + name
    return struct.pack("!I", ssrc) + items + bytes(4 - len(items) % 4)


def _nack_entries(numbers: Iterable[int]) -> Iterator[bytes]:
    first, mask = -1, 0
    for number in numbers:
        ahead = (number - first) & 0xFFFF
        if first >= 0 and 1 <= ahead <= 16:
            mask |= 1 << (ahead - 1)
            continue
        if first >= 0:
            yield struct.pack("!HH", first, mask)
        first, mask = number, 0
    if first >= 0:
        yield struct.pack("!HH", first, mask)
