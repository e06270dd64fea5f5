"""The registry and its rooms where things go wrong: slow and full disks, faults, races, and people who come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from media.forwarding.forwarder import NoCapacity
from signalling.identifiers import Mode, StreamId
from signalling.policy import commands as c
from signalling.ports import ArchiveFailed, StreamRecord
from signalling.refusals import Refused
from signalling.rooms.minutes import PATIENCE_S
from signalling.sessions.media_sessions import MediaSession
from signalling.wire import views as v
from tests.signalling.worlds import Client, Disk, World, actor, open_world

OWNER, ANN, BOB, CAT = (actor(name) for name in ("owner", "ann", "bob", "cat"))


async def settle() -> None:
    await trio.sleep(1)
    await wait_all_tasks_blocked()


async def start_one_to_one(world: World, stream: StreamId) -> MediaSession:
    """Let Ann, who is present, be called; returns the session of her camera."""
    await world.rooms.command(stream, ANN, c.RequestOneToOne())
    await world.rooms.command(stream, OWNER, c.AcceptOneToOne(ANN.account, 300))
    return await world.publish(stream, ANN)


def got(world: World, session: MediaSession) -> int:
    """Count the packets that one more of everybody's brings to a viewer."""
    transport = world.transport(session)
    if transport is None:
        return 0
    before = len(transport.got)
    world.send_all()
    return len(transport.got) - before


# -- between two stores ------------------------------------------------------------------------------------------------


async def test_whoever_may_watch_before_and_after_a_switch_misses_nothing_and_nobody_else_gets_a_packet(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        others = [await world.watch(stream, actor(f"other{number}")) for number in range(3)]
        ann = await world.watch(stream, ANN)
        seen: list[tuple[int, int]] = []
        for name in ("require", "hold", "open_until"):
            store = getattr(world.media, name)

            def store_and_look(*arguments: object, store: Callable[..., None] = store) -> None:
                store(*arguments)
                seen.append((got(world, ann), sum(got(world, other) for other in others)))

            monkeypatch.setattr(world.media, name, store_and_look)

        async def switched(how: Callable[[], Awaitable[object]]) -> list[tuple[int, int]]:
            seen.clear()
            await how()
            await wait_all_tasks_blocked()
            return list(seen)

        await world.rooms.command(stream, ANN, c.RequestOneToOne())
        accept, end = c.AcceptOneToOne(ANN.account, 300), c.EndOneToOne()
        for how in (
            lambda: world.rooms.command(stream, OWNER, accept),
            lambda: world.rooms.command(stream, OWNER, end),
        ):
            moments = await switched(how)
            assert len(moments) > 4
            assert {anns for anns, _ in moments} == {1}
        await world.rooms.command(stream, OWNER, c.GrantTicket(ANN.account))
        moments = await switched(lambda: world.switch(stream, OWNER, Mode.PAID))
        assert {anns for anns, _ in moments} == {1}
        counts = [others for _, others in moments]
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] == 0


# -- disks -------------------------------------------------------------------------------------------------------------


