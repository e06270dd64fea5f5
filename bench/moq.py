"""`python -m bench.moq`: viewers over WebTransport or raw QUIC, what reaches them, and what it costs on one core.

The publisher comes over WHIP from this process, or over MoQ from one of its own; the viewers are moq-rs in another
(bench/moq_viewers.py). They have one processor core for themselves, the server the other. With --burners the server
shares its core with processes that never rest; then viewers come in steps, and what counts is that it carries on: what
no longer fits is dropped in whole groups, and the others go on. Needs the package's `test` extra.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import trio

from bench.cores import choose_cores, pin
from bench.load import WHIP
from bench.mesi import PINNED, Mesi, ServerFailed, open_mesi
from bench.moq_publishing import SCHEMES, MoqPlace
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.process import cpu_ns, memory_bytes
from bench.report import Report, say
from bench.stage import Stage, open_stage
from bench.tool import run_tool

SAMPLE = 10  # viewers that check every byte
JOIN_S = 60.0  # for a crowd to get its first frames
SETTLE_S = 3.0  # between the last join and measuring
STRAGGLE_S = 4.0  # for groups that had begun to come whole: one of video lasts two seconds
MOST_LOST = 0.001  # of the groups
MOST_LATENCY_MS = 100.0  # p99
LEAST_OF_PEAK = 0.8  # of the throughput at fewer viewers, on a starved core
TRACKS = ("video", "audio")
DATAGRAMS, CALLS = 'mesi_quic_total{event="datagrams_sent"}', 'mesi_quic_total{event="send_calls"}'
GROUPS = 'mesi_moq_total{event="groups_'  # what became of those that were not delivered
BURN = "while True: pass"


@dataclass(frozen=True, slots=True)
class Turn:
    """What came to the `readers` of `viewers` in so many `seconds`, by bench/moq_viewers.py, and the server's cost."""

    viewers: int
    readers: int
    seconds: float
    seen: dict[str, Any]
    datagrams: int  # sent by the server
    counters: dict[str, float]  # of the server, that changed
    cpu_ns: int | None
    memory_bytes: int | None

    @property
    def cpu_us(self) -> float | None:
        """Server CPU per UDP datagram sent, all threads."""
        return None if self.cpu_ns is None else self.cpu_ns / 1e3 / max(self.datagrams, 1)

    @property
    def lost_share(self) -> float:
        """Groups that did not come whole, of those that should have."""
        lost, due = float(self.seen["groups_lost"]), float(self.seen["groups"])
        return lost / max(due, 1.0)

    @property
    def throughput_bps(self) -> float:
        """Bits a second of frames, over all readers."""
        return float(self.seen["bytes"]) * 8 / self.seconds

    @property
    def given_up(self) -> int:
        """Groups that the server did not deliver whole, to whomever."""
        lost = [value for name, value in self.counters.items() if name.startswith(GROUPS)]
        return int(sum(lost))

    def latency_ms(self, share: float) -> float | None:
        """From the sending of a frame's first packet to the viewer having it all."""
        value = self.seen["latency_ns"][str(share)]
        return None if value is None else value / 1e6


