"""Rooms in a world of their own: Trio's clock, media without sockets, a disk that fails on demand, and clients.

Only the edges are made here. What decides is real: the registry, the rooms, the policy, the writer of the admission
columns, and the kernel's own verdict over them.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import trio
import trio.testing

from media.door import (
    Attendee,
    Connected,
    Disconnected,
    Flowing,
    Media,
    MediaEvent,
    Negotiated,
    NoSource,
    RoomRow,
    TransportId,
)
from media.forwarding.admission import FOREVER, NOTHING, Admission, Grant, Holding
from media.forwarding.forwarder import NoCapacity
from media.forwarding.kernel.verdicts import ADMITTED, verdict
from media.forwarding.tables import ROOM, TRACK, TRANSPORT, Tables
from media.moq.relaying.rights import Rights
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.policy import commands as c
from signalling.ports import ArchivedEvent, ArchiveFailed, StreamRecord
from signalling.rooms.room import Room
from signalling.rooms.rooms import Rooms
from signalling.sessions.media_sessions import MediaSession
from signalling.sessions.session import Session
from signalling.wire import views as v
from signalling.wire.events import ChatMessage
from signalling.wire.messages import Encoding
from signalling.wire.requests import Resume

SECOND_NS = 1_000_000_000
FENCE_S = 0.001
WALL_MS = 1_800_000_000_000


class SimulatedClock:
    """Trio's clock, in ns; the wall clock goes with it."""

    def now_ns(self) -> int:
        return round(trio.current_time() * SECOND_NS)

    def wall_ms(self) -> int:
        return WALL_MS + self.now_ns() // 1_000_000


@dataclass
class Transport:
    id: TransportId
    row: int
    room: RoomRow
    source: str
    publishes: bool
    got: list[tuple[int, int]] = field(default_factory=list)  # when (ns), and what


