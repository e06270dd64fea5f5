from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.forwarding import feedback as module
from media.forwarding.feedback import FOREVER, OUR_SSRC, TICK_NS, Feedback
from media.forwarding.losses import MAX_MISSING, MAX_TRIES, Losses
from media.wire.rtcp import Fir, Nack, Pli, RtcpPacket, parse_rtcp_untrusted

MS = 1_000_000
SECOND = 1_000 * MS
CACHE = 512
RTT = 100 * MS
AUDIO_ROW, VIDEO_ROW, TRANSPORT = 3, 5, 2
TRACK = np.dtype(
    [
        ("active", "u1"),
        ("transport", "i4"),
        ("kind", "u1"),
        ("clock_rate", "i8"),
        ("ssrc", "u8"),
        ("nack", "u1"),
        ("gap", "u1"),
        ("first_ext_seq", "i8"),
        ("highest_ext_seq", "i8"),
        ("received", "i8"),
        ("keyframe_wanted", "u1"),
        ("last_keyframe_ns", "i8"),
        ("restarts", "i4"),
    ],
    align=True,
)


@dataclass
class Columns:
    """The columns as a forwarding thread would leave them, and the packets that it would note in them."""

    tracks: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(8, TRACK))
    cache_seq: npt.NDArray[np.int64] = field(default_factory=lambda: np.full((8, CACHE), -1))

    def __post_init__(self) -> None:
        self.tracks["transport"] = -1

    def open(self, row: int, kind: int, *, nack: bool = True, transport: int = TRANSPORT) -> None:
        track = self.tracks[row]
        track["active"], track["transport"], track["kind"], track["nack"] = 1, transport, kind, nack

    def start(self, row: int, ext_seq: int, ssrc: int = 0xABCD) -> None:
        track = self.tracks[row]
        track["ssrc"], track["first_ext_seq"], track["highest_ext_seq"] = ssrc, ext_seq, ext_seq - 1
        track["restarts"] += 1
        track["received"] = 0
        self.cache_seq[row] = -1

    def arrive(self, row: int, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.cache_seq[row, number & (CACHE - 1)] = number
            self.tracks["gap"][row] |= number > self.tracks["highest_ext_seq"][row] + 1
            self.tracks["highest_ext_seq"][row] = max(number, self.tracks["highest_ext_seq"][row])
            self.tracks["received"][row] += 1


@pytest.fixture
def columns() -> Columns:
    columns = Columns()
    columns.open(AUDIO_ROW, 1, nack=False)
    columns.open(VIDEO_ROW, 2)
    columns.start(VIDEO_ROW, 65_536 + 65_530)
    return columns


@pytest.fixture
def feedback(columns: Columns) -> Feedback:
    feedback = Feedback(columns, rtt_ns=RTT)
    feedback.add_publisher(TRANSPORT, [AUDIO_ROW, VIDEO_ROW])
    return feedback


def sent(feedback: Feedback, now_ns: int) -> list[RtcpPacket]:
    packets = []
    for row, rtcp in feedback.due(now_ns):
        assert row == TRANSPORT
        assert len(rtcp) <= 1200
        packets += parse_rtcp_untrusted(rtcp)
    return packets


def of_kind(packets: list[RtcpPacket], kind: type) -> list[Any]:
    return [packet for packet in packets if isinstance(packet, kind)]


def run(feedback: Feedback, begin_ns: int, end_ns: int, kind: type) -> list[tuple[int, Any]]:
    """Call `due` at each deadline in [begin, end) and return (time, packet) of one kind."""
    found = []
    now_ns = begin_ns
    while now_ns < end_ns:
        found += [(now_ns, packet) for packet in of_kind(sent(feedback, now_ns), kind)]
        now_ns = max(feedback.next_deadline_ns(), now_ns + 1)
    return found


# -- repair --


def test_a_gap_is_asked_for_across_the_wrap_with_16_bit_numbers(columns: Columns, feedback: Feedback) -> None:
    first = 65_536 + 65_530
    columns.arrive(VIDEO_ROW, [first, first + 1, first + 4, first + 8, first + 9, first + 10, first + 11])
    nacks = of_kind(sent(feedback, SECOND), Nack)
    assert nacks == [Nack(OUR_SSRC, 0xABCD, (65_532, 65_533, 65_535, 0, 1))]


def test_reordering_is_not_taken_for_loss(columns: Columns, feedback: Feedback) -> None:
    first = 65_536 + 65_530
    columns.arrive(VIDEO_ROW, [first, first + 2, first + 3])
    assert not of_kind(sent(feedback, SECOND), Nack)
    columns.arrive(VIDEO_ROW, [first + 1])
    assert not of_kind(sent(feedback, SECOND + TICK_NS), Nack)


def test_a_gap_still_there_one_tick_later_is_asked_for(columns: Columns, feedback: Feedback) -> None:
    first = 65_536 + 65_530
    columns.arrive(VIDEO_ROW, [first, first + 2])
    assert not of_kind(sent(feedback, SECOND), Nack)
    assert of_kind(sent(feedback, SECOND + TICK_NS), Nack)


def test_requests_are_a_round_trip_apart_ten_at_most_and_then_a_keyframe_is_asked_for(
    columns: Columns, feedback: Feedback
) -> None:
    first = 65_536 + 65_530
    columns.arrive(VIDEO_ROW, [first, *range(first + 2, first + 9)])
    nacks, plis = [], []
    for now_ns in range(SECOND, 4 * SECOND, TICK_NS):
        packets = sent(feedback, now_ns)
        nacks += [now_ns] * len(of_kind(packets, Nack))
        plis += [now_ns] * len(of_kind(packets, Pli))
    assert len(nacks) == MAX_TRIES
    assert min(b - a for a, b in itertools.pairwise(nacks)) >= RTT
    assert plis
    assert plis[0] >= nacks[-1]
    assert feedback.losses_given_up == 1


def test_a_repaired_gap_is_forgotten(columns: Columns, feedback: Feedback) -> None:
    first = 65_536 + 65_530
    columns.arrive(VIDEO_ROW, [first, *range(first + 2, first + 9)])
    assert of_kind(sent(feedback, SECOND), Nack)
    columns.arrive(VIDEO_ROW, [first + 1])
    assert not run(feedback, SECOND + 1, 3 * SECOND, Nack)
    assert not feedback.losses_given_up


def test_a_burst_is_repaired_by_a_keyframe(columns: Columns, feedback: Feedback) -> None:
    first = 65_536 + 65_530
    columns.arrive(VIDEO_ROW, [first, first + MAX_MISSING + 2])
    packets = sent(feedback, SECOND)
    assert not of_kind(packets, Nack)
    assert of_kind(packets, Pli) == [Pli(OUR_SSRC, 0xABCD)]
    assert feedback.losses_given_up == MAX_MISSING + 1


def test_lost_sound_asks_for_no_keyframe(columns: Columns) -> None:
    columns.tracks["nack"][AUDIO_ROW] = 1
    columns.start(AUDIO_ROW, 70_000)
    feedback = Feedback(columns, rtt_ns=RTT)
    feedback.add_publisher(TRANSPORT, [AUDIO_ROW])
    columns.arrive(AUDIO_ROW, [70_000, 70_000 + MAX_MISSING + 2])
    assert not sent(feedback, SECOND)
    assert feedback.losses_given_up == MAX_MISSING + 1


def test_nothing_is_asked_of_publishers_that_do_not_repair(columns: Columns, feedback: Feedback) -> None:
    columns.start(AUDIO_ROW, 70_000)
    columns.arrive(AUDIO_ROW, [70_000, 70_010])
    assert not run(feedback, SECOND, 2 * SECOND, Nack)


def test_a_restarted_source_is_not_asked_for_what_the_old_one_lost(columns: Columns, feedback: Feedback) -> None:
    first = 65_536 + 65_530
    columns.arrive(VIDEO_ROW, [first, *range(first + 2, first + 9)])
    assert of_kind(sent(feedback, SECOND), Nack)
    columns.start(VIDEO_ROW, 66_000, ssrc=7)
    columns.arrive(VIDEO_ROW, [66_000, 66_001])
    assert not run(feedback, SECOND + 1, 3 * SECOND, Nack)


@given(st.integers(65_536, 131_071), st.lists(st.booleans(), min_size=1, max_size=1_500), st.integers(1, 200))
def test_losses_ask_exactly_for_what_did_not_arrive(first: int, arrived: list[bool], chunk: int) -> None:
    cache = np.full(CACHE, -1)
    losses = Losses()
    asked: set[int] = set()
    highest = first - 1
    for begin in range(0, len(arrived), chunk):
        for offset in range(begin, min(begin + chunk, len(arrived))):
            if arrived[offset]:
                highest = first + offset
                cache[highest & (CACHE - 1)] = highest
        numbers = losses.look(cache, first, highest, begin * MS, RTT)
        assert numbers == sorted(numbers)
        asked.update(numbers)
    lost = {first + offset for offset, there in enumerate(arrived) if not there and first + offset < highest}
    assert asked <= lost
    asked.update(losses.look(cache, first, highest, 10 * SECOND, RTT))
    if len(lost) <= MAX_MISSING and len(arrived) <= CACHE:
        assert asked == lost


def test_a_gap_that_left_the_cache_is_given_up() -> None:
    cache = np.full(CACHE, -1)
    losses = Losses()
    for number in (70_000, *range(70_002, 70_010)):
        cache[number & (CACHE - 1)] = number
    assert losses.look(cache, 70_000, 70_009, 0, RTT) == [70_001]
    for number in range(70_010, 70_010 + CACHE):
        cache[number & (CACHE - 1)] = number
    assert losses.look(cache, 70_000, 70_009 + CACHE, SECOND, RTT) == []
    assert losses.given_up == 1


def test_what_the_cache_no_longer_tells_is_not_asked_for() -> None:
    cache = np.full(CACHE, -1)
    losses = Losses()
    for number in range(70_000, 70_000 + 2 * CACHE):
        cache[number & (CACHE - 1)] = number
    assert losses.look(cache, 70_000, 70_000 + 2 * CACHE - 1, 0, RTT) == []
    assert losses.given_up == 0


def test_a_source_seen_halfway_through_its_restart_is_looked_at_anew() -> None:
    cache = np.full(CACHE, -1)
    losses = Losses()
    cache[130_000 & (CACHE - 1)] = 130_000
    assert losses.look(cache, 130_000, 130_000, 0, RTT) == []
    cache[:] = -1
    for number in (70_000, 70_005):
        cache[number & (CACHE - 1)] = number
    assert losses.look(cache, 70_000, 70_005, TICK_NS, RTT) == [70_001, 70_002]


# -- keyframes --


def test_whoever_reads_here_has_a_keyframe_asked_for_like_a_viewer(columns: Columns, feedback: Feedback) -> None:
    feedback.want_keyframe(VIDEO_ROW)
    feedback.want_keyframe(AUDIO_ROW)
    assert of_kind(sent(feedback, SECOND), Pli) == [Pli(OUR_SSRC, int(columns.tracks["ssrc"][VIDEO_ROW]))]
    assert of_kind(sent(feedback, SECOND + 100 * MS), Pli) == []
    columns.tracks["last_keyframe_ns"][VIDEO_ROW] = SECOND + 200 * MS
    assert of_kind(sent(feedback, 2 * SECOND), Pli) == []


def test_a_wanted_keyframe_is_asked_for_at_once(columns: Columns, feedback: Feedback) -> None:
    sent(feedback, SECOND)
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    assert sent(feedback, SECOND + 1) == [Pli(OUR_SSRC, 0xABCD)]


def test_a_storm_of_wishes_costs_one_request_per_half_second(columns: Columns, feedback: Feedback) -> None:
    asked = []
    for now_ns in range(SECOND, 4 * SECOND, MS):
        columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
        if now_ns % (300 * MS) == 0:
            columns.tracks["last_keyframe_ns"][VIDEO_ROW] = now_ns
        asked += [now_ns] * len(of_kind(sent(feedback, now_ns), Pli))
    assert asked[0] == SECOND
    assert len(asked) >= 5
    assert min(b - a for a, b in itertools.pairwise(asked)) >= module.KEYFRAME_INTERVAL_NS


def test_a_keyframe_ends_the_wish(columns: Columns, feedback: Feedback) -> None:
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    assert of_kind(sent(feedback, SECOND), Pli)
    columns.tracks["last_keyframe_ns"][VIDEO_ROW] = SECOND + 40 * MS
    assert not run(feedback, SECOND + 50 * MS, 5 * SECOND, Pli)
    assert columns.tracks["keyframe_wanted"][VIDEO_ROW] == 0


def test_an_older_keyframe_does_not_end_the_wish(columns: Columns, feedback: Feedback) -> None:
    columns.tracks["last_keyframe_ns"][VIDEO_ROW] = SECOND - 1
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    assert len(run(feedback, SECOND, 3 * SECOND, Pli)) == 4


def test_a_publisher_without_keyframes_is_left_in_peace_for_ten_seconds_and_then_asked_again(
    columns: Columns, feedback: Feedback
) -> None:
    asked = []
    for now_ns in range(SECOND, 32 * SECOND, TICK_NS):
        columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
        asked += [now_ns] * len(of_kind(sent(feedback, now_ns), Pli))
    assert len([now_ns for now_ns in asked if now_ns < 11 * SECOND]) == 20
    assert not [now_ns for now_ns in asked if 11 * SECOND <= now_ns < 21 * SECOND]
    assert [now_ns for now_ns in asked if now_ns >= 21 * SECOND]
    assert feedback.keyframes_given_up == 2
    assert feedback.keyframe_requests == len(asked)


def test_fir_with_rising_numbers_goes_where_nothing_else_was_negotiated(columns: Columns) -> None:
    feedback = Feedback(columns)
    feedback.add_publisher(TRANSPORT, [VIDEO_ROW], fir_only=[VIDEO_ROW])
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    requests = [packet.requests for _, packet in run(feedback, SECOND, 2 * SECOND, Fir)]
    assert requests == [((0xABCD, 1),), ((0xABCD, 2),)]


def test_before_the_first_packet_nobody_is_asked(columns: Columns, feedback: Feedback) -> None:
    columns.tracks["ssrc"][VIDEO_ROW] = 0
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    assert not run(feedback, SECOND, 3 * SECOND, Pli)


# -- who is looked after --


def test_without_publishers_there_is_nothing_to_do(columns: Columns) -> None:
    feedback = Feedback(columns)
    assert feedback.next_deadline_ns() == FOREVER
    assert feedback.due(SECOND) == []


def test_a_removed_publisher_is_forgotten(columns: Columns, feedback: Feedback) -> None:
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    feedback.remove_publisher(TRANSPORT)
    feedback.remove_publisher(TRANSPORT)
    assert feedback.next_deadline_ns() == FOREVER
    assert feedback.due(SECOND) == []


def test_a_row_used_again_starts_afresh(columns: Columns, feedback: Feedback) -> None:
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    assert of_kind(sent(feedback, SECOND), Pli)
    feedback.remove_publisher(TRANSPORT)
    feedback.add_publisher(TRANSPORT, [VIDEO_ROW])
    assert of_kind(sent(feedback, SECOND + 1), Pli)


def test_of_a_closed_track_nothing_is_asked(columns: Columns, feedback: Feedback) -> None:
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    columns.tracks["active"][VIDEO_ROW] = 0
    assert not sent(feedback, SECOND)


def test_of_a_track_that_another_transport_feeds_nothing_is_asked(columns: Columns, feedback: Feedback) -> None:
    columns.tracks["transport"][VIDEO_ROW] = TRANSPORT + 1
    columns.tracks["keyframe_wanted"][VIDEO_ROW] = 1
    assert not sent(feedback, SECOND)


def test_nobody_is_woken_for_losses_unless_something_is_missing(columns: Columns, feedback: Feedback) -> None:
    columns.arrive(VIDEO_ROW, range(65_536 + 65_530, 65_536 + 65_540))
    sent(feedback, SECOND)
    assert feedback.next_deadline_ns() == FOREVER
    columns.arrive(VIDEO_ROW, [65_536 + 65_541])
    assert feedback.next_deadline_ns() <= SECOND
    assert not of_kind(sent(feedback, SECOND), Nack)
    assert feedback.next_deadline_ns() == SECOND + TICK_NS
    assert of_kind(sent(feedback, SECOND + TICK_NS), Nack)
    columns.arrive(VIDEO_ROW, [65_536 + 65_540])
    assert not of_kind(sent(feedback, SECOND + 2 * TICK_NS), Nack)
    assert feedback.next_deadline_ns() == FOREVER
