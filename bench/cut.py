"""`python -m bench.cut`: what reaches those without the right after a switch was confirmed: nothing, it should show.

Judged at the viewers' sockets by the kernel's times of arrival, against the moment at which the answer to the
confirmation had arrived here: both on this machine's wall clock. Those who are put out go on listening, and ask for
retransmissions on top. Three cuts: to ticket-only and back, into a one-to-one and back, and a time limit. With several
workers the viewers of a stream sit on several forwarding threads, and each has to stop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import click
import trio

from bench.cores import choose_cores, pin
from bench.crowd import Viewer
from bench.mesi import Mesi, Person, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.report import Report, say
from bench.stage import Stage, open_stage
from bench.tables import Heard
from bench.tool import run_tool
from bench.trial import FLOWING_S, MEDIA, RECENT_NS, Confirm, Leaks, Switch, Trial, open_trial, run_switches

LIMIT_S = 60  # the shortest time limit
LOOKS = 50  # at the announced end: each is rounded down to a ms, the latest is within one of the truth
ALLOWED_MS = 2.0 + 1.0  # past the end of a time limit, and what rounding hides


def ticket_only(trial: Trial) -> Switch:
    """Switch to paid and back to public."""

    async def prepare_mode(mode: str) -> Confirm:
        prepared = await trial.ask("POST", "/mode/prepare", {"mode": mode})
        body = {"confirm_token": prepared["confirm_token"], "allow_empty": True}
        return lambda: trial.ask("POST", "/mode/confirm", body)

    async def reopen() -> None:
        await (await prepare_mode("public"))()

    return Switch("ticket-only", lambda: prepare_mode("paid"), reopen)


def one_to_one(trial: Trial, guest: Person) -> Switch:
    """Have `guest` confirm a one-to-one that is offered, and end it."""

    async def prepare() -> Confirm:
        await trial.mesi.ask(guest, "POST", trial.path("/one_to_one/requests"), {"seconds": 300})
        await trial.ask("POST", "/one_to_one/accept", {"account": guest.id, "seconds": 300})
        return lambda: trial.mesi.ask(guest, "POST", trial.path("/one_to_one/confirm"))

    return Switch("one-to-one", prepare, lambda: trial.ask("POST", "/one_to_one/end"))


@dataclass(slots=True)
class Overtime:
    """How long after the end of a time limit the last media packet came, over all viewers (ms; negative is before)."""

    last_ms: list[float] = field(default_factory=list)
    over: int = 0  # packets more than ALLOWED_MS past the end
    viewers: int = 0


async def run_time_limits(mesi: Mesi, stage: Stage, rate: Rate, viewers: int, times: int) -> Overtime:
    """Let streams end by a time limit, and watch when the last packets come."""
    over = Overtime()
    for number in range(times):
        say(f"time limit: {number + 1} of {times}, {LIMIT_S} s each")
        trial = await open_trial(mesi, stage, rate, viewers, 0, f"limit{number}")
        await trial.ask("PUT", "/time_limit", {"seconds": LIMIT_S})
        looks = [(await trial.ask("GET", ""))["card"]["ends_at"] for _ in range(LOOKS)]
        ends_ns = max(looks) * 1_000_000
        await trio.sleep((ends_ns - time.time_ns()) / 1e9 + FLOWING_S)
        judge_end(over, trial.holders, ends_ns)
        for viewer in trial.holders:
            viewer.leave()
    return over


def judge_end(over: Overtime, viewers: list[Viewer], ends_ns: int) -> None:
    """Count what came to viewers after `ends_ns` (ns since the epoch)."""
    for viewer in viewers:
        over.viewers += 1
        if viewer.row is None:
            continue
        arrived = viewer.receiver.arrivals_after(viewer.row, ends_ns - RECENT_NS)
        media = [at_ns for kind in MEDIA for at_ns in arrived[kind]]
        over.last_ms += [(max(media) - ends_ns) / 1e6] if media else []
        over.over += sum(at_ns > ends_ns + ALLOWED_MS * 1e6 for at_ns in media)


def describe_leaks(report: Report, leaks: Leaks) -> None:
    """Add one kind of cut to a report."""
    name = leaks.name
    report.add(f"{name}: switches", leaks.switches)
    report.add(f"{name}: outsiders watching at a switch, in all", leaks.watched)
    for kind in Heard:
        what = "packets" if kind in MEDIA else "datagrams (STUN and DTLS, no media)"
        report.add(f"{name}: {kind.name} {what} to outsiders after the confirmation", leaks.after[kind])
    report.add(f"{name}: latest of them", leaks.worst_ms, "ms after")
    report.add(f"{name}: last media before the confirmation, least", min(leaks.margin_ms, default=None), "ms")
    report.add(f"{name}: confirmation took at most", max(leaks.confirm_ms, default=None), "ms")
    report.add(f"{name}: fence took at most", max(leaks.fence_ms, default=None), "ms")
    report.add(f"{name}: holders", leaks.holders)
    report.add(f"{name}: packets that holders lost", leaks.holders_lost)
    report.expect(f"{name}: no packet to outsiders after the confirmation", leaks.packets_after == 0)
    report.expect(f"{name}: every outsider was watching before", leaks.idle == 0 and leaks.watched > 0)
    report.expect(
        f"{name}: holders lost nothing", leaks.holders_lost + leaks.holders_behind + leaks.holders_put_out == 0
    )


def describe_overtime(report: Report, over: Overtime) -> None:
    """Add time limits to a report."""
    report.add("time limit: viewers in all", over.viewers)
    report.add("time limit: last packet, latest", max(over.last_ms, default=None), "ms past the end")
    report.add("time limit: last packet, earliest", min(over.last_ms, default=None), "ms past the end")
    report.add(f"time limit: packets more than {ALLOWED_MS:g} ms past the end", over.over)
    report.expect("time limit: no packet more than 2 ms past the end (told to 1 ms)", over.over == 0)
    report.expect("time limit: everyone was watching until then", len(over.last_ms) == over.viewers > 0)


def describe_spread(report: Report, transports: list[int]) -> None:
    """Add where the viewers of one stream are: a cut has to hold on every thread."""
    for worker, count in enumerate(transports):
        report.add(f"transports on forwarding thread {worker}", count)
    report.expect("every forwarding thread has some of the stream's viewers", min(transports) > 1)


async def run_cuts(
    mesi: Mesi, stage: Stage, rate: Rate, viewers: int, switches: int, limits: int, workers: int = 1
) -> Report:
    """Run all three kinds of cut."""
    report = Report(f"cuts: {viewers} viewers, {switches} switches of each kind, {limits} time limits")
    trial = await open_trial(mesi, stage, rate, viewers // 2, viewers - viewers // 2, "tickets")
    describe_leaks(report, await run_switches(trial, ticket_only(trial), switches))
    if workers > 1:
        describe_spread(report, await mesi.spread())
    await trial.ask("POST", "/end")
    trial = await open_trial(mesi, stage, rate, 1, viewers - 1, "pair")
    guest = await mesi.person(trial.holders[0].place.name)
    describe_leaks(report, await run_switches(trial, one_to_one(trial, guest), switches))
    await trial.ask("POST", "/end")
    if limits:
        describe_overtime(report, await run_time_limits(mesi, stage, rate, viewers, limits))
    return report


@click.command()
@click.option("--viewers", default=100, show_default=True, help="Half of them hold a ticket.")
@click.option("--switches", default=20, show_default=True, help="Of each kind.")
@click.option("--limits", default=1, show_default=True, help="Streams that end by a time limit, a minute each.")
@click.option("--video-bps", default=1_000_000, show_default=True, help="Bits a second of video, with sound.")
@click.option("--workers", default=1, show_default=True, help="Forwarding threads; of several, none is pinned.")
@with_outputs
def main(viewers: int, switches: int, limits: int, video_bps: int, workers: int, outputs: Outputs) -> None:
    """Switch, and count what reaches those without the right after the confirmation."""
    cores = choose_cores(None, None)

    async def run() -> Report:
        async with open_mesi(cores.server if workers == 1 else None, workers) as mesi, open_stage() as stage:
            if workers == 1:
                pin(cores.tool)
            return await run_cuts(mesi, stage, Rate(video_bps), viewers, switches, limits, workers)

    report = run_tool(run)
    outputs.deliver(report)


if __name__ == "__main__":
    main()
