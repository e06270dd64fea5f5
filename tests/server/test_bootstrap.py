"""The set-up with nothing but the standard library: what it needs, what it says, and when it does nothing."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from server import bootstrap
from server.__main__ import main as server_main
from server.bootstrap import SetupFailed, ensure_environment


def test_it_imports_nothing_that_would_have_to_be_installed_first() -> None:
    for name in (
        "server/__init__.py",
        "server/__main__.py",
        "server/bootstrap.py",
        "tests/__init__.py",
        "tests/__main__.py",
    ):
        tree = ast.parse((bootstrap.ROOT / name).read_text())
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {module.split(".")[0] for module in modules} <= {*sys.stdlib_module_names, "server"}


def test_an_environment_that_fits_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stamp = tmp_path / "stamp"
    stamp.write_text(bootstrap._fingerprint())
    monkeypatch.setattr(bootstrap, "STAMP", stamp)
    monkeypatch.setattr(bootstrap, "step", lambda *_: pytest.fail("nothing was to be done"))
    assert ensure_environment() == bootstrap.PYTHON


def test_an_old_python_and_a_missing_or_old_pip_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "none")
    python = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    for says, words in (
        ("exit 1", "has no pip"),
        ("echo pip 21.0 from x", "pip 22.3 or newer is needed; this is 21.0"),
    ):
        python.write_text(f"#!/bin/sh\n{says}\n")
        python.chmod(0o755)
        with pytest.raises(SetupFailed, match=words):
            ensure_environment()
    monkeypatch.setattr(bootstrap, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(SetupFailed, match=r"Python 99\.0 or newer is needed"):
        ensure_environment()


def test_a_step_that_fails_says_which(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SetupFailed, match="counting sheep failed: sh ended with 3"):
        bootstrap.step("counting sheep", ["sh", "-c", "echo its own words >&2; exit 3"])
    assert "its own words" in capfd.readouterr().err


def test_the_readme_holds_one_command_to_run_and_one_to_test() -> None:
    text = (bootstrap.ROOT / "README.md").read_text()
    for heading, command in (("Run", "python3 -m server --demo"), ("Test", "python3 -m tests")):
        part = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        assert part.count("```") == 2
        assert part.split("```")[1].split("\n", 1)[1].strip() == command


@pytest.mark.parametrize(
    ("options", "becomes"),
    [
        ([], ["serve"]),
        (["--demo", "--data", "d"], ["demo", "--data", "d"]),
        (["--data", "d"], ["serve", "--data", "d"]),
    ],
)
def test_the_server_module_becomes_the_program(
    monkeypatch: pytest.MonkeyPatch, options: list[str], becomes: list[str]
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["server", *options])
    monkeypatch.setattr("server.__main__.ensure_environment", lambda: None)
    monkeypatch.setattr("os.execv", lambda program, words: became.append(words[1:]))
    server_main()
    assert became == [becomes]
