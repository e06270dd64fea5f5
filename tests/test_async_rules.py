"""The short way through flake8-async complains of what the long one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.async_rules import main

NURSERY = """
import trio


async def gen():
    async with trio.open_nursery():
        yield 1
"""
LATE = """
import trio


async def last():
    try:
        pass
    finally:
        await trio.sleep(0.1){excuse}
"""


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        (NURSERY, ["ASYNC101", "ASYNC119"]),
        (LATE.format(excuse=""), ["ASYNC102"]),
        (LATE.format(excuse="  # noqa: ASYNC102"), []),
        (LATE.format(excuse="  # noqa: ASYNC110"), ["ASYNC102"]),
    ],
    ids=["generator", "late", "excused", "excused-of-another"],
)
def test_what_is_said_of_a_file(
    source: str, codes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    monkeypatch.setattr(sys, "argv", ["async_rules", str(file)])

    failed = main()

    said = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert (bool(failed), said) == (bool(codes), codes)
    whole = Path(sys.executable).with_name("flake8-async")
    theirs = subprocess.run([whole, str(file)], capture_output=True, text=True, check=False).stdout
    assert [line.split()[1] for line in theirs.splitlines()] == codes
