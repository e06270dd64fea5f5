"""H264 as files have it, units with their lengths and parameter sets apart, made Annex B (ISO/IEC 14496-15 5.3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from media.bridge.depacketising import IDR, PPS, SPS, START_CODE
from media.wire.malformed import MalformedPacket


@dataclass(frozen=True, slots=True)
class AvcRecord:
    """What an avcC record says: bytes of each unit's length, and the parameter sets."""

    length_size: int
    parameter_sets: tuple[bytes, ...]


def read_avc_record_untrusted(record: bytes) -> AvcRecord:
    """Read an avcC record; raises MalformedPacket."""
    if len(record) < 7 or record[0] != 1:
        raise MalformedPacket("no avcC record")
    sets: list[bytes] = []
    at = 5
    for mask in (0x1F, 0xFF):  # SPS, then PPS
        count = _number(record, at, 1) & mask
        at += 1
        for _ in range(count):
            size = _number(record, at, 2)
            sets.append(_unit(record, at + 2, size))
            at += 2 + size
    return AvcRecord((record[4] & 3) + 1, tuple(sets))


def to_annex_b_untrusted(record: AvcRecord, frame: bytes) -> bytes:
    """Return a frame with start codes, and the parameter sets in front of an IDR without; raises MalformedPacket."""
    units: list[bytes] = []
    at = 0
    while at < len(frame):
        size = _number(frame, at, record.length_size)
        units.append(_unit(frame, at + record.length_size, size))
        at += record.length_size + size
    kinds = {unit[0] & 0x1F for unit in units}
    if IDR in kinds and not {SPS, PPS} <= kinds:
        units = [*record.parameter_sets, *units]
    return b"".join(START_CODE + unit for unit in units)


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise MalformedPacket("a record or frame cut short")
    return int.from_bytes(data[at : at + size])


def _unit(data: bytes, at: int, size: int) -> bytes:
    if not size or at + size > len(data):
        raise MalformedPacket("a unit of nothing, or cut short")
    return data[at : at + size]
