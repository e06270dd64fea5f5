"""Reads the event log for people: a page at a time, waiting for what comes next, or all of it over a socket.

An account gets the events whose audience it is in; an administrator gets all. One loop looks whether the log has grown,
while somebody waits, and wakes those whom the new events are for. It asks the database, since other nodes write there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import sqlalchemy as sa
import structlog
import trio

from server import eventlog
from server.eventlog import LoggedEvent, Span
from server.store import Database, StoreFailed
from signalling.identifiers import Actor
from signalling.messages import Encoded
from signalling.refusals import Refused
from signalling.session import Session
from signalling.views import Followed
from signalling.wire_events import LogEntry, LogEntryTold, LogGap

LOOK_S = 0.1  # how late a waiting reader hears of an event; one indexed look-up of the newest id
RETRY_S = 1.0  # a failing database is asked again so often
BATCH = 100  # events read at once for a session
MAX_AHEAD = 64  # frames queued for a slow session before more is read: a quarter of what closes it
MAX_NEWS = 10_000  # events whose audience is looked up, rather than have everybody look
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
    """The log as it is read; `run` it in a nursery before the first call. Raises Refused and StoreFailed."""

    def __init__(self, store: Database, wall_ms: Callable[[], int]) -> None:
        self._store, self._wall_ms = store, wall_ms
        self._waiting: dict[str | None, set[trio.Event]] = {}
        self._wanted = trio.Event()
        self._seen = 0  # the head as it was last looked at: whoever waits from further back has something to read
        self._nursery: trio.Nursery | None = None
        self.followers = self.sent = self.gaps = self.failures = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake those who wait, until cancelled."""
        self._seen = (await self._store.read(eventlog.span)).head
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await self._wanted.wait()
                try:
                    await self._look()
                except StoreFailed as failure:
                    self.failures += 1
                    log.warning("log_unread", reason=str(failure))
                    await trio.sleep(RETRY_S)
                await trio.sleep(LOOK_S)

    def counters(self) -> dict[str, int]:
        """How many read along, and what became of it, by name."""
        return {
            "feed_followers": self.followers,
            "feed_waiting": sum(len(waiting) for waiting in self._waiting.values()),
            "feed_entries_sent": self.sent,
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
            span = await self._store.read(eventlog.span)
        except StoreFailed as failure:
            raise Refused("events_unavailable") from failure
        start = span.head if after is None else after
        _check(start, span)
        assert self._nursery is not None, "sessions are followed up in `run`"
        scope = trio.CancelScope()
        session.follow(scope.cancel)
        self._nursery.start_soon(self._send_all, session, start, scope)
        return Followed(start)

    # -- a session that follows ----------------------------------------------------------------------------------------

    async def _send_all(self, session: Session, after: int, scope: trio.CancelScope) -> None:
        self.followers += 1
        try:
            with scope:
                while True:
                    after = await self._send_some(session, after)
        except Exception:
            log.exception("follow_fault")
            session.close("internal_error")
        finally:
            self.followers -= 1

    async def _send_some(self, session: Session, after: int) -> int:
        """Send the next events, waiting for them; returns after which to go on."""
        try:
            page = await self._read(session.actor, after, BATCH)
        except StoreFailed as failure:
            self.failures += 1
            log.warning("log_unread", reason=str(failure))
            await trio.sleep(RETRY_S)
            return after
        if page.gap is not None:
            session.show(Encoded(LogGap(server_now=page.server_now, after=after, dropped_to=page.gap)))
        for entry in page.events:
            while session.waiting() >= MAX_AHEAD:  # noqa: ASYNC110  (a socket tells nobody that it has caught up)
                await trio.sleep(PAUSE_S)
            session.show(Encoded(LogEntryTold(server_now=self._wall_ms(), entry=entry)))
            self.sent += 1
        if not page.events:
            await self.wait_beyond(page.next, _reader(session.actor))
        return page.next

    # -- reading and waiting -------------------------------------------------------------------------------------------

    async def _read(self, actor: Actor, after: int, limit: int, subject: str | None = None) -> EventPage:
        span, events = await self._store.read(_read, after, limit, subject, _reader(actor))
        gap = span.dropped_to if after < span.dropped_to else None
        self.gaps += gap is not None
        whole = len(events) < limit  # then there is nothing more up to the head, and the next look starts there
        return EventPage(
            [entry(event) for event in events], span.head if whole else events[-1].id, gap, self._wall_ms()
        )

    async def _look(self) -> None:
        seen, concerned = await self._store.read(_news, self._seen)
        if seen > self._seen:
            self._seen = seen
            for account, waiting in self._waiting.items():
                if account is None or concerned is None or account in concerned:
                    for woken in waiting:
                        woken.set()
        if not self._waiting:
            self._wanted = trio.Event()

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


def entry(logged: LoggedEvent) -> LogEntry:
    """Show an event as all readers see it."""
    event = logged.event
    return LogEntry(id=logged.id, type=event.type, subject=event.subject, at=event.at, data=dict(event.fields))


def _read(
    connection: sa.Connection, after: int, limit: int, subject: str | None, account: str | None
) -> tuple[Span, list[LoggedEvent]]:
    span = eventlog.span(connection)
    _check(after, span)
    return span, eventlog.read_from(connection, after, limit, subject, account)


def _news(connection: sa.Connection, after: int) -> tuple[int, frozenset[str] | None]:
    """Return the newest id, and whom the events after an id concern: None for many, all of whom are to look."""
    head = eventlog.span(connection).head
    return head, eventlog.audience_after(connection, after) if head - after <= MAX_NEWS else None


def _reader(actor: Actor) -> str | None:
    """Whose events these are: None stands for all."""
    return None if actor.admin else actor.account


def _check(after: int, span: Span) -> None:
    if after > span.head:
        raise Refused("invalid_cursor", f"no event has the id {after} yet")
