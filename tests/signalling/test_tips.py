"""Who sees a tip in a room."""

from __future__ import annotations

from trio.testing import MockClock

from signalling.identifiers import Actor, StreamId
from signalling.wire.tips import TipTold
from signalling.wire.views import Money, Person
from tests.signalling.test_rooms import ANN, BOB, OWNER, start_one_to_one
from tests.signalling.worlds import open_world


def a_tip(sender: Actor, stream: StreamId) -> TipTold:
    return TipTold(
        server_now=1,
        tip="tip.1",
        stream=stream,
        sender=Person(sender.account, sender.name),
        to=Person(OWNER.account, OWNER.name),
        amount=Money("USD", "100"),
        menu_item=None,
        message="hello",
        anonymous=False,
        at=1,
    )


async def test_a_tip_in_a_one_to_one_is_seen_by_the_two_alone(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = await world.create(OWNER)
        await world.publish(stream, OWNER)
        owner, ann, bob = [await world.client(person, stream) for person in (OWNER, ANN, BOB)]
        await start_one_to_one(world, stream)
        world.rooms.show_tip(a_tip(ANN, stream))
        assert (owner.last("tip")["message"], ann.last("tip")["message"]) == ("hello", "hello")
        assert "tip" not in bob.types()
        world.rooms.show_tip(a_tip(BOB, stream))
        assert owner.last("tip")["from"]["name"] == ann.last("tip")["from"]["name"] == "bob"
        assert bob.types().count("tip") == owner.types().count("tip") - 1 == 1
