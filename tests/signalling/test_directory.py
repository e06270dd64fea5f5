"""The directory: whoever pages through it, or follows it, knows which streams there are, whatever else goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.policy.showing import Now, Scene, Stream, is_listed
from signalling.policy.state import RoomState
from signalling.policy.verdicts import sees_all
from signalling.refusals import Refused
from signalling.rooms.directory import Directory, Wanted
from signalling.sessions.session import Session
from signalling.wire.messages import Encoding
from signalling.wire.views import Kind, Person

VIEWER = Actor(AccountId("viewer"), "viewer")
NOW = Now(0, 1_784_000_000_000)
PAGE = 3


def scene(number: int, mode: Mode = Mode.PUBLIC, kind: Kind = "video", title: str = "A stream") -> Scene:
    owner = Person(AccountId(f"o{number}"), f"Owner {number}")
    stream = Stream(StreamId(f"s{number}"), number, owner, kind, 1)
    return Scene(stream, RoomState(owner.id, mode=mode, title=title, picture="live"), frozenset(), {})


def changed(before: Scene, **values: Any) -> Scene:
    return Scene(before.stream, replace(before.state, **values), before.watching, before.names)


class Frozen:
    """Clocks that stand still."""

    def now_ns(self) -> int:
        return NOW.ns

    def wall_ms(self) -> int:
        return NOW.wall_ms


@dataclass
class Line:
    """An outbox whose frames arrive when the test says so; of those with one key only the newest is kept, in place."""

    queue: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)
    fanout: None = None

    def offer(self, frame: bytes, *, droppable: bool = False, key: str | None = None) -> None:
        message = msgspec.json.decode(frame)
        for place, (known, _) in enumerate(self.queue):
            if key is not None and known == key:
                self.queue[place] = (key, message)
                return
        self.queue.append((key, message))

    def waiting(self) -> int:
        return len(self.queue)

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


class Client:
    """Keeps the list as the messages' descriptions say: of what is known of a stream, the highest version counts."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, dict[str, Any] | None]] = {}

    def hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "directory.snapshot":
                version = message["version"]
                self.known = {stream: known for stream, known in self.known.items() if known[0] > version}
                self.take(message["streams"], version)
            case "directory.delta":
                self._note(message["stream"], message["version"], message["card"])

    def take(self, cards: Iterable[dict[str, Any]], version: int) -> None:
        for card in cards:
            self._note(card["id"], version, card)

    def _note(self, stream: str, version: int, card: dict[str, Any] | None) -> None:
        if stream not in self.known or version >= self.known[stream][0]:
            self.known[stream] = (version, card)

    def list(self) -> dict[str, str]:
        return {stream: card["mode"] for stream, (_, card) in self.known.items() if card is not None}


class Following(RuleBasedStateMachine):
    """A follower whose messages are late, who also reads pages, while streams come, change and go."""

    @initialize(streams=st.integers(0, 8))
    def begin(self, streams: int) -> None:
        self.directory = Directory(NOW.wall_ms)
        self.scenes: dict[int, Scene] = {}
        self.untold: set[int] = set()
        self.numbers = 0
        self.line, self.client = Line(), Client()
        self.session = Session("x", VIEWER, Encoding.JSON, Frozen(), None)  # type: ignore[arg-type]
        self.session.attach(self.line, Encoding.JSON, None)
        for _ in range(streams):
            self.come(Mode.PUBLIC)
        self.tell()
        self.directory.watch(self.session, NOW)

    @rule(mode=st.sampled_from([Mode.PUBLIC, Mode.PAID, Mode.PRIVATE]))
    def come(self, mode: Mode) -> None:
        self.numbers += 1
        self.scenes[self.numbers] = scene(self.numbers, mode)
        self.untold.add(self.numbers)

    @precondition(lambda self: self.scenes)
    @rule(data=st.data(), mode=st.sampled_from([Mode.PUBLIC, Mode.PAID, Mode.PRIVATE]), shut=st.booleans())
    def change(self, data: st.DataObject, mode: Mode, shut: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.scenes)))
        ejected = frozenset({VIEWER.account}) if shut else frozenset[AccountId]()
        self.scenes[number] = changed(self.scenes[number], mode=mode, ejected=ejected)
        self.untold.add(number)

    @precondition(lambda self: self.scenes)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.scenes)))
        self.directory.tell([changed(self.scenes.pop(number), ended="ended")], NOW)
        self.directory.remove(number)
        self.untold.discard(number)

    @rule()
    def tell(self) -> None:
        for number in sorted(self.untold):
            self.directory.put(self.scenes[number])
            self.directory.tell([self.scenes[number]], NOW)
        self.untold.clear()

    @rule()
    def watch_anew(self) -> None:
        self.directory.watch(self.session, NOW)

    @rule(start=st.integers(0, 20))
    def read_a_page(self, start: int) -> None:
        for number in self.untold:
            self.directory.put(self.scenes[number])
        page = self.directory.page(VIEWER, str(start), PAGE, NOW)
        self.client.take(msgspec.to_builtins(page.streams), page.version)

    @precondition(lambda self: self.line.queue)
    @rule(count=st.integers(1, 3))
    def hear(self, count: int) -> None:
        for _ in range(min(count, len(self.line.queue))):
            self.client.hear(self.line.queue.pop(0)[1])

    @invariant()
    def a_follower_who_has_heard_everything_knows_the_truth(self) -> None:
        if self.untold:
            return
        client = Client()
        client.known = dict(self.client.known)
        for _, message in self.line.queue:
            client.hear(message)
        listed = [each for each in self.scenes.values() if is_listed(each.state, VIEWER, sees_all)]
        assert client.list() == {each.stream.id: each.state.mode.value for each in listed}


