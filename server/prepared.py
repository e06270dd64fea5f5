"""SQL statements of hot paths, given to the database driver itself.

SQLAlchemy's own execution costs several times what SQLite needs for such a statement, and the threads that run it share
the interpreter with everything else. The text is the same for both databases, with parameters like `:name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

ROWS = 16  # that SQLite is given in one INSERT: 1.2 us a row against 2.4 singly; more in one gain next to nothing
_INSERT = re.compile(r"(INSERT INTO .* VALUES )\(((?::\w+(?:, )?)+)\)(.*)")


class Prepared:
    """One statement; `locks` makes PostgreSQL keep the rows that it reads from other writers until the commit.

    SQLite needs no such lock: there is one writer at a time. Raises what SQLAlchemy raises.
    """

    def __init__(self, text: str, *, locks: bool = False) -> None:
        clause = sa.text(text)
        # A Core dialect takes its parameters' style from its driver; here each gets the style with names.
        named = sqlite.dialect(paramstyle="named")
        formatted = psycopg.dialect()  # type: ignore[no-untyped-call]
        self._texts = {
            "sqlite": str(clause.compile(dialect=named)),
            "postgresql": str(clause.compile(dialect=formatted)) + (" FOR UPDATE" if locks else ""),
        }
        self._insert = _Insert.of(self._texts["sqlite"])

    def __call__(self, connection: sa.Connection, **values: Any) -> Any:
        """Run the statement in the connection's transaction; returns the driver's cursor."""
        text = self._texts[connection.dialect.name]
        driver: Any = connection.connection.driver_connection
        try:
            return driver.execute(text, values)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy(connection, text, error) from error

    def many(self, connection: sa.Connection, rows: Iterable[dict[str, Any]]) -> None:
        """Run the statement once for each row, in their order."""
        text = self._texts[connection.dialect.name]
        driver: Any = connection.connection.driver_connection
        left = list(rows)
        try:
            cursor = driver.cursor()
            if self._insert is not None and connection.dialect.name == "sqlite":
                left = self._insert.run(cursor, left)
            cursor.executemany(text, left)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy(connection, text, error) from error


class _Insert:
    """The INSERT of ROWS rows at once."""

    def __init__(self, head: str, names: Sequence[str], tail: str) -> None:
        row = f"({', '.join('?' * len(names))})"
        self._text, self._names = f"{head}{', '.join([row] * ROWS)}{tail}", names

    @classmethod
    def of(cls, text: str) -> _Insert | None:
        """Return it for an INSERT of one row of parameters, None for any other statement."""
        found = _INSERT.fullmatch(text)
        if found is None or found[3].startswith(" RETURNING"):
            return None
        return cls(found[1], [name.strip(" :") for name in found[2].split(",")], found[3])

    def run(self, cursor: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Insert as many rows as fill whole statements; returns the rest."""
        whole = len(rows) - len(rows) % ROWS
        parts = (rows[start : start + ROWS] for start in range(0, whole, ROWS))
        cursor.executemany(self._text, [[row[name] for row in part for name in self._names] for part in parts])
        return rows[whole:]


def _as_sqlalchemy(connection: sa.Connection, text: str, error: Exception) -> BaseException:
    base = connection.dialect.loaded_dbapi.Error
    # The parameters are left out: messages of errors get into logs.
    return sa.exc.DBAPIError.instance(text, None, error, base, dialect=connection.dialect)
