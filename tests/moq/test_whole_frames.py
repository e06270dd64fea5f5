"""Frames that go straight from their tracks into packets, and those that have to be looked at piece by piece."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from aioquic.quic.connection import QuicConnection

from media.moq import connection, stream_packets
from media.moq.frames import Frame
from media.moq.messages import Subscribe, write_message
from media.moq.origin import Broadcast, Track, track_info
from media.moq.packets import Burst
from media.moq.quic_carrier import QuicCarrier
from media.moq.varint import varint
from media.moq.whole_frames import MAX_FRAMES, send_whole_frames
from tests.moq.links import Link
from tests.moq.nodes import Everything
from tests.moq.test_quic import SUBSCRIBE, V5, group_streams, publish
from tests.moq.test_stream_packets import payload_of, watched


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something went straight, and how often it could not."""
    counted = Counter[str]()

    def count(deliveries: object, carrier: QuicCarrier, now: float) -> Burst | None:
        burst = send_whole_frames(deliveries, carrier, now)  # type: ignore[arg-type]
        counted["straight" if burst is not None else "not"] += 1
        return burst

    monkeypatch.setattr(connection, "send_whole_frames", count)
    return counted


def turn(link: Link, seconds: float = 0.002) -> None:
    link.now += seconds
    link._exchange()


def settle(link: Link) -> None:
    for _ in range(20):
        turn(link, 0.03)


def show(link: Link, track: Track, payloads: list[bytes]) -> None:
    """Publish a group frame by frame."""
    begun = track.begin_group(track.next_sequence, link.relay.now_ns())
    for number, payload in enumerate(payloads):
        track.append(begun, Frame(number * 33_000, payload))
        settle(link)
    track.finish_group(begun)
    settle(link)


def bodies(link: Link, session: int) -> list[bytes]:
    return [link.received(stream) for stream in group_streams(link, session)]


def test_both_ways_send_the_same_and_use_up_the_same(ways: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    payloads = [random.Random(size).randbytes(size) for size in (0, 1, 80, 1_170, 9_000)]
    for is_straight in (True, False):
        link = Link()
        track, session = watched(link)
        settle(link)
        link.quic._loss._cc.congestion_window = 1 << 20
        ways.clear()
        if not is_straight:
            monkeypatch.setattr(connection, "send_whole_frames", lambda *about: None)
        for _ in range(3):
            show(link, track, payloads)
        assert ways["straight"] == 3 * len(payloads) * is_straight
        (delivery,) = link.peer.deliveries.values()
        found.append((bodies(link, session), link.quic._remote_max_data_used, delivery.counts["groups"]))
        assert not [id for id in link.quic._streams if id % 4 == 3 and id > 11]  # groups' streams are forgotten
    assert found[0] == found[1]
    assert all(payload in found[0][0][0] for payload in payloads)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_went_straight_and_was_lost_is_sent_again(seed: int, ways: Counter[str]) -> None:
    dice = random.Random(seed)
    link = Link()
    track, session = watched(link)
    settle(link)
    ways.clear()
    link.loses = lambda datagram: len(datagram) > 400 and dice.random() < 0.2
    payloads = [dice.randbytes(400) for _ in range(40)]
    show(link, track, payloads)
    link.loses = lambda datagram: False
    link.run()
    assert ways["straight"] > 20
    assert all(payload in payload_of(link, session) for payload in payloads)


def test_nothing_goes_straight_to_whom_the_right_is_gone(ways: Counter[str]) -> None:
    rights = Everything()
    link = Link(rights=rights)
    track, session = watched(link)
    show(link, track, [b"public"])
    begun = track.begin_group(track.next_sequence, link.relay.now_ns())
    track.append(begun, Frame(1, b"SECRET"))
    rights.is_admitted = False
    ways.clear()
    settle(link)
    assert ways["not"]
    assert not ways["straight"]
    assert not [body for body in bodies(link, session) if b"SECRET" in body]
    (delivery,) = link.peer.deliveries.values()
    assert delivery.counts["groups_not_admitted"] == 1


@pytest.mark.parametrize("is_whole", [True, False])
def test_after_a_cut_nothing_that_went_straight_is_sent_again(is_whole: bool, ways: Counter[str]) -> None:
    link = Link()
    track, session = watched(link)
    settle(link)
    link.loses = lambda datagram: True
    begun = track.begin_group(track.next_sequence, link.relay.now_ns())
    track.append(begun, Frame(1, b"SECRET" * 200))
    if is_whole:
        track.finish_group(begun)
    ways.clear()
    turn(link)
    assert ways["straight"] == 1
    link.peer.cut()
    link.loses = lambda datagram: False
    link.run()
    assert not [body for body in bodies(link, session) if b"SECRET" in body]


def test_what_is_wanted_most_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    broadcast = Broadcast("room/bob")
    link.origin.begin(broadcast)
    session = link.connect()
    tracks = [broadcast.add_track(name, track_info(60)) for name in ("low", "high", "middle")]
    for number, (track, priority) in enumerate(zip(tracks, (1, 9, 5), strict=True)):
        wish = Subscribe(number, "room/bob", track.name, priority)
        link.open_bidi(session, varint(2) + write_message(V5, wish))
    settle(link)
    sent: list[list[bytes]] = []
    send = stream_packets.send_chunks

    def note(quic: QuicConnection, keyring: object, chunks: list[stream_packets.Sending], *about: object) -> Burst:
        sent.append([bytes(chunk.data)[-3:] for _, chunk in chunks])
        return send(quic, keyring, chunks, *about)  # type: ignore[arg-type]

    monkeypatch.setattr("media.moq.quic_carrier.send_chunks", note)
    for track, payload in zip(tracks, (b"low", b"top", b"mid"), strict=True):
        track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, payload))
    turn(link)
    assert sent == [[b"top", b"mid", b"low"]]


