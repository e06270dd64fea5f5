"""Keeps the written record of one room: before a change where a restart must find it, after it otherwise."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog
import trio

from signalling.policy import events as e
from signalling.policy.showing import Now, Stream, record
from signalling.policy.state import RoomState
from signalling.ports import Archive, ArchivedEvent, ArchiveFailed, Clock, StreamRecord
from signalling.refusals import Refused
from signalling.wire.events import ChatMessage

MAX_UNWRITTEN = 10_000  # lines kept while the archive fails; older ones are lost, the state is not
ROUNDING_MS = 1000  # the same deadline, read twice off two clocks
SHOWN_EVERY_S = 5.0  # how much of a show a crash may lose
SHOWN_MS = 4000  # of a show are no reason to write again
PATIENCE_S = 2.0  # a slow disk delays an answer by so much and no more; it is written all the same
RETRY_S = 1.0  # a failing disk is asked again so often ...
LAST_TRIES = 3  # ... and for the end of a stream so many times

log = structlog.get_logger("signalling")


class Minutes:
    """The record of one room, and the only caller of the archive for it. One write at a time.

    `keep` must run. `read` gives the state as it is when the writing begins: what was asked for earlier may be older
    than what is written already. `is_behind` while something is applied that could not be written in time: a restart
    now would not know it.
    """

    def __init__(self, stream: Stream, archive: Archive, clock: Clock, read: Callable[[], RoomState]) -> None:
        self._stream, self._archive, self._clock, self._read = stream, archive, clock, read
        self._writing = trio.Lock()
        self._written: StreamRecord | None = None
        self._intending = False
        self._unwritten: list[ArchivedEvent | ChatMessage] = []
        self._asked = self._tried = 0
        self._due, self._turned = trio.Event(), trio.Event()
        self._closing = self._is_over = self.is_behind = False

    def note(self, events: list[e.Event], epoch: int, at: int) -> None:
        """Remember what happened, for the next writing."""
        for event in events:
            fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
            self._unwritten.append(ArchivedEvent(epoch=epoch, type=type(event).__name__, at=at, fields=fields))

    def note_message(self, message: ChatMessage) -> None:
        """Remember what was said, for the next writing."""
        self._unwritten.append(message)

    async def keep_shown(self) -> None:
        """Write down now and then how long the stream was on for ticket holders alone: they paid for that."""
        while True:
            await trio.sleep(SHOWN_EVERY_S)
            if self._read().showing_since_ns is not None:
                self.ask()

    async def intend(self, state: RoomState) -> None:
        """Write down a state that is not yet applied; until `settled` nothing else is written over it.

        Raises Refused("not_stored"): the archive failed or takes too long, and whether it is written nobody knows.
        """
        self._intending, was_behind = True, self.is_behind
        self.is_behind = True
        with trio.move_on_after(PATIENCE_S):
            async with self._writing:
                self._written = None
                intended = record(self._stream, state, Now.read(self._clock))
                try:
                    await self._archive.save_stream(intended)
                except ArchiveFailed as failure:
                    raise Refused("not_stored") from failure
                self._written, self.is_behind = intended, was_behind
                return
        raise Refused("not_stored", "writing it down takes too long")

    def settled(self) -> None:
        """Have the state written as it is now: what was intended is applied, or never will be."""
        self._intending = False
        self.ask()

    def ask(self) -> None:
        """Have the state written, where it differs from what is written, and what happened since; nobody waits."""
        self._asked += 1
        self._due.set()

    async def write(self) -> None:
        """Have it written, and wait for it: until it is done, has failed once, or takes longer than PATIENCE_S.

        What is not written then is written later: what is applied stays applied.
        """
        self.ask()
        mine = self._asked
        with trio.move_on_after(PATIENCE_S):
            while self._tried < mine and not self._is_over:
                await self._turned.wait()

    def close(self) -> None:
        """Let `keep` end once all is written."""
        self._closing = True
        self.ask()

    async def keep(self) -> None:
        """Write what is asked for until closed, and again what failed."""
        tries = 0
        while True:
            await self._due.wait()
            self._due = trio.Event()
            asked, closing = self._asked, self._closing
            done = await self._try()
            tries = tries + 1 if closing else 0
            self._tried, self._is_over = asked, closing and (done or tries == LAST_TRIES)
            self._turned.set()
            self._turned = trio.Event()
            if self._is_over:
                return
            if not done:
                await trio.sleep(RETRY_S)
                self._due.set()

    async def _try(self) -> bool:
        async with self._writing:
            lines, self._unwritten = self._unwritten, []
            try:
                if lines:  # first, for a stream's end is told where its state is written, and nothing follows it
                    await self._archive.append(self._stream.id, self._read().epoch, lines)
                    lines = []
                await self._save()
            except ArchiveFailed as failure:
                log.error("archive_failed", stream=self._stream.id, detail=str(failure))
                self._unwritten = (lines + self._unwritten)[-MAX_UNWRITTEN:]
                self.is_behind = True
                return False
            return True

    async def _save(self) -> None:
        if self._intending:
            return  # the wider state that still holds must not be written over the narrower one that is to come
        state = self._read()
        current = record(self._stream, state, Now.read(self._clock))
        if self._written is None or not _same(current, self._written):
            self._written = None
            await self._archive.save_stream(current)
            self._written = current
        if self._read() == state and not self._intending:
            self.is_behind = False


def _same(one: StreamRecord, other: StreamRecord) -> bool:
    if (one.ends_at is None) != (other.ends_at is None):
        return False
    near = all(abs(here - there) < ROUNDING_MS for here, there in zip(_times(one), _times(other), strict=True))
    near = near and abs(one.shown_ms - other.shown_ms) < SHOWN_MS
    timeless = [msgspec.structs.replace(each, ends_at=None, switches_at=None, shown_ms=0) for each in (one, other)]
    return near and timeless[0] == timeless[1]


def _times(record: StreamRecord) -> tuple[int, int]:
    return record.ends_at or 0, record.switches_at or 0
