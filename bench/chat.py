"""`python -m bench.chat`: does chat delay pictures? Forwarding latency while many clients are told many messages.

Latency is measured by turns, quiet and with chat, within one run: the same viewers, the same sockets open. The chat
clients have a process of their own, on the tool's core, with the lowest priority.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import trio

from bench.cores import choose_cores, pin
from bench.load import rooms_of_mesi, seat
from bench.mesi import Mesi, ServerFailed, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.report import Report, say
from bench.stage import Stage, Window, open_stage
from bench.tool import run_tool

MOST_TIMES_QUIET = 2.0
ROOT = Path(__file__).resolve().parent.parent
JOIN_S = 120.0  # for all chat clients to connect


class Talkers:
    """The process of the chat clients."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._heard = b""

    async def line(self) -> str:
        """Return what it says next. Raises ServerFailed when it ended instead."""
        assert self._process.stdout is not None
        while b"\n" not in self._heard:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise ServerFailed("the chat clients gave up; their own words are above")
            self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    async def tell(self, words: str) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(f"{words}\n".encode())

    async def talk(self, seconds: float) -> dict[str, Any]:
        """Let everybody talk for so long; returns what was heard."""
        await self.tell(f"{seconds}")
        return dict(json.loads(await self.line()))


@asynccontextmanager
async def open_process(module: str, whom: dict[str, Any]) -> AsyncIterator[Talkers]:
    """Start a module that is told whom to be, and says when all of them are there. Raises ServerFailed."""
    command = [sys.executable, "-m", module]
    process = await trio.lowlevel.open_process(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        talkers = Talkers(process)
        await talkers.tell(json.dumps(whom))
        with trio.fail_after(JOIN_S):
            await talkers.line()
        yield talkers
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def open_talkers(mesi: Mesi, stream: str, tokens: list[str]) -> AsyncIterator[Talkers]:
    """Connect a client for each token, and have all join the stream. Raises ServerFailed."""
    where = urlsplit(mesi.url)
    whom = {"host": where.hostname, "port": where.port, "stream": stream, "tokens": tokens}
    async with open_process("bench.chat_clients", whom) as talkers:
        yield talkers


@dataclass(frozen=True, slots=True)
class Turn:
    """A quiet stretch, one with chat, and what the clients heard in it."""

    quiet: Window
    loud: Window
    heard: dict[str, Any]

    @property
    def ratio(self) -> float | None:
        """By how much chat raises the p99 latency of media."""
        quiet, loud = self.quiet.totals.latency_ms(0.99), self.loud.totals.latency_ms(0.99)
        return loud / quiet if quiet and loud else None


async def run_chat(mesi: Mesi, stage: Stage, viewers: int, clients: int, seconds: float, repeats: int) -> list[Turn]:
    """Measure by turns."""
    (room,) = await rooms_of_mesi(mesi, 1, viewers)
    await stage.publish(room.whip, room.token, Rate())
    await stage.join(seat(stage, list(room.places), viewers), joins_per_s=50)
    say(f"{clients} chat clients connect ...")
    people = await mesi.people([f"talker{number}" for number in range(clients)])
    stream = room.whip.rsplit("/", 1)[1]
    async with open_talkers(mesi, stream, [person.token for person in people]) as talkers:
        turns: list[Turn] = []
        for number in range(repeats):
            say(f"turn {number + 1} of {repeats}: quiet for {seconds:g} s, then with chat ...")
            quiet = await stage.measure(seconds, mesi.pid)
            heard: dict[str, Any] = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, talkers, seconds, heard)
                loud = await stage.measure(seconds, mesi.pid)
            turns.append(Turn(quiet, loud, heard))
        return turns


async def _listen(talkers: Talkers, seconds: float, heard: dict[str, Any]) -> None:
    heard.update(await talkers.talk(seconds))


def describe(turns: list[Turn], clients: int, title: str) -> Report:
    """Put medians into a report, and say which targets hold."""
    report = Report(title)
    for share in (0.5, 0.99, 0.999):
        for name, windows in (("quiet", [t.quiet for t in turns]), ("with chat", [t.loud for t in turns])):
            known = [ms for ms in (window.totals.latency_ms(share) for window in windows) if ms is not None]
            report.add(f"latency p{share * 100:g}, {name}", statistics.median(known) if known else None, "ms")
    ratios = [turn.ratio for turn in turns if turn.ratio is not None]
    ratio = statistics.median(ratios) if ratios else None
    report.add("p99 with chat / quiet", ratio, "x")
    said, heard = sum(turn.heard["said"] for turn in turns), sum(turn.heard["heard"] for turn in turns)
    report.add("chat messages said", said)
    report.add("chat messages heard", heard)
    report.add("heard a second and client", heard / clients / sum(turn.loud.seconds for turn in turns))
    report.add("from saying to hearing, p99", max(turn.heard["p99_ms"] or 0.0 for turn in turns), "ms")
    lost = sum(window.totals.lost + window.totals.lost_inside for turn in turns for window in (turn.quiet, turn.loud))
    report.add("media packets lost", lost)
    for name, windows in (("quiet", [t.quiet for t in turns]), ("with chat", [t.loud for t in turns])):
        cores = statistics.median((window.cpu_ns or 0) / 1e9 / window.seconds for window in windows)
        report.add(f"server CPU, {name}", cores, "cores")
    report.expect(f"p99 with chat below {MOST_TIMES_QUIET:g} times quiet", ratio is not None and ratio < 2.0)
    report.expect("every client heard every message", heard == said * clients)
    report.expect("no media lost", lost == 0)
    return report


@click.command()
@click.option("--viewers", default=50, show_default=True, help="WebRTC viewers; all are decrypted.")
@click.option("--clients", default=500, show_default=True, help="Signalling clients.")
@click.option("--seconds", default=10.0, show_default=True, help="Length of each stretch.")
@click.option("--repeats", default=3, show_default=True, help="Turns.")
@with_outputs
def main(viewers: int, clients: int, seconds: float, repeats: int, outputs: Outputs) -> None:
    """Compare forwarding latency without and with chat."""
    cores = choose_cores(None, None)

    async def run() -> list[Turn]:
        async with open_mesi(cores.server) as mesi, open_stage() as stage:
            pin(cores.tool)
            return await run_chat(mesi, stage, viewers, clients, seconds, repeats)

    report = describe(run_tool(run), clients, f"{viewers} viewers; {clients} chat clients hear 20 messages a second")
    outputs.deliver(report)


if __name__ == "__main__":
    main()
