"""Reports, plots and pages: what was measured is told whole, and opens without a network."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as Tree
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.__main__ import HERE, TOOLS, main, purpose
from bench.outputs import Outputs, with_outputs
from bench.page import render_page
from bench.plots import MOST_POINTS, Bars, Lines, nice, read_plot, short, thinned
from bench.report import Report, distribution, read_report

SVG = "{http://www.w3.org/2000/svg}"


def report_of_all_kinds() -> Report:
    report = Report("<one> & two", command="python -m bench load")
    report.add("cost", 1.5, "us")
    report.add("unmeasured", None)
    report.add("count", 12_345)
    report.expect("it is <good>", True)
    report.draw(Bars("bars", "us", [("a <b>", 2.0), ("c", 4.0)]))
    report.draw(Lines("lines", "s", "ms", {"x": [(0.0, 1.0), (1.0, 3.0)]}))
    return report


def test_a_report_comes_back_from_its_json_as_it_was() -> None:
    report = report_of_all_kinds()
    again = read_report(report.json())
    assert again.json() == report.json()
    assert again.text() == report.text()
    assert [plot.svg() for plot in again.plots] == [plot.svg() for plot in report.plots]


def test_a_page_tells_everything_and_needs_nothing_from_elsewhere() -> None:
    page = render_page("title", [report_of_all_kinds()], ["a <note>"])
    for words in ("&lt;one&gt; &amp; two", "a &lt;note&gt;", "12,345", "it is &lt;good&gt;", "python -m bench load"):
        assert words in page
    assert "<one>" not in page
    addresses = re.findall(r"(?:src|href|url|xmlns)[=(]\s*['\"]?([^'\" )>]+)", page)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
    assert "width=device-width" in page
    assert "prefers-color-scheme:dark" in page


def test_the_longest_bar_is_that_of_the_greatest_value() -> None:
    tree = Tree.fromstring(Bars("bars", "us", [("a", 1.0), ("b", 4.0), ("c", 2.0)]).svg())
    a, b, c = (float(rect.attrib["width"]) for rect in tree.iter(f"{SVG}rect"))
    assert b > 250
    assert b == pytest.approx(4 * a, abs=0.5)
    assert c == pytest.approx(2 * a, abs=0.5)
    assert [text.text for text in tree.iter(f"{SVG}text") if text.text in ("a", "b", "c")] == ["a", "b", "c"]


def test_lines_begin_and_end_where_their_values_do() -> None:
    svg = Lines("lines", "s", "ms", {"x": [(0.0, 0.0), (10.0, 4.0)]}).svg()
    (path,) = [path for path in Tree.fromstring(svg).iter(f"{SVG}path") if path.attrib.get("class") != "grid"]
    (x0, y0), (x1, y1) = (map(float, point.split()) for point in path.attrib["d"][1:].split("L"))
    assert (x0, x1) == (58, 628)
    assert (y0, y1) == (300, 40)


@pytest.mark.parametrize(
    "plot",
    [Bars("none", "us", []), Lines("none", "s", "ms"), Lines("one", "s", "ms", {"x": [(0, 0)]})],
    ids=["no bars", "no lines", "one point"],
)
def test_plots_of_next_to_nothing_are_still_pictures(plot: Bars | Lines) -> None:
    assert Tree.fromstring(plot.svg()).tag == f"{SVG}svg"
    assert read_plot(json.loads(json.dumps(plot.json()))).svg() == plot.svg()


def test_axes_end_at_round_numbers_and_numbers_are_short() -> None:
    assert [nice(value) for value in (0, 0.3, 1, 17, 61, 999)] == [1, 0.4, 1, 20, 80, 1000]
    assert [short(value) for value in (0, 0.5, 12.34, 12_345)] == ["0", "0.50", "12.3", "12,345"]


def test_a_long_line_is_thinned_and_keeps_its_last_point() -> None:
    line = [(float(x), 0.0) for x in range(10 * MOST_POINTS + 3)]
    assert len(thinned(line)) <= MOST_POINTS + 1
    assert thinned(line)[-1] == line[-1]
    assert thinned([]) == []


def test_a_distribution_rises_to_all_of_its_values() -> None:
    assert distribution([3.0, 1.0]) == [(1.0, 50.0), (3.0, 100.0)]


@pytest.mark.parametrize("holds", [True, False])
def test_outputs_write_both_files_and_fail_with_their_report(tmp_path: Path, holds: bool) -> None:
    @click.command()
    @with_outputs
    def tool(outputs: Outputs) -> None:
        report = report_of_all_kinds()
        report.expect("more", holds)
        outputs.deliver(report)

    files = [tmp_path / "told.json", tmp_path / "told.html"]
    result = CliRunner().invoke(tool, ["--json", str(files[0]), "--html", str(files[1])])
    assert result.exit_code == (0 if holds else 1)
    assert "12,345" in result.output
    assert read_report(files[0].read_text()).holds is holds
    assert files[1].read_text().startswith("<!doctype html>")
    assert json.loads(CliRunner().invoke(tool, ["--json", "-"]).output)["title"] == "<one> & two"


def test_the_list_names_every_tool_and_what_it_is_for() -> None:
    tools = {
        path.stem for path in HERE.glob("*.py") if path.read_text().startswith(f'"""`python -m bench.{path.stem}`')
    }
    assert set(TOOLS) == tools
    listed = " ".join(CliRunner().invoke(main, []).output.split())
    for name in TOOLS:
        assert len(purpose(name)) > 10
        assert f"{name} {purpose(name)}" in listed
    assert CliRunner().invoke(main, ["no-such-tool"]).exit_code == 2
