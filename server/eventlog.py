"""The ordered log of what happened: written in the transaction of what it tells, read by webhooks and resuming clients.

Ids rise in the order of commits. So who has read up to an id has missed nothing, and reads on after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from server.prepared import Prepared

MAX_READ = 1000  # events in one go: some 200 kB
# Drawn from a sequence, ids would be in the order of drawing: a reader could pass over one whose transaction is still
# open. PostgreSQL's writers therefore draw theirs one after the other, and hold this lock until they have committed.
_ORDER_LOCK = 7_233_201


@dataclass(frozen=True, slots=True)
class Happened:
    """One event: whom or what it concerns (an account, a stream), its type, when (epoch ms), and its fields."""

    subject: str
    type: str
    at: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event in the log."""

    id: int
    event: Happened


_LOCK = Prepared("SELECT pg_advisory_xact_lock(:lock)")
_APPEND = Prepared(
    "INSERT INTO event_log (subject, type, at, fields) VALUES (:subject, :type, :at, :fields) RETURNING id"
)
_READ = Prepared("SELECT id, subject, type, at, fields FROM event_log WHERE id > :after ORDER BY id LIMIT :limit")
_READ_SUBJECT = Prepared(
    "SELECT id, subject, type, at, fields FROM event_log"
    " WHERE subject = :subject AND id > :after ORDER BY id LIMIT :limit"
)


def append(connection: sa.Connection, event: Happened) -> int:
    """Write an event; returns its id. Call it last in a transaction: from here on, PostgreSQL lets one in at a time."""
    if connection.dialect.name == "postgresql":
        _LOCK(connection, lock=_ORDER_LOCK)
    fields = msgspec.json.encode(event.fields).decode()
    row = _APPEND(connection, subject=event.subject, type=event.type, at=event.at, fields=fields).fetchone()
    return int(row[0])


def read_from(connection: sa.Connection, after: int, limit: int, subject: str | None = None) -> list[LoggedEvent]:
    """Return up to `limit` (at most MAX_READ) events with ids above `after`, in order; of one subject or of all."""
    limit = min(limit, MAX_READ)
    if subject is None:
        rows = _READ(connection, after=after, limit=limit)
    else:
        rows = _READ_SUBJECT(connection, subject=subject, after=after, limit=limit)
    return [LoggedEvent(row[0], Happened(row[1], row[2], row[3], msgspec.json.decode(row[4]))) for row in rows]
