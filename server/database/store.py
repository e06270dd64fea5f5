"""The database: one writer thread that commits in groups, and a few threads that read.

SQLite in WAL mode with synchronous=FULL: a write that returned survives a power cut. What is waiting when the writer is
free goes into one transaction, each in a savepoint of its own, so that many writers share one flush to the disk and a
failing one takes nobody along. Writes of one kind that wait at the same time may be done by one call, in one savepoint.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, TypeVarTuple

import sqlalchemy as sa
import trio
from sqlalchemy.exc import DBAPIError, OperationalError

from server.migrations import upgrade
from signalling.ports import ArchiveFailed

MAX_GROUP = 512  # writes in one transaction: enough to make the flush cheap, few enough to bound the wait
MAX_WAITING = 10_000  # writes; a disk that is so far behind is broken
READERS = 4
# A group of purchases changes some 400 pages all over the file: SQLite's own cache of 2 MB would write them twice.
CACHE_KIB = 16_384
# Pages that are written again before they get from the log into the file get there once. 32 MB, against 4 as it comes.
CHECKPOINT_PAGES = 8_000
FAILURES = (DBAPIError, sqlite3.Error)  # as SQLAlchemy tells them, and as the driver does
BEGIN = "BEGIN IMMEDIATE"
BUSY_MS = 5_000  # another process, such as a backup, may hold the lock for so long
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"busy_timeout={BUSY_MS}",
    f"cache_size=-{CACHE_KIB}",
    f"wal_autocheckpoint={CHECKPOINT_PAGES}",
)

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class StoreFailed(ArchiveFailed):
    """The database could not be written or read; nothing of this call was done."""


class Database(Protocol):
    """What everybody needs of a store: SQLite's of one node, or `server.database.postgres` for several."""

    @property
    def gathers(self) -> bool:
        """Whether what is written together costs less than what is written side by side."""

    async def write(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work` in a transaction; returns when it is on the disk. Raises what `work` raises, and StoreFailed."""

    async def write_each(self, work: Callable[[sa.Connection, Sequence[T]], Sequence[R | Exception]], item: T) -> R:
        """Run `work` on an item, and in the same call on those that others give it meanwhile, if there are any.

        It returns an outcome for each; an exception among them is raised to whoever gave the item, and must have left
        nothing written. What `work` itself raises takes all back: then each item is tried in a call of its own.
        Returns when it is on the disk. Raises what `work` raises or returns for the item, and StoreFailed.
        """

    async def write_all(
        self, work: Callable[[sa.Connection, Sequence[T]], Sequence[R | Exception]], items: Sequence[T]
    ) -> Sequence[R | Exception]:
        """Do for several items what `write_each` does for one; returns what it would return or raise for each."""

    async def read(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work`, which must not write, on one snapshot. Raises what it raises, and StoreFailed."""

    def counters(self) -> dict[str, int]:
        """How much was written, by name."""


class _Mark(NamedTuple):
    """How to say to what point writes may be undone."""

    set: tuple[str, ...]
    undo: tuple[str, ...]
    drop: tuple[str, ...]


# What comes first in a transaction takes all of it back: a savepoint costs a copy of each page that changes after it.
FIRST = _Mark((), ("ROLLBACK", BEGIN), ())
LATER = _Mark(("SAVEPOINT one",), ("ROLLBACK TO one", "RELEASE one"), ("RELEASE one",))


_Work = Callable[[sa.Connection, Sequence[Any]], Sequence[Any]]


@dataclass(slots=True)
class _Write:
    """Items on their way to the writer thread; those of the same `work` may be done together."""

    work: _Work
    items: Sequence[Any]
    done: trio.Event = field(default_factory=trio.Event)
    outcomes: Sequence[Any] = ()


class Store:
    """One SQLite file; `run` it in a nursery before the first call."""

    gathers = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = _engine(path, BEGIN)
        self._reader = _engine(path, "BEGIN")
        self._readers = trio.CapacityLimiter(READERS)
        self._kept: list[sa.Connection] = []  # for reading, at most as many as are used at once
        self._open = False
        self.writes = self.commits = self.failures = self.shared = self.parted = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bring the schema up to date and serve until cancelled; what is asked by then, is done. Raises StoreFailed."""
        await trio.to_thread.run_sync(self._prepare)
        token = trio.lowlevel.current_trio_token()
        writer = threading.Thread(target=self._write_groups, args=[token], name="store")
        writer.start()
        self._open = True
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._open = False
            self._writes.put(None)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(writer.join)
            while self._kept:
                self._kept.pop().close()
            self._writer.dispose()
            self._reader.dispose()

    async def write(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work` in a transaction; returns when it is on the disk.

        Raises what `work` raises, and StoreFailed. A caller that is cancelled meanwhile can't know whether it was done.
        """
        return await self.write_each(lambda connection, _: [work(connection, *arguments)], None)

    async def write_each(self, work: Callable[[sa.Connection, Sequence[T]], Sequence[R | Exception]], item: T) -> R:
        """Run `work` on an item and on those that wait for the same `work`; returns when it is on the disk.

        Each gets its own outcome, and those that `work` returns as exceptions must have left nothing written. When it
        raises, all that it did is undone and each item is tried alone. Raises the item's failure, and StoreFailed.
        """
        (outcome,) = await self.write_all(work, [item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def write_all(
        self, work: Callable[[sa.Connection, Sequence[T]], Sequence[R | Exception]], items: Sequence[T]
    ) -> Sequence[R | Exception]:
        """Do for several items, in their order, what `write_each` does for one."""
        if not self._open or self._writes.qsize() >= MAX_WAITING:
            raise StoreFailed("the database is closed" if not self._open else "too many writes are waiting")
        write = _Write(work, items)
        self._writes.put(write)
        await write.done.wait()
        return write.outcomes

    async def read(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work`, which must not write, on one snapshot. Raises what it raises, and StoreFailed."""

        def run() -> T:
            try:
                with self._snapshot() as connection:
                    return work(connection, *arguments)
            except FAILURES as error:
                raise StoreFailed(_words(error)) from error

        return await trio.to_thread.run_sync(run, limiter=self._readers)

    def counters(self) -> dict[str, int]:
        """How much was written, by name."""
        return {
            "store_writes": self.writes,
            "store_commits": self.commits,
            "store_failures": self.failures,
            "store_shared": self.shared,
            "store_parted": self.parted,
        }

    # -- in a reader's thread ------------------------------------------------------------------------------------------

    @contextmanager
    def _snapshot(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction; those that did well are kept: the pool's way costs five reads."""
        try:
            connection = self._kept.pop()
        except IndexError:
            connection = self._reader.connect()
        try:
            with connection.begin():
                yield connection
        except FAILURES:
            connection.close()
            raise
        finally:
            if self._open and not connection.closed:
                self._kept.append(connection)
            else:
                connection.close()

    # -- in the writer's thread ----------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        try:
            with self._writer.begin() as connection:
                upgrade(connection)
        except FAILURES as error:
            raise StoreFailed(f"{self._path}: {_words(error)}") from error

    def _write_groups(self, token: trio.lowlevel.TrioToken) -> None:
        closing = False
        while not closing:
            group: list[_Write] = []
            size = 0
            item = self._writes.get()
            while True:
                if item is None:
                    closing = True
                    break
                group.append(item)
                size += len(item.items)
                if size >= MAX_GROUP or self._writes.empty():
                    break
                item = self._writes.get()
            if group:
                self._commit(group)
                token.run_sync_soon(_report, group)

    def _commit(self, group: list[_Write]) -> None:
        try:
            with self._writer.begin() as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                mark = FIRST
                for together in _by_work(group):
                    self._do(driver, connection, together, mark)
                    mark = LATER
            self.commits += 1
            self.writes += sum(len(write.items) for write in group)
        except FAILURES as error:
            self.failures += 1
            for write in group:
                write.outcomes = [StoreFailed(_words(error)) for _ in write.items]

    def _do(self, driver: sqlite3.Connection, connection: sa.Connection, together: list[_Write], mark: _Mark) -> None:
        """Do writes of one work, and give each its outcomes."""
        items = [item for write in together for item in write.items]
        outcomes = iter(self._attempt(driver, connection, together[0].work, items, mark))
        for write in together:
            write.outcomes = list(islice(outcomes, len(write.items)))

    def _attempt(
        self, driver: sqlite3.Connection, connection: sa.Connection, work: _Work, items: list[Any], mark: _Mark
    ) -> Sequence[Any]:
        """Do a work on items, and undo it alone; an operational error, of disk or lock, fails the group.

        The driver itself is told of savepoints: through SQLAlchemy, they cost more than the statements of a payment.
        """
        _tell(driver, mark.set)
        try:
            outcomes = work(connection, items)
            assert len(outcomes) == len(items)
        except OperationalError:
            raise
        except Exception as error:
            _tell(driver, mark.undo)
            if len(items) == 1:
                return [error]
            self.parted += 1
            return [self._attempt(driver, connection, work, [item], LATER)[0] for item in items]
        _tell(driver, mark.drop)
        self.shared += len(items) > 1 and len(items)
        return outcomes


def _tell(driver: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        driver.execute(statement)


def _by_work(group: Iterable[_Write]) -> Iterable[list[_Write]]:
    """Return those together that one call can do, in the order in which their first came."""
    works: dict[object, list[_Write]] = {}
    for write in group:
        works.setdefault(write.work, []).append(write)
    return works.values()


def _words(error: DBAPIError | sqlite3.Error) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _report(group: list[_Write]) -> None:
    for write in group:
        write.done.set()


def _engine(path: Path, begin: str) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_MS / 1000})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        # The driver's own notion of transactions knows no savepoints: it is switched off, and BEGIN said by hand.
        connection.isolation_level = None
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(begin)  # SQLAlchemy's own way to say it takes as long as a read

    return engine
