"""What viewers tell of their network, through the kernel: the estimate that the reference draws as well."""

from __future__ import annotations

import random
import struct

import pytest

from media.forwarding.backlogs import LINK_SHARE, PACE
from media.forwarding.estimates import SENT_LOG
from media.forwarding.reference.estimation import Estimate
from media.forwarding.tables import Count, Shared
from media.wire import twcc
from media.wire.malformed import MalformedPacket
from media.wire.rtcp import build_rtcp, parse_rtcp_untrusted
from media.wire.twcc import MAX_STATUSES, Twcc
from tests.media.test_kernel_robustness import DELTA, KEY, Stage, set_stage
from tests.media.test_stamps import NUMBERED
from tests.media.turns import Turns, open_turns

MS_NS = 1_000_000
TEMPLATE = Twcc(1, 1000, 0, 0, 0, ())
NEEDS_BPS = 450e3  # of the picture: less than is known at first, and more later
NUMBERS_BEGIN = (0, 0xFFF0, 0x7FF8)


def pace(estimate: Estimate) -> float:
    """Return at how many bits a second picture leaves."""
    if estimate.link_bps is None:
        return PACE * max(estimate.bps, NEEDS_BPS)
    return min(PACE * estimate.bps, max(estimate.bps, LINK_SHARE * estimate.link_bps))


class Told:
    """A viewer and the reference, told the same."""

    def __init__(self, turns: Turns, begin: int) -> None:
        self.stage: Stage = set_stage(turns, 1000, stamp=NUMBERED)
        self.turns, self.row = turns, self.stage.viewer.row
        turns.tables.transports["stamped"][self.row] = begin
        turns.tables.estimates["needs_bps"][self.row] = NEEDS_BPS
        self.reference = Estimate()
        self.log: dict[int, tuple[int, int]] = {}
        self.seq = 0

    @property
    def stamped(self) -> int:
        return int(self.turns.tables.transports["stamped"][self.row])

    @property
    def octet_ns(self) -> int:
        """For how long an octet takes the viewer's way."""
        return int(self.turns.tables.transports["octet_ns"][self.row])

    def send(self, packets: int) -> None:
        octet_ns, record = self.octet_ns, self.turns.tables.transports["octet_ns"]
        record[self.row] = 0  # nothing waits here
        for _ in range(packets):
            self.stage.publish(self.seq, (DELTA if self.seq else KEY) + bytes(800), ts=self.seq)
            self.seq += 1
        self.turns.turn()
        record[self.row] = octet_ns
        self.stage.viewer.drain()
        for number in range(self.stamped - packets + 1, self.stamped + 1):
            row = self.turns.tables.sent_log[self.row, number % SENT_LOG]
            self.log[number] = (int(row["at_ns"]), int(row["size"]))

    def tell(self, rtcp: bytes) -> None:
        """Have both take a report."""
        self.stage.feed_back(rtcp)
        self.turns.turn()
        now = int(self.turns.tables.estimates["told_ns"][self.row])
        try:
            told = [packet for packet in parse_rtcp_untrusted(rtcp) if isinstance(packet, Twcc)]
        except MalformedPacket:
            return
        for report in told:
            if 0 < len(report.deltas) <= MAX_STATUSES:
                self._take(report, now)

    def _take(self, report: Twcc, now: int) -> None:
        first = self.stamped + ((report.base_seq - self.stamped + 0x8000) & 0xFFFF) - 0x8000
        arrived_ns, lost = report.reference_time * twcc.REFERENCE_NS, 0
        for number, delta in enumerate(report.deltas, first):
            arrived_ns += (delta or 0) * twcc.TICK_NS
            known = self.log.get(number) if number > self.stamped - SENT_LOG else None
            if delta is None:
                lost += known is not None
            elif known is not None:
                self.reference.arrived(number, known[0], arrived_ns + (twcc.REFERENCE_NS << 24), known[1])
                del self.log[number]
        self.reference.reported(lost, first + len(report.deltas) - 1, now)

    def agree(self) -> None:
        record = self.turns.tables.estimates[self.row]
        assert record["bps"] == pytest.approx(self.reference.bps, rel=1e-6)
        assert not record["told_ns"] or self.octet_ns == pytest.approx(8e9 / pace(self.reference), abs=1)
        assert (record["got"], record["lost"]) == (self.reference.got, self.reference.lost)
        assert record["received_bps"] == pytest.approx(self.reference.received_bps, rel=1e-6)


