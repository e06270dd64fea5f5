"""Redundant sound: found in any bytes as the pure reader finds it, whole for who takes it, plain for the others."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, types

from media.bridge.assembling import Packet
from media.bridge.tapping import Tap
from media.forwarding.admission import Grant, Holding
from media.forwarding.kernel import redundancy
from media.forwarding.tables import Count
from media.wire.malformed import MalformedPacket
from media.wire.red import MAX_BLOCKS, find_primary_untrusted
from tests.media.test_kernel_robustness import AUDIO_PT, Sent, set_stage
from tests.media.turns import open_turns

RED_PT = 63
BLOCKS = bytes([0x80 | AUDIO_PT, 0, 0, 5, AUDIO_PT]) + b"olderplain"


@njit([types.int64(types.Array(types.uint8, 1, "C"), types.int64, types.int64)], nogil=True)
def find_primary(data, start, size):  # type: ignore[no-untyped-def]
    return redundancy.find_primary(data, start, size)


heads = st.binary(min_size=4, max_size=4).map(lambda head: bytes([head[0] | 0x80, head[1], head[2] & 0xFC, head[3]]))
payloads = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.lists(heads, max_size=MAX_BLOCKS + 2), st.binary(max_size=300)).map(
        lambda parts: b"".join(parts[0]) + parts[1]
    ),
)


@given(payloads, st.integers(0, 3))
def test_the_newest_block_is_found_in_any_bytes_as_the_pure_reader_finds_it(payload: bytes, before: int) -> None:
    try:
        expected = find_primary_untrusted(payload)
        assert 0 < expected <= len(payload)
    except MalformedPacket:
        expected = -1
    data = np.frombuffer(bytes(before) + payload + b"\xff" * 8, np.uint8).copy()
    assert find_primary(data, before, len(payload)) == expected


def test_who_takes_redundant_sound_gets_it_whole_and_the_others_its_newest_block() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        forwarder = turns.forwarder
        forwarder.feed_track(
            stage.audio,
            stage.publisher.row,
            payload_type=AUDIO_PT,
            rtx_payload_type=None,
            twcc_extension_id=None,
            nack=False,
            red_payload_type=RED_PT,
        )
        taker = turns.end(stage.room, publishes=False)
        forwarder.admission.hold(taker.row, Holding(Grant.WELCOME))
        forwarder.subscribe(stage.audio, taker.row, Sent(9, 100, None, red_payload_type=101), first_seq=7)
        tap = Tap(turns.tables, stage.audio, 0)
        stage.publish(0, BLOCKS, pt=RED_PT, ssrc=9)
        stage.publish(1, b"alone", pt=AUDIO_PT, ssrc=9)
        turns.turn()
        plain, whole = stage.viewer.drain()[0], taker.drain()[0]
        assert [(packet.payload_type, packet.payload) for packet in plain] == [(120, b"plain"), (120, b"alone")]
        renamed = bytes([0x80 | 100, 0, 0, 5, 100]) + b"olderplain"
        assert [(packet.payload_type, packet.payload) for packet in whole] == [(101, renamed), (100, b"alone")]
        assert [packet.sequence_number for packet in plain] == [100, 101]
        assert [packet.payload for packet in tap.read(0) if isinstance(packet, Packet)] == [b"plain", b"alone"]
        octets = turns.tables.subscriptions["octets"]
        assert octets[stage.subscriptions[1]] == len(b"plainalone")


def test_blocks_that_do_not_fit_are_dropped_and_counted() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        turns.tables.payload_types[stage.publisher.row, RED_PT] = turns.tables.payload_types[
            stage.publisher.row, AUDIO_PT
        ] | (1 << 29)
        for seq, payload in enumerate([BLOCKS[:8], BLOCKS[:3], b"", b"\xef\0\0\0" * 12]):
            stage.publish(seq, payload, pt=RED_PT, ssrc=9)
        assert stage.turn() == []
        assert stage.counted(Count.MALFORMED_RED) == 4
        stage.publish(4, bytes([AUDIO_PT]), pt=RED_PT, ssrc=9)  # a newest block of nothing keeps its number
        assert stage.turn() == [b""]
