"""One command for all figures: every tool is asked for what it knows, and the page holds all that was told."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bench import all as everything
from bench.plots import Bars
from bench.report import Report, read_report


@pytest.mark.parametrize("minutes", [1.0, 30.0, 120.0])
def test_every_task_is_one_that_its_tool_understands(minutes: float, tmp_path: Path) -> None:
    names = set()
    for task in everything.plan(minutes, tmp_path, janus=False):
        command: click.Command = importlib.import_module(f"bench.{task.tool}").main
        with click.Context(command) as context:
            assert command.make_context(task.tool, [*task.options, "--json", "x.json"], parent=context)
        names.add(task.name)
    assert len(names) == len(list(everything.plan(minutes, tmp_path, janus=False)))


@pytest.mark.parametrize("minutes", [20.0, 60.0])
def test_a_plan_takes_about_as_long_as_was_asked(minutes: float, tmp_path: Path) -> None:
    planned = sum(task.minutes for task in everything.plan(minutes, tmp_path, janus=True))
    assert 0.7 * minutes < planned < 1.4 * minutes


def test_tools_run_one_after_the_other_and_their_reports_become_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(command: list[str], **_: Any) -> None:
        asked.append(command[2])
        report = Report(f"of {command[2]}")
        report.add("cost", 1.0, "us")
        report.expect("fine", command[2] != "bench.cut")
        report.draw(Bars("bars", "us", [("a", 1.0)]))
        if command[2] != "bench.chat":
            Path(command[-1]).write_text(report.json())

    ours = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(everything, "subprocess", ours)
    result = CliRunner().invoke(everything.main, ["--minutes", "20", "--out", str(tmp_path), "--no-janus"])
    assert result.exit_code == 1
    assert "without a report: chat" in result.output
    assert "FAILED  cut: fine" in result.output
    assert (asked.count("bench.compare"), asked.count("bench.fanout"), asked.count("bench.join")) == (3, 2, 2)
    page = (tmp_path / "index.html").read_text()
    assert "of bench.cut" in page
    assert "of bench.chat" not in page
    assert "Not claimed" in page
    assert (tmp_path / "fanout-stamped.svg").read_text().startswith("<svg")
    assert read_report((tmp_path / "soak.json").read_text()).command.startswith("python -m bench.soak --minutes")

    asked.clear()
    result = CliRunner().invoke(everything.main, ["--out", str(tmp_path), "--only", "join", "--no-janus"])
    assert (result.exit_code, asked) == (0, ["bench.join"])
    assert "of bench.cut" in (tmp_path / "index.html").read_text()
    assert CliRunner().invoke(everything.main, ["--out", str(tmp_path), "--only", "none"]).exit_code == 2
