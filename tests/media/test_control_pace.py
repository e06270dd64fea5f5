"""What one transport has Python look at is paced, and costs nobody else."""

from __future__ import annotations

from media.forwarding.kernel.receiving import CONTROL_AHEAD_NS, CONTROL_EVERY_NS
from media.forwarding.tables import Count
from tests.media.test_forwarder import open_world

AT_ONCE = CONTROL_AHEAD_NS // CONTROL_EVERY_NS


async def test_a_flood_of_dtls_from_one_transport_is_paced_and_others_are_heard() -> None:
    async with open_world() as world:
        viewer, server = world.viewer(), world.forwarder.addresses[0]
        for _ in range(6):
            for _ in range(AT_ONCE):
                world.publisher.socket.sendto(b"\x17" + bytes(50), server)
            await world.settle()
        heard = len(await world.forwarder.control())
        assert heard > AT_ONCE
        assert world.count(Count.CONTROL_PACED) == 6 * AT_ONCE - heard > 0
        viewer.socket.sendto(b"\x17" + bytes(50), server)
        world.publisher.socket.sendto(b"\x00" + bytes(50), server)  # its checks are none of it
        await world.settle()
        assert {datagram.data[0] for datagram in await world.forwarder.control()} >= {0x17, 0}
