"""A node of two workers through its door: where clients are sent, and that nobody gets in by another worker's door."""

from __future__ import annotations

import re
import socket
from contextlib import suppress

import trio
import trio.testing

from media.door import Media, MediaSettings, Negotiated
from media.forwarding.admission import NOTHING, Grant, Holding
from media.webrtc.ice import Address, IceCredentials
from tests.media.framed import FramedRemote
from tests.media.test_door import DELTA, KEY, LIMITS, Remote, World, open_world
from tests.media.test_peer import a_check

CANDIDATE = re.compile(r"^a=candidate:\d+ 1 udp \d+ (\S+) (\d+) typ host", re.MULTILINE)


def places(answer: str) -> list[Address]:
    return [(host, int(port)) for host, port in CANDIDATE.findall(answer)]


class Led(Remote):
    """A client that goes where its answer says."""

    def __init__(self, ice: IceCredentials) -> None:
        super().__init__(ice, ("", 0))

    async def connect(self, answer: str, nursery: trio.Nursery) -> None:
        self.server = places(answer)[0]
        await super().connect(answer, nursery)


class LedWorld(World):
    """Its remotes go where they are led."""

    def remote(self) -> Remote:
        self.remotes.append(Led(IceCredentials.random()))
        return self.remotes[-1]


class LedToTcp(LedWorld):
    """Its viewers come over TCP, whichever worker they are on."""

    def remote(self) -> Remote:
        if not self.remotes:
            return super().remote()
        self.remotes.append(FramedRemote(IceCredentials.random()))
        return self.remotes[-1]


def worker_of(world: World, negotiated: Negotiated) -> int:
    return world.media._forwarder.worker_of(world.media._endpoints.by_id[negotiated.transport].row)


async def fill(world: World, viewers: int = 8) -> list[tuple[Remote, Negotiated]]:
    found = []
    with trio.fail_after(20):
        for _ in range(viewers):
            found.append(await world.watch())
    assert {worker_of(world, negotiated) for _, negotiated in found} == {0, 1}
    return found


async def shows_all(world: World, publisher: Remote, viewers: list[tuple[Remote, Negotiated]], first: int) -> None:
    for seq in range(first, first + 20):
        await publisher.send(seq, (KEY if seq == first else DELTA) + bytes([seq]))
    for viewer, _ in viewers:
        await world.until(lambda viewer=viewer: len(viewer.rtp) >= 20)
        assert [packet[14] for packet in viewer.rtp] == list(range(first, first + 20))
        viewer.rtp.clear()


async def test_each_viewer_is_led_to_its_worker_and_a_cut_ends_them_all() -> None:
    async with open_world(LedWorld, workers=2) as world:
        publisher, published = await world.publish()
        viewers = await fill(world)
        ports = {worker_of(world, one): places(one.answer_sdp) for _, one in [(publisher, published), *viewers]}
        assert ports[0] != ports[1]
        await shows_all(world, publisher, viewers, 0)
        world.media.require(world.room, Grant.WELCOME | Grant.TICKET)
        await world.media.fence()
        await trio.testing.wait_all_tasks_blocked(0.01)
        for viewer, _ in viewers:
            viewer.rtp.clear()
        for seq in range(20, 40):
            await publisher.send(seq, KEY)
        await world.until(lambda: world.media.counters()["not_admitted"] >= 20 * len(viewers))
        assert not any(viewer.rtp for viewer, _ in viewers)
        world.media.require(world.room, Grant.WELCOME)
        await shows_all(world, publisher, viewers, 40)
        loads = [world.media.counters()[f"worker_transports_{worker}"] for worker in (0, 1)]
        assert (sum(loads), min(loads) > 0) == (9, True)


async def test_viewers_over_tcp_are_carried_to_the_worker_that_has_them() -> None:
    async with open_world(LedToTcp, workers=2) as world:
        publisher, _ = await world.publish()
        viewers = await fill(world)
        await shows_all(world, publisher, viewers, 0)
        for _, watched in viewers:
            world.media.hold(watched.transport, Holding(NOTHING))
        await world.media.fence()
        await publisher.send(20, KEY)
        await world.until(lambda: world.media.counters()["not_admitted"] >= len(viewers))
        assert not any(viewer.rtp for viewer, _ in viewers)


async def test_a_check_at_another_workers_door_has_no_effect() -> None:
    async with open_world(LedWorld, workers=2) as world:
        publisher, _ = await world.publish()
        viewers = await fill(world)
        viewer, watched = next(pair for pair in viewers if worker_of(world, pair[1]) == 1)
        peer = world.media._endpoints.by_id[watched.transport].peer
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as moved:
            await moved.bind(("127.0.0.1", 0))
            await moved.sendto(a_check(peer, nominates=True), world.media.address)
            await world.until(lambda: world.media.counters()["peer_wrong_worker"] == 1)
            await publisher.send(0, KEY)
            await world.until(lambda: viewer.rtp)
            await moved.sendto(a_check(peer, nominates=True), viewer.server)
            assert (await moved.recv(2048))[0] < 4
            await publisher.send(1, KEY)
            with trio.fail_after(5):
                assert 128 <= (await moved.recv(2048))[0] < 192


async def test_who_takes_over_a_source_sits_where_it_is_and_its_viewers_go_on() -> None:
    async with open_world(LedWorld, workers=2) as world:
        first, published = await world.publish()
        viewers = await fill(world)
        await shows_all(world, first, viewers, 0)
        await fill(world, 3)  # by now the other worker may have less to do
        second, again = await world.publish()
        assert worker_of(world, again) == worker_of(world, published)
        for seq in range(20, 40):
            await second.send(seq, (KEY if seq == 20 else DELTA) + bytes([seq]), ssrc=9)
        for viewer, _ in viewers:
            await world.until(lambda viewer=viewer: viewer.rtp and viewer.rtp[-1][14] == 39)


def free_ports(count: int) -> int:
    """Return the first of so many ports that nobody has just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return min(probe.getsockname()[1], 65_535 - count)


async def test_workers_have_the_ports_that_follow_also_where_a_nat_forwards_them() -> None:
    for _ in range(20):
        port = free_ports(3)
        settings = MediaSettings(("127.0.0.1", port), (("203.0.113.7", 7000),), None, limits=LIMITS, workers=3)
        with suppress(OSError):
            media = Media(settings)
            break
    shown = [media._endpoints.shown_by(worker).udp for worker in range(3)]
    assert shown == [(("127.0.0.1", port + worker), ("203.0.113.7", 7000 + worker)) for worker in range(3)]
    media._forwarder.workers.close()
