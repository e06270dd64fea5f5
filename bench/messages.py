"""`python -m bench.messages`: how many messages a second reach everybody in groups, and how soon.

The server has one processor core, the clients have the other, in a process of their own: each is a socket that follows
the log and is in one group. Every message is written to the embedded store before it is answered, and is sent to all of
its group, its sender among them.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import click
import trio

from bench.chat import Talkers, open_process
from bench.cores import choose_cores, pin
from bench.mesi import Mesi, Person, ServerFailed, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.process import cpu_ns
from bench.report import Report, say
from bench.tool import run_tool

MOST_LATE_MS = 100.0
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


async def run_messages(mesi: Mesi, sockets: int, size: int, rates: list[float], seconds: float) -> list[dict[str, Any]]:
    """Measure at one rate after the other."""
    say(f"{sockets} accounts in groups of {size} ...")
    clients = await open_groups(mesi, sockets, size)
    where = urlsplit(mesi.url)
    whom = {"host": where.hostname, "port": where.port, "clients": clients}
    say(f"{sockets} sockets connect ...")
    turns: list[dict[str, Any]] = []
    async with open_process("bench.message_clients", whom) as talkers:
        for rate in rates:
            say(f"{rate:g} messages a second for {seconds:g} s ...")
            turns.append(await _measure(mesi, talkers, rate, seconds))
    return turns


async def _measure(mesi: Mesi, talkers: Talkers, rate: float, seconds: float) -> dict[str, Any]:
    assert mesi.pid is not None
    used = cpu_ns(mesi.pid)
    await talkers.tell(json.dumps({"seconds": seconds, "per_s": rate}))
    told = dict(json.loads(await talkers.line()))
    return {**told, "rate": rate, "cores": (cpu_ns(mesi.pid) - used) / 1e9 / seconds}


def describe(turns: list[dict[str, Any]], size: int, title: str) -> Report:
    """Put what was measured into a report, and say which targets hold."""
    report = Report(title)
    for turn in turns:
        name = f"{turn['rate']:g}/s"
        report.add(f"{name}: said", turn["said"])
        report.add(f"{name}: written and answered", turn["answered"])
        report.add(f"{name}: heard, all sockets", turn["heard"])
        report.add(f"{name}: from saying to hearing, p50", turn["p50_ms"], "ms")
        report.add(f"{name}: from saying to hearing, p99", turn["p99_ms"], "ms")
        report.add(f"{name}: server CPU", turn["cores"], "cores")
        whole = turn["answered"] == turn["said"] and turn["heard"] == turn["said"] * size
        report.expect(f"{name}: every message is answered and heard by all of its group", whole)
        soon = turn["p99_ms"] is not None and turn["p99_ms"] < MOST_LATE_MS
        report.expect(f"{name}: p99 below {MOST_LATE_MS:g} ms", soon)
    return report


@click.command()
@click.option("--sockets", default=1000, show_default=True, help="Clients, one account each.")
@click.option("--size", default=100, show_default=True, help="Members of a group.")
@click.option("--rate", "rates", multiple=True, default=[100.0], show_default=True, help="Messages a second in all.")
@click.option("--seconds", default=5.0, show_default=True, help="Length of each stretch.")
@with_outputs
def main(sockets: int, size: int, rates: tuple[float, ...], seconds: float, outputs: Outputs) -> None:
    """Measure how soon messages reach everybody in groups."""
    cores = choose_cores(None, None)

    async def run() -> list[dict[str, Any]]:
        async with open_mesi(cores.server) as mesi:
            pin(cores.tool)
            return await run_messages(mesi, sockets, size, list(rates), seconds)

    report = describe(run_tool(run), size, f"{sockets} sockets in groups of {size}")
    outputs.deliver(report)


if __name__ == "__main__":
    main()
