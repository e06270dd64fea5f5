"""What the readers of MoQ's bytes promise, and those between frames and RTP, as functions of any bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import suppress

from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_ack_frame

from media.bridge.avc import read_avc_record_untrusted, to_annex_b_untrusted
from media.bridge.depacketising import depacketise_untrusted
from media.bridge.packetising import MAX_PAYLOAD, packetise_untrusted
from media.bridge.renditions import choose_untrusted
from media.moq.containers import unwrap_legacy_untrusted, unwrap_loc_untrusted, wrap_legacy, wrap_loc
from media.moq.hang import read_catalog_untrusted, write_catalog
from media.moq.messages import AnnounceRequest, Fetch, GroupHeader, Subscribe, TrackRequest, write_message
from media.moq.packets import AES
from media.moq.qmux import DRAFTS, MAX_CONTROL, STREAMS, QmuxCarrier
from media.moq.qmux_frames import FrameType
from media.moq.session import MAX_OPEN_STREAMS, Session
from media.moq.varint import prefixed, varint
from media.moq.versions import Version
from media.wire.codecs import Codec
from media.wire.malformed import MalformedPacket
from media.wire.rtp import parse_rtp_untrusted
from tests.fuzz.target import TEXT, Target
from tests.media.packets import RECORDINGS
from tests.media.packets import recorded as recorded_packets
from tests.moq.openers import ID
from tests.moq.test_acknowledgements import OPENERS, ack
from tests.moq.test_packets import CRYPTO
from tests.moq.wires import Wire

OPENER = OPENERS[AES[0]]

AVCC = bytes.fromhex("0142c01fffe1000967420028da0140010201000468ce3c80")  # of a picture of 320x240
CATALOGS = (
    {"video": {"renditions": {"v": {"codec": "avc1.42c01f", "description": AVCC.hex(), "codedWidth": 320}}}},
    {"video": {"renditions": {"v": {"codec": "vp8"}, "w": {"codec": "av01.0.04M.08", "container": {"kind": "loc"}}}}},
    {"audio": {"renditions": {"a": {"codec": "opus", "sampleRate": 48_000, "numberOfChannels": 2}}}, "more": [1]},
)
PARAMETERS = {1: 30_000, 4: 1 << 20, 5: 1 << 18, 6: 1 << 18, 7: 1 << 18, 8: 100, 9: 100, 0x20: 1_200}


def chunks(data: bytes) -> Iterator[bytes]:
    """Yield what stands behind each size."""
    at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def sized(*parts: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(part)) + part for part in parts)


# -- frames and RTP ----------------------------------------------------------------------------------------------------


def read_unit(data: bytes) -> None:
    """Cut the bytes into packets as a frame of every codec, and put them together again."""
    for codec in Codec:
        with suppress(MalformedPacket):
            payloads = packetise_untrusted(codec, data, is_keyframe=len(data) % 2 == 0, picture_id=len(data))
            assert codec is Codec.OPUS or max(map(len, payloads)) <= MAX_PAYLOAD
            assert sum(map(len, payloads)) <= 3 * len(data) + 16
            unit = _together(codec, payloads)
            if codec in (Codec.VP8, Codec.VP9, Codec.OPUS):
                assert unit == data
            again = packetise_untrusted(codec, unit, is_keyframe=False)
            assert _together(codec, again) == unit


def _together(codec: Codec, payloads: list[bytes]) -> bytes:
    try:
        return depacketise_untrusted(codec, payloads)
    except MalformedPacket as error:
        raise AssertionError("what we cut can't be put together") from error


def unit_seeds() -> Iterator[bytes]:
    for name in RECORDINGS:
        frames: dict[tuple[int, int], list[bytes]] = {}
        for datagram in recorded_packets(name, "rtp"):
            packet = parse_rtp_untrusted(datagram)
            frame = frames.setdefault((packet.header.ssrc, packet.header.timestamp), [])
            frame.append(datagram[packet.payload_start : packet.payload_end])
        for payloads in list(frames.values())[::20]:
            for codec in Codec:
                with suppress(MalformedPacket):
                    yield depacketise_untrusted(codec, payloads)


def read_avc(data: bytes) -> None:
    """Take the bytes for an avcC record and a frame, each after its size."""
    record_bytes, frame = [*chunks(data), b"", b""][:2]
    with suppress(MalformedPacket):
        record = read_avc_record_untrusted(record_bytes)
        assert 1 <= record.length_size <= 4
        assert sum(map(len, record.parameter_sets)) < len(record_bytes)
        assert len(to_annex_b_untrusted(record, frame)) <= 3 * len(data)


def avc_seeds() -> Iterator[bytes]:
    for unit in (b"\x65picture", b"\x41part", b"\x67sps\x00\x00"):
        yield sized(AVCC, len(unit).to_bytes(4, "big") + unit + (1).to_bytes(4, "big") + b"\x06")


# -- catalogs and containers -------------------------------------------------------------------------------------------


def read_catalog(data: bytes) -> None:
    with suppress(MalformedPacket):
        catalog = read_catalog_untrusted(data)
        assert read_catalog_untrusted(write_catalog(catalog)) == catalog
        chosen = choose_untrusted(catalog, ("audio", "video"))
        assert chosen.keys() <= {"audio", "video"}
        for rendition in chosen.values():
            assert len(rendition.description) <= len(data)
            if rendition.description:
                read_avc_record_untrusted(rendition.description)


def read_container(data: bytes) -> None:
    with suppress(MalformedPacket):
        timestamp, unit = unwrap_legacy_untrusted(data)
        assert unwrap_legacy_untrusted(wrap_legacy(timestamp, unit)) == (timestamp, unit)
    with suppress(MalformedPacket):
        found, unit = unwrap_loc_untrusted(data)
        assert len(unit) < len(data)
        if found is not None:
            assert unwrap_loc_untrusted(wrap_loc(found, unit)) == (found, unit)


def container_seeds() -> Iterator[bytes]:
    yield wrap_legacy(1_000_000, b"picture")
    yield wrap_loc(1_000_000, b"picture")
    yield prefixed(varint(0x06) + varint(90_000) + varint(2) + varint(90_000) + varint(5) + prefixed(b"x")) + b"unit"


# -- QMux and sessions -------------------------------------------------------------------------------------------------


def read_qmux(data: bytes) -> None:
    """Give a connection several records, each after its size, in all drafts."""
    for draft in DRAFTS:
        carrier = QmuxCarrier(draft, lambda: None, lambda: None)
        arrived = 0
        for record in chunks(data):
            for event in carrier.receive_untrusted(record):
                arrived += len(getattr(event, "data", b""))
            carrier.open(unidirectional=True)
            for stream in tuple(carrier._sending)[:4]:
                carrier.write(stream, bytes(100), is_last=True)
        assert arrived <= len(data)
        assert len(carrier._receiving) <= 2 * STREAMS
        assert len(carrier._control) <= MAX_CONTROL
        said = 0
        while carrier.next_record() is not None:
            said += 1
            assert said <= MAX_CONTROL + len(data) + 64


def qmux_seeds() -> Iterator[bytes]:
    body = b"".join(varint(id) + prefixed(varint(value)) for id, value in PARAMETERS.items())
    begun = varint(FrameType.TRANSPORT_PARAMETERS) + prefixed(body)
    asked = varint(0x0E) + varint(0) + varint(0) + prefixed(varint(1) + write_message(VERSION, AnnounceRequest("")))
    reset = b"".join(map(varint, (0x04, 0, 7, 3)))
    granted = varint(0x10) + varint(1 << 30) + varint(0x12) + varint(200) + varint(0x11) + varint(3) + varint(1 << 20)
    yield sized(begun, asked, granted, reset)
    datagram = varint(FrameType.DATAGRAM_WITH_LENGTH) + prefixed(b"datagram")
    yield sized(begun, datagram, b"\x00\x00", varint(FrameType.APPLICATION_CLOSE) + b"\x00\x01x")
    yield sized(begun, varint(0x0B) + varint(2) + b"\x04body", varint(0x348C67529EF8C7BD) + b"\x05")


VERSION = Version.LITE_05


def read_session(data: bytes) -> None:
    """Give a session parts of streams, each after its size, with stream and end in the first byte of each."""
    if not data:
        return
    session = Session(Wire(), list(Version)[data[0] % len(Version)], origin=9)
    session.subscribe("room/bob", "video")
    for part in filter(None, chunks(data[1:])):
        stream, is_last, is_reset = part[0] >> 2, bool(part[0] & 2), bool(part[0] & 1)
        if is_reset:
            session.reset_untrusted(stream, len(part))
        else:
            found = session.receive_untrusted(stream, part[1:], is_last=is_last)
            assert len(found) <= len(data)
    assert len(session._streams) <= MAX_OPEN_STREAMS
    assert 0 <= session._unread <= len(data)
    session.ended()
    assert not session._subscriptions


def session_seeds() -> Iterator[bytes]:
    wishes = [
        (1, AnnounceRequest("room")),
        (2, Subscribe(1, "room/bob", "video")),
        (3, Fetch("room/bob", "video", 1, 0)),
        (6, TrackRequest("room/bob", "video")),
    ]
    for number, version in enumerate(Version):
        parts = []
        for stream, (kind, wish) in enumerate(wishes):
            with suppress(MalformedPacket, KeyError, ValueError):
                parts.append(bytes([stream * 4 << 2]) + varint(kind) + write_message(version, wish))
        group = varint(0) + write_message(version, GroupHeader(0, 5)) + b"\x00\x07picture"
        parts += [bytes([2 << 2]) + group, bytes([(2 << 2) | 2]) + b"\x01\x01x", bytes([(4 << 2) | 1])]
        yield bytes([number]) + sized(*parts)


# -- QUIC --------------------------------------------------------------------------------------------------------------


def read_acknowledgement(payload: bytes) -> None:
    """Open the bytes, and a packet of them that is sealed; what is found in it is what aioquic finds."""
    assert OPENER.open_untrusted(payload, 9) is None
    head = b"\x41" + ID + b"\0\x09"
    found = OPENER.open_untrusted(CRYPTO[AES[0]].encrypt_packet(head, payload.ljust(4, b"\0"), 9), 9)
    if found is None:
        return
    buffer = Buffer(data=payload.lstrip(b"\0"))
    kind = buffer.pull_uint_var()
    ranges, delay = pull_ack_frame(buffer)
    assert (found.delay, found.ranges) == (delay, [(one.start, one.stop) for one in ranges])
    for _ in range(3 if kind == 3 else 0):
        buffer.pull_uint_var()
    assert not buffer.data_slice(buffer.tell(), buffer.capacity).strip(b"\0")


def acknowledgement_seeds() -> Iterator[bytes]:
    plain = ack(900, 5, 50, (3, 4), (0, 70))
    yield from (plain, b"\0\0" + plain + b"\0" * 9, b"\x03" + plain[1:] + bytes((1, 2, 3)), plain + b"\x01", plain * 2)
    yield ack(5_000, 1 << 40, 1, *[(1, 1)] * 70)


MOQ_TARGETS = {
    "units": Target(read_unit, unit_seeds, TEXT),
    "avc": Target(read_avc, avc_seeds),
    "catalog": Target(read_catalog, lambda: (json.dumps(catalog).encode() for catalog in CATALOGS), TEXT),
    "containers": Target(read_container, container_seeds),
    "qmux": Target(read_qmux, qmux_seeds, TEXT),
    "acknowledgement": Target(read_acknowledgement, acknowledgement_seeds),
    "moq-session": Target(read_session, session_seeds, TEXT),
}
