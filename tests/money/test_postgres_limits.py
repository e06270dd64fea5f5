"""What waits too long in PostgreSQL fails with the store's own error, and keeps nobody else waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
import trio

from server.database import postgres
from server.database.postgres import PostgresStore
from server.database.store import StoreFailed
from server.database.tables import accounts
from tests.money.conftest import NAMES
from tests.money.databases import migrated_database, running

ANN, BOB = ({"id": name, "name": name, "folded": name, "created_at": 1} for name in ("ann", "bob"))


@pytest.fixture
def url(cluster: str) -> str:
    return migrated_database(cluster, f"limits{next(NAMES)}")


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def add_two(connection: sa.Connection) -> None:
    connection.execute(sa.insert(accounts), [ANN, BOB])


def rename(connection: sa.Connection, account: str) -> str:
    connection.execute(sa.update(accounts).where(accounts.c.id == account).values(name="renamed"))
    return account


async def test_a_row_that_another_connection_holds_is_waited_for_so_long_and_not_longer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_MS", 300)
    async with running(url) as store:
        await store.write(add_two)
        with connected(url) as other:
            other.execute(sa.select(accounts).where(accounts.c.id == "ann").with_for_update()).all()
            with pytest.raises(StoreFailed, match="lock timeout"):
                await store.write(rename, "ann")
            assert await store.write(rename, "bob") == "bob"
        assert store.counters()["store_timeouts"] == store.counters()["store_failures"] == 1
        assert await store.write(rename, "ann") == "ann", "what was held is free, and the connection of use"


async def test_a_statement_that_takes_too_long_fails_in_reading_and_in_writing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STATEMENT_MS", 200)
    async with running(url) as store:
        for ask in (store.read, store.write):
            with pytest.raises(StoreFailed, match="statement timeout"):
                await ask(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(2)").all())
        assert store.counters()["store_timeouts"] == 2


async def test_a_transaction_that_stands_still_gives_its_rows_free(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "IDLE_MS", 200)

    def stand_still(connection: sa.Connection) -> None:
        rename(connection, "ann")
        time.sleep(1)
        rename(connection, "bob")

    async with running(url) as store:
        await store.write(add_two)
        with pytest.raises(StoreFailed):
            await store.write(stand_still)
        assert await store.read(lambda connection: connection.scalars(sa.select(accounts.c.name)).all()) == [
            "ann",
            "bob",
        ]


async def test_a_node_that_starts_waits_longer_for_the_migrations_of_another(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_MS", 100)
    with connected(url) as other:
        other.execute(sa.select(sa.func.pg_advisory_xact_lock(postgres._MIGRATION_LOCK)))
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                starting.start_soon(nursery.start, PostgresStore(url).run)
                await trio.sleep(0.5)
                other.rollback()
            nursery.cancel_scope.cancel()  # it has started
