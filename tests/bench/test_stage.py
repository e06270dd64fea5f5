"""Publishers and viewers against a real node: what is counted is what was sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from bench.load import Load, describe, rooms_of_mesi, run_load, seat
from bench.payload import Rate
from bench.stage import Stage
from bench.tables import Count
from server.client import Publisher
from tests.bench.crowds import SMALL, open_bench, wait_for_all


async def test_each_viewer_of_each_room_gets_every_packet_of_its_own_publisher(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        rooms = await rooms_of_mesi(mesi, rooms=2, viewers=3)
        for number, room in enumerate(rooms):
            await stage.publish(room.whip, room.token, SMALL, number)
        viewers = seat(stage, [place for room in rooms for place in room.places], sample=6)
        await stage.join(viewers, joins_per_s=50)
        assert all(viewer.join_ms is not None and viewer.failure is None for viewer in viewers)
        await pause(stage)
        before = stage.receiver.totals()
        sent = {number: publisher.sent for number, publisher in stage.publishers.items()}
        for publisher in stage.publishers.values():
            publisher.paused = False
        await trio.sleep(1)
        await pause(stage)
        totals = stage.receiver.totals().since(before)
        expected = sum(3 * (publisher.sent - sent[number]) for number, publisher in stage.publishers.items())
        assert totals.count(Count.RTP) == totals.count(Count.DECRYPTED) == expected > 300
        assert (totals.lost, totals.lost_inside) == (0, 0)
        for fault in (Count.WRONG_CONTENT, Count.FOREIGN, Count.UNDECRYPTABLE, Count.REPEATED):
            assert totals.count(fault) == 0
        assert 0 < int(totals.latency.sum()) <= expected


async def pause(stage: Stage) -> None:
    for publisher in stage.publishers.values():
        publisher.paused = True
    await wait_for_all(stage)


async def test_packets_that_a_publisher_loses_on_its_way_are_lost_for_every_viewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = 0
    send, count = Publisher.send, 0

    def lossy(self: Publisher, kind: str, payload: bytes, *, timestamp: int, marker: bool, at_ns: int) -> None:
        nonlocal dropped, count
        count += 1
        if count % 20 == 19 and kind == "audio":
            # Its number is used up, and nothing that could be sent again is kept: that is what a lossy link does.
            self._tracks["audio"].sequence_number += 1
            dropped += 1
        else:
            send(self, kind, payload, timestamp=timestamp, marker=marker, at_ns=at_ns)  # type: ignore[arg-type]

    async with open_bench(tmp_path) as (_, mesi, stage):
        (room,) = await rooms_of_mesi(mesi, rooms=1, viewers=2)
        publisher = await stage.publish(room.whip, room.token, SMALL)
        await stage.join(seat(stage, list(room.places), sample=2), joins_per_s=50)
        await trio.sleep(0.2)
        monkeypatch.setattr(Publisher, "send", lossy)
        await trio.sleep(2)
        monkeypatch.setattr(Publisher, "send", send)
        await trio.sleep(0.2)
        publisher.paused = True
        await wait_for_all(stage)
        totals = stage.receiver.totals()
        assert totals.lost == totals.lost_inside == 2 * dropped > 0


async def test_a_viewer_that_gets_nothing_is_told_as_silent_and_one_that_is_put_out_as_such(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        (room,) = await rooms_of_mesi(mesi, rooms=1, viewers=2)
        await stage.publish(room.whip, room.token, SMALL)
        await stage.join(seat(stage, list(room.places), sample=2), joins_per_s=50)
        owner = await mesi.person("owner0")
        stream = room.whip.rsplit("/", 1)[1]
        await mesi.ask(owner, "PUT", f"/streams/{stream}/ejected/{room.places[0].name}")
        window = await stage.measure(0.5)
        assert (window.silent, window.put_out) == (1, 1)
        assert window.delivered < window.expected


async def test_a_load_run_reports_what_happened(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        rooms = await rooms_of_mesi(mesi, rooms=1, viewers=3)
        outcome = await run_load(stage, rooms, Load(SMALL, 1.0, 0.2, 50, 1))
        rows = {name: value for name, value, _ in describe(outcome, "test").rows}
        assert rows["viewers"] == 3
        assert rows["viewers refused"] == rows["viewers put out"] == rows["viewers silent while measured"] == 0
        assert rows["lost (gaps in numbers on the wire)"] == rows["wrong content"] == 0
        # At either end of the stretch a frame may be under way.
        assert rows["packets delivered"] == pytest.approx(rows["packets sent x viewers"], abs=30)
        assert "server CPU" not in rows


async def test_a_viewer_that_is_refused_is_counted_with_the_reason(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        (room,) = await rooms_of_mesi(mesi, rooms=1, viewers=1)
        (refused,) = seat(stage, list(room.places), sample=1)
        await stage.join([refused], joins_per_s=50)
        assert refused.failure is not None
        assert refused.failure.code == "no_publisher"
        assert refused.join_ms is None


def test_a_source_without_sound_publishes_none() -> None:
    assert not Rate(sound=False).sound
