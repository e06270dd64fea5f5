"""What of a publisher's header extensions reaches a viewer, and under which ids; and what is learnt from them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from media.forwarding.tables import LEVELS
from media.wire.extensions import Passed
from media.wire.rtcp import Nack, build_rtcp
from tests.media.test_kernel_robustness import AUDIO_PT, DELTA, KEY, PASSED, RTX_PT, Stage, set_stage
from tests.media.test_stamps import NUMBERED, TIMED
from tests.media.turns import Packet, open_turns

VIEWERS = {Passed.AUDIO_LEVEL: 9, Passed.ORIENTATION: 8, Passed.PLAYOUT_DELAY: 7, Passed.CAPTURE_TIME: 6}
CAPTURED = bytes(range(8))
UNKNOWN, TRANSPORT_WIDE = 11, 3


def one_byte(elements: Mapping[int, bytes]) -> bytes:
    body = b"".join(bytes([number << 4 | len(value) - 1]) + value for number, value in elements.items())
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", 0xBEDE, len(body) // 4) + body


def two_bytes(elements: Mapping[int, bytes]) -> bytes:
    body = b"".join(bytes([number, len(value)]) + value for number, value in elements.items())
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", 0x1000, len(body) // 4) + body


def got(stage: Stage) -> list[Packet]:
    stage.turns.turn()
    return stage.viewer.drain()[0]


@pytest.mark.parametrize("stamp", [0, NUMBERED, TIMED])
@pytest.mark.parametrize("write", [one_byte, two_bytes], ids=["one_byte", "two_bytes"])
def test_ids_are_the_viewers_own_and_what_is_for_one_hop_stays_there(stamp: int, write) -> None:  # type: ignore[no-untyped-def]
    with open_turns() as turns:
        stage = set_stage(turns, 1000, stamp=stamp, passed=VIEWERS)
        ours = {PASSED[Passed.CAPTURE_TIME]: CAPTURED, PASSED[Passed.PLAYOUT_DELAY]: b"\x00\x01\x02"}
        block = write({TRANSPORT_WIDE: b"\x12\x34", UNKNOWN: b"private", PASSED[Passed.ORIENTATION]: b"\x01", **ours})
        stage.publish(0, KEY + b"picture", block=block)
        stage.publish(0, b"sound", pt=AUDIO_PT, ssrc=9, block=write({PASSED[Passed.AUDIO_LEVEL]: b"\x85"}))
        picture, sound = sorted(got(stage), key=lambda packet: packet.ssrc)
        assert (picture.payload, sound.payload) == (KEY + b"picture", b"sound")
        stamps = {stamp >> 4: picture.extensions[stamp >> 4]} if stamp else {}
        assert picture.extensions == {**stamps, 8: b"\x01", 7: b"\x00\x01\x02", 6: CAPTURED}
        stamps = {stamp >> 4: sound.extensions[stamp >> 4]} if stamp else {}
        assert sound.extensions == {**stamps, 9: b"\x85"}


def test_who_asked_for_one_gets_one_and_who_asked_for_none_gets_no_header_for_them() -> None:
    with open_turns() as turns:
        few, none = set_stage(turns, 1000, passed={Passed.ORIENTATION: 14}), set_stage(turns, 2000, passed={})
        for stage in (few, none):
            stage.publish(0, KEY, block=one_byte({PASSED[Passed.ORIENTATION]: b"\x02", 5: CAPTURED}))
        (first,), (second,) = got(few), none.viewer.drain()[0]
        assert (first.extensions, second.extensions) == ({14: b"\x02"}, {})


@pytest.mark.parametrize("size", [1, 2, 7, 9, 15])
def test_a_value_of_another_size_than_its_kind_has_is_left_out(size: int) -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, passed=VIEWERS)
        elements = {5: bytes(size), 4: bytes(size), **({2: bytes(size)} if size > 1 else {})}
        stage.publish(0, KEY, block=one_byte(elements))
        assert got(stage)[0].extensions == {}


def test_a_repair_has_them_too_and_a_packet_sent_twice_has_the_same_octets() -> None:
    block = one_byte({PASSED[Passed.CAPTURE_TIME]: CAPTURED * 2})
    with open_turns() as turns:
        stage, plain = set_stage(turns, 1000, passed=VIEWERS), set_stage(turns, 2000, passed=VIEWERS, rtx=None)
        for each in (stage, plain):
            each.publish(0, KEY, block=block)
            each.feed_back(build_rtcp(Nack(1, each.ssrc, (100,))))
        turns.turn()
        for each in (stage, plain):  # a NACK is answered before what came with it is forwarded
            each.feed_back(build_rtcp(Nack(1, each.ssrc, (100,))))
        turns.turn()
        first, again = stage.viewer.drain()[0]
        assert (again.payload, again.extensions) == ((100).to_bytes(2) + KEY, first.extensions)
        assert first.extensions == {6: CAPTURED * 2}
        assert len(plain.viewer.drain()[0]) == 2  # and drain() has seen that they are the same


def test_what_a_publisher_repairs_keeps_its_extensions() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, passed=VIEWERS)
        stage.publish(0, KEY)
        stage.publish(900, (1).to_bytes(2) + DELTA, pt=RTX_PT, ssrc=8, block=one_byte({5: CAPTURED}))
        assert [packet.extensions for packet in got(stage)] == [{}, {6: CAPTURED}]


def test_the_playout_delay_is_told_again_with_each_keyframe() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, passed=VIEWERS)
        delay = PASSED[Passed.PLAYOUT_DELAY]
        stage.publish(0, KEY, block=one_byte({delay: b"\x00\x00\x64"}))
        stage.publish(1, DELTA, ts=1, block=one_byte({delay: b"\x0a\xb0\xff"}))
        stage.publish(2, DELTA, ts=2)
        stage.publish(3, KEY, ts=3)
        told = [packet.extensions.get(7) for packet in got(stage)]
        assert told == [b"\x00\x00\x64", b"\x0a\xb0\xff", None, b"\x0a\xb0\xff"]
        turns.tables.tracks["last_ns"][stage.video] = 0  # another source takes over, and says nothing
        stage.publish(500, KEY, ssrc=70)
        assert got(stage)[0].extensions == {}


def test_the_newest_levels_of_sound_are_there_to_read() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000, passed=VIEWERS)
        for seq in range(LEVELS + 3):
            stage.publish(seq, b"sound", pt=AUDIO_PT, ssrc=9, block=one_byte({1: bytes([seq])}))
            turns.turn()
        stage.publish(0, b"late", pt=AUDIO_PT, ssrc=9, block=one_byte({1: b"\x7f"}))
        turns.turn()
        assert turns.tables.tracks["levels"][stage.audio] == LEVELS + 3
        assert turns.tables.levels[stage.audio].tolist() == [LEVELS, LEVELS + 1, LEVELS + 2, *range(3, LEVELS)]
