"""Viewers over WHEP: each joins, hands its socket over to the receiver, and stays until told to leave or put out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import httpx2
import trio

from bench.receiver import Decrypt, Receiver
from media.webrtc.srtp import SrtpKeys
from server.client import Endpoint, SessionFailed, TakeOver, watch

JOIN_S = 30.0  # for a whole crowd to get its first pictures after the last one asked
LOOK_S = 0.005  # between looks for a first picture, whose own time the kernel keeps
CONNECTIONS = 64  # HTTP: what a browser farm behind one proxy may use


Enter = Callable[[httpx2.AsyncClient, TakeOver], AbstractAsyncContextManager[Endpoint]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to watch, as whom, and whose packets (`publisher` is the number in them) come there.

    `enter` opens the session where that is not done over WHEP.
    """

    url: str
    token: str
    publisher: int = 0
    name: str = ""
    enter: Enter | None = None


@dataclass(slots=True)
class Viewer:
    """One viewer. `row` is its row in the receiver, `posted_ns` when its offer was sent (ns since the epoch).

    When the server ends the session it goes on listening until told to leave: what still comes is to be seen.
    """

    place: Place
    receiver: Receiver
    decrypt: Decrypt = Decrypt.TO_PICTURE
    stamped: bool = False  # its packets carry transport-wide numbers
    row: int | None = None
    posted_ns: int = 0
    failure: SessionFailed | None = None
    endpoint: Endpoint | None = None
    settled: trio.Event = field(default_factory=trio.Event)  # connected or failed
    _picture_ns: int = 0
    _leave: trio.Event = field(default_factory=trio.Event)

    async def run(self, http: httpx2.AsyncClient) -> None:
        """Watch until `leave`."""
        self.posted_ns = time.time_ns()
        try:
            async with self._enter(http) as self.endpoint:
                self.settled.set()
                await self._leave.wait()
                self._release()
        except* SessionFailed as failures:
            self.failure = _first(failures)
        finally:
            self._release()
            self.settled.set()

    def leave(self) -> None:
        """Say goodbye and go."""
        self._leave.set()

    @property
    def picture_ns(self) -> int:
        """When the first keyframe was whole (ns since the epoch); 0 for not yet."""
        return self._picture_ns if self.row is None else self.receiver.picture_ns(self.row)

    @property
    def join_ms(self) -> float | None:
        """How long the first picture took from the moment the offer was sent; None before it is there."""
        return (self.picture_ns - self.posted_ns) / 1e6 if self.picture_ns else None

    @property
    def ended(self) -> str | None:
        """Why the server ended the session; None while it has not."""
        return self.endpoint.ended if self.endpoint is not None else None

    def _enter(self, http: httpx2.AsyncClient) -> AbstractAsyncContextManager[Endpoint]:
        if self.place.enter is not None:
            return self.place.enter(http, self._take)
        return watch(http, self.place.url, self.place.token, on_secured=self._take, tells_arrivals=self.stamped)

    def _take(self, endpoint: Endpoint, keys: SrtpKeys) -> None:
        self.row = self.receiver.take(
            endpoint.socket,
            endpoint.receive_control_untrusted,
            keys=keys,
            decrypt=self.decrypt,
            publisher=self.place.publisher,
        )

    def _release(self) -> None:
        if self.row is not None:
            self._picture_ns = self.picture_ns
            self.receiver.release(self.row)
            self.row = None


async def fill(viewers: list[Viewer], http: httpx2.AsyncClient, nursery: trio.Nursery, *, joins_per_s: float) -> None:
    """Let viewers join at an even pace, and return when each has its first picture or has failed.

    Those without a picture JOIN_S after the last one asked have none: the caller sees it.
    """
    began = trio.current_time()
    for number, viewer in enumerate(viewers):
        await trio.sleep_until(began + number / joins_per_s)
        nursery.start_soon(viewer.run, http)
    with trio.move_on_after(JOIN_S):
        for viewer in viewers:
            await viewer.settled.wait()
            # The receiving thread tells nobody: it never calls Python.
            while viewer.failure is None and not viewer.picture_ns:  # noqa: ASYNC110
                await trio.sleep(LOOK_S)


def open_http(kept: int = CONNECTIONS) -> httpx2.AsyncClient:
    """Return an HTTP client for many sessions; certificates are not checked, as test servers have self-made ones.

    `kept` connections stay open for what is asked next.
    """
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=kept)
    return httpx2.AsyncClient(limits=limits, timeout=JOIN_S, verify=False)


def _first(failures: BaseExceptionGroup[SessionFailed]) -> SessionFailed:
    first = failures.exceptions[0]
    return first if isinstance(first, SessionFailed) else _first(first)
