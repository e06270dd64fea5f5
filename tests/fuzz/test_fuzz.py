"""Every reader of network bytes keeps its promise for some thousand inputs, grown from recordings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = 6000  # a second or two; `python -m tests.fuzz TARGET --seconds 600` looks longer


@pytest.fixture(scope="module")
def said(request: pytest.FixtureRequest) -> dict[str, tuple[str, str]]:
    """Fuzz what is tested, one after the other; gives what each returned, and what it said."""
    # One start for all: each takes longer than the inputs.
    wanted = {item.callspec.params["name"] for item in request.session.items if item.path == request.path}
    command = [sys.executable, "-m", "tests.fuzz", *sorted(wanted), "--runs", str(RUNS)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    codes = dict(line.split() for line in ended.stdout.splitlines() if re.fullmatch(r"[a-z-]+ -?\d+", line))
    parts = dict(part.split("\n", 1) for part in re.split(r"^== ", ended.stderr, flags=re.MULTILINE)[1:])
    return {name: (codes.get(name, ""), parts.get(name, ended.stderr)) for name in wanted}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_the_promise_of(name: str, said: dict[str, tuple[str, str]]) -> None:
    code, words = said[name]
    assert code == "0", words[-4000:]
    assert f"Done {RUNS} runs" in words