@dataclass(slots=True)
class Viewers:
    """The process of the viewers."""

    process: trio.Process
    _buffer: bytes = b""

    async def ask(self, command: str) -> dict[str, Any]:
        """Send one line, return the answer. Raises ServerFailed when a viewer was put out, or never got in."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(command.encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._line())
        if answer["failed"]:
            raise ServerFailed(f"{len(answer['failed'])} viewers failed, the first with {answer['failed'][0]}")
        return answer

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            part = await self.process.stdout.receive_some()
            if not part:
                raise ServerFailed("the viewers' process ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


@asynccontextmanager
async def open_viewers(
    mesi: Mesi, stream: str, tokens: Iterable[str], scheme: str, core: int | None = None, readers: int | None = None
) -> AsyncIterator[Viewers]:
    """Have viewers watch until the block ends; it begins when all are in. Only `readers` look at what comes."""
    address = urlsplit(mesi.url)
    fingerprint = (await mesi.http.get(f"{mesi.url}/certificate.sha256")).text
    urls = [f"{scheme}://{address.hostname}:{address.port}/moq/{stream}?jwt={token}" for token in tokens]
    work = {
        "url": urls,
        "fingerprint": fingerprint,
        "broadcast": stream,
        "tracks": TRACKS,
        "sample": SAMPLE,
        "readers": readers or len(urls),
        "core": core,
    }
    command = [sys.executable, "-m", "bench.moq_viewers"]
    process = await trio.lowlevel.open_process(command, cwd=_ROOT, stdin=-1, stdout=-1)
    try:
        assert process.stdin is not None
        await process.stdin.send_all(json.dumps(work).encode() + b"\n")
        viewers = Viewers(process)
        with trio.move_on_after(JOIN_S) as patience:
            # The viewers answer, and tell nothing by themselves.
            while (await viewers.ask("joined"))["joined"] < len(urls):  # noqa: ASYNC110
                await trio.sleep(0.1)
        if patience.cancelled_caught:
            raise ServerFailed(f"not all viewers were in after {JOIN_S:g} s")
        yield viewers
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def measure(viewers: Viewers, count: int, readers: int, mesi: Mesi, seconds: float) -> Turn:
    """Watch for so long."""
    before = await mesi.counters()
    cpu = cpu_ns(mesi.pid) if mesi.pid is not None else 0
    await viewers.ask("begin")
    began = trio.current_time()
    await trio.sleep(seconds)
    await viewers.ask("end")
    took = trio.current_time() - began
    cost = cpu_ns(mesi.pid) - cpu if mesi.pid is not None else None
    counters = await mesi.counters()
    await trio.sleep(STRAGGLE_S)
    seen = await viewers.ask("report")
    grown = {name: value - before.get(name, 0) for name, value in counters.items() if value != before.get(name, 0)}
    memory = memory_bytes(mesi.pid) if mesi.pid is not None else None
    return Turn(count, readers, took, seen, int(grown.get(DATAGRAMS, 0)), grown, cost, memory)


async def run_steps(
    mesi: Mesi,
    stage: Stage,
    rate: Rate,
    steps: list[int],
    seconds: float,
    scheme: str,
    core: int | None = None,
    published_over: str = WHIP,
    readers: int | None = None,
) -> list[Turn]:
    """Measure one turn for each number of viewers, all in the same room."""
    owner = await mesi.person("owner")
    stream = await mesi.stream(owner)
    if published_over == WHIP:
        await stage.publish(f"{mesi.url}/whip/{stream}", owner.token, rate)
    else:
        await stage.publish_over_moq(MoqPlace(mesi, owner, stream, published_over, core), rate)
    people = await mesi.people([f"viewer{number}" for number in range(max(steps))])
    turns = []
    for count in steps:
        say(f"{count} viewers join ...")
        tokens = [person.token for person in people[:count]]
        async with open_viewers(mesi, stream, tokens, scheme, core, readers) as viewers:
            await trio.sleep(SETTLE_S)
            say(f"measuring for {seconds:g} s ...")
            turns.append(await measure(viewers, count, min(count, readers or count), mesi, seconds))
    return turns


@asynccontextmanager
async def open_burners(count: int, core: int | None) -> AsyncIterator[None]:
    """Keep a processor core busy with so many processes besides the server."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            command = [sys.executable, "-c", BURN]
            pinned = command if core is None else [sys.executable, "-c", PINNED, str(core), *command]
            process = await trio.lowlevel.open_process(pinned)
            stack.callback(process.kill)
        yield


def describe(turns: list[Turn], title: str, burners: int = 0) -> Report:
    """Put turns into a report, and say which targets hold."""
    report = Report(title)
    for turn in turns:
        _add(report, turn)
    last = turns[-1]
    wrong = sum(turn.seen.get("frames_wrong", 0) for turn in turns)
    checked = sum(turn.seen.get("packets_checked", 0) for turn in turns)
    report.expect("every checked byte is what was published", wrong == 0 and checked > 0)
    report.expect("nobody got nothing", all(turn.seen["viewers_heard"] == turn.readers for turn in turns))
    if burners:
        peak = max(turn.throughput_bps for turn in turns)
        words = f"{last.viewers} viewers on a starved core get at least {LEAST_OF_PEAK:.0%} of the most that it carried"
        report.expect(words, last.throughput_bps >= LEAST_OF_PEAK * peak)
        return report
    latency = last.latency_ms(0.99)
    due = last.seen["groups"] * last.viewers / last.readers
    is_whole = last.lost_share < MOST_LOST and last.given_up < max(MOST_LOST * due, 1)
    report.expect(f"less than {MOST_LOST:.1%} of the groups lost", is_whole)
    report.expect(f"p99 latency below {MOST_LATENCY_MS:g} ms", latency is not None and latency < MOST_LATENCY_MS)
    return report


