"""Small rules of RTP, SRTP and RTCP that nothing else here is about."""

from __future__ import annotations

import struct

import pytest
from pylibsrtp import Error

from media.forwarding.tables import CACHE, Count, Shared
from media.webrtc.srtp import open_receiver, open_sender
from media.wire.rtcp import ReceiverReport, ReportBlock, SenderReport, build_rtcp, parse_rtcp_untrusted
from tests.media.test_forwarder import fresh_keys, mirrored
from tests.media.test_kernel_robustness import AUDIO_PT, DELTA, KEY, PT, set_stage
from tests.media.turns import open_turns, protected

WINDOW = 1024  # a second of a 10 Mbit/s picture


def rtp(seq: int, payload: bytes = b"x") -> bytes:
    return struct.pack("!BBHII", 0x80, 96, seq & 0xFFFF, 0, 7) + payload


def bye(*ssrcs: int) -> bytes:
    return struct.pack(f"!BBH{len(ssrcs)}I", 0x80 | len(ssrcs), 203, len(ssrcs), *ssrcs)


def test_what_is_a_thousand_packets_late_is_opened_once() -> None:
    keys = fresh_keys()
    sender, receiver = open_sender(keys), open_receiver(mirrored(keys))
    first = 65_000  # the rollover counter rises in between
    late = sender.protect(rtp(first))
    for seq in range(first + 1, first + WINDOW):
        receiver.unprotect(sender.protect(rtp(seq)))
    assert receiver.unprotect(late) == rtp(first)
    with pytest.raises(Error):
        receiver.unprotect(late)


def test_a_packet_that_comes_twice_is_counted_and_forwarded_once() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        datagram = protected(stage.publisher, struct.pack("!BBHII", 0x80, PT, 0, 0, 7) + KEY)
        assert datagram is not None
        for _ in range(3):
            stage.publisher.send(datagram)
        assert stage.turn() == [KEY]
        assert stage.counted(Count.UNPROTECT_REPLAY) == 2


def test_python_is_woken_once_for_what_is_missing() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        shared, tracks = turns.tables.shared, turns.tables.tracks
        woken = []
        for seq in (0, 1, 3, 6):
            shared[Shared.ATTENTION] = 0
            stage.publish(seq, KEY)
            turns.turn()
            woken.append((int(shared[Shared.ATTENTION]), int(tracks["gap"][stage.video])))
        assert woken == [(0, 0), (0, 0), (1, 1), (0, 1)]


def test_a_pause_in_sound_is_no_loss_and_keeps_its_place_in_time() -> None:
    """As Opus has it without a voice (RFC 7587 section 3.1.3): numbers go on, times jump, in-band FEC stays inside."""
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        for seq, ts in enumerate((0, 960, 960 * 20, 960 * 21)):
            stage.publish(seq, b"sound", pt=AUDIO_PT, ssrc=9, ts=ts)
            turns.turn()
        packets = stage.viewer.drain()[0]
        assert [packet.sequence_number for packet in packets] == [100, 101, 102, 103]
        assert [packet.timestamp - packets[0].timestamp for packet in packets] == [0, 960, 960 * 20, 960 * 21]


def test_a_goodbye_ends_a_source_and_neither_the_session_nor_another_source() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        stage.publish(0, b"sound", pt=AUDIO_PT, ssrc=9)
        assert len(stage.turn()) == 2
        for end, ssrcs in ((stage.publisher, (7,)), (stage.publisher, (1, 2, 3)), (stage.viewer, (stage.ssrc,))):
            datagram = protected(end, bye(*ssrcs), rtcp=True)
            assert datagram is not None
            end.send(datagram)
        stage.publish(1, b"sound", pt=AUDIO_PT, ssrc=9)
        assert stage.turn() == [b"sound"]
        turns.tables.tracks["last_ns"][stage.video] = 0  # half a second of silence later
        stage.publish(500, KEY, ssrc=70)
        assert stage.turn() == [KEY]


def test_a_viewers_reports_go_no_further_and_a_publishers_only_as_our_own() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        stage.publish(1, DELTA)
        block = ReportBlock(stage.ssrc, 255, 1000, 5, 6, 0, 0)
        stage.feed_back(build_rtcp(ReceiverReport(1, (block,))))
        report = protected(stage.publisher, build_rtcp(SenderReport(7, 5 << 32, 0, 1, 2, (block,))), rtcp=True)
        assert report is not None
        stage.publisher.send(report)
        turns.turn()
        assert stage.publisher.drain() == ([], [])
        for compound in stage.viewer.drain()[1]:
            told = next(iter(parse_rtcp_untrusted(compound)))
            assert isinstance(told, SenderReport)
            assert (told.ssrc, told.packets, told.blocks) == (stage.ssrc, 2, ())
        assert turns.tables.subscriptions["fraction_lost"][stage.subscriptions[0]] == 255


def test_rtcp_in_the_clear_is_not_read_and_none_is_sent() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        stage.turn()
        ask = struct.pack("!BBHII", 0x81, 206, 2, 1, stage.ssrc)
        stage.viewer.send(ask + bytes(20))
        stage.viewer.send(ask)
        turns.turn()
        assert stage.counted(Count.RTCP_UNPROTECT) + stage.counted(Count.TOO_SHORT) == 2
        assert turns.tables.tracks["keyframe_wanted"][stage.video] == 0
        stage.viewer.drain()  # opens each datagram, or fails


def test_who_watches_without_sound_or_listens_without_a_picture_needs_nothing_of_the_other() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        turns.forwarder.unsubscribe(stage.subscriptions[0])
        stage.publish(0, KEY)
        stage.publish(0, b"sound", pt=AUDIO_PT, ssrc=9)
        assert stage.turn() == [b"sound"]
        other = set_stage(turns, 2000)
        turns.forwarder.unsubscribe(other.subscriptions[1])
        got = 0
        for seq in range(CACHE):  # its publisher is mute throughout
            other.publish(seq, KEY if seq == 0 else DELTA, ts=seq)
            got += len(other.turn())
        assert got == CACHE
