"""`python -m tests.fuzz [TARGET] [--runs N | --seconds N] [--seed N]`: fuzzes one reader of network bytes, or all.

Inputs grow from the recordings in tests/fixtures and from what was ever found, which `tests/fuzz/found/TARGET` keeps.
An input that breaks a target's promise is written there and ends the run with its traceback: once it is fixed it stays,
and every later run begins with it. The same seed and number of runs give the same inputs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

import media.forwarding.kernel
import media.io.aead
import media.moq.packet_kernel  # noqa: F401  (all before the others: Numba can't compile what was instrumented)

with atheris.instrument_imports(
    include=["media.wire", "media.webrtc", "media.bridge", "media.moq", "signalling", "server", "jwt"]
):
    from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"
ONE_INPUT_S = 5  # a reader that takes this long for one input hangs, whatever the machine is busy with
MEMORY_MB = 1024  # the whole process, which needs a tenth of it


def main() -> int:
    """Return 0 when no input broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS), help="all of them, one by one, when absent")
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--runs", type=int, default=20_000, help="inputs to try (%(default)s)")
    how_long.add_argument("--seconds", type=int, default=0, help="time to try inputs for, instead of a number")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (%(default)s)")
    arguments = parser.parse_args()
    if arguments.target is None:
        rest = sys.argv[1:]
        return max(subprocess.run([sys.executable, "-m", "tests.fuzz", name, *rest]).returncode for name in TARGETS)
    with tempfile.TemporaryDirectory() as corpus:
        _fuzz(arguments, Path(corpus))  # ends the process
    return 0


def _fuzz(arguments: argparse.Namespace, corpus: Path) -> None:
    target = TARGETS[arguments.target]
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:04}").write_bytes(seed)
    found = FOUND / arguments.target
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_len={target.largest}", f"-timeout={ONE_INPUT_S}", f"-rss_limit_mb={MEMORY_MB}"]
    limits.append(f"-max_total_time={arguments.seconds}" if arguments.seconds else f"-runs={arguments.runs}")
    words = [f"-seed={arguments.seed}", f"-artifact_prefix={found}/", "-verbosity=1", str(corpus), str(found)]
    atheris.Setup([sys.argv[0], *limits, *words], target.read)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
