"""Groups that leave by the kernel's packets: a client of aioquic's reads them, and what may not leave does not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived
from aioquic.tls import CipherSuite, Epoch

from media.moq.carriers.quic_carrier import QuicCarrier
from media.moq.kernel import columns as c
from media.moq.protocol.frames import Frame
from media.moq.protocol.messages import Fetch, Subscribe, write_message
from media.moq.protocol.varint import varint
from media.moq.quic.group_streams import EncodedGroup
from media.moq.quic.packets import AES
from media.moq.quic.table import ConnectionTable, NoPlace
from media.moq.relaying.origin import Broadcast, Track, track_info
from tests.moq.links import CLIENT, Link
from tests.moq.nodes import Everything
from tests.moq.test_quic import SUBSCRIBE, V5, group, group_streams, publish

NEW_ADDRESS = ("127.0.0.1", 77)


def watched(link: Link) -> tuple[Track, int]:
    """Return a track to which the client has subscribed, and its session."""
    track = publish(link)
    session = link.connect()
    link.open_bidi(session, SUBSCRIBE)
    return track, session


def payload_of(link: Link, session: int) -> bytes:
    return b"".join(link.received(stream) for stream in group_streams(link, session))


def turn(link: Link, seconds: float = 0.002) -> None:
    link.now += seconds
    link._exchange()


def carrier_of(link: Link) -> QuicCarrier:
    carrier = link.connection._carrier
    assert carrier is not None
    return carrier


def is_settled(link: Link) -> bool:
    """Whether nothing is waited for, and every place was given back."""
    row = link.row.ints
    table = link.table
    places = (table._free_streams, table._free_groups)
    return (
        row[c.IN_FLIGHT] == row[c.ELICITING] == row[c.LOST] == 0
        and all(len(one._given) == one._used for one in places)
        and not carrier_of(link)._places
    )


@pytest.mark.parametrize("cipher", AES)
def test_what_is_sent_arrives_whole_under_both_ciphers(cipher: CipherSuite) -> None:
    def prefer(quic: QuicConnection) -> None:
        quic._configuration.cipher_suites = [cipher]

    link = Link(prepare=prefer)
    track, session = watched(link)
    body = random.Random(1).randbytes(50_000)
    group(link, track, 0, body)
    assert link.quic._cryptos[Epoch.ONE_RTT].send.cipher_suite is cipher
    assert body in payload_of(link, session)
    assert len(link.carried) > 40
    assert is_settled(link)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_lost_is_sent_again(seed: int) -> None:
    dice = random.Random(seed)
    link = Link()
    track, session = watched(link)
    link.loses = lambda datagram: dice.random() < 0.05 + 0.03 * seed
    bodies = [dice.randbytes(dice.choice([0, 100, 1_100, 10_000])) for _ in range(20)]
    for sequence in range(4):
        begun = track.begin_group(sequence, link.relay.now_ns())
        for number in range(5):
            track.append(begun, Frame(number, bodies[5 * sequence + number]))
            turn(link, dice.choice([0.001, 0.03]))
        track.finish_group(begun)
        link.run()
    link.loses = lambda datagram: False
    link.run()
    got = payload_of(link, session)
    assert all(body in got for body in bodies)
    assert link.table.counters()["packets_lost"] > 0
    assert is_settled(link)


def test_it_reads_as_what_is_written_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the flow control that both use up is the same."""
    found = []
    for is_carried in (True, False):
        link = Link()
        track, session = watched(link)
        if not is_carried:
            monkeypatch.setattr(carrier_of(link), "carry", lambda *about: None)
        for sequence in range(3):
            begun = track.begin_group(sequence, link.relay.now_ns())
            for number, size in enumerate((0, 1, 80, 1_170, 9_000)):
                track.append(begun, Frame(number * 33_000, random.Random(size).randbytes(size)))
                link.run(3)
            track.finish_group(begun)
            link.run()
        group(link, track, 3, b"", finished=True)
        (delivery,) = link.peer.deliveries.values()
        received = [link.received(stream) for stream in group_streams(link, session)]
        found.append((link.quic._remote_max_data_used, received, delivery.counts["groups"]))
        assert bool(link.carried) == is_carried
        if is_carried:
            assert is_settled(link)
            assert not [id for id in link.quic._streams if id % 4 == 3 and id > 11]  # groups' streams are forgotten
    assert found[0] == found[1]


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("ends", ["cut", "reset", "stopped"])
def test_what_was_lost_before_an_end_is_not_sent_again(ends: str, is_whole: bool) -> None:
    link = Link()
    track, session = watched(link)
    link.loses = lambda datagram: len(datagram) > 1_000
    begun = track.begin_group(0, link.relay.now_ns())
    track.append(begun, Frame(1, b"SECRET" * 1_000))
    if is_whole:
        track.finish_group(begun)
    for _ in range(3):
        turn(link)
    (stream,) = carrier_of(link)._carried
    assert carrier_of(link)._carried[stream].sent > 2_000
    if ends == "cut":
        link.peer.cut()
    elif ends == "reset":
        carrier_of(link).reset(stream, 7)
    else:
        link.client.stop_stream(stream, 7)
        link.loses = lambda datagram: False
        link.client.datagrams_to_send(now=link.now)
        carrier_of(link).give_back(stream)
        link.quic._streams[stream].sender.reset(7)
    link.loses = lambda datagram: False
    before = len(link.carried)
    link.run()
    assert b"SECRET" not in payload_of(link, session)
    assert not [packet for packet in link.carried[before:] if len(packet) > 200]
    assert is_settled(link)


