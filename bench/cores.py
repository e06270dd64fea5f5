"""Which processor core is whose, so that a server is measured on one core and a tool does not disturb it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.report import say


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processor core is whose; None leaves it to the system."""

    server: int | None
    tool: int | None


def choose_cores(server: int | None, tool: int | None) -> Cores:
    """Take the first two cores where none are named; with a single one nothing is pinned, and that is said."""
    allowed = sorted(os.sched_getaffinity(0))
    if server is None and tool is None:
        if len(allowed) < 2:
            say("only one processor core: server and tool share it, and the numbers are not worth much")
            return Cores(None, None)
        return Cores(allowed[0], allowed[1])
    return Cores(server, tool)


def pin(core: int | None) -> None:
    """Keep this thread, and those it starts from now on, on one core; None leaves it to the system."""
    if core is not None:
        os.sched_setaffinity(0, {core})
