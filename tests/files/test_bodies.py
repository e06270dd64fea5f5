"""Bodies of uploads in time: never endlessly slow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock
from werkzeug.exceptions import RequestTimeout

from server.web.bodies import GRACE_S, LEAST_PER_S, PacedParts

PATIENCE_S = 10.0


async def paced(body: AsyncIterator[bytes]) -> int:
    return sum([len(part) async for part in PacedParts(body, PATIENCE_S)])


@dataclass
class Trickle:
    """A body of so many parts, one after each pause."""

    size: int
    pause_s: float
    count: int

    def __aiter__(self) -> Trickle:
        return self

    async def __anext__(self) -> bytes:
        if not self.count:
            raise StopAsyncIteration
        self.count -= 1
        await trio.sleep(self.pause_s)
        return bytes(self.size)


async def test_a_slow_body_is_taken_for_as_long_as_it_gets_on(autojump_clock: MockClock) -> None:
    assert await paced(Trickle(LEAST_PER_S * 9, 8.0, 100)) == LEAST_PER_S * 900


async def test_a_body_that_trickles_is_ended(autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    with pytest.raises(RequestTimeout):
        await paced(Trickle(1, 8.0, 100))
    assert GRACE_S <= trio.current_time() - begun <= GRACE_S + 8


async def test_a_body_that_stands_still_is_ended(autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    with pytest.raises(RequestTimeout):
        await paced(Trickle(10**6, 11.0, 3))
    assert trio.current_time() - begun == pytest.approx(PATIENCE_S)
