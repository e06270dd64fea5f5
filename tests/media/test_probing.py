"""Probes through the kernel: sent behind a frame to those who could have better, and to nobody else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from media.forwarding.admission import Grant, Holding
from media.forwarding.kernel.probing import LEAST_OCTETS, LEAST_PACKETS, MOST_PACKETS, PROBE_S
from media.forwarding.tables import Count
from tests.media.test_kernel_robustness import DELTA, KEY, PT, Stage, set_stage
from tests.media.test_stamps import NUMBERED, numbers
from tests.media.turns import Packet, Turns, open_turns, protected

RTX_SSRC = 1001


def frame(stage: Stage, seq: int, sizes: Sequence[int] = (500, 501), *, marker: bool = True) -> list[Packet]:
    """Publish a frame of packets of these sizes; returns what the viewer got."""
    for place, size in enumerate(sizes):
        is_last = marker and place == len(sizes) - 1
        header = (
            bytes([0x80, PT | (0x80 if is_last else 0)]) + (seq + place).to_bytes(2) + seq.to_bytes(4) + b"\0\0\0\7"
        )
        datagram = protected(stage.publisher, header + (DELTA if seq or place else KEY) + bytes([place]) * size)
        assert datagram is not None
        stage.publisher.send(datagram)
    stage.turns.turn()
    return stage.viewer.drain()[0]


def want(turns: Turns, stage: Stage, bps: float, knows: float = 300e3) -> None:
    estimate = turns.tables.estimates
    estimate["bps"][stage.viewer.row] = knows
    estimate["probe_bps"][stage.viewer.row] = bps
    estimate["probe_due_ns"][stage.viewer.row] = 0


def repeats(packets: list[Packet]) -> list[Packet]:
    return [packet for packet in packets if packet.ssrc == RTX_SSRC]


def test_a_probe_repeats_a_packet_behind_the_frame_and_is_noted() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        want(turns, stage, 3e6)
        got = frame(stage, 0)
        probe = repeats(got)
        assert got[-len(probe) :] == probe
        assert len(probe) == LEAST_PACKETS
        assert {packet.payload for packet in probe} == {(100).to_bytes(2) + KEY + bytes(500)}
        assert numbers(got) == list(range(1, len(got) + 1))
        record = turns.tables.estimates[stage.viewer.row]
        assert (record["probe_first"], record["probe_last"]) == (2, len(got))
        assert record["probe_goal_bps"] == 3 * 300e3
        assert stage.counted(Count.PROBES) == len(probe)
        assert not repeats(frame(stage, 2))  # the next is not due before this one was heard of, or is lost


@pytest.mark.parametrize("sizes", [(20,), (500, 501), (150, 1200, 700)], ids=["small", "alike", "mixed"])
@pytest.mark.parametrize("knows", [100e3, 300e3, 1e6])
def test_a_probe_takes_15_ms_at_what_it_is_to_show_whatever_the_picture(knows: float, sizes: Sequence[int]) -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        want(turns, stage, 50e6, knows)
        probe = repeats(frame(stage, 0, sizes))
        log = turns.tables.sent_log["size"][stage.viewer.row]
        octets = int(log[len(sizes) + 1 :][: len(probe)].sum())
        needed = max(3 * knows * PROBE_S / 8, LEAST_PACKETS * LEAST_OCTETS)
        assert needed <= octets <= 1.8 * needed
        assert LEAST_PACKETS <= len(probe) < MOST_PACKETS


def test_a_probe_is_bounded() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        want(turns, stage, 50e6, knows=40e6)
        assert len(repeats(frame(stage, 0))) == MOST_PACKETS


def test_nobody_is_probed_who_wants_no_more_or_of_whom_nothing_is_known_or_within_a_frame() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        want(turns, stage, 0)
        assert len(frame(stage, 0)) == 2
        want(turns, stage, 200e3)
        assert len(frame(stage, 2)) == 2
        want(turns, stage, 1e6, knows=0)
        assert len(frame(stage, 4)) == 2
        want(turns, stage, 1e6)
        assert len(frame(stage, 6, marker=False)) == 2


def test_who_lost_the_right_is_not_probed_either() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        assert len(frame(stage, 0)) == 2
        want(turns, stage, 1e6)
        turns.forwarder.admission.hold(stage.viewer.row, Holding(Grant(0)))
        assert frame(stage, 2) == []
        assert stage.counted(Count.PROBES) == 0
