"""What the tools print: progress for people on standard error, results as a table or JSON on standard output."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Report:
    """Named results with their units, in the order they were added; `targets` says which of them must hold."""

    title: str
    rows: list[tuple[str, Value, str]] = field(default_factory=list)
    targets: list[tuple[str, bool]] = field(default_factory=list)

    def add(self, name: str, value: Value, unit: str = "") -> None:
        """Add one result; None is shown as not measured."""
        self.rows.append((name, value, unit))

    def expect(self, words: str, holds: bool) -> None:
        """Add something that must hold."""
        self.targets.append((words, holds))

    @property
    def holds(self) -> bool:
        """Whether all that must hold does."""
        return all(holds for _, holds in self.targets)

    def text(self) -> str:
        """Return a table for people."""
        width = max((len(name) for name, _, _ in self.rows), default=0)
        lines = [self.title, _machine(), ""]
        lines += [f"{name:<{width}}  {_shown(value):>12} {unit}".rstrip() for name, value, unit in self.rows]
        if self.targets:
            lines.append("")
            lines += [f"{'holds ' if holds else 'FAILED'}  {words}" for words, holds in self.targets]
        return "\n".join(lines)

    def json(self) -> str:
        """Return the same for programs: one object, names as given."""
        values = {name: {"value": value, "unit": unit} for name, value, unit in self.rows}
        return json.dumps(
            {
                "title": self.title,
                "machine": _machine(),
                "results": values,
                "targets": [{"words": words, "holds": holds} for words, holds in self.targets],
            }
        )

    def print(self, *, as_json: bool) -> None:
        """Write the report to standard output."""
        print(self.json() if as_json else self.text())


def _machine() -> str:
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    system = f"{platform.system()} {platform.release()}"
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, {model}, {system}"


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else value