def reports(begin: int, arrivals: list[int | None]) -> list[bytes]:
    return [build_rtcp(report) for report in twcc.reports(begin & 0xFFFF, arrivals, TEMPLATE)]


@pytest.mark.parametrize("begin", NUMBERS_BEGIN)
def test_the_kernel_draws_from_reports_what_the_reference_does(begin: int) -> None:
    chance = random.Random(begin)
    with open_turns() as turns:
        told = Told(turns, begin)
        first, now_ns = told.stamped + 1, 50_000 * MS_NS
        for _ in range(60):
            told.send(chance.randrange(1, 9))
            arrivals: list[int | None] = []
            for _ in range(first, told.stamped + 1):
                now_ns += chance.choice([0, 250_000, 3 * MS_NS, 70 * MS_NS])
                arrivals.append(None if chance.random() < 0.1 else now_ns)
            now_ns += 5 * MS_NS
            for rtcp in reports(first, arrivals):
                told.tell(rtcp)
            told.agree()
            first = told.stamped + 1
        assert turns.counts()[Count.WAY_REPORTS] > 30


def test_a_damaged_report_counts_whole_or_not_at_all() -> None:
    chance = random.Random(5)
    with open_turns() as turns:
        told = Told(turns, 0)
        for _ in range(400):
            first = told.stamped + 1
            told.send(chance.randrange(1, 9))
            arrivals = [chance.choice([None, (place + 100) * MS_NS]) for place in range(first, told.stamped + 1)]
            for rtcp in reports(first, arrivals):
                damaged = bytearray(rtcp)
                for _ in range(chance.randrange(4)):
                    place = chance.choice([*range(12, 16), *range(19, len(damaged))])
                    damaged[place] = chance.choice([0, 1, 0xFF, chance.randrange(256)])
                told.tell(bytes(damaged))
                told.agree()
        assert turns.counts()[Count.MALFORMED_RTCP] > 20


def test_a_packet_counts_once_and_only_if_it_was_sent() -> None:
    with open_turns() as turns:
        told = Told(turns, 0)
        told.send(3)
        (rtcp,) = reports(1, [10 * MS_NS, 11 * MS_NS, 12 * MS_NS, 13 * MS_NS, 14 * MS_NS])
        for _ in range(3):
            told.tell(rtcp)
        assert turns.tables.estimates["got"][told.row] == 3
        told.agree()


def test_who_got_no_numbers_has_no_say() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        turns.turn()
        stage.feed_back(reports(1, [10 * MS_NS])[0])
        turns.turn()
        assert not turns.tables.estimates[stage.viewer.row]["bps"]
        assert turns.counts()[Count.WAY_REPORTS] == 0


def test_a_cut_wakes_python_at_once() -> None:
    with open_turns() as turns:
        told = Told(turns, 0)
        told.send(30)
        turns.tables.shared[Shared.ATTENTION] = 0
        turns.tables.estimates["loss_from_ns"][told.row] = 1
        lost: list[int | None] = [None if place % 3 else (place + 10) * MS_NS for place in range(31)]
        for rtcp in reports(1, lost):
            told.tell(rtcp)
        assert turns.tables.estimates["cuts"][told.row] == 1
        assert turns.tables.shared[Shared.ATTENTION] == turns.tables.shared[Shared.WAY_CUTS] == 1


@pytest.mark.parametrize(("mantissa", "exponent"), [(1, 0), (200_000, 0), (0x3FFFF, 3), (2, 63)])
def test_a_receivers_own_estimate_is_read(mantissa: int, exponent: int) -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        rate = bytes([1, exponent << 2 | mantissa >> 16]) + (mantissa & 0xFFFF).to_bytes(2)
        stage.feed_back(struct.pack("!BBHII", 0x8F, 206, 5, 1, 0) + b"REMB" + rate + (1000).to_bytes(4))
        turns.turn()
        assert turns.tables.estimates["remb_bps"][stage.viewer.row] == mantissa * 2.0**exponent
        stage.feed_back(struct.pack("!BBHII", 0x8F, 206, 5, 1, 0) + b"XXXX" + bytes(8))
        turns.turn()
        assert turns.tables.estimates["remb_bps"][stage.viewer.row] == mantissa * 2.0**exponent
