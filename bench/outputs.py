"""Where a tool's report goes: to the terminal, and to files as JSON and as a page."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from bench.page import render_page
from bench.report import Report

STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files to write besides; `json` may be STANDARD_OUTPUT, instead of the table."""

    json: Path | None = None
    html: Path | None = None

    def deliver(self, report: Report) -> None:
        """Show and write a report; ends with status 1 when something did not hold."""
        report.command = report.command or _command()
        print(report.json() if self.json == STANDARD_OUTPUT else report.text())
        if self.json is not None and self.json != STANDARD_OUTPUT:
            self.json.write_text(report.json() + "\n")
        if self.html is not None:
            self.html.write_text(render_page(report.title, [report], []))
        if not report.holds:
            raise SystemExit(1)


def with_outputs(main: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where its report goes; it takes them as `outputs`."""

    @click.option(
        "--json",
        "json_file",
        metavar="FILE",
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        help="Write the results as JSON; - for standard output.",
    )
    @click.option(
        "--html",
        "html_file",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write them as a page with plots.",
    )
    @functools.wraps(main)
    def run(*, json_file: Path | None, html_file: Path | None, **options: object) -> None:
        main(**options, outputs=Outputs(json_file, html_file))

    return run


def _command() -> str:
    """Return how this tool was called."""
    program = Path(sys.argv[0])
    name = f"bench.{program.stem}" if program.parent.name == "bench" and program.stem != "__main__" else "bench"
    return shlex.join(["python", "-m", name, *sys.argv[1:]])
