"""Says on the terminal that something takes long, and that it is still going on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SILENT_S = 4.0  # what is faster needs no words; loading what was compiled before takes up to 3 s
DOT_S = 2.0


@contextmanager
def patience(words: str) -> Iterator[None]:
    """Write `words` to standard error when the body takes longer than SILENT_S, and a dot every DOT_S."""
    done = threading.Event()
    began = time.monotonic()
    teller = threading.Thread(target=_tell, args=[words, done], daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        if time.monotonic() - began > SILENT_S:
            sys.stderr.write(f" done in {time.monotonic() - began:.0f} s\n")


def _tell(words: str, done: threading.Event) -> None:
    if done.wait(SILENT_S):
        return
    sys.stderr.write(words)
    while not done.wait(DOT_S):
        sys.stderr.write(".")
        sys.stderr.flush()
