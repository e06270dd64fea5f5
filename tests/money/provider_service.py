"""A payment provider over real HTTP: takes signed requests, and tells by signed webhooks what became of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import h11
import httpx2
import msgspec
import trio
from standardwebhooks import Webhook

from server.money.webhooks import sign

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBwcm92aWRlciBpbiB0ZXN0cw=="


class ProviderService:
    """Keeps what it was asked by its idempotency key; `broken` makes it answer 500."""

    def __init__(self, tell: Callable[[dict[str, str], bytes], Any]) -> None:
        self.url = ""
        self.broken = False
        self.requests: dict[str, dict[str, Any]] = {}
        self.heard = 0
        self._tell = tell
        self._messages = 0

    async def say(self, event: dict[str, Any], *, secret: str = SECRET, at: dt.datetime | None = None) -> Any:
        """Send one webhook; returns the answer."""
        self._messages += 1
        body = msgspec.json.encode(event)
        headers = sign(secret, f"msg_{self._messages}", body, at or dt.datetime.now(dt.UTC))
        return await self._tell(headers, body)

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            connection = h11.Connection(h11.SERVER)
            while True:
                request, body = await receive_request(stream, connection)
                if request is None:
                    return
                status, answer = self._answer(request, body)
                headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
                for event in (h11.Response(status_code=status, headers=headers), h11.Data(answer), h11.EndOfMessage()):
                    await stream.send_all(connection.send(event) or b"")
                if connection.our_state is h11.MUST_CLOSE:
                    return
                connection.start_next_cycle()

    def _answer(self, request: h11.Request, body: bytes) -> tuple[int, bytes]:
        if request.method == b"GET":  # a browser, where people pay
            return 200, b'"Pay here"'
        self.heard += 1
        if self.broken:
            return 500, b"{}"
        headers = {name.decode(): value.decode() for name, value in request.headers}
        Webhook(SECRET).verify(body, headers)
        key = headers["idempotency-key"]
        self.requests.setdefault(key, msgspec.json.decode(body))
        return 200, msgspec.json.encode({"url": f"{self.url}/pay/{key}"})


async def receive_request(stream: trio.SocketStream, connection: h11.Connection) -> tuple[h11.Request | None, bytes]:
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            case h11.Request():
                request = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return request, body
            case _:
                return None, b""


@asynccontextmanager
async def provider_service(
    tell: Callable[[dict[str, str], bytes], Any],
) -> AsyncIterator[tuple[ProviderService, httpx2.AsyncClient]]:
    service = ProviderService(tell)
    async with trio.open_nursery() as nursery, httpx2.AsyncClient() as http:
        listeners = await nursery.start(partial(trio.serve_tcp, service.serve, 0, host="127.0.0.1"))
        service.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield service, http
        nursery.cancel_scope.cancel()
