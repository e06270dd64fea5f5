"""Stream data in packets of our own: a client of aioquic's reads them, and aioquic's books say what they would."""

from __future__ import annotations

import random

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream
from aioquic.tls import CipherSuite, Epoch

from media.moq.frames import Frame
from media.moq.keyring import Keyring
from media.moq.origin import Track
from media.moq.packets import Burst
from media.moq.quic_carrier import QuicCarrier
from media.moq.stream_packets import write_stream_packets
from tests.moq.links import CLIENT, SERVER, Link
from tests.moq.test_quic import SUBSCRIBE, group, group_streams, publish


def watched(link: Link) -> tuple[Track, int]:
    """Return a track to which the client has subscribed, and its session."""
    track = publish(link)
    session = link.connect()
    link.open_bidi(session, SUBSCRIBE)
    return track, session


def payload_of(link: Link, session: int) -> bytes:
    return b"".join(link.received(stream) for stream in group_streams(link, session))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All packets of our own, in the order they were made."""
    made: list[bytes] = []

    bursts_of = QuicCarrier.bursts

    def count(carrier: QuicCarrier, now: float) -> list[Burst]:
        bursts = bursts_of(carrier, now)
        made.extend(packet for burst in bursts for packet in burst.datagrams())
        return bursts

    monkeypatch.setattr(QuicCarrier, "bursts", count)
    return made


def write(quic: QuicConnection, streams: list[int], now: float) -> list[bytes]:
    """Return what leaves of streams that aioquic could as well write."""

    def delivered(delivery: QuicDeliveryState, stream: QuicStream, start: int, stop: int, is_last: bool) -> None:
        stream.sender.on_data_delivery(delivery, start, stop, is_last)

    bursts = write_stream_packets(quic, streams, Keyring(), delivered, now)
    return [packet for burst in bursts for packet in burst.datagrams()]


@pytest.mark.parametrize("cipher", [CipherSuite.AES_128_GCM_SHA256, CipherSuite.CHACHA20_POLY1305_SHA256])
def test_what_is_sent_arrives_whole_under_every_cipher(cipher: CipherSuite, counted: list[bytes]) -> None:
    def prefer(quic: QuicConnection) -> None:
        quic._configuration.cipher_suites = [cipher]

    link = Link(prepare=prefer)
    track, session = watched(link)
    body = random.Random(1).randbytes(50_000)
    group(link, track, 0, body)
    assert link.quic._cryptos[Epoch.ONE_RTT].send.cipher_suite is cipher
    assert body in payload_of(link, session)
    assert len(counted) > 40


@pytest.mark.parametrize("every", [2, 3, 7])
def test_what_is_lost_is_sent_again(every: int, counted: list[bytes]) -> None:
    seen = [0]

    def loses(datagram: bytes) -> bool:
        seen[0] += len(datagram) > 1_000
        return len(datagram) > 1_000 and seen[0] % every == 0

    link = Link(loses=loses)
    track, session = watched(link)
    body = random.Random(every).randbytes(30_000)
    for sequence in range(3):
        group(link, track, sequence, body[sequence * 10_000 :][:10_000])
    link.run()
    assert all(body[at : at + 10_000] in payload_of(link, session) for at in range(0, 30_000, 10_000))
    assert seen[0] > len(counted) // 2 > 10


def test_what_was_lost_before_a_cut_is_not_sent_again() -> None:
    is_lossy = [False]
    link = Link(loses=lambda datagram: is_lossy[0] and len(datagram) > 1_000)
    track, session = watched(link)
    is_lossy[0] = True
    begun = track.begin_group(0, link.relay.now_ns())
    track.append(begun, Frame(1, b"picture" * 1_000))
    for _ in range(3):
        link.now += 0.002
        link._exchange()
    link.peer.cut()
    is_lossy[0] = False
    link.run()
    assert b"picture" not in payload_of(link, session)
    assert not link.connection._carrier._own  # type: ignore[union-attr]


def test_aioquic_is_asked_for_packets_only_when_it_has_something_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    track, session = watched(link)
    group(link, track, 0, bytes(9_000))
    asked = [0]
    ask = link.quic.datagrams_to_send

    def count(now: float) -> list[tuple[bytes, object]]:
        asked[0] += 1
        return ask(now=now)  # type: ignore[return-value]

    monkeypatch.setattr(link.quic, "datagrams_to_send", count)
    begun = track.begin_group(1, link.relay.now_ns())
    for number in range(20):
        track.append(begun, Frame(number, bytes(5_000)))
        for _ in range(4):
            link.now += 0.002
            link._exchange()
    assert asked[0] <= 2
    assert len(payload_of(link, session)) > 100_000


def test_the_books_are_balanced_when_everything_is_acknowledged(counted: list[bytes]) -> None:
    link = Link()
    track, _ = watched(link)
    group(link, track, 0, bytes(40_000))
    link.run()
    space = link.quic._spaces[Epoch.ONE_RTT]
    assert len(counted) > 30
    assert link.quic._loss.bytes_in_flight == space.ack_eliciting_in_flight == 0
    assert not space.sent_packets
    assert link.quic._remote_max_data_used >= 40_000
    assert not [id for id in link.quic._streams if id % 4 == 3 and id > 11]  # groups' streams are forgotten


def test_both_ways_send_the_same_bytes_of_the_same_streams() -> None:
    """Also the flow control that they use up is the same."""
    used = []
    for by_ours in (True, False):
        link = Link()
        track, session = watched(link)
        carrier = link.connection._carrier
        assert carrier is not None
        if not by_ours:
            carrier._take = lambda stream: False  # type: ignore[method-assign]
            carrier.bursts = lambda now: []  # type: ignore[method-assign]
        group(link, track, 0, b"picture" * 3_000)
        group(link, track, 1, b"", finished=True)
        used.append((link.quic._remote_max_data_used, [link.received(id) for id in group_streams(link, session)]))
    assert used[0] == used[1]


def begun(size: int) -> tuple[Link, QuicConnection, int, float]:
    """Return a server's connection with so many bytes unsent on a stream of its own."""
    link = Link(alpn="moq-lite-04")
    link.run()
    stream = link.quic.get_next_available_stream_id(is_unidirectional=True)
    link.quic.send_stream_data(stream, bytes(size), end_stream=True)
    link.now += 1
    return link, link.quic, stream, link.now


