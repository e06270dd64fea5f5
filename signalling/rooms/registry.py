"""Keeps a node's rooms: opens, restores and ends them, each in a nursery of its own, and finds them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog
import trio

from media.door import NoCapacity, RoomRow
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy import events as e
from signalling.policy.showing import Now, Stream, record, restored
from signalling.policy.state import RoomState
from signalling.policy.step import WAITING_NS
from signalling.ports import Archive, ArchiveFailed, Clock, Gate, StreamRecord
from signalling.refusals import Refused
from signalling.rooms.audience import Audience
from signalling.rooms.chat import Chat
from signalling.rooms.room import Room

REMEMBERED = 10_000  # ended streams of which one can still say that they ended
CHAT_SHOWN = 50  # messages brought back after a restart

log = structlog.get_logger("signalling")


@dataclass(slots=True)
class Live:
    """A room and who listens to it."""

    room: Room
    audience: Audience
    chat: Chat


@dataclass(slots=True)
class _Opening:
    """A stream on its way to be written down and to run."""

    live: Live
    done: trio.Event = field(default_factory=trio.Event)
    refusal: Refused | None = None


class Surroundings(Protocol):
    """What rooms are made with, and who follows their coming and going."""

    def make(self, stream: Stream, state: RoomState, chat: Chat) -> Live:
        """Make a room that does not run yet; raises NoCapacity."""

    def began(self, live: Live) -> None:
        """Hear that a room runs."""

    def ended(self, live: Live) -> None:
        """Hear that a room is over, of whatever."""

    def hear(self, stream: StreamId, events: Sequence[e.Event]) -> None:
        """Hear what a room that died of a fault could not say itself."""


class Registry:
    """All rooms of a node, in the nursery that `run` gives them."""

    def __init__(self, surroundings: Surroundings, archive: Archive, clock: Clock, gate: Gate) -> None:
        self._surroundings, self._archive, self._clock, self._gate = surroundings, archive, clock, gate
        self._running: dict[StreamId, Live] = {}
        self._by_row: dict[RoomRow, Live] = {}
        self._owners: dict[AccountId, StreamId] = {}
        self._ended: OrderedDict[StreamId, frozenset[AccountId]] = OrderedDict()  # from whom each was hidden
        self._last_number = 0
        self._nursery: trio.Nursery | None = None
        self.faults = 0  # rooms ended by an exception of ours

    async def restore(self, nursery: trio.Nursery) -> None:
        """Run in a nursery what the archive says was running, and from now on what is opened."""
        self._nursery = nursery
        now = Now.read(self._clock)
        everything = sorted(await self._archive.load(), key=lambda written: written.number)
        newest = {written.owner: written.id for written in everything}
        for written in everything:
            self._last_number = max(self._last_number, written.number)
            if newest[written.owner] != written.id:  # its end could not be written down
                await self._supersede(written)
            else:
                await self._resume(written, now)

    async def reopen(self, id: StreamId) -> bool:
        """Run a stream again that had ended, and in the archive has not; returns whether it runs.

        Where its streamer has another one by now, it is over for good. Raises ArchiveFailed.
        """
        written = next((each for each in await self._archive.load() if each.id == id), None)
        if written is None or id in self._running:
            return False
        return await self._resume(written, Now.read(self._clock))

    async def _resume(self, written: StreamRecord, now: Now) -> bool:
        stream, state = restored(written, now, now.ns + WAITING_NS)
        chat = Chat(stream.id, await self._archive.recent_chat(stream.id, CHAT_SHOWN))
        if stream.owner.id in self._owners:
            await self._supersede(written)
            return False
        try:
            live = self._surroundings.make(stream, state, chat)
        except NoCapacity:
            log.error("no_room_for_stream", stream=stream.id)  # it stays in the archive, for a node with more
            return False
        self._owners[stream.owner.id] = stream.id
        await self._start(live)
        return True

    async def _supersede(self, written: StreamRecord) -> None:
        await self._archive.save_stream(msgspec.structs.replace(written, ended="superseded"))

    # -- looking up ----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._running)

    def all(self) -> list[Live]:
        """Return the rooms that run."""
        return list(self._running.values())

    def get(self, stream: StreamId | None) -> Live | None:
        """Return a running room."""
        return None if stream is None else self._running.get(stream)

    def at(self, row: RoomRow) -> Live | None:
        """Return the running room of a row in media."""
        return self._by_row.get(row)

    def find(self, stream: StreamId, viewer: Actor | None) -> Live:
        """Return a running room; to those from whom it is hidden it is one that never was.

        Raises Refused (stream_ended, stream_unknown).
        """
        live = self._running.get(stream)
        hidden = self._ended.get(stream, frozenset()) if live is None else live.room.state.hidden
        if viewer is not None and viewer.account in hidden and not viewer.admin:
            raise Refused("stream_unknown")
        if live is not None:
            return live
        raise Refused("stream_ended" if stream in self._ended else "stream_unknown")

    def of(self, owner: AccountId) -> Live | None:
        """Return the running room of a streamer."""
        return self.get(self._owners.get(owner))

    # -- a room's life -------------------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """Return what orders a stream behind all before it, also those of the same millisecond."""
        self._last_number = max(self._last_number + 1, self._clock.wall_ms())
        return self._last_number

    def require_none(self, owner: AccountId) -> None:
        """Raise Refused("already_live") for who has a stream, also one on its way."""
        if owner in self._owners:
            raise Refused("already_live", stream=self._owners[owner])

    async def open(self, stream: Stream, state: RoomState) -> None:
        """Write a stream down and run its room. Raises Refused("not_stored") and NoCapacity.

        In the nursery of all: a caller that is cancelled leaves no stream that is written down and does not run.
        """
        assert self._nursery is not None, "rooms live in a nursery"
        opening = _Opening(self._surroundings.make(stream, state, Chat(stream.id)))
        self._owners[stream.owner.id] = stream.id
        self._nursery.start_soon(self._write_and_host, opening)
        await opening.done.wait()
        if opening.refusal is not None:
            raise opening.refusal

    async def _write_and_host(self, opening: _Opening) -> None:
        room, owner = opening.live.room, opening.live.room.stream.owner.id
        try:
            await self._archive.save_stream(record(room.stream, room.state, Now.read(self._clock)))
            await self._start(opening.live)
        except Exception as fault:
            if not isinstance(fault, ArchiveFailed):
                log.exception("stream_not_opened", stream=room.stream.id)
            opening.refusal = Refused("not_stored")
            self._owners.pop(owner, None)
            room.shut()
        finally:
            opening.done.set()

    async def _start(self, live: Live) -> None:
        assert self._nursery is not None, "rooms live in a nursery"
        demands = await self._gate.demands_of(live.room.stream.id)  # nobody can change them before the room runs
        # No checkpoint from the answer to the entry into `_running`: a block that comes later finds the room.
        live.room.restrict(await self._gate.hidden_from(live.room.stream.owner.id), demands)
        self._running[live.room.stream.id] = self._by_row[live.room.row] = live
        self._surroundings.began(live)
        await self._nursery.start(self._host, live)

    async def _host(  # noqa: ASYNC128  (the room itself reports that it has started)
        self, live: Live, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await live.room.run(task_status=task_status)
        except Exception:
            self.faults += 1
            log.exception("room_fault", stream=live.room.stream.id)
            live.room.fail()
            await self._bury(live)
        finally:
            self._close(live)

    async def _bury(self, live: Live) -> None:
        """Say that a room is over that died of a fault, which may strike again while it is said."""
        try:
            live.audience.tell([e.StreamEnded("internal_error")], live.room.scene)
        except Exception:
            log.exception("room_fault_untold", stream=live.room.stream.id)
            for session in live.audience.sessions():
                session.close("internal_error")  # who comes back finds the stream ended
        self._surroundings.hear(live.room.stream.id, [e.StreamEnded("internal_error")])
        try:
            await self._archive.save_stream(record(live.room.stream, live.room.state, Now.read(self._clock)))
        except Exception:
            log.exception("room_end_unwritten", stream=live.room.stream.id)

    def _close(self, live: Live) -> None:
        stream = live.room.stream
        self._running.pop(stream.id, None)
        if self._by_row.get(live.room.row) is live:
            del self._by_row[live.room.row]
        if self._owners.get(stream.owner.id) == stream.id:
            del self._owners[stream.owner.id]
        self._ended[stream.id] = live.room.state.hidden
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        for session in live.audience.sessions():
            live.audience.leave(session)
        self._surroundings.ended(live)
