"""A node's database on PostgreSQL: a transaction of its own for each write, on a few threads.

PostgreSQL groups the commits of its connections by itself. Transactions that got in each other's way (a deadlock, a
failed serialization) changed nothing, and are run again. One that waits too long fails: a thread that waits can't be
cancelled, so without a limit its request would go on beyond every patience, and keep a connection from all others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple

import sqlalchemy as sa
import trio
from sqlalchemy.exc import DBAPIError

from server.database.store import StoreFailed
from server.migrations import upgrade

CONNECTIONS = 12  # for writing; more wait for each other's rows, and the server allows 100 in all
READERS = 4
MAX_WAITING = 10_000  # writes; a database that is so far behind is broken
ATTEMPTS = 8  # a hot row makes some collide; what collides so often is not served in time any more
COLLISIONS = {"40001", "40P01"}  # serialization_failure and deadlock_detected (PostgreSQL, appendix A)
FIRST_PAUSE_S = 0.005
LOCK_MS = 5_000  # for a row that another transaction holds: as patient as the other store (BUSY_MS), and ours take ms
STATEMENT_MS = 10_000  # the largest of ours, over a whole table, take a second; a command has 30 s in all
# Ours wait for nothing between two statements. One that does belongs to a stopped process, and holds its rows from
# other nodes: it is longer than a collection of garbage or a busy machine takes.
IDLE_MS = 15_000
MIGRATION_MS = 120_000  # a node that starts beside others waits for their migrations, which may rewrite a table
TIMEOUTS = {"55P03", "57014", "25P03"}  # lock_not_available, query_canceled, idle_in_transaction_session_timeout
# Of libpq: a machine that vanished without a word is given up after 11 s, also in the middle of what was sent to it.
LINK = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11_000,
}
_MIGRATION_LOCK = 7_233_200  # nodes that start together bring the schema up to date one after the other

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class PostgresStore:
    """One PostgreSQL database, "postgresql://user@host:port/name"; `run` it in a nursery before the first call."""

    gathers = False

    def __init__(self, url: str) -> None:
        address = sa.make_url(url).set(drivername="postgresql+psycopg")
        self._engine = sa.create_engine(
            address,
            pool_size=CONNECTIONS + READERS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=LINK,
        )
        sa.event.listen(self._engine, "connect", _limit)
        self._name = address.render_as_string(hide_password=True)
        self._writers = trio.CapacityLimiter(CONNECTIONS)
        self._readers = trio.CapacityLimiter(READERS)
        self._open = False
        self._under_way = self._being_read = 0
        self._drained = trio.Event()
        self.writes = self.commits = self.failures = self.collisions = self.timeouts = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bring the schema up to date and serve until cancelled. Raises StoreFailed."""
        await trio.to_thread.run_sync(self._prepare)
        self._open = True
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._open = False
            with trio.CancelScope(shield=True):
                if self._under_way or self._being_read:
                    await self._drained.wait()
                await trio.to_thread.run_sync(self._engine.dispose)

    async def write(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work` in a transaction; returns when it is on the disk.

        `work` may be run again when it collided with another. Raises what `work` raises, and StoreFailed. Once begun,
        it is carried to its end even if the caller is cancelled.
        """
        if not self._open or self._under_way >= MAX_WAITING:
            raise StoreFailed("the database is closed" if not self._open else "too many writes are waiting")
        self._under_way += 1
        try:
            for attempt in range(ATTEMPTS):
                collided, result = await trio.to_thread.run_sync(
                    self._attempt, lambda connection: work(connection, *arguments), limiter=self._writers
                )
                if not collided:
                    self.writes += 1
                    self.commits += 1
                    return result  # type: ignore[return-value]
                self.collisions += 1
                await trio.sleep(random.uniform(0, FIRST_PAUSE_S * 2**attempt))
            raise StoreFailed(f"collided with other writes {ATTEMPTS} times")
        except StoreFailed:
            self.failures += 1
            raise
        finally:
            self._under_way -= 1
            self._note_end()

    async def write_each(self, work: Callable[[sa.Connection, Sequence[T]], Sequence[R | Exception]], item: T) -> R:
        """Run `work` on one item, like `write`: here transactions are side by side, and none waits for another."""
        (outcome,) = await self.write(work, [item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def write_all(
        self, work: Callable[[sa.Connection, Sequence[T]], Sequence[R | Exception]], items: Sequence[T]
    ) -> Sequence[R | Exception]:
        """Do for several items what `write_each` does for one, one after the other."""
        outcomes: list[R | Exception] = []
        for item in items:
            try:
                outcomes.append(await self.write_each(work, item))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    async def read(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run `work`, which must not write, on one snapshot. Raises what it raises, and StoreFailed."""

        def run() -> T:
            try:
                with self._engine.connect() as connection:
                    connection = connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                    with connection.begin():
                        return work(connection, *arguments)
            except DBAPIError as error:
                raise self._failed(error) from error

        self._being_read += 1
        try:
            return await trio.to_thread.run_sync(run, limiter=self._readers)
        finally:
            self._being_read -= 1
            self._note_end()

    def counters(self) -> dict[str, int]:
        """How much was written, by name."""
        return {
            "store_writes": self.writes,
            "store_commits": self.commits,
            "store_failures": self.failures,
            "store_collisions": self.collisions,
            "store_timeouts": self.timeouts,
        }

    def _note_end(self) -> None:
        if not self._open and not self._under_way and not self._being_read:
            self._drained.set()  # a connection that is still in use would outlive the pool, and be lost open

    # -- in threads ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        try:
            with self._engine.begin() as connection:
                for limit in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
                    connection.exec_driver_sql(f"SET LOCAL {limit} = {MIGRATION_MS}")
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                upgrade(connection)
        except DBAPIError as error:
            raise StoreFailed(f"{self._name}: {_words(error)}") from error

    def _attempt(self, work: Callable[[sa.Connection], T]) -> tuple[bool, T | None]:
        """Return whether the transaction collided with another, and otherwise what the work returned."""
        try:
            with self._engine.begin() as connection:
                return False, work(connection)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in COLLISIONS:
                return True, None
            if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.InternalError):
                raise self._failed(error) from error
            raise

    def _failed(self, error: DBAPIError) -> StoreFailed:
        self.timeouts += getattr(error.orig, "sqlstate", None) in TIMEOUTS
        return StoreFailed(_words(error))


def _limit(connection: Any, _: object) -> None:
    """Bound what a new connection waits for."""
    limits = {
        "lock_timeout": LOCK_MS,
        "statement_timeout": STATEMENT_MS,
        "idle_in_transaction_session_timeout": IDLE_MS,
    }
    connection.execute("; ".join(f"SET {name} = {limit}" for name, limit in limits.items()))
    connection.commit()


def _words(error: DBAPIError) -> str:
    words: Any = error.orig
    return str(words).strip().splitlines()[0] if str(words).strip() else type(words).__name__
