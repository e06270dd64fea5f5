"""How Quart serves a request: a command in the task of its connection, anything else while its client stays."""

from __future__ import annotations

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart.wrappers.request import Body
from quart_trio.asgi import TrioASGIHTTPConnection

SAFE = ("GET", "HEAD", "OPTIONS")


class Incoming(Body):
    """A body that is read as it is asked for, and not kept."""

    def __init__(self, receive: ASGIReceiveCallable) -> None:
        super().__init__(None, None)
        self._receive, self._has_more = receive, True

    @property
    def is_whole(self) -> bool:
        """Whether the client has sent all of it, and it was read."""
        return not self._has_more

    async def __anext__(self) -> bytes:
        """Return the next part."""
        if not self._has_more:
            raise StopAsyncIteration
        message = await self._receive()
        assert message["type"] == "http.request"
        self._has_more = message["more_body"]
        return message["body"]


class InlineConnection(TrioASGIHTTPConnection):
    """One request.

    Quart watches for the client's departure in a task of its own. A command is carried through all the same, and so
    needs none: that is a third of what such a request costs besides its work.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer the request."""
        if self.scope["method"] in SAFE:
            await super().__call__(receive, send)
            return
        request = self._create_request_from_scope(send)
        request.body = Incoming(receive)
        await self._send_response(send, await self.app.handle_request(request))
