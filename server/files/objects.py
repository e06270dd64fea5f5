"""Keeps files in an S3-compatible store, for nodes that share no disk.

Requests are signed, repeated and sent in parts by obstore (the object store of Apache Arrow, in Rust): it waits without
the interpreter's lock, so that a thread for each request serves Trio well.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import obstore
import trio
from msgspec import Meta
from obstore.exceptions import BaseError
from obstore.store import S3Store

THREADS = 16  # requests at a time
ANSWER_S, CONNECT_S = 30, 5
RETRIES = 3  # of a request that a busy or broken store did not answer
RETRIED_FOR = timedelta(seconds=60)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=200), timedelta(seconds=5)

T = TypeVar("T")
Name = Annotated[str, Meta(max_length=256, pattern=r"^[\x21-\x7e]*$")]


class StorageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bucket that files are kept in, and how it is reached; without one they are kept in the data directory.

    Without an `endpoint` it is Amazon's. Files' names in it are their ids, after `prefix`.
    """

    bucket: Annotated[str, Meta(max_length=63, pattern=r"^([a-z0-9][a-z0-9.-]+[a-z0-9])?$")] = ""
    endpoint: Annotated[str, Meta(max_length=512, pattern=r"^(https?://[^\s/]+(/\S*)?)?$")] = ""
    region: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$")] = "us-east-1"
    access_key: Name = ""
    secret_key: Name = ""
    prefix: Annotated[str, Meta(max_length=256, pattern=r"^([a-z0-9_-]+/)*$")] = ""


class Bucket:
    """Implements `server.files.storage.Storage`; raises OSError."""

    def __init__(self, settings: StorageSettings) -> None:
        self._prefix = settings.prefix
        self._threads = trio.CapacityLimiter(THREADS)
        self._store = S3Store(
            settings.bucket,
            endpoint=settings.endpoint or None,
            region=settings.region,
            access_key_id=settings.access_key,
            secret_access_key=settings.secret_key,
            client_options={
                "allow_http": settings.endpoint.startswith("http:"),
                "timeout": timedelta(seconds=ANSWER_S),
                "connect_timeout": timedelta(seconds=CONNECT_S),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": RETRIED_FOR,
                "backoff": {"init_backoff": FIRST_PAUSE, "max_backoff": LONGEST_PAUSE, "base": 2},
            },
        )

    async def keep(self, key: str, path: Path) -> None:
        """Send a file, in parts where it is large, and remove it here."""
        await self._run(lambda: obstore.put(self._store, self._prefix + key, path))
        await self._run(lambda: path.unlink(missing_ok=True))

    async def read(self, key: str, start: int, size: int) -> bytes:
        """Return so many bytes."""
        return await self._run(
            lambda: bytes(obstore.get_range(self._store, self._prefix + key, start=start, length=size))
        )

    async def remove(self, key: str) -> None:
        """Remove a file; one that is not there is removed already."""
        await self._run(lambda: _delete(self._store, self._prefix + key))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._threads)
        except BaseError as error:
            raise OSError(f"the object store failed: {str(error)[:300]}") from error


def _delete(store: S3Store, name: str) -> None:
    try:
        obstore.delete(store, name)
    except FileNotFoundError:
        return
