"""What the kernel tells publishers of what arrived: receiver reports and transport-wide feedback."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from numba import njit, types

from media.forwarding.kernel import loop
from media.forwarding.kernel.reporting import INTERVAL_NS, REPORTER, expect_report, next_report_ms, send_reports
from media.forwarding.kernel.sending import flush
from media.forwarding.tables import REPORTS, TWCC, Count, Shared
from media.io.compiled import keep_with
from media.wire.codecs import Codec
from media.wire.rtcp import ReceiverReport, ReportBlock, RtcpPacket, Sdes, parse_rtcp_untrusted
from media.wire.twcc import TICK_NS, Twcc
from tests.media.turns import Turns, open_turns

MS = 1_000_000
SECOND = 1_000 * MS
FIRST = 65_536 + 65_530

keep_with("kernel")


@njit([types.void(loop._LAYOUT, types.int64, types.int64)], nogil=True, cache=True)
def _expect(whole, transport, now):
    expect_report(whole[0], transport, now)


@njit([types.void(loop._LAYOUT, types.int64)], nogil=True, cache=True)
def _send_due(whole, now):
    t = whole[0]
    t.shared[Shared.NOW] = now
    send_reports(t)
    flush(t)


@njit([types.int64(loop._LAYOUT, types.int64)], nogil=True, cache=True)
def _next_ms(whole, now):
    t = whole[0]
    t.shared[Shared.NOW] = now
    return next_report_ms(t, 100)


@dataclass
class Stage:
    """A publisher of sound and picture, of whom packets are noted as the kernel would note them."""

    turns: Turns
    room: int = field(init=False)
    audio: int = field(init=False)
    video: int = field(init=False)

    def __post_init__(self) -> None:
        forwarder = self.turns.forwarder
        self.room = forwarder.open_room()
        self.audio = forwarder.open_track(self.room, "audio", Codec.OPUS, 48_000)
        self.video = forwarder.open_track(self.room, "video", Codec.VP8, 90_000)
        self.enter()
        self.start(self.video, FIRST)

    def enter(self) -> None:
        forwarder = self.turns.forwarder
        self.end = self.turns.end(self.room, publishes=True)
        forwarder.report_to(self.end.row)
        for track, payload_type in ((self.audio, 50), (self.video, 96)):
            forwarder.feed_track(
                track,
                self.end.row,
                payload_type=payload_type,
                rtx_payload_type=payload_type + 1 if track == self.video else None,
                twcc_extension_id=3,
                nack=True,
            )

    def start(self, track: int, ext_seq: int, ssrc: int = 0xABCD) -> None:
        row = self.turns.tables.tracks[track]
        row["ssrc"], row["first_ext_seq"], row["highest_ext_seq"] = ssrc, ext_seq, ext_seq - 1
        row["received"] = row["reported_expected"] = row["reported_received"] = 0

    def arrive(self, track: int, numbers: Iterable[int], now_ns: int = 0) -> None:
        row = self.turns.tables.tracks[track]
        for number in numbers:
            row["highest_ext_seq"] = max(number, row["highest_ext_seq"])
            row["received"] += 1
        if now_ns:
            _expect(self.turns.tables.whole, self.end.row, now_ns)

    def log(self, number: int, arrival_ns: int) -> None:
        """Note a packet with a transport-wide number."""
        tables, row = self.turns.tables, self.turns.tables.transports[self.end.row]
        tables.twcc_seq[row["twcc_slot"], number % TWCC] = number
        tables.twcc_arrival_ns[row["twcc_slot"], number % TWCC] = arrival_ns
        row["twcc_highest"] = max(number, row["twcc_highest"])
        _expect(tables.whole, self.end.row, arrival_ns)

    def sent(self, now_ns: int) -> list[RtcpPacket]:
        """Let the kernel tell who is due, and return what came."""
        _send_due(self.turns.tables.whole, now_ns)
        packets, reports = self.end.drain()
        assert not packets
        assert all(len(report) <= 1200 for report in reports)
        return [packet for report in reports for packet in parse_rtcp_untrusted(report)]

    def blocks(self, now_ns: int) -> list[ReportBlock]:
        """Let a packet come, and return what is told of each track an interval later."""
        _expect(self.turns.tables.whole, self.end.row, now_ns - INTERVAL_NS)
        return [block for report in self.sent(now_ns) if isinstance(report, ReceiverReport) for block in report.blocks]

    def arrivals(self, now_ns: int) -> list[Twcc]:
        return [packet for packet in self.sent(now_ns) if isinstance(packet, Twcc)]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_turns() as turns:
        yield Stage(turns)


# -- transport-wide feedback --


def test_arrivals_are_told_ten_times_a_second_without_gaps(stage: Stage) -> None:
    number, reports = 65_536 + 65_500, list[Twcc]()
    for now_ns in range(SECOND, 2 * SECOND, 4 * MS):
        if number % 7:
            stage.log(number, now_ns)
        number += 1
        reports += stage.arrivals(now_ns)
    assert 9 <= len(reports) <= 10
    for before, after in itertools.pairwise(reports):
        assert after.base_seq == (before.base_seq + len(before.deltas)) & 0xFFFF
        assert after.feedback_count == before.feedback_count + 1
    lost = [(r.base_seq + i) & 0xFFFF for r in reports for i, delta in enumerate(r.deltas) if delta is None]
    assert lost == [n & 0xFFFF for n in range(65_536 + 65_501, number) if n % 7 == 0][: len(lost)]
    assert (reports[0].sender_ssrc, reports[0].media_ssrc) == (REPORTER, 0xABCD)
    assert stage.turns.counts()[Count.TRANSPORT_FEEDBACK] == len(reports)


def test_of_sound_and_picture_the_picture_is_named(stage: Stage) -> None:
    stage.start(stage.audio, 70_000, ssrc=0x1234)
    stage.log(70_000, SECOND)
    assert stage.arrivals(2 * SECOND)[0].media_ssrc == 0xABCD
    stage.turns.tables.tracks["ssrc"][stage.video] = 0
    stage.log(70_001, 2 * SECOND)
    assert stage.arrivals(3 * SECOND)[0].media_ssrc == 0x1234


def test_a_late_start_reports_only_what_arrived(stage: Stage) -> None:
    stage.log(70_000, SECOND)
    stage.log(70_002, SECOND + TICK_NS)
    (report,) = stage.arrivals(SECOND + INTERVAL_NS)
    assert (report.base_seq, report.deltas[1:]) == (70_000 & 0xFFFF, (None, 1))


def test_without_new_arrivals_nothing_is_told_and_nobody_is_queued(stage: Stage) -> None:
    stage.log(70_000, SECOND)
    assert not stage.sent(SECOND + INTERVAL_NS - 1)
    assert len(stage.arrivals(SECOND + INTERVAL_NS)) == 1
    assert not stage.sent(100 * SECOND)


def test_more_arrivals_than_the_log_holds_lose_only_the_oldest(stage: Stage) -> None:
    stage.log(70_000, SECOND)
    stage.arrivals(SECOND + INTERVAL_NS)
    for number in range(70_001, 73_000):
        stage.log(number, SECOND + INTERVAL_NS + number * 1_000)
    reports = stage.arrivals(2 * SECOND)
    assert sum(len(report.deltas) for report in reports) == TWCC
    assert [report.feedback_count for report in reports] == [1 + i for i in range(len(reports))]


# -- receiver reports --


def test_a_receiver_report_covers_every_track_once_a_second(stage: Stage) -> None:
    stage.start(stage.audio, 70_000, ssrc=0x1234)
    stage.arrive(stage.audio, range(70_000, 70_050))
    times, blocks = list[int](), list[ReportBlock]()
    for now_ns in range(10 * SECOND, 13 * SECOND, 10 * MS):
        stage.arrive(stage.video, [FIRST + (now_ns - 10 * SECOND) // (10 * MS)], now_ns)
        told = stage.sent(now_ns)
        times += [now_ns for packet in told if isinstance(packet, ReceiverReport)]
        blocks += [block for packet in told if isinstance(packet, ReceiverReport) for block in packet.blocks]
        assert all(packet.ssrc == REPORTER for packet in told if isinstance(packet, ReceiverReport))
    assert len(times) == 3
    assert all(900 * MS < after - before <= 1_100 * MS for before, after in itertools.pairwise(times))
    assert {block.ssrc for block in blocks[:2]} == {0x1234, 0xABCD}
    assert {block.highest_seq for block in blocks[:2]} == {70_049, FIRST + INTERVAL_NS // (10 * MS)}
    assert stage.turns.counts()[Count.RECEIVER_REPORTS] == 3


def test_loss_is_reported_as_a_fraction_of_the_interval_and_in_all(stage: Stage) -> None:
    stage.arrive(stage.video, [FIRST + i for i in range(100) if i % 4])
    stage.arrive(stage.video, [FIRST + 100])
    (first,) = stage.blocks(SECOND)
    assert (first.fraction_lost, first.lost) == (25 * 256 // 101, 25)
    stage.arrive(stage.video, range(FIRST + 101, FIRST + 134))
    (second,) = stage.blocks(2 * SECOND)
    assert (second.fraction_lost, second.lost) == (0, 25)


def test_more_received_than_expected_is_no_negative_fraction(stage: Stage) -> None:
    stage.arrive(stage.video, [FIRST, FIRST - 1, FIRST - 2])
    (block,) = stage.blocks(SECOND)
    assert (block.fraction_lost, block.lost) == (0, -2)


def test_the_sender_report_is_echoed_with_its_age_for_the_round_trip_time(stage: Stage) -> None:
    stage.arrive(stage.video, [FIRST])
    row = stage.turns.tables.tracks[stage.video]
    row["sr_ntp"], row["sr_arrival_ns"], row["jitter_q4"] = 0xFEDC_BA98_7654_3210, SECOND, 90 << 4
    _expect(stage.turns.tables.whole, stage.end.row, SECOND)
    report, names = stage.sent(SECOND + SECOND // 2)
    assert isinstance(report, ReceiverReport)
    (block,) = report.blocks
    assert (block.last_sr, block.since_last_sr, block.jitter) == (0xBA98_7654, 65_536 // 2, 90)
    assert names == Sdes(((REPORTER, b"mesi"),))


def test_a_source_of_which_everything_was_lost_is_reported_as_such(stage: Stage) -> None:
    stage.turns.tables.tracks["highest_ext_seq"][stage.video] += 50
    (block,) = stage.blocks(SECOND)
    assert (block.fraction_lost, block.lost) == (255, 50)


def test_a_sender_report_that_arrives_while_we_write_is_no_time_old(stage: Stage) -> None:
    stage.arrive(stage.video, [FIRST])
    row = stage.turns.tables.tracks[stage.video]
    row["sr_ntp"], row["sr_arrival_ns"] = 1 << 32, SECOND + 1
    (block,) = stage.blocks(SECOND)
    assert (block.last_sr, block.since_last_sr) == (1 << 16, 0)


def test_before_a_sender_report_there_is_nothing_to_echo(stage: Stage) -> None:
    stage.arrive(stage.video, [FIRST])
    (block,) = stage.blocks(SECOND)
    assert (block.last_sr, block.since_last_sr) == (0, 0)


def test_every_layer_is_reported(stage: Stage) -> None:
    forwarder, tables = stage.turns.forwarder, stage.turns.tables
    track = forwarder.open_track(stage.room, "video", Codec.VP8, 90_000, ("q", "h", "f"))
    forwarder.feed_track(track, stage.end.row, payload_type=100, rtx_payload_type=101, twcc_extension_id=3, nack=True)
    rows = forwarder.layers(track)
    for number, row in enumerate(rows):
        stage.start(row, 70_000, ssrc=100 + number)
    assert [block.ssrc for block in stage.blocks(SECOND)] == [0xABCD, 100, 101, 102]
    tables.tracks["ssrc"][rows[1]] = 0  # nothing came of it
    assert [block.ssrc for block in stage.blocks(2 * SECOND)] == [0xABCD, 100, 102]


# -- who is told --


def test_a_closed_track_is_not_reported(stage: Stage) -> None:
    stage.arrive(stage.video, [FIRST])
    stage.turns.tables.tracks["active"][stage.video] = 0
    assert not stage.blocks(SECOND)


def test_a_track_that_another_transport_feeds_is_not_reported_twice(stage: Stage) -> None:
    stage.turns.tables.tracks["transport"][stage.video] = stage.end.row + 1
    assert not stage.blocks(SECOND)


def test_who_is_to_be_told_nothing_is_not_queued(stage: Stage) -> None:
    stage.turns.tables.transports["reported"][stage.end.row] = 0
    stage.log(70_000, SECOND)
    assert not stage.sent(10 * SECOND)
    assert stage.turns.tables.shared[Shared.REPORTS_HEAD] == 0


def test_who_gets_a_row_is_not_told_at_the_time_of_who_had_it(stage: Stage) -> None:
    stage.log(70_000, SECOND)
    stage.turns.tables.transports["report_ns"][stage.end.row] = 0  # as at birth
    stage.log(70_001, SECOND + INTERVAL_NS // 2)
    assert not stage.sent(SECOND + INTERVAL_NS)
    assert len(stage.arrivals(SECOND + 2 * INTERVAL_NS)) == 1


def test_who_left_is_told_nothing(stage: Stage) -> None:
    stage.log(70_000, SECOND)
    stage.turns.forwarder.close_transport(stage.end.row)
    assert not stage.sent(2 * SECOND)
    assert stage.turns.counts()[Count.NO_DESTINATION] == 1


def test_the_queue_goes_round_and_is_bounded(stage: Stage) -> None:
    shared, row = stage.turns.tables.shared, stage.turns.tables.transports[stage.end.row]
    shared[Shared.REPORTS_HEAD] = shared[Shared.REPORTS_TAIL] = REPORTS - 1
    for number in range(3):
        stage.log(70_000 + number, (1 + number) * SECOND)
        assert len(stage.arrivals((2 + number) * SECOND)) == 1
    shared[Shared.REPORTS_HEAD] = shared[Shared.REPORTS_TAIL] + REPORTS
    stage.log(70_003, 9 * SECOND)
    assert row["report_ns"] == 0
    assert stage.turns.counts()[Count.REPORTS_FULL] == 1


def test_the_kernel_sleeps_no_longer_than_until_the_next_report(stage: Stage) -> None:
    whole = stage.turns.tables.whole
    assert _next_ms(whole, SECOND) == 100
    stage.log(70_000, SECOND)
    assert _next_ms(whole, SECOND + 30 * MS) == 71
    assert _next_ms(whole, SECOND + 2 * INTERVAL_NS) == 0
