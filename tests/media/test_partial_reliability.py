"""SCTP: what may be given up is tried as often or as long as it may be, then skipped, and nothing waits for it."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media.webrtc import sctp_chunks as wire
from media.webrtc.sctp_chunks import Init
from media.webrtc.sctp_events import Ended
from media.webrtc.sctp_inbound import MAX_MESSAGE
from media.webrtc.sctp_outbound import FIRST_RTO_NS, NEVER_NS, Outbound
from media.webrtc.sctp_reliability import RELIABLE, Reliability
from tests.media.associations import SECOND_NS, Wire, association, connected, packet

PROTOCOL = 51
ONCE = Reliability(retransmissions=0)


def data_chunks(between: Wire, end: int, text: bytes) -> int:
    """How often an end has sent a chunk with this text."""
    return sum(text in sent for sent in between.sent[end])


@pytest.mark.parametrize("retransmissions", [0, 1, 3])
def test_a_message_is_sent_again_as_often_as_it_may_be_and_those_behind_it_do_not_wait(retransmissions: int) -> None:
    between = connected()
    between.lost = lambda to, sent: b"doomed" in sent
    between.ends[0].send(0, PROTOCOL, b"doomed", reliability=Reliability(retransmissions=retransmissions))
    between.ends[0].send(0, PROTOCOL, b"awaited")
    between.run(30)
    assert between.messages(1) == [(0, b"awaited")]
    assert data_chunks(between, 0, b"doomed") == 1 + retransmissions
    assert between.ends[0].buffered == 0
    assert between.ends[0].counted()["abandoned"] == 1


def test_a_message_is_given_up_when_its_time_is_over_and_not_before() -> None:
    between = connected()
    between.lost = lambda to, sent: to == 1
    between.ends[0].send(0, PROTOCOL, b"soon", reliability=Reliability(lifetime_ms=2_000))
    between.ends[0].send(0, PROTOCOL, b"later", reliability=Reliability(lifetime_ms=60_000))
    between.run(10)
    between.lost = lambda to, sent: False
    between.run(20)
    assert between.messages(1) == [(0, b"later")]
    assert data_chunks(between, 0, b"soon") == 2  # after a second, and no more after three


def test_what_waits_for_room_is_never_sent_when_its_time_is_over() -> None:
    outbound = Outbound(1, 1_500)
    outbound.send(0, PROTOCOL, bytes(1_000))
    assert outbound.next_chunk(wire.MAX_PACKET, SECOND_NS) is not None
    for number in range(4):
        outbound.send(0, PROTOCOL, bytes([number]) * 1_000, reliability=Reliability(lifetime_ms=100))
        outbound.next_chunk(wire.MAX_PACKET, SECOND_NS)
    buffered = outbound.buffered
    assert outbound.next_chunk(wire.MAX_PACKET, SECOND_NS + FIRST_RTO_NS // 2) is None
    assert (outbound.abandoned, buffered - outbound.buffered) == (4, 4_000)


def test_of_a_long_message_given_up_nothing_is_delivered_and_the_next_is_whole() -> None:
    between = connected()
    seen: list[bytes] = []
    between.lost = lambda to, sent: to == 1 and b"x" * 500 in sent and not seen and not seen.append(sent)
    between.ends[0].send(0, PROTOCOL, b"x" * MAX_MESSAGE, reliability=ONCE)
    between.ends[0].send(0, PROTOCOL, b"y" * MAX_MESSAGE)
    between.run(10)
    assert between.messages(1) == [(0, b"y" * MAX_MESSAGE)]
    assert not between.ends[1]._inbound._fragments


def test_the_rest_of_a_message_given_up_has_a_number_that_is_skipped() -> None:
    outbound = Outbound(1, 2_000)
    outbound.send(7, PROTOCOL, bytes(3_000), reliability=Reliability(lifetime_ms=100))
    assert outbound.next_chunk(wire.MAX_PACKET, SECOND_NS) is not None
    late_ns = SECOND_NS + FIRST_RTO_NS
    outbound.handle_timeout(late_ns)
    chunk = outbound.next_chunk(wire.MAX_PACKET, late_ns)
    assert chunk == wire.build_forward(2, [(7, 0)])
    assert outbound.next_chunk(wire.MAX_PACKET, late_ns) is None
    outbound.acknowledge(wire.Sack(2, 2_000), late_ns)
    assert (outbound.is_empty, outbound.buffered) == (True, 0)


def test_what_comes_before_is_repaired_first_and_skipped_is_only_what_is_ordered() -> None:
    outbound = Outbound(1, 60_000)
    outbound.send(7, PROTOCOL, b"precious")
    outbound.send(7, PROTOCOL, b"doomed", unordered=True, reliability=ONCE)
    first, _ = (outbound.next_chunk(wire.MAX_PACKET, SECOND_NS) for _ in range(2))
    later_ns = SECOND_NS + FIRST_RTO_NS
    outbound.handle_timeout(later_ns)
    assert [outbound.next_chunk(wire.MAX_PACKET, later_ns) for _ in range(2)] == [first, None]
    outbound.acknowledge(wire.Sack(1, 60_000), later_ns)
    assert outbound.next_chunk(wire.MAX_PACKET, later_ns) == wire.build_forward(2, [])


def test_a_skip_behind_which_nothing_is_on_its_way_has_a_timer() -> None:
    outbound = Outbound(1, 1_500)
    outbound.send(0, PROTOCOL, bytes(3_000), reliability=Reliability(lifetime_ms=100))
    outbound.next_chunk(wire.MAX_PACKET, SECOND_NS)
    outbound.acknowledge(wire.Sack(1, 0), SECOND_NS)
    later_ns = SECOND_NS + FIRST_RTO_NS
    assert outbound.next_chunk(wire.MAX_PACKET, later_ns) == wire.build_forward(2, [(0, 0)])
    due_ns = outbound.deadline_ns()
    assert due_ns < NEVER_NS
    outbound.handle_timeout(due_ns)
    assert outbound.next_chunk(wire.MAX_PACKET, due_ns) == wire.build_forward(2, [(0, 0)])


def test_the_time_of_a_message_that_is_replaced_begins_anew() -> None:
    outbound = Outbound(1, 1_500)
    outbound.send(0, PROTOCOL, bytes(1_400))
    outbound.next_chunk(wire.MAX_PACKET, SECOND_NS)
    for part in range(3):
        outbound.send(0, PROTOCOL, b"score", reliability=Reliability(lifetime_ms=100), key="score")
        outbound.next_chunk(200, SECOND_NS + part * 80_000_000)
    assert outbound.abandoned == 0


def test_a_lost_skip_is_said_again() -> None:
    between = connected()
    lost: list[bytes] = []

    def lose(to: int, sent: bytes) -> bool:
        is_skip = any(chunk.kind == wire.FORWARD_TSN for chunk in wire.parse_packet_untrusted(sent).chunks)
        if is_skip and len(lost) < 3:
            lost.append(sent)
            return True
        return b"doomed" in sent

    between.lost = lose
    between.ends[0].send(0, PROTOCOL, b"doomed", reliability=ONCE)
    between.run(1.2)
    between.ends[0].send(0, PROTOCOL, b"awaited")
    between.run(40)
    assert len(lost) == 3
    assert between.messages(1) == [(0, b"awaited")]
    assert between.ends[0].buffered == 0


@pytest.mark.parametrize("end", [0, 1])
def test_all_is_sent_reliably_where_the_peer_skips_nothing(end: int) -> None:
    """Whoever began: what the other end's INIT or INIT ACK says of it is what counts."""
    ends = association(1), association(2)
    own_init = ends[1 - end]._handshake.own_init

    def plain() -> Init:
        init = own_init()
        kept = tuple(one for one in init.parameters if one[0] != wire.FORWARD_TSN_SUPPORTED)
        return Init(init.tag, init.window, init.outgoing, init.incoming, init.tsn, kept)

    ends[1 - end]._handshake.own_init = plain  # type: ignore[method-assign]
    between = Wire(ends)
    ends[0].connect(between.now_ns)
    between.run_until(lambda: all(one.is_established for one in ends))
    dropped: list[bytes] = []
    between.lost = lambda to, sent: b"precious" in sent and len(dropped) < 2 and not dropped.append(sent)
    ends[end].send(0, PROTOCOL, b"precious", reliability=ONCE)
    between.run(20)
    assert between.messages(1 - end) == [(0, b"precious")]