def test_a_group_given_up_while_nothing_of_it_is_in_flight_gives_its_place_back() -> None:
    link = Link()
    track, _ = watched(link)
    begun = track.begin_group(0, link.relay.now_ns())
    track.append(begun, Frame(1, b"picture"))
    link.run()
    assert not is_settled(link)
    track.drop_group(begun)
    link.run()
    assert is_settled(link)


def test_nothing_leaves_for_whom_the_right_is_gone_though_it_was_taken_up() -> None:
    rights = Everything()
    link = Link(rights=rights)
    track, session = watched(link)
    group(link, track, 0, b"public")
    begun = track.begin_group(1, link.relay.now_ns())
    track.append(begun, Frame(1, b"public too"))
    turn(link)
    link.row.ints[c.WINDOW] = 1_200  # no room
    track.append(begun, Frame(2, b"SECRET" * 400))
    turn(link)
    rights.is_admitted = False
    link.row.ints[c.WINDOW] = 1 << 20
    link.connection.stirred()
    link.run()
    assert b"public too" in payload_of(link, session)
    assert b"SECRET" not in payload_of(link, session)
    (delivery,) = link.peer.deliveries.values()
    assert delivery.counts["groups_not_admitted"] == 1
    assert is_settled(link)


def wish(link: Link, names: dict[str, int], *, is_ordered: bool = True) -> tuple[int, dict[str, Track]]:
    """Subscribe to tracks with priorities; returns the session and the tracks."""
    broadcast = Broadcast("room/bob")
    link.origin.begin(broadcast)
    session = link.connect()
    tracks = {name: broadcast.add_track(name, track_info(60)) for name in names}
    for number, (name, priority) in enumerate(names.items()):
        asked = Subscribe(number, "room/bob", name, priority, is_ordered=is_ordered)
        link.open_bidi(session, varint(2) + write_message(V5, asked))
    link.run()
    return session, tracks


def order_of_arrival(link: Link, act: Callable[[], None], marks: list[bytes]) -> list[bytes]:
    """Return in which order these arrive first."""
    at = len(link.events)
    act()
    link.run()
    data = [event.data for event in link.events[at:] if isinstance(event, StreamDataReceived)]
    firsts = {mark: next(i for i, part in enumerate(data) if mark in part) for mark in marks}
    return sorted(marks, key=firsts.__getitem__)


def test_what_is_wanted_most_goes_first_and_shares_a_packet_with_the_rest() -> None:
    link = Link()
    _, tracks = wish(link, {"low": 1, "high": 9, "middle": 5})
    before = len(link.carried)

    def act() -> None:
        for name, track in tracks.items():
            track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, name.encode()))
        turn(link)

    assert order_of_arrival(link, act, [b"low", b"high", b"middle"]) == [b"high", b"middle", b"low"]
    assert len(link.carried) == before + 1


@pytest.mark.parametrize("is_ordered", [True, False])
def test_of_two_groups_the_newer_goes_first_unless_the_viewer_wants_them_in_order(is_ordered: bool) -> None:
    link = Link()
    _, tracks = wish(link, {"one": 1}, is_ordered=is_ordered)

    def act() -> None:
        for sequence, mark in enumerate((b"older", b"newer")):
            track = tracks["one"]
            track.append(track.begin_group(sequence, link.relay.now_ns()), Frame(1, mark * 100))
        turn(link)

    found = order_of_arrival(link, act, [b"newer" * 100, b"older" * 100])
    assert found == ([b"older" * 100, b"newer" * 100] if is_ordered else [b"newer" * 100, b"older" * 100])


