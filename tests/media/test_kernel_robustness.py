"""What hostile publishers and viewers, with keys of their own, can make the kernel do: nothing outside their rows."""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from media.forwarding.admission import FOREVER, Grant, Holding
from media.forwarding.kernel.receiving_rtcp import MAX_NACKED
from media.forwarding.tables import CACHE, SSRCS, Count
from media.wire.codecs import Codec
from media.wire.extensions import Passed
from media.wire.rtcp import Nack, Pli, build_rtcp
from tests.media.turns import LIMITS, End, Turns, open_turns, protected

PT, RTX_PT, AUDIO_PT = 96, 97, 111
KEY, DELTA = b"\x10\x00", b"\x10\x01"
RTCP_TYPES = (192, 195, *range(200, 211), 223)


@dataclass
class Sent:
    ssrc: int
    payload_type: int = 120
    rtx_payload_type: int | None = 121
    stamp: int = 0
    passed: Mapping[Passed, int] = field(default_factory=dict)
    red_payload_type: int | None = None

    @property
    def rtx_ssrc(self) -> int:
        return self.ssrc + 1


@dataclass
class Stage:
    """A room with a publisher of two tracks and a viewer of both."""

    turns: Turns
    room: int
    publisher: End
    viewer: End
    video: int
    audio: int
    subscriptions: tuple[int, int]
    ssrc: int

    def publish(
        self, seq: int, payload: bytes, *, pt: int = PT, ssrc: int = 7, ts: int = 0, block: bytes = b""
    ) -> None:
        """Send a packet; `block` is its header extension, with its head."""
        header = struct.pack("!BBHII", 0x90 if block else 0x80, pt, seq & 0xFFFF, ts, ssrc)
        datagram = protected(self.publisher, header + block + payload)
        assert datagram is not None
        self.publisher.send(datagram)

    def feed_back(self, rtcp: bytes) -> None:
        datagram = protected(self.viewer, rtcp, rtcp=True)
        assert datagram is not None
        self.viewer.send(datagram)

    def turn(self) -> list[bytes]:
        """Take a turn; returns the payloads that the viewer got."""
        self.turns.turn()
        return [packet.payload for packet in self.viewer.drain()[0]]

    def counted(self, count: Count) -> int:
        return int(self.turns.tables.counters[count])


PASSED = {Passed.AUDIO_LEVEL: 1, Passed.ORIENTATION: 2, Passed.PLAYOUT_DELAY: 4, Passed.CAPTURE_TIME: 5}


def set_stage(
    turns: Turns,
    ssrc: int,
    codec: Codec = Codec.VP8,
    *,
    stamp: int = 0,
    passed: Mapping[Passed, int] = PASSED,
    rtx: int | None = 121,
    worker: int = 0,
) -> Stage:
    forwarder = turns.forwarder
    room = forwarder.open_room()
    forwarder.admission.require(room, Grant.WELCOME)
    publisher, viewer = turns.end(room, publishes=True), turns.end(room, publishes=False, worker=worker)
    forwarder.admission.publish_until(publisher.row, FOREVER)
    forwarder.admission.hold(viewer.row, Holding(Grant.WELCOME))
    video = forwarder.open_track(room, "video", codec, 90_000)
    audio = forwarder.open_track(room, "audio", Codec.OPUS, 48_000)
    for track, pt, repairs in ((video, PT, RTX_PT), (audio, AUDIO_PT, None)):
        forwarder.feed_track(
            track,
            publisher.row,
            payload_type=pt,
            rtx_payload_type=repairs,
            twcc_extension_id=3,
            nack=True,
            passed=PASSED,
        )
    sound = Sent(ssrc + 2, rtx_payload_type=None if stamp else rtx, stamp=stamp, passed=passed)
    picture = Sent(ssrc, rtx_payload_type=rtx, stamp=stamp, passed=passed)
    subscriptions = (
        forwarder.subscribe(video, viewer.row, picture, first_seq=100),
        forwarder.subscribe(audio, viewer.row, sound, first_seq=100),
    )
    return Stage(turns, room, publisher, viewer, video, audio, subscriptions, ssrc)