def test_what_was_given_up_is_no_measure_of_the_way() -> None:
    outbound = Outbound(1, 60_000)
    outbound.send(0, PROTOCOL, b"doomed", reliability=ONCE)
    outbound.next_chunk(wire.MAX_PACKET, SECOND_NS)
    later_ns = SECOND_NS + FIRST_RTO_NS
    outbound.handle_timeout(later_ns)
    rto_ns = outbound.rto_ns
    assert outbound.next_chunk(wire.MAX_PACKET, later_ns) == wire.build_forward(1, [(0, 0)])
    outbound.acknowledge(wire.Sack(1, 60_000), later_ns)
    assert outbound.rto_ns == rto_ns


kinds = st.sampled_from([RELIABLE, ONCE, Reliability(retransmissions=2), Reliability(lifetime_ms=300)])
messages = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5_000), st.booleans(), kinds), max_size=20)


@settings(deadline=None, max_examples=30)
@given(messages, st.integers(0, 2**16))
@example([(0, size, False, RELIABLE) for size in (439, 711, 4099, 1275)] + [(0, 3639, False, ONCE)], 1295)
def test_what_arrives_is_whole_once_and_in_order_and_all_that_has_to_does(
    messages: list[tuple[int, int, bool, Reliability]], seed: int
) -> None:
    between, draw = connected(seed=seed, loss=0.2), random.Random(seed)
    sent: dict[tuple[int, bytes], tuple[bool, Reliability]] = {}
    for number, (stream, size, unordered, reliability) in enumerate(messages):
        data = struct.pack("!H", number) + bytes(size)
        sent[stream, data] = unordered, reliability
        between.ends[0].send(stream, PROTOCOL, data, unordered=unordered, reliability=reliability)
        between.run(draw.choice([0, 0.02]))
    between.run_until(lambda: between.ends[0].buffered == 0)
    arrived = between.messages(1)
    assert len(set(arrived)) == len(arrived)
    assert {message for message, (_, reliability) in sent.items() if reliability is RELIABLE} <= set(arrived)
    assert set(arrived) <= set(sent)
    for stream in range(3):
        ordered = [data for on, data in arrived if on == stream and not sent[on, data][0]]
        assert ordered == sorted(ordered)
    assert not [event for told in between.told for event in told if isinstance(event, Ended)]
    inbound = between.ends[1]._inbound  # what says that something is given up may be lost, too, and is said again
    between.run_until(lambda: (inbound._held, len(inbound._fragments)) == (0, 0))


def test_a_skip_beyond_what_was_sent_is_taken_for_what_it_says() -> None:
    server = connected().ends[1]
    tsn = server._inbound.cumulative + 5_000
    server.receive_untrusted(packet(wire.build_forward(tsn, [(300, 1), (0, 2)]), tag=server._own_tag), SECOND_NS)
    assert server._inbound.cumulative == tsn
