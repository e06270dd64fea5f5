"""Every reader of network bytes keeps its promise for some thousand inputs, grown from recordings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = 6000  # a second or two; `python -m tests.fuzz TARGET --seconds 600` looks longer


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_the_promise_of(name: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "--runs", str(RUNS)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert f"Done {RUNS} runs" in ended.stderr
