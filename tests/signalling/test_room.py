"""Rooms over the real media: real sockets and DTLS; who loses the right gets not one packet more."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from media.door import Disconnected, Media, MediaSettings
from media.webrtc.ice import IceCredentials
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.showing import Scene, Stream
from signalling.policy.state import RoomState
from signalling.ports import ArchivedEvent, ArchiveFailed, StreamRecord
from signalling.refusals import Refused
from signalling.rooms.room import Room
from signalling.wire.events import ChatMessage
from signalling.wire.views import Person
from tests.media.test_door import KEY, LIMITS, Remote, write_offer

OWNER, ANN, BOB = AccountId("owner"), AccountId("ann"), AccountId("bob")


class Wall:
    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class Notebook:
    """An archive and listeners that write everything into one list, in order."""

    def __init__(self) -> None:
        self.lines: list[object] = []
        self.failing = False

    async def save_stream(self, record: StreamRecord) -> None:
        await trio.lowlevel.checkpoint()
        if self.failing:
            raise ArchiveFailed("the disk is full")
        self.lines.append(("saved", record.mode))

    async def append(self, stream_id: StreamId, epoch: int, events: list[ArchivedEvent | ChatMessage]) -> None:
        await trio.lowlevel.checkpoint()
        self.lines.append(("appended", tuple(event.type for event in events if isinstance(event, ArchivedEvent))))

    async def load(self) -> list[StreamRecord]:
        return []

    async def recent_chat(self, stream_id: StreamId, limit: int) -> list[ChatMessage]:
        return []

    async def find_account(self, name: str) -> AccountId | None:
        return None

    async def names(self, accounts: list[AccountId]) -> dict[AccountId, str]:
        return {}

    def tell(self, events: list[e.Event], scene: Scene) -> None:
        self.lines += events

    def is_present(self, account: AccountId) -> bool:
        return False


def actor(account: AccountId) -> Actor:
    return Actor(account, account)


class Stage:
    def __init__(self, media: Media, nursery: trio.Nursery) -> None:
        self.media, self.nursery, self.notes = media, nursery, Notebook()
        stream = Stream(StreamId("s"), 1, Person(OWNER, "owner"), "video", 0)
        self.room = Room(
            stream,
            RoomState(OWNER),
            media=media,
            archive=self.notes,
            listeners=self.notes,
            clock=Wall(),
            changed=lambda _: None,
            arrived=lambda stream, actor: None,
            displaced=lambda stream, account, session: None,
        )
        self.remotes: list[Remote] = []
        self.gone: list[Disconnected] = []
        self.seq = 0

    async def pass_facts_on(self) -> None:
        async for fact in self.media.events:
            if isinstance(fact, Disconnected):
                self.gone.append(fact)
            self.room.notice(fact)

    async def enter(self, account: AccountId, *, publishes: bool = False) -> Remote:
        remote = Remote(IceCredentials.random(), self.media.address)
        self.remotes.append(remote)
        offer = write_offer(remote.ice, "sendonly" if publishes else "recvonly")
        open_session = self.room.publish if publishes else self.room.watch
        negotiated = open_session(actor(account), offer)
        await remote.connect(negotiated.answer_sdp, self.nursery)
        return remote

    async def show(self, publisher: Remote, frames: int = 20) -> None:
        """Publish frames, and wait until whoever may see them has them."""
        for _ in range(frames):
            await publisher.send(self.seq, KEY + self.seq.to_bytes(4))
            self.seq += 1
        for _ in range(3):
            await self.media.fence()
        await trio.sleep(0.02)

    async def wait_for(self, kind: type) -> None:
        with trio.fail_after(2):
            while not any(isinstance(line, kind) for line in self.notes.lines):  # noqa: ASYNC110
                await trio.sleep(0.005)

    async def switch(self, mode: Mode) -> list[e.Event]:
        await self.room.command(actor(OWNER), c.PrepareMode(mode, "token"))
        return (await self.room.command(actor(OWNER), c.ConfirmMode("token"))).events


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    with ExitStack() as sockets:  # closed after the tasks that read them
        async with trio.open_nursery() as nursery:
            media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
            await nursery.start(lambda task_status: media.run(task_status=task_status))
            stage = Stage(media, nursery)
            await nursery.start(lambda task_status: stage.room.run(task_status=task_status))
            nursery.start_soon(stage.pass_facts_on)
            sockets.callback(lambda: [remote.socket.close() for remote in stage.remotes])
            try:
                yield stage
            finally:
                nursery.cancel_scope.cancel()


def seen(remote: Remote) -> list[int]:
    return [int.from_bytes(packet[14:18]) for packet in remote.rtp if packet[12:] != b"opus"]


async def test_ticket_only_cuts_first_then_tells_then_archives_and_holders_lose_nothing() -> None:
    async with open_stage() as stage:
        streamer = await stage.enter(OWNER, publishes=True)
        holder, other = await stage.enter(ANN), await stage.enter(BOB)
        await stage.room.command(actor(OWNER), c.GrantTicket(ANN))
        await stage.show(streamer)
        assert seen(other) == list(range(20))
        stage.notes.lines.clear()
        events = await stage.switch(Mode.PAID)
        epoch = stage.room.state.epoch
        assert events == [
            e.ModeSwitched(Mode.PAID, epoch, (BOB,)),
            e.AccessRevoked(BOB, epoch, "ticket_required", ("ticket",)),
        ]
        await stage.show(streamer)
        assert seen(other) == list(range(20))
        assert seen(holder) == list(range(40))
        order = [line for line in stage.notes.lines if not isinstance(line, e.ModePrepared)]
        assert order == [
            ("appended", ("ModePrepared",)),
            ("saved", Mode.PAID),
            *events,
            ("appended", ("ModeSwitched", "AccessRevoked")),
        ]
        assert [fact.reason for fact in stage.gone] == ["access_revoked"]


async def test_who_was_removed_stays_out_until_the_right_is_back() -> None:
    async with open_stage() as stage:
        streamer = await stage.enter(OWNER, publishes=True)
        await stage.enter(ANN)
        await stage.enter(BOB)
        await stage.room.command(actor(OWNER), c.GrantTicket(ANN))
        await stage.switch(Mode.PAID)
        with pytest.raises(Refused) as caught:
            await stage.enter(BOB)
        assert (caught.value.code, caught.value.extra) == ("ticket_required", {"readmit": ("ticket",)})
        await stage.room.command(actor(OWNER), c.GrantTicket(BOB))
        again = await stage.enter(BOB)
        await stage.show(streamer)
        assert len(seen(again)) == 20


async def test_an_ice_restart_is_no_way_back_in() -> None:
    async with open_stage() as stage:
        await stage.enter(OWNER, publishes=True)
        remote = Remote(IceCredentials.random(), stage.media.address)
        stage.remotes.append(remote)
        watched = stage.room.watch(actor(BOB), write_offer(remote.ice, "recvonly"))
        stage.room.state = RoomState(OWNER, mode=Mode.PAID)
        fresh = IceCredentials.random()
        with pytest.raises(Refused):
            stage.room.restart_ice(watched.transport, f"a=ice-ufrag:{fresh.ufrag}\r\na=ice-pwd:{fresh.password}\r\n")


async def test_in_a_one_to_one_both_see_each_other_and_the_others_come_back_by_themselves() -> None:
    async with open_stage() as stage:
        streamer = await stage.enter(OWNER, publishes=True)
        guest, other = await stage.enter(ANN), await stage.enter(BOB)
        await stage.show(streamer)
        with pytest.raises(Refused):
            await stage.enter(ANN, publishes=True)
        await stage.room.command(actor(ANN), c.RequestOneToOne())
        await stage.room.command(actor(OWNER), c.AcceptOneToOne(ANN, 300))
        guest_camera = await stage.enter(ANN, publishes=True)
        await guest_camera.send(1, KEY + bytes(4))
        await stage.wait_for(e.OneToOneStarted)
        callback = await stage.enter(OWNER)
        await stage.show(streamer)
        for seq in range(2, 6):
            await guest_camera.send(seq, KEY + seq.to_bytes(4))
        await stage.show(streamer)
        assert seen(guest) == list(range(60))
        assert seen(other) == list(range(20))
        assert {2, 3, 4, 5} <= set(seen(callback))
        await stage.room.command(actor(ANN), c.EndOneToOne())
        before = len(callback.rtp)
        await guest_camera.send(9, KEY + (9).to_bytes(4))
        await stage.show(streamer)
        assert seen(other) == [*range(20), *range(60, 80)]
        assert len(callback.rtp) == before


async def test_an_ended_stream_closes_every_transport() -> None:
    async with open_stage() as stage:
        await stage.enter(OWNER, publishes=True)
        await stage.enter(ANN)
        await stage.room.command(actor(OWNER), c.EndStream())
        with trio.fail_after(2):
            await stage.room.ended.wait()
        assert stage.media.counters()["transports"] == 0
        with pytest.raises(Refused):
            stage.room.watch(actor(ANN), write_offer(IceCredentials.random(), "recvonly"))


async def test_what_cannot_be_written_down_is_not_done() -> None:
    async with open_stage() as stage:
        await stage.enter(OWNER, publishes=True)
        stage.notes.failing = True
        with pytest.raises(Refused) as caught:
            await stage.room.command(actor(OWNER), c.GrantTicket(ANN))
        assert caught.value.code == "not_stored"
        assert stage.room.state.tickets == frozenset()
        stage.notes.failing = False
        await stage.room.command(actor(OWNER), c.GrantTicket(ANN))
        assert stage.room.state.tickets == {ANN}


async def test_a_command_goes_on_when_its_caller_is_cancelled() -> None:
    async with open_stage() as stage:
        await stage.enter(OWNER, publishes=True)
        await stage.enter(BOB)
        await stage.room.command(actor(OWNER), c.PrepareMode(Mode.PAID, "token"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.room.command, actor(OWNER), c.ConfirmMode("token", allow_empty=True))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await stage.wait_for(e.AccessRevoked)


async def test_the_picture_starts_is_interrupted_and_resumes() -> None:
    async with open_stage() as stage:
        streamer = await stage.enter(OWNER, publishes=True)
        await stage.show(streamer, 2)
        await stage.wait_for(e.StreamStarted)
        stage.media.close(next(iter(stage.room.members)).transport, "lost")
        await stage.wait_for(e.StreamInterrupted)
        assert stage.room.state.picture == "interrupted"
        streamer = await stage.enter(OWNER, publishes=True)
        await stage.show(streamer, 2)
        await stage.wait_for(e.StreamResumed)


async def test_a_fault_in_a_room_ends_the_room_and_frees_its_rows() -> None:
    async with trio.open_nursery() as nursery:
        media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        stage = Stage(media, nursery)
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            async with trio.open_nursery() as inner:
                await inner.start(lambda task_status: stage.room.run(task_status=task_status))
                stage.notes.tell = lambda *_: 1 / 0  # type: ignore[method-assign]
                with pytest.raises(Refused, match="internal_error"):
                    await stage.room.command(actor(OWNER), c.SetTimeLimit(60))
        assert stage.room.ended.is_set()
        with pytest.raises(Refused):
            await stage.room.command(actor(OWNER), c.SetTimeLimit(60))
        nursery.cancel_scope.cancel()
