"""`python -m tests.fuzz [TARGET ...] [--runs N | --seconds N] [--seed N]`: fuzzes readers of network bytes, or all.

Inputs grow from the recordings in tests/fixtures and from what was ever found, which `tests/fuzz/found/TARGET` keeps.
An input that breaks a target's promise is written there and ends the run with its traceback: once it is fixed it stays,
and every later run begins with it. The same seed and number of runs give the same inputs. To start takes longer than
thousands of inputs: each target has a process of its own, which begins as a copy of the one that has started.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import atheris

import media.forwarding.arrivals
import media.forwarding.kernel.loop
import media.io.aead
import media.io.fanout
import media.moq.kernel.calls  # noqa: F401  (all before the others: Numba can't compile what was instrumented)

with atheris.instrument_imports(
    include=["media.wire", "media.webrtc", "media.bridge", "media.moq", "signalling", "server", "jwt"]
):
    from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"
ONE_INPUT_S = 5  # a reader that takes this long for one input hangs, whatever the machine is busy with
HEADING = "== "
MEMORY_MB = 1024  # the whole process, which needs a tenth of it


def main() -> int:
    """Return 0 when no input broke a promise; prints each target with what its process returned."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"all when absent; of {', '.join(sorted(TARGETS))}"
    )
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--runs", type=int, default=20_000, help="inputs to try (%(default)s)")
    how_long.add_argument("--seconds", type=int, default=0, help="time to try inputs for, instead of a number")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (%(default)s)")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target: {', '.join(sorted(unknown))}")
    return max(_fuzz_apart(name, arguments) for name in arguments.targets or TARGETS)


def _fuzz_apart(name: str, arguments: argparse.Namespace) -> int:
    """Fuzz one target in a process of its own, in which it begins as if there were no other; returns its code."""
    sys.stderr.write(f"{HEADING}{name}\n")
    sys.stderr.flush()
    with tempfile.TemporaryDirectory() as corpus:
        child = os.fork()
        if child == 0:
            _fuzz(name, arguments, Path(corpus))  # ends the process
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write(f"{name} {code}\n")
    sys.stdout.flush()
    return abs(code)


def _fuzz(name: str, arguments: argparse.Namespace, corpus: Path) -> NoReturn:
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:04}").write_bytes(seed)
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_len={target.largest}", f"-timeout={ONE_INPUT_S}", f"-rss_limit_mb={MEMORY_MB}"]
    limits.append(f"-max_total_time={arguments.seconds}" if arguments.seconds else f"-runs={arguments.runs}")
    words = [f"-seed={arguments.seed}", f"-artifact_prefix={found}/", "-verbosity=1", str(corpus), str(found)]
    atheris.Setup([sys.argv[0], *limits, *words], target.read)
    atheris.Fuzz()
    os._exit(1)  # it does not return


if __name__ == "__main__":
    sys.exit(main())
