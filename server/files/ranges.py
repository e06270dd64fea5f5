"""Which part of a file a request asks for (RFC 9110 section 14)."""

from __future__ import annotations

import re

from server.problems import Problem

RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.IGNORECASE)


def range_untrusted(text: str, size: int) -> tuple[int, int] | None:
    """Return the bytes from and to (exclusive) that are asked for; None for all, also where several parts are.

    Raises Problem("range_not_satisfiable").
    """
    found = RANGE.fullmatch(text.strip())
    if found is None or found[1] == found[2] == "":
        return None  # what is not understood is ignored (section 14.2)
    first, last = found[1], found[2]
    if first == "":
        start, stop = max(0, size - int(last)), size
        satisfiable = int(last) > 0 and size > 0
    else:
        if last and int(last) < int(first):
            return None
        start, stop = int(first), min(size, int(last) + 1) if last else size
        satisfiable = start < size
    if not satisfiable:
        raise Problem("range_not_satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return start, stop
