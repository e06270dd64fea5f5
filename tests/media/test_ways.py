"""Where a viewer tells little of its network, pictures leave as quickly as something is known of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from media.forwarding.backlogs import LINK_SHARE, PACE, octet_ns
from media.forwarding.estimates import LEAST_BPS, START_BPS
from media.forwarding.layers.allocation import PROBED, SOUND_BPS
from media.forwarding.layers.selection import Layers
from media.forwarding.layers.ways import Ways
from media.forwarding.layers.wishes import ANY_PICTURE
from media.forwarding.tables import Count
from tests.media.test_kernel_robustness import KEY, Sent, Stage, set_stage
from tests.media.test_pacing import of_picture, picture, turn
from tests.media.test_stamps import NUMBERED
from tests.media.turns import open_turns

SECOND_NS = 1_000_000_000
NOW = 100 * SECOND_NS
ROWS = np.array([3, 5], np.int64)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_turns() as turns:
        yield set_stage(turns, 1000, stamp=NUMBERED)


def paces(stage: Stage) -> int:
    return int(stage.turns.tables.transports["octet_ns"][stage.viewer.row])


def test_what_is_known_of_a_way_says_how_quickly_pictures_leave() -> None:
    assert octet_ns(1e6, 0.0, 0.0) == int(8e9 / (PACE * 1e6))
    assert octet_ns(1e6, 0.0, 4e6) == int(8e9 / (PACE * 4e6))  # nothing lesser is to be had
    assert octet_ns(1e6, 1.2e6, 4e6) == int(8e9 / (LINK_SHARE * 1.2e6))  # it was full with that
    assert octet_ns(1e6, 0.9e6, 0.0) == int(8e9 / 1e6)


def test_who_gets_the_only_picture_is_probed_for_what_it_takes(stage: Stage) -> None:
    tables, row = stage.turns.tables, stage.viewer.row
    layers = Layers(stage.turns.forwarder)
    layers.open(stage.video, NOW)
    layers.review(NOW)
    tables.tracks["octets"][stage.video] += 500_000
    layers.review(NOW + SECOND_NS)
    layers.subscribe(stage.video, row, Sent(3000, stamp=NUMBERED), ANY_PICTURE, NOW + SECOND_NS)
    needs_bps = tables.estimates["needs_bps"][row]
    assert 4e6 < needs_bps < 4.5e6
    assert paces(stage) == 0  # nothing is known yet
    tables.estimates["bps"][row] = START_BPS
    layers.review(NOW + 2 * SECOND_NS)
    assert tables.estimates["probe_bps"][row] == pytest.approx(
        PROBED * needs_bps + SOUND_BPS
    )  # it lacks room, and may have it
    tables.estimates["bps"][row] = needs_bps + SOUND_BPS
    layers.review(NOW + 3 * SECOND_NS)
    assert tables.estimates["probe_bps"][row] == 0


def test_what_pictures_take_is_noted_of_each() -> None:
    with open_turns() as turns:
        ways = Ways(turns.tables)
        ways.need(ROWS, [1e6, 2e6])
        assert turns.tables.estimates["needs_bps"][ROWS].tolist() == [1e6, 2e6]
        ways.get_only(ROWS, np.array([3e6, 3e6]))
        assert turns.tables.estimates["needs_bps"][ROWS].tolist() == [3e6, 3e6]
        assert turns.tables.estimates["probe_bps"][ROWS].tolist() == [0, 0]  # nothing is known of their ways


def remb(mantissa: int, exponent: int) -> bytes:
    rate = bytes([1, exponent << 2 | mantissa >> 16]) + (mantissa & 0xFFFF).to_bytes(2)
    return struct.pack("!BBHII", 0x8F, 206, 5, 1, 0) + b"REMB" + rate + (1000).to_bytes(4)


@pytest.mark.parametrize(
    ("told", "needs_bps", "pace_bps"),
    [(remb(200_000, 0), 0.0, 200e3), (remb(200_000, 0), 3e5, 3e5), (remb(1, 0), 0.0, LEAST_BPS)],
    ids=["told", "needed", "least"],
)
def test_who_tells_its_own_estimate_alone_gets_pictures_at_the_pace_of_that(
    told: bytes, needs_bps: float, pace_bps: float
) -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        turns.tables.estimates["needs_bps"][stage.viewer.row] = needs_bps
        stage.feed_back(told)
        turns.turn()
        assert paces(stage) == octet_ns(pace_bps, 0.0, 0.0)
        picture(stage, 0, 12, KEY)
        assert len(of_picture(stage, turn(stage))) < 12
        assert stage.counted(Count.WAITED) > 0


def test_whose_packets_are_numbered_is_judged_by_what_it_tells_of_those(stage: Stage) -> None:
    picture(stage, 0, 1, KEY)
    turn(stage)
    stage.feed_back(remb(1, 0))
    turn(stage)
    assert paces(stage) == 0
