"""A stream that is called something else while it is on: everybody sees it at once, in bounds, and after a restart."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from signalling.identifiers import AccountId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.describing import MOST, WITHIN_NS
from signalling.policy.state import RoomState
from signalling.policy.step import step
from signalling.refusals import Refused
from signalling.rooms.directory import Wanted
from tests.signalling.worlds import Disk, actor, open_world

OWNER, NOW = AccountId("owner"), 10**12


def test_what_is_not_said_stays_and_what_is_said_again_is_told_to_nobody() -> None:
    state = RoomState(OWNER, title="A", description="about a")
    after, events = step(state, OWNER, c.Describe(title="B"), NOW)
    assert events == [e.Described("B", "about a")]
    after, events = step(after, OWNER, c.Describe(description=""), NOW)
    assert (events, after.epoch) == ([e.Described("B", "")], state.epoch)
    assert step(after, OWNER, c.Describe("B", ""), NOW) == (after, [])
    assert step(after, OWNER, c.Describe(), NOW) == (after, [])
    with pytest.raises(Refused, match="not_the_owner"):
        step(state, AccountId("ann"), c.Describe("C"), NOW)


def test_so_often_in_a_minute_and_no_more() -> None:
    state = RoomState(OWNER)
    for number in range(MOST):
        state, _ = step(state, OWNER, c.Describe(f"{number}"), NOW + number)
    with pytest.raises(Refused) as caught:
        step(state, OWNER, c.Describe("again"), NOW + MOST)
    assert (caught.value.code, caught.value.extra["wait_s"]) == ("described_too_often", 60)
    later, _ = step(state, OWNER, c.Describe("again"), NOW + WITHIN_NS)
    assert (later.title, len(later.described_ns)) == ("again", MOST)


async def test_the_room_and_the_directory_see_it_at_once_and_a_restart_knows_it(autojump_clock: MockClock) -> None:
    disk, owner, ann = Disk(), actor("owner"), actor("ann")
    async with open_world(disk) as world:
        stream = await world.create(owner)
        await world.publish(stream, owner)
        viewer, page = await world.client(ann, stream), await world.client(actor("eve"))
        assert page.session is not None
        await world.rooms.watch_directory(page.session)
        await world.rooms.command(stream, owner, c.Describe("Another title", "What it is about"))
        told = viewer.last("stream.updated")
        assert (told["title"], told["description"]) == ("Another title", "What it is about")
        assert world.rooms.live(ann, wanted=Wanted(text="another")).streams[0].description == "What it is about"
        await trio.sleep(1)
        assert page.last("directory.delta")["card"]["title"] == "Another title"
        with pytest.raises(Refused, match="not_the_owner"):
            await world.rooms.command(stream, ann, c.Describe("Mine"))
    async with open_world(disk) as world:
        card = world.rooms.stream(stream, owner).card
        assert (card.title, card.description) == ("Another title", "What it is about")
