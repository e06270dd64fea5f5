"""What is stamped on each packet to a viewer: transport-wide numbers without a gap, or the time; and what is logged."""

from __future__ import annotations

import struct
import time

import pytest

from media.forwarding.estimates import SENT_LOG
from media.forwarding.tables import Count
from tests.media.test_kernel_robustness import AUDIO_PT, DELTA, KEY, Stage, set_stage
from tests.media.turns import Packet, open_turns

EXTENSION = 5
NUMBERED, TIMED = EXTENSION << 4 | 1, EXTENSION << 4 | 2


def numbers(packets: list[Packet]) -> list[int]:
    return [int.from_bytes(packet.extensions[EXTENSION]) for packet in packets]


def nack(stage: Stage, ssrc: int, first: int, mask: int = 0) -> None:
    stage.feed_back(struct.pack("!BBHIIHH", 0x81, 205, 3, 1, ssrc, first, mask))


def test_one_count_goes_through_sound_picture_and_repairs_and_wraps() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        turns.tables.transports["stamped"][stage.viewer.row] = 0xFFFD
        for seq, payload in enumerate([KEY, DELTA, DELTA]):
            stage.publish(seq, payload + bytes([seq]) * 40, ts=seq)
            stage.publish(seq, b"sound", pt=AUDIO_PT, ssrc=9)
            turns.turn()
        nack(stage, 1000, 100, 0b11)
        turns.turn()
        packets = stage.viewer.drain()[0]
        assert numbers(packets) == [0xFFFE, 0xFFFF, *range(7)]
        media = [packet.payload for packet in packets if packet.ssrc == 1000]
        repairs = [packet.payload for packet in packets if packet.ssrc == 1001]
        assert media == [KEY + bytes(40), DELTA + b"\x01" * 40, DELTA + b"\x02" * 40]
        assert repairs == [(100 + place).to_bytes(2) + payload for place, payload in enumerate(media)]


def test_the_log_knows_when_each_left_and_how_large_it_was() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        before = time.monotonic_ns()
        for seq, size in enumerate([10, 500, 1000]):
            stage.publish(seq, KEY + bytes(size))
            turns.turn()
        log = turns.tables.sent_log[stage.viewer.row][1:4]
        assert all(before < at_ns < time.monotonic_ns() for at_ns in log["at_ns"])
        # An RTP header, the stamp, two octets of KEY, and the tag of GCM.
        assert log["size"].tolist() == [12 + 8 + 2 + size + 16 for size in (10, 500, 1000)]


def test_the_log_is_as_long_as_it_is_and_stays_within_its_row() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED)
        for seq in range(SENT_LOG + 20):
            stage.publish(seq, KEY)
            turns.turn()
        assert (turns.tables.sent_log["size"][stage.viewer.row] > 0).all()
        assert not turns.tables.sent_log["size"][stage.publisher.row].any()
        assert not turns.tables.sent_log["size"][stage.viewer.row + 1].any()


def test_who_answers_with_remb_gets_the_time() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=TIMED)
        stage.publish(0, KEY)
        turns.turn()
        (packet,) = stage.viewer.drain()[0]
        sent = int.from_bytes(packet.extensions[EXTENSION]) / 2**18
        assert (time.monotonic() - sent) % 64 < 5
        assert packet.payload == KEY
        assert not turns.tables.sent_log["size"][stage.viewer.row].any()


@pytest.mark.parametrize("stamp", [NUMBERED, TIMED])
def test_what_is_stamped_is_never_sent_again_under_its_own_number(stamp: int) -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=stamp)
        stage.publish(0, KEY)
        stage.publish(0, b"sound", pt=AUDIO_PT, ssrc=9)
        turns.turn()
        assert len(stage.viewer.drain()[0]) == 2
        nack(stage, 1002, 100)
        turns.turn()
        assert stage.viewer.drain()[0] == []
        assert stage.counted(Count.RETRANSMISSION_GONE) == 1
