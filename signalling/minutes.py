"""Keeps the written record of one room: before a change where a restart must find it, after it otherwise."""

from __future__ import annotations

import msgspec
import structlog
import trio

from signalling import events as e
from signalling.ports import Archive, ArchivedEvent, ArchiveFailed, Clock, StreamRecord
from signalling.refusals import Refused
from signalling.showing import Now, Stream, record
from signalling.state import RoomState
from signalling.wire_events import ChatMessage

MAX_UNWRITTEN = 10_000  # lines kept while the archive fails; older ones are lost, the state is not
ROUNDING_MS = 1000  # the same deadline, read twice off two clocks

log = structlog.get_logger("signalling")


class Minutes:
    """The record of one room, and the only caller of the archive for it. One write at a time."""

    def __init__(self, stream: Stream, archive: Archive, clock: Clock) -> None:
        self._stream, self._archive, self._clock = stream, archive, clock
        self._writing = trio.Lock()
        self._written: StreamRecord | None = None
        self._unwritten: list[ArchivedEvent | ChatMessage] = []

    def note(self, events: list[e.Event], epoch: int, at: int) -> None:
        """Remember what happened, for the next `write`."""
        for event in events:
            fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
            self._unwritten.append(ArchivedEvent(epoch=epoch, type=type(event).__name__, at=at, fields=fields))

    def note_message(self, message: ChatMessage) -> None:
        """Remember what was said, for the next `write`."""
        self._unwritten.append(message)

    async def intend(self, state: RoomState) -> None:
        """Write down a state that is not yet applied; raises Refused("not_stored"), and then it must not be."""
        async with self._writing:
            self._written = None
            intended = record(self._stream, state, Now.read(self._clock))
            try:
                await self._archive.save_stream(intended)
            except ArchiveFailed as failure:
                raise Refused("not_stored") from failure
            self._written = intended

    async def write(self, state: RoomState) -> None:
        """Write down the state, where it differs from what is written, and what happened since.

        A failing archive is logged and tried again with the next change: what is applied stays applied.
        """
        async with self._writing:
            current, lines = record(self._stream, state, Now.read(self._clock)), self._unwritten
            self._unwritten = []
            try:
                if self._written is None or not _same(current, self._written):
                    await self._archive.save_stream(current)
                    self._written = current
                if lines:
                    await self._archive.append(self._stream.id, state.epoch, lines)
            except ArchiveFailed as failure:
                log.error("archive_failed", stream=self._stream.id, detail=str(failure))
                self._unwritten = (lines + self._unwritten)[-MAX_UNWRITTEN:]


def _same(one: StreamRecord, other: StreamRecord) -> bool:
    if (one.ends_at is None) != (other.ends_at is None):
        return False
    near = abs((one.ends_at or 0) - (other.ends_at or 0)) < ROUNDING_MS
    return near and msgspec.structs.replace(one, ends_at=None) == msgspec.structs.replace(other, ends_at=None)
