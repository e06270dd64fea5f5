"""The ordered log of what happened: written in the transaction of what it tells, read by webhooks and resuming clients.

Ids rise in the order of commits. So who has read up to an id has missed nothing, and reads on after it. Each event has
an audience, written down with it: these accounts may see it, nobody else but administrators. An audience may be a
party, whose accounts come and go: an event is written once for all who are in it at the time. Old events are dropped
from the front, and up to which id is written down, so that a reader who comes too late can be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared

MAX_READ = 1000  # events in one go: some 200 kB
# Drawn from a sequence, ids would be in the order of drawing: a reader could pass over one whose transaction is still
# open. PostgreSQL's writers therefore draw theirs one after the other, and hold this lock until they have committed.
_ORDER_LOCK = 7_233_201
_GATHERED = "gathered events"
_ENCODE = msgspec.json.Encoder().encode
PARTY = "@"  # begins the name of a party among accounts, whose ids never begin so
COMING = "member."  # begins the types of the events with which accounts enter and leave parties, and of no others


class Happened(msgspec.Struct, frozen=True):
    """One event: whom or what it concerns (an account, a stream), its type, when (epoch ms), and its fields.

    `accounts` may see it, and who is in the `party` now. Without either the subject alone may; where that is a stream,
    only administrators.
    """

    subject: str
    type: str
    at: int
    fields: Mapping[str, Any]
    accounts: tuple[str, ...] = ()
    party: str = ""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event in the log."""

    id: int
    event: Happened


class Fresh(NamedTuple):
    """An event that was just committed: as it stands in the log, and as all see it who may."""

    logged: LoggedEvent
    filled: LoggedEvent


@dataclass(frozen=True, slots=True)
class Seat:
    """A time in a party: its events above `since` may be seen, up to `until` (None: all that come)."""

    since: int
    until: int | None

    def sees(self, event: int) -> bool:
        """Whether the event of that id is one of them."""
        return self.since < event and (self.until is None or event <= self.until)

    def is_settled(self, event: int) -> bool:
        """Whether what is true of the event of that id is true of all later ones."""
        return self.since < event and (self.until is None or self.until < event)


@dataclass(frozen=True, slots=True)
class Span:
    """Which ids there are: all up to `dropped_to` are dropped, and none is above `head`."""

    dropped_to: int
    head: int


_LOCK = Prepared("SELECT pg_advisory_xact_lock(:lock)")
_ADD = "INSERT INTO event_log (subject, type, at, fields) VALUES (:subject, :type, :at, :fields)"
_APPEND = Prepared(f"{_ADD} RETURNING id")
_APPEND_EACH = Prepared(_ADD)
_LAST = Prepared("SELECT last_insert_rowid()")
_ADMIT = Prepared("INSERT INTO event_audience (account, event) VALUES (:account, :event)")
_COLUMNS = "id, subject, type, at, fields"
_READ = Prepared(f"SELECT {_COLUMNS} FROM event_log WHERE id > :after ORDER BY id LIMIT :limit")
_READ_SUBJECT = Prepared(
    f"SELECT {_COLUMNS} FROM event_log WHERE subject = :subject AND id > :after ORDER BY id LIMIT :limit"
)
# Both halves are bounded by `until`: who reads from far back goes through the log window by window.
_FOR_ACCOUNT = (
    f"SELECT {_COLUMNS} FROM (SELECT event FROM event_audience"
    " WHERE account = :account AND event > :after AND event <= :until"
    " UNION SELECT a.event FROM event_parties p JOIN event_audience a ON a.account = p.party"
    " AND a.event > p.since AND a.event > :after AND a.event <= :until AND (p.until IS NULL OR a.event <= p.until)"
    " WHERE p.account = :account AND (p.until IS NULL OR p.until > :after)) seen JOIN event_log ON id = event"
)
_READ_ACCOUNT = Prepared(f"{_FOR_ACCOUNT} ORDER BY id LIMIT :limit")
_READ_ACCOUNT_SUBJECT = Prepared(f"{_FOR_ACCOUNT} WHERE subject = :subject ORDER BY id LIMIT :limit")
_SPAN = Prepared("SELECT dropped_to, COALESCE((SELECT MAX(id) FROM event_log), 0) FROM event_floor")
_AUDIENCES = Prepared("SELECT event, account FROM event_audience WHERE event > :after AND event <= :until")
_SEATS = Prepared(
    "SELECT account, since, until FROM event_parties WHERE party = :party AND (until IS NULL OR until > :after)"
)
_ENTER = Prepared(
    "INSERT INTO event_parties (party, account, since) VALUES (:party, :account, :since)"
    " ON CONFLICT (party, account, since) DO UPDATE SET until = NULL"
)
_LEAVE = Prepared(
    "UPDATE event_parties SET until = :until WHERE party = :party AND account = :account AND until IS NULL"
)
_PARTY_OF = Prepared("SELECT MIN(party) FROM event_parties WHERE account = :account AND until IS NULL")
_FORGET_SEATS = Prepared("DELETE FROM event_parties WHERE until <= :id")
_OLDEST = Prepared("SELECT id, at FROM event_log WHERE id <= :before ORDER BY id LIMIT :limit")
_DROP_AUDIENCE = Prepared("DELETE FROM event_audience WHERE event <= :id")
_DROP = Prepared("DELETE FROM event_log WHERE id <= :id")
_SET_FLOOR = Prepared("UPDATE event_floor SET dropped_to = :id")


