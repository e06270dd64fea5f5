"""Tells sessions that follow the event log what is new, read and encoded once for all of them.

Who is in a party is looked up when an event of it comes, and kept until somebody enters or leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
import trio

from server.events import eventlog
from server.events.crowd import Crowd, Follower
from server.events.eventlog import COMING, PARTY, Fresh, LoggedEvent, Seat
from server.events.lane import Lane
from signalling.wire.events import LogEntry, LogEntryTold
from signalling.wire.messages import Encoded

TURN = 1000  # events read at once for all
LANES = 16  # of followers, told one after the other: none keeps the loop for longer than some milliseconds
ROUND_S = 0.06  # under load: what comes meanwhile is told in the same writes
MAX_SEATS = 200_000  # kept of parties: some 20 MB; beyond, all are looked up anew

# Adds to events what is not written in the log, for an account, or for all who may see them alike (None).
Fill = Callable[[sa.Connection, Sequence[LoggedEvent], str | None], Sequence[LoggedEvent]]
Seats = Mapping[str, Sequence[Seat]]


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


class Tail:
    """The sessions that have all that was taken so far; `run` it to have them told what is."""

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._told: dict[str | None, set[Follower]] = {}
        self._lanes = [Lane(self._drop) for _ in range(LANES)]
        self._due = trio.Event()
        self._cycle_s = 0.0
        self._parties: dict[str, Seats] = {}
        self._settled: dict[str, Sequence[Crowd]] = {}
        self.known: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Tell one lane after the other what waits for it, until cancelled.

        Each pause is as long as the telling before it took: half of the time is left for everything else. Where all
        lanes together then took longer than ROUND_S, pauses are shorter.
        """
        while True:
            await self._due.wait()
            self._due = trio.Event()
            cycle_s = 0.0
            for lane in self._lanes:
                if lane.is_due:
                    began = trio.current_time()
                    lane.tell()
                    took_s = trio.current_time() - began
                    cycle_s += took_s
                    spare = ROUND_S / self._cycle_s - 1 if self._cycle_s else 1.0
                    await trio.sleep(took_s * min(1.0, max(0.0, spare)))
            self._cycle_s = cycle_s

    @property
    def is_told(self) -> bool:
        """Whether there is anybody."""
        return bool(self._told)

    def counters(self) -> tuple[int, int]:
        """Return how many events were sent, and how often somebody fell behind."""
        return sum(lane.sent for lane in self._lanes), sum(lane.fallen_behind for lane in self._lanes)

    @contextmanager
    def telling(self, follower: Follower) -> Iterator[None]:
        """Tell a follower what comes; its `behind` is set when it has to read for itself again."""
        follower.behind = trio.Event()
        self._told.setdefault(follower.account, set()).add(follower)
        self._lanes[follower.lane].enter(follower)
        self._settled.clear()
        try:
            yield
        finally:
            self._drop(follower)

    def take(self, news: News) -> None:
        """Have each event told to whom it is for and who does not have it yet."""
        if news.seats:
            # What waits is for those who were there; told later, nobody would know any more who that was.
            for lane in self._lanes:
                if lane.is_due:
                    lane.tell()
        self._learn(news.seats)
        for crowds, events in self._shares(news):
            for crowd in crowds:
                self._lanes[crowd.followers[0].lane].add(crowd, events)
        self._due.set()

    def _shares(self, news: News) -> Iterable[tuple[Sequence[Crowd], Sequence[tuple[int, Encoded]]]]:
        """Return the events that are new, those together that are for the same people."""
        shares: dict[tuple[object, ...], tuple[Sequence[Crowd], list[tuple[int, Encoded]]]] = {}
        all_of_it = _by_lane(self._told.get(None, ()))
        written = []
        for logged, filled in zip(news.events, news.filled, strict=True):
            names = tuple(news.audiences.get(logged.id, ()))
            # In a party that somebody enters or leaves meanwhile, each event is for others.
            key = names if news.seats.keys().isdisjoint(names) else (*names, logged.id)
            share = shares.get(key)
            if share is None:
                share = shares[key] = self._audience(news, logged.id), []
            if share[0]:
                share[1].append((logged.id, self._encoded(filled)))
            if all_of_it:
                written.append((logged.id, self._encoded(logged)))
        return [share for share in (*shares.values(), (all_of_it, written)) if share[1]]

    def _encoded(self, logged: LoggedEvent) -> Encoded:
        return Encoded(LogEntryTold(server_now=self._wall_ms(), entry=entry(logged)))

    def concerns(self, news: News, account: str) -> bool:
        """Whether an account may see anything that is new."""
        return any(
            name == account or (name.startswith(PARTY) and account in self._parties.get(name, ()))
            for audience in news.audiences.values()
            for name in audience
        )

    def _audience(self, news: News, event: int) -> Sequence[Crowd]:
        names = news.audiences.get(event, ())
        if len(names) == 1 and names[0].startswith(PARTY):
            return self._inside(names[0], event)
        found: dict[Follower, None] = {}
        for name in names:
            if name.startswith(PARTY):
                for crowd in self._inside(name, event):
                    found.update(dict.fromkeys(crowd.followers))
            else:
                found.update(dict.fromkeys(self._told.get(name, ())))
        return _by_lane(found)

    def _inside(self, party: str, event: int) -> Sequence[Crowd]:
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
        crowds = _by_lane(found)
        if is_settled:
            self._settled[party] = crowds
        return crowds

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
        if follower in followers:
            followers.discard(follower)
            self._lanes[follower.lane].leave(follower)
            self._settled.clear()
            if not followers:
                self._told.pop(follower.account, None)


def _by_lane(followers: Iterable[Follower]) -> Sequence[Crowd]:
    """Return followers as crowds, each of one lane."""
    lanes: dict[int, list[Follower]] = {}
    for follower in followers:
        lanes.setdefault(follower.lane, []).append(follower)
    return [Crowd(each) for each in lanes.values()]
