"""SCTP: messages arrive whole, once and in order whatever the network does, and what breaks its rules ends it."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.webrtc import sctp_chunks as wire
from media.webrtc.sctp import MAX_ANSWERS, MAX_INIT_TRIES, Association, State
from media.webrtc.sctp_chunks import BEGINS, ENDS, UNORDERED, Chunk, Data, Init, Sack
from media.webrtc.sctp_events import Ended, Established, StreamsReset
from media.webrtc.sctp_handshake import LIFE_NS
from media.webrtc.sctp_inbound import MAX_AHEAD, MAX_MESSAGE, STREAMS, WINDOW, Inbound, Message, Violation
from media.webrtc.sctp_outbound import FIRST_RTO_NS, LARGEST_WINDOW, MAX_RETRANSMISSIONS, Outbound
from media.wire.malformed import MalformedPacket
from tests.media.associations import SECOND_NS, Wire, association, connected, packet

PROTOCOL = 51


def tags(end: Association) -> tuple[int, int]:
    return end._own_tag, end._peer_tag


def chunks_of(packets: list[bytes]) -> list[Chunk]:
    return [chunk for sent in packets for chunk in wire.parse_packet_untrusted(sent).chunks]


# -- the whole ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("seed", range(8))
def test_messages_both_ways_arrive_once_whole_and_in_order(seed: int, loss: float) -> None:
    between = connected(seed=seed, loss=loss)
    draw = random.Random(seed)
    sent: tuple[list[tuple[int, bytes]], ...] = ([], [])
    for _ in range(40):
        end, stream, size = draw.randrange(2), draw.randrange(3), draw.choice([1, 30, 1_200, 9_000, MAX_MESSAGE])
        message = draw.randbytes(size)
        between.ends[end].send(stream, PROTOCOL, message)
        sent[end].append((stream, message))
        between.run(draw.choice([0, 0.01, 0.1]))
    between.run_until(lambda: all(end.buffered == 0 for end in between.ends))
    for end in (0, 1):
        for stream in range(3):
            arrived = [data for on, data in between.messages(1 - end) if on == stream]
            assert arrived == [data for on, data in sent[end] if on == stream]
    assert not [event for told in between.told for event in told if isinstance(event, Ended)]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5_000), st.booleans()), max_size=20), st.integers(0, 2**16))
def test_every_message_arrives_once_ordered_or_not(messages: list[tuple[int, int, bool]], seed: int) -> None:
    between = connected(seed=seed, loss=0.2)
    for number, (stream, size, unordered) in enumerate(messages):
        data = number.to_bytes(2) + bytes(size)
        between.ends[0].send(stream, PROTOCOL, data, unordered=unordered)
    between.run_until(lambda: between.ends[0].buffered == 0)
    assert sorted(between.messages(1)) == sorted(
        (stream, number.to_bytes(2) + bytes(size)) for number, (stream, size, _) in enumerate(messages)
    )


def test_tsns_numbers_and_messages_go_on_across_their_wraps() -> None:
    outbound, inbound = Outbound(2**32 - 3, WINDOW), Inbound(2**32 - 3)
    outbound._numbers[1] = inbound._next[1] = 0xFFFE
    arrived: list[Message] = []
    for number in range(8):
        outbound.send(1, PROTOCOL, bytes([number]))
        chunk = outbound.next_chunk(1_000, SECOND_NS)
        assert chunk is not None
        arrived += inbound.take(wire.parse_data_untrusted(chunks_of([packet(chunk, tag=1)])[0]))
        outbound.acknowledge(inbound.sack(), SECOND_NS)
    assert [message.data for message in arrived] == [bytes([number]) for number in range(8)]
    assert outbound.is_empty


def test_no_packet_is_larger_than_a_dtls_record_carries() -> None:
    between = connected(seed=5, loss=0.2)
    for size in range(1, 6_000, 77):
        between.ends[0].send(0, PROTOCOL, bytes(size))
    between.run_until(lambda: between.ends[0].buffered == 0)
    assert wire.MAX_PACKET - 100 < max(map(len, between.sent[0])) <= wire.MAX_PACKET


# -- the handshake -----------------------------------------------------------------------------------------------------


def test_an_init_is_answered_with_a_cookie_and_nothing_is_remembered() -> None:
    client, server = association(1), association(2)
    client.connect(SECOND_NS)
    [init] = client.take_packets(SECOND_NS)
    assert server.receive_untrusted(init, SECOND_NS) == []
    assert (server.state, tags(server)) == (State.CLOSED, (0, 0))
    [answer] = server.take_packets(SECOND_NS)
    [ack] = chunks_of([answer])
    assert (ack.kind, wire.parse_packet_untrusted(answer).tag) == (wire.INIT_ACK, client._own_tag)
    assert wire.parse_init_untrusted(ack.value).parameter(wire.COOKIE)


@pytest.mark.parametrize("number", range(4))
def test_any_packet_of_the_handshake_may_be_lost(number: int) -> None:
    ends = association(1), association(2)
    between, seen = Wire(ends), [0]

    def lose(to: int, lost: bytes) -> bool:
        seen[0] += 1
        return seen[0] == number + 1

    between.lost = lose
    ends[0].connect(between.now_ns)
    between.run_until(lambda: all(Established() in told for told in between.told), seconds=4)


def test_both_ends_may_begin_at_once() -> None:
    ends = association(1), association(2)
    between = Wire(ends)
    for end in ends:
        end.connect(between.now_ns)
    between.run_until(lambda: all(end.state is State.ESTABLISHED for end in ends))
    between.run(1)
    assert tags(ends[0]) == tags(ends[1])[::-1]
    for end in ends:
        end.send(0, PROTOCOL, b"here")
    between.run(1)
    assert (between.messages(0), between.messages(1)) == ([(0, b"here")], [(0, b"here")])


def test_a_cookie_is_taken_only_from_us_whole_and_within_its_life() -> None:
    client, server = association(1), association(2)
    client.connect(SECOND_NS)
    server.receive_untrusted(client.take_packets(SECOND_NS)[0], SECOND_NS)
    client.receive_untrusted(server.take_packets(SECOND_NS)[0], SECOND_NS)
    [echo] = client.take_packets(SECOND_NS)
    [cookie] = chunks_of([echo])
    forged = wire.build_chunk(wire.COOKIE_ECHO, cookie.value[:-1] + bytes([cookie.value[-1] ^ 1]))
    assert server.receive_untrusted(packet(forged, tag=client._peer_tag), SECOND_NS) == []
    assert server.receive_untrusted(echo, SECOND_NS + LIFE_NS + 1) == []
    [error] = chunks_of(server.take_packets(SECOND_NS))
    assert (error.kind, wire.parameters_untrusted(error.value)[0][0]) == (wire.ERROR, wire.STALE_COOKIE)
    assert server.state is State.CLOSED
    assert server.receive_untrusted(echo, SECOND_NS + LIFE_NS) == [Established()]
    assert server.receive_untrusted(echo, SECOND_NS + LIFE_NS) == []  # again: only acknowledged once more
    assert [chunk.kind for chunk in chunks_of(server.take_packets(SECOND_NS))] == [wire.COOKIE_ACK] * 2


def test_a_repeated_init_harms_nothing_and_a_peer_may_begin_anew() -> None:
    between = connected()
    server = between.ends[1]
    before = tags(server)
    assert server.receive_untrusted(between.sent[0][0], between.now_ns) == []
    server.take_packets(between.now_ns)
    assert (server.state, tags(server)) == (State.ESTABLISHED, before)
    anew = association(9)
    again = Wire((anew, server))
    anew.connect(again.now_ns)
    again.run_until(lambda: Established() in again.told[0])
    assert tags(server) == tags(anew)[::-1] != before
    anew.send(0, PROTOCOL, b"after all")
    again.run(1)
    assert again.messages(1) == [(0, b"after all")]


def test_who_never_answers_is_given_up_in_the_end() -> None:
    client = association(1)
    client.connect(SECOND_NS)
    between = Wire((client, association(2)))
    between.lost = lambda to, lost: True
    between.run_until(lambda: bool(between.told[0]), seconds=100)
    assert (between.told[0], len(between.sent[0])) == ([Ended("lost")], MAX_INIT_TRIES + 1)


def test_of_unknown_parameters_those_are_told_that_ask_for_it() -> None:
    unknown = ((0x8001, b"skip"), (0xC123, b"tell"), (0x4567, b"last"), (0xC124, b"not read"))
    server = association(2)
    init = wire.build_chunk(wire.INIT, wire.build_init(Init(7, 2_000, 10, 10, 5, unknown)))
    server.receive_untrusted(packet(init, tag=0), SECOND_NS)
    [ack] = chunks_of(server.take_packets(SECOND_NS))
    reported = wire.parse_init_untrusted(ack.value).parameter(wire.UNRECOGNISED)
    assert reported is not None
    assert wire.parameters_untrusted(reported) == ((0xC123, b"tell"), (0x4567, b"last"))


# -- who may say what --------------------------------------------------------------------------------------------------


def test_packets_with_a_wrong_tag_checksum_or_port_change_nothing() -> None:
    between = connected()
    server, now_ns = between.ends[1], between.now_ns
    own, peer = tags(server)
    abort, init = wire.build_chunk(wire.ABORT), wire.build_chunk(wire.INIT, wire.build_init(Init(7, 2_000, 1, 1, 5)))
    right = packet(abort, tag=own)
    wrong = [
        packet(abort, tag=own ^ 1),
        packet(abort, tag=peer),
        packet(abort, tag=own, port=5001),
        packet(wire.build_chunk(wire.ABORT, flags=wire.REFLECTED), tag=own),
        packet(init, tag=own),
        packet(init, abort, tag=0),
        right[:8] + bytes(4) + right[12:],
        right[:-1],
        b"",
    ]
    for broken in wrong:
        assert server.receive_untrusted(broken, now_ns) == []
        assert server.take_packets(now_ns) == []
    assert server.receive_untrusted(right, now_ns) == [Ended("aborted_by_peer")]


def test_who_believes_in_an_association_that_is_not_there_is_told() -> None:
    between = connected()
    client, server = between.ends
    server.receive_untrusted(packet(wire.build_chunk(wire.ABORT), tag=server._own_tag), between.now_ns)
    client.send(0, PROTOCOL, b"are you there?")
    between.run(1)
    assert between.told[0][-1] == Ended("aborted_by_peer")
    assert not between.messages(1)


def test_unknown_chunks_are_skipped_or_told_as_their_type_asks() -> None:
    server = connected().ends[1]
    own, _ = tags(server)
    heartbeat = wire.build_chunk(wire.HEARTBEAT, wire.build_parameter(wire.HEARTBEAT_INFO, b"info"))
    answered = {}
    for kind in (63, 0x7F, 0xBF, 0xFF):
        server.receive_untrusted(packet(wire.build_chunk(kind, b"what"), heartbeat, tag=own), SECOND_NS)
        answered[kind] = [chunk.kind for chunk in chunks_of(server.take_packets(SECOND_NS))]
    assert answered == {
        63: [],
        0x7F: [wire.ERROR],
        0xBF: [wire.HEARTBEAT_ACK],
        0xFF: [wire.ERROR, wire.HEARTBEAT_ACK],
    }


def test_a_heartbeat_is_answered_with_what_it_says() -> None:
    server = connected().ends[1]
    info = wire.build_parameter(wire.HEARTBEAT_INFO, b"when and where")
    server.receive_untrusted(packet(wire.build_chunk(wire.HEARTBEAT, info), tag=server._own_tag), SECOND_NS)
    [answer] = chunks_of(server.take_packets(SECOND_NS))
    assert (answer.kind, answer.value) == (wire.HEARTBEAT_ACK, info)


def test_one_packet_is_answered_with_a_bounded_number_of_chunks() -> None:
    server = connected().ends[1]
    flood = [wire.build_chunk(wire.HEARTBEAT, wire.build_parameter(wire.HEARTBEAT_INFO, b""))] * 140
    server.receive_untrusted(packet(*flood, tag=server._own_tag), SECOND_NS)
    assert len(chunks_of(server.take_packets(SECOND_NS))) == MAX_ANSWERS


def test_a_shutdown_lets_what_is_on_its_way_arrive() -> None:
    between = connected()
    client, server = between.ends
    server.send(0, PROTOCOL, bytes(MAX_MESSAGE))
    between.step()
    shutdown = wire.build_chunk(wire.SHUTDOWN, struct.pack("!I", client._inbound.cumulative & 0xFFFFFFFF))
    server.receive_untrusted(packet(shutdown, tag=server._own_tag), between.now_ns)
    server.send(0, PROTOCOL, b"no more")
    between.run_until(lambda: server.state is State.SHUTDOWN_ACK_SENT)
    assert between.messages(0) == [(0, bytes(MAX_MESSAGE))]
    assert between.kinds(1)[-1] == [wire.SHUTDOWN_ACK]
    done = packet(wire.build_chunk(wire.SHUTDOWN_COMPLETE), tag=server._own_tag)
    assert server.receive_untrusted(done, between.now_ns) == [Ended("shut_down_by_peer")]


# -- receiving ---------------------------------------------------------------------------------------------------------


def part(tsn: int, payload: bytes = b"x", flags: int = BEGINS | ENDS, *, stream: int = 0, number: int = 0) -> Data:
    return Data(flags, tsn, stream, number, PROTOCOL, payload)


def test_gaps_and_duplicates_are_told() -> None:
    inbound = Inbound(10)
    for tsn in (10, 12, 13, 15, 12):
        inbound.take(part(tsn, flags=BEGINS | ENDS | UNORDERED))
    assert inbound.sack() == Sack(10, WINDOW, ((2, 3), (5, 5)), (12,))
    assert inbound.sack().duplicates == ()


def test_what_is_far_ahead_or_too_much_is_not_taken_and_what_is_next_always_is() -> None:
    inbound = Inbound(1)
    inbound.take(part(2 + MAX_AHEAD))
    for tsn in range(2, 80):
        inbound.take(
            part(tsn, bytes(1_000), BEGINS if tsn == 2 else 0, number=1)
            if tsn < 18
            else part(tsn, bytes(1_000), number=tsn)
        )
    assert (inbound.window < 1_000, inbound.dropped > 10) == (True, True)
    assert inbound.take(part(1, bytes(1_000))) == [Message(0, PROTOCOL, bytes(1_000))]


def test_a_message_that_is_too_long_and_one_that_never_ends_are_violations() -> None:
    too_long, unending = Inbound(1), Inbound(1)
    for tsn in range(1, 17):
        too_long.take(part(tsn, bytes(1_000), BEGINS if tsn == 1 else 0))
    with pytest.raises(Violation):
        too_long.take(part(17, bytes(1_000), ENDS))
    for tsn in range(1, 133):
        unending.take(part(tsn, bytes(1_000), number=tsn))  # number 0 never comes
    with pytest.raises(Violation):
        unending.take(part(133, bytes(1_000), number=133))


def test_a_violation_ends_the_association_and_says_so() -> None:
    between = connected()
    server = between.ends[1]
    sack = wire.build_sack(Sack(server._outbound.next_tsn, WINDOW))
    assert server.receive_untrusted(packet(sack, tag=server._own_tag), SECOND_NS) == [Ended("violation")]
    [abort] = chunks_of(server.take_packets(SECOND_NS))
    assert (abort.kind, wire.parameters_untrusted(abort.value)[0][0]) == (wire.ABORT, wire.PROTOCOL_VIOLATION)


def test_data_on_a_stream_that_there_is_not_is_acknowledged_and_told() -> None:
    server = connected().ends[1]
    tsn = server._inbound.cumulative + 1
    data = wire.build_data(part(tsn, stream=STREAMS))
    assert server.receive_untrusted(packet(data, tag=server._own_tag), SECOND_NS) == []
    error, sack = chunks_of(server.take_packets(SECOND_NS))
    assert wire.parameters_untrusted(error.value)[0][0] == wire.INVALID_STREAM
    assert wire.parse_sack_untrusted(sack.value).cumulative == tsn & 0xFFFFFFFF


def test_what_a_peer_gives_up_is_not_waited_for() -> None:
    inbound = Inbound(1)
    assert inbound.take(part(3, b"third", number=2)) == []
    assert inbound.take(part(4, b"of another", BEGINS, stream=1)) == []
    assert inbound.forward(2, [(0, 1)]) == [Message(0, PROTOCOL, b"third")]
    assert (inbound.cumulative, inbound.forward(1, []), inbound.forward(5, [(1, 0)])) == (4, [], [])
    assert (inbound.cumulative, inbound.window) == (5, WINDOW)
    assert inbound.take(part(6, b"goes on", stream=1, number=1)) == [Message(1, PROTOCOL, b"goes on")]


def test_of_what_a_peer_gives_up_the_whole_messages_are_delivered() -> None:
    inbound = Inbound(1)
    inbound.take(part(2, b"second", number=1))
    assert inbound.forward(3, [(0, 2)]) == [Message(0, PROTOCOL, b"second")]


# -- sending -----------------------------------------------------------------------------------------------------------


def test_what_three_reports_miss_is_sent_again_at_once() -> None:
    between = connected()
    dropped: list[bytes] = []
    between.lost = lambda to, sent: to == 1 and len(dropped) < 1 and not dropped.append(sent)
    for number in range(6):
        between.ends[0].send(0, PROTOCOL, bytes([number]) * 1_000)
        between.step()
    between.run(0.2)  # less than the first timer
    assert [data[0] for _, data in between.messages(1)] == list(range(6))
    assert between.ends[0].counted()["retransmitted"] == 1


def test_the_timer_doubles_and_after_ten_the_peer_is_lost() -> None:
    between = connected()
    between.ends[0].send(0, PROTOCOL, b"nobody hears")
    between.lost = lambda to, sent: to == 1
    between.step()
    assert between.ends[0].deadline_ns() - between.now_ns <= FIRST_RTO_NS
    between.run_until(lambda: Ended("lost") in between.told[0], seconds=150)
    between.step()
    assert between.kinds(0).count([wire.DATA]) == MAX_RETRANSMISSIONS + 1
    assert between.kinds(0)[-1] == [wire.ABORT]


def test_a_shut_window_lets_one_packet_out_to_look() -> None:
    outbound = Outbound(1, 1_500)
    outbound.send(0, PROTOCOL, bytes(5_000))
    assert outbound.next_chunk(2_000, SECOND_NS) is not None
    assert outbound.next_chunk(2_000, SECOND_NS) is None
    outbound.acknowledge(Sack(1, 0), SECOND_NS)
    assert outbound.next_chunk(2_000, SECOND_NS) is not None
    assert outbound.next_chunk(2_000, SECOND_NS) is None
    outbound.acknowledge(Sack(2, 60_000), SECOND_NS)
    assert outbound.next_chunk(2_000, SECOND_NS) is not None
    assert outbound.next_chunk(2_000, SECOND_NS) is not None


def test_the_congestion_window_opens_by_what_arrives_and_has_an_end() -> None:
    outbound, in_flight = Outbound(1, 10 * LARGEST_WINDOW), [0]
    for turn in range(200):
        while outbound.buffered < 2 * LARGEST_WINDOW:
            outbound.send(0, PROTOCOL, bytes(MAX_MESSAGE))
        while outbound.next_chunk(wire.MAX_PACKET, SECOND_NS + turn) is not None:
            pass
        in_flight.append(outbound._in_flight())
        outbound.acknowledge(Sack(outbound.next_tsn - 1, 10 * LARGEST_WINDOW), SECOND_NS + turn)
    assert in_flight[1] <= 4 * wire.MAX_PACKET < in_flight[2]
    assert LARGEST_WINDOW - wire.MAX_PACKET < max(in_flight) <= LARGEST_WINDOW


def test_a_loss_halves_the_window_and_a_timer_shuts_it_to_one_packet() -> None:
    outbound = Outbound(1, WINDOW)
    outbound._window = 40_000
    for _ in range(3):
        outbound.send(0, PROTOCOL, bytes(10_000))
    while outbound.next_chunk(wire.MAX_PACKET, SECOND_NS) is not None:
        pass
    for last in (3, 4, 5):
        outbound.acknowledge(Sack(1, WINDOW, ((2, last),)), SECOND_NS)
    assert outbound._window == 20_000
    outbound.handle_timeout(outbound.deadline_ns())
    assert outbound._window == wire.MAX_PACKET


def test_of_messages_that_wait_under_one_key_the_newest_goes() -> None:
    between = connected()
    client = between.ends[0]
    client.send(0, PROTOCOL, bytes(MAX_MESSAGE))
    between.step()
    for text in (b"old", b"newer", b"newest of all"):
        client.send(0, PROTOCOL, text, key="presence")
    client.send(1, PROTOCOL, b"elsewhere", key="presence")
    between.run_until(lambda: client.buffered == 0)
    assert [data for _, data in between.messages(1)[1:]] == [b"newest of all", b"elsewhere"]


# -- resets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_is_reset_behind_its_messages_and_begins_anew(seed: int, loss: float) -> None:
    between = connected(seed=seed, loss=loss)
    client = between.ends[0]
    for stream in (1, 2):
        for number in range(3):
            client.send(stream, PROTOCOL, bytes([number]) * 3_000)
    client.reset(1)
    between.run_until(lambda: StreamsReset((1,), ours=True) in between.told[0])
    assert between.told[1].count(StreamsReset((1,), ours=False)) == 1
    assert len([data for stream, data in between.messages(1) if stream == 1]) == 3
    for stream in (1, 2):
        client.send(stream, PROTOCOL, b"anew")
    between.run_until(lambda: client.buffered == 0)
    assert between.messages(1).count((1, b"anew")) == between.messages(1).count((2, b"anew")) == 1


def test_other_requests_to_reconfigure_are_denied_and_old_numbers_refused() -> None:
    server = connected().ends[1]
    number = server._resets._expected

    def ask(kind: int, body: bytes) -> int:
        request = wire.build_chunk(wire.RE_CONFIG, wire.build_parameter(kind, body))
        server.receive_untrusted(packet(request, tag=server._own_tag), SECOND_NS)
        [answer] = chunks_of(server.take_packets(SECOND_NS))
        [(_, response)] = wire.parameters_untrusted(answer.value)
        return int.from_bytes(response[4:8])

    reset = struct.pack("!III", (number + 1) & 0xFFFFFFFF, 0, server._inbound.cumulative & 0xFFFFFFFF)
    assert ask(wire.ADD_OUTGOING, struct.pack("!IHH", number, 5, 0)) == 2
    assert ask(wire.ADD_OUTGOING, struct.pack("!IHH", number, 5, 0)) == 2  # repeated
    assert ask(wire.INCOMING_RESET, struct.pack("!I", number)) == 2  # the answer to that number was given
    late = struct.pack("!I", (server._inbound.cumulative + 1) & 0xFFFFFFFF)
    assert ask(wire.OUTGOING_RESET, reset[:8] + late) == 6
    assert ask(wire.OUTGOING_RESET, reset) == 1
    assert ask(wire.OUTGOING_RESET, struct.pack("!III", (number + 9) & 0xFFFFFFFF, 0, 0)) == 5


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_the_checksum_is_crc32c_with_the_least_octet_first() -> None:
    assert wire._checksum(bytes(8), bytes(20)) == bytes.fromhex("aa36918a")  # RFC 3720 appendix B.4: 32 zeros


@pytest.mark.parametrize(
    "value",
    [b"", bytes(16), struct.pack("!IIHHI", 0, 2_000, 1, 1, 1), struct.pack("!IIHHI", 1, 2_000, 0, 1, 1)],
)
def test_an_init_that_says_what_it_must_not_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedPacket):
        wire.parse_init_untrusted(value)


@pytest.mark.parametrize("gaps", [((1, 1),), ((3, 2),), ((2, 3), (3, 4))])
def test_gaps_that_do_not_rise_are_malformed(gaps: tuple[tuple[int, int], ...]) -> None:
    [sack] = chunks_of([packet(wire.build_sack(Sack(1, 0, gaps)), tag=1)])
    with pytest.raises(MalformedPacket):
        wire.parse_sack_untrusted(sack.value)