def hold_up(link: Link, why: str) -> None:
    """Leave no room for 5,000 bytes."""
    link.row.ints[c.WINDOW], link.row.reals[c.PACKET_TIME] = 1 << 20, float("nan")
    match why:
        case "congestion":
            link.row.ints[c.WINDOW] = 4_800
        case "pacing":
            link.row.reals[c.PACKET_TIME] = 1.0
            link.row.reals[c.BUCKET] = link.row.reals[c.BUCKET_MAX] = 3.0
            link.row.reals[c.BUCKET_AT] = link.now
        case "connection":
            link.quic._remote_max_data = link.quic._remote_max_data_used + 4_000
        case "stream":
            link.quic._remote_max_stream_data_uni = 4_000


@pytest.mark.parametrize("why", ["congestion", "pacing", "connection", "stream"])
def test_what_finds_no_room_waits_for_it(why: str) -> None:
    link = Link()
    track, session = watched(link)
    link.now += 1
    hold_up(link, why)
    used = link.quic._remote_max_data_used
    track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, b"x" * 5_000))
    link.connection.write()
    link.table.bursts([link.row.number], link.now)
    assert 2_000 < link.quic._remote_max_data_used - used <= 4_000
    assert bool(link.row.ints[c.IS_HELD]) == (why in ("congestion", "pacing"))
    assert math.isnan(link.row.reals[c.PACING_AT]) == (why != "pacing")
    assert b"x" * 5_000 not in payload_of(link, session)
    hold_up(link, "")
    (carried,) = carrier_of(link)._carried.values()
    link.quic._remote_max_data = carried.state.max_stream_data_remote = 1 << 20
    carrier_of(link).show()
    link.run()
    assert b"x" * 5_000 in payload_of(link, session)


def test_a_stream_that_the_peer_does_not_grant_is_waited_for() -> None:
    link = Link()
    track, session = watched(link)
    granted, link.quic._remote_max_streams_uni = link.quic._remote_max_streams_uni, 0
    track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, b"picture"))
    turn(link)
    assert not link.carried
    link.quic._remote_max_streams_uni = granted
    link.run()
    assert b"picture" in payload_of(link, session)


def test_where_the_table_has_no_place_it_is_written_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    track, session = watched(link)

    def refuse(*about: object) -> int:
        raise NoPlace

    monkeypatch.setattr(link.table, "take_stream", refuse)
    group(link, track, 0, b"picture" * 1_000)
    assert b"picture" * 1_000 in payload_of(link, session)
    assert carrier_of(link).counts["groups_no_place"] == 1
    monkeypatch.undo()
    group(link, track, 1, b"later")
    assert b"later" in payload_of(link, session)
    assert is_settled(link)


def test_a_probe_is_sent_when_everything_is_lost_in_silence() -> None:
    link = Link()
    track, session = watched(link)
    group(link, track, 0, b"before")
    link.loses = lambda datagram: True
    track.append(track.begin_group(1, link.relay.now_ns()), Frame(1, b"picture"))
    turn(link)
    due = link.table.run_timers(link.now)
    assert link.now < due < link.now + 0.2
    timer = link.quic.get_timer()
    assert timer is not None
    assert timer > due  # the kernel's to look after, not aioquic's as well
    link.loses = lambda datagram: False
    link.now = due
    assert link.table.run_timers(due) > due
    assert link.row.ints[c.IS_PROBING]
    link.row.ints[c.WINDOW] = 0  # a probe leaves though there is no room
    link._exchange()
    assert b"picture" in payload_of(link, session)
    assert link.table.counters()["probes"] == 1
    link.run()
    assert link.row.ints[c.IN_FLIGHT] == link.row.ints[c.LOST] == 0


def test_without_anything_to_send_again_a_probe_asks_for_an_acknowledgement() -> None:
    link = Link()
    track, _ = watched(link)
    group(link, track, 0, b"before")
    link.row.ints[c.IS_PROBING] = 1
    (packet,) = [one for _, burst in link.table.bursts([link.row.number], link.now) for one in burst.datagrams()]
    assert link.row.ints[c.ELICITING] == 1
    link.client.receive_datagram(packet, ("127.0.0.1", 2), now=link.now)
    link.run()
    assert is_settled(link)


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
            turn(link)
    assert asked[0] <= 2
    assert not {state.stream_id for state in link.quic._streams_queue} & set(carrier_of(link)._carried)
    assert len(payload_of(link, session)) > 100_000


def test_what_needs_other_packets_or_other_keys_waits() -> None:
    link = Link()
    track, session = watched(link)
    link.quic.request_key_update()
    link.quic.show()
    assert not link.row.ints[c.IS_PLAIN]
    track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, b"picture"))
    link.connection.write()
    assert link.table.bursts([link.row.number], link.now) == []
    assert link.row.ints[c.IS_HELD]
    link.connection.handle_quic_timer(link.now)  # nothing of ours asked for this
    link.run()
    assert b"picture" in payload_of(link, session)
    assert link.quic._cryptos[Epoch.ONE_RTT].send.key_phase == 1
    link.connection.close("")
    assert not link.row.ints[c.IS_PLAIN]