# -- garbage -----------------------------------------------------------------------------------------------------------


def any_rtp(chance: random.Random, seq: int) -> bytes:
    first = 0x80 | chance.choice([0, 0, 0x10, 0x20, 0x30]) | chance.choice([0, 0, 0, chance.randrange(16)])
    second = chance.choice([PT, RTX_PT, AUDIO_PT, chance.randrange(64)]) | chance.choice([0, 0x80])
    header = struct.pack("!BBHII", first, second, seq & 0xFFFF, chance.randrange(2**32), chance.choice([7, 7, 7, 8]))
    profile = chance.choice([b"\xbe\xde", b"\x10\x00", b"\x10\x0f", chance.randbytes(2)])
    words = chance.choice([0, 1, 2, 6, 10, 300])
    elements = [bytes([chance.choice([1, 2, 4, 5]) << 4 | chance.choice([0, 2, 7, 15])]) + chance.randbytes(16)]
    extension = profile + words.to_bytes(2) + b"".join(elements * chance.choice([0, 1, 4])) if first & 0x10 else b""
    body = chance.randbytes(chance.choice([0, 1, 2, 3, 8, chance.randrange(1400)]))
    tail = bytes([chance.choice([0, 1, 2, 255, len(body) & 255])]) if first & 0x20 else b""
    csrcs = chance.randbytes(4 * (first & 15))
    return header + csrcs + extension + chance.choice([b"\x31", b"\x33", b""]) + body + tail


def any_rtcp(chance: random.Random, ssrc: int) -> bytes:
    compound = b""
    while len(compound) < 8 or chance.random() < 0.6:
        words = chance.choice([0, 1, 2, 3, 6, 7, 13, chance.randrange(60)])
        body = b"".join(chance.choice([ssrc.to_bytes(4), chance.randbytes(4), bytes(4)]) for _ in range(words))
        told = words if chance.random() < 0.9 else chance.randrange(65_536)
        first = chance.choice([0x80, 0x81, 0x84, 0x8F, 0x9F, 0xA1, chance.randrange(256)])
        compound += bytes([first, chance.choice(RTCP_TYPES)]) + told.to_bytes(2) + body
        compound += chance.randbytes(chance.choice([0, 0, 0, 1, 3]))
    return bytes([0x80 | compound[0] & 0x3F]) + compound[1:1400]


def outside(stages: list[Stage]) -> list[bytes]:
    """Return the bytes of everything that datagrams of these stages must not change."""
    tables = stages[0].turns.tables
    transports = [end.row for stage in stages for end in (stage.publisher, stage.viewer)]
    tracks = [track for stage in stages for track in (stage.video, stage.audio)]
    subscriptions = [row for stage in stages for row in stage.subscriptions]
    slots = [int(tables.transports["twcc_slot"][stage.publisher.row]) for stage in stages]
    # A few rows beyond the limits as well: they are nobody's.
    kept = [
        (tables.rooms[: LIMITS.rooms + 8], []),
        (tables.transports[: LIMITS.transports + 8], transports),
        (tables.ssrcs[: LIMITS.transports + 8], transports),
        (tables.tracks[: LIMITS.tracks + 8], tracks),
        (tables.cache_seq[: LIMITS.tracks + 8], tracks),
        (tables.cache_info[: LIMITS.tracks + 8], tracks),
        (tables.cache_heads[: LIMITS.tracks + 1], tracks),
        (tables.cache_tails[: LIMITS.tracks + 1], tracks),
        (tables.cache_extensions[: LIMITS.tracks + 1], tracks),
        (tables.levels[: LIMITS.tracks + 8], tracks),
        (tables.passed_ids[: LIMITS.transports + 8], []),
        (tables.extension_ids[: LIMITS.subscriptions + 8], []),
        (tables.twcc_seq[: LIMITS.tracks + 8], slots),
        (tables.twcc_arrival_ns[: LIMITS.tracks + 8], slots),
        (tables.subscriptions[: LIMITS.subscriptions + 8], subscriptions),
        (tables.payload_types[: LIMITS.transports + 8], []),
        (tables.estimates[: LIMITS.transports + 8], transports),
        (tables.trends[: LIMITS.transports + 8], transports),
        (tables.sent_log[: LIMITS.transports + 8], transports),
        (tables.sockaddrs[: LIMITS.transports + 8], []),
        (tables.addresses, []),
        (np.ascontiguousarray(tables.inbox_headers[:, [0, 2, 3]]), []),
        (tables.inbox_vectors, []),
        (np.ascontiguousarray(tables.outbox_headers[:, [2, 3]]), []),
        (np.ascontiguousarray(tables.outbox_segments[:, :16]), []),
    ]
    # As plain bytes: copies of records leave what lies between their fields to chance.
    return [np.delete(table.view(np.uint8).reshape(len(table), -1), rows, axis=0).tobytes() for table, rows in kept]


