"""The files of a node: uploads, and what becomes of them, as the routes need it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio

from server.database.store import Database
from server.files import uses
from server.files.arriving import Arriving
from server.files.collecting import collect
from server.files.processing import Processing, preview_key
from server.files.rows import File
from server.files.settings import MIB, FileSettings
from server.files.storage import Folder, Storage
from server.files.tickets import Tickets
from server.files.uploading import Uploads
from server.money.clerk import Clerk
from server.tokens import Claims
from signalling.identifiers import AccountId
from signalling.ports import Clock
from signalling.refusals import Refused

PIECE = 262_144  # bytes read at once: enough to make a thread's hop cheap, little for many readers at a time


class FileDesk:
    """Everything about files on a node's store and data folder; `run` it."""

    def __init__(
        self,
        store: Database,
        clock: Clock,
        folder: Path,
        settings: FileSettings,
        tickets: Tickets,
        storage: Storage | None = None,
    ) -> None:
        self._store, self._clock, self._tickets = store, clock, tickets
        self.settings = settings
        arriving = Arriving(folder / "arriving", settings.keep_free_mib * MIB)
        self._storage = storage or Folder(folder / "kept")
        self._processing = Processing(store, clock, arriving, self._storage, settings)
        self.uploads = Uploads(store, clock, arriving, settings, self._processing.wake)

        async def remove(now_ms: int) -> int:
            return await collect(store, arriving, self._storage, now_ms)

        self._collector = Clerk({"files that nobody wants": remove}, clock.wall_ms)
        self.served = self.reads_broken = 0

    async def run(self) -> None:
        """Look at uploads, and remove what is not wanted, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._processing.run)
            nursery.start_soon(self._collector.run)

    def counters(self) -> Mapping[str, int]:
        """How much came, stayed and went, by name."""
        return {
            **self.uploads.counters(),
            **self._processing.counters(),
            "files_collected": self._collector.done,
            "file_collecting_failures": self._collector.failures,
            "file_bytes_served": self.served,
            "file_reads_broken": self.reads_broken,
        }

    def ticket(self, session: Claims) -> tuple[str, int]:
        """Return a ticket to see files with, and until when it holds (epoch ms)."""
        return self._tickets.issue(session, self._clock.wall_ms())

    def holder_untrusted(self, ticket: str) -> AccountId:
        """Return whose ticket this is. Raises Refused("no_session")."""
        return self._tickets.read_untrusted(ticket)

    async def find(self, account: AccountId, id: str) -> File:
        """Return a file that an account may see. Raises Refused("file_unknown")."""
        return await self._store.read(uses.require_seen, account, id, self._clock.wall_ms())

    async def preview(self, file: File) -> bytes:
        """Return a small picture of a file, as WebP. Raises Refused("file_unknown") where there is none."""
        if not file.facts.preview_bytes:
            raise Refused("file_unknown")
        return await self._read(preview_key(file.id), 0, file.facts.preview_bytes)

    def read(self, file: File, start: int, stop: int) -> FileBody:
        """Return a part of a file, to be read as it is taken."""
        return FileBody(self, file.id, start, stop)

    async def _read(self, key: str, start: int, size: int) -> bytes:
        try:
            part = await self._storage.read(key, start, size)
        except OSError:
            part = b""
        if not part:
            self.reads_broken += 1
            raise Refused("file_unknown")
        self.served += len(part)
        return part


class FileBody:
    """The bytes of a part of a file; it ends early, and the connection with it, when the file is removed."""

    def __init__(self, desk: FileDesk, key: str, start: int, stop: int) -> None:
        self._desk, self._key, self._at, self._stop = desk, key, start, stop

    def __aiter__(self) -> FileBody:
        """Return itself: it is read once."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece."""
        if self._at >= self._stop:
            raise StopAsyncIteration
        part = await self._desk._read(self._key, self._at, min(PIECE, self._stop - self._at))
        self._at += len(part)
        return part