def test_a_client_that_moves_gets_what_follows_where_it_is() -> None:
    link = Link()
    track, session = watched(link)
    group(link, track, 0, b"before" * 500)
    assert bytes(link.row.octets[c.ADDRESS + 2 : c.ADDRESS + 4]) == CLIENT[1].to_bytes(2, "big")
    link.source = NEW_ADDRESS
    link.client.send_ping(1)
    for datagram, _ in link.client.datagrams_to_send(now=link.now):
        link.hear(datagram, NEW_ADDRESS)
    assert not link.row.ints[c.IS_PLAIN]  # until it has answered from there
    track.append(track.begin_group(1, link.relay.now_ns()), Frame(1, b"after" * 500))
    link.run()
    assert bytes(link.row.octets[c.ADDRESS + 2 : c.ADDRESS + 4]) == NEW_ADDRESS[1].to_bytes(2, "big")
    assert b"after" * 500 in payload_of(link, session)


def test_a_group_is_kept_once_for_all_who_get_it_and_let_go_of_after_the_last() -> None:
    link = Link()
    _, tracks = wish(link, {"one": 1})
    (track,) = tracks.values()
    groups = link.connection._groups
    begun = track.begin_group(0, link.relay.now_ns())
    track.append(begun, Frame(1, b"x" * 20_000))
    first = groups.take(begun, stamps=True)
    assert groups.take(begun, stamps=True) is first
    assert groups.take(begun, stamps=False) is not first
    first.update()
    assert link.table.groups[first.place, c.GROUP_BYTES] > 20_000
    groups.give(first)
    assert groups.take(begun, stamps=True) is first
    groups.give(first)
    groups.give(first)
    assert isinstance(groups.take(begun, stamps=True), EncodedGroup)
    link.run()


def test_places_are_given_back_when_a_connection_ends_with_data_in_flight() -> None:
    link = Link()
    track, _ = watched(link)
    link.loses = lambda datagram: True
    track.append(track.begin_group(0, link.relay.now_ns()), Frame(1, b"picture" * 1_000))
    turn(link)
    assert link.row.ints[c.IN_FLIGHT] > 1_000
    link.connection._end()
    assert is_settled(link)
    assert link.row.ints[c.HEAD] == link.row.ints[c.TAIL]  # what comes late is of no stream that took its place
    link.connection.abandon()
    assert not link.row.ints[c.IS_USED]
    assert link.table.run_timers(link.now + 100) == float("inf")


def test_a_full_table_takes_nobody_in() -> None:
    table = ConnectionTable(2)
    first, _ = table.take_row(), table.take_row()
    with pytest.raises(NoPlace):
        table.take_row()
    table.free_row(first)
    assert table.take_row().number == first.number


def test_a_fault_in_what_is_passed_on_ends_that_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    track, _ = watched(link)
    monkeypatch.setattr(link.connection, "stream_over", lambda place: 1 / 0)
    begun = track.begin_group(0, link.relay.now_ns())
    track.append(begun, Frame(1, b"picture"))
    track.finish_group(begun)
    with pytest.raises(RuntimeError, match="passed on"):
        link.run()


def test_a_group_of_the_past_comes_whole_though_nothing_else_is_said_meanwhile() -> None:
    link = Link()
    track = publish(link)
    session = link.connect()
    body = random.Random(1).randbytes(300_000)
    group(link, track, 0, body)
    woken: list[bool] = []
    link.connection._wake = lambda: woken.append(True)
    assert link.http is not None
    asked = link.http.create_webtransport_stream(session)
    link.client.send_stream_data(asked, varint(3) + write_message(V5, Fetch("room/bob", "video", 0, 0)))
    for _ in range(400):
        link.now += 0.005
        for datagram, _ in link.client.datagrams_to_send(now=link.now):
            if not link.table.take_in_untrusted(datagram, CLIENT, link.now):
                link.connection.receive_untrusted(datagram, CLIENT, link.now)
                woken.append(True)
        timer = link.quic.get_timer()
        if timer is not None and timer <= link.now:
            link.connection.handle_quic_timer(link.now)
            woken.append(True)
        if woken:
            woken.clear()
            link._exchange()
    assert body in link.received(asked)


def test_what_aioquic_says_besides_data_does_not_wait_for_pacing() -> None:
    link = Link()
    track, _ = watched(link)
    group(link, track, 0, b"before" * 1_000)
    hold_up(link, "pacing")
    link.row.reals[c.BUCKET] = 0.0
    carrier_of(link).ping()
    assert link.connection.datagrams(link.now)
    assert not link.connection.must_speak(link.now)
    assert link.quic._pacing_at is None
    assert link.row.reals[c.PACKET_TIME] == 1.0
