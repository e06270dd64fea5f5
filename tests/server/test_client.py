"""The WHIP and WHEP client: how sessions end, and how another takes over the socket of one."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from media.webrtc.srtp import SrtpKeys
from server.client import Endpoint, publish, watch
from tests.server.nodes import open_site
from tests.server.test_node import send_frames


async def test_a_cancelled_publisher_says_goodbye_and_raises_nothing(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann = await site.person("ann")
        stream = await site.stream(ann)
        for _ in range(10):  # tasks are cancelled in random order
            started = trio.Event()

            async def go_live(started: trio.Event = started) -> None:
                async with publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher:
                    await send_frames(publisher, 1)
                    started.set()
                    await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(go_live)
                await started.wait()
                nursery.cancel_scope.cancel()


async def test_whoever_takes_over_the_socket_reads_media_and_the_connection_lives_by_what_comes_back(
    tmp_path: Path,
) -> None:
    async with open_site(tmp_path) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        stream = await site.stream(ann)
        taken: list[tuple[Endpoint, SrtpKeys]] = []
        async with (
            publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher,
            watch(
                site.http,
                site.url("whep", stream),
                bob.token,
                ("video",),
                lambda packet, at_ns: taken.clear(),
                on_secured=lambda endpoint, keys: taken.append((endpoint, keys)),
            ) as endpoint,
        ):
            await send_frames(publisher, 10)
            assert [taker for taker, _ in taken] == [endpoint]
            with trio.fail_after(10):
                media, checks = 0, 0
                while checks == 0:  # the next consent check is at most three seconds away
                    datagram = await endpoint.socket.recv(2048)
                    if 128 <= datagram[0] < 192:
                        media += 1
                    else:
                        endpoint.receive_control_untrusted(datagram)
                        checks += datagram[0] < 4
            assert media >= 10
            heard_ns = time.monotonic_ns()
            assert endpoint.ended is None
            # Told of the answer, it does not ask again for another two seconds.
            assert endpoint._peer.deadline_ns() > heard_ns + 1_500_000_000
