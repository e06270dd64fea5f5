from __future__ import annotations

import trio

from media.door import RoomRow, Speaking
from signalling.identifiers import StreamId
from signalling.policy import commands as c
from tests.signalling.worlds import World, actor, open_world

OWNER, ANN, BOB = (actor(name) for name in ("owner", "ann", "bob"))


async def hear(world: World, stream: StreamId, speaker: str | None, **levels: int) -> None:
    world.media._tell.send_nowait(Speaking(world.room(stream).row, speaker, levels))
    await trio.testing.wait_all_tasks_blocked()


async def test_only_the_two_of_a_one_to_one_are_told_who_of_them_speaks(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        clients = [await world.client(one, stream) for one in (OWNER, ANN, BOB)]
        await world.rooms.command(stream, ANN, c.RequestOneToOne())
        await world.rooms.command(stream, OWNER, c.AcceptOneToOne(ANN.account, 300))
        await hear(world, stream, "guest", streamer=80, guest=20)  # before it is known whose that is
        await world.publish(stream, ANN)
        await hear(world, stream, "guest", streamer=80, guest=20)
        for client in clients[:2]:
            told = client.last("room.speaking")
            assert (told["stream"], told["speaker"], told["levels"]) == (stream, "ann", {"owner": 80, "ann": 20})
            assert "event" not in told  # not repeated
        assert "room.speaking" not in clients[2].types()
        before = len(clients[0].heard)
        await hear(world, StreamId(stream), None, streamer=127, guest=127)
        assert clients[0].heard[before]["speaker"] is None
        await world.rooms.command(stream, OWNER, c.EndOneToOne())
        await trio.testing.wait_all_tasks_blocked()
        heard = clients[1].types().count("room.speaking")
        await hear(world, stream, "streamer", streamer=20)
        assert clients[1].types().count("room.speaking") == heard + 1  # it is public again
        assert clients[1].last("room.speaking")["levels"] == {"owner": 20}


async def test_of_a_room_that_is_gone_nobody_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with open_world() as world:
        await world.create(OWNER)
        world.media._tell.send_nowait(Speaking(RoomRow(7), "streamer", {"streamer": 1}))
        await trio.testing.wait_all_tasks_blocked()
        assert world.rooms.counters()["room_faults"] == 0
