"""`python -m bench.sockets`: ten thousand clients of one node's signalling: what each costs, and how soon all hear.

The server has one core. The clients are in processes of their own on the other, each connecting from its own loopback
address, as one has not enough ports for all. Every client has its own account, has joined the stream and hears its
chat. How late a message is, is judged by the receiving kernel's timestamps.
"""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import click
import trio

from bench.chat import Talkers, open_process
from bench.cores import Cores, choose_cores, pin
from bench.files import allow_files
from bench.mesi import Mesi, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.plots import Lines
from bench.process import cpu_ns, memory_bytes
from bench.report import Report, distribution, percentile, say
from bench.tool import run_tool

MOST_KB = 10.0  # memory of the server for an idle client
MOST_LATE_MS = 150.0  # p99
OF_ONE_PROCESS = 2_500
SETTLE_S = 3.0  # for what joining left behind
AFTER_S = 2.0  # for the last message to arrive
TEXT = "and a few words, as people write them in a chat"


@dataclass(slots=True)
class Outcome:
    """What it took: memory before and after (bytes), CPU idle (cores), and how late each message came to each (ms)."""

    clients: int
    memory_before: int = 0
    memory_after: int = 0
    joined_s: float = 0.0
    idle_cores: float = 0.0
    said: int = 0
    late_ms: list[list[float]] = field(default_factory=list)
    cpu_ns: int = 0

    @property
    def kb_of_one(self) -> float:
        """Memory of the server for each client (kB)."""
        return (self.memory_after - self.memory_before) / 1e3 / self.clients


async def run_sockets(mesi: Mesi, clients: int, messages: int, pause_s: float, cores: Cores) -> Outcome:
    """Connect all, leave them idle for a while, then say something so many times."""
    assert mesi.pid is not None
    owner = await mesi.person("owner")
    stream = await mesi.stream(owner)
    say(f"{clients} accounts ...")
    tokens = [person.token for person in await mesi.people([f"client{number}" for number in range(clients)])]
    where, outcome = urlsplit(mesi.url), Outcome(clients)
    outcome.memory_before = memory_bytes(mesi.pid)
    async with AsyncExitStack() as stack:
        groups: list[Talkers] = []
        began = time.monotonic()
        for number, start in enumerate(range(0, clients, OF_ONE_PROCESS)):
            whom: dict[str, Any] = {
                "host": where.hostname,
                "port": where.port,
                "source": f"127.0.0.{number + 2}",
                "stream": stream,
            }
            whom |= {"tokens": tokens[start : start + OF_ONE_PROCESS], "core": cores.tool}
            groups.append(await stack.enter_async_context(open_process("bench.socket_clients", whom)))
            say(f"{min(start + OF_ONE_PROCESS, clients)} of {clients} are connected and have joined")
        outcome.joined_s = time.monotonic() - began
        await _stay_idle(mesi.pid, outcome)
        await _talk(mesi, stream, groups, messages, pause_s, outcome)
    return outcome


async def _stay_idle(pid: int, outcome: Outcome) -> None:
    await trio.sleep(SETTLE_S)
    used, began = cpu_ns(pid), time.monotonic()
    await trio.sleep(SETTLE_S)
    outcome.idle_cores = (cpu_ns(pid) - used) / 1e9 / (time.monotonic() - began)
    outcome.memory_after = memory_bytes(pid)


async def _talk(
    mesi: Mesi, stream: str, groups: list[Talkers], messages: int, pause_s: float, outcome: Outcome
) -> None:
    assert mesi.pid is not None
    say(f"{messages} messages, one in {pause_s:g} s ...")
    speaker = await mesi.person("client0")
    seconds = messages * pause_s + AFTER_S
    for group in groups:
        await group.tell(json.dumps({"seconds": seconds}))
    used, began, now = cpu_ns(mesi.pid), time.monotonic(), trio.current_time()
    for number in range(messages):
        await trio.sleep_until(now + (number + 1) * pause_s)  # however long an answer takes: all listen for so long
        text = f"sent {time.time_ns()} {TEXT}"
        await mesi.ask(speaker, "POST", f"/streams/{stream}/chat", {"text": text, "client_txn": f"{number}"})
    outcome.said = messages
    for group in groups:
        outcome.late_ms += json.loads(await group.line())["late_ms"]
    outcome.cpu_ns = cpu_ns(mesi.pid) - used - int(outcome.idle_cores * (time.monotonic() - began) * 1e9)


def describe(outcome: Outcome, title: str) -> Report:
    """Put it into a report, and say which targets hold."""
    report = Report(title)
    late = [ms for lates in outcome.late_ms for ms in lates]
    report.add("server memory before", outcome.memory_before / 1e6, "MB")
    report.add("server memory with all", outcome.memory_after / 1e6, "MB")
    report.add("server memory for each client", outcome.kb_of_one, "kB")
    report.add("all joined within", outcome.joined_s, "s")
    report.add("server CPU while idle", outcome.idle_cores, "cores")
    report.add("messages said", outcome.said)
    report.add("messages heard, all clients", len(late))
    for share in (0.5, 0.99, 1.0):
        report.add(f"from saying to hearing, p{share * 100:g}", percentile(late, share), "ms")
    report.add("server CPU for each message to one client", outcome.cpu_ns / 1e3 / max(len(late), 1), "us")
    lines = Lines("A message to all: how late it is", "ms", "% of clients that have heard it")
    lines.series[f"{outcome.clients} clients"] = distribution(late)
    report.draw(lines)
    p99 = percentile(late, 0.99)
    report.expect("everybody heard everything", len(late) == outcome.said * outcome.clients)
    report.expect(f"memory for each client below {MOST_KB:g} kB", outcome.kb_of_one < MOST_KB)
    report.expect(f"a message to all below {MOST_LATE_MS:g} ms p99", p99 is not None and p99 < MOST_LATE_MS)
    return report


@click.command()
@click.option("--clients", default=10_000, show_default=True, help="Connections, each with an account of its own.")
@click.option("--messages", default=20, show_default=True, help="Chat messages that all hear.")
@click.option("--pause", "pause_s", default=1.0, show_default=True, help="Seconds between two.")
@with_outputs
def main(clients: int, messages: int, pause_s: float, outputs: Outputs) -> None:
    """Measure memory of idle signalling clients, and how late a message to all of them is."""
    cores = choose_cores(None, None)
    allow_files(clients)  # the server inherits it

    async def run() -> Outcome:
        async with open_mesi(cores.server) as mesi:
            pin(cores.tool)
            return await run_sockets(mesi, clients, messages, pause_s, cores)

    outputs.deliver(describe(run_tool(run), f"{clients} signalling clients on one node"))


if __name__ == "__main__":
    main()
