"""`python -m bench.all`: every figure of the page of results in one go, into a folder: JSON, SVG and a page.

A quiet machine with two cores is needed: nothing else may run. How long it takes is chosen; what does not fit into a
few minutes (turns, repeats, the soak) becomes shorter, and its numbers less certain.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from bench.page import render_page
from bench.report import Report, describe_machine, read_report, say

SHORT, FULL = 20, 60  # minutes: below the one and above the other nothing changes but the soak
JOIN_500 = ("--watching", "500", "--joining", "250", "--per-second", "50", "--storm", "0", "--p99-ms", "150")
CUT_WORKERS = ("--workers", "2", "--viewers", "200", "--switches", "5", "--limits", "0")
SLACK = 4.0  # times as long as planned before a tool is given up
NOTES = [
    "Everything ran on one machine over loopback, with the server pinned to one core and the load tool to another. "
    "Machines differ: compare what is given as a ratio within one run.",
    "Not claimed: real networks, other machines, more than one publisher a room but where it says so, and peers that "
    "were tuned by those who make them.",
]


@dataclass(frozen=True, slots=True)
class Task:
    """One tool's run: what its files are called, and its options."""

    name: str
    tool: str
    options: tuple[str, ...]
    minutes: float  # about


def plan(minutes: float, folder: Path, *, janus: bool) -> Iterator[Task]:
    """Return what to run in about so long; one of the tools reads in the folder what others have found out."""
    share = min(max((minutes - SHORT) / (FULL - SHORT), 0.0), 1.0)
    repeats = str(1 + 2 * round(2 * share))  # 1, 3 or 5, so that the median is a turn
    seconds = str(round(3 + 2 * share))
    others = () if janus else ("--no-janus",)
    turns = ("--repeats", repeats, "--seconds", seconds)
    yield Task("compare", "compare", ("--row", "fanout", "--row", "rooms", *turns, *others), 2 + 12 * share)
    yield Task(
        "highest", "compare", ("--row", "highest", "--repeats", repeats, "--seconds", "4", *others), 4 + 16 * share
    )
    yield Task("flat", "compare", ("--row", "flat", "--no-janus", *turns), 1 + 2 * share)
    yield Task("fanout", "fanout", turns, 1 + share)
    yield Task("fanout-stamped", "fanout", ("--stamped", *turns), 1 + share)
    yield Task("workers", "workers", ("--repeats", repeats), 0.5 + 1.5 * share)
    yield Task("join", "join", (), 1)
    yield Task("join-500", "join", JOIN_500, 0.7)
    yield Task("networks", "networks", (), 1)
    yield Task("cut", "cut", ("--viewers", "500", "--switches", str(5 + round(15 * share))), 2 + 3 * share)
    yield Task("cut-workers", "cut", CUT_WORKERS, 0.5)
    yield Task("sockets", "sockets", (), 2)
    yield Task("chat", "chat", ("--seconds", seconds), 1)
    yield Task("messages", "messages", (), 3)
    yield Task("first-picture", "first_picture", (), 1.5)
    yield Task("purchases", "purchases", ("--seconds", seconds), 0.5)
    yield Task("purchases-http", "purchases", ("--http", "--seconds", seconds), 0.5)
    yield Task("moq", "moq", ("--viewers", "60,90", "--readers", "10"), 1.5)
    yield Task("way-feedback", "way_feedback", (), 0.5)
    yield Task("plan", "plan", ("--results", str(folder)), 0.2)
    spent = 24 + 34 * share
    yield Task("soak", "soak", ("--minutes", f"{max(minutes - spent, 1):g}"), max(minutes - spent, 1))


def run_task(task: Task, folder: Path) -> Report | None:
    """Run one tool to its end; returns its report, None when it has none."""
    told = folder / f"{task.name}.json"
    told.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"bench.{task.tool}", *task.options, "--json", str(told)]
    say(f"--- {shlex.join(['bench.' + task.tool, *task.options])} (about {task.minutes:.1f} minutes)")
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60 * SLACK * (task.minutes + 1), check=False)
    except subprocess.TimeoutExpired:
        say(f"{task.name} took too long and was given up")
    if not told.exists():
        return None
    report = read_report(told.read_text())
    report.command = shlex.join(["python", "-m", f"bench.{task.tool}", *task.options])
    told.write_text(report.json() + "\n")
    return report


def write_results(folder: Path, reports: dict[str, Report]) -> None:
    """Write every plot as an SVG of its own, and all reports as one page."""
    for name, report in reports.items():
        for place, plot in enumerate(report.plots):
            (folder / f"{name}{f'-{place + 1}' if place else ''}.svg").write_text(plot.svg())
    (folder / "index.html").write_text(render_page("What Mesi carries", list(reports.values()), NOTES))


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="About how long it may take.")
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench/results"),
    show_default=True,
)
@click.option("--only", multiple=True, help="Run these alone, by the names of their files; the others' files stay.")
@click.option("--janus/--no-janus", default=None, help="Compare with Debian's Janus [default: where it is installed].")
def main(minutes: float, folder: Path, only: tuple[str, ...], janus: bool | None) -> None:
    """Make all figures, and write the page of results."""
    tasks = list(plan(minutes, folder, janus=shutil.which("janus") is not None if janus is None else janus))
    if unknown := set(only) - {task.name for task in tasks}:
        raise click.BadParameter(f"there is no {', '.join(sorted(unknown))}", param_hint="--only")
    folder.mkdir(parents=True, exist_ok=True)
    say(describe_machine())
    began, missed = time.monotonic(), []
    for task in tasks:
        if (not only or task.name in only) and run_task(task, folder) is None:
            missed.append(task.name)
    told = {task.name: folder / f"{task.name}.json" for task in tasks}
    reports = {name: read_report(path.read_text()) for name, path in told.items() if path.exists()}
    write_results(folder, reports)
    for name, report in reports.items():
        for words, holds in report.targets:
            print(f"{'holds ' if holds else 'FAILED'}  {name}: {words}")
    say(f"{folder / 'index.html'}, after {(time.monotonic() - began) / 60:.0f} minutes")
    if missed:
        raise click.ClickException(f"without a report: {', '.join(missed)}")


if __name__ == "__main__":
    main()