class SimulatedMedia:
    """Media's door without a network: a packet passes by the kernel's verdict over the real admission columns."""

    def __init__(self, rooms: int = 8, transports: int = 512) -> None:
        tables = SimpleNamespace(
            rooms=np.zeros(rooms, ROOM), transports=np.zeros(transports, TRANSPORT), tracks=np.zeros(rooms, TRACK)
        )
        self._tables = cast(Tables, tables)
        self._admission = Admission(self._tables)
        self._free = list(range(rooms))
        self._free_rows = list(range(transports))
        self._numbers = itertools.count(1)
        self.transports: dict[TransportId, Transport] = {}
        self.open_rooms: set[RoomRow] = set()
        self.best_requires: dict[RoomRow, Grant] = {}
        self._tell, self.events = trio.open_memory_channel[MediaEvent](65_536)
        self.dropped = 0  # packets of publishers whose right is over

    def open_room(self, requires: Grant) -> RoomRow:
        if not self._free:
            raise NoCapacity
        row = RoomRow(self._free.pop())
        self._admission.require(row, requires)
        self._admission.open_until(row, FOREVER)
        self.open_rooms.add(row)
        self.best_requires[row] = NOTHING
        return row

    def close_room(self, room: RoomRow) -> None:
        self.open_rooms.remove(room)
        self._admission.open_until(room, 0)
        for transport in [t.id for t in self.transports.values() if t.room == room]:
            self.close(transport, "room_closed")
        self._free.append(room)

    def offer(self, room: RoomRow, source: str, path: str) -> None:
        assert room in self.open_rooms

    def review(self, room: RoomRow, whose: Callable[[Rights], bool] = lambda rights: True) -> None:
        assert room in self.open_rooms

    def audience(self, room: RoomRow) -> list[Attendee]:
        return []

    def delivered_to(self, room: RoomRow, source: str, whose: Callable[[Rights], bool]) -> int:
        return 0

    def require(self, room: RoomRow, requires: Grant) -> None:
        assert room in self.open_rooms
        self._admission.require(room, requires)

    def reserve_best(self, room: RoomRow, grant: Grant) -> None:
        assert room in self.open_rooms
        self.best_requires[room] = grant

    def open_until(self, room: RoomRow, until_ns: int) -> None:
        assert room in self.open_rooms
        self._admission.open_until(room, until_ns)

    def delivered_ns(self, transport: TransportId) -> int:
        """Every publisher sends all the time, also where a test sends no packet of its own."""
        viewer, now_ns = self.transports.get(transport), round(trio.current_time() * SECOND_NS)
        if viewer is None or not self.admits(transport, now_ns):
            return 0
        place = viewer.room, viewer.source
        return now_ns if any(t.publishes and (t.room, t.source) == place for t in self.transports.values()) else 0

    async def fence(self) -> None:
        await trio.sleep(FENCE_S)

    def hold(self, transport: TransportId, holding: Holding) -> None:
        if transport in self.transports:
            self._admission.hold(self.transports[transport].row, holding)

    def publish_until(self, transport: TransportId, until_ns: int) -> None:
        if transport in self.transports:
            self._admission.publish_until(self.transports[transport].row, until_ns)

    def publish(
        self, room: RoomRow, source: str, offer_sdp: str, *, until_ns: int, kinds: tuple[str, ...]
    ) -> Negotiated:
        opened = self._open(room, source, publishes=True)
        self._admission.publish_until(opened.row, until_ns)
        return Negotiated(opened.id, "answer", '"first"')

    def watch(self, room: RoomRow, source: str, offer_sdp: str, holding: Holding) -> Negotiated:
        if not any(t.publishes and (t.room, t.source) == (room, source) for t in self.transports.values()):
            raise NoSource(source)
        opened = self._open(room, source, publishes=False)
        self._admission.hold(opened.row, holding)
        return Negotiated(opened.id, "answer", '"first"')

    def is_ice_restart(self, transport: TransportId, sdpfrag: str) -> bool:
        assert self.transports[transport]
        return True

    def restart_ice(self, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        assert self.transports[transport]
        return '"next"', "fragment"

    def close(self, transport: TransportId, reason: str) -> None:
        closed = self.transports.pop(transport, None)
        if closed is not None:
            self._admission.hold(closed.row, Holding(NOTHING))
            self._free_rows.append(closed.row)
            self._tell.send_nowait(Disconnected(transport, reason))

    def _open(self, room: RoomRow, source: str, *, publishes: bool) -> Transport:
        assert room in self.open_rooms
        if not self._free_rows:
            raise NoCapacity
        opened = Transport(TransportId(next(self._numbers)), self._free_rows.pop(), room, source, publishes)
        self._tables.transports[opened.row] = 0
        self.transports[opened.id] = opened
        return opened

    # -- what clients do -----------------------------------------------------------------------------------------------

    def connect(self, transport: TransportId) -> None:
        self._tell.send_nowait(Connected(transport))

    def flow(self, transport: TransportId) -> None:
        self._tell.send_nowait(Flowing(transport))

    def admits(self, transport: TransportId, now_ns: int) -> bool:
        return self._admits(transport, NOTHING, now_ns)

    def gives_best(self, transport: TransportId, now_ns: int) -> bool:
        return self._admits(transport, self.best_requires[self.transports[transport].room], now_ns)

    def _admits(self, transport: TransportId, layer_requires: Grant, now_ns: int) -> bool:
        row = self._tables.transports[self.transports[transport].row]
        room = self._tables.rooms[self.transports[transport].room]
        requires = int(room["requires"]) | int(layer_requires)
        given = (requires, *(int(x) for x in (room["open_until"], row["holds"], row["until"], row["keeps"])))
        return bool(verdict(*given, now_ns) == ADMITTED)

    def send(self, transport: TransportId, number: int, now_ns: int) -> None:
        """Let a publisher send one packet."""
        sender = self.transports[transport]
        if now_ns >= self._tables.transports["publish_until"][sender.row]:
            self.dropped += 1
            return
        for viewer in self.transports.values():
            same = (viewer.room, viewer.source) == (sender.room, sender.source)
            if same and not viewer.publishes and self.admits(viewer.id, now_ns):
                viewer.got.append((now_ns, number))


class Disk:
    """An archive on a disk that writes in order, slowly, and fails on demand; what a crash leaves is in `records`."""

    def __init__(self, records: dict[StreamId, StreamRecord] | None = None) -> None:
        self.records: dict[StreamId, StreamRecord] = dict(records or {})
        self.lines: list[str] = []
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.fails: Callable[[], bool] = lambda: False
        self._asked, self._queue = trio.open_memory_channel[_Write](10_000)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async for write in self._queue:
            await trio.sleep(self.delay_s())
            write.failed = self.fails()
            if not write.failed:
                write.work()
            write.done.set()

    async def _write(self, work: Callable[[], None]) -> None:
        write = _Write(work)
        self._asked.send_nowait(write)
        await write.done.wait()
        if write.failed:
            raise ArchiveFailed("the disk is full")

    async def load(self) -> list[StreamRecord]:
        await trio.lowlevel.checkpoint()
        return [record for record in self.records.values() if record.ended is None]

    async def save_stream(self, record: StreamRecord) -> None:
        await self._write(lambda: self.records.update({record.id: record}))

    async def append(self, stream_id: StreamId, epoch: int, events: list[ArchivedEvent | ChatMessage]) -> None:
        lines = [event.type if isinstance(event, ArchivedEvent) else "said" for event in events]
        await self._write(lambda: self.lines.extend(lines))

    async def recent_chat(self, stream_id: StreamId, limit: int) -> list[ChatMessage]:
        await trio.lowlevel.checkpoint()
        return []

    async def find_account(self, name: str) -> AccountId | None:
        await trio.lowlevel.checkpoint()
        return AccountId(name)

    async def names(self, accounts: list[AccountId]) -> dict[AccountId, str]:
        await trio.lowlevel.checkpoint()
        return {account: str(account) for account in accounts}


@dataclass
class _Write:
    work: Callable[[], None]
    done: trio.Event = field(default_factory=trio.Event)
    failed: bool = False


class Client:
    """One signalling client: `heard` is every event that arrived, in order; a lost connection loses what is sent."""

    def __init__(self, rooms: Rooms, actor: Actor) -> None:
        self.rooms, self.actor = rooms, actor
        self.heard: list[dict[str, Any]] = []
        self.last_event = 0
        self._line: _Line | None = None
        self.closed_for: str | None = None
        self.session: Session | None = None
        self.connect()

    @property
    def connected(self) -> bool:
        return self._line is not None

    def connect(self) -> None:
        """Connect for the first time, or come back with what was heard last."""
        resume = None if self.session is None else Resume(session=self.session.id, after=self.last_event)
        self._line = _Line(self)
        former, self.session = self.session, self.rooms.attach(self.actor, Encoding.JSON, self._line, resume)
        if former is not self.session:
            self.last_event = 0

    def lose(self) -> None:
        """Lose the connection; the server notices when it likes: here at once."""
        assert self._line is not None
        assert self.session is not None
        line, self._line = self._line, None
        self.session.detach(line)

    def hear(self, line: _Line, frame: bytes) -> None:
        if line is self._line:
            event = msgspec.json.decode(frame)
            if event["type"] == "welcome" and not event["resumed"]:
                self.heard.clear()
            if event["type"] == "gap" or event["type"] == "welcome":
                self.last_event = event["event"]
            elif "event" in event:
                assert event["event"] == self.last_event + 1, f"{self.actor.name} missed events before {event}"
                self.last_event += 1
            self.heard.append(event)

    def types(self) -> list[str]:
        return [event["type"] for event in self.heard]

    def last(self, type: str) -> dict[str, Any]:
        return next(event for event in reversed(self.heard) if event["type"] == type)


class _Line:
    """An outbox of unlimited size whose client reads at once."""

    fanout = None

    def __init__(self, client: Client) -> None:
        self._client = client

    def offer(self, frame: bytes, *, droppable: bool = False, key: str | None = None) -> None:
        self._client.hear(self, frame)

    def waiting(self) -> int:
        return 0

    def close(self, reason: str) -> None:
        self._client.closed_for = reason


class World:
    """A registry that runs over simulated media and a disk."""

    def __init__(self, disk: Disk, nursery: trio.Nursery) -> None:
        self.disk, self.media, self.clock, self.nursery = disk, SimulatedMedia(), SimulatedClock(), nursery
        self.rooms = Rooms(cast(Media, self.media), disk, self.clock)
        self.transports: dict[str, TransportId] = {}
        self._numbers = itertools.count()

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns()

    def room(self, stream: StreamId) -> Room:
        return self.rooms._registry.find(stream, None).room

    async def create(self, owner: Actor, mode: Mode = Mode.PUBLIC) -> StreamId:
        return (await self.rooms.create_stream(owner, title="A stream", mode=mode)).card.id

    async def publish(self, stream: StreamId, actor: Actor) -> MediaSession:
        """Publish, connect, and send the first packet."""
        session = self._placed(await self.rooms.media_sessions.publish(stream, actor, "offer"))
        self.media.connect(self.transports[session.session_id])
        self.media.flow(self.transports[session.session_id])
        await trio.testing.wait_all_tasks_blocked()
        return session

    async def watch(self, stream: StreamId, actor: Actor) -> MediaSession:
        session = self._placed(await self.rooms.media_sessions.watch(stream, actor, "offer"))
        self.media.connect(self.transports[session.session_id])
        await trio.testing.wait_all_tasks_blocked()
        return session

    def _placed(self, session: MediaSession) -> MediaSession:
        self.transports[session.session_id] = self.rooms.media_sessions._places[session.session_id].transport
        return session

    def transport(self, session: MediaSession) -> Transport | None:
        """The transport of a media session while it lives."""
        return self.media.transports.get(self.transports[session.session_id])

    def send_all(self) -> None:
        """Let every publisher send one packet."""
        for transport in tuple(self.media.transports.values()):
            if transport.publishes:
                self.media.send(transport.id, next(self._numbers), self.now_ns)

    async def client(self, actor: Actor, *streams: StreamId) -> Client:
        client = Client(self.rooms, actor)
        for stream in streams:
            assert client.session is not None
            await self.rooms.join(client.session, stream)
        return client

    async def switch(self, stream: StreamId, owner: Actor, mode: Mode) -> v.ModeChanged:
        prepared = await self.rooms.command(stream, owner, c.PrepareMode(mode, f"token {next(self._numbers)}"))
        assert isinstance(prepared, v.Prepared)
        changed = await self.rooms.command(stream, owner, c.ConfirmMode(prepared.confirm_token, allow_empty=True))
        assert isinstance(changed, v.ModeChanged)
        return changed


@asynccontextmanager
async def open_world(disk: Disk | None = None) -> AsyncIterator[World]:
    """Run a world; leaving it is a crash: what the disk had not written is lost."""
    async with trio.open_nursery() as nursery:
        disk = disk or Disk()
        await nursery.start(disk.run)
        world = World(disk, nursery)
        await nursery.start(lambda task_status: world.rooms.run(task_status=task_status))
        try:
            yield world
        finally:
            nursery.cancel_scope.cancel()


def actor(name: str) -> Actor:
    return Actor(AccountId(name), name)
