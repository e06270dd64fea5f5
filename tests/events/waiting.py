"""Waits for what comes about over the network, where no clock of the test's own runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


async def until(holds: Callable[[], Awaitable[bool]], patience_s: float = 5.0) -> None:
    """Return once it holds; raises trio.TooSlowError."""
    with trio.fail_after(patience_s):
        while True:
            if await holds():
                return
            await trio.sleep(0.02)
