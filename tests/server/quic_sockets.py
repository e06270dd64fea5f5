"""A signalling client over WebTransport, of aioquic's parts: it can also send what no honest one would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived

from media.moq.carriers.capsules import CapsuleReader, SessionClosed
from media.moq.protocol.varint import peek_varint_untrusted, prefixed

JSON, MSGPACK = "mesi.v1.json", "mesi.v1.msgpack"


class QuicSocket:
    """One session. `run` it in a nursery; `status` is HTTP's, `closed` how the server ended it."""

    def __init__(self, port: int, path: str, protocols: tuple[str, ...]) -> None:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], max_datagram_frame_size=65_536)
        configuration.verify_mode = 0  # type: ignore[assignment]
        self.quic = QuicConnection(configuration=configuration)
        self.path, self.protocols, self.address = path, protocols, ("127.0.0.1", port)
        self.http: H3Connection | None = None
        self.socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.session = self.stream = -1
        self.status, self.protocol = b"", b""
        self.closed: SessionClosed | None = None
        self.is_over = False
        self.received = bytearray()
        self.events: list[dict[str, Any]] = []
        self._capsules, self._ids = CapsuleReader(), 0
        self._stirred = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Talk until cancelled; reports when the session is answered."""
        await self.socket.bind(("127.0.0.1", 0))
        self.quic.connect(self.address, now=trio.current_time())
        self.http = H3Connection(self.quic, enable_webtransport=True)
        self.session = self.quic.get_next_available_stream_id()
        headers = {
            ":method": "CONNECT",
            ":scheme": "https",
            ":authority": "127.0.0.1",
            ":path": self.path,
            ":protocol": "webtransport",
        }
        if self.protocols:
            headers["wt-available-protocols"] = ", ".join(f'"{protocol}"' for protocol in self.protocols)
        self.http.send_headers(self.session, [(name.encode(), value.encode()) for name, value in headers.items()])
        await self.flush()
        with self.socket:
            while True:
                timer = self.quic.get_timer()
                with trio.move_on_at(trio.current_time() + 1 if timer is None else timer):
                    datagram, address = await self.socket.recvfrom(65_536)
                    self.quic.receive_datagram(datagram, address, now=trio.current_time())
                self.quic.handle_timer(now=trio.current_time())
                while (event := self.quic.next_event()) is not None:
                    self._take(event)
                if self.status:
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                await self.flush()

    def _take(self, event: QuicEvent) -> None:
        assert self.http is not None
        if isinstance(event, ConnectionTerminated):
            self.is_over = True
        elif isinstance(event, StreamDataReceived) and event.stream_id == self.stream:
            self.received += event.data
        elif getattr(event, "stream_id", self.session) in (self.session, 3, 7, 11):
            for found in self.http.handle_event(event):
                if isinstance(found, HeadersReceived):
                    answer = dict(found.headers)
                    self.status, self.protocol = answer[b":status"], answer.get(b"wt-protocol", b"")
                elif isinstance(found, DataReceived):
                    self.closed = self._capsules.feed_untrusted(found.data) or self.closed
        self._stirred.set()
        self._stirred = trio.Event()

    async def flush(self) -> None:
        for datagram, address in self.quic.datagrams_to_send(now=trio.current_time()):
            await self.socket.sendto(datagram, address)

    def open(self) -> int:
        assert self.http is not None
        return self.http.create_webtransport_stream(self.session)

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        """Send bytes on the one stream, which is opened with the first."""
        if self.stream < 0:
            self.stream = self.open()
        self.quic.send_stream_data(self.stream, data, end_stream=is_last)
        await self.flush()

    async def say(self, message: dict[str, Any]) -> None:
        encode = msgspec.msgpack.encode if self.protocols == (MSGPACK,) else msgspec.json.encode
        await self.write(prefixed(encode(message)))

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        with trio.fail_after(5):
            while True:
                found = peek_varint_untrusted(self.received, 0)
                if found is not None and len(self.received) >= sum(found):
                    size, begin = found
                    body = bytes(self.received[begin : begin + size])
                    del self.received[: begin + size]
                    decode = msgspec.msgpack.decode if self.protocols == (MSGPACK,) else msgspec.json.decode
                    return dict(decode(body))
                await self._stirred.wait()

    async def ask(self, type: str, **values: Any) -> dict[str, Any]:
        """Return the answer; events on the way are kept."""
        self._ids += 1
        await self.say({"type": type, "id": self._ids, **values})
        while (message := await self.hear())["type"] not in ("ok", "error"):
            self.events.append(message)
        return message

    async def wait_for(self, type: str) -> dict[str, Any]:
        """Return the first event of a type, also of those that came before; older ones are forgotten."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["type"] == type:
                    return event
            self.events.append(await self.hear())

    async def ending(self) -> tuple[int, str]:
        """Return the code and the reason with which the server ends the session, which it must."""
        with trio.fail_after(5):
            while self.closed is None:
                assert not self.is_over
                await self._stirred.wait()
        return self.closed.code, self.closed.reason


@asynccontextmanager
async def open_quic_socket(
    port: int, path: str = "/ws", protocols: tuple[str, ...] = (JSON,)
) -> AsyncIterator[QuicSocket]:
    """Open a session; nothing is said yet."""
    socket = QuicSocket(port, path, protocols)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(5):
            await nursery.start(lambda task_status: socket.run(task_status=task_status))
        yield socket
        socket.quic.close()
        await socket.flush()
        nursery.cancel_scope.cancel()
