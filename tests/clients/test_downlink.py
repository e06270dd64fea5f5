"""Each viewer gets what its own network carries: real packets, and links as the impairment relay models them."""

from __future__ import annotations

import time

import trio

from bench.impairment import Impairment
from media.forwarding.admission import Grant, Holding
from tests.clients.networked import Behind, eventually, publish_paced, watch_behind
from tests.media.test_door import open_world

RATES = {"q": 240_000, "h": 700_000, "f": 2_200_000}
THIN = Impairment(rate_bps=300_000, delay_ms=10, queue_ms=500)
WIDE = Impairment(rate_bps=5_000_000, delay_ms=10, queue_ms=500)
THIRD = Impairment(rate_bps=5_000_000 / 3, delay_ms=10, queue_ms=500)


def layer(viewer: Behind) -> str:
    return viewer.shown[-1].layer if viewer.shown else ""


async def test_a_thin_viewer_beside_a_wide_one_each_gets_its_layer_within_three_seconds() -> None:
    async with open_world() as world:
        await publish_paced(world, RATES)
        await trio.sleep(2)  # until it is known what its layers take
        thin, _ = await watch_behind(world, THIN)
        wide, _ = await watch_behind(world, WIDE)
        await eventually(lambda: layer(wide) == "f", 3)
        await trio.sleep(3)
        settled_ns = time.monotonic_ns()
        await trio.sleep(5)
        assert {shown.layer for shown in thin.within(settled_ns, 5)} == {"q"}
        assert {shown.layer for shown in wide.within(settled_ns, 5)} == {"f"}
        assert thin.used_bps(settled_ns, 5) > 0.8 * 300_000
        delays = sorted(shown.waited_ms for shown in thin.within(settled_ns, 5))
        assert delays[len(delays) * 9 // 10] < 100
        assert thin.longest_gap_ms(settled_ns, 5) < 300
        assert wide.longest_gap_ms(settled_ns, 5) < 300


async def test_a_link_that_shrinks_to_a_third_costs_a_layer_and_no_freeze_and_it_comes_back() -> None:
    async with open_world() as world:
        await publish_paced(world, RATES)
        await trio.sleep(2)
        viewer, _ = await watch_behind(world, WIDE)
        await eventually(lambda: layer(viewer) == "f", 3)
        await trio.sleep(2)
        shrunk_ns = time.monotonic_ns()
        viewer.link.impairment = THIRD
        await trio.sleep(5)
        assert {shown.layer for shown in viewer.within(shrunk_ns + 2_000_000_000, 3)} == {"h"}
        assert viewer.longest_gap_ms(shrunk_ns, 5) < 500
        delays = sorted(shown.waited_ms for shown in viewer.within(shrunk_ns + 2_000_000_000, 3))
        assert delays[len(delays) * 9 // 10] < 100
        viewer.link.impairment = WIDE
        await eventually(lambda: layer(viewer) == "f", 10)


async def test_no_sound_stands_behind_a_large_picture_on_a_thin_link_and_the_picture_comes_all_the_same() -> None:
    async with open_world() as world:
        publisher = await publish_paced(world, {"q": 120_000}, key_octets=30_000)
        world.nursery.start_soon(publisher.speak)
        viewer, negotiated = await watch_behind(world, THIN)
        await eventually(lambda: layer(viewer) == "q", 3)
        await trio.sleep(3)  # the first picture has shown what the link carries
        began_ns = time.monotonic_ns()
        publisher.wanted.add("q")
        await trio.sleep(3)
        waits = [waited_ms for at_ns, waited_ms in viewer.heard if at_ns >= began_ns]
        assert len(waits) > 140
        assert max(waits) < 100
        assert viewer.longest_gap_ms(began_ns, 3) < 2500  # beside all else the link takes 1.7 s for it

        publisher.wanted.add("q")
        await trio.sleep(0.3)  # some of it has left
        world.media.hold(negotiated.transport, Holding(Grant(0)))
        await world.media.fence()
        fenced_ns = time.monotonic_ns()
        await trio.sleep(1)
        assert fenced_ns - 300_000_000 < viewer.received_ns <= fenced_ns
        assert world.media.counters()["skipped"] >= 1  # and the rest of it never does


async def test_a_publisher_leaves_out_what_nobody_watches_and_has_it_back_for_who_comes() -> None:
    async with open_world() as world:
        publisher = await publish_paced(world, RATES)
        await eventually(lambda: publisher.sent == "q", 15)
        viewer, negotiated = await watch_behind(world, WIDE)
        await eventually(lambda: bool(viewer.shown) and viewer.shown[-1].layer == "f", 4)
        first, last = viewer.shown[0].at_ns, viewer.shown[-1].at_ns
        assert viewer.longest_gap_ms(first, (last - first) / 1e9) < 300
        await trio.sleep(1)
        assert publisher.sent == "qhf"
        world.media.close(negotiated.transport, "left")
        await eventually(lambda: publisher.sent == "q", 15)
