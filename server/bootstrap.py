"""Builds the project's own virtual environment from the lock file, with nothing but the standard library."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = ENVIRONMENT / ".built-from"

OLDEST_PYTHON = (3, 11)
OLDEST_PIP = (22, 3)  # the first with `pip --python`, which spares the environment a pip of its own (Debian ships none)


class SetupFailed(Exception):
    """A step of the set-up failed; the message says which, and what to do."""


def ensure_environment() -> Path:
    """Return the Python of an environment that matches the lock file, building it first where it does not.

    Raises SetupFailed with a sentence for the person at the terminal.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise SetupFailed(
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed; this is {sys.version.split()[0]}."
        )
    fingerprint = _fingerprint()
    if STAMP.exists() and STAMP.read_text() == fingerprint and PYTHON.exists():
        return PYTHON
    say(f"Setting up {ENVIRONMENT.name} (once; a minute or two) ...")
    _check_pip()
    step("creating the environment", [sys.executable, "-m", "venv", "--clear", "--without-pip", str(ENVIRONMENT)])
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "--disable-pip-version-check", "install", "--quiet"]
    step("installing the locked packages", [*pip, "--require-hashes", "-r", str(LOCK)])
    step("installing mesi itself", [*pip, "--no-deps", "-e", str(ROOT)])
    STAMP.write_text(fingerprint)
    return PYTHON


def step(what: str, command: list[str], *, cwd: Path = ROOT) -> None:
    """Run one command, saying what it is for; raises SetupFailed when it fails."""
    say(f"  {what} ...")
    result = subprocess.run(command, cwd=cwd, check=False)
    if result.returncode != 0:
        raise SetupFailed(f"{what} failed: {command[0]} ended with {result.returncode}; its own words are above.")


def say(words: str) -> None:
    """Print progress where a person sees it and a pipe does not."""
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def _fingerprint() -> str:
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _check_pip() -> None:
    answer = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    if answer.returncode != 0 or len(words) < 2:
        raise SetupFailed(f"{sys.executable} has no pip. On Debian: apt-get install python3-pip")
    version = tuple(int(part) for part in words[1].split(".")[:2] if part.isdigit())
    if version < OLDEST_PIP:
        raise SetupFailed(f"pip {'.'.join(map(str, OLDEST_PIP))} or newer is needed; this is {words[1]}.")
