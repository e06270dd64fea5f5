"""A database that dies at a step that was chosen before, and with it all that is in memory; the file stays.

A step is each statement of a write, each moment before and after a commit, each read, and whatever else calls `step`.
A SQLite file in this thread, so that simulated time stands still meanwhile; its journal, and the real kill of a real
process, are judged elsewhere.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import sqlalchemy as sa
import trio
from sqlalchemy.pool import StaticPool

from server.migrations import upgrade

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Killed(BaseException):
    """The process is gone. Whoever catches it would do what a dead process can't."""


class Line(sqlite3.Connection):
    """A connection that says which statement comes next."""

    said: Callable[[str], None] = staticmethod(lambda text: None)

    def execute(self, *given: Any) -> sqlite3.Cursor:
        """Run a statement of `server.database.prepared`."""
        self.said(given[0])
        return super().execute(*given)

    def cursor(self, *given: Any) -> sqlite3.Cursor:  # type: ignore[override]
        """Give what SQLAlchemy runs its statements on."""
        return super().cursor(_Cursor)


class _Cursor(sqlite3.Cursor):
    connection: Line

    def execute(self, *given: Any) -> sqlite3.Cursor:
        self.connection.said(given[0])
        return super().execute(*given)

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        self.connection.said(given[0])
        return super().executemany(*given)


@functools.cache
def _engine_of(path: Path) -> sa.Engine:
    # One after the other they share what SQLAlchemy has compiled, which takes longer than all else.
    engine = sa.create_engine(
        f"sqlite:///{path}", connect_args={"factory": Line, "check_same_thread": False}, poolclass=StaticPool
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None
        # A rollback is what is judged here; what a power cut leaves is SQLite's own affair.
        for pragma in ("journal_mode=MEMORY", "synchronous=OFF", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


class MortalStore:
    """A `server.database.store.Database` that dies at step `dies_at`, counted from 1; with 0, never."""

    def __init__(self, path: Path, dies_at: int = 0) -> None:
        self.dies_at = dies_at
        self.steps: list[str] = []
        self.committed: list[str] = []  # the statements of all that is on the disk
        self._written: list[str] = []
        self.is_dead = False
        self._writing = False
        self._engine = _engine_of(path)
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, Line)
            driver.said = self._hear

    def close(self) -> None:
        """Let go of the file, as the system does for a process that is gone."""
        self._engine.dispose()

    def migrate(self) -> None:
        """Make the schema."""
        with self._engine.connect() as connection:
            upgrade(connection)

    def count(self, dies_at: int) -> None:
        """Begin to count anew."""
        self.dies_at = dies_at
        self.steps.clear()

    def step(self, what: str) -> None:
        """Take one step; raises Killed when it is the one, and at each one after."""
        if not self.is_dead:
            self.steps.append(what)
            self.is_dead = len(self.steps) == self.dies_at
        if self.is_dead:
            raise Killed(what)

    async def write(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work` in a transaction."""
        await trio.lowlevel.checkpoint()
        self.step("before a write")
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, Line)
            driver.execute("BEGIN IMMEDIATE")
            self._writing, self._written = True, []
            try:
                result = work(connection, *arguments)
                self.step("before the commit")
            except BaseException:
                # SQLAlchemy may have closed the connection by then, of which the rollback is a part.
                with suppress(sqlite3.ProgrammingError):
                    driver.rollback()
                raise
            finally:
                self._writing = False
            driver.commit()
            self.committed += self._written
        self.step("after the commit")
        await trio.lowlevel.checkpoint()
        return result

    async def write_each(self, work: Callable[[sa.Connection, Sequence[T]], Sequence[R | Exception]], item: T) -> R:
        """Run `work` on one item."""
        (outcome,) = await self.write(work, [item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def read(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work`, which must not write."""
        await trio.lowlevel.checkpoint()
        self.step("before a read")
        with self._engine.connect() as connection:
            result = work(connection, *arguments)
            driver = connection.connection.driver_connection
            assert isinstance(driver, Line)
            assert not driver.in_transaction, "a read has written"
        return result

    def counters(self) -> dict[str, int]:
        """Count nothing."""
        return {}

    def _hear(self, text: str) -> None:
        if self._writing:
            self._written.append(text)
            self.step(" ".join(text.split())[:60])
