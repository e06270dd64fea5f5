"""Comparisons: the same load reaches every server intact, and what is too much ends a ramp."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import numpy as np
import pytest

from bench import compare
from bench.compare import Shape, Turns
from bench.contenders import januses, other
from bench.cores import Cores
from bench.janus import answer_to, write_config
from bench.promises import AS_IT_COMES, OWN, TUNED, hold_flat, hold_highest, hold_turns
from bench.ramp import Bounds, Sustained, judge
from bench.receiver import Totals
from bench.report import Report
from bench.stage import Window
from bench.tables import BUCKETS, Count
from media.webrtc.attributes import Setup
from media.webrtc.ice import IceCredentials
from media.webrtc.sdp import parse_sdp_untrusted
from server.offers import build_offer
from tests.bench.crowds import SMALL, open_bench

BOUNDS = Bounds(step=2, most=4, joins_per_s=50)
NO_CORES = Cores(None, None)


async def test_janus_carries_what_a_mesi_does_packet_for_packet() -> None:
    turns = await compare.run_turns(januses(), Shape(2, 2), SMALL, 1.0, 1, 50, NO_CORES)
    assert len(turns) == 2
    for of in turns.values():
        assert (of.left_out, of.wrong) == (0, 0)
        assert of.verified > 200
        assert max(of.lost_percent) < 5
        assert min(of.us) > 0
    report = Report("test")
    compare.describe_turns(report, Shape(2, 2), turns)
    assert report.holds
    assert any(name.endswith("times that of the first") for name, _, _ in report.rows)


async def test_a_server_by_its_addresses_is_compared_and_ramped_up_to_the_end(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, _):
        owner = await mesi.person("owner")
        stream = await mesi.stream(owner)
        whip, whep = f"{mesi.url}/whip/{stream}", f"{mesi.url}/whep/{stream}"
        by_token = other("any", whip, whep, owner.token, None)
        turns = await compare.run_turns([by_token], Shape(1, 2), SMALL, 1.0, 2, 50, NO_CORES)
        assert turns["any"].us == []
        assert len(turns["any"].lost_percent) == 2
        assert turns["any"].left_out == 0
        highest = await compare.run_highest([by_token], SMALL, BOUNDS, 0.5, 1, NO_CORES)
    assert highest["any"][0].viewers in (0, 2, 4)
    report = Report("test")
    compare.describe_highest(report, BOUNDS, {"a": [Sustained(400, "x")], "b": [Sustained(100, "y")]})
    assert ("highest: b: the first carries so many times as many", 4.0, "x") in report.rows


def turns_of(us: float, kb: float = 50.0) -> Turns:
    return Turns(us=[us], memory_kb=[kb])


def test_what_was_promised_against_janus_is_held_to() -> None:
    for us, kb, holds in ((3.0, 50.0, [True, True, True]), (4.0, 150.0, [False, True, False])):
        report = Report("test")
        turns = {OWN: turns_of(us, kb), TUNED: turns_of(15.0), AS_IT_COMES: turns_of(30.0), "another": turns_of(1.0)}
        hold_turns(report, "fanout", turns)
        assert [held for _, held in report.targets] == holds
    report = Report("test")
    hold_turns(report, "rooms", {OWN: turns_of(10.0), TUNED: turns_of(51.0), AS_IT_COMES: turns_of(49.0)})
    assert [held for _, held in report.targets] == [True, False]
    hold_turns(report, "rooms", {"another": turns_of(10.0), TUNED: turns_of(51.0)})
    assert len(report.targets) == 2, "of others nothing was promised"


def test_a_packet_may_cost_little_more_with_many_viewers() -> None:
    for us, holds in ((3.4, True), (3.5, False)):
        report = Report("test")
        hold_flat(report, {OWN: turns_of(3.0)}, {OWN: turns_of(us)})
        assert report.holds is holds


def test_how_many_one_core_carries_is_held_to_for_the_streams_that_it_was_promised_for() -> None:
    highest = {OWN: [Sustained(1_200, "x")]}
    for video_bps, late_ms, expected in ((1_000_000, 50.0, [False]), (1_000_000, 20.0, [True]), (4_000_000, 50.0, [])):
        report = Report("test")
        hold_highest(report, video_bps, Bounds(2, 4, 50, late_ms=late_ms), highest)
        assert [held for _, held in report.targets] == expected


def window(
    *, delivered: int = 10_000, lost: int = 0, late_bucket: int = 10, silent: int = 0, put_out: int = 0
) -> Window:
    counts, latency = np.zeros(Count.CELLS, dtype=np.int64), np.zeros(BUCKETS, dtype=np.int64)
    counts[Count.RTP] = delivered
    latency[late_bucket] = 100
    return Window(1.0, Totals(counts, lost, 0, latency), delivered, silent, put_out, None, None)


@pytest.mark.parametrize(
    ("seen", "busy", "blind", "words"),
    [
        (window(), 0.5, 0, None),
        (window(lost=10), 0.5, 0, None),
        (window(lost=11), 0.5, 0, "more than 0.1 % lost"),
        (window(late_bucket=BUCKETS // 2), 0.5, 0, "p99 above 50 ms"),
        (window(silent=1), 0.5, 0, "some viewers get nothing"),
        (window(put_out=1), 0.5, 0, "some viewers get nothing"),
        (window(), 0.5, 1, "some viewers get nothing"),
        (window(), 0.95, 0, "this tool's own core is full"),
    ],
    ids=["fine", "allowed", "lossy", "late", "silent", "put out", "blind", "busy"],
)
def test_a_ramp_ends_where_a_bound_is_passed(seen: Window, busy: float, blind: int, words: str | None) -> None:
    assert judge(seen, BOUNDS, busy, blind) == words


def test_lost_packets_count_also_where_no_number_shows_them() -> None:
    turns = Turns()
    seen = window(delivered=900)
    outcome = compare.Outcome(Window(1.0, seen.totals, 1000, 0, 0, None, None), [], [], 0, None)
    turns.take(outcome)
    assert turns.lost_percent == [10.0]


def test_an_answer_takes_all_that_is_offered_and_begins_the_handshake() -> None:
    offered = build_offer(IceCredentials.random(), "sendonly", ("audio", "video"), {"audio": 1, "video": 2}, 3)
    ice = IceCredentials.random()
    answer = parse_sdp_untrusted(answer_to(offered, ice))
    assert [media.setup for media in answer.media] == [Setup.ACTIVE, Setup.ACTIVE]
    assert [media.ice for media in answer.media] == [ice, ice]
    assert [media.mid for media in answer.media] == ["0", "1"]


@pytest.mark.parametrize(("loops", "words"), [(None, False), (1, True)], ids=["as it comes", "one loop"])
def test_janus_is_configured_with_as_many_event_loops_as_asked(tmp_path: Path, loops: int | None, words: bool) -> None:
    (tmp_path / "plugins").mkdir()
    for name in ("libjanus_videoroom.so", "libjanus_sip.so"):
        (tmp_path / "plugins" / name).touch()
    port = write_config(tmp_path, tmp_path, loops)
    config = (tmp_path / "janus.jcfg").read_text()
    assert ("event_loops = 1" in config) is words
    assert 'disable = "libjanus_sip.so"' in config
    assert f"ws_port = {port}" in (tmp_path / "janus.transport.websockets.jcfg").read_text()


def test_what_to_install_is_said_where_janus_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(click.ClickException, match="apt-get install janus"):
        januses()
