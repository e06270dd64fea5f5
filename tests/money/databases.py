"""Real databases for tests: SQLite files, and a PostgreSQL cluster of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import sqlalchemy as sa
import trio

from server.postgres import PostgresStore
from server.store import Store

AnyStore = Store | PostgresStore


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
    run("pg_ctl", "-w", "-s", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses=", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-s", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def fresh_database(cluster: str, name: str) -> str:
    """Make an empty database; returns its URL."""
    engine = sa.create_engine(sa.make_url(cluster).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(cluster).set(database=name).render_as_string(hide_password=False)


def make_store(where: Path | str) -> AnyStore:
    return Store(where) if isinstance(where, Path) else PostgresStore(where)


@asynccontextmanager
async def running(where: Path | str) -> AsyncIterator[AnyStore]:
    """Give a store on a path (SQLite) or on a URL (PostgreSQL)."""
    async with trio.open_nursery() as nursery:
        store = make_store(where)
        await nursery.start(store.run)
        try:
            yield store
        finally:
            nursery.cancel_scope.cancel()
