"""SQL statements of hot paths, given to the database driver itself.

SQLAlchemy's own execution costs several times what SQLite needs for such a statement, and the threads that run it share
the interpreter with everything else. The text is the same for both databases, with parameters like `:name`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg


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

    def __call__(self, connection: sa.Connection, **values: Any) -> Any:
        """Run the statement in the connection's transaction; returns the driver's cursor."""
        return _execute(connection, self._texts[connection.dialect.name], values)


class PreparedRows:
    """One statement that inserts a few rows, which stand for "{rows}" in its text.

    The text is made once for each number of rows.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._texts: dict[tuple[str, int, int], str] = {}

    def __call__(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> Any:
        """Run the statement for at least one row; returns the driver's cursor."""
        key = (connection.dialect.name, len(rows), len(rows[0]))
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self._write(*key)
        return _execute(connection, text, tuple(chain.from_iterable(rows)))

    def _write(self, dialect: str, rows: int, columns: int) -> str:
        mark = "%s" if dialect == "postgresql" else "?"
        row = f"({', '.join([mark] * columns)})"
        return self._text.format(rows=", ".join([row] * rows))


def _execute(connection: sa.Connection, text: str, values: Mapping[str, Any] | tuple[Any, ...]) -> Any:
    driver: Any = connection.connection.dbapi_connection  # with these two drivers, the very connection
    try:
        return driver.execute(text, values)
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_sqlalchemy(connection, text, error) from error


def _as_sqlalchemy(connection: sa.Connection, text: str, error: Exception) -> BaseException:
    base = connection.dialect.loaded_dbapi.Error
    # The parameters are left out: messages of errors get into logs.
    return sa.exc.DBAPIError.instance(text, None, error, base, dialect=connection.dialect)
