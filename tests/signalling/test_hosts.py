"""Those who are live beside a streamer: let, seen by who may watch, and cut with what lets them watch."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from signalling.identifiers import AccountId, Mode, StreamId
from signalling.policy import commands as c
from signalling.policy.hosting import MAX_HOSTS, source_of
from signalling.refusals import Refused
from tests.signalling.test_rooms import OWNER, start_one_to_one
from tests.signalling.worlds import Transport, World, actor, open_world

ANN, BOB, EVE = (actor(name) for name in ("ann", "bob", "eve"))


async def let(world: World, stream: StreamId, name: str) -> None:
    await world.rooms.command(stream, ANN, c.AddHost(AccountId(name), name))


async def see(world: World, stream: StreamId, who: str, host: str) -> Transport:
    session = await world.rooms.media_sessions.watch(stream, actor(who), "offer", AccountId(host))
    found = world.transport(world._placed(session))
    assert found is not None
    world.media.connect(found.id)
    return found


def got(world: World, viewer: Transport) -> int:
    before = len(viewer.got)
    world.send_all()
    return len(viewer.got) - before


async def test_a_host_is_let_seen_and_dropped(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(ANN)
        await world.publish(stream, ANN)
        page = await world.client(EVE, stream)
        with pytest.raises(Refused, match="not_the_owner"):
            await world.publish(stream, BOB)
        with pytest.raises(Refused, match="not_the_owner"):
            await world.rooms.command(stream, BOB, c.AddHost(BOB.account, "bob"))
        await let(world, stream, "bob")
        assert page.last("stream.hosts")["hosts"] == [{"id": "bob", "name": "bob"}]
        assert [host.name for host in world.rooms.stream(stream, EVE).card.hosts] == ["bob"]
        await world.publish(stream, BOB)
        viewer = await see(world, stream, "eve", "bob")
        assert (viewer.source, got(world, viewer)) == (source_of(BOB.account), 1)
        with pytest.raises(Refused, match="no_publisher"):
            await see(world, stream, "eve", "joe")
        await world.rooms.command(stream, ANN, c.DropHost(BOB.account))
        assert page.last("stream.hosts")["hosts"] == []
        assert got(world, viewer) == 0
        with pytest.raises(Refused, match="not_the_owner"):
            await world.publish(stream, BOB)


async def test_over_moq_a_host_publishes_as_itself_alone(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(ANN)
        await world.publish(stream, ANN)
        may = world.rooms.moq_sessions.may_publish
        assert not may(BOB, stream, source_of(BOB.account))
        for name in ("bob", "eve"):
            await let(world, stream, name)
        said = [may(BOB, stream, source) for source in (source_of(BOB.account), source_of(EVE.account), "", "guest")]
        assert said == [True, False, False, False]
        await world.rooms.command(stream, ANN, c.DropHost(BOB.account))
        assert not may(BOB, stream, source_of(BOB.account))


async def test_a_host_publishes_for_as_long_as_it_may_watch(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(ANN)
        await world.publish(stream, ANN)
        await let(world, stream, "bob")
        await world.publish(stream, BOB)
        viewer = await see(world, stream, "eve", "bob")
        assert got(world, viewer) == 1
        await world.rooms.command(stream, ANN, c.Eject(BOB.account))
        assert got(world, viewer) == 0


async def test_who_may_not_watch_sees_no_host_either(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(ANN, Mode.PRIVATE)
        await world.rooms.command(stream, ANN, c.Entitle(BOB.account))
        await world.publish(stream, ANN)
        await let(world, stream, "bob")
        await world.publish(stream, BOB)
        with pytest.raises(Refused, match="not_entitled"):
            await see(world, stream, "eve", "bob")
        await world.rooms.command(stream, ANN, c.Entitle(EVE.account))
        viewer = await see(world, stream, "eve", "bob")
        assert got(world, viewer) == 1
        await world.rooms.command(stream, ANN, c.Disentitle(EVE.account))
        assert got(world, viewer) == 0


async def test_in_a_one_to_one_nobody_is_beside_the_streamer(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        await world.rooms.command(stream, OWNER, c.AddHost(AccountId("joe"), "joe"))
        await world.publish(stream, actor("joe"))
        await world.client(ANN, stream)
        viewer = await see(world, stream, "ann", "joe")
        assert got(world, viewer) == 1
        await start_one_to_one(world, stream)
        assert world.rooms.stream(stream, ANN).card.hosts == ()
        assert got(world, viewer) == 0
        await world.rooms.command(stream, OWNER, c.EndOneToOne())
        assert got(world, viewer) == 1


async def test_hosts_are_few_and_each_is_watched_on_as_many_devices_as_the_streamer(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(ANN)
        await world.publish(stream, ANN)
        for number in range(MAX_HOSTS):
            await let(world, stream, f"host{number}")
        with pytest.raises(Refused, match="too_many_hosts"):
            await let(world, stream, "another")
        await world.publish(stream, actor("host0"))
        watching = [await world.watch(stream, EVE) for _ in range(2)]
        hers = [await see(world, stream, "eve", "host0") for _ in range(2)]
        assert all(world.transport(session) for session in watching)
        assert all(got(world, viewer) for viewer in hers)
        await world.watch(stream, EVE)
        assert world.transport(watching[0]) is None
        assert all(got(world, viewer) for viewer in hers)
