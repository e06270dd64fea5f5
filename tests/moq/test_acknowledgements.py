"""Acknowledgements taken in past aioquic: what they say, what they change, and what else is sent like one."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.packet import pull_ack_frame
from aioquic.tls import CipherSuite, Epoch
from hypothesis import example, given
from hypothesis import strategies as st

from media.moq.acknowledgements import take_acknowledgement_untrusted
from media.moq.keyring import Keyring
from media.moq.packet_kernel import MAX_RANGES
from media.moq.packets import AES, Acknowledgement, Opener, keys_of
from tests.moq.links import CLIENT, Link
from tests.moq.test_packets import CRYPTO
from tests.moq.test_quic import group
from tests.moq.test_stream_packets import watched

ID = b"12345678"


def opener(context: CryptoContext) -> Opener:
    keys = keys_of(context, None)
    assert keys is not None
    return Opener(keys, context.key_phase, ID)


OPENERS = {cipher: opener(context) for cipher, context in CRYPTO.items()}


def packet(payload: bytes, number: int = 9, cipher: CipherSuite = AES[0], first: int = 0x40, size: int = 2) -> bytes:
    head = bytes((first | (size - 1),)) + ID + (number & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    return CRYPTO[cipher].encrypt_packet(head, payload.ljust(4, b"\0"), number)


def ack(largest: int, delay: int, first: int, *gaps: tuple[int, int]) -> bytes:
    fields = [largest, delay, len(gaps), first, *(field for gap in gaps for field in gap)]
    return b"\x02" + b"".join(map(encode_uint_var, fields))


def read(payload: bytes) -> Acknowledgement | None:
    return OPENERS[AES[0]].open_untrusted(packet(payload), 9)


NUMBERS = st.one_of(st.integers(0, 200), st.sampled_from([63, 64, 16_383, 16_384, 1 << 30, (1 << 62) - 1]))


SMALL = st.one_of(st.integers(0, 3), NUMBERS)


@given(NUMBERS, NUMBERS, SMALL, st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=70))
@example(1 << 40, 7, 0, [(0, 0), (3, 0), (0, 70), (16_384, 64)])
@example(20_000, 7, 63, [(1, 1)] * (MAX_RANGES - 1))
@example(20_000, 7, 63, [(1, 1)] * MAX_RANGES)
def test_ranges_are_read_as_aioquic_reads_them(
    largest: int, delay: int, first: int, gaps: list[tuple[int, int]]
) -> None:
    payload = ack(largest, delay, first, *gaps)
    found = read(payload)
    try:
        ranges, encoded = pull_ack_frame(Buffer(data=payload[1:]))
    except (ValueError, AssertionError):
        assert found is None
        return
    if found is None:
        assert len(gaps) >= MAX_RANGES
        return
    assert (found.delay, found.ranges) == (encoded, [(one.start, one.stop) for one in ranges])


@given(st.binary(max_size=80), st.sampled_from(AES), st.integers(1, 4), st.integers(0, 3))
def test_no_payload_harms_it_and_what_is_not_one_acknowledgement_is_not_taken(
    payload: bytes, cipher: CipherSuite, size: int, bits: int
) -> None:
    found = OPENERS[cipher].open_untrusted(packet(payload, 9, cipher, 0x40 | bits << 5, size), 9)
    if found is not None:
        assert payload.strip(b"\0")[0] in (2, 3)
        assert found.number == 9
        edges = [edge for one in found.ranges for edge in one]
        assert edges == sorted(edges)
        assert edges[0] >= 0


@given(st.binary(max_size=2_100))
def test_no_datagram_is_taken_that_is_not_sealed_with_the_keys(data: bytes) -> None:
    assert OPENERS[AES[0]].open_untrusted(data, 0) is None


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_single_bit_changed_makes_it_none(at: int, bit: int) -> None:
    whole = bytearray(packet(ack(100, 5, 50, (3, 4))))
    whole[at % len(whole)] ^= 1 << bit
    if at % len(whole) not in range(1, 9):  # the connection id is compared before
        assert OPENERS[AES[0]].open_untrusted(bytes(whole), 9) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"\0\0\0\0",
        ack(9, 0, 1) + b"\x01",  # a PING besides
        ack(9, 0, 1) + ack(9, 0, 1),
        ack(9, 0, 10),  # more than there are
        ack(9, 0, 5, (3, 0)),
        b"\x03" + ack(9, 0, 1)[1:],  # ECN without its counts
        ack(9, 0, 1)[:-1],
    ],
    ids=["padding", "ping", "two", "first", "gap", "ecn", "short"],
)
def test_what_else_may_be_in_a_packet_is_left_to_aioquic(payload: bytes) -> None:
    assert read(payload) is None


def test_reserved_bits_and_another_key_phase_are_left_to_aioquic() -> None:
    good = ack(9, 0, 1)
    for first, is_taken in [(0x40, True), (0x60, True), (0x48, False), (0x50, False), (0x44, False)]:
        assert (OPENERS[AES[0]].open_untrusted(packet(good, first=first), 9) is not None) == is_taken


@given(st.integers(0, 1 << 40), st.integers(-100, 100), st.integers(1, 4))
def test_numbers_are_completed_as_the_standard_says(number: int, off: int, size: int) -> None:
    found = OPENERS[AES[0]].open_untrusted(packet(ack(1, 0, 0), number, size=size), max(0, number + off))
    assert found is not None
    assert found.number == number


# -- a connection's books ----------------------------------------------------------------------------------------------


def books(link: Link) -> dict[str, Any]:
    """Everything that an acknowledgement changes."""
    quic, loss, space = link.quic, link.quic._loss, link.quic._spaces[Epoch.ONE_RTT]
    kept = {name: getattr(loss, name) for name in vars(loss) if name.startswith(("_rtt", "_pto", "_time"))}
    loss._pacer.update_bucket(now=link.now)  # aioquic does when it looks whether it may send
    senders = {id: stream.sender for id, stream in quic._streams.items() if id % 4 == 3}
    return {
        **kept,
        **{f"cc{name}": value for name, value in vars(loss._cc).items() if name != "_rtt_monitor"},
        **{f"pacer{name}": value for name, value in vars(loss._pacer).items()},
        "flight": (
            space.ack_eliciting_in_flight,
            list(space.sent_packets),
            space.loss_time,
            space.largest_acked_packet,
        ),
        "heard": (space.expected_packet_number, space.largest_received_packet, list(space.ack_queue)),
        "spin": (quic._spin_bit, quic._spin_highest_pn),
        "idle": (quic._close_at, quic._ack_eliciting_sent_since_receipt),
        "streams": {
            id: (sender._buffer_start, list(sender._pending), list(sender._acked), sender.is_finished)
            for id, sender in senders.items()
        },
    }


@pytest.mark.parametrize("every", [0, 2, 3, 5, 7])
def test_the_books_are_those_that_aioquic_keeps(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for is_ours in (True, False):
        seen = [0]

        def loses(datagram: bytes, seen: list[int] = seen) -> bool:
            seen[0] += len(datagram) > 1_000
            return every > 0 and len(datagram) > 1_000 and seen[0] % every == 0

        link = Link(loses=loses)
        track, _ = watched(link)
        carrier = link.connection._carrier
        assert carrier is not None
        if not is_ours:
            monkeypatch.setattr(carrier, "take_acknowledgement_untrusted", lambda data, source, now: False)
        states = []
        for sequence in range(6):
            group(link, track, sequence, random.Random(sequence).randbytes(9_000))
            states.append(copy.deepcopy(books(link)))
        assert (link.connection.counts["acknowledgements_received"] > 5) == is_ours
        found.append(states)
    for ours, theirs in zip(*found, strict=True):
        assert ours == theirs


def test_an_acknowledgement_said_twice_counts_once_and_from_elsewhere_not_at_all() -> None:
    link = Link()
    track, _ = watched(link)
    said: list[bytes] = []
    receive = link.connection.receive_untrusted

    def keep(data: bytes, source: Any, now: float) -> bool:
        said.append(data)
        return receive(data, source, now)

    link.connection.receive_untrusted = keep  # type: ignore[method-assign]
    group(link, track, 0, bytes(9_000))
    before = copy.deepcopy(books(link))
    keyring = Keyring()
    taken = [take_acknowledgement_untrusted(link.quic, keyring, data, CLIENT, link.now) for data in said]
    assert 0 in taken
    assert books(link) == before
    elsewhere = ("127.0.0.9", 9)
    assert {take_acknowledgement_untrusted(link.quic, keyring, data, elsewhere, link.now) for data in said} == {None}


def test_viewers_acknowledge_past_aioquic_also_after_a_key_update() -> None:
    link = Link()
    track, _ = watched(link)
    group(link, track, 0, bytes(9_000))
    first = link.connection.counts["acknowledgements_received"]
    link.client.request_key_update()
    link.client.send_ping(1)
    link.run()
    group(link, track, 1, bytes(9_000))
    group(link, track, 2, bytes(9_000))
    assert link.quic._cryptos[Epoch.ONE_RTT].recv.key_phase == 1
    assert 0 < first < link.connection.counts["acknowledgements_received"]
