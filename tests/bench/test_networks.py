"""What viewers behind bad networks are said to have seen is what they saw."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from bench import networks
from bench.impairment import Impairment
from bench.network_viewer import LOST_S, NetworkViewer, Shown
from bench.networks import LOSSES, Limited, Lossy, Outcome, Shrunk
from bench.payload import FRAME_RATE, Packet, Rate, Source
from bench.simulcast import publish_layers
from media.wire.rtp import RtpHeader, build_rtp
from server.offers import TRANSPORT_CC_ID, VIDEO, VIDEO_RTX
from tests.bench.crowds import open_bench

SECOND_NS = 1_000_000_000
FRAME_NS = SECOND_NS // FRAME_RATE


class Wire:
    """Packets of a source with three to a picture, as they come to a viewer."""

    def __init__(self, layer: int = 1) -> None:
        self.viewer = NetworkViewer("", "", Impairment())
        self.source = Source(layer, Rate(3 * 8 * 1000 * FRAME_RATE, sound=False), started_ns=0)
        self.packets: list[Packet] = []

    def make(self, pictures: int) -> None:
        self.packets += self.source.due(FRAME_NS * (len({p.timestamp for p in self.packets}) + pictures) - 1)

    def bring(self, number: int, at_ns: int, *, repaired: bool = False) -> None:
        packet = self.packets[number]
        payload = packet.stamp(time.time_ns())
        payload = number.to_bytes(2) + payload if repaired else payload
        header = RtpHeader(
            VIDEO_RTX if repaired else VIDEO,
            number & 0xFFFF,
            packet.timestamp,
            9 if repaired else 7,
            packet.marker,
            extensions={TRANSPORT_CC_ID: number.to_bytes(2)},
        )
        self.viewer._take(build_rtp(header, payload), at_ns)


def test_a_picture_is_shown_when_it_and_all_before_have_come() -> None:
    wire = Wire()
    wire.make(12)
    missing = next(number for number, packet in enumerate(wire.packets) if packet.marker and number > 20)
    for number in range(len(wire.packets)):
        if number != missing:
            wire.bring(number, number * 1_000_000)
    viewer = wire.viewer
    before = [shown.at_ns for shown in viewer.shown]
    assert before == [number * 1_000_000 for number in range(missing) if wire.packets[number].marker]
    assert (viewer.lost, viewer.repaired) == ({missing}, 0)
    wire.bring(missing, SECOND_NS, repaired=True)
    wire.bring(missing, SECOND_NS, repaired=True)
    assert (viewer.repaired, viewer.unrepaired) == (1, 0)
    later = [shown for shown in viewer.shown if shown.at_ns == SECOND_NS]
    assert len(later) + len(before) == sum(packet.marker for packet in wire.packets)
    assert {shown.layer for shown in viewer.shown} == {1}
    assert viewer.longest_freeze_ms(0, 2 * SECOND_NS) == pytest.approx(1000)
    assert viewer.used_bps(SECOND_NS, 2 * SECOND_NS) > 8 * 2 * 900


def test_what_never_comes_is_counted_and_the_picture_goes_on_with_the_next_keyframe() -> None:
    wire = Wire()
    wire.make(10)
    first = next(number for number, packet in enumerate(wire.packets) if packet.marker) + 1
    for number in [*range(first), *range(first + 2, len(wire.packets))]:
        wire.bring(number, 0)
    shown, gone = len(wire.viewer.shown), len(wire.packets)
    late_ns = round(LOST_S * 1e9) + 1
    wire.source.request_keyframe()
    wire.make(1)
    for number in range(gone, len(wire.packets)):
        wire.bring(number, late_ns)
    assert len(wire.viewer.shown) == shown + 1
    assert (len(wire.viewer.lost), wire.viewer.repaired, wire.viewer.unrepaired) == (2, 0, 2)


def test_a_whole_keyframe_is_shown_though_something_before_it_is_missing() -> None:
    wire = Wire()
    wire.make(5)
    first = next(number for number, packet in enumerate(wire.packets) if packet.marker) + 1
    for number in [*range(first), *range(first + 2, len(wire.packets))]:
        wire.bring(number, SECOND_NS)
    shown, gone = len(wire.viewer.shown), len(wire.packets)
    wire.source.request_keyframe()
    wire.make(2)
    for number in range(gone, len(wire.packets)):
        wire.bring(number, 2 * SECOND_NS - round(LOST_S * 1e9))
    assert len(wire.viewer.shown) == shown + 2
    assert (wire.viewer.needless, wire.viewer.repaired, wire.viewer.unrepaired) == (2, 0, 0)


def test_a_beginning_that_is_lost_is_waited_for_no_longer_than_anything_else() -> None:
    wire = Wire()
    wire.make(3)
    for number in range(1, len(wire.packets)):
        wire.bring(number, SECOND_NS)
    viewer = wire.viewer
    assert viewer.shown == []
    assert not viewer._gave_up(SECOND_NS + round(LOST_S * 1e9))
    assert viewer._gave_up(SECOND_NS + round(LOST_S * 1e9) + 1)


def test_a_layer_is_reached_when_no_other_is_shown_any_more() -> None:
    seen = [Shown(second * SECOND_NS, layer, 0.0) for second, layer in enumerate((0, 2, 0, 2, 2))]
    assert networks._until_only(seen, 2, -SECOND_NS) == 4
    assert networks._until_only(seen, 0, 0) is None
    assert networks._until_only([], 0, 0) is None


GOOD = Outcome(
    [Lossy(name, 200, 100, 0, [20.0, 30.0]) for name in LOSSES],
    [Limited("300 kbit/s", 1.0, True, 0.9, [5.0], 100), Limited("5 Mbit/s beside it", 1.0, True, 0.5, [5.0], 100)],
    Shrunk(300, 1.0, 5.0, [(0.0, 1.0), (1.0, 3.0)]),
)


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        (replace(GOOD, lossy=[replace(GOOD.lossy[0], freeze_ms=301)]), "no freeze of 300"),
        (replace(GOOD, lossy=[replace(GOOD.lossy[0], unrepaired=1)]), "came after all"),
        (replace(GOOD, lossy=[replace(GOOD.lossy[0], lost=0)]), "came after all"),
        (replace(GOOD, limited=[replace(GOOD.limited[0], to_layer_s=3.1)]), "within 3 s"),
        (replace(GOOD, limited=[replace(GOOD.limited[0], stayed=False)]), "within 3 s"),
        (replace(GOOD, limited=[replace(GOOD.limited[0], use=0.8)]), "80%"),
        (replace(GOOD, limited=[replace(GOOD.limited[1], queued_ms=[101.0])]), "p90 below 100"),
        (replace(GOOD, shrunk=replace(GOOD.shrunk, freeze_ms=501)), "no freeze of 500"),
        (replace(GOOD, shrunk=replace(GOOD.shrunk, settled_s=2.1)), "settled within 2 s"),
        (replace(GOOD, shrunk=replace(GOOD.shrunk, back_s=None)), "within 10 s"),
    ],
    ids=["freeze", "lost", "nothing lost", "slow", "restless", "idle", "queue", "shrinking", "settling", "back"],
)
def test_whatever_is_worse_than_expected_is_said(worse: Outcome, words: str) -> None:
    assert networks.describe(GOOD).holds
    missed = [target for target, holds in networks.describe(worse).targets if not holds]
    assert len(missed) == 1
    assert words in missed[0]


async def test_a_viewer_behind_losses_has_them_repaired_by_a_real_server(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        owner, person = await mesi.people(["owner", "viewer"])
        stream = await mesi.stream(owner)
        layers = {"q": 100_000, "f": 400_000}
        async with publish_layers(mesi.http, f"{mesi.url}/whip/{stream}", owner.token, layers) as publisher:
            stage.nursery.start_soon(publisher.run)
            viewer = NetworkViewer(f"{mesi.url}/whep/{stream}", person.token, Impairment(loss=0.1, delay_ms=5))
            with trio.fail_after(20):
                await stage.nursery.start(viewer.run, mesi.http)
                while viewer.repaired < 5 or len(viewer.shown) < 30:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            assert viewer.within(viewer.joined_ns, time.monotonic_ns())
            viewer.become(Impairment())
            assert viewer._relay is not None
            assert viewer._relay.down.impairment.loss == 0
            stage.nursery.cancel_scope.cancel()
