"""What the messenger's clients heard is counted once and by the kernel's time, however it was cut in pieces."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from bench.message_receiving import BIN_NS, Count, Heard, listen, make_heard
from media.io.native import SO_TIMESTAMPNS

MARKS = b"\xa4type\xa2ok..\xa4type\xa5error.sent 12 sent x."


class Line:
    def __init__(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.ours = socket.create_connection(listener.getsockname())
        self.theirs, _ = listener.accept()
        listener.close()
        self.theirs.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.heard: Heard = make_heard([self.theirs.fileno()])
        self.epoll = select.epoll()
        self.epoll.register(self.theirs, select.EPOLLIN)

    def say(self, data: bytes) -> None:
        self.ours.sendall(data)
        assert listen(self.heard, self.epoll.fileno(), 2000) == 1

    def counts(self) -> list[int]:
        return [int(self.heard.counts[count]) for count in (Count.HEARD, Count.ANSWERED, Count.REFUSED)]


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    for end in (made.ours, made.theirs, made.epoll):
        end.close()


def test_each_mark_counts_once_wherever_it_is_cut(line: Line) -> None:
    said = b"sent %d;" % time.time_ns() + MARKS
    for cut in range(1, len(said)):
        line.say(said[:cut])
        line.say(said[cut:])
    assert line.counts() == [len(said) - 1] * 3
    assert line.heard.bins.sum() == len(said) - 1


def test_how_late_it_was_is_judged_by_when_the_kernel_took_it(line: Line) -> None:
    line.ours.sendall(b"sent %d" % (time.time_ns() - 30_000_000))
    time.sleep(0.2)
    listen(line.heard, line.epoll.fileno(), 1000)
    assert 30_000_000 <= int(line.heard.bins.nonzero()[0][0]) * BIN_NS + BIN_NS < 200_000_000


def test_pings_are_answered_and_an_end_is_told(line: Line) -> None:
    line.say(b"\x89\x00")
    line.ours.settimeout(5)
    assert line.ours.recv(9) == b"\x8a\x80" + bytes(4)
    line.ours.shutdown(socket.SHUT_WR)
    listen(line.heard, line.epoll.fileno(), 1000)
    assert line.heard.counts[Count.CLOSED] == 1