TestFollowing = Following.TestCase
TestFollowing.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


class Paging(RuleBasedStateMachine):
    """Someone reads page after page of what he looks for, while streams come, change and go."""

    @initialize(streams=st.integers(0, 12), data=st.data())
    def begin(self, streams: int, data: st.DataObject) -> None:
        self.directory = Directory(0)
        self.numbers = 0
        self.scenes: dict[int, Scene] = {}
        self.wanted = data.draw(
            st.builds(Wanted, st.sampled_from([None, "video"]), st.sampled_from([None, Mode.PAID]), st.just(""))
        )
        self.read: list[str] = []
        self.cursor: str | None = None
        self.done = False
        for _ in range(streams):
            self.come(data.draw(st.sampled_from([Mode.PUBLIC, Mode.PAID])))
        self.stayed = {number for number in self.scenes if self.fits(number)}

    def fits(self, number: int) -> bool:
        return self.wanted.fits(self.scenes[number])

    @rule(mode=st.sampled_from([Mode.PUBLIC, Mode.PAID]))
    def come(self, mode: Mode) -> None:
        self.numbers += 1
        self.scenes[self.numbers] = scene(self.numbers, mode)
        self.directory.put(self.scenes[self.numbers])

    @precondition(lambda self: self.scenes)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.scenes)))
        del self.scenes[number]
        self.directory.remove(number)
        self.stayed.discard(number)

    @precondition(lambda self: self.scenes)
    @rule(data=st.data(), mode=st.sampled_from([Mode.PUBLIC, Mode.PAID]))
    def change(self, data: st.DataObject, mode: Mode) -> None:
        number = data.draw(st.sampled_from(sorted(self.scenes)))
        self.scenes[number] = changed(self.scenes[number], mode=mode)
        self.directory.put(self.scenes[number])
        if not self.fits(number):
            self.stayed.discard(number)

    @precondition(lambda self: not self.done)
    @rule(limit=st.integers(1, 4))
    def read_on(self, limit: int) -> None:
        page = self.directory.page(VIEWER, self.cursor, limit, NOW, sees_all, self.wanted)
        assert len(page.streams) <= limit
        self.read += [card.id for card in page.streams]
        self.cursor, self.done = page.cursor, page.cursor is None

    @invariant()
    def nobody_is_shown_twice_and_whoever_stayed_is_not_skipped(self) -> None:
        assert len(set(self.read)) == len(self.read)
        newest_first = [int(stream[1:]) for stream in self.read]
        assert newest_first == sorted(newest_first, reverse=True)
        if self.done:
            assert {f"s{number}" for number in self.stayed} <= set(self.read)


TestPaging = Paging.TestCase
TestPaging.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [4, 3, 2, 1]),
        (Wanted(kind="audio"), [2]),
        (Wanted(mode=Mode.PAID), [3]),
        (Wanted(text="straße"), [4]),
        (Wanted(text="STRASSE"), [4]),
        (Wanted(text="owner 2"), [2]),
        (Wanted(kind="audio", mode=Mode.PAID), []),
    ],
)
def test_a_page_holds_what_is_looked_for(wanted: Wanted, found: list[int]) -> None:
    directory = Directory(0)
    for each in (scene(1), scene(2, kind="audio"), scene(3, Mode.PAID), scene(4, title="Die Straße")):
        directory.put(each)
    page = directory.page(VIEWER, None, 10, NOW, sees_all, wanted)
    assert [int(card.id[1:]) for card in page.streams] == found


def test_who_looks_for_a_private_stream_finds_only_those_that_are_for_him() -> None:
    directory = Directory(0)
    theirs = scene(1, Mode.PRIVATE)
    directory.put(theirs)
    assert directory.page(VIEWER, None, 10, NOW, sees_all, Wanted(mode=Mode.PRIVATE)).streams == ()
    owner = Actor(theirs.state.owner, "Owner 1")
    assert len(directory.page(owner, None, 10, NOW, sees_all, Wanted(mode=Mode.PRIVATE)).streams) == 1


def test_a_cursor_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="invalid_cursor"):
        Directory(0).page(VIEWER, "x", 10, NOW)


def test_who_saw_a_stream_on_a_page_before_it_was_told_hears_when_it_goes() -> None:
    directory, line, client = Directory(0), Line(), Client()
    session = Session("x", VIEWER, Encoding.JSON, Frozen(), None)  # type: ignore[arg-type]
    session.attach(line, Encoding.JSON, None)
    directory.watch(session, NOW)
    line.queue.clear()
    brief = scene(1)
    directory.put(brief)
    page = directory.page(VIEWER, None, 10, NOW)
    client.take(msgspec.to_builtins(page.streams), page.version)
    directory.tell([changed(brief, ended="ended")], NOW)
    for _, message in line.queue:
        client.hear(message)
    assert client.list() == {}
