"""Checks that the kernel answers: the same octets as the engine's, and only in the ordinary case."""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.forwarding.kernel import consent
from media.forwarding.tables import Count
from media.webrtc import stun
from media.webrtc.ice import IceCredentials
from tests.media.turns import End, Turns, open_turns

OURS, THEIRS = IceCredentials("ours1234", "p" * 24), IceCredentials("them", "q" * 24)
USERNAME = f"{OURS.ufrag}:{THEIRS.ufrag}"


@pytest.fixture(scope="module")
def connected() -> Iterator[tuple[Turns, End]]:
    with open_turns() as turns:
        room = turns.forwarder.open_room()
        viewer = turns.end(room, publishes=False)
        turns.forwarder.answer_checks(viewer.row, USERNAME, OURS.password)
        yield turns, viewer


def check(*, username: str = USERNAME, password: str = OURS.password, nominates: bool = True) -> bytes:
    return stun.binding_request(os.urandom(12), username, password, priority=1, tie_breaker=7, nominates=nominates)


def exchange(turns: Turns, viewer: End, datagram: bytes) -> tuple[bytes | None, int]:
    """Return the answer, if one came, and how many datagrams were left to Python."""
    before = turns.counts()[Count.CONTROL]
    viewer.send(datagram)
    turns.turn()
    try:
        answer: bytes | None = viewer.socket.recv(2048)
    except BlockingIOError:
        answer = None
    left = turns.counts()[Count.CONTROL] - before
    turns.tables.shared[4] = turns.tables.shared[3]  # Python has taken them
    return answer, left


@pytest.mark.parametrize("nominates", [True, False])
def test_a_check_from_the_path_gets_the_engines_own_answer(connected: tuple[Turns, End], nominates: bool) -> None:
    turns, viewer = connected
    request = check(nominates=nominates)
    answer, left = exchange(turns, viewer, request)
    assert answer == stun.success_response(request[8:20], viewer.socket.getsockname(), OURS.password)
    assert left == 0


def test_an_answered_check_is_a_sign_of_life(connected: tuple[Turns, End]) -> None:
    turns, viewer = connected
    turns.tables.transports["last_media_ns"][viewer.row] = 0
    exchange(turns, viewer, check())
    assert turns.forwarder.last_media_ns(viewer.row) > 0


@given(st.data())
def test_one_changed_octet_leaves_a_check_to_the_engine(connected: tuple[Turns, End], data: st.DataObject) -> None:
    turns, viewer = connected
    request = bytearray(check())
    request[data.draw(st.integers(0, len(request) - 1))] ^= data.draw(st.integers(1, 255))
    answer, left = exchange(turns, viewer, bytes(request))
    assert answer is None
    assert left == (request[0] < 4 or 20 <= request[0] < 64)


@given(st.integers(0, 3), st.binary(max_size=300))
def test_nonsense_is_left_to_the_engine(connected: tuple[Turns, End], first: int, rest: bytes) -> None:
    assert exchange(*connected, bytes([first]) + rest) == (None, 1)


@pytest.mark.parametrize(
    "request_of_another",
    [check(password="x" * 24), check(username=f"{OURS.ufrag}:other"), check(username=USERNAME + "x")],
    ids=["password", "username", "longer_username"],
)
def test_other_credentials_are_left_to_the_engine(connected: tuple[Turns, End], request_of_another: bytes) -> None:
    assert exchange(*connected, request_of_another) == (None, 1)


def test_a_check_from_another_address_is_left_to_the_engine(connected: tuple[Turns, End]) -> None:
    turns, viewer = connected
    turns.forwarder.send_to(viewer.row, ("127.0.0.1", 9))
    assert exchange(turns, viewer, check()) == (None, 1)
    turns.forwarder.send_to(viewer.row, viewer.socket.getsockname())
    assert exchange(turns, viewer, check())[1] == 0


def test_after_its_end_a_transport_is_answered_nothing() -> None:
    with open_turns() as turns:
        viewer = turns.end(turns.forwarder.open_room(), publishes=False)
        turns.forwarder.answer_checks(viewer.row, USERNAME, OURS.password)
        assert exchange(turns, viewer, check())[0] is not None
        turns.forwarder.close_transport(viewer.row)
        assert exchange(turns, viewer, check())[0] is None


@given(st.binary(max_size=300))
def test_the_hashes_are_the_standard_ones(connected: tuple[Turns, End], data: bytes) -> None:
    turns, viewer = connected
    tables = turns.tables
    tables.hash_input[: len(data)] = np.frombuffer(data, np.uint8)
    consent.sha1.py_func(tables, len(data))
    assert tables.hash_digest.tobytes() == hashlib.sha1(data).digest()
    assert consent.crc32.py_func(np.frombuffer(data, np.uint8), 0, len(data)) == zlib.crc32(data)
    padded = bytearray(data.ljust(20, b"\0"))
    consent.hmac.py_func(tables, viewer.row, np.frombuffer(padded, np.uint8), 0, len(padded), 4)
    padded[2:4] = b"\0\4"
    assert tables.hash_digest.tobytes() == hmac.digest(OURS.password.encode(), padded, hashlib.sha1)