def hold_up(link: Link, why: str) -> None:
    """Leave no room for 5,000 bytes."""
    quic = link.quic
    quic._loss._cc.congestion_window, quic._loss._pacer.packet_time = 1 << 20, None
    match why:
        case "congestion":
            quic._loss._cc.congestion_window = 4_800
        case "pacing":
            pacer = quic._loss._pacer
            pacer.packet_time, pacer.bucket_max, pacer.bucket_time, pacer.evaluation_time = 1.0, 2.0, 2.0, link.now
        case "connection":
            quic._remote_max_data = quic._remote_max_data_used + 4_000
        case "stream":
            quic._remote_max_stream_data_uni = 4_000


@pytest.mark.parametrize("why", ["congestion", "pacing", "connection", "stream"])
def test_what_finds_no_room_does_not_go_straight(why: str, ways: Counter[str]) -> None:
    link = Link()
    track, session = watched(link)
    settle(link)
    hold_up(link, why)
    used = link.quic._remote_max_data_used
    ways.clear()
    track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, b"x" * 5_000))
    turn(link)
    assert ways == {"not": 1}
    assert link.quic._remote_max_data_used - used < 4_200
    assert b"x" * 5_000 not in payload_of(link, session)


def test_what_is_behind_does_not_go_straight(ways: Counter[str]) -> None:
    link = Link()
    track, session = watched(link)
    settle(link)
    begun = track.begin_group(0, link.relay.now_ns())
    for number in range(MAX_FRAMES + 1):
        track.append(begun, Frame(number, b"x"))
    ways.clear()
    turn(link)
    assert ways == {"not": 1}
    track.append(begun, Frame(99, b"y"))
    track.append(track.begin_group(1, link.relay.now_ns()), Frame(1, b"z"))
    turn(link)
    assert ways == {"not": 2}  # two groups at once: one may be too late
    settle(link)
    assert b"y" in payload_of(link, session)
    assert b"z" in payload_of(link, session)


def test_a_stream_that_the_peer_does_not_grant_is_waited_for(ways: Counter[str]) -> None:
    link = Link()
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    settle(link)
    granted, link.quic._remote_max_streams_uni = link.quic._remote_max_streams_uni, 0
    track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, b"picture"))
    ways.clear()
    turn(link)
    assert ways == {"not": 1}
    link.quic._remote_max_streams_uni = granted
    link.connection._wake()
    settle(link)
    assert b"picture" in payload_of(link, session)


def test_what_follows_at_once_goes_straight_too(ways: Counter[str]) -> None:
    link = Link()
    track, session = watched(link)
    settle(link)
    ways.clear()
    begun = track.begin_group(0, link.relay.now_ns())
    for number in range(3):
        track.append(begun, Frame(number, b"frame %d" % number))
        turn(link)
    assert ways == {"straight": 3}
    settle(link)
    assert all(b"frame %d" % number in payload_of(link, session) for number in range(3))
