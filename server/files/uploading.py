"""Takes uploads in: declared, sent in as many parts as the network makes of them, and whole in the end."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import trio

from server.database.store import Database
from server.files import rows
from server.files.arriving import Arriving
from server.files.naming import name_untrusted
from server.files.rows import DAY_MS, Facts, File, Usage
from server.files.settings import FileSettings
from server.files.sniffing import HEAD_BYTES, sniff_untrusted
from server.files.tus import Checksum, NewUpload
from signalling.identifiers import AccountId
from signalling.ports import Clock
from signalling.refusals import Refused

ID_BYTES = 16  # unguessable
PIECE = 262_144  # bytes written at once
CUT_S = 10.0  # for the disk to forget the end of a file
MAX_SENDING = 4  # requests of one account that carry bytes at a time; each holds two pieces in memory


@dataclass(slots=True)
class _Turn:
    """A request that carries bytes of a file: the next one for the same file ends it."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class Uploads:
    """Uploads on a node's store; raises Refused and StoreFailed. `arrived` is called when one is whole."""

    def __init__(
        self, store: Database, clock: Clock, arriving: Arriving, settings: FileSettings, arrived: Callable[[], None]
    ) -> None:
        self._store, self._clock, self._arriving, self._settings = store, clock, arriving, settings
        self._arrived = arrived
        self._turns: dict[str, _Turn] = {}
        self._sending: Counter[AccountId] = Counter()
        self.begun = self.whole = self.broken = self.refused = self.bytes = 0

    def counters(self) -> dict[str, int]:
        """How much came in, by name."""
        return {
            "uploads_begun": self.begun,
            "uploads_whole": self.whole,
            "uploads_broken": self.broken,
            "uploads_refused": self.refused,
            "upload_bytes": self.bytes,
            "uploads_sending": self._sending.total(),
        }

    async def begin(self, account: AccountId, new: NewUpload) -> File:
        """Begin an upload. Raises Refused (upload_empty, upload_too_large, storage_full, and like `rows.begin`)."""
        if new.size == 0:
            raise Refused("upload_empty")
        if new.size > self._settings.largest:
            raise Refused("upload_too_large", limit=self._settings.largest)
        await self._arriving.require_room(new.size)
        now_ms = self._clock.wall_ms()
        id, name = f"f_{secrets.token_hex(ID_BYTES)}", name_untrusted(new.name)
        expires = now_ms + DAY_MS
        file = File(id, account, name, new.size, new.sha256, "uploading", None, None, Facts(), 0, now_ms, expires)
        await self._store.write(rows.begin, file, self._settings)
        self.begun += 1
        return file

    async def find(self, account: AccountId, id: str) -> tuple[File, int]:
        """Return an upload of an account, and how much of it is here. Raises Refused("upload_unknown")."""
        file = await self._own(account, id)
        if file.state != "uploading":
            return file, file.size
        here = await self._arriving.length(id)
        if here == file.size:  # its last request was not told of it
            await self._finish(file)
        return file, here

    async def _own(self, account: AccountId, id: str) -> File:
        file = await self._store.read(rows.find, id)
        if file is None or file.owner != account or file.state == "dropped":
            raise Refused("upload_unknown")
        return file

    async def usage(self, account: AccountId) -> Usage:
        """Return how much an account keeps."""
        return await self._store.read(rows.usage, account, self._settings)

    async def remove(self, account: AccountId, id: str) -> None:
        """Want an upload no longer. Raises Refused (upload_unknown; file_attached when a message shows it)."""
        await self._own(account, id)
        if (turn := self._turns.get(id)) is not None:
            turn.scope.cancel()
        if not await self._store.write(rows.drop, id):
            raise Refused("file_attached")

    async def append(
        self, account: AccountId, id: str, offset: int, parts: AsyncIterator[bytes], checksum: Checksum | None
    ) -> tuple[File, int]:
        """Add bytes to an upload; returns how much of it is here then, and would be after a power cut.

        Raises Refused (upload_unknown; upload_offset when it is at another place, or another request goes on with it;
        upload_too_long, checksum_mismatch, storage_full, file_type_not_allowed, too_many_uploads).
        """
        await self._own(account, id)  # before anything that others could feel
        async with self._turn(account, id):
            file, here = await self.find(account, id)
            if offset != here:
                raise Refused("upload_offset", offset=here)
            if here == file.size:
                return file, here
            try:
                await self._take(file, offset, parts, checksum)
            except Refused:
                self.refused += 1
                raise
            here = await self._arriving.length(id)
            if here == file.size:
                await self._finish(file)
            return file, here

    @asynccontextmanager
    async def _turn(self, account: AccountId, id: str) -> AsyncIterator[None]:
        while (former := self._turns.get(id)) is not None:
            # Its connection is broken, most likely, and nothing has said so yet.
            former.scope.cancel()
            await former.ended.wait()
        if self._sending[account] >= MAX_SENDING:
            raise Refused("too_many_uploads", f"at most {MAX_SENDING} at the same time")
        turn = self._turns[id] = _Turn()
        self._sending[account] += 1
        try:
            with turn.scope:
                yield
        finally:
            del self._turns[id]
            self._sending[account] -= 1
            if not self._sending[account]:
                del self._sending[account]
            turn.ended.set()
        if turn.scope.cancelled_caught:
            raise Refused("upload_offset", "another request goes on with this upload")

    async def _take(self, file: File, at: int, parts: AsyncIterator[bytes], checksum: Checksum | None) -> None:
        begun, hashed = at, None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        kept = False
        try:
            async with aclosing(_pieces(parts)) as pieces:
                async for piece in pieces:
                    await self._write(file, at, piece)
                    at += len(piece)
                    if hashed is not None:
                        hashed.update(piece)
            if hashed is not None and checksum is not None and hashed.digest() != checksum.digest:
                raise Refused("checksum_mismatch")
            kept = True
        finally:
            self.broken += not kept
            if hashed is not None and not kept:  # what can't be held to its hash is not kept in part either
                with trio.move_on_after(CUT_S, shield=True):
                    await self._arriving.write(file.id, begun, b"")

    async def _write(self, file: File, at: int, piece: bytes) -> None:
        if at + len(piece) > file.size:
            raise Refused("upload_too_long", f"it was declared to have {file.size} bytes")
        if at == 0:
            await self._judge_beginning(file, piece)
        await self._arriving.write(file.id, at, piece)
        self.bytes += len(piece)

    async def _judge_beginning(self, file: File, piece: bytes) -> None:
        """Refuse at once what begins like nothing that is taken. Raises Refused("file_type_not_allowed")."""
        whole = len(piece) == file.size
        if len(piece) < HEAD_BYTES and not whole:
            return  # the whole is judged in any case
        if sniff_untrusted(piece[:HEAD_BYTES], whole=whole and len(piece) <= HEAD_BYTES) is None:
            await self._store.write(rows.refuse, file.id, "file_type_not_allowed", self._clock.wall_ms())
            await self._arriving.remove(file.id)
            raise Refused("file_type_not_allowed")

    async def _finish(self, file: File) -> None:
        if await self._store.write(rows.arrive, file.id, self._clock.wall_ms()):
            self.whole += 1
            self._arrived()


async def _pieces(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Put small parts together, so that each costs less."""
    gathered = bytearray()
    async for part in parts:
        gathered += part
        if len(gathered) >= PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
