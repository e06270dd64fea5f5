"""What all share that make a file harmless: why one can't be taken, and how what was made is written."""

from __future__ import annotations

import errno
import os

FULL = (errno.ENOSPC, errno.EDQUOT)


class NotTaken(Exception):
    """A file that can't be taken; its text is the code of why."""


def write_all(descriptor: int, made: bytes | memoryview) -> None:
    """Write all of it. Raises NotTaken("storage_full") where the disk is, and OSError."""
    view = memoryview(made)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise_when_full(error)
        raise


def raise_when_full(error: BaseException) -> None:
    """Raise NotTaken("storage_full") for an error that says so."""
    if getattr(error, "errno", None) in FULL:
        raise NotTaken("storage_full") from error
