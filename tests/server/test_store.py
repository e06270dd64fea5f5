"""The database: grouped commits, failures that stay with their writer, and nothing acknowledged that is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from server.database.store import MAX_GROUP, Store, StoreFailed


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    async with trio.open_nursery() as nursery:
        store = Store(path)
        await nursery.start(store.run)
        try:
            yield store
        finally:
            nursery.cancel_scope.cancel()


def add(connection: sa.Connection, name: str) -> str:
    values = {"id": name, "name": name, "folded": name, "created_at": 0}
    connection.exec_driver_sql(
        "INSERT INTO accounts (id, name, folded, created_at) VALUES (:id, :name, :folded, :created_at)", values
    )
    return name


def count(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM accounts").scalar_one())


async def test_many_writers_share_a_commit(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(store.write, add, f"n{number}")
        assert await store.read(count) == 1000
        assert store.writes == 1000
        assert 1000 // MAX_GROUP <= store.commits < 100


async def test_a_failing_write_takes_nobody_along(tmp_path: Path) -> None:
    outcomes: list[str] = []

    async def attempt(name: str) -> None:
        try:
            outcomes.append(await store.write(add, name))
        except sa.exc.IntegrityError:
            outcomes.append("refused")

    async with open_store(tmp_path / "db") as store:
        async with trio.open_nursery() as nursery:
            for name in ("a", "a", "b", "a", "c"):
                nursery.start_soon(attempt, name)
        assert sorted(outcomes) == ["a", "b", "c", "refused", "refused"]
        assert await store.read(count) == 3


def names_of(connection: sa.Connection) -> list[str]:
    return list(connection.exec_driver_sql("SELECT id FROM accounts ORDER BY id").scalars())


def add_each(connection: sa.Connection, names: Sequence[str]) -> list[str | Exception]:
    """Add what is new; of the rest there is nothing to say but that it failed, and of "bad" nothing at all."""
    if "bad" in names:
        add(connection, "half")
        raise ZeroDivisionError
    there = set(connection.exec_driver_sql("SELECT id FROM accounts").scalars())
    return [KeyError(name) if name in there else add(connection, f"{name} of {len(names)}") for name in names]


async def add_all(store: Store, names: str) -> list[str]:
    outcomes: list[str] = []

    async def attempt(name: str) -> None:
        try:
            outcomes.append(await store.write_each(add_each, name))
        except (KeyError, ZeroDivisionError) as error:
            outcomes.append(f"{name}: {error!r}")

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(attempt, name)
    return sorted(outcomes)


async def test_writes_of_one_kind_that_wait_together_are_done_by_one_call(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await store.write(add, "c")
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(store.write, add, f"n{number}")
            nursery.start_soon(busy, store)
            await trio.testing.wait_all_tasks_blocked()
            assert await add_all(store, "abcd") == ["a of 4", "b of 4", "c: KeyError('c')", "d of 4"]
        assert (store.shared, store.parted) == (4, 0)


async def busy(store: Store) -> None:
    """Keep the writer so long that what comes next waits together."""
    await store.write(lambda _: time.sleep(0.2))


async def test_a_call_for_several_that_fails_is_undone_and_each_tried_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store, trio.open_nursery() as nursery:
        nursery.start_soon(busy, store)
        await trio.testing.wait_all_tasks_blocked()
        names = ["a", "bad", "b"]
        outcomes: dict[str, object] = {}

        async def attempt(name: str) -> None:
            try:
                outcomes[name] = await store.write_each(add_each, name)
            except ZeroDivisionError as error:
                outcomes[name] = type(error)

        async with trio.open_nursery() as crowd:
            for name in names:
                crowd.start_soon(attempt, name)
        assert outcomes == {"a": "a of 1", "bad": ZeroDivisionError, "b": "b of 1"}
        assert await store.read(count) == 2
        assert (store.shared, store.parted) == (0, 1)


async def test_half_of_a_failing_write_is_undone(tmp_path: Path) -> None:
    def half(connection: sa.Connection) -> None:
        add(connection, "first")
        raise ZeroDivisionError

    async with open_store(tmp_path / "db") as store:
        with pytest.raises(ZeroDivisionError):
            await store.write(half)
        assert await store.read(count) == 0


async def test_of_those_that_share_a_transaction_what_fails_is_undone_alone_at_its_beginning_and_later(
    tmp_path: Path,
) -> None:
    async def fail(store: Store, name: str) -> None:
        def half(connection: sa.Connection) -> None:
            add(connection, name)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.write(half)

    held, free = threading.Event(), threading.Event()

    def hold(_: sa.Connection) -> None:
        held.set()
        free.wait()

    async with open_store(tmp_path / "db") as store:
        async with trio.open_nursery() as crowd:
            crowd.start_soon(store.write, hold)
            await trio.to_thread.run_sync(held.wait)
            for number in range(3):
                crowd.start_soon(fail, store, f"first{number}")
                await trio.testing.wait_all_tasks_blocked()
                crowd.start_soon(store.write, add, f"second{number}")
                await trio.testing.wait_all_tasks_blocked()
            free.set()
        assert store.commits == 2  # that which kept the writer, and all of these
        assert await store.read(names_of) == ["second0", "second1", "second2"]


async def test_a_reader_sees_what_was_written_and_may_not_stop_a_writer(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await store.write(add, "a")

        def slow(connection: sa.Connection) -> tuple[int, int]:
            before = count(connection)
            trio.from_thread.run(store.write, add, "b")
            return before, count(connection)

        assert await store.read(slow) == (1, 1)  # one snapshot
        assert await store.read(count) == 2


async def test_a_read_that_fails_leaves_nothing_open_for_the_next(tmp_path: Path) -> None:
    def refuse(connection: sa.Connection) -> int:
        count(connection)
        raise ValueError("refused")

    def misspell(connection: sa.Connection) -> int:
        count(connection)
        return int(connection.exec_driver_sql("SELECT absent FROM accounts").scalar_one())

    async with open_store(tmp_path / "db") as store:
        for number in range(3):
            with pytest.raises(StoreFailed, match="no such column"):
                await store.read(misspell)
            with pytest.raises(ValueError, match="refused"):
                await store.read(refuse)
            await store.write(add, f"n{number}")
            assert await store.read(count) == number + 1


async def test_what_was_asked_before_the_end_is_written(tmp_path: Path) -> None:
    with trio.CancelScope() as caller:
        async with open_store(tmp_path / "db") as store, trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(store.write, add, f"n{number}")
            await trio.testing.wait_all_tasks_blocked()
            caller.cancel()
    with pytest.raises(StoreFailed):
        await store.write(add, "late")
    connection = sqlite3.connect(tmp_path / "db")
    assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (50,)
    connection.close()


async def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.RaisesGroup(pytest.RaisesExc(StoreFailed, match="db")):
        async with open_store(path):
            pass


WRITER = """
import sys, trio
from pathlib import Path
from tests.server.test_store import add, open_store
async def write(store, number):
    for step in range(100_000):
        name = f"{number}-{step}"
        await store.write(add, name)
        print(name, flush=True)
async def main():
    async with open_store(Path(sys.argv[1])) as store, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(write, store, number)
trio.run(main)
"""


def test_killing_the_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for attempt in range(3):
        path = tmp_path / f"db{attempt}"
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        said = [writer.stdout.readline().strip() for _ in range(200 + attempt * 31)]
        os.kill(writer.pid, signal.SIGKILL)
        said += writer.stdout.read().splitlines()[:-1]  # the last line may be cut off
        writer.stdout.close()
        writer.wait()
        connection = sqlite3.connect(path)
        written = {row[0] for row in connection.execute("SELECT id FROM accounts")}
        connection.close()
        assert set(said) <= written
