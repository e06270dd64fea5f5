"""Makes a PostgreSQL database one node's own, as the lock file does with a data directory.

A node settles, when it starts, what the one before it left open: what another still runs must not be among it. The
claim is an advisory lock that belongs to a connection, so whatever ends the node gives the database free.
"""

from __future__ import annotations

import sqlalchemy as sa
import structlog
import trio
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from server.database.postgres import LINK

_LOCK = 7_233_209
PATIENCE_S = 5.0  # a database may take a moment to notice that the node before is gone
RETRY_S = 0.2
WATCH_S = 2.0  # a claim that was lost with its connection is taken anew so soon
# A machine that vanished without a word is given up after 11 s; PostgreSQL alone would wait for two hours.
_NOTICE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"

log = structlog.get_logger("sole_use")


class DatabaseTaken(Exception):
    """Another node uses the database."""


class SoleUse:
    """A claim on the database at a URL: `take` it before it is read, `watch` it, `release` it after the last write."""

    def __init__(self, url: str) -> None:
        address = sa.make_url(url).set(drivername="postgresql+psycopg")
        self._engine = sa.create_engine(
            address, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True, connect_args=LINK
        )
        self.name = address.set(drivername="postgresql").render_as_string(hide_password=True)
        self._connection: sa.Connection | None = None
        self.losses = 0

    async def take(self) -> None:
        """Claim it. Raises DatabaseTaken, and DBAPIError when it does not answer."""
        with trio.move_on_after(PATIENCE_S):
            while not await trio.to_thread.run_sync(self._try):  # noqa: ASYNC110  (another process gives it free)
                await trio.sleep(RETRY_S)
            return
        if self._connection is None:
            raise DatabaseTaken(f"another server uses {self.name}")

    async def watch(self) -> None:
        """Keep the claim, also over a restart of the database, until cancelled.

        Raises DatabaseTaken when another node was faster.
        """
        while True:
            await trio.sleep(WATCH_S)
            if await trio.to_thread.run_sync(self._holds):
                continue
            self.losses += 1
            log.error("claim_on_database_lost", database=self.name)
            try:
                await self.take()
            except DBAPIError:
                continue  # nobody can use it now, and nothing is written either

    async def release(self) -> None:
        """Give the database free; not an error for one that was never claimed."""
        await trio.to_thread.run_sync(self._drop)

    # -- in threads ----------------------------------------------------------------------------------------------------

    def _try(self) -> bool:
        self._drop()
        connection = self._engine.connect()
        try:
            connection.exec_driver_sql(_NOTICE)
            if connection.execute(sa.select(sa.func.pg_try_advisory_lock(_LOCK))).scalar_one():
                self._connection = connection
                return True
        finally:
            if self._connection is None:
                connection.close()
        return False

    def _holds(self) -> bool:
        try:
            return self._connection is not None and self._connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        except DBAPIError:
            return False

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # closes it for certain, also one that is broken
            connection.close()
