"""Several addresses of ours: each is a candidate, and what comes to one is answered from that one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from media.door import Media, MediaSettings, Negotiated
from media.forwarding.admission import Grant, Holding
from media.webrtc.ice import Address, IceCredentials
from tests.media.test_door import KEY, LIMITS, Remote, World, write_offer
from tests.media.test_peer import a_check

FOUR, OTHER_FOUR, SIX = "127.0.0.1", "127.0.0.2", "::1"


class SixRemote(Remote):
    """A client with an IPv6 address."""

    def __init__(self, ice: IceCredentials, server: Address) -> None:
        super().__init__(ice, server)
        self.socket.close()
        self.socket = trio.socket.socket(trio.socket.AF_INET6, trio.socket.SOCK_DGRAM)

    async def connect(self, answer: str, nursery: trio.Nursery) -> None:
        self.socket.bind = _stay  # type: ignore[assignment, method-assign]
        await super().connect(answer, nursery)


class HearingRemote(Remote):
    """A client that remembers where everything came from."""

    def __init__(self, ice: IceCredentials, server: Address) -> None:
        super().__init__(ice, server)
        self.heard: list[tuple[Address, bytes]] = []
        recvfrom = self.socket.recvfrom

        async def recv(most: int) -> bytes:
            data, source = await recvfrom(most)
            self.heard.append((source, data))
            return bytes(data)

        self.socket.recv = recv  # type: ignore[assignment, method-assign]


async def _stay(_address: Address) -> None:
    """It gets an address when it first sends."""


@asynccontextmanager
async def world_at(hosts: Sequence[str], workers: int = 1) -> AsyncIterator[World]:
    first, *others = ((host, 0) for host in hosts)
    async with trio.open_nursery() as nursery:
        media = Media(MediaSettings(first, limits=LIMITS, also=tuple(others), workers=workers))
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        world = World(media, nursery)
        nursery.start_soon(world.listen)
        try:
            yield world
        finally:
            nursery.cancel_scope.cancel()
            for remote in world.remotes:
                remote.socket.close()


async def watch_at(world: World, remote: Remote) -> Negotiated:
    world.remotes.append(remote)
    offer = write_offer(remote.ice, "recvonly")
    negotiated = world.media.watch(world.room, "streamer", offer, Holding(Grant.WELCOME))
    with trio.fail_after(20):
        await remote.connect(negotiated.answer_sdp, world.nursery)
    return negotiated


async def test_one_watches_over_ipv6_and_one_over_ipv4_what_is_published_over_ipv6() -> None:
    async with world_at([FOUR, SIX]) as world:
        four, six = world.media._endpoints.shown_by(0).udp
        publisher = SixRemote(IceCredentials.random(), six)
        world.remotes.append(publisher)
        answer = world.media.publish(world.room, "streamer", write_offer(publisher.ice, "sendonly")).answer_sdp
        for host, port in (four, six):
            assert f" {host} {port} typ host\r\n" in answer
        assert [host for host, _ in world.media._endpoints.shown_by(0).tcp] == [FOUR, SIX]
        with trio.fail_after(20):
            await publisher.connect(answer, world.nursery)
        viewers = Remote(IceCredentials.random(), four), SixRemote(IceCredentials.random(), six)
        for viewer in viewers:
            await watch_at(world, viewer)
        for seq in range(50):
            await publisher.send(seq, KEY)
        for viewer in viewers:
            await world.until(lambda viewer=viewer: len(viewer.rtp) == 50)
        await world.until(lambda: publisher.rtcp)
        assert world.media.counters()["send_failed"] == 0


async def test_a_client_reaches_two_addresses_from_one_and_hears_each_from_where_it_asked() -> None:
    async with world_at([FOUR, OTHER_FOUR]) as world:
        first, second = world.media._endpoints.shown_by(0).udp
        publisher, _ = await world.publish()
        viewer = HearingRemote(IceCredentials.random(), first)
        negotiated = await watch_at(world, viewer)
        await publisher.send(0, KEY)
        await world.until(lambda: viewer.rtp)
        heard = viewer.heard
        peer = world.media._endpoints.by_id[negotiated.transport].peer
        for place, nominates in ((second, False), (first, False), (second, True)):
            heard.clear()
            await viewer.socket.sendto(a_check(peer, nominates=nominates), place)
            await world.until(lambda place=place: any(source == place and data[0] < 4 for source, data in heard))
        heard.clear()
        viewer.rtp.clear()
        await publisher.send(1, KEY)
        await world.until(lambda: viewer.rtp)
        assert {source for source, data in heard if 128 <= data[0] < 192} == {second}


async def test_each_worker_is_reached_at_each_address() -> None:
    async with world_at([FOUR, SIX], workers=2) as world:
        publisher, _ = await world.publish()
        viewers: list[Remote] = []
        for number in range(8):
            ways = [world.media._endpoints.shown_by(worker).udp for worker in (0, 1)]
            loads = world.media._forwarder.placement.loads
            four, six = ways[world.media._forwarder.placement.for_viewer(0)]
            kind = (Remote, SixRemote)[number % 2]
            viewers.append(kind(IceCredentials.random(), (four, six)[number % 2]))
            await watch_at(world, viewers[-1])
        assert min(loads) > 1
        for seq in range(20):
            await publisher.send(seq, KEY)
        for viewer in viewers:
            await world.until(lambda viewer=viewer: len(viewer.rtp) == 20)


def test_an_address_that_is_not_ours_is_refused_and_leaves_nothing_bound() -> None:
    with pytest.raises(OSError, match="assign"):
        Media(MediaSettings((FOUR, 0), limits=LIMITS, also=(("192.0.2.77", 0),)))
