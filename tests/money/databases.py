"""Real databases for tests: SQLite files, and a PostgreSQL cluster of the tests' own.

Most tests begin with a copy of an empty database of the newest schema: to migrate takes longer than what they do.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import sqlalchemy as sa
import trio

from server.database.postgres import PostgresStore
from server.database.store import Store
from server.migrations import upgrade

AnyStore = Store | PostgresStore
# Processes are killed here and the machine never is: what was written but not flushed is not lost.
SETTINGS = "-c listen_addresses= -c fsync=off"


@functools.cache
def newest_schema() -> bytes:
    """Return an empty SQLite database as the migrations leave it."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    with engine.begin() as connection:
        upgrade(connection)
    with engine.connect() as connection:
        return bytes(_driver(connection).serialize())


def lay_schema(path: Path) -> None:
    """Lay an empty SQLite database of the newest schema where there is no database."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(newest_schema())


def give_schema(connection: sa.Connection) -> None:
    """Make a SQLite database that is in memory an empty one of the newest schema."""
    _driver(connection).deserialize(newest_schema())


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


@contextmanager
def postgres_cluster() -> Iterator[str]:
    """Run PostgreSQL on a socket in a directory of its own; gives the URL of a database that exists.

    It refuses to run as root, and gets its own user then.
    """
    programs = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])).parent
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="mesi-pg-"))
    shutil.chown(folder, user)
    account = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}

    def run(program: str, *arguments: str) -> None:
        # Into a file: a server that outlives its starter would keep a pipe open.
        with (folder / "out").open("ab") as out:
            command = [str(programs / program), "-D", str(folder / "data"), *arguments]
            done = subprocess.run(command, cwd=folder, stdout=out, stderr=out, check=False, **account)  # type: ignore[call-overload]
        assert done.returncode == 0, (folder / "out").read_text()

    run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
    run("pg_ctl", "-w", "-s", "-l", str(folder / "log"), "-o", f"-k {folder} {SETTINGS}", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-s", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def fresh_database(cluster: str, name: str, template: str = "template1") -> str:
    """Make a database like another one, by its name, or without anything in it; returns its URL."""
    engine = sa.create_engine(sa.make_url(cluster).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine.dispose()
    return sa.make_url(cluster).set(database=name).render_as_string(hide_password=False)


def migrated_database(cluster: str, name: str) -> str:
    """Make a database of the newest schema; returns its URL."""
    return fresh_database(cluster, name, _migrated(cluster))


@functools.cache
def _migrated(cluster: str) -> str:
    """Return the name of a database that was migrated, and has nobody connected to it, so that it can be copied."""
    url = sa.make_url(fresh_database(cluster, "migrated"))
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    return "migrated"


def make_store(where: Path | str) -> AnyStore:
    return Store(where) if isinstance(where, Path) else PostgresStore(where)


@asynccontextmanager
async def running(where: Path | str) -> AsyncIterator[AnyStore]:
    """Give a store on a path (SQLite), of the newest schema if it is new, or on a URL (PostgreSQL)."""
    if isinstance(where, Path):
        lay_schema(where)
    async with trio.open_nursery() as nursery:
        store = make_store(where)
        await nursery.start(store.run)
        try:
            yield store
        finally:
            nursery.cancel_scope.cancel()