# What Python writes: no datagram may change that even in its sender's own rows.
PYTHONS = {
    "transports": "active publishes holds keeps twcc_id room until publish_until rx tx address_size twcc_slot",
    "tracks": "active kind codec nack room transport subscriptions workers clock_rate",
    "subscriptions": "active payload_type rtx_payload_type track transport next ssrc rtx_ssrc",
}


def pythons(turns: Turns) -> list[bytes]:
    return [
        getattr(turns.tables, name)[column].tobytes() for name, columns in PYTHONS.items() for column in columns.split()
    ]


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.VP9, Codec.H264, Codec.AV1], ids=lambda codec: codec.name)
def test_authentic_garbage_changes_only_its_senders_rows_and_stops_nobody(codec: Codec) -> None:
    chance = random.Random(int(codec))
    with open_turns() as turns:
        hostile, honest = set_stage(turns, 1000, codec), set_stage(turns, 2000)
        honest.publish(0, KEY)
        hostile.publish(0, KEY)
        assert honest.turn() == [KEY]
        untouched, written = outside([hostile]), pythons(turns)
        seq = 0
        for number in range(6000):
            seq += chance.choice([1, 1, 1, 1, 2, -1, -200, 400, 20_000])
            for end, data, rtcp in (
                (hostile.publisher, any_rtp(chance, seq), False),
                (hostile.publisher, any_rtcp(chance, 7), True),
                (hostile.viewer, any_rtcp(chance, hostile.ssrc), True),
            ):
                datagram = protected(end, data, rtcp=rtcp)
                if datagram is None:
                    continue
                if chance.random() < 0.1:
                    place = chance.randrange(len(datagram))
                    flipped = datagram[place] ^ 1 << chance.randrange(8)
                    end.send(datagram[:place] + bytes([flipped]) + datagram[place + 1 :])
                    end.send(datagram[:place])
                end.send(datagram)
            if number % 10 == 9:
                turns.turn()
        assert outside([hostile]) == untouched
        assert pythons(turns) == written
        for reason in (Count.MALFORMED_RTP, Count.MALFORMED_RTCP, Count.UNKNOWN_PAYLOAD_TYPE, Count.UNPROTECT_AUTH):
            assert hostile.counted(reason) > 0, reason
        honest.publish(1, DELTA)
        assert honest.turn() == [DELTA]


@pytest.mark.parametrize("size", [*range(64), 1499, 1500, 1501, 2000])
def test_datagrams_of_any_size_without_a_valid_tag_are_dropped_and_counted(size: int) -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        untouched, written = outside([stage]), pythons(turns)
        heads = [b"\x80\x60", b"\x8f\x60", b"\x90\x60", b"\xb0\x60", b"\x80\xc8", b"\x81\xcd", b"\x8f\xce"]
        for end in (stage.publisher, stage.viewer):
            for head in heads:
                end.send((head + bytes(size))[:size])
        assert stage.turn() == []
        counts = turns.counts()
        drops = sum(number for count, number in counts.items() if Count.TOO_SHORT <= count < Count.CELLS)
        assert (counts[Count.RECEIVED], drops) == (2 * len(heads), 2 * len(heads))
        assert (outside([stage]), pythons(turns)) == (untouched, written)


