"""What the readers of SCTP and of data channels promise: bounded memory, bounded answers, and no exception."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

from media.webrtc import dcep
from media.webrtc import sctp_chunks as wire
from media.webrtc.data_channel import MAX_BUFFERED, ChannelEvent, DataChannels
from media.webrtc.dcep import Opening, Payload
from media.webrtc.sctp import MAX_ANSWERS, PORT, Association
from media.webrtc.sctp_inbound import STREAMS, WINDOW
from media.webrtc.sctp_reliability import Reliability
from media.wire.malformed import MalformedPacket
from tests.fuzz.target import TEXT, Target

SECOND_NS = 1_000_000_000
EVENTS = "mesi.events"


def pair() -> tuple[Association, Association, list[bytes]]:
    """Two ends that have met, and what the first said for that."""
    ends = Association(random_bits=random.Random(1).getrandbits), Association(random_bits=random.Random(2).getrandbits)
    said: list[bytes] = []
    ends[0].connect(SECOND_NS)
    for _ in range(3):
        for end in (0, 1):
            for sent in ends[end].take_packets(SECOND_NS):
                said += [sent] if end == 0 else []
                ends[1 - end].receive_untrusted(sent, SECOND_NS)
    return *ends, said


def read_sctp(data: bytes) -> None:
    """Take the bytes for the chunks of packets, each after its length, from a peer whose tag is right."""
    fresh = Association(random_bits=random.Random(3).getrandbits)
    fresh.receive_untrusted(data, SECOND_NS)
    _, below, _ = pair()
    server = DataChannels(below, labels=(EVENTS,), peers_parity=0, max_message=None, now_ns=SECOND_NS)
    now_ns, at = SECOND_NS, 0
    events: list[ChannelEvent] = []
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        chunks = data[at + 2 : end]
        tag = 0 if chunks[:1] == bytes([wire.INIT]) else below._own_tag
        packet = wire.build_packet(PORT, PORT, tag, [chunks + bytes(-len(chunks) % 4)])
        events += server.receive_untrusted(packet, now_ns)
        answers = server.take_packets(now_ns)
        assert all(len(answer) <= wire.MAX_PACKET for answer in answers)
        assert len(answers) <= MAX_ANSWERS + MAX_BUFFERED // wire.MAX_PAYLOAD
        assert below._inbound._held <= 2 * WINDOW + len(chunks)
        assert len(server._channels) <= STREAMS
        for stream in tuple(server._channels):
            events += server.send(stream, bytes(3_000))
        now_ns += 300_000_000
        events += server.handle_timeout(now_ns)
        at = end
    assert len(events) <= 2 * len(data)


def sctp_seeds() -> Iterator[bytes]:
    client, server, said = pair()
    channels = DataChannels(client, labels=(), peers_parity=1, max_message=None, now_ns=SECOND_NS)
    channels.open(0, Opening(EVENTS))
    channels.open(2, Opening(EVENTS, "", True, Reliability(retransmissions=0)))
    channels.send(0, b"text " * 700)
    client.send(1, Payload.BINARY, b"unordered", unordered=True)
    for turn in range(6):
        packets = client.take_packets(SECOND_NS)
        for sent in packets:
            server.receive_untrusted(sent, SECOND_NS)
        said += packets
        if turn == 2:
            channels.close(0, "over")
            server.send(0, Payload.STRING, bytes(3_000))
        for sent in server.take_packets(SECOND_NS):
            client.receive_untrusted(sent, SECOND_NS)
    bodies = [sent[wire.HEADER :] for sent in said]
    first = client._outbound.next_tsn
    bodies.append(wire.build_chunk(wire.FORWARD_TSN, (first & 0xFFFFFFFF).to_bytes(4) + b"\0\0\0\3"))
    bodies.append(wire.build_chunk(wire.HEARTBEAT, wire.build_parameter(wire.HEARTBEAT_INFO, b"info")))
    bodies.append(wire.build_chunk(wire.SHUTDOWN, (server._inbound.cumulative & 0xFFFFFFFF).to_bytes(4)))
    bodies.append(wire.build_chunk(wire.ABORT))
    yield b"".join(len(body).to_bytes(2) + body for body in bodies)
    yield from (len(body).to_bytes(2) + body for body in bodies)


def read_dcep(data: bytes) -> None:
    with suppress(MalformedPacket):
        opening = dcep.parse_open_untrusted(data)
        assert opening is None or dcep.parse_open_untrusted(dcep.build_open(opening)) == opening


def dcep_seeds() -> Iterator[bytes]:
    yield dcep.ACKNOWLEDGED
    yield dcep.build_open(Opening(EVENTS))
    yield dcep.build_open(Opening("label", "protocol", unordered=True))
    yield dcep.build_open(Opening("label", "", False, Reliability(lifetime_ms=200)))


DATA_TARGETS = {"sctp": Target(read_sctp, sctp_seeds, TEXT), "dcep": Target(read_dcep, dcep_seeds)}
