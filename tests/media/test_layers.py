"""Simulcast through the door: each viewer gets the best layer that arrives, that it may have and that it wishes for."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st

from media.door import Negotiated
from media.forwarding.admission import NOTHING, Grant, Holding
from media.forwarding.layers.wishes import Layer, Quality, Wish, choose
from media.forwarding.tables import Shared
from media.moq.protocol.hang import CATALOG_TRACK, read_catalog_untrusted
from tests.media.test_door import DELTA, KEY, Remote, World, open_world

SIZES = {"q": 50, "h": 200, "f": 800}  # octets of a packet of each layer, and its SSRC
EVERY_S = 0.02
KEYFRAME_EVERY = 5  # packets

layers = st.builds(
    Layer,
    row=st.integers(0, 9),
    rate=st.integers(0, 5),
    is_live=st.booleans(),
    requires=st.sampled_from([NOTHING, Grant.ENTITLED, Grant.TICKET]),
)


@given(st.lists(layers, max_size=4, unique_by=lambda layer: layer.row), st.sampled_from(Quality), st.integers(0, 31))
def test_nobody_gets_a_layer_that_does_not_arrive_or_that_it_may_not_have(
    given_layers: list[Layer], wish: Quality, held: int
) -> None:
    holds = Grant(held)
    able = {layer.row: layer for layer in given_layers if layer.is_live and layer.requires in holds}
    row = choose(given_layers, Wish(wish), holds)
    assert row in able if able else row is None
    if row is not None:
        rates = sorted(layer.rate for layer in able.values())
        assert wish is not Quality.HIGH or able[row].rate == rates[-1]
        assert wish is not Quality.LOW or able[row].rate == rates[0]


def test_a_medium_wish_gets_the_one_between() -> None:
    three = [Layer(row, rate, is_live=True) for row, rate in ((7, 30), (8, 10), (9, 20))]
    assert choose(three, Wish(Quality.MEDIUM), NOTHING) == 9
    assert choose(three[:2], Wish(Quality.MEDIUM), NOTHING) == 8


class Simulcast:
    """A publisher that sends its layers until they are taken out of `sending`."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.sending = dict(SIZES)

    async def run(self) -> None:
        seq = 1000
        while True:
            for name, size in tuple(self.sending.items()):
                payload = (DELTA if seq % KEYFRAME_EVERY else KEY) + name.encode() * size
                await self.remote.send(seq, payload, ssrc=size, rid=name)
            seq += 1
            await trio.sleep(EVERY_S)


def shown(viewer: Remote) -> str:
    """Return of which layer the newest picture is."""
    return viewer.rtp[-1][-1:].decode() if viewer.rtp else ""


async def go_live(world: World) -> Simulcast:
    remote, negotiated = await world.publish(layers="q;h;f")
    assert "a=simulcast:recv q;h;f" in negotiated.answer_sdp
    publisher = Simulcast(remote)
    world.nursery.start_soon(publisher.run)
    return publisher


async def shows(world: World, viewer: tuple[Remote, Negotiated], name: str) -> None:
    """Wait until a viewer gets a layer, and see that it missed no packet meanwhile."""
    await world.until(lambda: shown(viewer[0]) == name)
    numbers = [int.from_bytes(packet[2:4]) for packet in viewer[0].rtp]
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + len(numbers)))


async def test_viewers_get_the_layer_they_wish_for_and_go_over_without_a_gap() -> None:
    async with open_world() as world:
        await go_live(world)
        viewer, other = await world.watch(), await world.watch()
        await shows(world, viewer, "f")
        for quality, name in ((Quality.LOW, "q"), (Quality.MEDIUM, "h"), (Quality.HIGH, "f")):
            world.media.prefer(viewer[1].transport, Wish(quality))
            await shows(world, viewer, name)
            await shows(world, other, "f")
        late = await world.watch()
        await shows(world, late, "f")
        assert {packet[-1:] for packet in late[0].rtp} == {b"f"}  # from the first packet on


