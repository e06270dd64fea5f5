"""Tells sessions that follow the event log what is new, read and encoded once for all of them.

Who is in a party is looked up when an event of it comes, and kept until somebody enters or leaves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import sqlalchemy as sa
import trio

from server import eventlog
from server.eventlog import COMING, PARTY, Fresh, LoggedEvent, Seat
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


def handed_news(fresh: Sequence[Fresh], known: frozenset[str]) -> News | None:
    """Return what was handed over as news; None where there is nothing, or something must be looked up for it."""
    if not fresh:
        return None
    audiences = {each.logged.id: list(eventlog.audience(each.logged.event)) for each in fresh}
    if any(name.startswith(PARTY) and name not in known for names in audiences.values() for name in names):
        return None
    events, filled = [each.logged for each in fresh], [each.filled for each in fresh]
    return News(events[-1].id, more=False, events=events, filled=filled, audiences=audiences)


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


def _parts(follower: Follower, shares: Sequence[_Share]) -> Sequence[_Part]:
    """Return what a follower does not have yet of its shares, in order."""
    events = sorted((each for share in shares for each in share.events), key=lambda each: each[0])
    return _divided([each for each in events if each[0] > follower.position])


def _divided(events: Sequence[tuple[int, Encoded]]) -> list[_Part]:
    pieces = [events[start : start + AT_ONCE] for start in range(0, len(events), AT_ONCE)]
    return [(piece[-1][0], Bundle([event for _, event in piece])) for piece in pieces]


class _Turns:
    """What is sent one after the other: first the first part to everybody, so that who is too slow is found out."""

    def __init__(self) -> None:
        self.each: list[list[tuple[_Part, Sequence[Follower]]]] = []

    def add(self, followers: Sequence[Follower], parts: Sequence[_Part]) -> None:
        """Have followers sent parts in their order."""
        for turn, part in enumerate(parts if followers else ()):
            if turn == len(self.each):
                self.each.append([])
            self.each[turn].append((part, followers))


class Tail:
    """The sessions that have all that was told so far."""

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._told: dict[str | None, set[Follower]] = {}
        self._parties: dict[str, Seats] = {}
        self._settled: dict[str, Sequence[Follower]] = {}
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
        self._settled.clear()
        try:
            yield
        finally:
            self._drop(follower)

    def tell(self, news: News) -> None:
        """Tell each event to whom it is for and who does not have it yet; to each all of it in few writes."""
        self._learn(news.seats)
        shares = [share for share in self._shares(news) if share.followers]
        counts = Counter(chain.from_iterable(share.followers for share in shares))
        mixed: dict[Follower, list[_Share]] = {}
        turns = _Turns()
        for share in shares:
            first, alike = share.events[0][0], []
            for follower in share.followers:
                if counts[follower] > 1 or follower.position >= first:
                    mixed.setdefault(follower, []).append(share)
                else:
                    alike.append(follower)
            turns.add(alike, _divided(share.events))
        for follower, heard in mixed.items():
            turns.add([follower], _parts(follower, heard))
        for parts in turns.each:
            show_each(self._due(parts))

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

    def _audience(self, news: News, event: int) -> Sequence[Follower]:
        names = news.audiences.get(event, ())
        if len(names) == 1 and names[0].startswith(PARTY):
            return self._inside(names[0], event)
        found: dict[Follower, None] = {}
        for name in names:
            followers = self._inside(name, event) if name.startswith(PARTY) else self._told.get(name, ())
            found.update(dict.fromkeys(followers))
        return list(found)

    def _inside(self, party: str, event: int) -> Sequence[Follower]:
        """Return who follows and is in a party when an event of it comes; kept until anything changes that."""
        known = self._settled.get(party)
        if known is not None:
            return known
        found: list[Follower] = []
        is_settled = True
        for account, seats in self._parties[party].items():
            followers = self._told.get(account)
            if followers:
                if any(seat.sees(event) for seat in seats):
                    found.extend(followers)
                is_settled = is_settled and all(seat.is_settled(event) for seat in seats)
        if is_settled:
            self._settled[party] = found
        return found

    def _due(self, parts: Iterable[tuple[_Part, Sequence[Follower]]]) -> Iterator[tuple[Bundle, Sequence[Session]]]:
        for (last, bundle), followers in parts:
            sessions = [follower.session for follower in followers if self._keeps_up(follower, last)]
            self.sent += len(bundle.events) * len(sessions)
            yield bundle, sessions

    def _keeps_up(self, follower: Follower, last: int) -> bool:
        """Whether a follower can be sent what goes up to an event; else it has to read for itself."""
        if follower.session.waiting() >= MAX_AHEAD and not follower.behind.is_set():
            self.fallen_behind += 1
            self._drop(follower)
            follower.behind.set()
        if follower.behind.is_set():
            return False
        follower.position = last
        return True

    def tidy(self) -> None:
        """Forget all parties when too much is kept of them."""
        if sum(map(len, self._parties.values())) > MAX_SEATS:
            self._parties.clear()
            self._settled.clear()
            self.known = frozenset()

    def _learn(self, seats: Mapping[str, Seats]) -> None:
        if seats:
            self._parties.update(seats)
            for party in seats:
                self._settled.pop(party, None)
            self.known = frozenset(self._parties)

    def _drop(self, follower: Follower) -> None:
        followers = self._told.get(follower.account, set())
        followers.discard(follower)
        self._settled.clear()
        if not followers:
            self._told.pop(follower.account, None)
