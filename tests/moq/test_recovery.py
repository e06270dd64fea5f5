"""The kernel's recovery against aioquic's: the same packets, acknowledgements, losses and timers, the same books."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.tls import Epoch

from media.moq.kernel import columns as c
from media.moq.quic.table import ConnectionTable, Row
from media.moq.quic.tabled import TabledRecovery, TabledSpace

SIZE = 1_200
SETTINGS: dict[str, Any] = {
    "congestion_control_algorithm": "reno",
    "initial_rtt": 0.1,
    "max_datagram_size": SIZE,
    "peer_completed_address_validation": True,
    "send_probe": lambda: None,
}


class Owner:
    """Passes on what the kernel tells."""

    def __init__(self, recovery: TabledRecovery) -> None:
        self.recovery, self.probes = recovery, 0

    def foreign_settled(self, number: int, *, is_acknowledged: bool) -> None:
        self.recovery.settled(number, QuicDeliveryState.ACKED if is_acknowledged else QuicDeliveryState.LOST)

    def stream_over(self, stream: int) -> None:
        raise AssertionError("there are no streams")

    def stirred(self) -> None:
        """Have nothing to send."""

    def fail(self) -> None:
        raise AssertionError

    def probe(self) -> None:
        self.probes += 1


class Side:
    """One recovery with the space of application packets, and what it told of packets."""

    def __init__(self, recovery: QuicPacketRecovery, space: QuicPacketSpace) -> None:
        self.recovery, self.space = recovery, space
        recovery.spaces = [space]
        recovery.handshake_confirmed = True
        self.told: list[tuple[str, int]] = []

    def send(self, number: int, size: int, now: float, *, elicits: bool) -> None:
        packet = QuicSentPacket(Epoch.ONE_RTT, elicits, elicits, False, number, QuicPacketType.ONE_RTT, now, size)
        packet.delivery_handlers.append((lambda state: self.told.append((state.name, number)), ()))
        self.recovery.on_packet_sent(packet=packet, space=self.space)

    def books(self) -> dict[str, Any]:
        loss, space = self.recovery, self.space
        names = ("_pto_count", "_rtt_smoothed", "_rtt_variance", "_rtt_min", "_rtt_latest", "_rtt_first_sample_time")
        control, pacer = loss._cc, loss._pacer
        return {
            **{name: getattr(loss, name) for name in names},
            "window": (control.congestion_window, control.bytes_in_flight, control.ssthresh),
            "recovery": (control._congestion_stash, control._congestion_recovery_start_time),  # type: ignore[attr-defined]
            "pace": (pacer.packet_time, pacer.bucket_max, pacer.bucket_time),
            "flight": (space.ack_eliciting_in_flight, space.largest_acked_packet, space.loss_time),
            "told": sorted(self.told),
        }


def tabled() -> tuple[Side, Row]:
    row = ConnectionTable(2).take_row()
    row.ints[c.PACKET_BYTES] = SIZE
    recovery = TabledRecovery(row, **SETTINGS)
    row.owner = Owner(recovery)
    return Side(recovery, TabledSpace(row)), row


def ranges(dice: random.Random, sent: int) -> RangeSet:
    """Return what a peer may acknowledge: mostly all of late, with holes."""
    made = RangeSet()
    stop = sent - dice.choice([0, 0, 0, 1, 2, 5])
    for _ in range(dice.choice([1, 1, 2, 4])):
        start = max(0, stop - dice.randint(1, 12))
        if start < stop:
            made.add(start, stop)
        stop = start - dice.randint(1, 3)
        if stop <= 0:
            break
    return made


def steps(dice: random.Random) -> Iterator[tuple[str, Any]]:
    """Yield what happens, with how much time passes before."""
    for _ in range(400):
        yield "wait", dice.choice([0.0001, 0.002, 0.005, 0.02, 0.02, 0.3 if dice.random() < 0.05 else 0.01])
        match dice.random():
            case share if share < 0.55:
                yield "send", [(dice.choice([SIZE, SIZE, 80]), dice.random() < 0.9) for _ in range(dice.randint(1, 6))]
            case share if share < 0.9:
                yield "acknowledge", dice.random() * 0.03
            case _:
                yield "timer", None


@pytest.mark.parametrize("seed", range(30))
def test_the_books_are_those_that_aioquic_keeps(seed: int) -> None:
    dice = random.Random(seed)
    ours, row = tabled()
    theirs = Side(QuicPacketRecovery(**SETTINGS), QuicPacketSpace(is_application_data=True))
    now, sent = 100.0, 0
    for kind, about in steps(dice):
        if kind == "wait":
            now += about
        elif kind == "send":
            for size, elicits in about:
                for side in (ours, theirs):
                    side.send(sent, size, now, elicits=elicits)
                sent += 1
        elif kind == "acknowledge":
            acknowledged = ranges(dice, sent)
            for side in (ours, theirs):
                if len(acknowledged):
                    side.recovery.on_ack_received(ack_rangeset=acknowledged, ack_delay=about, now=now, space=side.space)
        else:
            due = theirs.recovery.get_loss_detection_time(amplification_limited=False)
            if due is not None and due <= now:
                theirs.recovery.on_loss_detection_timeout(now=now)
            row.table.run_timers(now)
        assert ours.books() == theirs.books()
    assert sent > 300
    assert {name for name, _ in ours.told} == {"ACKED", "LOST"}


@pytest.mark.parametrize("seed", range(5))
def test_timers_are_due_when_aioquic_says(seed: int) -> None:
    dice = random.Random(seed)
    ours, row = tabled()
    theirs = Side(QuicPacketRecovery(**SETTINGS), QuicPacketSpace(is_application_data=True))
    now = 100.0
    for sent in range(1, 201):
        now += dice.choice([0.001, 0.01])
        for side in (ours, theirs):
            side.send(sent - 1, SIZE, now, elicits=True)
        acknowledged = ranges(dice, sent)
        for side in (ours, theirs):
            if len(acknowledged) and sent % 3 == 0:
                side.recovery.on_ack_received(ack_rangeset=acknowledged, ack_delay=0.0, now=now, space=side.space)
        due = theirs.recovery.get_loss_detection_time(amplification_limited=False)
        if due is not None and due <= now:
            theirs.recovery.on_loss_detection_timeout(now=now)
            due = theirs.recovery.get_loss_detection_time(amplification_limited=False)
        assert row.table.run_timers(now) == (math.inf if due is None else due)
        assert ours.books() == theirs.books()


def test_a_probe_for_what_is_aioquics_is_aioquics_to_send() -> None:
    ours, row = tabled()
    ours.send(0, 100, 1.0, elicits=True)
    assert row.table.run_timers(1.19) == 1.2
    assert row.table.run_timers(1.2) == float("inf")
    assert isinstance(row.owner, Owner)
    assert row.owner.probes == 1
    assert ours.told == [("LOST", 0)]
    assert ours.recovery.bytes_in_flight == 0


def test_the_window_grows_no_wider_than_there_are_places_for_packets() -> None:
    ours, row = tabled()
    for number in range(2_000):
        ours.send(number, SIZE, 1.0 + number / 1_000, elicits=True)
        acknowledged = RangeSet([range(number, number + 1)])
        ours.recovery.on_ack_received(
            ack_rangeset=acknowledged, ack_delay=0.0, now=1.01 + number / 1_000, space=ours.space
        )
    assert ours.recovery.congestion_window == c.MAX_WINDOW_PACKETS * SIZE
    assert row.ints[c.TAIL] == row.ints[c.HEAD] == 0