async def test_a_cut_is_looked_at_once_and_by_nobody_else() -> None:
    async with open_world() as world:
        await go_live(world)
        viewer, other = await world.watch(), await world.watch()
        await shows(world, viewer, "f")
        await shows(world, other, "f")
        layers, tables = world.media._layers, world.media._forwarder.tables
        layers.look(world.media.now_ns())
        placed: list[list[int]] = []
        layers._place = lambda track, subscriptions, now_ns: placed.append(subscriptions)  # type: ignore[method-assign]
        layers.look(world.media.now_ns())
        tables.estimates["cuts"][world.media._endpoints.by_id[viewer[1].transport].row] += 1
        layers.look(world.media.now_ns())
        assert placed == []
        tables.shared[Shared.WAY_CUTS] += 1
        layers.look(world.media.now_ns())
        assert [len(subscriptions) for subscriptions in placed] == [1]


async def test_when_a_layer_ends_its_viewers_get_the_next_and_have_it_back_when_it_returns() -> None:
    async with open_world() as world:
        publisher = await go_live(world)
        viewer = await world.watch()
        await shows(world, viewer, "f")
        del publisher.sending["f"]
        await shows(world, viewer, "h")
        publisher.sending = dict(SIZES)
        await shows(world, viewer, "f")


async def test_a_reserved_best_layer_reaches_only_those_who_hold_its_grant() -> None:
    async with open_world() as world:
        world.media.reserve_best(world.room, Grant.ENTITLED)
        await go_live(world)
        without, entitled = await world.watch(), await world.watch(Holding(Grant.WELCOME | Grant.ENTITLED))
        await shows(world, entitled, "f")
        await shows(world, without, "h")
        assert not any(packet.endswith(b"f") for packet in without[0].rtp)
        world.media.hold(entitled[1].transport, Holding(Grant.WELCOME))
        await world.media.fence()
        await trio.sleep(2 * EVERY_S)  # until what left before the fence was read
        before = len(entitled[0].rtp)
        await shows(world, entitled, "h")
        assert not any(packet.endswith(b"f") for packet in entitled[0].rtp[before:])
        world.media.reserve_best(world.room, NOTHING)
        await shows(world, without, "f")


async def test_layers_are_offered_as_renditions_and_a_reserved_one_in_the_catalog_of_the_entitled_alone() -> None:
    async with open_world() as world:
        world.media.offer(world.room, "streamer", "stream")
        publisher = await go_live(world)

        def renditions(*, of_the_entitled: bool = False) -> dict[str, int]:
            broadcast = world.media.relay.origin.find("stream")
            if broadcast is None:
                return {}
            track = (broadcast.reserved if of_the_entitled else broadcast.tracks)[CATALOG_TRACK]
            if not track.groups:
                return {}
            catalog = read_catalog_untrusted(track.groups[max(track.groups)].frames[-1].payload)
            videos = {} if catalog.video is None else catalog.video.renditions
            return {name: video.bitrate or 0 for name, video in videos.items()}

        await world.until(lambda: len(renditions()) == 3 and all(renditions().values()))
        found = renditions()
        assert found["video-q"] < found["video-h"] < found["video-f"]
        world.media.reserve_best(world.room, Grant.ENTITLED)
        assert renditions().keys() == {"video-q", "video-h"}
        assert renditions(of_the_entitled=True).keys() == found.keys()
        broadcast = world.media.relay.origin.find("stream")
        assert broadcast is not None
        assert [name for name, track in broadcast.tracks.items() if track.is_reserved] == ["video-f"]
        world.media.reserve_best(world.room, NOTHING)
        assert not any(track.is_reserved for track in broadcast.tracks.values())
        del publisher.sending["q"]
        await world.until(lambda: renditions().keys() == {"video-h", "video-f"})
