"""Two sessions joined in memory: carriers that keep what is written until it is delivered."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from media.moq.carriers.carrier import UNIDIRECTIONAL, Writing
from media.moq.protocol.events import Event
from media.moq.protocol.session import Session
from media.moq.protocol.versions import Version


@dataclass(frozen=True)
class Written:
    stream: int
    data: bytes
    is_last: bool


@dataclass(frozen=True)
class Reset:
    stream: int
    code: int


@dataclass(frozen=True)
class Stopped:
    stream: int
    code: int


@dataclass(frozen=True)
class Sent:
    data: bytes


@dataclass
class Wire(Writing):
    """A `Carrier` whose other end a test holds. `space` is its room, `grants` how many streams of a kind may open."""

    is_server: bool = True
    space: int = 1 << 20
    stream_space: int = 1 << 20
    grants: int = 100
    datagram_bytes: int = 1_200
    out: deque[Written | Reset | Stopped | Sent] = field(default_factory=deque)
    closed: tuple[int, str] | None = None
    refused: set[int] = field(default_factory=set)  # streams the peer stopped
    ended: set[int] = field(default_factory=set)
    was_reset: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    woken: int = 0
    recalled: int = 0
    opened: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    @property
    def max_datagram_bytes(self) -> int:
        return self.datagram_bytes

    @property
    def estimate(self) -> tuple[int, int]:
        return (3_000_000, 40)

    def open(self, *, unidirectional: bool) -> int | None:
        if self.opened[unidirectional] >= self.grants:
            return None
        self.opened[unidirectional] += 1
        return (self.opened[unidirectional] - 1) * 4 + UNIDIRECTIONAL * unidirectional + self.is_server

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> bool:
        if stream in self.refused or stream in self.ended:
            return False
        if is_last:
            self.ended.add(stream)
        self.out.append(Written(stream, bytes(data), is_last))
        self.space -= len(data)
        return True

    def reset(self, stream: int, code: int) -> None:
        # What was written and not delivered is lost, as in QUIC, where a stream is reset only once.
        if stream in self.was_reset:
            return
        self.was_reset.add(stream)
        self.out = deque(one for one in self.out if not (isinstance(one, Written) and one.stream == stream))
        self.ended.add(stream)
        self.out.append(Reset(stream, code))

    def recall(self) -> None:
        self.recalled += 1

    def stop(self, stream: int, code: int) -> None:
        self.out.append(Stopped(stream, code))

    def send_datagram(self, data: bytes) -> bool:
        if len(data) > self.datagram_bytes or len(data) > self.space:
            return False
        self.out.append(Sent(data))
        return True

    def drop_datagrams(self) -> None:
        self.out = deque(one for one in self.out if not isinstance(one, Sent))

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def room(self) -> int:
        return self.space

    def stream_room(self, stream: int) -> int:
        return self.stream_space

    def is_done(self, stream: int) -> bool:
        return stream in self.acknowledged

    def wake(self) -> None:
        self.woken += 1

    def bytes_of(self, stream: int) -> bytes:
        return b"".join(one.data for one in self.out if isinstance(one, Written) and one.stream == stream)


def deliver(wire: Wire, session: Session, *, piece: int = 1 << 30) -> list[Event]:
    """Give everything that was written on `wire` to the session at its other end, in pieces of so many bytes."""
    found: list[Event] = []
    while wire.out:
        match wire.out.popleft():
            case Written(stream, data, is_last):
                cuts = range(0, len(data), piece) or [0]
                for at in cuts:
                    last = is_last and at + piece >= len(data)
                    found += session.receive_untrusted(stream, data[at : at + piece], is_last=last)
            case Reset(stream, code):
                found += session.reset_untrusted(stream, code)
            case Stopped(stream, code):
                found += session.stopped_untrusted(stream, code)
            case Sent(data):
                found += session.datagram_untrusted(data)
    return found


@dataclass
class Pair:
    """A client's session and a server's, and the wires they write to."""

    version: Version
    piece: int = 1 << 30

    def __post_init__(self) -> None:
        self.up, self.down = Wire(is_server=False), Wire()
        self.client = Session(self.up, self.version, origin=7, path="/anon?jwt=abc")
        self.server = Session(self.down, self.version, origin=9)

    def to_server(self) -> list[Event]:
        return deliver(self.up, self.server, piece=self.piece)

    def to_client(self) -> list[Event]:
        return deliver(self.down, self.client, piece=self.piece)
