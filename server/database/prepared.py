"""SQL statements of hot paths, given to the database driver itself.

SQLAlchemy's own execution costs several times what SQLite needs for such a statement, and the threads that run it share
the interpreter with everything else. The text is the same for both databases, with parameters like `:name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

# Rows that SQLite is given in one INSERT: 16 take 1.2 us each against 2.4 singly. More gain no time of their own, but
# after each statement the thread has to get hold of the interpreter again, for which a busy one lets it wait.
ROWS = (64, 16, 4)
KEYS = (64, 16, 4, 1)  # looked up by one statement
_INSERT = re.compile(r"(INSERT INTO .* VALUES )(\([^()]+\))(.*)")
_NAME = re.compile(r"(?<!:):(\w+)")


class Prepared:
    """One statement; `locks` makes PostgreSQL keep the rows that it reads from other writers until the commit.

    SQLite needs no such lock: there is one writer at a time. Raises what SQLAlchemy raises.
    """

    def __init__(self, text: str, *, locks: bool = False) -> None:
        clause = sa.text(text)
        lock = " FOR UPDATE" if locks else ""
        # A Core dialect takes its parameters' style from its driver; here each gets the style with names, and the one
        # with places.
        self._texts = {
            "sqlite": str(clause.compile(dialect=sqlite.dialect(paramstyle="named"))),
            "postgresql": str(clause.compile(dialect=_postgres("pyformat"))) + lock,
        }
        self._placed = {
            "sqlite": str(clause.compile(dialect=sqlite.dialect(paramstyle="qmark"))),
            "postgresql": str(clause.compile(dialect=_postgres("format"))) + lock,
        }
        self._names = _NAME.findall(text)
        self._insert = _Insert.of(self._placed["sqlite"])

    def __call__(self, connection: sa.Connection, **values: Any) -> Any:
        """Run the statement in the connection's transaction; returns the driver's cursor."""
        text = self._texts[connection.dialect.name]
        driver: Any = connection.connection.driver_connection
        try:
            return driver.execute(text, values)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy(connection, text, error) from error

    def many(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run the statement once for each row, in their order."""
        self.each(connection, [tuple(row[name] for name in self._names) for row in rows])

    def each(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement once for each row, in their order; each holds values in the order of the statement's.

        Where a row is built for nothing else, this takes half the time of one with names.
        """
        text = self._placed[connection.dialect.name]
        driver: Any = connection.connection.driver_connection
        try:
            cursor = driver.cursor()
            if self._insert is not None and connection.dialect.name == "sqlite":
                rows = self._insert.run(cursor, rows)
            cursor.executemany(text, rows)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy(connection, text, error) from error


class _Insert:
    """INSERTs of many rows at once."""

    def __init__(self, head: str, row: str, tail: str) -> None:
        self._texts = {count: f"{head}{', '.join([row] * count)}{tail}" for count in ROWS}

    @classmethod
    def of(cls, text: str) -> _Insert | None:
        """Return it for an INSERT of one row of parameters, None for any other statement."""
        found = _INSERT.fullmatch(text)
        if found is None or found[3].startswith(" RETURNING"):
            return None
        return cls(*found.groups())

    def run(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Insert as many rows as fill whole statements; returns the rest."""
        at = 0
        for count, text in self._texts.items():
            while len(rows) - at >= count:
                cursor.execute(text, tuple(chain.from_iterable(rows[at : at + count])))
                at += count
        return rows[at:]


class Several:
    """A query of SQLite by several keys, which its text calls `{keys}`: values of rows, the first a running number.

    Raises what SQLAlchemy raises.
    """

    def __init__(self, text: str, width: int) -> None:
        row = f"({', '.join(['?'] * width)})"
        self._texts = {count: text.format(keys=f"VALUES {', '.join([row] * count)}") for count in KEYS}

    def __call__(self, connection: sa.Connection, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the rows that are found, for all keys."""
        driver: Any = connection.connection.driver_connection
        found: list[tuple[Any, ...]] = []
        at = 0
        for count, text in self._texts.items():
            while len(keys) - at >= count:
                values = tuple(chain.from_iterable(keys[at : at + count]))
                try:
                    found += driver.execute(text, values).fetchall()
                except connection.dialect.loaded_dbapi.Error as error:
                    raise _as_sqlalchemy(connection, text, error) from error
                at += count
        return found


def _postgres(style: str) -> Any:
    return psycopg.dialect(paramstyle=style)  # type: ignore[no-untyped-call]


def _as_sqlalchemy(connection: sa.Connection, text: str, error: Exception) -> BaseException:
    base = connection.dialect.loaded_dbapi.Error
    # The parameters are left out: messages of errors get into logs.
    return sa.exc.DBAPIError.instance(text, None, error, base, dialect=connection.dialect)
