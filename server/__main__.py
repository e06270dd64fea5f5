"""`python3 -m server [--demo] [options]`: sets up the environment on first use, then runs `mesi`."""

from __future__ import annotations

import os
import sys

from server.bootstrap import ENVIRONMENT, SetupFailed, ensure_environment


def main() -> int:
    """Replace this process by the server's; returns, with 1, only when the set-up failed."""
    arguments = sys.argv[1:]
    command = "demo" if "--demo" in arguments else "serve"
    try:
        ensure_environment()
    except SetupFailed as failure:
        sys.stderr.write(f"mesi: {failure}\n")
        return 1
    mesi = str(ENVIRONMENT / "bin" / "mesi")
    return os.execv(mesi, [mesi, command, *(word for word in arguments if word != "--demo")])


if __name__ == "__main__":
    sys.exit(main())
