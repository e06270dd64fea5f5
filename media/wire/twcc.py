"""Transport-wide feedback: when each packet arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from media.wire.malformed import MalformedPacket

TICK_NS = 250_000  # what deltas count in
REFERENCE_NS = 64_000_000  # what the reference time counts in
TICKS_PER_REFERENCE = REFERENCE_NS // TICK_NS
MAX_STATUSES = 1024  # in one call: as long as the log of arrivals
MAX_STATUSES_READ = 8192  # a chunk of two bytes announces that many: without a limit small packets cost much time
MAX_REPORT = 1200  # bytes of a whole RTCP packet, headers included: what every path carries
_FIXED = 20  # bytes before the chunks: RTCP header, two SSRCs, base, count, reference time
_LOST, _SMALL, _LARGE, _RESERVED = 0, 1, 2, 3
_MAX_RUN = 0x1FFF
_ONE_BIT_SYMBOLS, _TWO_BIT_SYMBOLS = 14, 7


@dataclass(frozen=True, slots=True)
class Twcc:
    """One report about the packets from `base_seq` on (section 3.1).

    `deltas[i]` is None for a lost packet, else the ticks of 250 us since the packet received before it; the first one
    counts from `reference_time`, in units of 64 ms modulo 2^24.
    """

    sender_ssrc: int
    media_ssrc: int
    base_seq: int
    feedback_count: int
    reference_time: int
    deltas: tuple[int | None, ...]


def reports(base_seq: int, arrivals_ns: Sequence[int | None], template: Twcc) -> Iterator[Twcc]:
    """Yield the reports that tell when packets `base_seq`, `base_seq` + 1, ... arrived (None: not).

    A new report starts where a delta does not fit 16 bits, and before a report grows beyond 1200 bytes; what was lost
    at the end is left to the next one. SSRCs and the first feedback count come from `template`.
    """
    assert len(arrivals_ns) <= MAX_STATUSES, "the log of arrivals is not longer"
    count = template.feedback_count
    at = 0
    while any(arrival is not None for arrival in arrivals_ns[at:]):
        ticks = [None if arrival is None else arrival // TICK_NS for arrival in arrivals_ns[at:]]
        reference = next(tick for tick in ticks if tick is not None) // TICKS_PER_REFERENCE
        deltas = _deltas(ticks, reference * TICKS_PER_REFERENCE)
        number = (base_seq + at) & 0xFFFF
        yield Twcc(template.sender_ssrc, template.media_ssrc, number, count, reference & 0xFFFFFF, deltas)
        count = (count + 1) & 0xFF
        at += len(deltas)


def _deltas(ticks: Sequence[int | None], before: int) -> tuple[int | None, ...]:
    """Return as many deltas as fit one report; it ends with a received packet."""
    deltas: list[int | None] = []
    size, end = _FIXED, 0
    for tick in ticks:
        if tick is None:
            deltas.append(None)
            continue
        delta = tick - before
        size += 1 if 0 <= delta <= 0xFF else 2
        chunks = 2 * (len(deltas) // _TWO_BIT_SYMBOLS + 1)  # the most they can need
        if not -0x8000 <= delta <= 0x7FFF or size + chunks + 3 > MAX_REPORT:
            break
        deltas.append(delta)
        before, end = tick, len(deltas)
    return tuple(deltas[:end])


def encode(report: Twcc) -> bytes:
    """Write what follows the two SSRCs of the RTCP packet, padded with zeros to 32 bits."""
    symbols = [_symbol(delta) for delta in report.deltas]
    head = struct.pack("!HH", report.base_seq, len(symbols))
    head += report.reference_time.to_bytes(3, "big") + bytes([report.feedback_count])
    received = (delta for delta in report.deltas if delta is not None)
    body = b"".join(struct.pack("!B" if 0 <= delta <= 0xFF else "!h", delta) for delta in received)
    block = head + b"".join(_chunks(symbols)) + body
    return block + bytes(-len(block) % 4)


def _symbol(delta: int | None) -> int:
    if delta is None:
        return _LOST
    return _SMALL if 0 <= delta <= 0xFF else _LARGE


def _chunks(symbols: list[int]) -> Iterator[bytes]:
    """Choose, chunk by chunk, the form that covers most symbols (sections 3.1.3 and 3.1.4)."""
    at = 0
    while at < len(symbols):
        run = 1
        while at + run < len(symbols) and symbols[at + run] == symbols[at] and run < _MAX_RUN:
            run += 1
        window = symbols[at : at + _ONE_BIT_SYMBOLS]
        bits = _ONE_BIT_SYMBOLS if max(window) <= _SMALL else _TWO_BIT_SYMBOLS
        if run >= min(bits, len(window)):
            yield struct.pack("!H", symbols[at] << 13 | run)
            at += run
            continue
        width = _ONE_BIT_SYMBOLS // bits
        value = 0
        for symbol in window[:bits]:
            value = value << width | symbol
        value <<= width * (bits - len(window[:bits]))
        yield struct.pack("!H", 0x8000 | (0x4000 if width == 2 else 0) | value)
        at += bits


def decode_untrusted(sender_ssrc: int, media_ssrc: int, block: bytes) -> Twcc:
    """Read what follows the two SSRCs of the RTCP packet; raises MalformedPacket."""
    if len(block) < 8:
        raise MalformedPacket("transport feedback without its header")
    base_seq, count = struct.unpack_from("!HH", block)
    if count > MAX_STATUSES_READ:
        raise MalformedPacket(f"transport feedback about {count} packets at once")
    symbols: list[int] = []
    at = 8
    while len(symbols) < count:
        if at + 2 > len(block):
            raise MalformedPacket("transport feedback: fewer chunks than packets announced")
        symbols += _chunk_symbols(int.from_bytes(block[at : at + 2], "big"))
        at += 2
    deltas: list[int | None] = []
    for symbol in symbols[:count]:
        if symbol == _LOST:
            deltas.append(None)
            continue
        if symbol == _RESERVED or at + symbol > len(block):
            raise MalformedPacket("transport feedback: a reserved symbol, or fewer deltas than received packets")
        deltas.append(int.from_bytes(block[at : at + symbol], "big", signed=symbol == _LARGE))
        at += symbol  # a small delta takes one byte, a large one two: as their symbols say
    return Twcc(sender_ssrc, media_ssrc, base_seq, block[7], int.from_bytes(block[4:7], "big"), tuple(deltas))


def _chunk_symbols(chunk: int) -> list[int]:
    if not chunk & 0x8000:
        return [chunk >> 13 & 3] * (chunk & _MAX_RUN) or _empty_run()
    if chunk & 0x4000:
        return [chunk >> shift & 3 for shift in range(12, -1, -2)]
    return [chunk >> shift & 1 for shift in range(13, -1, -1)]


def _empty_run() -> list[int]:
    # Legal bits without meaning: a sender that repeats them would keep us reading for nothing.
    raise MalformedPacket("transport feedback: a run of no packets")
