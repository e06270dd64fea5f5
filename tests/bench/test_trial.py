"""The cut's judge sees a cut that holds, and one that does not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import trio
import trio.lowlevel

from bench.cut import Overtime, describe_leaks, describe_overtime, describe_spread, judge_end, one_to_one, ticket_only
from bench.report import Report
from bench.tables import Heard
from bench.trial import Confirm, Switch, open_trial, run_switches
from tests.bench.crowds import SMALL, open_bench


async def test_ticket_only_lets_nothing_out_after_the_confirmation_and_holders_lose_nothing(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 2, 3, "t")
        leaks = await run_switches(trial, ticket_only(trial), 2)
        report = Report("test")
        describe_leaks(report, leaks)
        assert report.holds, report.text()
        assert (leaks.switches, leaks.watched, leaks.idle) == (2, 6, 0)
        assert leaks.packets_after == leaks.holders_lost == 0
        assert len(leaks.fence_ms) == 2


async def test_viewers_on_two_forwarding_threads_are_cut_together(tmp_path: Path) -> None:
    async with open_bench(tmp_path, workers=2) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 7, 5, "t")
        report = Report("test")
        describe_leaks(report, await run_switches(trial, ticket_only(trial), 1))
        describe_spread(report, await mesi.spread())
        assert report.holds, report.text()
    report = Report("test")
    describe_spread(report, [9, 1])
    assert not report.holds, "the publisher alone is no viewer"


async def test_a_confirmation_that_switches_nothing_is_found_out(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 1, 2, "t")

        async def nothing() -> Any:
            await trio.lowlevel.checkpoint()

        async def prepare() -> Confirm:
            return nothing

        leaks = await run_switches(trial, Switch("nothing", prepare, nothing), 1)
        report = Report("test")
        describe_leaks(report, leaks)
        assert not report.holds
        assert leaks.after[Heard.RTP] > 20
        assert leaks.after[Heard.RTX] >= 16  # what was asked for again was sent again
        assert leaks.worst_ms is not None
        assert leaks.worst_ms > 300


async def test_a_confirmation_that_returns_before_the_cut_is_found_out(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 1, 2, "t")
        honest = ticket_only(trial)

        async def prepare() -> Confirm:
            confirm = await honest.prepare()

            async def early() -> Any:
                async def later() -> None:
                    await trio.sleep(0.1)
                    await confirm()

                stage.nursery.start_soon(later)

            return early

        leaks = await run_switches(trial, Switch("early", prepare, honest.reopen), 1)
        assert leaks.after[Heard.RTP] > 0
        assert leaks.worst_ms is not None
        assert leaks.worst_ms < 400


async def test_outsiders_that_were_not_watching_prove_nothing(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 1, 1, "t")
        await trial.ask("PUT", f"/ejected/{trial.outsiders[0].name}")
        leaks = await run_switches(trial, ticket_only(trial), 1)
        report = Report("test")
        describe_leaks(report, leaks)
        assert (leaks.watched, leaks.idle, leaks.packets_after) == (0, 1, 0)
        assert not report.holds


async def test_a_holder_that_is_put_out_has_lost_something(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 2, 1, "t")
        await trial.ask("DELETE", f"/tickets/{trial.holders[0].place.name}")
        leaks = await run_switches(trial, ticket_only(trial), 1)
        report = Report("test")
        describe_leaks(report, leaks)
        assert (leaks.holders_put_out, leaks.holders_behind) == (1, 1)
        assert not report.holds


async def test_a_one_to_one_shuts_out_all_but_the_guest_who_loses_nothing(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 1, 3, "t")
        guest = await mesi.person(trial.holders[0].place.name)
        leaks = await run_switches(trial, one_to_one(trial, guest), 2)
        report = Report("test")
        describe_leaks(report, leaks)
        assert report.holds, report.text()
        assert (leaks.switches, leaks.watched) == (2, 6)


async def test_media_past_an_end_is_found_and_an_end_that_holds_is_not_blamed(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as (_, mesi, stage):
        trial = await open_trial(mesi, stage, SMALL, 2, 0, "t")
        await trio.sleep(0.3)
        early_ns = time.time_ns() - 200_000_000
        await trial.ask("POST", "/end")
        ended_ns = time.time_ns()
        await trio.sleep(0.3)
        late, good = Overtime(), Overtime()
        judge_end(late, trial.holders, early_ns)
        judge_end(good, trial.holders, ended_ns)
        assert late.over > 10
        assert good.over == 0
        for overtime, holds in ((late, False), (good, True)):
            report = Report("test")
            describe_overtime(report, overtime)
            assert report.holds is holds