def append(connection: sa.Connection, event: Happened) -> int:
    """Write an event; returns its id. Call it last in a transaction: from here on, PostgreSQL lets one in at a time.

    A transaction that goes on to lock other rows calls it within `gathering`; there it has no id yet, and returns 0.
    """
    gathered: list[Happened] | None = connection.info.get(_GATHERED)
    if gathered is not None:
        gathered.append(event)
        return 0
    if connection.dialect.name == "postgresql":
        _LOCK(connection, lock=_ORDER_LOCK)
    subject, type_, at, fields = _row(event)
    number = int(_APPEND(connection, subject=subject, type=type_, at=at, fields=fields).fetchone()[0])
    for account in audience(event):
        _ADMIT(connection, account=account, event=number)
    return number


@contextmanager
def gathering(connection: sa.Connection) -> Iterator[None]:
    """Write what is appended within when it ends, for a transaction that changes one thing after the other.

    Whoever had written the first event, and waited for a row of the second thing, would wait for somebody who holds
    that row and waits to write an event: PostgreSQL finds out after a second, in which nobody writes any.
    """
    gathered: list[Happened] = []
    connection.info[_GATHERED] = gathered
    try:
        yield
    finally:
        del connection.info[_GATHERED]
    append_each(connection, gathered)


def append_each(connection: sa.Connection, events: Sequence[Happened]) -> int:
    """Write events in their order, like `append`, in few statements where the database can.

    Returns the id of the first, where those of the others follow on it; else 0.
    """
    gathered: list[Happened] | None = connection.info.get(_GATHERED)
    if gathered is not None:
        gathered.extend(events)
    elif connection.dialect.name == "postgresql":
        for event in events:
            append(connection, event)
    elif events:
        # SQLite has one writer and takes the next id each time, so that the last one tells them all.
        _APPEND_EACH.each(connection, [_row(event) for event in events])
        first = int(_LAST(connection).fetchone()[0]) - len(events) + 1
        numbered = enumerate(events, first)
        _ADMIT.each(connection, [(account, number) for number, event in numbered for account in audience(event)])
        return first
    return 0


def _row(event: Happened) -> tuple[str, str, int, str]:
    return event.subject, event.type, event.at, _ENCODE(event.fields).decode()


def audience(event: Happened) -> Iterable[str]:
    """Return the accounts and parties that may see an event; parties have PARTY in front."""
    party = (PARTY + event.party,) if event.party else ()
    return dict.fromkeys((*event.accounts, *party) or (event.subject,))


def enter(connection: sa.Connection, party: str, account: str, since: int) -> None:
    """Let an account see a party's events above an id from now on. Ids come from `append` in the same transaction."""
    _ENTER(connection, party=PARTY + party, account=account, since=since)


def leave(connection: sa.Connection, party: str, account: str, until: int) -> None:
    """Let an account see no more of a party's events than those up to an id."""
    _LEAVE(connection, party=PARTY + party, account=account, until=until)


def seats(connection: sa.Connection, party: str, after: int) -> dict[str, list[Seat]]:
    """Return who is in a party, or was when something above an id happened; a party as `audiences` names it.

    Who left and came back has a seat for each time.
    """
    found: dict[str, list[Seat]] = {}
    for account, since, until in _SEATS(connection, party=party, after=after):
        found.setdefault(account, []).append(Seat(since, until))
    return found


def party_of(connection: sa.Connection, account: str) -> str | None:
    """Return one party that an account is in, always the same while it is in it."""
    found = _PARTY_OF(connection, account=account).fetchone()
    return None if found[0] is None else str(found[0])


def read_from(
    connection: sa.Connection,
    after: int,
    limit: int,
    subject: str | None = None,
    account: str | None = None,
    until: int = 2**62,
) -> list[LoggedEvent]:
    """Return up to `limit` (at most MAX_READ) events with ids above `after`, in order.

    Of one subject or of all; those that an account may see, with ids up to `until`, or, without an account, all.
    """
    asked: dict[str, Any] = {"after": after, "limit": min(limit, MAX_READ)}
    match subject, account:
        case None, None:
            rows = _READ(connection, **asked)
        case _, None:
            rows = _READ_SUBJECT(connection, **asked, subject=subject)
        case None, _:
            rows = _READ_ACCOUNT(connection, **asked, account=account, until=until)
        case _:
            rows = _READ_ACCOUNT_SUBJECT(connection, **asked, account=account, subject=subject, until=until)
    return [LoggedEvent(row[0], Happened(row[1], row[2], row[3], msgspec.json.decode(row[4]))) for row in rows]


def span(connection: sa.Connection) -> Span:
    """Return which ids there are, in the snapshot of this connection."""
    dropped_to, newest = _SPAN(connection).fetchone()
    return Span(dropped_to, max(dropped_to, newest))


def audiences(connection: sa.Connection, after: int, until: int) -> dict[int, list[str]]:
    """Return the accounts and parties that may see each event with an id above `after`, up to `until`.

    Parties have PARTY in front.
    """
    found: dict[int, list[str]] = {}
    for event, account in _AUDIENCES(connection, after=after, until=until):
        found.setdefault(event, []).append(account)
    return found


def drop(connection: sa.Connection, until_ms: int, before: int, limit: int) -> int:
    """Drop, from the front, up to `limit` events from before `until_ms` with ids up to `before`; returns how many."""
    old = [row[0] for row in takewhile(lambda row: row[1] < until_ms, _OLDEST(connection, before=before, limit=limit))]
    if old:
        _DROP_AUDIENCE(connection, id=old[-1])
        _DROP(connection, id=old[-1])
        _SET_FLOOR(connection, id=old[-1])
        _FORGET_SEATS(connection, id=old[-1])
    return len(old)
