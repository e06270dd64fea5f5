"""`python3 -m server [--demo] [options]`: sets everything up and starts a server, with nothing installed but Python."""

from __future__ import annotations

import os
import sys

from server.bootstrap import ENVIRONMENT, SetupFailed, ensure_environment


def main() -> None:
    """Build the environment where need be, then become `mesi serve`, or `mesi demo` with --demo."""
    options = sys.argv[1:]
    command = "demo" if "--demo" in options else "serve"
    try:
        ensure_environment()
    except SetupFailed as failure:
        sys.exit(f"server: {failure}")
    program = str(ENVIRONMENT / "bin" / "mesi")
    os.execv(program, [program, command, *(option for option in options if option != "--demo")])


if __name__ == "__main__":
    main()
