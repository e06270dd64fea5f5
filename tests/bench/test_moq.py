"""The MoQ tool, tiny, against a real node and real moq-rs: its counts are true, whatever its times are."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from bench import moq
from bench.load import Load, rooms_of_mesi, run_load
from bench.moq_publisher import cut_as_bridge
from bench.moq_viewers import Crowd, Groups
from bench.payload import DESCRIPTOR_SIZE, Rate, Source
from bench.tables import Count
from bench.units import Unit, is_empty, read_unit
from media.bridge.packetising import packetise_untrusted
from media.moq.protocol.containers import wrap_legacy
from media.wire.codecs import Codec
from tests.bench.crowds import SMALL, open_bench


@pytest.mark.parametrize("scheme", ["https", "moqt"])
async def test_every_frame_reaches_every_viewer_intact(tmp_path: Path, scheme: str) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        (turn,) = await moq.run_steps(mesi, stage, SMALL, [2], 1.0, scheme)
        assert turn.seen["viewers_heard"] == 2
        assert turn.seen["frames"] == pytest.approx(2 * 80 * turn.seconds, rel=0.3)
        assert turn.seen["packets_checked"] >= turn.seen["frames"]
        assert turn.seen["frames_wrong"] == turn.seen["groups_lost"] == 0
        assert turn.seen["groups"] > 10
        assert turn.datagrams > 100
        assert turn.seen["latency_ns"]["0.5"] > 0
        report = moq.describe([turn], "test")
        assert ("every checked byte is what was published", True) in report.targets


@pytest.mark.parametrize("carrier", ["webtransport", "quic"])
async def test_a_publisher_over_moq_reaches_viewers_over_moq_intact(tmp_path: Path, carrier: str) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        (turn,) = await moq.run_steps(mesi, stage, SMALL, [2], 1.0, "https", published_over=carrier, readers=1)
        assert turn.seen["viewers_heard"] == 1  # who only takes it in is counted by the server alone
        assert turn.given_up == 0
        assert turn.seen["frames"] == pytest.approx(80 * turn.seconds, rel=0.3)
        assert turn.seen["packets_checked"] >= turn.seen["frames"]
        assert turn.seen["frames_wrong"] == turn.seen["groups_lost"] == 0


async def test_a_publisher_over_moq_reaches_viewers_over_whep_packet_for_packet(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        rooms = await rooms_of_mesi(mesi, rooms=1, viewers=2, carrier="webtransport")
        outcome = await run_load(stage, rooms, Load(Rate(1_000_000), 2.0, 1.0, 50, 2))
        totals = outcome.window.totals
        assert outcome.window.silent == 0
        assert outcome.window.delivered == pytest.approx(outcome.window.expected, rel=0.2)
        assert totals.count(Count.DECRYPTED) > 500
        assert totals.lost == totals.lost_inside == 0
        assert [totals.count(of) for of in (Count.WRONG_CONTENT, Count.FOREIGN, Count.UNDECRYPTABLE)] == [0, 0, 0]


def test_frames_are_cut_where_the_bridge_cuts_them() -> None:
    for total in range(1, 60_000, 7):
        sizes = cut_as_bridge(total)
        unit = bytes([0x10]) + bytes(sum(sizes) - DESCRIPTOR_SIZE * len(sizes) - 1)
        packets = packetise_untrusted(Codec.VP8, unit, is_keyframe=True)
        assert [len(packet) for packet in packets] == sizes
        assert len(unit) >= total


def frames() -> tuple[list[bytes], bytes]:
    """Return some frames of video, and one of sound."""
    source = Source(3, Rate(600_000), started_ns=0)
    packets = source.due(200_000_000)
    video: list[bytes] = []
    parts = b""
    for packet in packets:
        if packet.kind == "video":
            parts += packet.stamp(time.time_ns())[DESCRIPTOR_SIZE:]
            if packet.marker:
                video.append(wrap_legacy(packet.at_ns // 1000, parts))
                parts = b""
    sound = next(packet for packet in packets if packet.kind == "audio")
    return video, wrap_legacy(70_000, sound.stamp(time.time_ns()))


def test_a_frame_is_right_only_when_every_byte_is() -> None:
    video, sound = frames()
    for frame in video:
        unit = read_unit(frame, is_video=True, whole=True)
        assert unit.is_right
        assert unit.packets >= 2
        assert 0 < time.time_ns() - unit.sent_ns < 60_000_000_000
        for at in range(8, len(frame), 97):
            wrong = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]
            # The time a packet was sent is the one thing that only its check covers.
            assert not read_unit(wrong, is_video=True, whole=True).is_right
        for broken in (frame[:-1], frame + b"x", frame[:60], frame[:3], b""):
            assert not read_unit(broken, is_video=True, whole=True).is_right
    assert read_unit(sound, is_video=False, whole=True) == Unit(
        read_unit(sound, is_video=False, whole=False).sent_ns, 1, is_right=True
    )
    assert not read_unit(sound[:-1], is_video=False, whole=True).is_right


def test_a_frame_of_nothing_but_its_time_is_no_frame() -> None:
    for at_us in (0, 63, 64, 70_000, 1 << 40):
        assert is_empty(wrap_legacy(at_us, b""))
        assert not is_empty(wrap_legacy(at_us, b"x"))
    assert not is_empty(b"")


def test_groups_count_as_lost_when_they_began_while_counted_and_never_came_whole() -> None:
    crowd = Crowd()
    groups = crowd.groups[0, "audio"] = Groups(newest=4, whole={3, 4})
    crowd.begin()
    groups.newest = 9
    groups.whole |= {4, 5, 6, 8}  # 4 had begun before; 7 and 9 are missing so far
    crowd.end()
    groups.newest = 11
    groups.whole |= {9, 10}
    assert (crowd.report()["groups"], crowd.report()["groups_lost"]) == (5, 1)


def test_the_report_fails_when_groups_are_lost_or_a_starved_server_collapses() -> None:
    seen = {
        "frames": 10, "bytes": 1_000, "groups": 1_000, "groups_lost": 0, "viewers_heard": 2, "packets_checked": 10,
        "latency_ns": {"0.5": 1_000_000, "0.99": 2_000_000, "0.999": None},
    }  # fmt: skip
    turn = moq.Turn(2, 2, 1.0, seen, 100, {}, 1_000_000, 1_000)
    assert moq.describe([turn], "good").holds
    lossy = dataclasses.replace(turn, seen={**seen, "groups_lost": 1})
    assert not moq.describe([lossy], "lossy").holds
    unread = dataclasses.replace(turn, readers=1, seen={**seen, "viewers_heard": 1})
    assert moq.describe([unread], "half of them read").holds
    dropped = {'mesi_moq_total{event="groups_expired"}': 2.0, 'mesi_moq_total{event="groups"}': 2_000.0}
    assert not moq.describe([dataclasses.replace(unread, counters=dropped)], "lost where nobody read").holds
    assert moq.describe([turn, lossy], "starved", burners=1).holds  # losing groups is how it degrades
    less = dataclasses.replace(turn, seen={**seen, "bytes": 799})
    assert not moq.describe([turn, less], "collapse", burners=1).holds