@pytest.mark.parametrize(
    "text",
    [
        "81c90000" + "00000001",  # a report block announced, none there
        "81c9ffff" + "00000001",  # longer than the datagram
        "8fce0004" + "00000001" + "00000000" + "52454d42" + "ff000000",  # REMB that claims 255 SSRCs
        "8fcd0005" + "00000001" + "00000002" + "00000002" + "00000000" + "f0000000",  # a reserved TWCC symbol
        "8fcd0005" + "00000001" + "00000002" + "0000ffff" + "00000000" + "1fff1fff",
        "81cd0002" + "00000001" + "000003e8",  # NACK without items
        "84ce0002" + "00000001" + "00000000",  # FIR without entries
        "81ce0001" + "00000001",  # PLI without its media source
        "9fca0001" + "00000001",  # 31 SDES chunks announced
        "80cf0002" + "00000001" + "05ffffff",  # XR
        base64.b64decode("j80ABTR4VngFEjLNAAU0VngAEonVYWFBViGeBEFWBA==").hex(),
    ],
)
def test_compounds_that_crashed_others_change_nothing_here(text: str) -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        written = pythons(turns)
        stage.publish(0, KEY)
        assert stage.turn() == [KEY]
        untouched = outside([stage])
        stage.feed_back(bytes.fromhex(text))
        datagram = protected(stage.publisher, bytes.fromhex(text), rtcp=True)
        assert datagram is not None
        stage.publisher.send(datagram)
        assert stage.turn() == []
        assert (outside([stage]), pythons(turns)) == (untouched, written)
        assert turns.tables.tracks["keyframe_wanted"][stage.video] == 0


# -- abuse -------------------------------------------------------------------------------------------------------------


def test_one_datagram_asks_for_a_bounded_number_of_packets() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        assert stage.turn() == [KEY]
        items = struct.pack("!HH", 100, 0xFFFF) * 300
        stage.feed_back(struct.pack("!BBHII", 0x81, 205, 2 + 300, 1, stage.ssrc) + items)
        stage.turn()
        answered = stage.counted(Count.RETRANSMITTED) + stage.counted(Count.RETRANSMISSION_GONE)
        assert answered == MAX_NACKED
        assert stage.counted(Count.NACKS_IGNORED) == 300 * 17 - MAX_NACKED


def test_a_transport_has_a_bounded_number_of_sources() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        for ssrc in range(1, 201):
            stage.publish(ssrc, KEY, ssrc=ssrc)
            stage.feed_back(build_rtcp(Pli(ssrc, 5)))
            stage.turn()
        known = turns.tables.transports["ssrc_count"]
        assert (known[stage.publisher.row], known[stage.viewer.row]) == (SSRCS, SSRCS)
        assert stage.counted(Count.TOO_MANY_SSRCS) == 2 * (200 - SSRCS)
        turns.tables.tracks["ssrc"][stage.video] = 0
        stage.publish(300, KEY, ssrc=1)
        assert stage.turn() == [KEY]


def test_a_forged_ssrc_takes_none_of_the_places() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        for ssrc in range(100):
            stage.publisher.send(struct.pack("!BBHII", 0x80, PT, 0, 0, ssrc) + bytes(40))
        stage.turn()
        assert stage.counted(Count.UNPROTECT_AUTH) == 64
        stage.turn()
        assert stage.counted(Count.UNPROTECT_AUTH) == 100
        assert turns.tables.transports["ssrc_count"][stage.publisher.row] == 0


