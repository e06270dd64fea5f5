"""Bodies of requests that are larger than memory: read as they are taken, and no slower than a network can be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import Request
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody
from werkzeug.exceptions import RequestTimeout

GRACE_S = 30.0  # before a body's pace is judged: what a mobile network swallows at a time
LEAST_PER_S = 1024  # bytes, since the beginning; whoever is slower would take days for a picture
READ_AHEAD = 524_288  # bytes that are read before they are taken


class StreamedBody(TrioBody):
    """A body that is read no further ahead of who takes it than READ_AHEAD, and has no length of its own."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self._taken = trio.Event()

    async def __anext__(self) -> bytes:
        """Return what has come."""
        part = await super().__anext__()
        self._taken.set()
        self._taken = trio.Event()
        return part

    @property
    def is_whole(self) -> bool:
        """Whether the client has sent all of it."""
        return bool(self._complete.is_set())

    async def wait_taken(self) -> None:
        """Wait until more may come."""
        while len(self._data) >= READ_AHEAD:
            await self._taken.wait()


class StreamingConnection(TrioASGIHTTPConnection):
    """A request of Quart's, whose body is streamed below some addresses."""

    streamed: tuple[str, ...] = ()

    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        request = super()._create_request_from_scope(send)
        if request.path.startswith(self.streamed):
            request.body = StreamedBody()
        return request

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Take what the client sends, until it has gone."""
        while True:
            message: Any = await receive()
            if message["type"] != "http.request":
                break
            request.body.append(message.get("body", b""))
            if not message.get("more_body", False):
                request.body.set_complete()
            elif isinstance(request.body, StreamedBody):
                await request.body.wait_taken()
        nursery.cancel_scope.cancel()


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
