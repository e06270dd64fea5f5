"""Reports as one HTML page that needs nothing else: tables, what had to hold, and plots; for phones and at night."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.report import Report

STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:0 auto;padding:1rem}
h1{font-size:1.3rem}h2{font-size:1.1rem;margin-top:2.5rem}
table{border-collapse:collapse;width:100%}
td{border-top:1px solid #8884;padding:.25rem .4rem;vertical-align:top;overflow-wrap:break-word}
td:first-child{overflow-wrap:anywhere}
td.value{text-align:right;font-variant-numeric:tabular-nums}
td.unit,p.machine{color:#777}
ul{list-style:none;padding:0}li.failed{font-weight:700}
code{overflow-wrap:anywhere}
div.plot{overflow-x:auto}div.plot svg{width:100%;min-width:34rem;height:auto;margin-top:1rem}
"""


def render_page(title: str, reports: list[Report], notes: list[str]) -> str:
    """Return the page; `notes` are paragraphs before the first report."""
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(note)}</p>" for note in notes)]
    for report in reports:
        parts += _section(report)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return (
        f"<!doctype html><html lang=en><head>{head}<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(report: Report) -> list[str]:
    parts = [f"<h2>{escape(report.title)}</h2>", f'<p class="machine">{escape(report.machine)}</p>']
    if report.command:
        parts.append(f"<p><code>{escape(report.command)}</code></p>")
    if report.targets:
        parts.append(f"<ul>{''.join(_target(words, holds) for words, holds in report.targets)}</ul>")
    parts += [f'<div class="plot">{plot.svg()}</div>' for plot in report.plots]
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="value">{escape(shown)}</td><td class="unit">{escape(unit)}</td></tr>'
        for name, shown, unit in report.shown()
    )
    return [*parts, f"<table>{rows}</table>"]


def _target(words: str, holds: bool) -> str:
    return f"<li>✓ {escape(words)}</li>" if holds else f'<li class="failed">✗ missed: {escape(words)}</li>'
