"""`python3 -m tests [pytest options]`: installs what the tests need, checks style and types, runs every test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from server.bootstrap import ENVIRONMENT, ROOT, SetupFailed, ensure_environment, say, step

CHECKED = ("server", "signalling", "media", "bench", "tests")


def main() -> int:
    """Return 0 when every check and every test passed."""
    try:
        ensure_environment()
        check_style_and_types()
    except SetupFailed as failure:
        sys.stderr.write(f"tests: {failure}\n")
        return 1
    say("Running the tests (the first run compiles the forwarding kernel: about a minute) ...")
    return subprocess.run([str(ENVIRONMENT / "bin" / "pytest"), *sys.argv[1:]], cwd=ROOT, check=False).returncode


def check_style_and_types() -> None:
    """Run ruff, flake8-async and mypy; raises SetupFailed at the first that complains."""
    programs = ENVIRONMENT / "bin"
    files = [str(path) for folder in CHECKED for path in sorted(Path(ROOT, folder).rglob("*.py"))]
    step("ruff check", [str(programs / "ruff"), "check", "--quiet", *CHECKED])
    step("ruff format", [str(programs / "ruff"), "format", "--check", "--quiet", *CHECKED])
    step("flake8-async", [str(programs / "flake8-async"), "--startable-in-context-manager", "run", *files])
    step("mypy", [str(programs / "mypy")])


if __name__ == "__main__":
    sys.exit(main())
