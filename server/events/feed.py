"""Reads the event log for people: a page at a time, waiting for what comes next, or all of it over a socket.

An account gets the events whose audience it is in; an administrator gets all. One loop looks whether the log has grown,
while somebody waits, reads what is new once for all, and wakes those whom it is for. It asks the database, since other
nodes write there; who has written something here nudges it. A session that follows reads by itself what it has missed,
and is told by that loop from then on, until it is too slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from zlib import crc32

import msgspec
import sqlalchemy as sa
import structlog
import trio

from server.database.store import Database, StoreFailed
from server.events import eventlog
from server.events.crowd import Follower
from server.events.eventlog import Fresh, LoggedEvent, Span
from server.events.lane import MAX_AHEAD
from server.events.tail import LANES, ROUND_S, Fill, News, Tail, as_written, entry, handed_news, read_news
from signalling.identifiers import Actor
from signalling.refusals import Refused
from signalling.sessions.session import Session
from signalling.wire.events import LogEntry, LogEntryTold, LogGap
from signalling.wire.messages import Encoded
from signalling.wire.views import Followed

LOOK_S = 0.1  # how late a waiting reader hears of an event of another node; one indexed look-up of the newest id
TURN_S = 0.005  # after a nudge, for what else is just being written to come along
RETRY_S = 1.0  # a failing database is asked again so often
BATCH = 100  # events read at once for a session
WINDOW = 50_000  # ids looked through at once for one account: some milliseconds, whatever parties it is in
WINDOWS = 20  # looked through for one page; then an empty page says how far that was
MAX_HANDED = 4096  # events kept until they are told; beyond, they are read
PAUSE_S = 0.05  # how often its queue is looked at

log = structlog.get_logger("feed")


class EventPage(msgspec.Struct, frozen=True):
    """Events in the order of their ids; read on after `next`, which may be an id of an event for others.

    `gap` is the id up to which events are dropped, where they were dropped unread; else null.
    """

    events: list[LogEntry]
    next: int
    gap: int | None
    server_now: int


class Feed:
    """The log as it is read; `run` it in a nursery before the first call. Raises Refused and StoreFailed.

    `fill` adds to events what is not written in the log, for accounts that may see it; administrators do without.
    """

    def __init__(self, store: Database, wall_ms: Callable[[], int], fill: Fill = as_written) -> None:
        self._store, self._wall_ms, self._fill = store, wall_ms, fill
        self._tail = Tail(wall_ms)
        self._nudged = trio.Event()
        self._waiting: dict[str | None, set[trio.Event]] = {}
        self._wanted = trio.Event()
        self._seen = 0  # the head as it was last looked at: whoever waits from further back has something to read
        self._nursery: trio.Nursery | None = None
        self._is_unread = True
        self._handed: list[Fresh] = []
        self.followers = self.sent = self.gaps = self.failures = self.handed = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake those who wait, until cancelled."""
        self._seen = (await self._store.read(eventlog.span)).head
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._tail.run)
            task_status.started()
            while True:
                await self._wanted.wait()
                began = trio.current_time()
                has_read = True
                try:
                    has_read = await self._look()
                except StoreFailed as failure:
                    self.failures += 1
                    log.warning("log_unread", reason=str(failure))
                    await trio.sleep(RETRY_S)
                took_s = trio.current_time() - began
                with trio.move_on_after(LOOK_S) as pause:
                    await self._nudged.wait()
                if not pause.cancelled_caught:
                    self._nudged = trio.Event()
                    if has_read and not self._handed:
                        await trio.sleep(max(TURN_S, min(took_s, ROUND_S - took_s)))

    def nudge(self) -> None:
        """Something was just written to the log: look at once."""
        self._is_unread = True
        self._nudged.set()

    def hand(self, fresh: Fresh) -> None:
        """Tell what was just committed to the log without reading it, where it is what comes next."""
        if len(self._handed) < MAX_HANDED:
            self._handed.append(fresh)
        self._nudged.set()

    def counters(self) -> dict[str, int]:
        """How many read along, and what became of it, by name."""
        told, fallen_behind = self._tail.counters()
        return {
            "feed_followers": self.followers,
            "feed_waiting": sum(len(waiting) for waiting in self._waiting.values()),
            "feed_handed": self.handed,
            "feed_entries_sent": self.sent + told,
            "feed_fallen_behind": fallen_behind,
            "feed_gaps": self.gaps,
            "feed_failures": self.failures,
        }

    async def page(
        self, actor: Actor, after: int, limit: int, *, subject: str | None = None, wait_s: float = 0
    ) -> EventPage:
        """Return up to `limit` events after an id that somebody may see, waiting up to `wait_s` for the first.

        Raises Refused("invalid_cursor") where no event has had that id yet.
        """
        page = await self._read(actor, after, limit, subject)
        with trio.move_on_after(wait_s):
            while wait_s and not page.events and page.gap is None:
                await self.wait_beyond(page.next, _reader(actor))
                page = await self._read(actor, page.next, limit, subject)
        return page

    async def follow(self, session: Session, after: int | None) -> Followed:
        """Send a session what it may see, until its connection is lost; after an id, or from now on."""
        try:
            span, lane = await self._store.read(_place_of, _reader(session.actor))
        except StoreFailed as failure:
            raise Refused("events_unavailable") from failure
        start = span.head if after is None else after
        _check(start, span)
        assert self._nursery is not None, "sessions are followed up in `run`"
        scope = trio.CancelScope()
        session.follow(scope.cancel)
        self._nursery.start_soon(self._send_all, Follower(session, _reader(session.actor), start, lane), scope)
        return Followed(start)

    # -- a session that follows ----------------------------------------------------------------------------------------

    async def _send_all(self, follower: Follower, scope: trio.CancelScope) -> None:
        self.followers += 1
        try:
            with scope:
                while True:
                    await self._catch_up(follower)
                    # Without a checkpoint since: it has all that the tail has told so far.
                    with self._tail.telling(follower):
                        self._wanted.set()
                        await follower.behind.wait()
        except Exception:
            log.exception("follow_fault")
            follower.session.close("internal_error")
        finally:
            self.followers -= 1

    async def _catch_up(self, follower: Follower) -> None:
        """Send what the log holds, until there is nothing that the tail would not tell."""
        while True:
            try:
                page = await self._read(follower.session.actor, follower.position, BATCH)
            except StoreFailed as failure:
                self.failures += 1
                log.warning("log_unread", reason=str(failure))
                await trio.sleep(RETRY_S)
                continue
            if page.gap is not None:
                told = LogGap(server_now=page.server_now, after=follower.position, dropped_to=page.gap)
                follower.session.show(Encoded(told))
            await self._send(follower.session, page.events)
            follower.position = page.next
            if not page.events and page.next >= self._seen:
                return

    async def _send(self, session: Session, events: Sequence[LogEntry]) -> None:
        for told in events:
            while session.waiting() >= MAX_AHEAD:  # noqa: ASYNC110  (a socket tells nobody that it has caught up)
                await trio.sleep(PAUSE_S)
            session.show(Encoded(LogEntryTold(server_now=self._wall_ms(), entry=told)))
            self.sent += 1

    # -- reading and waiting -------------------------------------------------------------------------------------------

    async def _read(self, actor: Actor, after: int, limit: int, subject: str | None = None) -> EventPage:
        gap: int | None = None
        place = after
        for _ in range(WINDOWS):
            found = await self._store.read(_read, place, limit, subject, _reader(actor), self._fill)
            gap = found.span.dropped_to if place == after < found.span.dropped_to else gap
            place = found.next
            if found.events or place >= found.span.head:
                break
        self.gaps += gap is not None
        return EventPage([entry(event) for event in found.events], place, gap, self._wall_ms())

    async def _look(self) -> bool:
        """Take what is new; returns whether it had to be read."""
        handed = self._take_handed()
        if handed is not None:
            self._hear(handed)
        must_read = handed is None or self._is_unread
        if must_read:
            self._is_unread = False
            self._hear(await self._store.read(read_news, self._seen, self._tail.known, self._fill))
        if not self._waiting and not self._tail.is_told:
            self._wanted = trio.Event()
        return must_read

    def _take_handed(self) -> News | None:
        """Return what follows on what was seen last, and is for people who are known; all else is read."""
        handed, self._handed = self._handed, []
        fresh = [each for each in handed if each.logged.id > self._seen]
        for place, each in enumerate(fresh, self._seen + 1):
            if each.logged.id != place:
                return None
        news = handed_news(fresh, self._tail.known)
        if news is not None:
            self.handed += len(fresh)
        return news

    def _hear(self, news: News) -> None:
        if news.last <= self._seen:
            return
        self._seen = news.last
        self._tail.take(news)
        for account, waiting in self._waiting.items():
            if account is None or self._tail.concerns(news, account):
                for woken in waiting:
                    woken.set()
        self._tail.tidy()
        if news.more:
            self.nudge()

    async def wait_beyond(self, position: int, account: str | None) -> None:
        """Return when there may be an event above an id for an account, or for anybody (None)."""
        if self._seen > position:
            await trio.lowlevel.checkpoint()
            return
        with self._queued(account) as woken:
            await woken.wait()

    @contextmanager
    def _queued(self, account: str | None) -> Iterator[trio.Event]:
        woken = trio.Event()
        self._waiting.setdefault(account, set()).add(woken)
        self._wanted.set()
        try:
            yield woken
        finally:
            self._waiting[account].discard(woken)
            if not self._waiting[account]:
                del self._waiting[account]


@dataclass(frozen=True, slots=True)
class _Found:
    """Events, the place after which to read on, and which ids there are."""

    events: Sequence[LoggedEvent]
    next: int
    span: Span


def _read(
    connection: sa.Connection, after: int, limit: int, subject: str | None, account: str | None, fill: Fill
) -> _Found:
    span = eventlog.span(connection)
    _check(after, span)
    until = span.head if account is None else min(span.head, max(after, span.dropped_to) + WINDOW)
    events = eventlog.read_from(connection, after, limit, subject, account, until)
    place = until if len(events) < limit else events[-1].id
    return _Found(events if account is None else fill(connection, events, account), place, span)


def _place_of(connection: sa.Connection, account: str | None) -> tuple[Span, int]:
    """Return which ids there are, and with whom somebody is told: best with those who hear the same."""
    party = None if account is None else eventlog.party_of(connection, account)
    return eventlog.span(connection), crc32((party or account or "").encode()) % LANES


def _reader(actor: Actor) -> str | None:
    """Whose events these are: None stands for all."""
    return None if actor.admin else actor.account


def _check(after: int, span: Span) -> None:
    if after > span.head:
        raise Refused("invalid_cursor", f"no event has the id {after} yet")
