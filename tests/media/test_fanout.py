"""The compiled writer: each socket gets its part and its number, and what it did not take is told."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import numpy as np
import pytest

from media.io.fanout import NO_NUMBER, write_each

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(4)]
        for pair in made:
            for end in pair:
                stack.enter_context(end)
                end.setblocking(False)
        yield made


def fill(end: socket.socket) -> None:
    with suppress(BlockingIOError):
        while end.send(b"x" * 100_000):
            pass


def write(fds: Sequence[int], parts: Sequence[bytes], numbers: Sequence[int], number_at: int, width: int) -> list[int]:
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    data, taken = np.frombuffer(bytearray(b"".join(parts)), dtype=np.uint8), np.full(len(fds), -99, dtype=np.int64)
    numbered = np.array(numbers, dtype=np.int64)
    whole = write_each(np.array(fds, dtype=np.int32), starts, sizes, numbered, taken, data, number_at, width)
    assert whole == sum(taken == sizes)
    return list(taken.tolist())


def test_each_socket_gets_its_own_part(pairs: list[Pair]) -> None:
    parts = [b"one", b"two!", b"", b"three"]
    assert write([ours.fileno() for ours, _ in pairs], parts, [0] * 4, NO_NUMBER, 0) == [3, 4, 0, 5]
    assert [theirs.recv(99) for _, theirs in (pairs[0], pairs[1], pairs[3])] == [b"one", b"two!", b"three"]


@pytest.mark.parametrize("number", [0, 1, 9, 10, 255, 256, 70_000, 2**31, 2**32 - 1])
def test_each_copy_has_its_number_in_place(pairs: list[Pair], number: int) -> None:
    (first, their_first), (second, their_second), *_ = pairs
    fds, frame = [first.fileno(), second.fileno()], b'{"event":0123456789,"a":1}'
    assert write(fds, [frame, frame], [number, 7], 9, 10) == [len(frame)] * 2
    assert their_first.recv(99) == b'{"event":%10d,"a":1}' % number
    assert their_second.recv(99) == b'{"event":         7,"a":1}'
    write(fds, [b"ab....cd"] * 2, [number, 7], 2, 0)
    assert their_first.recv(99) == b"ab" + number.to_bytes(4) + b"cd"
    assert their_second.recv(99) == b"ab\0\0\0\x07cd"
    write(fds, [b"....cd"] * 2, [number, 7], 0, 0)
    assert [their_first.recv(99), their_second.recv(99)] == [number.to_bytes(4) + b"cd", b"\0\0\0\x07cd"]


def test_a_descriptor_below_zero_is_passed_over(pairs: list[Pair]) -> None:
    (_, idle), (ours, theirs), *_ = pairs
    assert write([-1, ours.fileno()], [b"x", b"yz"], [0, 0], NO_NUMBER, 0) == [0, 2]
    assert theirs.recv(99) == b"yz"
    with pytest.raises(BlockingIOError):
        idle.recv(99)


def test_what_is_full_or_gone_is_told_and_the_others_hear(pairs: list[Pair]) -> None:
    (full, _), (short, _), (gone, peer), (well, theirs) = pairs
    for end in (full, short):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    fill(full)
    peer.close()
    parts = [b"a", b"b" * 500_000, b"c", b"d"]
    taken = write([end.fileno() for end in (full, short, gone, well)], parts, [0] * 4, NO_NUMBER, 0)
    assert taken[0] == -errno.EAGAIN
    assert 0 < taken[1] < 500_000 or taken[1] == -errno.EAGAIN
    assert taken[2:] == [-errno.EPIPE, 1]
    assert theirs.recv(9) == b"d"


def test_nothing_to_write_is_no_error_whatever_the_last_one_was(pairs: list[Pair]) -> None:
    (full, _), (well, _), *_ = pairs
    fill(full)
    assert write([full.fileno(), well.fileno()], [b"a", b""], [0] * 2, NO_NUMBER, 0) == [-errno.EAGAIN, 0]
