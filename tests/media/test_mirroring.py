"""What one worker tells another of, turn by turn: late, too late, too much of it, and not meant for who comes now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from numba import njit, types

from media.forwarding.admission import FOREVER, Grant, Holding
from media.forwarding.kernel import loop
from media.forwarding.kernel.mirroring import still_there
from media.forwarding.kernel.sending import ROOM_FOR_ONE
from media.forwarding.tables import CACHE, EXTENSIONS, NOTICES, PAYLOAD, Count
from media.io.compiled import keep_with
from media.wire.codecs import Codec
from media.wire.extensions import Passed
from media.wire.rtp import RtpHeader, build_rtp
from tests.media.test_forwarder import DELTA, KEY, Sent
from tests.media.turns import End, Packet, Turns, open_turns, protected


@dataclass
class Pair:
    """A publisher on worker 0, a viewer beside it, and one on worker 1."""

    turns: Turns
    room: int
    track: int
    publisher: End
    here: End
    there: End

    def send(self, seq: int, payload: bytes, *, ssrc: int = 7) -> None:
        datagram = protected(self.publisher, build_rtp(RtpHeader(96, seq & 0xFFFF, 3000 * seq, ssrc), payload))
        assert datagram is not None
        self.publisher.send(datagram)
        self.turns.turn()

    def watch(self, end: End, holding: Holding) -> None:
        self.turns.forwarder.admission.hold(end.row, holding)
        self.turns.forwarder.subscribe(self.track, end.row, Sent(), first_seq=100)

    def count(self, counter: Count) -> int:
        return self.turns.forwarder.counters()[counter.name.lower()]


@contextmanager
def open_pair(there: Holding | None = None) -> Iterator[Pair]:
    with open_turns(workers=2) as turns:
        forwarder = turns.forwarder
        room = forwarder.open_room()
        forwarder.admission.require(room, Grant.WELCOME)
        publisher = turns.end(room, publishes=True)
        forwarder.admission.publish_until(publisher.row, FOREVER)
        track = forwarder.open_track(room, "video", Codec.VP8, 90_000)
        forwarder.feed_track(
            track, publisher.row, payload_type=96, rtx_payload_type=None, twcc_extension_id=None, nack=True
        )
        ends = [turns.end(room, publishes=False, worker=worker) for worker in (0, 1)]
        pair = Pair(turns, room, track, publisher, *ends)
        pair.watch(pair.here, Holding(Grant.WELCOME))
        pair.watch(pair.there, there or Holding(Grant.WELCOME))
        yield pair


def numbers(packets: list[Packet]) -> list[int]:
    return [int.from_bytes(packet.payload[2:6]) for packet in packets]


def test_a_worker_that_is_late_sends_all_that_the_cache_still_has() -> None:
    with open_pair() as pair:
        for seq in range(200):
            pair.send(seq, (KEY if seq == 0 else DELTA) + seq.to_bytes(4))
        assert pair.there.drain() == ([], [])
        packets: list[Packet] = []
        for told in (64, 64, 64, 8, 0):
            assert pair.turns.mirror() == told
            packets += pair.there.drain()[0]
        assert numbers(packets) == list(range(200))
        assert [packet.sequence_number for packet in packets] == list(range(100, 300))


def test_a_worker_that_is_too_late_sends_nothing_under_anothers_number_and_goes_on() -> None:
    with open_pair() as pair:
        pair.send(0, KEY + bytes(4))
        pair.turns.mirror()
        for seq in range(1, 2 * CACHE):
            pair.send(seq, (KEY if seq % 100 == 0 else DELTA) + seq.to_bytes(4))
            pair.here.drain()
        packets, _ = pair.there.drain()
        while pair.turns.mirror():
            packets += pair.there.drain()[0]
        assert numbers(packets) == [0, *range(CACHE, 2 * CACHE)]
        assert [packet.sequence_number for packet in packets] == [100 + number for number in numbers(packets)]
        assert pair.count(Count.OVERTAKEN) == CACHE - 1


def test_a_packet_of_which_any_part_may_be_anothers_stays_within_its_room() -> None:
    with open_pair() as pair:
        pair.send(0, KEY + bytes(4))
        tables = pair.turns.tables
        subscriptions = tables.subscriptions["transport"] == pair.there.row
        for kind in (Passed.ORIENTATION, Passed.DEPENDENCY):
            tables.extension_ids[subscriptions, kind] = 15
        tables.subscriptions["stamp"][subscriptions] = 0xE2
        tables.cache_extensions[pair.track, 0] = [Passed.ORIENTATION << 4, 0] * (EXTENSIONS // 2)
        info = tables.cache_info[pair.track]
        info["size"][0], info["descriptor"][0], info["extensions"][0], info["pad"][0] = PAYLOAD, 255, EXTENSIONS, 254
        pair.turns.mirror()
        assert 2048 < len(pair.there.socket.recv(4096)) <= ROOM_FOR_ONE


def test_a_source_that_began_anew_is_never_sent_as_the_one_before() -> None:
    with open_pair() as pair:
        pair.send(0, KEY + (0).to_bytes(4))
        pair.turns.mirror()
        for seq in range(1, 10):
            pair.send(seq, DELTA + seq.to_bytes(4))
        pair.turns.tables.tracks["last_ns"][pair.track] = 0  # it was silent for long
        for seq in range(5, 10):
            pair.send(seq, (KEY if seq == 5 else DELTA) + (1000 + seq).to_bytes(4), ssrc=8)
        pair.turns.mirror()
        packets, _ = pair.there.drain()
        assert numbers(packets) == [0, *range(1005, 1010)]
        assert [packet.sequence_number for packet in packets] == list(range(100, 106))


def test_a_full_ring_costs_the_viewers_there_packets_that_they_can_ask_for_and_nobody_else_anything() -> None:
    with open_pair() as pair:
        heads, tails = pair.turns.tables.notice_heads, pair.turns.tables.notice_tails
        pair.send(0, KEY + bytes(4))
        pair.turns.mirror()
        pair.there.drain()
        heads[1, 0, 0] += NOTICES - 2  # as if the worker had not looked for so long
        for seq in range(1, 6):
            pair.send(seq, DELTA + seq.to_bytes(4))
        assert numbers(pair.here.drain()[0]) == [0, 1, 2, 3, 4, 5]
        assert pair.count(Count.MIRROR_FULL) == 3
        tails[1, 0, 0] += NOTICES - 2
        pair.turns.mirror()
        pair.send(6, DELTA + (6).to_bytes(4))
        pair.turns.mirror()
        packets, _ = pair.there.drain()
        assert [packet.sequence_number for packet in packets] == [101, 102, 106]


def test_a_packet_told_of_before_the_room_opened_is_no_beginning_for_who_is_admitted_since() -> None:
    with open_pair(Holding(Grant.WELCOME)) as pair:
        pair.turns.forwarder.admission.require(pair.room, Grant.WELCOME | Grant.CHOSEN)
        pair.send(0, KEY + b"last")
        pair.turns.forwarder.admission.require(pair.room, Grant.WELCOME)
        assert pair.turns.mirror() == 1
        assert pair.there.drain() == ([], [])
        assert time.monotonic_ns() > pair.turns.tables.rooms["opened_ns"][pair.room]
        pair.send(1, KEY + b"next")
        pair.turns.mirror()
        assert [packet.payload[2:] for packet in pair.there.drain()[0]] == [b"next"]


keep_with("kernel")


@njit([types.boolean(loop._LAYOUT, types.int64, types.int64, types.int64)], nogil=True, cache=True)
def _still_there(whole, subscription, track, ext_seq):
    return still_there(whole[0], subscription, track, ext_seq)


def test_a_copied_packet_is_sent_only_if_its_place_held_it_all_the_time() -> None:
    with open_pair() as pair:
        tables, subscription = pair.turns.tables, 1
        pair.send(0, KEY + bytes(4))
        pair.turns.mirror()
        ext_seq = int(tables.tracks["highest_ext_seq"][pair.track])

        def holds() -> bool:
            return bool(_still_there(tables.whole, subscription, pair.track, ext_seq))

        assert holds()
        tables.tracks["restarts"][pair.track] += 1
        assert not holds()
        tables.tracks["restarts"][pair.track] -= 1
        tables.cache_seq[pair.track, ext_seq % CACHE] = -1
        assert not holds()
        assert pair.count(Count.OVERTAKEN) == 2
