"""Bodies of requests that are larger than memory: read as they are taken, and no slower than a network can be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
from werkzeug.exceptions import RequestTimeout

GRACE_S = 30.0  # before a body's pace is judged: what a mobile network swallows at a time
LEAST_PER_S = 1024  # bytes, since the beginning; whoever is slower would take days for a picture


class PacedParts:
    """The parts of a body as they come; raises RequestTimeout when they come too slowly."""

    def __init__(self, body: AsyncIterator[bytes], patience_s: float) -> None:
        self._body, self._patience_s = body, patience_s
        self._since, self._bytes = trio.current_time(), 0

    def __aiter__(self) -> PacedParts:
        """Return itself: it is read once."""
        return self

    async def __anext__(self) -> bytes:
        """Return what has come."""
        with trio.move_on_after(self._patience_s) as patience:
            part = await self._body.__anext__()
        if patience.cancelled_caught:
            raise RequestTimeout
        self._bytes += len(part)
        lasted_s = trio.current_time() - self._since
        if lasted_s > GRACE_S and self._bytes < lasted_s * LEAST_PER_S:
            raise RequestTimeout
        return part


async def nothing() -> AsyncIterator[bytes]:
    """Return no parts."""
    parts: tuple[bytes, ...] = ()
    for part in parts:
        yield part
