"""Tells sessions that follow the event log what is new, read and encoded once for all of them.

Who is in a party is looked up when an event of it comes, and kept until somebody enters or leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
import trio

from server import eventlog
from server.eventlog import COMING, PARTY, LoggedEvent, Seat
from signalling.fanning import show_each
from signalling.messages import Bundle, Encoded
from signalling.session import Session
from signalling.wire_events import LogEntry, LogEntryTold

TURN = 1000  # events read at once for all
MAX_AHEAD = 64  # frames, or KiB, queued for a slow session before more is read: a quarter of what closes it
AT_ONCE = 8  # events in one write: with the longest texts still less than what closes a slow session
MAX_SEATS = 200_000  # kept of parties: some 20 MB; beyond, all are looked up anew

# Adds to events what is not written in the log, for an account, or for all who may see them alike (None).
Fill = Callable[[sa.Connection, Sequence[LoggedEvent], str | None], Sequence[LoggedEvent]]
Seats = Mapping[str, Sequence[Seat]]


@dataclass(slots=True, eq=False)
class Follower:
    """A session that follows the log as `account` (None: all of it), and has everything up to `position`.

    `behind` is set once it has to read for itself.
    """

    session: Session
    account: str | None
    position: int
    behind: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True, slots=True)
class News:
    """What is new up to `last`: events as written, as accounts see them, for whom each is, and who is in new parties.

    Where there is `more`, the next look finds it.
    """

    last: int
    more: bool
    events: Sequence[LoggedEvent] = ()
    filled: Sequence[LoggedEvent] = ()
    audiences: Mapping[int, Sequence[str]] = field(default_factory=dict)
    seats: Mapping[str, Seats] = field(default_factory=dict)


def as_written(_: sa.Connection, events: Sequence[LoggedEvent], __: str | None) -> Sequence[LoggedEvent]:
    """Add nothing."""
    return events


def read_news(connection: sa.Connection, after: int, known: frozenset[str], fill: Fill) -> News:
    """Return the events above an id, a bounded part of them; parties that are `known` are not looked up."""
    head = eventlog.span(connection).head
    if head <= after:
        return News(after, more=False)
    events = eventlog.read_from(connection, after, TURN)
    more = len(events) == TURN
    last = events[-1].id if more else head
    audiences = eventlog.audiences(connection, after, last)
    named = {name for audience in audiences.values() for name in audience if name.startswith(PARTY)}
    coming = [logged.id for logged in events if logged.event.type.startswith(COMING)]
    changed = {name for event in coming for name in audiences.get(event, ())}
    seats = {name: eventlog.seats(connection, name, after) for name in named if name in changed or name not in known}
    return News(last, more, events, fill(connection, events, None), audiences, seats)


def entry(logged: LoggedEvent) -> LogEntry:
    """Show an event as all readers see it."""
    event = logged.event
    return LogEntry(id=logged.id, type=event.type, subject=event.subject, at=event.at, data=dict(event.fields))


_Part = tuple[int, Bundle]  # what is written at once, and the id of its last event


@dataclass(slots=True)
class _Share:
    """Events, by rising ids, that the same followers hear: the bytes are made once for all of them."""

    followers: Sequence[Follower]
    events: list[tuple[int, Encoded]] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list)


def _parts(follower: Follower, shares: Sequence[_Share]) -> Sequence[_Part]:
    """Return what a follower does not have yet of its shares, in order."""
    if len(shares) == 1 and shares[0].events[0][0] > follower.position:
        share = shares[0]
        share.parts = share.parts or _divided(share.events)
        return share.parts
    events = sorted((each for share in shares for each in share.events), key=lambda each: each[0])
    return _divided([each for each in events if each[0] > follower.position])


def _divided(events: Sequence[tuple[int, Encoded]]) -> list[_Part]:
    pieces = [events[start : start + AT_ONCE] for start in range(0, len(events), AT_ONCE)]
    return [(piece[-1][0], Bundle([event for _, event in piece])) for piece in pieces]


class Tail:
    """The sessions that have all that was told so far."""

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._told: dict[str | None, set[Follower]] = {}
        self._parties: dict[str, Seats] = {}
        self.known: frozenset[str] = frozenset()
        self.sent = self.fallen_behind = 0

    @property
    def is_told(self) -> bool:
        """Whether there is anybody."""
        return bool(self._told)

    @contextmanager
    def telling(self, follower: Follower) -> Iterator[None]:
        """Tell a follower what comes; its `behind` is set when it has to read for itself again."""
        follower.behind = trio.Event()
        self._told.setdefault(follower.account, set()).add(follower)
        try:
            yield
        finally:
            self._drop(follower)

    def tell(self, news: News) -> None:
        """Tell each event to whom it is for and who does not have it yet; to each all of it in few writes."""
        self._learn(news.seats)
        heard: dict[Follower, list[_Share]] = {}
        for share in self._shares(news):
            for follower in share.followers:
                heard.setdefault(follower, []).append(share)
        # One part to each, then the next: whoever does not take the first is found out before.
        turns: list[list[tuple[Follower, _Part]]] = []
        for follower, shares in heard.items():
            for turn, part in enumerate(_parts(follower, shares)):
                if turn == len(turns):
                    turns.append([])
                turns[turn].append((follower, part))
        for each in turns:
            show_each(self._due(each))

    def _shares(self, news: News) -> Iterable[_Share]:
        """Return the events that are new, those together that are for the same people."""
        shares: dict[tuple[object, ...], _Share] = {}
        all_of_it = _Share(list(self._told.get(None, ())))
        for logged, filled in zip(news.events, news.filled, strict=True):
            names = tuple(news.audiences.get(logged.id, ()))
            # In a party that somebody enters or leaves meanwhile, each event is for others.
            key = names if news.seats.keys().isdisjoint(names) else (*names, logged.id)
            share = shares.get(key)
            if share is None:
                share = shares[key] = _Share(self._audience(news, logged.id))
            if share.followers:
                share.events.append((logged.id, self._encoded(filled)))
            if all_of_it.followers:
                all_of_it.events.append((logged.id, self._encoded(logged)))
        return [share for share in (*shares.values(), all_of_it) if share.events]

    def _encoded(self, logged: LoggedEvent) -> Encoded:
        return Encoded(LogEntryTold(server_now=self._wall_ms(), entry=entry(logged)))

    def concerns(self, news: News, account: str) -> bool:
        """Whether an account may see anything that is new."""
        return any(
            name == account or (name.startswith(PARTY) and account in self._parties.get(name, ()))
            for audience in news.audiences.values()
            for name in audience
        )

    def _audience(self, news: News, event: int) -> list[Follower]:
        found: dict[Follower, None] = {}
        for name in news.audiences.get(event, ()):
            if not name.startswith(PARTY):
                found.update(dict.fromkeys(self._told.get(name, ())))
                continue
            for account, seats in self._parties[name].items():
                followers = self._told.get(account)
                if followers and any(seat.sees(event) for seat in seats):
                    found.update(dict.fromkeys(followers))
        return list(found)

    def _due(self, parts: Iterable[tuple[Follower, _Part]]) -> Iterator[tuple[Session, Bundle]]:
        for follower, (last, bundle) in parts:
            if follower.behind.is_set():
                continue
            if follower.session.waiting() >= MAX_AHEAD:
                self.fallen_behind += 1
                self._drop(follower)
                follower.behind.set()
                continue
            follower.position = last
            self.sent += len(bundle.events)
            yield follower.session, bundle

    def tidy(self) -> None:
        """Forget all parties when too much is kept of them."""
        if sum(map(len, self._parties.values())) > MAX_SEATS:
            self._parties.clear()
            self.known = frozenset()

    def _learn(self, seats: Mapping[str, Seats]) -> None:
        if seats:
            self._parties.update(seats)
            self.known = frozenset(self._parties)

    def _drop(self, follower: Follower) -> None:
        followers = self._told.get(follower.account, set())
        followers.discard(follower)
        if not followers:
            self._told.pop(follower.account, None)
