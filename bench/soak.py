"""`python -m bench.soak`: people come and go for a long time, and nothing of them is left behind.

Viewers join, leave, restart ICE and change layers, sockets open and close, streams begin and end, and all viewers are
cut off now and then. Memory is looked at every second: after the first part, which is warm-up, it must not grow beyond
its noise. What can be counted (files, tasks, SRTP contexts, table rows) must be as much when all have gone as it was
before they came.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import click
import trio

from bench.churn import Churn
from bench.cores import choose_cores, pin
from bench.crowd import open_http
from bench.growth import FILES, MEMORY, Sample, growth, left_behind, look
from bench.mesi import Mesi, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.plots import Lines
from bench.receiver import Receiver
from bench.report import Report, say
from bench.simulcast import publish_simulcast
from bench.tool import run_tool

EVERY_S = 1.0
WARM_UP = 0.4  # of the whole: allocators, caches and queues reach their size
MOST_GROWTH_PER_H = 0.05  # of the memory, beyond NOISE
NOISE = 0.02  # of the memory: what two halves of a quiet server differ by
GONE_S = 30.0  # for the last traces of those who left
FAILED_SHARE = 0.02  # of what was tried: those who were cut off while they came
PEOPLE = 40


@dataclass(slots=True)
class Outcome:
    """What was seen; `left` is what was not given back in the end."""

    seconds: float
    samples: list[Sample] = field(default_factory=list)
    left: dict[str, float] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def grown(self) -> float:
        """By how much memory grew after the warm-up, as a share."""
        return growth([sample for sample in self.samples if sample.at_s >= WARM_UP * self.seconds])

    @property
    def most_grown(self) -> float:
        """By how much it may have."""
        return NOISE + MOST_GROWTH_PER_H * self.seconds / 3600


async def run_soak(mesi: Mesi, seconds: float, viewers: int, per_s: float, seed: int) -> Outcome:
    """Let people come and go for so long, and look."""
    outcome, began = Outcome(seconds), time.monotonic()
    owner = await mesi.person("owner")
    people = await mesi.people([f"viewer{number}" for number in range(PEOPLE)])
    stream = await mesi.stream(owner)
    async with AsyncExitStack() as stack:
        # One connection each, as those that are kept would be files and tasks of the server.
        http = await stack.enter_async_context(open_http(kept=1))
        mesi = replace(mesi, http=await stack.enter_async_context(open_http(kept=1)))
        receiving = await stack.enter_async_context(trio.open_nursery())
        receiver = Receiver()
        await receiving.start(receiver.run)
        url = f"{mesi.url}/whip/{stream}"
        async with (
            publish_simulcast(http, url, owner.token, Rate()) as publisher,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(publisher.run)
            churn = Churn(mesi, http, receiver, nursery, owner, people, stream, random.Random(seed))
            await _warm(churn)
            before = await look(mesi, began)
            began = time.monotonic()
            for _ in range(viewers):
                nursery.start_soon(churn.attempt, "join", churn.join)
            async with trio.open_nursery() as looking:
                looking.start_soon(_look_on, mesi, began, outcome)
                await churn.run(seconds, per_s)
                looking.cancel_scope.cancel()
            say("all leave ...")
            for viewer in churn.viewers:
                viewer.leave()
            outcome.left = await _await_gone(mesi, before, began)
            outcome.done, outcome.failed = churn.done, churn.failed
            nursery.cancel_scope.cancel()
        receiving.cancel_scope.cancel()
    return outcome


async def _warm(churn: Churn) -> None:
    """Do everything once, so that what is made once is there before anything is counted."""
    for act in (churn.join, churn.restart, churn.change_layer, churn.open_socket, churn.open_stream, churn.leave):
        await act()
    await trio.sleep(EVERY_S)


async def _look_on(mesi: Mesi, began: float, outcome: Outcome) -> None:
    while True:
        sample = await look(mesi, began)
        outcome.samples.append(sample)
        if len(outcome.samples) % 30 == 0:
            held = sample.held
            viewers = held["transports"]
            say(f"{sample.at_s:.0f} s: {held[MEMORY] / 1e6:.1f} MB, {held[FILES]:.0f} files, {viewers:.0f} transports")
        await trio.sleep(EVERY_S)


async def _await_gone(mesi: Mesi, before: Sample, began: float) -> dict[str, float]:
    """Return what is left when nothing more goes."""
    left: dict[str, float] = {}
    with trio.move_on_after(GONE_S):
        # The server tells nobody when it has forgotten somebody.
        while left := left_behind(before, await look(mesi, began)):  # noqa: ASYNC110
            await trio.sleep(EVERY_S)
    return left


def describe(outcome: Outcome, title: str) -> Report:
    """Put it into a report, and say what must hold."""
    report = Report(title)
    for name in sorted(outcome.done | outcome.failed):
        report.add(f"{name}: done", outcome.done[name])
        report.add(f"{name}: failed", outcome.failed[name])
    last = outcome.samples[-1].held
    report.add("memory at the end", last[MEMORY] / 1e6, "MB")
    report.add("memory grown after the warm-up", 100 * outcome.grown, "%")
    for name, more in outcome.left.items():
        report.add(f"left behind: {name}", more)
    memory = [(sample.at_s, sample.held[MEMORY] / 1e6) for sample in outcome.samples]
    report.draw(Lines("Resident memory of the server", "s", "MB", {MEMORY: memory}))
    lines = Lines("What it holds", "s", "")
    for name in (FILES, "tasks", "SRTP contexts", "rows of subscriptions", "rows of transports", "signalling sockets"):
        lines.series[name] = [(sample.at_s, sample.held[name]) for sample in outcome.samples]
    report.draw(lines)
    allowed = 100 * outcome.most_grown
    report.expect(f"memory grows by at most {allowed:.1f} % after the warm-up", outcome.grown <= outcome.most_grown)
    report.expect("files, tasks, contexts and rows are as many as before when all have gone", not outcome.left)
    failed, tried = outcome.failed.total(), outcome.done.total() + outcome.failed.total()
    report.expect(f"at most {100 * FAILED_SHARE:g} % of what was tried failed", failed <= FAILED_SHARE * tried)
    return report


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--viewers", default=60, show_default=True, help="About so many watch at a time.")
@click.option("--per-second", default=10.0, show_default=True, help="Joins, leaves, restarts and the like.")
@click.option("--seed", default=1, show_default=True, help="Decides what happens in which order.")
@with_outputs
def main(minutes: float, viewers: int, per_second: float, seed: int, outputs: Outputs) -> None:
    """Let people come and go, and look whether the server grows."""
    cores = choose_cores(None, None)

    async def run() -> Outcome:
        async with open_mesi(cores.server) as mesi:
            pin(cores.tool)
            return await run_soak(mesi, 60 * minutes, viewers, per_second, seed)

    title = f"{minutes:g} minutes of coming and going, {per_second:g} times a second, about {viewers} viewers"
    outputs.deliver(describe(run_tool(run), title))


if __name__ == "__main__":
    main()
