"""The servers that are compared: a Mesi, a Janus, or any WHIP and WHEP server, each opened fresh for every turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from bench.janus import find_libraries, open_janus
from bench.load import Room, rooms_of, rooms_of_mesi
from bench.mesi import open_mesi
from bench.promises import AS_IT_COMES, OWN, TUNED


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs: `rooms` makes so many of one publisher and so many viewers each."""

    pid: int | None
    rooms: Callable[[int, int], Awaitable[list[Room]]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A server by name; `open` starts it on one processor core."""

    name: str
    open: Callable[[int | None], AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def _mesi(core: int | None) -> AsyncIterator[Running]:
    async with open_mesi(core) as mesi:
        yield Running(mesi.pid, partial(rooms_of_mesi, mesi))


@asynccontextmanager
async def _janus(event_loops: int | None, core: int | None) -> AsyncIterator[Running]:
    async with open_janus(core, event_loops) as janus:
        yield Running(janus.pid, janus.rooms)


@asynccontextmanager
async def _any(whip: str, whep: str, token: str, pid: int | None, core: int | None) -> AsyncIterator[Running]:
    async def rooms(count: int, viewers: int) -> list[Room]:
        return rooms_of(whip, whep, token, count, viewers)

    yield Running(pid, rooms)


MESI = Contender(OWN, _mesi)


def januses() -> list[Contender]:
    """Return Janus tuned for one core, and as it comes. Raises ClickException where it is not installed."""
    find_libraries()
    return [
        Contender(TUNED, partial(_janus, 1)),
        Contender(AS_IT_COMES, partial(_janus, None)),
    ]


def other(name: str, whip: str, whep: str, token: str, pid: int | None) -> Contender:
    """Return a server that runs already, on the core where its operator has put it."""
    return Contender(name, partial(_any, whip, whep, token, pid))