def test_congestion_and_the_peers_flow_control_are_kept() -> None:
    _, quic, stream, now = begun(100_000)
    window = quic._loss.congestion_window
    quic._loss._pacer.packet_time = None
    packets = write(quic, [stream], now)
    assert quic._loss.bytes_in_flight == sum(map(len, packets))
    assert window - 2 * 1_200 < quic._loss.bytes_in_flight <= window - 1_200  # one packet is left for the rest
    assert write(quic, [stream], now) == []
    _, quic, stream, now = begun(10_000)
    quic._streams[stream].max_stream_data_remote = 2_000
    write(quic, [stream], now)
    assert quic._streams[stream].sender.highest_offset == 2_000
    _, quic, stream, now = begun(10_000)
    quic._remote_max_data = quic._remote_max_data_used + 3_000
    write(quic, [stream], now)
    assert quic._streams[stream].sender.highest_offset == 3_000
    assert quic._remote_max_data_used == quic._remote_max_data


def test_what_pacing_holds_back_is_held_back() -> None:
    _, quic, stream, now = begun(10_000)
    pacer = quic._loss._pacer
    pacer.packet_time, pacer.bucket_max, pacer.bucket_time, pacer.evaluation_time = 0.01, 0.02, 0.02, now
    assert len(write(quic, [stream], now)) == 2
    assert write(quic, [stream], now) == []
    assert len(write(quic, [stream], now + 0.015)) == 2


