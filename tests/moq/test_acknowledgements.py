"""Acknowledgements taken in past aioquic: what they say, what they change, and what else is sent like one."""

from __future__ import annotations

import random
import socket
from typing import Any

import numpy as np
import pytest
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.quic.packet import pull_ack_frame
from aioquic.tls import CipherSuite, Epoch
from hypothesis import example, given
from hypothesis import strategies as st

from media.moq.kernel.columns import MAX_RUNS
from media.moq.kernel.packets import MAX_RANGES
from media.moq.quic.packets import AES
from media.moq.quic.table import packed_address, unpacked_address
from tests.moq.links import CLIENT, Link
from tests.moq.openers import ID, Acknowledgement, Opener
from tests.moq.test_carried import payload_of, watched
from tests.moq.test_packets import CRYPTO
from tests.moq.test_quic import group

OPENERS = {cipher: Opener(context) for cipher, context in CRYPTO.items()}


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


def heard(link: Link) -> tuple[Any, ...]:
    """Everything of the packets received that aioquic keeps."""
    link.quic.catch_up()
    space = link.quic._spaces[Epoch.ONE_RTT]
    return (
        space.expected_packet_number,
        space.largest_received_packet,
        list(space.ack_queue),
        link.quic._spin_bit,
        link.quic._spin_highest_pn,
    )


def test_aioquic_knows_of_what_was_taken_in_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for is_ours in (True, False):
        link = Link()
        if not is_ours:
            monkeypatch.setattr(link.table, "take_in_untrusted", lambda data, source, now: False)
        track, _ = watched(link)
        states = []
        for sequence in range(6):
            group(link, track, sequence, random.Random(sequence).randbytes(9_000))
            states.append(heard(link))
        assert (link.table.counters()["acknowledgements_received"] > 5) == is_ours
        found.append(states)
    assert found[0] == found[1]


def test_an_acknowledgement_said_twice_counts_once_and_from_elsewhere_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link()
    track, _ = watched(link)
    said: list[bytes] = []
    hear = link.hear

    def keep(data: bytes, source: tuple[str, int] = CLIENT) -> None:
        said.append(data)
        hear(data, source)

    monkeypatch.setattr(link, "hear", keep)
    group(link, track, 0, bytes(9_000))
    before = link.table.ints.copy(), link.table.reals.copy()
    assert len(said) > 2
    assert not any(link.table.take_in_untrusted(data, CLIENT, link.now) for data in said)
    elsewhere = ("127.0.0.9", 9)
    assert not any(link.table.take_in_untrusted(data, elsewhere, link.now) for data in said)
    assert (link.table.ints == before[0]).all()
    assert np.array_equal(link.table.reals, before[1], equal_nan=True)


def test_numbers_with_too_many_gaps_between_them_are_left_to_aioquic() -> None:
    kept = OPENERS[AES[0]]
    good = ack(9, 0, 1)
    assert kept.open_untrusted(packet(good, 0), 0) is not None
    taken = [
        kept.table.take_in_untrusted(packet(good, number), CLIENT, 0.0) for number in range(2, 2 * MAX_RUNS + 8, 2)
    ]
    assert taken == [True] * (MAX_RUNS - 1) + [False] * (len(taken) - MAX_RUNS + 1)
    assert kept.row.take_runs() == [(number, number + 1) for number in range(0, 2 * MAX_RUNS, 2)]
    assert kept.table.take_in_untrusted(packet(good, 2 * MAX_RUNS), CLIENT, 0.0)


def test_viewers_acknowledge_past_aioquic_also_after_a_key_update() -> None:
    link = Link()
    track, session = watched(link)
    group(link, track, 0, bytes(9_000))
    first = link.table.counters()["acknowledgements_received"]
    link.client.request_key_update()
    link.client.send_ping(1)
    link.run()
    group(link, track, 1, b"later" * 2_000)
    group(link, track, 2, bytes(9_000))
    assert link.quic._cryptos[Epoch.ONE_RTT].recv.key_phase == 1
    assert 0 < first < link.table.counters()["acknowledgements_received"]
    assert b"later" * 2_000 in payload_of(link, session)


@pytest.mark.parametrize("host", ["192.0.2.7", "::1", "2001:db8::7"])
def test_addresses_are_packed_as_the_system_has_them(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as one:
        if host == "::1":
            one.bind((host, 0))
            assert unpacked_address(packed_address(one.getsockname())) == one.getsockname()
    address = (host, 4433, 0, 0) if ":" in host else (host, 4433)
    assert unpacked_address(packed_address(address)) == address
    assert unpacked_address(packed_address((host, 4433)))[:2] == (host, 4433)
