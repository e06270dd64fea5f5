"""Steps within one encoding (SVC): through the door each viewer gets the best that it may have and wishes for."""

from __future__ import annotations

import math

import numpy as np
import trio

from media.bridge.assembling import Packet
from media.bridge.tapping import Tap
from media.door import Negotiated
from media.forwarding.admission import NOTHING, Grant, Holding
from media.forwarding.layers.ladder import Ladder, Within, layers_of, number, steps
from media.forwarding.layers.resting import IDLE_NS, SECOND_NS
from media.forwarding.layers.selection import Layers
from media.forwarding.layers.wishes import Layer, Quality, Wish, choose
from media.wire.codecs import Codec
from media.wire.layering import read_layering_untrusted
from media.wire.rtp import RtpHeader, build_rtp, parse_rtp_untrusted
from tests.media.test_door import Remote, World, open_world, write_offer
from tests.media.test_kernel_robustness import Sent, set_stage
from tests.media.turns import open_turns

SIZES = (60, 240, 900)  # octets of a packet of each spatial layer
PATTERN = (0, 2, 1, 2)
EVERY_S = 0.03
KEYFRAME_EVERY = 8  # pictures


def test_steps_are_told_from_rows_and_go_up_in_pictures_before_they_go_up_in_size() -> None:
    found = steps(3, 3)
    assert found == [Within(0, 0), Within(0, 1), Within(0, 2), Within(1, 2), Within(2, 2)]
    numbers = [number(row, step) for row in (0, 2047) for step in found]
    assert [layers_of(one) for one in numbers] == found * 2
    assert len(set(numbers)) == 10
    assert layers_of(2047) is None


def test_a_ladder_tells_of_each_step_what_comes_and_what_it_takes() -> None:
    ladder, octets = Ladder(), np.zeros((8, 8), np.int64)
    octets[0, 0] = 10
    assert not ladder.look(octets, 1)
    octets[0, 2], octets[2, 0] = 5, 100
    assert ladder.look(octets, 2)
    assert (ladder.spatials, ladder.temporals) == (3, 3)
    assert [ladder.of(step) for step in steps(3, 3)] == [10, 10, 15, 15, 115]
    assert [ladder.last_ns(step) for step in steps(3, 3)] == [1, 0, 2, 0, 2]


def test_wishes_are_for_sizes_and_fewer_pictures_are_the_last_resort() -> None:
    layers = [Layer(number(1, step), 10 * place + 10, is_live=True) for place, step in enumerate(steps(3, 3))]
    for layer, step in zip(layers, steps(3, 3), strict=True):
        layer.is_full = step.temporal == 2

    def chosen(wish: Wish) -> Within | None:
        return layers_of(choose(layers, wish, NOTHING) or 0)

    sizes = [chosen(Wish(quality)) for quality in (Quality.HIGH, Quality.MEDIUM, Quality.LOW)]
    assert sizes == [Within(2, 2), Within(1, 2), Within(0, 2)]
    assert chosen(Wish(height=100)) == Within(2, 2)  # nothing tells how high they are
    for layer, height in zip(layers, (180, 180, 180, 360, 720), strict=True):
        layer.height = height
    fitting = [chosen(Wish(height=height)) for height in (1, 180, 181, 360, 400, 720, 1080)]
    assert [one and one.spatial for one in fitting] == [0, 0, 1, 1, 2, 2, 2]
    assert chosen(Wish(Quality.MEDIUM, 720)) == Within(1, 2)


class Scalable:
    """A publisher of VP9 with three by three layers, until some are taken out of `sending`."""

    def __init__(self, remote: Remote) -> None:
        self.remote, self.sending, self.pattern = remote, 3, PATTERN

    async def run(self) -> None:
        seq = picture = 0
        while True:
            for spatial in range(self.sending):
                is_key, is_last = picture % KEYFRAME_EVERY == 0, spatial == self.sending - 1
                first = 0xBC | (0 if is_key else 0x40)
                octet = self.pattern[picture % len(self.pattern)] << 5 | 0x10 | spatial << 1
                payload = bytes([first, 0x80 | picture >> 8 & 0x7F, picture & 0xFF, octet]) + bytes(SIZES[spatial])
                header = RtpHeader(96, seq & 0xFFFF, 3000 * picture, 5, is_last)
                await self.remote.socket.sendto(self.remote.tx.protect(build_rtp(header, payload)), self.remote.server)
                seq += 1
            picture += 1
            await trio.sleep(EVERY_S)


async def go_live(world: World) -> Scalable:
    remote, _ = await world.publish(video="VP9")
    publisher = Scalable(remote)
    world.nursery.start_soon(publisher.run)
    return publisher


async def watch(world: World, *grants: Grant) -> tuple[Remote, Negotiated]:
    remote, offer = world.remote(), Grant.WELCOME
    for grant in grants:
        offer |= grant
    sdp = write_offer(remote.ice, "recvonly", video="VP9")
    negotiated = world.media.watch(world.room, "streamer", sdp, Holding(offer))
    await remote.connect(negotiated.answer_sdp, world.nursery)
    return remote, negotiated