def test_a_source_that_begins_anew_within_one_turn_goes_on_for_those_who_watch() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(65_000, b"one", pt=AUDIO_PT)
        assert stage.turn() == [b"one"]
        # Both arrive before either is sent on; the second begins a new numbering, far below the first.
        stage.publish(65_001, b"last", pt=AUDIO_PT)
        stage.publish(65_001 + 20_000, b"new", pt=AUDIO_PT)
        assert stage.turn() == [b"new"]
        stage.publish(65_002 + 20_000, b"newer", pt=AUDIO_PT)
        assert stage.turn() == [b"newer"]
        assert stage.counted(Count.OVERTAKEN) == 1


def test_two_packets_for_one_place_of_the_cache_are_not_mixed_up() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, b"first", pt=AUDIO_PT)
        stage.publish(CACHE, b"second", pt=AUDIO_PT)
        assert stage.turn() == [b"second"]
        assert stage.counted(Count.OVERTAKEN) == 1


def test_a_repair_never_begins_a_source_anew() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        restarts = int(turns.tables.tracks["restarts"][stage.video])
        stage.publish(900, (20_000).to_bytes(2) + DELTA, pt=RTX_PT, ssrc=8)
        stage.publish(1, DELTA)
        assert stage.turn() == [KEY, DELTA]
        assert turns.tables.tracks["restarts"][stage.video] == restarts + 1
        assert stage.counted(Count.TOO_OLD) == 1


def test_a_source_numbered_zero_is_no_source() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY, ssrc=0)
        stage.publish(0, KEY, ssrc=9)
        assert stage.turn() == [KEY]
        assert stage.counted(Count.MALFORMED_RTP) == 1


def test_who_is_not_admitted_can_not_ask_for_keyframes() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        stage.turn()
        turns.forwarder.admission.hold(stage.viewer.row, Holding(Grant(0)))
        for ask in (build_rtcp(Pli(1, stage.ssrc)), struct.pack("!BBHIIII", 0x84, 206, 4, 1, 0, stage.ssrc, 0)):
            stage.feed_back(ask)
        stage.turn()
        assert turns.tables.tracks["keyframe_wanted"][stage.video] == 0


def test_every_entry_of_a_full_intra_request_counts() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.feed_back(struct.pack("!BBHIIIIII", 0x84, 206, 6, 1, 0, 4, 0, stage.ssrc, 0))
        stage.turn()
        assert turns.tables.tracks["keyframe_wanted"][stage.video] == 1


def test_keys_that_go_away_amid_a_packet_cost_that_packet_and_no_more() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        stage.publish(0, KEY)
        assert stage.turn() == [KEY]
        # As if the row had gone between admission and encryption: its subscription points where no keys are.
        bare = turns.forwarder.open_transport(stage.room, publishes=False)
        turns.forwarder.admission.hold(bare, Holding(Grant.WELCOME))
        turns.tables.subscriptions["transport"][stage.subscriptions[0]] = bare
        stage.feed_back(build_rtcp(Nack(1, stage.ssrc, (100,))))
        assert stage.turn() == []
        assert stage.counted(Count.NO_DESTINATION) == 1
        assert stage.counted(Count.RETRANSMITTED) == 0


def test_an_extension_of_an_unknown_profile_is_not_read() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        for number, profile in enumerate((0x1234, 0xBEDE, 0x1000, 0x100F)):
            element = b"\x31" if profile == 0xBEDE else b"\x03\x02"
            block = (element + (500 + number).to_bytes(2)).ljust(8, b"\0")
            extension = struct.pack("!HH", profile, 2) + block
            header = struct.pack("!BBHII", 0x90, PT, number, 0, 7)
            datagram = protected(stage.publisher, header + extension + KEY)
            assert datagram is not None
            stage.publisher.send(datagram)
            stage.turn()
            expected = -1 if number == 0 else 65_536 + 500 + number
            assert turns.tables.transports["twcc_highest"][stage.publisher.row] == expected
