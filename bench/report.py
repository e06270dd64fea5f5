"""What the tools find out: named results, what must hold of them, and plots; as text, as JSON and back."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.plots import Plot, read_plot

Value = float | int | str | None


def say(words: str) -> None:
    """Tell the person at the terminal what is going on."""
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of all do not exceed; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return, for a plot, what share of values (in %) is at most how large."""
    return [(value, 100 * (place + 1) / len(values)) for place, value in enumerate(sorted(values))]


def describe_machine() -> str:
    """Return when and on what this runs."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    system = f"{platform.system()} {platform.release()}"
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, {model}, {system}"


@dataclass(slots=True)
class Report:
    """Named results with their units, in the order they were added; `targets` says which of them must hold."""

    title: str
    rows: list[tuple[str, Value, str]] = field(default_factory=list)
    targets: list[tuple[str, bool]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    machine: str = field(default_factory=describe_machine)
    command: str = ""

    def add(self, name: str, value: Value, unit: str = "") -> None:
        """Add one result; None is shown as not measured."""
        self.rows.append((name, value, unit))

    def expect(self, words: str, holds: bool) -> None:
        """Add something that must hold."""
        self.targets.append((words, holds))

    def draw(self, plot: Plot) -> None:
        """Add a plot."""
        self.plots.append(plot)

    @property
    def holds(self) -> bool:
        """Whether all that must hold does."""
        return all(holds for _, holds in self.targets)

    def shown(self) -> Iterator[tuple[str, str, str]]:
        """Return name, value and unit of each result as people read them."""
        for name, value, unit in self.rows:
            yield name, _shown(value), unit

    def text(self) -> str:
        """Return a table for people."""
        width = max((len(name) for name, _, _ in self.rows), default=0)
        lines = [self.title, self.machine, ""]
        lines += [f"{name:<{width}}  {shown:>12} {unit}".rstrip() for name, shown, unit in self.shown()]
        if self.targets:
            lines.append("")
            lines += [f"{'holds ' if holds else 'FAILED'}  {words}" for words, holds in self.targets]
        return "\n".join(lines)

    def json(self) -> str:
        """Return the same for programs: one object, names as given."""
        values = {name: {"value": value, "unit": unit} for name, value, unit in self.rows}
        told = {
            "title": self.title,
            "machine": self.machine,
            "command": self.command,
            "results": values,
            "targets": [{"words": words, "holds": holds} for words, holds in self.targets],
            "plots": [plot.json() for plot in self.plots],
        }
        return json.dumps(told, indent=1)


def read_report(text: str) -> Report:
    """Return the report of which `json` told. Raises ValueError or KeyError for what is none."""
    told = json.loads(text)
    return Report(
        told["title"],
        [(name, result["value"], result["unit"]) for name, result in told["results"].items()],
        [(target["words"], target["holds"]) for target in told["targets"]],
        [read_plot(plot) for plot in told["plots"]],
        told["machine"],
        told["command"],
    )


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else value
