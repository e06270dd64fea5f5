"""Files on their way in, each as long as what has arrived of it: written piece by piece, synced before it is told."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from server.files.storage import THREADS
from signalling.refusals import Refused

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Arriving:
    """A folder of files that are not whole yet, on a disk of which `keep_free` bytes are for others.

    Raises Refused("storage_full"). Everything is done in threads, to its end also where the caller is cancelled.
    """

    def __init__(self, folder: Path, keep_free: int) -> None:
        self._folder, self._keep_free = folder, keep_free
        self._threads = trio.CapacityLimiter(THREADS)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, id: str) -> Path:
        """Return where a file arrives."""
        return self._folder / id

    def scratch(self, id: str, what: str) -> Path:
        """Return where something is made of a file."""
        return self._folder / f"{id}.{what}"

    async def require_room(self, size: int) -> None:
        """Let nothing begin that would not fit on the disk."""
        found = await trio.to_thread.run_sync(os.statvfs, self._folder, limiter=self._threads)
        if found.f_bavail * found.f_frsize < size + self._keep_free:
            raise Refused("storage_full")

    async def length(self, id: str) -> int:
        """Return how much of a file is here, and would be after a power cut."""
        return await trio.to_thread.run_sync(_length, self.path(id), limiter=self._threads)

    async def write(self, id: str, at: int, part: bytes) -> None:
        """Write a part of a file; what was behind it is cut off."""
        with _fullness():
            await trio.to_thread.run_sync(_write, self.path(id), at, part, limiter=self._threads)

    async def remove(self, id: str) -> None:
        """Remove a file, and what was made of it."""
        await trio.to_thread.run_sync(_remove, self._folder, id, limiter=self._threads)


@contextmanager
def _fullness() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Refused("storage_full") from error
        raise


def _length(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _write(path: Path, at: int, part: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        view = memoryview(part)
        while view:
            written = os.pwrite(descriptor, view, at)
            at, view = at + written, view[written:]
        os.ftruncate(descriptor, at)
    finally:
        os.close(descriptor)


def _remove(folder: Path, id: str) -> None:
    for path in (folder / id, *folder.glob(f"{id}.*")):
        path.unlink(missing_ok=True)
