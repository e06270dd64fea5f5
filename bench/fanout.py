"""`python -m bench.fanout`: what forwarding costs on one core, beside the bare cost of the same packets.

The server has one processor core for itself, and this tool another. Server and bare sender take turns within one run,
to the same kind of sockets, drained by the same loop; medians count. The bare sender copies, encrypts and sends, and
does nothing else (bench/bare_sending.py).
"""

from __future__ import annotations

import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import click
import trio

from bench.bare import Bare, BareSender
from bench.cores import choose_cores, pin
from bench.load import SAMPLE, rooms_of_mesi, seat
from bench.mesi import Mesi, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.plots import Bars
from bench.receiver import Decrypt, Totals
from bench.report import Report, say
from bench.stage import Stage, Window, open_stage
from bench.tables import Count
from bench.tool import run_tool

SETTLE_S = 1.0  # between the turns of server and bare sender
MOST_US = 6.0  # server CPU per delivered packet
MOST_TIMES_BARE = 1.4
MOST_LATENCY_MS = 10.0  # p99


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the server and one of the bare sender; `bare_lost` of its packets did not arrive."""

    server: Window
    bare: Bare
    bare_lost: int

    @property
    def server_us(self) -> float:
        """Server CPU per delivered packet, all threads."""
        return (self.server.cpu_ns or 0) / 1e3 / max(self.server.delivered, 1)

    @property
    def bare_us(self) -> float:
        """Sender CPU per packet sent."""
        return self.bare.cpu_ns / 1e3 / max(self.bare.packets, 1)


async def run_fanout(
    mesi: Mesi,
    stage: Stage,
    rate: Rate,
    viewers: int,
    seconds: float,
    repeats: int,
    server_core: int | None,
    *,
    stamped: bool = False,
) -> list[Turn]:
    """Measure `repeats` turns."""
    (room,) = await rooms_of_mesi(mesi, 1, viewers)
    publisher = await stage.publish(room.whip, room.token, rate)
    say(f"{viewers} viewers join ...")
    await stage.join(seat(stage, list(room.places), SAMPLE, stamped=stamped), joins_per_s=50)
    turns = []
    with _open_drains(viewers) as drains, closing(BareSender([drain.getsockname() for drain in drains], rate)) as bare:
        rows = [
            stage.receiver.take(drain, lambda datagram: None, keys=keys, decrypt=Decrypt.NOTHING)
            for drain, keys in zip(drains, bare.keys, strict=True)
        ]
        for number in range(repeats):
            say(f"turn {number + 1} of {repeats}: the server for {seconds:g} s, then the bare sender ...")
            publisher.paused = False
            await trio.sleep(SETTLE_S)
            window = await stage.measure(seconds, mesi.pid)
            publisher.paused = True
            await trio.sleep(SETTLE_S)
            turns.append(Turn(window, *await _run_bare(stage, bare, seconds, server_core)))
        for row in rows:
            stage.receiver.release(row)
    return turns


async def _run_bare(stage: Stage, sender: BareSender, seconds: float, core: int | None) -> tuple[Bare, int]:
    before = stage.receiver.totals()
    bare = await trio.to_thread.run_sync(sender.run, seconds, core)
    await trio.sleep(SETTLE_S)
    got: Totals = stage.receiver.totals().since(before)
    return bare, bare.packets - got.count(Count.RTP)


@contextmanager
def _open_drains(count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        drains = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for drain in drains:
            drain.bind(("127.0.0.1", 0))
        yield drains


def describe(turns: list[Turn], title: str) -> Report:
    """Put medians into a report, and say which targets hold."""
    report = Report(title)
    server_us = statistics.median(turn.server_us for turn in turns)
    bare_us = statistics.median(turn.bare_us for turn in turns)
    ratio = statistics.median(turn.server_us / turn.bare_us for turn in turns)
    lost = sum(turn.server.totals.lost + turn.server.totals.lost_inside for turn in turns)
    silent = max(turn.server.silent for turn in turns)
    latencies = [turn.server.totals.latency_ms(0.99) for turn in turns]
    worst = statistics.median(ms for ms in latencies if ms is not None) if all(latencies) else None
    report.add("server CPU per delivered packet", server_us, "us")
    report.add("bare CPU per packet", bare_us, "us")
    report.add("server / bare", ratio, "x")
    report.add("all turns: server", " ".join(f"{turn.server_us:.2f}" for turn in turns), "us")
    report.add("all turns: bare", " ".join(f"{turn.bare_us:.2f}" for turn in turns), "us")
    report.add("packets delivered", sum(turn.server.delivered for turn in turns))
    report.add("packets sent x viewers", sum(turn.server.expected for turn in turns))
    report.add("lost", lost)
    report.add("viewers that got nothing", silent)
    report.add("bare packets sent", sum(turn.bare.packets for turn in turns))
    report.add("bare packets lost", sum(turn.bare_lost + turn.bare.failed for turn in turns))
    report.add("server: packets of one datagram", _merged(turns), "as received")
    for share in (0.5, 0.99, 0.999):
        values = [turn.server.totals.latency_ms(share) for turn in turns]
        known = [value for value in values if value is not None]
        report.add(f"one-way latency p{share * 100:g}", statistics.median(known) if known else None, "ms")
    costs = [("the server", server_us), ("bare loop: protect and send", bare_us)]
    report.draw(Bars(f"Processor time for a delivered packet ({title})", "µs", costs))
    report.expect(f"server CPU per delivered packet at most {MOST_US:g} us", server_us <= MOST_US)
    report.expect(f"at most {MOST_TIMES_BARE:g} times the bare cost", ratio <= MOST_TIMES_BARE)
    report.expect("nothing lost, nobody left out", lost == 0 and silent == 0)
    report.expect(f"p99 latency below {MOST_LATENCY_MS:g} ms", worst is not None and worst < MOST_LATENCY_MS)
    return report


def _merged(turns: list[Turn]) -> float:
    datagrams = sum(turn.server.totals.count(Count.DATAGRAMS) for turn in turns)
    return sum(turn.server.delivered for turn in turns) / max(datagrams, 1)


@click.command()
@click.option("--viewers", default=200, show_default=True)
@click.option("--video-bps", default=1_000_000, show_default=True, help="Bits a second of video.")
@click.option("--sound/--no-sound", default=True, help="Sound besides, 50 packets a second.")
@click.option("--stamped", is_flag=True, help="Packets carry transport-wide numbers, as browsers ask for.")
@click.option("--seconds", default=10.0, show_default=True, help="Length of each turn.")
@click.option("--repeats", default=5, show_default=True, help="Turns of server and bare sender each.")
@click.option("--server-core", type=int, help="The server's processor core [default: the first].")
@click.option("--tool-core", type=int, help="This tool's [default: the second].")
@click.option("--merge/--no-merge", default=True, help="Let the receiving sockets take merged packets (UDP_GRO).")
@with_outputs
def main(
    viewers: int,
    video_bps: int,
    sound: bool,
    stamped: bool,
    seconds: float,
    repeats: int,
    server_core: int | None,
    tool_core: int | None,
    merge: bool,
    outputs: Outputs,
) -> None:
    """Measure the server CPU per delivered packet, and the same packets without a server."""
    cores = choose_cores(server_core, tool_core)
    rate = Rate(video_bps, sound)

    async def run() -> list[Turn]:
        async with open_mesi(cores.server) as mesi, open_stage(merge=merge) as stage:
            pin(cores.tool)
            return await run_fanout(mesi, stage, rate, viewers, seconds, repeats, cores.server, stamped=stamped)

    media = f"{video_bps:,} bit/s{' and sound' if sound else ''}"
    title = f"1 publisher of {media} to {viewers} viewers, server on core {cores.server}"
    report = describe(run_tool(run), title)
    outputs.deliver(report)


if __name__ == "__main__":
    main()
