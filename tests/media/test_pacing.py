"""A large picture leaves as a viewer's way has room for it, and what is decided meanwhile governs what still waits."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from media.forwarding.admission import Grant, Holding
from media.forwarding.backlogs import BURST_NS, LONGEST_NS, SKIP_NS
from media.forwarding.tables import CACHE, Count, Shared
from tests.media.test_kernel_robustness import AUDIO_PT, DELTA, KEY, PT, Stage, set_stage
from tests.media.test_stamps import NUMBERED, nack, numbers
from tests.media.turns import Packet, open_turns, protected

OCTET_NS = 20_000  # 400 kbit/s: a packet of 1,000 octets takes 20 ms, so that one leaves at a time
SIZE = 1000
MS_NS = 1_000_000


def picture(stage: Stage, seq: int, packets: int, head: bytes = DELTA, ts: int | None = None) -> list[bytes]:
    """Send a picture of so many packets to the server; returns their payloads."""
    payloads = []
    for place in range(packets):
        first = head if place == 0 else b"\x00" + head[1:]  # goes on, and starts nothing
        payloads.append(first + (seq + place).to_bytes(4) + bytes(SIZE))
        is_last = place == packets - 1
        header = struct.pack(
            "!BBHII", 0x80, PT | (0x80 if is_last else 0), (seq + place) & 0xFFFF, seq if ts is None else ts, 7
        )
        datagram = protected(stage.publisher, header + payloads[-1])
        assert datagram is not None
        stage.publisher.send(datagram)
    return payloads


def know_way(stage: Stage, octet_ns: int = OCTET_NS) -> None:
    record = stage.turns.tables.transports
    record["octet_ns"][stage.viewer.row], record["taken_ns"][stage.viewer.row] = octet_ns, 0


def later(stage: Stage, ns: int) -> list[Packet]:
    """Let so much time pass, as far as what waits is concerned, and take a turn; returns what the viewer got."""
    tables = stage.turns.tables
    tables.transports["taken_ns"][stage.viewer.row] -= ns
    tables.backlogs["since_ns"][stage.subscriptions[0]] -= ns
    return turn(stage)


def turn(stage: Stage) -> list[Packet]:
    stage.turns.tables.shared[Shared.WAITING_DUE] = 0
    stage.turns.turn()
    return stage.viewer.drain()[0]


def of_picture(stage: Stage, packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in packets if packet.ssrc == stage.ssrc]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_turns() as turns:
        yield set_stage(turns, 1000, stamp=NUMBERED)


def test_a_large_picture_leaves_bit_by_bit_in_order_and_once(stage: Stage) -> None:
    know_way(stage)
    sent = picture(stage, 0, 12, KEY)
    got = turn(stage)
    assert len(got) == 1
    for _ in range(40):
        few = later(stage, 10 * MS_NS)
        assert len(few) <= 1
        got += few
    assert of_picture(stage, got) == sent
    assert [packet.sequence_number for packet in got] == list(range(100, 112))
    assert numbers(got) == list(range(1, 13))
    assert stage.counted(Count.WAITED) == 11
    assert stage.turns.tables.shared[Shared.WAITING] == 0


def test_a_probe_follows_the_end_of_what_waited(stage: Stage) -> None:
    picture(stage, 0, 1, KEY)
    turn(stage)
    know_way(stage)
    record = stage.turns.tables.estimates[stage.viewer.row : stage.viewer.row + 1]
    record["bps"], record["probe_bps"] = 160e3, 1e6
    sent = picture(stage, 1, 3)
    got = turn(stage)
    while len(of_picture(stage, got)) < 3:
        assert stage.counted(Count.PROBES) == 0
        got += later(stage, 20 * MS_NS)
    assert of_picture(stage, got) == sent
    assert stage.counted(Count.PROBES) > 0


def test_who_has_room_or_of_whom_nothing_is_known_gets_it_at_once(stage: Stage) -> None:
    assert of_picture(stage, (picture(stage, 0, 12, KEY), turn(stage))[1]) != []
    assert stage.counted(Count.WAITED) == 0
    know_way(stage, BURST_NS // (14 * SIZE))
    sent = picture(stage, 12, 12)
    assert of_picture(stage, turn(stage)) == sent
    assert stage.counted(Count.WAITED) == 0


def test_sound_and_repairs_go_past_what_waits(stage: Stage) -> None:
    know_way(stage)
    picture(stage, 0, 8, KEY)
    turn(stage)
    stage.publish(0, b"sound", pt=AUDIO_PT, ssrc=9)
    nack(stage, stage.ssrc, 100)
    got = turn(stage)
    assert [packet.payload for packet in got if packet.ssrc == stage.ssrc + 2] == [b"sound"]
    assert len([packet for packet in got if packet.ssrc == stage.ssrc + 1]) == 1
    assert of_picture(stage, got) == []


def test_what_comes_late_goes_past_what_waits_and_leaves_once(stage: Stage) -> None:
    know_way(stage)
    sent = picture(stage, 0, 1, KEY)
    turn(stage)
    frames = [picture(stage, seq, 1) for seq in (2, 3, 5)]  # 1 and 4 are missing
    assert turn(stage) == []
    got = later(stage, 25 * MS_NS)  # the first that waited
    late = picture(stage, 1, 1)
    got += turn(stage)
    assert of_picture(stage, got) == frames[0] + late
    repaired = picture(stage, 4, 1)
    turn(stage)
    rest = [packet for _ in range(8) for packet in later(stage, 25 * MS_NS)]
    assert of_picture(stage, rest) == frames[1] + repaired + frames[2]
    assert sent


@pytest.mark.parametrize("why", ["holds nothing", "is closed", "requires more"])
def test_nothing_that_waits_leaves_after_the_cut_and_who_comes_back_begins_anew(stage: Stage, why: str) -> None:
    admission = stage.turns.forwarder.admission
    know_way(stage)
    picture(stage, 0, 8, KEY)
    turn(stage)
    if why == "holds nothing":
        admission.hold(stage.viewer.row, Holding(Grant(0)))
    elif why == "is closed":
        admission.open_until(stage.room, 0)
    else:
        admission.require(stage.room, Grant.WELCOME | Grant.ENTITLED)
    assert [later(stage, 50 * MS_NS) for _ in range(5)] == [[]] * 5
    assert stage.counted(Count.SKIPPED) == 1
    admission.hold(stage.viewer.row, Holding(Grant.WELCOME | Grant.ENTITLED))
    admission.open_until(stage.room, 2**63 - 1)
    assert [later(stage, 50 * MS_NS) for _ in range(5)] == [[]] * 5
    stage.turns.tables.tracks["last_keyframe_ns"][stage.video] -= 600 * MS_NS
    picture(stage, 8, 1)
    assert turn(stage) == []
    key = picture(stage, 9, 1, KEY)
    assert of_picture(stage, turn(stage)) == key


def test_a_viewer_who_left_is_forgotten_and_its_row_can_be_taken_anew(stage: Stage) -> None:
    know_way(stage)
    picture(stage, 0, 8, KEY)
    turn(stage)
    row = stage.subscriptions[0]
    stage.turns.forwarder.unsubscribe(row)
    assert later(stage, 50 * MS_NS) == []
    assert stage.turns.tables.shared[Shared.WAITING] == 0
    assert not stage.turns.tables.backlogs["listed"][row]


def test_what_the_cache_has_no_more_is_left_out_and_a_keyframe_asked_for(stage: Stage) -> None:
    know_way(stage)
    picture(stage, 0, 2, KEY)
    turn(stage)
    for seq in range(2, CACHE + 4, 32):
        picture(stage, seq, 32)
        stage.turns.tables.shared[Shared.WAITING_DUE] = 2**62
        stage.turns.turn()
    assert later(stage, 25 * MS_NS) == []
    assert (stage.counted(Count.OVERTAKEN), stage.counted(Count.SKIPPED)) == (1, 1)
    picture(stage, CACHE + 60, 1)
    stage.turns.tables.tracks["last_keyframe_ns"][stage.video] -= 600 * MS_NS
    assert turn(stage) == []
    assert stage.turns.tables.tracks["keyframe_wanted"][stage.video]


def test_who_is_late_goes_on_with_a_newer_keyframe_and_sees_no_gap(stage: Stage) -> None:
    know_way(stage)
    got = (picture(stage, 0, 6, KEY), turn(stage))[1]
    old = picture(stage, 6, 4)
    key = picture(stage, 10, 2, KEY)
    got += turn(stage)
    got += later(stage, SKIP_NS + MS_NS)
    for _ in range(8):
        got += later(stage, 25 * MS_NS)
    assert not set(old) & set(of_picture(stage, got))
    assert of_picture(stage, got)[-2:] == key
    assert [packet.sequence_number for packet in got] == list(range(100, 100 + len(got)))
    assert stage.counted(Count.SKIPPED) == 1


def test_what_waited_for_a_second_leaves_all_the_same(stage: Stage) -> None:
    know_way(stage, 10**9)
    sent = picture(stage, 0, 12, KEY)
    got = turn(stage)
    got += later(stage, SKIP_NS + MS_NS)
    assert len(got) == 1
    got += later(stage, LONGEST_NS)
    assert of_picture(stage, got) == sent


def test_a_joiner_whose_way_is_known_gets_the_keyframe_bit_by_bit(stage: Stage) -> None:
    admission = stage.turns.forwarder.admission
    admission.hold(stage.viewer.row, Holding(Grant(0)))
    sent = picture(stage, 0, 6, KEY)
    turn(stage)
    admission.hold(stage.viewer.row, Holding(Grant.WELCOME))
    know_way(stage)
    sent += picture(stage, 6, 2)
    got = turn(stage)
    assert len(got) == 1
    got += [packet for _ in range(8) for packet in later(stage, 25 * MS_NS)]
    assert of_picture(stage, got) == sent
    assert stage.counted(Count.REPLAYED) == len(sent)


def test_another_worker_sends_nothing_from_a_backlog_that_it_was_not_told_of() -> None:
    with open_turns(2) as turns:
        stage = set_stage(turns, 1000, stamp=NUMBERED, worker=1)
        know_way(stage)
        shared = turns.forwarder.workers.tables[1].shared

        def mirror() -> list[Packet]:
            shared[Shared.WAITING_DUE] = 0
            turns.mirror()
            return stage.viewer.drain()[0]

        picture(stage, 0, 1, KEY)
        turns.turn()
        got = mirror()
        frames = [picture(stage, seq, 1) for seq in (1, 3)]
        turns.turn()
        got += mirror()
        late = picture(stage, 2, 1)
        turns.turn()  # it is in the cache that both share, and the viewer's worker was not told yet
        tables = turns.tables
        heads = int(tables.notice_heads[1, 0, 0])
        tables.notice_heads[1, 0, 0] = tables.notice_tails[1, 0, 0]
        for _ in range(2):
            tables.transports["taken_ns"][stage.viewer.row] = 0
            got += mirror()
        tables.notice_heads[1, 0, 0] = heads
        for _ in range(6):
            tables.transports["taken_ns"][stage.viewer.row] = 0
            got += mirror()
        payloads = of_picture(stage, got)
        assert sorted(payloads[1:]) == sorted(frames[0] + late + frames[1])
        assert len({packet.sequence_number for packet in got}) == len(got)