async def test_on_a_full_disk_a_door_can_be_shut_and_none_can_be_opened(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        ann, bob = await world.watch(stream, ANN), await world.watch(stream, BOB)
        await world.rooms.command(stream, OWNER, c.GrantTicket(ANN.account))
        world.disk.fails = lambda: True
        with pytest.raises(Refused, match="not_stored"):
            await world.rooms.command(stream, OWNER, c.GrantTicket(BOB.account))
        assert (await world.switch(stream, OWNER, Mode.PAID)).removed == ("bob",)
        assert (got(world, ann), got(world, bob)) == (1, 0)
        await world.rooms.command(stream, OWNER, c.Eject(ANN.account))
        assert got(world, ann) == 0
        assert (world.disk.records[stream].mode, world.disk.records[stream].ejected) == (Mode.PUBLIC, ())
        assert world.rooms.counters()["rooms_unwritten"] == 1
        world.disk.fails = lambda: False
        await trio.sleep(2)
        assert (world.disk.records[stream].mode, world.disk.records[stream].ejected) == (Mode.PAID, ("ann",))
        assert world.disk.lines.count("ModeSwitched") == 1
        assert world.rooms.counters()["rooms_unwritten"] == 0


async def test_a_hanging_disk_holds_up_answers_so_long_and_neither_cuts_nor_clocks_nor_facts(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        bob, cat = await world.watch(stream, BOB), await world.client(CAT, stream)
        await world.rooms.command(stream, OWNER, c.SetTimeLimit(70))
        start = trio.current_time()
        world.disk.delay_s = lambda: 1000
        with pytest.raises(Refused, match="not_stored"):
            await world.rooms.command(stream, OWNER, c.GrantTicket(BOB.account))
        assert trio.current_time() - start == pytest.approx(PATIENCE_S, abs=0.01)
        await world.rooms.command(stream, OWNER, c.Eject(BOB.account))
        assert trio.current_time() - start < 3 * PATIENCE_S + 0.1
        assert got(world, bob) == 0
        await trio.sleep(61 - (trio.current_time() - start))
        assert cat.last("stream.warning")["remaining_s"] == 10
        world.media.close(next(iter(world.media.transports)), "lost")
        await wait_all_tasks_blocked()
        assert "stream.interrupted" in cat.types()
        await trio.sleep(10)
        assert cat.last("stream.ended")["reason"] == "time_limit"


async def test_what_was_asked_earlier_is_never_written_over_what_is_intended(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        saved: list[Mode] = []
        save = world.disk.save_stream

        async def note(record: StreamRecord) -> None:
            await save(record)
            saved.append(record.mode)

        world.disk.save_stream = note  # type: ignore[method-assign]
        world.disk.delay_s = lambda: 0.1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.switch, stream, OWNER, Mode.PAID)
            await trio.sleep(0.25)  # the preparation is written, the switch is being written
            for number in range(5):
                nursery.start_soon(world.rooms.command, stream, BOB, c.Chat("hello", str(number)))
            nursery.start_soon(world.rooms.command, stream, OWNER, c.SetTimeLimit(100))
        assert set(saved[saved.index(Mode.PAID) :]) == {Mode.PAID}


async def test_a_stream_that_cannot_be_written_down_does_not_begin_and_takes_no_place(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        world.disk.fails = lambda: True
        for _ in range(20):
            with pytest.raises(Refused, match="not_stored"):
                await world.create(OWNER)
        assert world.media.open_rooms == set()
        world.disk.fails = lambda: False
        assert await world.create(OWNER)


async def test_a_node_that_is_full_writes_down_no_stream_that_it_cannot_run(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        for number in range(8):
            await world.create(actor(f"owner {number}"))
        for _ in range(2):
            with pytest.raises(NoCapacity):
                await world.create(OWNER)
        assert len(world.disk.records) == 8
        await world.rooms.command(next(iter(world.disk.records)), actor("owner 0"), c.EndStream())
        await settle()
        assert await world.create(OWNER)


async def test_a_stream_whose_creator_is_gone_meanwhile_is_there_and_ends_as_any_other(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        world.disk.delay_s = lambda: 1
        with trio.move_on_after(0.5):
            await world.create(OWNER)
        await trio.sleep(2)
        assert [card.streamer.id for card in world.rooms.live(OWNER).streams] == [OWNER.account]
        assert len(world.disk.records) == 1
        with pytest.raises(Refused, match="already_live"):
            await world.create(OWNER)
        await world.rooms.command(next(iter(world.disk.records)), OWNER, c.EndStream())
        await trio.sleep(2)
        assert await world.create(OWNER)


async def test_a_node_starts_with_as_many_of_its_streams_as_it_can_hold(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        first = await world.create(OWNER)
        records = dict(world.disk.records)
    many = {StreamId(f"s{n}"): rewrite(records[first], id=f"s{n}", number=n, owner=f"owner {n}") for n in range(12)}
    async with open_world(Disk(many)) as world:
        assert world.rooms.counters()["rooms"] == 8
        assert all(record.ended is None for record in world.disk.records.values())


async def test_of_two_streams_of_one_streamer_the_newest_survives_a_restart(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        first = await world.create(OWNER)
        record = world.disk.records[first]
    twice = {StreamId(name): rewrite(record, id=name, number=n) for n, name in enumerate(("old", "new"))}
    async with open_world(Disk(twice)) as world:
        assert [card.id for card in world.rooms.live(OWNER).streams] == ["new"]
        assert world.disk.records[StreamId("old")].ended == "superseded"


async def announce(world: World, stream: StreamId, mode: Mode, after_s: int) -> v.ModeChanged:
    await world.rooms.command(stream, OWNER, c.PrepareMode(mode, f"token {mode}"))
    changed = await world.rooms.command(stream, OWNER, c.ConfirmMode(f"token {mode}", True, after_s))
    assert isinstance(changed, v.ModeChanged)
    return changed


async def test_a_switch_that_was_announced_is_told_to_all_and_comes_at_its_time(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        session, client = await world.watch(stream, ANN), await world.client(ANN, stream)
        changed = await announce(world, stream, Mode.PAID, 30)
        at = world.clock.wall_ms() + 30_000
        assert (changed.switches_at, world.rooms.stream(stream, ANN).card.switches_at) == (at, at)
        await trio.sleep(29.9)
        assert got(world, session) == 1
        await trio.sleep(0.2)
        await settle()
        assert got(world, session) == 0
        told = [event for event in client.heard if event["type"].startswith(("stream.mode", "access"))]
        assert [event["type"] for event in told] == ["stream.mode_pending", "stream.mode_changed", "access.revoked"]
        assert (told[0]["mode"], told[0]["at"]) == ("paid", at)


@pytest.mark.parametrize("down_s", [10, 50], ids=["before its time", "after its time"])
async def test_an_announced_switch_outlives_a_restart_and_opens_no_door_late(
    autojump_clock: MockClock, down_s: int
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await announce(world, stream, Mode.PAID, 30)
        records = dict(world.disk.records)
    await trio.sleep(down_s)
    async with open_world(Disk(records)) as world:
        assert world.room(stream).state.mode is (Mode.PUBLIC if down_s < 30 else Mode.PAID)
        await trio.sleep(21)
        await settle()
        assert world.room(stream).state.mode is Mode.PAID


async def test_a_switch_to_public_that_was_announced_is_forgotten_by_a_restart(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER, Mode.PAID)
        await announce(world, stream, Mode.PUBLIC, 30)
        await settle()
        records = dict(world.disk.records)
        assert records[stream].next_mode is Mode.PUBLIC
    await trio.sleep(50)
    async with open_world(Disk(records)) as world:
        assert world.room(stream).state.mode is Mode.PAID
        assert world.room(stream).state.announced is None


async def test_the_third_device_of_an_account_takes_the_place_of_the_first(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        client, other = await world.client(ANN, stream), await world.client(BOB, stream)
        bobs = await world.watch(stream, BOB)
        devices = [await world.watch(stream, ANN) for _ in range(3)]
        assert [got(world, each) for each in (*devices, bobs)] == [0, 1, 1, 1]
        told = [event for event in client.heard if event["type"] == "media.taken_over"]
        assert [(event["session"], event["reason"]) for event in told] == [(devices[0].session_id, "device_limit")]
        assert not [event for event in other.heard if event["type"] == "media.taken_over"]
        again = await world.watch(stream, ANN)
        assert [got(world, each) for each in (*devices, again)] == [0, 0, 1, 1]
        await settle()
        assert world.room(stream).state.takeovers == world.disk.records[stream].takeovers == 2


async def test_a_device_that_is_not_connected_yet_takes_nobodys_place_and_keeps_its_own(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        first = await world.watch(stream, ANN)
        before = set(world.media.transports)
        await world.rooms.media_sessions.watch(stream, ANN, "offer")
        (slow,) = set(world.media.transports) - before
        second = await world.watch(stream, ANN)
        await settle()
        assert [got(world, each) for each in (first, second)] == [1, 1]
        assert slow in world.media.transports
        world.media.connect(slow)
        await settle()
        assert [got(world, each) for each in (first, second)] == [0, 1]


def rewrite(record: StreamRecord, **changes: object) -> StreamRecord:
    return StreamRecord(**{name: changes.get(name, getattr(record, name)) for name in record.__struct_fields__})


# -- faults ------------------------------------------------------------------------------------------------------------


def fault_in_telling(world: World, stream: StreamId) -> None:
    live = world.rooms._registry._running[stream]
    live.audience._told = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]


def fault_in_showing(world: World, stream: StreamId) -> None:
    live = world.rooms._registry._running[stream]
    live.audience.show_presence = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    live.room.enter(CAT)


def fault_in_the_table(world: World, stream: StreamId) -> None:
    require = world.media.require
    mine = world.rooms._registry._running[stream].room._row
    world.media.require = lambda row, grant: 1 / 0 if row == mine else require(row, grant)  # type: ignore


@pytest.mark.parametrize("fault", [fault_in_telling, fault_in_showing, fault_in_the_table])
async def test_a_fault_ends_its_room_and_another_room_loses_nothing(
    fault: Callable[[World, StreamId], None], autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        broken, sound = await world.create(OWNER), await world.create(ANN)
        await world.publish(broken, OWNER)
        await world.publish(sound, ANN)
        victim, viewer = await world.watch(broken, BOB), await world.watch(sound, BOB)
        listener, other = await world.client(CAT, broken), await world.client(CAT, sound)
        assert (got(world, victim), got(world, viewer)) == (1, 1)
        fault(world, broken)
        await settle()
        await refused(world, broken, c.Eject(BOB.account))
        assert (got(world, victim), got(world, viewer)) == (0, 1)
        await settle()
        told = "stream.ended" in listener.types() or listener.closed_for == "internal_error"
        assert told
        assert world.rooms.counters()["room_faults"] == 1
        assert world.disk.records[broken].ended == "internal_error"
        assert len(world.media.open_rooms) == 1
        with pytest.raises(Refused, match="stream_ended"):
            await world.watch(broken, BOB)
        await world.rooms.command(sound, BOB, c.Chat("still here", "1"))
        assert other.last("chat.message")["text"] == "still here"
        assert got(world, viewer) == 1
        assert await world.create(OWNER)


async def test_facts_that_come_while_a_room_dies_hurt_nobody(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        broken = await world.create(OWNER)
        session = await world.publish(broken, OWNER)
        room = world.room(broken)
        fault_in_telling(world, broken)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, world, broken, c.SetTimeLimit(60))
            for _ in range(40):
                world.media.flow(world.transports[session.session_id])
                room.notice(MediaFact)  # type: ignore[arg-type]
                await trio.lowlevel.checkpoint()
        await settle()
        assert world.rooms.counters()["room_faults"] == 1
        assert await world.create(OWNER)


class MediaFact:
    """A fact of no known kind: the room ignores it."""


async def refused(world: World, stream: StreamId, command: c.Command) -> None:
    with pytest.raises(Refused):
        await world.rooms.command(stream, OWNER, command)


async def test_a_room_whose_facts_pile_up_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalling.rooms.room.FACTS_BUFFERED", 4)
    async with open_world() as world:
        stream, other = await world.create(OWNER), await world.create(ANN)
        for _ in range(10):
            world.room(stream).notice(MediaFact)  # type: ignore[arg-type]
        await settle()
        assert world.rooms.counters()["room_faults"] == 1
        assert await world.client(CAT, other)


# -- people who leave and come back ------------------------------------------------------------------------------------


async def test_who_is_gone_and_back_in_one_moment_is_present(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        first = await world.watch(stream, BOB)
        world.disk.delay_s = lambda: 0.5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rooms.command, stream, OWNER, c.GrantTicket(ANN.account))
            await wait_all_tasks_blocked()
            await world.rooms.media_sessions.close_session(first.session_id, BOB)
            await wait_all_tasks_blocked()
            again = await world.watch(stream, BOB)
        assert BOB.account in world.room(stream).state.present
        assert (await world.switch(stream, OWNER, Mode.PAID)).removed == ("bob",)
        assert world.transport(again) is None


async def test_presence_outlives_a_lost_connection_for_as_long_as_it_can_be_resumed(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        bob = await world.client(BOB, stream)
        bob.lose()
        await trio.sleep(59)
        assert BOB.account in world.room(stream).state.present
        bob.connect()
        await trio.sleep(5)
        bob.lose()
        await trio.sleep(62)
        assert world.room(stream).state.present == frozenset()


async def test_a_guest_who_leaves_the_page_is_a_viewer_again_and_cut_like_one(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        page, view = await world.client(ANN, stream), await world.watch(stream, ANN)
        camera = await start_one_to_one(world, stream)
        assert page.session is not None
        await world.rooms.leave(page.session, stream)
        assert world.room(stream).state.mode is Mode.PUBLIC
        assert world.transport(camera) is None
        assert got(world, view) == 1
        assert (await world.switch(stream, OWNER, Mode.PAID)).removed == ("ann",)
        assert got(world, view) == 0


async def test_who_waits_outside_a_one_to_one_may_change_the_network_and_comes_back_by_himself(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        await world.client(ANN, stream)
        bob = await world.watch(stream, BOB)
        await start_one_to_one(world, stream)
        assert got(world, bob) == 0
        assert await world.rooms.media_sessions.restart_ice(bob.session_id, BOB, "*", "restart") == (
            '"next"',
            "fragment",
        )
        assert got(world, bob) == 0
        await world.rooms.command(stream, OWNER, c.EndOneToOne())
        assert got(world, bob) == 1


async def test_who_is_put_out_while_waiting_is_told_and_no_ice_restart_helps(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        await world.client(ANN, stream)
        bob, page = await world.watch(stream, BOB), await world.client(BOB, stream)
        await start_one_to_one(world, stream)
        assert page.last("access.revoked")["reason"] == "one_to_one_running"
        await world.rooms.command(stream, OWNER, c.Eject(BOB.account))
        assert page.last("access.revoked")["reason"] == "ejected"
        assert world.transport(bob) is None
        with pytest.raises(Refused, match="session_unknown"):
            await world.rooms.media_sessions.restart_ice(bob.session_id, BOB, "*", "restart")
        await world.rooms.command(stream, OWNER, c.EndOneToOne())
        assert page.types().count("access.granted") == 0
        await world.rooms.command(stream, OWNER, c.Readmit(BOB.account))
        assert page.types().count("access.granted") == 1


async def test_a_fragment_for_a_session_that_ends_this_moment_finds_none(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        session = await world.publish(stream, OWNER)
        world.media.close(world.transports[session.session_id], "lost")
        with pytest.raises(Refused, match="session_unknown"):
            await world.rooms.media_sessions.restart_ice(session.session_id, OWNER, "*", "restart")


async def test_a_session_is_deleted_once_also_by_two_requests_at_once(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        session = await world.publish(stream, OWNER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rooms.media_sessions.close_session, session.session_id, OWNER)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            with pytest.raises(Refused, match="session_unknown"):
                await world.rooms.media_sessions.close_session(session.session_id, OWNER)
        await wait_all_tasks_blocked()
        assert world.rooms.counters()["media_sessions"] == 0
        assert not list(world.room(stream).members)


async def test_a_publisher_that_takes_over_interrupts_nothing_until_it_fails_to_come(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        first = await world.publish(stream, OWNER)
        viewer, page = await world.watch(stream, BOB), await world.client(BOB, stream)
        second = await world.publish(stream, OWNER)
        assert world.transport(first) is None
        assert got(world, viewer) == 1
        assert "stream.interrupted" not in page.types()
        world.media.close(world.transports[second.session_id], "never_came")
        await wait_all_tasks_blocked()
        assert "stream.interrupted" in page.types()


async def test_who_comes_in_when_a_one_to_one_is_due_to_end_does_not_end_it_unheard(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        page = await world.client(ANN, stream)
        await start_one_to_one(world, stream)
        autojump_clock.jump(301)
        world.room(stream).enter(CAT)  # before the room's own clock has its turn
        await settle()
        assert page.types().count("one_to_one.ended") == 1
        assert world.room(stream).state.one_to_one is None


async def test_the_camera_of_a_former_guest_starts_no_new_clock(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        mine = await world.publish(stream, OWNER)
        page = await world.client(ANN, stream)
        camera = await start_one_to_one(world, stream)
        assert page.types().count("one_to_one.started") == 1
        await world.rooms.command(stream, OWNER, c.EndOneToOne())
        assert world.transport(camera) is None
        with pytest.raises(Refused, match="not_the_owner"):
            await world.publish(stream, ANN)
        await world.rooms.command(stream, ANN, c.RequestOneToOne())
        await world.rooms.command(stream, OWNER, c.AcceptOneToOne(ANN.account, 300))
        world.media.flow(world.transports[mine.session_id])
        await wait_all_tasks_blocked()
        assert page.types().count("one_to_one.started") == 1


async def test_a_repeated_confirmation_is_answered_and_told_to_nobody(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        page = await world.client(BOB, stream)
        await world.rooms.command(stream, OWNER, c.PrepareMode(Mode.PAID, "token"))
        first = await world.rooms.command(stream, OWNER, c.ConfirmMode("token", allow_empty=True))
        await world.switch(stream, OWNER, Mode.PUBLIC)
        told = switches(page)
        again = await world.rooms.command(stream, OWNER, c.ConfirmMode("token", allow_empty=True))
        assert (again.mode, again.epoch, again.removed) == (first.mode, first.epoch, first.removed)  # type: ignore
        assert switches(page) == told == ["paid", "public"]


def switches(client: Client) -> list[str]:
    return [event["mode"] for event in client.heard if event["type"] == "stream.mode_changed"]


async def test_each_one_to_one_has_a_chat_of_its_own(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        page = await world.client(ANN, stream)
        for number in range(2):
            await start_one_to_one(world, stream)
            await world.rooms.command(stream, ANN, c.Chat("hello", str(number)))
            assert (page.last("chat.message")["circle"], page.last("chat.message")["seq"]) == ("one_to_one", 1)
            await world.rooms.command(stream, OWNER, c.EndOneToOne())


async def test_what_the_archive_refuses_in_the_middle_leaves_the_room_as_it_was(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        before = world.room(stream).state
        world.disk.fails = lambda: True
        for command in (c.GrantTicket(ANN.account), c.Entitle(ANN.account)):
            with pytest.raises(Refused, match="not_stored") as caught:
                await world.rooms.command(stream, OWNER, command)
            assert isinstance(caught.value.__cause__, ArchiveFailed)
        assert world.room(stream).state == before


async def test_who_was_shown_a_stream_before_the_others_is_told_as_well_when_it_is_gone(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER, Mode.PRIVATE)
        await world.publish(stream, OWNER)
        page = await world.client(ANN)
        assert page.session is not None
        await settle()
        world.room(stream).enter(BOB)  # this is told at once, and what comes within the next moment later
        await trio.sleep(0.01)
        await world.switch(stream, OWNER, Mode.PUBLIC)
        assert world.rooms.live(ANN).streams
        await world.rooms.watch_directory(page.session)
        assert page.last("directory.snapshot")["streams"]
        await world.switch(stream, OWNER, Mode.PRIVATE)
        await settle()
        assert page.last("directory.delta")["card"] is None


async def test_a_crash_in_a_show_loses_seconds_of_what_ticket_holders_were_shown(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        await world.rooms.command(stream, OWNER, c.PrepareMode(Mode.PAID, "t"))
        await world.rooms.command(stream, OWNER, c.ConfirmMode("t", allow_empty=True))
        await trio.sleep(119)
        assert world.rooms.shown_s(stream) in (118, 119)
        records = dict(world.disk.records)
    async with open_world(Disk(records)) as world:
        assert 113 <= world.rooms.shown_s(stream) <= 119
        await trio.sleep(60)
        assert world.rooms.shown_s(stream) <= 119, "without a picture nothing is shown"
