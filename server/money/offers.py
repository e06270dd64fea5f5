"""Quotes that were offered, until they are used or forgotten; a used one is in the books with its transfer."""

from __future__ import annotations

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money import books
from server.money.quotes import Quote

KEPT_MS = 86_400_000  # after its end, so that whoever comes late is told that it has expired

_COLUMNS = "id, asset, target, numerator, denominator, source, taken_at, expires_at"
_ADD = Prepared(
    f"INSERT INTO offers ({_COLUMNS})"
    " VALUES (:id, :asset, :target, :numerator, :denominator, :source, :taken_at, :expires_at)"
)
_FIND = Prepared(f"SELECT {_COLUMNS} FROM offers WHERE id = :id")
_OLD = Prepared("SELECT 1 FROM offers WHERE expires_at < :before LIMIT 1")
_FORGET = Prepared("DELETE FROM offers WHERE expires_at < :before")


def add(connection: sa.Connection, quote: Quote) -> None:
    """Write an offer down."""
    _ADD(connection, **books.quote_row(quote))


def find(connection: sa.Connection, identifier: str) -> Quote | None:
    """Return an offer, maybe one that has expired."""
    row = _FIND(connection, id=identifier).fetchone()
    return None if row is None else books.read_quote(row)


def are_old(connection: sa.Connection, now_ms: int) -> bool:
    """Return whether there are offers to forget."""
    return _OLD(connection, before=now_ms - KEPT_MS).fetchone() is not None


def forget(connection: sa.Connection, now_ms: int) -> int:
    """Delete offers that nobody comes back to; returns how many."""
    return int(_FORGET(connection, before=now_ms - KEPT_MS).rowcount)
