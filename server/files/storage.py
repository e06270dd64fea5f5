"""Where files are kept: an interface, and a folder of this machine behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import trio

THREADS = 8  # that wait for the disk at a time


class Storage(Protocol):
    """Keeps what is finished, by keys that are ids and never names of people's. Raises OSError."""

    async def keep(self, key: str, path: Path) -> None:
        """Take a file of this machine over; returns when it would be there after a power cut."""

    async def read(self, key: str, start: int, size: int) -> bytes:
        """Return so many bytes, fewer at the end; raises FileNotFoundError where there is no such key (any more)."""

    async def remove(self, key: str) -> None:
        """Keep it no longer, if it is there."""


class Folder:
    """Keeps files in a folder, spread over 256 others so that none gets too long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = trio.CapacityLimiter(THREADS)

    async def keep(self, key: str, path: Path) -> None:
        """Move a file of the same file system in."""
        await trio.to_thread.run_sync(_move, path, self._place(key), limiter=self._threads)

    async def read(self, key: str, start: int, size: int) -> bytes:
        """Return so many bytes; what was removed meanwhile ends there."""
        return await trio.to_thread.run_sync(_read, self._place(key), start, size, limiter=self._threads)

    async def remove(self, key: str) -> None:
        """Remove a file."""
        await trio.to_thread.run_sync(lambda: self._place(key).unlink(missing_ok=True), limiter=self._threads)

    def _place(self, key: str) -> Path:
        return self._path / key[2:4] / key


def _read(path: Path, start: int, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, size, start)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Return when what a file holds would be there after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(source: Path, target: Path) -> None:
    sync_file(source)
    if not target.parent.exists():
        target.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        sync_file(target.parent.parent)
    source.replace(target)
    sync_file(target.parent)
