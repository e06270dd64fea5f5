"""What a session repeats after a lost connection: all that it was told, with its numbers, as far as memory reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from signalling.identifiers import AccountId, Actor, StreamId
from signalling.sessions.session import REPLAYED, RESUME_NS, Session
from signalling.wire.events import StreamStarted
from signalling.wire.messages import Bundle, Encoded, Encoding


@dataclass
class Clock:
    ns: int = 1_000

    def now_ns(self) -> int:
        return self.ns

    def wall_ms(self) -> int:
        return self.ns // 1_000_000


@dataclass
class Heard:
    messages: list[dict[str, Any]] = field(default_factory=list)
    fanout: None = None

    def offer(self, frame: bytes, *, droppable: bool = False, key: str | None = None) -> None:
        self.messages.append(msgspec.json.decode(frame))

    def offer_all(self, bundle: Bundle, encoding: Encoding) -> None:
        raise AssertionError("nothing is shown in one go")

    def waiting(self) -> int:
        return 0

    def close(self, reason: str) -> None:
        self.messages.append({"type": "closed", "reason": reason})

    def streams(self) -> list[tuple[int, str]]:
        return [(heard["event"], heard["stream"]) for heard in self.messages if heard["type"] == "stream.started"]


async def nothing(session: Session, request: object) -> object:
    return None


def open_session(clock: Clock) -> tuple[Session, Heard]:
    session, heard = Session("s", Actor(AccountId("a"), "ann"), Encoding.JSON, clock, nothing), Heard()
    session.attach(heard, Encoding.JSON, None)
    return session, heard


def started(number: int) -> Encoded:
    return Encoded(StreamStarted(server_now=0, stream=StreamId(f"s{number}")))


def resume(session: Session, after: int) -> Heard:
    again = Heard()
    session.attach(again, Encoding.JSON, after)
    return again


def test_what_was_missed_is_repeated_under_the_numbers_that_it_had() -> None:
    session, heard = open_session(Clock())
    for number in range(1, 6):
        session.tell(started(number))
    assert heard.streams() == [(number, f"s{number}") for number in range(1, 6)]
    again = resume(session, 2)
    assert again.messages[0]["type"] == "welcome"
    assert again.messages[0]["event"] == 2
    assert again.streams() == [(3, "s3"), (4, "s4"), (5, "s5")]
    session.tell(started(6))
    assert again.streams()[-1] == (6, "s6")


def test_beyond_what_is_kept_a_gap_is_told_first() -> None:
    session, _ = open_session(Clock())
    last = REPLAYED + 10
    for number in range(1, last + 1):
        session.tell(started(number))
    again = resume(session, 3)
    assert [heard["type"] for heard in again.messages[:2]] == ["welcome", "gap"]
    assert again.messages[1]["after"] == 3
    assert again.messages[1]["event"] == 10
    assert again.streams() == [(number, f"s{number}") for number in range(11, last + 1)]


def test_what_is_too_old_is_not_repeated_whoever_else_was_told_it() -> None:
    clock = Clock()
    session, _ = open_session(clock)
    other, _ = open_session(clock)
    event = started(1)
    session.tell(event)
    clock.ns += RESUME_NS // 2
    other.tell(event)
    session.tell(started(2))
    clock.ns += RESUME_NS // 2 + 1
    for one, expected in ((session, [(2, "s2")]), (other, [])):
        again = resume(one, 0)
        assert again.messages[1]["type"] == "gap"
        assert again.streams() == expected


class Framing:
    def __init__(self, head: bytes) -> None:
        self.head, self.framed = head, 0

    def message(self, data: bytes) -> bytes:
        self.framed += 1
        return self.head + data


class OtherFraming(Framing):
    pass


def test_what_several_hear_together_is_framed_once_for_each_way_to_write_it() -> None:
    events = [started(1), started(2)]
    bundle = Bundle(events)
    for encoding in Encoding:
        for type in (Framing, OtherFraming):
            framing = type(type.__name__.encode())
            whole = b"".join(framing.head + event.frame(encoding) for event in events)
            assert [bundle.framed(encoding, framing) for _ in range(2)] == [whole, whole]
            assert framing.framed == len(events)
