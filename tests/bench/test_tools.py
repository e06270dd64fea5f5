"""The other tools, tiny, against a real node: their counts are true, whatever their times are."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from bench import chat, fanout, first_picture, join, load, messages, way_feedback, workers
from bench.bare import BareSender
from bench.mesi import ServerFailed, open_mesi
from bench.process import NoSuchProcess, cpu_ns, memory_bytes
from bench.receiver import Decrypt
from bench.report import Report, percentile
from bench.tables import Count
from tests.bench.crowds import SMALL, open_bench, wait_for_all
from tests.bench.test_receiver import open_receiver, received


async def test_the_bare_sender_sends_each_packet_to_each_viewer_intact() -> None:
    async with open_receiver() as receiver:
        drains = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for drain in drains:
            drain.bind(("127.0.0.1", 0))
        sender = BareSender([drain.getsockname() for drain in drains], SMALL)
        for drain, keys in zip(drains, sender.keys, strict=True):
            receiver.take(drain, lambda datagram: None, keys=keys, decrypt=Decrypt.ALL)
        sent = 0
        for _ in range(2):  # the second goes on where the first ended
            bare = await trio.to_thread.run_sync(sender.run, 0.5, None)
            assert bare.failed == 0
            assert bare.cpu_ns > 0
            sent += bare.packets
            totals = await received(receiver, sent)
        assert totals.count(Count.RTP) == totals.count(Count.DECRYPTED) == sent > 200
        assert totals.lost == 0
        assert [totals.count(of) for of in (Count.UNDECRYPTABLE, Count.WRONG_CONTENT, Count.FOREIGN)] == [0, 0, 0]
        assert totals.count(Count.DATAGRAMS) < sent  # frames left merged
        sender.close()
        for drain in drains:
            drain.close()


async def test_a_fan_out_counts_what_server_and_bare_sender_deliver(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        (turn,) = await fanout.run_fanout(mesi, stage, SMALL, 3, 1.0, 1, None)
        assert (turn.server.silent, turn.server.totals.lost, turn.server.totals.lost_inside) == (0, 0, 0)
        assert turn.server.delivered == pytest.approx(turn.server.expected, abs=30)
        assert (turn.bare.failed, turn.bare_lost) == (0, 0)
        assert turn.bare.packets > 200
        assert {name for name, _, _ in fanout.describe([turn], "test").rows} >= {"server / bare", "lost"}


async def test_every_chat_client_hears_every_message(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        (turn,) = await chat.run_chat(mesi, stage, viewers=2, clients=5, seconds=1.0, repeats=1)
        assert turn.heard["said"] == 20
        assert turn.heard["heard"] == 5 * 20
        assert turn.heard["least"] == 20
        report = chat.describe([turn], 5, "test")
        assert ("every client heard every message", True) in report.targets


async def test_every_member_of_a_group_hears_every_message_of_it() -> None:
    async with open_mesi() as mesi:
        (turn,) = await messages.run_messages(mesi, sockets=6, size=3, rates=[20.0], seconds=1.0)
        assert turn.told["said"] == turn.told["answered"] > 0
        assert turn.told["heard"] == 3 * turn.told["said"]
        report = messages.describe([turn], 3, "test")
        assert ("20/s: every message is answered and heard by all of its group", True) in report.targets


async def test_joins_are_counted_and_a_storm_asks_for_few_keyframes(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        paced, storm = await join.run_joins(mesi, stage, watching=2, joining=3, per_s=20, storm=10, storm_s=0)
        assert (len(paced.times_ms), paced.blind) == (3, 0)
        assert (len(storm.times_ms), storm.blind) == (10, 0)
        assert len(storm.asked_ns) <= storm.most_requests
        assert min(paced.times_ms + storm.times_ms) > 0
        report = join.describe(paced, storm, "test", most_ms=min(paced.times_ms))
        assert not report.holds
        none = join.Joins([], 0, [], 0.0, 0)
        assert not any("storm" in words for words, _ in join.describe(paced, none, "test").targets)
        await wait_for_all_quiet(stage)


async def test_whoever_buys_sees_a_picture_in_the_lobby_and_from_outside(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        lobby, newcomers = await first_picture.run_purchases(mesi, stage, SMALL, 3, 2, per_s=20)
        for buyers, count in ((lobby, 3), (newcomers, 2)):
            assert (len(buyers.bought_ms), len(buyers.picture_ms), buyers.blind) == (count, count, 0)
            times = zip(buyers.bought_ms, buyers.picture_ms, strict=True)
            assert all(bought + picture > 0 for bought, picture in times), (
                "what was seen before a purchase is no picture"
            )
        assert min(newcomers.picture_ms) > 0, "who was outside can't have seen anything before"
        report = first_picture.describe((lobby, newcomers), "test")
        assert ("in the lobby: whoever paid got a picture", True) in report.targets
        lobby.note(1, 2, 0)
        assert not first_picture.describe((lobby, newcomers), "test").holds, "one who paid saw nothing"


async def wait_for_all_quiet(stage: load.Stage) -> None:
    for publisher in stage.publishers.values():
        publisher.paused = True
    await wait_for_all(stage)
    assert stage.receiver.totals().lost_inside == 0


async def test_a_server_of_the_tools_own_runs_on_its_core_and_is_gone_afterwards() -> None:
    core = min(os.sched_getaffinity(0))
    async with open_mesi(core) as mesi:
        assert mesi.pid is not None
        assert os.sched_getaffinity(mesi.pid) == {core}
        assert cpu_ns(mesi.pid) > 0
        assert memory_bytes(mesi.pid) > 10_000_000
        counters = await mesi.counters()
        assert counters["mesi_transports"] == 0
        with pytest.raises(ServerFailed, match="account_unknown"):
            await mesi.ask(await mesi.person("ann"), "PUT", f"/streams/{await stream(mesi)}/tickets/nobody")
    with pytest.raises(NoSuchProcess):
        cpu_ns(mesi.pid)


async def stream(mesi: load.Mesi) -> str:
    return await mesi.stream(await mesi.person("ann"))


def test_the_cost_of_a_process_counts_all_its_threads() -> None:
    before, own = cpu_ns(os.getpid()), time.thread_time_ns()
    done = threading.Event()

    def burn() -> None:
        until = time.thread_time_ns() + 200_000_000
        while time.thread_time_ns() < until:
            pass
        done.set()
        released.wait()

    released = threading.Event()
    thread = threading.Thread(target=burn)
    thread.start()
    done.wait()
    cost = cpu_ns(os.getpid()) - before
    released.set()
    thread.join()
    assert cpu_ns(os.getpid()) - before >= cost, "what a thread took, it took, also when it has ended"
    assert cost >= 190_000_000 + time.thread_time_ns() - own


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([], 0.5) is None


def test_a_report_fails_when_one_target_does() -> None:
    report = Report("title")
    report.add("cost", 1.5, "us")
    report.expect("good", True)
    assert report.holds
    report.expect("bad", False)
    assert not report.holds
    assert "FAILED  bad" in report.text()
    assert '"holds": false' in report.json()


def test_a_tool_that_cannot_reach_its_server_says_so_in_a_sentence() -> None:
    options = ["--whip", "http://127.0.0.1:9/whip", "--whep", "http://127.0.0.1:9/whep"]
    result = CliRunner().invoke(load.main, options)
    assert result.exit_code == 1
    assert "can't be reached" in result.output
    assert "Traceback" not in result.output


def test_a_tool_without_a_server_says_what_it_needs() -> None:
    result = CliRunner().invoke(load.main, [])
    assert result.exit_code == 2
    assert "give --whip and --whep, or --mesi" in result.output


@pytest.mark.parametrize("tool", ["load", "fanout", "cut", "chat", "join", "messages", "moq", "workers"])
async def test_every_tool_explains_itself(tool: str) -> None:
    result = await trio.run_process([sys.executable, "-m", f"bench.{tool}", "--help"], capture_stdout=True)
    assert b"--json" in result.stdout


async def test_every_report_of_viewers_networks_is_counted_and_what_it_speaks_of() -> None:
    outcome = await way_feedback.run_feedback(20)
    assert outcome.taken == outcome.sent == 20 * way_feedback.REPORTS
    assert outcome.packets > 0.97 * outcome.sent * way_feedback.PACKETS
    assert 0 < outcome.cpu_s < outcome.seconds


@pytest.mark.parametrize("count", [1, 2])
async def test_what_workers_send_is_counted_to_the_last_packet(count: int) -> None:
    turn = await workers.run_turn(count, 6, 0.5)
    assert turn.sent == turn.expected > 0
    assert len(turn.cpu_s) == count
    assert all(turn.cpu_s)
    if count == 2:
        assert await workers.run_apart(6, 0.5) > 0