def test_several_streams_share_a_packet_in_the_order_given() -> None:
    link, quic, first, now = begun(300)
    second = quic.get_next_available_stream_id(is_unidirectional=True)
    quic.send_stream_data(second, b"s" * 200)
    (packet,) = write(quic, [second, first], now)
    link.client.receive_datagram(packet, SERVER, now=now)
    link.events.clear()
    while (event := link.client.next_event()) is not None:
        link.see(event)
    assert [(event.stream_id, len(event.data)) for event in link.events] == [(second, 200), (first, 300)]  # type: ignore[attr-defined]


def test_what_needs_other_packets_or_other_keys_is_left_to_aioquic() -> None:
    link, quic, stream, now = begun(3_000)
    link.quic.request_key_update()
    assert not Keyring().is_plain(quic)
    link.connection.handle_quic_timer(now)  # nothing of ours asked for this
    link.run()
    assert len(link.received(stream)) == 3_000
    _, quic, stream, now = begun(3_000)
    quic.close()
    assert not Keyring().is_plain(quic)
    _, quic, stream, now = begun(3_000)
    quic.reset_stream(stream, 1)
    assert write(quic, [stream], now) == []
    _, quic, stream, now = begun(3_000)
    quic._network_paths[0].is_validated = False
    assert not Keyring().is_plain(quic)
    assert write(quic, [stream + 400], now) == []


def test_after_the_clients_key_update_packets_carry_the_new_phase() -> None:
    link, quic, stream, now = begun(3_000)
    link.client.request_key_update()
    link.client.send_ping(1)
    for datagram, _ in link.client.datagrams_to_send(now=now):
        quic.receive_datagram(datagram, CLIENT, now=now)
    assert quic._cryptos[Epoch.ONE_RTT].send.key_phase == 1
    packets = write(quic, [stream], now)
    for packet in packets:
        link.client.receive_datagram(packet, SERVER, now=now)
    while (event := link.client.next_event()) is not None:
        link.see(event)
    assert len(link.received(stream)) == 3_000


def test_nothing_is_due_sooner_than_is_said_after_something_was_sent() -> None:
    link = Link()
    track, _ = watched(link)
    begun = track.begin_group(0, link.relay.now_ns())
    waits = []
    for number in range(200):
        if number % 3 == 0:
            track.append(begun, Frame(number, bytes(500 + 40 * number)))
        link.now += 0.004
        before = link.quic._packet_number
        link._exchange()
        timer = link.quic.get_timer()
        assert timer is not None
        if link.quic._packet_number > before:
            waits.append(link.connection.quiet_ns)
            assert timer >= link.now + link.connection.quiet_ns / 1e9
    assert max(waits) > 25_000_000
    # What is to be acknowledged, what pacing holds back, and what may be lost, can be due at any moment.
    space = link.quic._loss.spaces[-1]
    for about, name in ((space, "ack_at"), (space, "loss_time"), (link.quic, "_pacing_at")):
        setattr(about, name, link.now)
        assert link.connection.quiet_ns == 0
        setattr(about, name, None)
    assert link.connection.quiet_ns > 0


def test_a_probe_is_sent_when_everything_is_lost_in_silence() -> None:
    """The timer of a connection is not always looked at; that of probes is none the less kept."""
    link = Link()
    track, session = watched(link)
    group(link, track, 0, b"before")
    timer = link.quic.get_timer()
    link.loses = lambda datagram: True
    track.append(track.begin_group(1, link.relay.now_ns()), Frame(1, b"picture"))
    link.now += 0.004
    link._exchange()
    due = link.quic.get_timer()
    assert timer is not None
    assert due is not None
    assert due < timer
    link.loses = lambda datagram: False
    link.now = due
    link.connection.handle_quic_timer(link.now)
    link.run(20)
    assert b"picture" in payload_of(link, session)
