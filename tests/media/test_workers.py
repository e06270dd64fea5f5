"""Several forwarding threads over real sockets: whoever is on another than the publisher gets all that others do."""

from __future__ import annotations

import os
import random
import struct
import time

import pytest
import trio

from media.forwarding.admission import Grant, Holding
from media.forwarding.fences import Fences
from media.forwarding.memory import make_tables
from media.forwarding.placement import SLACK, Placement
from media.forwarding.tables import Count, Shared
from tests.media.test_forwarder import DELTA, KEY, LIMITS, Sent, open_world

HOMES = pytest.mark.parametrize("home", [0, 1])


@HOMES
async def test_viewers_of_every_worker_get_what_the_publisher_sent_under_their_own_numbers(home: int) -> None:
    async with open_world(workers=3, home=home) as world:
        viewers = [world.viewer(sent=Sent(ssrc=1000 + i), worker=i % 3) for i in range(6)]
        for seq in range(60):
            payload = (KEY if seq == 0 else DELTA) + os.urandom(random.Random(seq).randrange(1, 1150))
            world.publisher.send(60_000 + seq, 3000 * (seq // 4), payload, marker=seq % 4 == 3)
            if seq % 7 == 0:
                await world.settle()
        await world.settle()
        received = [viewer.drain() for viewer in viewers]
        for i, packets in enumerate(received):
            assert [packet.seq for packet in packets] == list(range(100, 160))
            assert {packet.ssrc for packet in packets} == {1000 + i}
            assert [packet.payload for packet in packets] == [packet.payload for packet in received[0]]


@HOMES
async def test_after_the_fence_no_worker_sends_one_packet_to_those_who_lost_the_right(home: int) -> None:
    async with open_world(workers=2, home=home) as world:
        holders = [world.viewer(Holding(Grant.WELCOME | Grant.TICKET), worker=worker) for worker in (0, 1)]
        others = [world.viewer(Holding(Grant.WELCOME), worker=worker) for worker in (0, 1)]
        chance = random.Random(home)
        packets: list[list[int]] = [[], []]
        seq, watched = 0, 0
        for flip in range(100):
            for _ in range(chance.randrange(1, 30)):
                world.publisher.send(seq, 3000 * seq, KEY + seq.to_bytes(4))
                seq += 1
            world.forwarder.admission.require(world.room, Grant.WELCOME | Grant.TICKET)
            await world.forwarder.fence()
            watched += sum(len(other.drain()) for other in others)
            for _ in range(chance.randrange(1, 10)):
                world.publisher.send(seq, 3000 * seq, KEY + seq.to_bytes(4))
                seq += 1
            await world.settle()
            assert [other.drain() for other in others] == [[], []], flip
            world.forwarder.admission.require(world.room, Grant.WELCOME)
            await world.settle()
            for holder, got in zip(holders, packets, strict=True):
                got += [int.from_bytes(packet.payload[2:]) for packet in holder.drain()]
        assert packets == [list(range(seq))] * 2
        assert watched


def test_a_fence_is_passed_when_every_worker_has_passed_it() -> None:
    workers = make_tables(LIMITS, 3)
    passed: list[int] = []
    fences = Fences(workers, lambda: None)
    for number in (1, 2):
        fences.after(lambda number=number: passed.append(number))  # type: ignore[misc]
    for worker in (2, 0, 1):
        fences.look()
        assert passed == []
        assert workers[worker].shared[Shared.FENCE_ASKED] == 2
        workers[worker].shared[Shared.FENCE_DONE] = 1
    fences.look()
    assert passed == [1]
    fences.end()
    assert passed == [1, 2]


async def test_a_right_lapses_by_itself_on_another_worker_than_the_publishers() -> None:
    async with open_world(workers=2) as world:
        until_ns = time.monotonic_ns() + 200_000_000
        guest = world.viewer(Holding(Grant.WELCOME | Grant.CHOSEN, until_ns, Grant.WELCOME), worker=1)
        world.forwarder.admission.require(world.room, Grant.WELCOME | Grant.CHOSEN)
        world.publisher.send(0, 0, KEY)
        await world.settle()
        assert len(guest.drain()) == 1
        await trio.sleep((until_ns - time.monotonic_ns()) / 1e9 + 0.001)
        world.publisher.send(1, 3000, KEY)
        await world.settle()
        assert guest.drain() == []
        assert world.count(Count.LAPSED) == 1


async def test_what_a_viewer_of_another_worker_lost_is_sent_again_out_of_the_common_cache() -> None:
    async with open_world(workers=2) as world:
        viewer = world.viewer(worker=1)
        for seq in range(10):
            world.publisher.send(seq, 3000 * seq, (KEY if seq == 0 else DELTA) + bytes([seq]))
        await world.settle()
        assert len(viewer.drain()) == 10
        viewer.send_rtcp(struct.pack("!BBHIIHH", 0x81, 205, 3, 1, Sent().ssrc, 104, 0b101))
        await world.settle()
        again = viewer.drain()
        assert [packet.ssrc for packet in again] == [Sent().rtx_ssrc] * 3
        assert [packet.payload[4] for packet in again] == [4, 5, 7]
        assert world.count(Count.RETRANSMITTED) == 3


async def test_who_comes_later_on_another_worker_begins_with_the_cached_keyframe() -> None:
    async with open_world(workers=2) as world:
        world.viewer()
        for seq in range(4):
            world.publisher.send(seq, 3000 * seq, (KEY if seq == 0 else DELTA) + bytes([seq]))
        await world.settle()
        late = world.viewer(worker=1)
        world.publisher.send(4, 12_000, DELTA + b"\x04")
        await world.settle()
        assert [packet.payload[2] for packet in late.drain()] == [0, 1, 2, 3, 4]
        assert world.count(Count.REPLAYED) == 5


async def test_a_keyframe_that_a_viewer_of_another_worker_wants_is_wanted_of_the_publisher() -> None:
    async with open_world(workers=2) as world:
        viewer = world.viewer(worker=1)
        world.publisher.send(0, 0, KEY)
        await world.settle()
        assert world.forwarder.tables.tracks["keyframe_wanted"][world.video] == 0
        viewer.send_rtcp(struct.pack("!BBHII", 0x81, 206, 2, 1, Sent().ssrc))
        with trio.fail_after(5):
            while not world.forwarder.tables.tracks["keyframe_wanted"][world.video]:
                await world.forwarder.control()


async def test_another_worker_hears_of_packets_only_while_somebody_there_watches() -> None:
    async with open_world(workers=2) as world:
        here = world.viewer()
        world.publisher.send(0, 0, KEY)
        await world.settle()
        assert world.count(Count.MIRRORED) == 0
        there, also = world.viewer(worker=1), world.viewer(worker=1)
        world.publisher.send(1, 0, DELTA)
        await world.settle()
        assert world.count(Count.MIRRORED) == 1
        world.forwarder.unsubscribe(there.subscription)  # type: ignore[attr-defined]
        world.publisher.send(2, 0, DELTA)
        await world.settle()
        assert world.count(Count.MIRRORED) == 2
        world.forwarder.unsubscribe(also.subscription)  # type: ignore[attr-defined]
        world.publisher.send(3, 0, DELTA)
        await world.settle()
        assert world.count(Count.MIRRORED) == 2
        assert len(here.drain()) == 4


async def test_workers_come_and_go_with_their_viewers_while_packets_flow() -> None:
    async with open_world(workers=2) as world:
        staying = [world.viewer(worker=worker) for worker in (0, 1)]
        chance = random.Random(3)
        coming = []
        got: list[list[int]] = [[], []]
        for seq in range(600):
            world.publisher.send(seq, 3000 * seq, KEY + seq.to_bytes(4))
            if chance.random() < 0.1 and len(coming) < 20:
                coming.append(world.viewer(worker=chance.randrange(2)))
            elif chance.random() < 0.1 and coming:
                leaving = coming.pop(chance.randrange(len(coming)))
                world.forwarder.unsubscribe(leaving.subscription)  # type: ignore[attr-defined]
                world.forwarder.close_transport(leaving.row)
            if seq % 20 == 19:
                await world.settle()
                for viewer, numbers in zip(staying, got, strict=True):
                    numbers += [int.from_bytes(packet.payload[2:]) for packet in viewer.drain()]
        assert got == [list(range(600))] * 2


def test_rooms_of_a_few_viewers_stay_on_one_worker_and_large_ones_spread_evenly() -> None:
    placement = Placement(3)
    home = placement.for_source()
    placement.enter(home)
    seats = []
    for _ in range(300):
        seats.append(placement.for_viewer(home))
        placement.enter(seats[-1])
    assert seats[:SLACK] == [home] * SLACK
    assert max(placement.loads) - min(placement.loads) <= SLACK + 1
    assert placement.for_source() != home
    for seat in seats:
        placement.leave(seat)
    assert placement.loads == [1, 0, 0]