def got(remote: Remote, since: int = 0) -> list[tuple[int, int, bool]]:
    """Return spatial and temporal layer and marker of each packet of the picture."""
    found = []
    for datagram in remote.rtp[since:]:
        packet = parse_rtp_untrusted(datagram)
        place = read_layering_untrusted(Codec.VP9, datagram[packet.payload_start : packet.payload_end])
        found.append((place.spatial, place.temporal, packet.header.marker))
    return found


async def shows(world: World, viewer: tuple[Remote, Negotiated], spatial: int) -> None:
    """Wait until a viewer gets pictures of this size, and no larger ones, and see that it missed no packet."""
    await world.until(lambda: max((found[0] for found in got(viewer[0])[-12:]), default=-1) == spatial)
    numbers = [int.from_bytes(packet[2:4]) for packet in viewer[0].rtp]
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + len(numbers)))
    assert {marker for layer, _, marker in got(viewer[0])[-12:] if layer == spatial} == {True}


async def test_viewers_get_the_size_they_wish_for_within_one_encoding() -> None:
    async with open_world() as world:
        await go_live(world)
        viewer, other = await watch(world), await watch(world)
        await shows(world, viewer, 2)
        await trio.sleep(1.5)  # until what the layers take is known
        for quality, spatial in ((Quality.LOW, 0), (Quality.MEDIUM, 1), (Quality.HIGH, 2)):
            world.media.prefer(viewer[1].transport, Wish(quality))
            await shows(world, viewer, spatial)
            await shows(world, other, 2)


async def test_who_gets_the_best_gets_also_what_is_added_to_it() -> None:
    async with open_world() as world:
        publisher = await go_live(world)
        publisher.pattern = (0,)
        viewer = await watch(world)
        await shows(world, viewer, 2)
        await trio.sleep(1.5)  # until what the layers take is known
        for quality, spatial in ((Quality.LOW, 0), (Quality.HIGH, 2)):
            world.media.prefer(viewer[1].transport, Wish(quality))
            await shows(world, viewer, spatial)
        publisher.pattern = PATTERN
        await world.until(lambda: {temporal for _, temporal, _ in got(viewer[0])[-12:]} == {0, 1, 2})


async def test_who_comes_before_it_is_known_what_the_layers_take_gets_a_picture_all_the_same() -> None:
    async with open_world() as world:
        await go_live(world)
        (track,) = world.media._layers._tracks.values()
        await world.until(lambda: len(track.layers) > 1)
        assert not any(layer.rate for layer in track.layers)
        viewer = await watch(world)
        await shows(world, viewer, 2)


def test_all_sizes_within_one_encoding_are_sent_also_while_nobody_gets_the_larger() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, Codec.VP9)
        layers = Layers(turns.forwarder)
        layers.open(stage.video, 0)
        turns.forwarder.unsubscribe(stage.subscriptions[0])
        subscription = layers.subscribe(stage.video, stage.viewer.row, Sent(3000), Wish(Quality.LOW), 0)
        for second in range(1, 4 + IDLE_NS // SECOND_NS):
            turns.tables.layer_octets[stage.video, :3, 0] += 100 * np.array(SIZES)
            layers.review(second * SECOND_NS)
        assert turns.tables.choices["most_spatial"][subscription] == 0
        assert layers.limit_bps(stage.video) == math.inf


async def test_the_reserved_largest_picture_never_reaches_who_does_not_hold_its_grant() -> None:
    async with open_world() as world:
        world.media.reserve_best(world.room, Grant.ENTITLED)
        await go_live(world)
        without, entitled = await watch(world), await watch(world, Grant.ENTITLED)
        await shows(world, entitled, 2)
        await shows(world, without, 1)
        assert max(found[0] for found in got(without[0])) == 1
        (row,) = world.media._layers._tracks
        tap = Tap(world.media._forwarder.tables, row, 0)  # as viewers over MoQ are served
        read = [packet for packet in tap.read(world.media.now_ns()) if isinstance(packet, Packet) and packet.payload]
        read_layers = [read_layering_untrusted(Codec.VP9, packet.payload).spatial for packet in read]
        assert set(read_layers) == {0, 1}
        assert [packet.is_last for packet in read] == [layer == 1 for layer in read_layers]
        world.media.hold(entitled[1].transport, Holding(Grant.WELCOME))
        await world.media.fence()
        await trio.sleep(2 * EVERY_S)  # until what left before the fence was read
        before = len(entitled[0].rtp)
        await world.until(lambda: len(entitled[0].rtp) > before + 20)
        assert max(found[0] for found in got(entitled[0], before)) == 1
        world.media.reserve_best(world.room, NOTHING)
        await shows(world, without, 2)
