"""HTTP/1.1 over one connection: h11 reads requests, an ASGI application answers them, one after the other in one task.

The application is called in the connection's own task, and asks for bodies as it needs them. Whatever ends a request
before its answer - the client has gone, does not read, or sends what is no HTTP - cancels it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import Any, Never
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

import h11
import trio

READ_BYTES = 65_536  # at once
SKIP_BYTES, SKIP_S = 65_536, 1.0  # of a body that nobody asked for, to keep its connection; a longer one ends it
BODILESS = (204, 304)  # statuses (RFC 9110 section 6.4.1)

Message = dict[str, Any]  # of ASGI
App = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Gone(Enum):
    """Why a connection ended before an answer was out."""

    BROKEN = "broken"
    NOT_READING = "not_reading"


class Http11:
    """Serves one connection; `responses` counts what is answered, by "2xx" and the like.

    `wait_s` bounds a wait for the next request, `read_s` one for more of its body, `write_s` a write.
    """

    def __init__(
        self,
        app: App,
        stream: trio.abc.Stream,
        responses: Counter[str],
        *,
        wait_s: float,
        read_s: float,
        write_s: float,
    ) -> None:
        self._app, self._stream, self._responses = app, stream, responses
        self._wait_s, self._read_s, self._write_s = wait_s, read_s, write_s
        self._http: h11.Connection
        self._request = trio.CancelScope()  # around what is done now: the wait for a request, or the request
        self._method = b""
        self._start: Message | None = None  # of an answer whose first bytes are not out yet
        self.gone: Gone | None = None

    async def serve(self, received: bytes, scope: Message, max_head: int) -> None:
        """Answer what comes, first of all `received`, until one side ends it; `scope` says what all requests share."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head)
        self._http.receive_data(received)
        while (request := await self._next_request()) is not None:
            self._method, self._start = request.method, None
            with trio.CancelScope() as self._request:
                await self._app(_scope_of(request, scope), self._receive, self._send)
            if self._request.cancelled_caught or not await self._is_over():
                return
            self._http.start_next_cycle()

    async def _is_over(self) -> bool:
        """Whether the whole answer was sent, and the whole request came, so that another may follow."""
        left = SKIP_BYTES
        with trio.move_on_after(SKIP_S) as self._request:
            while self._http.our_state is h11.DONE and self._http.their_state is h11.SEND_BODY and left > 0:
                message = await self._receive()
                left -= len(message["body"])
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _next_request(self) -> h11.Request | None:
        with trio.move_on_after(self._wait_s) as self._request:
            while True:
                try:
                    event = self._http.next_event()
                except h11.RemoteProtocolError as error:
                    await self._refuse(error)
                    return None
                if isinstance(event, h11.Request):
                    return event
                if event is not h11.NEED_DATA:
                    return None  # the client has said that nothing more comes
                self._http.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))
        return None

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            await self._write(status, [(b"Content-Length", b"0"), (b"Connection", b"close")], h11.EndOfMessage())

    # -- what the application asks for ---------------------------------------------------------------------------------

    async def _receive(self) -> Message:
        """Return some of the request's body; after its end, wait for the client to leave, which cancels the request."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(error)
                await self._drop()
            match event:
                case h11.Data(data=data):
                    return {"type": "http.request", "body": bytes(data), "more_body": True}
                case h11.EndOfMessage():
                    return {"type": "http.request", "body": b"", "more_body": False}
                case h11.NEED_DATA if self._http.their_state is h11.SEND_BODY:
                    await self._read_more(self._read_s)
                case _:  # the next request waits for this one's answer, and an answer may take long
                    if self._http.trailing_data[0]:
                        await trio.sleep_forever()
                    await self._read_more(math.inf)

    async def _read_more(self, within_s: float) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._responses["1xx"] += 1
            await self._send_all(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        part = b""
        with trio.move_on_after(within_s):
            try:
                part = bytes(await self._stream.receive_some(READ_BYTES))
            except trio.BrokenResourceError:
                await self._drop(Gone.BROKEN)
        if not part:
            await self._drop()
        self._http.receive_data(part)

    async def _send(self, message: Message) -> None:
        """Send a part of the answer: its head goes out with what first follows it."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        events: list[h11.Data | h11.EndOfMessage] = []
        if message.get("body") and self._method != b"HEAD" and not self._is_bodiless():
            events.append(h11.Data(data=message["body"]))
        if not message.get("more_body", False):
            events.append(h11.EndOfMessage())
        if self._start is not None and events:
            start, self._start = self._start, None
            await self._write(start["status"], start["headers"], *events)
        elif events:
            await self._send_all(b"".join(self._http.send(event) or b"" for event in events))

    def _is_bodiless(self) -> bool:
        return self._start is not None and self._start["status"] in BODILESS

    # -- bytes ---------------------------------------------------------------------------------------------------------

    async def _write(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], *events: h11.Data | h11.EndOfMessage
    ) -> None:
        self._responses[f"{status // 100}xx"] += 1
        more = [(b"Date", format_date_time(time.time()).encode())]
        if self._http.they_are_waiting_for_100_continue:  # whether the body comes now, nobody can know
            more.append((b"Connection", b"close"))
        head = self._http.send(h11.Response(status_code=status, headers=[*headers, *more]))
        await self._send_all(b"".join([head or b"", *(self._http.send(event) or b"" for event in events)]))

    async def _send_all(self, data: bytes) -> None:
        if not data:
            return
        try:
            with trio.fail_after(self._write_s):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            await self._drop(Gone.NOT_READING)
        except trio.BrokenResourceError:
            await self._drop(Gone.BROKEN)

    async def _drop(self, gone: Gone | None = None) -> Never:
        """End what is done now, and with it the connection."""
        self.gone = gone
        self._request.cancel()
        await trio.sleep_forever()


def _scope_of(request: h11.Request, shared: Message) -> Message:
    path, _, query = request.target.partition(b"?")
    return {
        **shared,
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": request.http_version.decode(),
        "method": request.method.decode().upper(),
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
    }
