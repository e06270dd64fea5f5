"""`python -m bench.messages`: how many messages a second reach everybody in groups, and how soon.

The server has one processor core, the clients have the other, in a process of their own: each is a socket that follows
the log and is in one group. Every message is written to the embedded store before it is answered, and is sent to all of
its group, its sender among them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click
import trio

from bench.chat import Talkers, open_process
from bench.cores import choose_cores, pin
from bench.files import allow_files
from bench.mesi import Mesi, Person, ServerFailed, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.process import cpu_ns
from bench.report import Report, say
from bench.tool import run_tool

MOST_LATE_MS = 100.0
PROMISED_PER_S = 5000.0
FIRST_PER_S = 500.0  # tried, where the highest rate is looked for
CLOSE = 1.15  # two rates of which one holds and the other does not; runs differ as much
TOOL_BUSY = 0.9  # cores of the clients' process
WARM_PER_S, WARM_S = 200.0, 1.0
AT_ONCE = 16  # requests under way while accounts and groups are made


async def open_groups(mesi: Mesi, sockets: int, size: int) -> list[tuple[str, str]]:
    """Make accounts and groups of them; returns token and conversation of each."""
    people = await mesi.people([f"member{number}" for number in range(sockets)])
    groups = [people[start : start + size] for start in range(0, sockets, size)]
    found: list[tuple[str, str]] = []
    waiting = iter(groups)

    async def work() -> None:
        for group in waiting:
            conversation = await _open_group(mesi, group)
            found.extend((person.token, conversation) for person in group)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)
    return found


async def _open_group(mesi: Mesi, group: list[Person]) -> str:
    owner, *others = group
    headers = {"Authorization": f"Bearer {owner.token}", "Idempotency-Key": owner.id}
    body = {"title": "A group", "joining": "open"}
    answer = await mesi.http.post(f"{mesi.url}/api/v1/conversations", json=body, headers=headers)
    if not answer.is_success:
        raise ServerFailed(answer.text)
    conversation = str(answer.json()["id"])
    for person in others:
        await mesi.ask(person, "POST", f"/conversations/{conversation}/join")
    return conversation


@dataclass(frozen=True, slots=True)
class Turn:
    """What was heard at one rate, as the clients told, and what it took of the server until all was."""

    rate: float
    cpu_ns: int
    seconds: float
    told: dict[str, Any]

    def is_whole(self, size: int) -> bool:
        """Whether every message was answered and heard by all of its group."""
        return bool(self.told["answered"] == self.told["said"] and self.told["heard"] == self.told["said"] * size)

    @property
    def is_soon(self) -> bool:
        """Whether nearly all was heard in time."""
        late_ms = self.told["p99_ms"]
        return late_ms is not None and bool(late_ms < MOST_LATE_MS)

    @property
    def is_fair(self) -> bool:
        """Whether the tool kept up with what it was to say."""
        return bool(self.told["tool_cores"] < TOOL_BUSY and self.told["tool_late_ms"] < MOST_LATE_MS)


async def run_messages(
    mesi: Mesi, sockets: int, size: int, rates: Sequence[float], seconds: float, core: int | None = None
) -> list[Turn]:
    """Measure at one rate after the other; without any, look for the highest that holds."""
    say(f"{sockets} accounts in groups of {size} ...")
    clients = await open_groups(mesi, sockets, size)
    where = urlsplit(mesi.url)
    whom = {"host": where.hostname, "port": where.port, "clients": clients, "size": size, "core": core}
    say(f"{sockets} sockets connect ...")
    turns: list[Turn] = []
    async with open_process("bench.message_clients", whom) as talkers:
        await _measure(mesi, talkers, WARM_PER_S, WARM_S)  # what is done once for each conversation
        for rate in rates or _higher(turns, size):
            say(f"{rate:g} messages a second for {seconds:g} s ...")
            turns.append(await _measure(mesi, talkers, rate, seconds))
    return turns


def _higher(turns: list[Turn], size: int) -> Iterator[float]:
    """Say which rate is to be tried next, until one is known that holds and a little more does not."""
    held, missed = 0.0, 0.0
    rate = FIRST_PER_S
    while True:
        yield rate
        if turns[-1].is_soon and turns[-1].is_whole(size):
            held = rate
        else:
            missed = rate
        if not missed:
            rate = held * 2
        elif missed > held * CLOSE and missed > FIRST_PER_S / 8:
            rate = (max(held, missed / 4) * missed) ** 0.5
        else:
            return


async def _measure(mesi: Mesi, talkers: Talkers, rate: float, seconds: float) -> Turn:
    assert mesi.pid is not None
    used, began = cpu_ns(mesi.pid), time.monotonic()
    await talkers.tell(json.dumps({"seconds": seconds, "per_s": rate}))
    told = dict(json.loads(await talkers.line()))
    return Turn(rate, cpu_ns(mesi.pid) - used, time.monotonic() - began, told)


def describe(turns: list[Turn], size: int, title: str, *, searched: bool = False) -> Report:
    """Put what was measured into a report, and say which targets hold."""
    report = Report(title)
    held = max((turn.rate for turn in turns if turn.is_soon and turn.is_whole(size)), default=0.0)
    report.add(f"highest rate heard by all with p99 below {MOST_LATE_MS:g} ms", held, "/s")
    for turn in sorted(turns, key=lambda turn: turn.rate):
        name, told = f"{turn.rate:.0f}/s", turn.told
        report.add(f"{name}: said", told["said"])
        report.add(f"{name}: written and answered", told["answered"])
        report.add(f"{name}: heard, all sockets", told["heard"])
        report.add(f"{name}: from saying to hearing, p50", told["p50_ms"], "ms")
        report.add(f"{name}: from saying to hearing, p99", told["p99_ms"], "ms")
        report.add(f"{name}: server CPU", turn.cpu_ns / 1e9 / turn.seconds, "cores")
        report.add(f"{name}: server CPU for each message to one", turn.cpu_ns / 1e3 / max(told["heard"], 1), "us")
        report.add(f"{name}: CPU of the tool's clients", told["tool_cores"], "cores")
        report.add(f"{name}: said late by at most", told["tool_late_ms"], "ms")
        if not searched:
            report.expect(f"{name}: every message is answered and heard by all of its group", turn.is_whole(size))
            report.expect(f"{name}: p99 below {MOST_LATE_MS:g} ms", turn.is_soon)
            report.expect(f"{name}: the tool is not the limit", turn.is_fair)
    if searched:
        report.expect(
            f"{PROMISED_PER_S:g} messages a second with p99 below {MOST_LATE_MS:g} ms", held >= PROMISED_PER_S
        )
        report.expect("the tool is not the limit", all(turn.is_fair for turn in turns))
    return report


@click.command()
@click.option("--sockets", default=5000, show_default=True, help="Clients, one account each.")
@click.option("--size", default=100, show_default=True, help="Members of a group.")
@click.option("--rate", "rates", multiple=True, type=float, help="Messages a second in all; else the highest is found.")
@click.option("--seconds", default=5.0, show_default=True, help="Length of each stretch.")
@with_outputs
def main(sockets: int, size: int, rates: tuple[float, ...], seconds: float, outputs: Outputs) -> None:
    """Measure how soon messages reach everybody in groups, and how many a second."""
    cores = choose_cores(None, None)
    allow_files(sockets)  # the server inherits it

    async def run() -> list[Turn]:
        async with open_mesi(cores.server) as mesi:
            pin(cores.tool)
            return await run_messages(mesi, sockets, size, rates, seconds, cores.tool)

    title = f"{sockets} sockets in groups of {size}"
    outputs.deliver(describe(run_tool(run), size, title, searched=not rates))


if __name__ == "__main__":
    main()
