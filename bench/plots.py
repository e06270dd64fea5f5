"""Plots as SVG: bars and lines, drawn here so that a page of results needs nothing else, offline and on a phone.

A plotting library brings tens of megabytes for what is some rectangles and paths. Colours follow the reader's light or
dark setting, also where the file stands alone as an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

WIDTH, ROW, MARGIN = 640, 26, 12
LABEL_SHARE = 0.42  # of the width, for the words beside bars
LINES_HEIGHT, AXIS, LEFT = 260, 34, 58
MOST_POINTS = 400  # of a line: more can't be told apart at this width
TICKS = 4
LETTER = 6.6  # the width of a letter at most, at this size
COLOURS = ("#2a78d6", "#d9730d", "#12805c", "#b0348c", "#6b5bd2", "#8a6d00")
STYLE = (
    "svg.plot{font:12px system-ui,sans-serif}"
    ".plot text{fill:#24292f}.plot .weak{fill:#59636e}.plot .grid{stroke:#d1d9e0}"
    "@media(prefers-color-scheme:dark){.plot text{fill:#e6edf3}.plot .weak{fill:#9198a1}.plot .grid{stroke:#3d444d}}"
)


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar for each named value; shorter is not said to be better."""

    title: str
    unit: str
    values: Sequence[tuple[str, float]]

    def svg(self) -> str:
        """Return the picture."""
        label = WIDTH * LABEL_SHARE
        most = max((value for _, value in self.values), default=0.0) or 1.0
        room = WIDTH - label - MARGIN - 90
        parts = []
        for place, (name, value) in enumerate(self.values):
            y = 40 + place * ROW
            length = max(room * value / most, 1.0)
            colour = COLOURS[place % len(COLOURS)]
            words = fit(name, label - 2 * MARGIN)
            parts.append(f'<text x="{label - 8:.0f}" y="{y + 13}" text-anchor="end">{words}</text>')
            parts.append(
                f'<rect x="{label:.0f}" y="{y}" width="{length:.1f}" height="{ROW - 8}" rx="2" fill="{colour}"/>'
            )
            shown = f"{short(value)} {self.unit}".strip()
            parts.append(f'<text x="{label + length + 6:.1f}" y="{y + 13}">{escape(shown)}</text>')
        return picture(self.title, 48 + ROW * len(self.values), parts)

    def json(self) -> dict[str, Any]:
        """Return what it shows."""
        return {"kind": "bars", "title": self.title, "unit": self.unit, "values": [list(pair) for pair in self.values]}


@dataclass(frozen=True, slots=True)
class Lines:
    """Values over one axis, a line for each name; both axes begin at 0 unless the first x is later."""

    title: str
    x_label: str
    y_label: str
    series: dict[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def svg(self) -> str:
        """Return the picture."""
        points = [point for line in self.series.values() for point in line]
        if not points:
            return picture(self.title, 60, ['<text class="weak" x="12" y="48">nothing was measured</text>'])
        first, last = min(0.0, *(x for x, _ in points)), max(x for x, _ in points)
        top = nice(max(y for _, y in points))
        parts = list(self._grid(first, last, top))
        for place, (name, line) in enumerate(self.series.items()):
            colour = COLOURS[place % len(COLOURS)]
            marks = [self._at(x, y, first, last, top) for x, y in thinned(line)]
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in marks)
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
            y = 40 + LINES_HEIGHT + AXIS + 16 + place * 18
            parts.append(f'<rect x="{LEFT}" y="{y - 9}" width="12" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{LEFT + 18}" y="{y}">{fit(name, WIDTH - LEFT - 40)}</text>')
        return picture(self.title, 60 + LINES_HEIGHT + AXIS + 18 * len(self.series), parts)

    def json(self) -> dict[str, Any]:
        """Return what it shows."""
        series = {name: [list(point) for point in thinned(line)] for name, line in self.series.items()}
        return {
            "kind": "lines",
            "title": self.title,
            "x_label": self.x_label,
            "y_label": self.y_label,
            "series": series,
        }

    def _grid(self, first: float, last: float, top: float) -> Iterable[str]:
        for step in range(TICKS + 1):
            value = top * step / TICKS
            _, y = self._at(first, value, first, last, top)
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - MARGIN}"/>'
            yield f'<text class="weak" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
            at = first + (last - first) * step / TICKS
            x, _ = self._at(at, 0, first, last, top)
            anchor = "end" if step == TICKS else "middle"
            below = 40 + LINES_HEIGHT + 16
            yield f'<text class="weak" x="{x:.1f}" y="{below}" text-anchor="{anchor}">{short(at)}</text>'
        yield f'<text class="weak" x="{LEFT}" y="34">{escape(self.y_label)}</text>'
        below = 40 + LINES_HEIGHT + 30
        yield f'<text class="weak" x="{WIDTH - MARGIN}" y="{below}" text-anchor="end">{escape(self.x_label)}</text>'

    def _at(self, x: float, y: float, first: float, last: float, top: float) -> tuple[float, float]:
        across = (x - first) / ((last - first) or 1.0)
        return LEFT + across * (WIDTH - MARGIN - LEFT), 40 + LINES_HEIGHT * (1 - y / top)


Plot = Bars | Lines


def read_plot(told: dict[str, Any]) -> Plot:
    """Return the plot of which `json` told."""
    if told["kind"] == "bars":
        return Bars(told["title"], told["unit"], [(name, value) for name, value in told["values"]])
    plot = Lines(told["title"], told["x_label"], told["y_label"])
    plot.series.update({name: [(x, y) for x, y in line] for name, line in told["series"].items()})
    return plot


def picture(title: str, height: int, parts: list[str]) -> str:
    """Return an SVG document that grows and shrinks with the page."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {height}" role="img">'
    words = f'<title>{escape(title)}</title><text x="{MARGIN}" y="18" font-weight="600">{fit(title, WIDTH)}</text>'
    return f"{head}<style>{STYLE}</style>{words}{''.join(parts)}</svg>\n"


def fit(words: str, width: float) -> str:
    """Return words, escaped, shortened to what certainly fits."""
    most = max(int(width / LETTER), 4)
    return escape(words if len(words) <= most else f"{words[: most - 1]}…")


def short(value: float) -> str:
    """Return three digits of a number, and thousands apart."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def nice(most: float) -> float:
    """Return the next round number above, as the top of an axis."""
    if most <= 0:
        return 1.0
    unit: float = 10.0 ** math.floor(math.log10(most))
    return next((step * unit for step in (1, 2, 4, 6, 8, 10) if step * unit >= most), 10 * unit)


def thinned(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most MOST_POINTS of a line's points, evenly taken, its last among them."""
    every = max(-(-len(line) // MOST_POINTS), 1)
    kept = list(line[::every])
    return kept if not line or kept[-1] == line[-1] else [*kept, line[-1]]
