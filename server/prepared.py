"""SQL statements of hot paths, given to the database driver itself.

SQLAlchemy's own execution costs several times what SQLite needs for such a statement, and the threads that run it share
the interpreter with everything else. The text is the same for both databases, with parameters like `:name`.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        text = self._texts[connection.dialect.name]
        driver: Any = connection.connection.driver_connection
        try:
            return driver.execute(text, values)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy(connection, text, error) from error

    def many(self, connection: sa.Connection, rows: Iterable[dict[str, Any]]) -> None:
        """Run the statement once for each row."""
        text = self._texts[connection.dialect.name]
        driver: Any = connection.connection.driver_connection
        try:
            driver.cursor().executemany(text, list(rows))
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy(connection, text, error) from error


def _as_sqlalchemy(connection: sa.Connection, text: str, error: Exception) -> BaseException:
    base = connection.dialect.loaded_dbapi.Error
    # The parameters are left out: messages of errors get into logs.
    return sa.exc.DBAPIError.instance(text, None, error, base, dialect=connection.dialect)
