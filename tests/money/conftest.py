"""Fixtures: each test that takes `place` or `store` runs on both databases."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from tests.money.databases import AnyStore, migrated_database, postgres_cluster, running
from tests.money.killing import Killer
from tests.money.small_nodes import fill

NAMES = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    with postgres_cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Give where a database is (on PostgreSQL, of the newest schema) or will be."""
    if request.param == "sqlite":
        return tmp_path / "db"
    return migrated_database(request.getfixturevalue("cluster"), f"t{next(NAMES)}")


@pytest.fixture
async def store(place: Path | str) -> AsyncIterator[AnyStore]:
    async with running(place) as store:
        yield store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with accounts, and money in Bob's wallets."""
    path = tmp_path_factory.mktemp("filled") / "db"
    trio.run(fill, path)
    return path


@pytest.fixture
def killer(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(filled, tmp_path, monkeypatch)