def _add(report: Report, turn: Turn) -> None:
    seen, at = turn.seen, f"{turn.viewers} viewers: "
    report.add(at + "frames delivered", seen.get("frames", 0))
    report.add(at + "throughput", turn.throughput_bps / 1e6, "Mbit/s")
    report.add(at + "groups due", seen["groups"])
    report.add(at + "groups lost", seen["groups_lost"])
    report.add(at + "viewers that read", turn.readers)
    report.add(at + "viewers that got nothing", turn.readers - seen["viewers_heard"])
    report.add(at + "packets checked byte by byte", seen.get("packets_checked", 0))
    report.add(at + "frames with wrong content", seen.get("frames_wrong", 0))
    for share in (0.5, 0.99, 0.999):
        report.add(at + f"one-way latency p{share * 100:g}", turn.latency_ms(share), "ms")
    report.add(at + "datagrams sent", turn.datagrams)
    report.add(at + "datagrams in one call", turn.datagrams / max(turn.counters.get(CALLS, 0), 1))
    if turn.cpu_ns is not None and turn.memory_bytes is not None:
        report.add(at + "server CPU", turn.cpu_ns / 1e9 / turn.seconds, "cores")
        report.add(at + "server CPU per datagram", turn.cpu_us, "us")
        report.add(at + "server memory", turn.memory_bytes / 1e6, "MB")
    for name, value in sorted(turn.counters.items()):
        if name.startswith(GROUPS):
            report.add(at + f"server: groups {name.removeprefix(GROUPS)[:-2]}", int(value))


@click.command()
@click.option("--viewers", default="60", show_default=True, help="How many; with commas, one turn for each number.")
@click.option("--carrier", type=click.Choice(list(SCHEMES)), default="webtransport", show_default=True)
@click.option("--publish-over", type=click.Choice([WHIP, *SCHEMES]), default=WHIP, show_default=True)
@click.option("--video-bps", default=2_000_000, show_default=True, help="Bits a second of video.")
@click.option("--sound/--no-sound", default=True, help="Sound besides, 50 packets a second.")
@click.option("--readers", type=int, help="How many look at what comes [default: all]; the others only take it in.")
@click.option("--seconds", default=20.0, show_default=True, help="Length of each turn.")
@click.option("--burners", default=0, show_default=True, help="Processes that never rest on the server's core.")
@click.option("--server-core", type=int, help="The server's processor core [default: the first].")
@click.option("--tool-core", type=int, help="This tool's [default: the second].")
@with_outputs
def main(
    viewers: str,
    carrier: str,
    publish_over: str,
    video_bps: int,
    sound: bool,
    readers: int | None,
    seconds: float,
    burners: int,
    server_core: int | None,
    tool_core: int | None,
    outputs: Outputs,
) -> None:
    """Measure MoQ viewers: what reaches them, how late, and the server's cost."""
    try:
        steps = [int(number) for number in viewers.split(",")]
    except ValueError:
        raise click.BadParameter("give numbers with commas", param_hint="--viewers") from None
    cores = choose_cores(server_core, tool_core)
    rate = Rate(video_bps, sound)

    async def run() -> list[Turn]:
        async with open_mesi(cores.server) as mesi, open_stage() as stage:
            pin(cores.tool)
            async with open_burners(burners, cores.server):
                scheme = SCHEMES[carrier]
                return await run_steps(mesi, stage, rate, steps, seconds, scheme, cores.tool, publish_over, readers)

    media = f"{video_bps:,} bit/s{' and sound' if sound else ''}"
    starved = f", shared with {burners} that never rest" if burners else ""
    title = f"1 publisher of {media} over {publish_over} to {viewers} viewers over {carrier}"
    title += f", server on core {cores.server}{starved}"
    report = describe(run_tool(run), title, burners)
    outputs.deliver(report)


_ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    main()
