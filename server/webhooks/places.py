"""Where each endpoint's progress is written down, and which node tells it: one at a time, by a lease."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.webhooks.schedule import Progress, enabled
from signalling.refusals import Refused

LEASE_MS = 45_000  # three times what an attempt takes at most; after a crash, another node waits for so long

_COLUMNS = "position, attempts, next_at, disabled, failure, failed_at, delivered_at"
_ADD = Prepared(
    "INSERT INTO webhooks (name, position, attempts, next_at, leased_by, leased_until)"
    " VALUES (:name, :position, 0, 0, '', 0) ON CONFLICT (name) DO NOTHING"
)
_LEASE = Prepared(
    "UPDATE webhooks SET leased_by = :holder, leased_until = :until"
    " WHERE name = :name AND (leased_by = :holder OR leased_until < :now)"
)
_FIND = Prepared(f"SELECT {_COLUMNS} FROM webhooks WHERE name = :name")
_FIND_LOCKED = Prepared(f"SELECT {_COLUMNS} FROM webhooks WHERE name = :name", locks=True)
_SAVE = Prepared(
    "UPDATE webhooks SET position = :position, attempts = :attempts, next_at = :next_at, disabled = :disabled,"
    " failure = :failure, failed_at = :failed_at, delivered_at = :delivered_at WHERE name = :name"
)


def claim(connection: sa.Connection, name: str, holder: str, now_ms: int) -> Progress | None:
    """Become who tells an endpoint, or stay it, for LEASE_MS; None while another is.

    A new endpoint begins with what happens from now on.
    """
    _ADD(connection, name=name, position=eventlog.span(connection).head)
    if not _lease(connection, name, holder, now_ms):
        return None
    return find(connection, name)


def save(connection: sa.Connection, name: str, holder: str, progress: Progress, now_ms: int) -> bool:
    """Write an endpoint's progress down and keep the lease; False when another has it, and nothing is written."""
    if not _lease(connection, name, holder, now_ms):
        return False
    _save(connection, name, progress)
    return True


def find(connection: sa.Connection, name: str) -> Progress | None:
    """Return an endpoint's progress, None before it was first claimed."""
    row = _FIND(connection, name=name).fetchone()
    return None if row is None else Progress(*row)


def enable(connection: sa.Connection, name: str) -> Progress:
    """Have an endpoint tried at once, from where it stopped; raises Refused("webhook_unknown")."""
    row = _FIND_LOCKED(connection, name=name).fetchone()
    if row is None:
        raise Refused("webhook_unknown")
    progress = enabled(Progress(*row))
    _save(connection, name, progress)
    return progress


def furthest_drop(connection: sa.Connection, names: tuple[str, ...]) -> int:
    """Return up to which id all events were told to those of some endpoints that are not disabled."""
    places = [find(connection, name) for name in names]
    head = eventlog.span(connection).head
    return min((place.position for place in places if place is not None and place.disabled is None), default=head)


def _lease(connection: sa.Connection, name: str, holder: str, now_ms: int) -> bool:
    leased = _LEASE(connection, name=name, holder=holder, now=now_ms, until=now_ms + LEASE_MS)
    return bool(leased.rowcount == 1)


def _save(connection: sa.Connection, name: str, progress: Progress) -> None:
    values: dict[str, Any] = dataclasses.asdict(progress)
    _SAVE(connection, name=name, **values)
