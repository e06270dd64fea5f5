"""One database serves one node: what it runs is never settled by another that starts meanwhile."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio

from server.database import sole_use
from server.database.postgres import PostgresStore
from server.database.sole_use import DatabaseTaken, SoleUse
from server.node import NodeFailed, run_node
from tests.money.databases import migrated_database
from tests.money.test_one_to_one_node import PRICE, has, on, open_salon

HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7233209 AND granted"


@pytest.fixture
def url(cluster: str, request: pytest.FixtureRequest) -> str:
    return migrated_database(cluster, f"sole{abs(hash(request.node.name))}")


def end_claim(url: str) -> int:
    """Cut the connection that holds the claim, as a restart of the database would; returns how many there were."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        pids = connection.exec_driver_sql(HOLDERS).scalars().all()
        for pid in pids:
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
    engine.dispose()
    return len(pids)


@asynccontextmanager
async def claimed(url: str) -> AsyncIterator[SoleUse]:
    sole = SoleUse(url)
    await sole.take()
    try:
        yield sole
    finally:
        with trio.CancelScope(shield=True):
            await sole.release()


async def test_a_second_node_is_refused_and_the_first_one_s_holds_stay_as_they_are(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sole_use, "PATIENCE_S", 0.5)
    async with open_salon(tmp_path / "first", url) as (salon, _, _bobs):
        await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE})
        with pytest.raises(NodeFailed, match=r"another server uses postgresql://.*: one database serves one node"):
            await run_node(on(tmp_path / "second", url))
        assert await has(salon.site, salon.bob) == (7000, 3000)
        assert (await salon.bob.ask("GET", f"{salon.path}/place"))["position"] == 1


async def test_a_node_that_is_gone_leaves_its_database_to_the_next(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with claimed(url), trio.open_nursery() as nursery:
        monkeypatch.setattr(sole_use, "PATIENCE_S", 0.1)
        second = SoleUse(url)
        with pytest.raises(DatabaseTaken):
            await second.take()
        monkeypatch.setattr(sole_use, "PATIENCE_S", 5)
        nursery.start_soon(second.take)
        await trio.sleep(0.3)
        assert await trio.to_thread.run_sync(end_claim, url) == 1
    await second.release()
    assert await trio.to_thread.run_sync(end_claim, url) == 0, "what was released is free"


async def test_a_claim_lost_with_its_connection_is_taken_anew_unless_another_was_faster(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sole_use, "PATIENCE_S", 0.3)
    monkeypatch.setattr(sole_use, "WATCH_S", 0.05)
    async with claimed(url) as sole, trio.open_nursery() as nursery:
        nursery.start_soon(sole.watch)
        assert await trio.to_thread.run_sync(end_claim, url) == 1
        with trio.fail_after(5):
            while not sole.losses:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await trio.sleep(0.2)
        other = SoleUse(url)
        with pytest.raises(DatabaseTaken):
            await other.take()
        nursery.cancel_scope.cancel()
    async with claimed(url) as sole:
        await trio.to_thread.run_sync(end_claim, url)
        async with claimed(url):
            with pytest.raises(DatabaseTaken), trio.fail_after(5):
                await sole.watch()


async def test_a_read_that_is_under_way_ends_before_its_connection_is_closed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)  # told of a connection that is forgotten while it is open
    store = PostgresStore(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        nursery.start_soon(store.read, lambda connection: connection.exec_driver_sql("SELECT pg_sleep(0.4)").all())
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    gc.collect()
    assert lost == []
