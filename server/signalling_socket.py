"""The signalling socket: WebSocket connections to `/ws`, led to their sessions (RFC 6455, without compression)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from server.outbox import SocketOutbox
from server.tokens import Claims
from signalling.identifiers import Actor
from signalling.messages import (
    MAX_MESSAGE_BYTES,
    Encoding,
    MalformedMessage,
    decode_hello_untrusted,
    encode_error,
)
from signalling.ports import Outbox
from signalling.refusals import Refused
from signalling.requests import Hello, Resume

HELLO_S = 5.0  # to say who one is; a page has its token at hand
PING_AFTER_S = 25.0  # of silence: below the 30 s after which the strictest middleboxes forget a connection
GONE_AFTER_S = 45.0  # of silence, the ping included
ROUND_S = 5.0  # how often silence and expired tokens are looked for
REQUESTS_PER_S = 50.0  # of one connection; a person makes a few
BURST = 200.0
RECEIVE_BYTES = 65_536

log = structlog.get_logger("socket")


class SessionPort(Protocol):
    """A signalling session."""

    async def receive_untrusted(self, data: bytes) -> None:
        """Answer one request."""

    def detach(self, outbox: Outbox) -> None:
        """Go on without this connection."""


class RoomsPort(Protocol):
    """Where sessions begin."""

    def attach(self, actor: Actor, encoding: Encoding, outbox: Outbox, resume: Resume | None) -> SessionPort:
        """Begin or resume a session; raises Refused."""


class AuthPort(Protocol):
    """Who knows the tokens."""

    def read(self, token: str) -> Claims:
        """Return what a token says; raises Refused."""


@dataclass(slots=True, eq=False)
class _Connection:
    """One open connection as the rounds see it; times in s of Trio's clock."""

    protocol: ServerProtocol
    outbox: SocketOutbox
    heard_at: float
    pinged: bool = False
    expires_at: int | None = None
    allowance: float = BURST
    allowance_at: float = 0.0


class SignallingSocket:
    """All signalling connections of a node; `run` it in a nursery before the first `serve`."""

    def __init__(self, rooms: RoomsPort, auth: AuthPort, write_timeout_s: float) -> None:
        self._rooms, self._auth, self._write_timeout_s = rooms, auth, write_timeout_s
        self._connections: set[_Connection] = set()
        self._closed: dict[str, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ping the silent, and close those that are gone or whose token has expired, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(ROUND_S)
            now, wall_ms = trio.current_time(), time.time_ns() // 1_000_000
            for connection in tuple(self._connections):
                self._look_at(connection, now, wall_ms)

    def counters(self) -> dict[str, int]:
        """How many connections there are, and why others were closed, by name."""
        closed = {f"sockets_closed_{reason}": count for reason, count in self._closed.items()}
        return {"sockets": len(self._connections), **closed}

    async def serve(self, stream: trio.abc.Stream, head: bytes) -> None:
        """Serve one connection whose request `head` asked for an upgrade; returns when it has ended."""
        protocol = ServerProtocol(
            subprotocols=[Subprotocol(encoding.value) for encoding in Encoding], max_size=MAX_MESSAGE_BYTES
        )
        encoding = await self._shake_hands(stream, protocol, head)
        if encoding is None:
            return
        async with trio.open_nursery() as nursery:
            opcode = Opcode.TEXT if encoding is Encoding.JSON else Opcode.BINARY
            outbox = SocketOutbox(stream, opcode, nursery, self._write_timeout_s)
            now = trio.current_time()
            connection = _Connection(protocol, outbox, now, allowance_at=now)
            self._connections.add(connection)
            try:
                nursery.start_soon(self._converse, stream, connection, encoding)
                await outbox.done.wait()
            finally:
                self._connections.discard(connection)
                reason = outbox.closed or "cancelled"
                self._closed[reason] = self._closed.get(reason, 0) + 1
            nursery.cancel_scope.cancel()

    async def _shake_hands(self, stream: trio.abc.Stream, protocol: ServerProtocol, head: bytes) -> Encoding | None:
        protocol.receive_data(head)
        request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
        if request is None:
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return None
        response = protocol.accept(request)
        chosen = response.headers.get("Sec-WebSocket-Protocol")
        if response.status_code == 101 and chosen is None:
            offered = " or ".join(encoding.value for encoding in Encoding)
            response = protocol.reject(400, f"Offer the subprotocol {offered}.\n")
        protocol.send_response(response)
        with trio.move_on_after(self._write_timeout_s):
            for data in protocol.data_to_send():
                await stream.send_all(data)
        return Encoding(chosen) if chosen is not None and response.status_code == 101 else None

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _converse(self, stream: trio.abc.Stream, connection: _Connection, encoding: Encoding) -> None:
        outbox = connection.outbox
        session: SessionPort | None = None
        messages = _Messages(stream, connection)
        try:
            with trio.move_on_after(HELLO_S) as patience:
                first = await messages.next()
            if patience.cancelled_caught:
                outbox.close("hello_timeout")
                return
            if first is None:
                return
            session = self._begin(connection, encoding, first)
            while session is not None and (message := await messages.next()) is not None:
                if not _may_ask(connection, trio.current_time()):
                    outbox.close("rate_limited")
                    return
                await session.receive_untrusted(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if session is not None:
                session.detach(outbox)
            if outbox.closed is None:
                outbox.closed = "closed_by_client"
                outbox.done.set()

    def _begin(self, connection: _Connection, encoding: Encoding, first: bytes) -> SessionPort | None:
        outbox = connection.outbox
        try:
            hello: Hello = decode_hello_untrusted(first, encoding)
            claims = self._auth.read(hello.token)
            connection.expires_at = claims.expires_at
            return self._rooms.attach(claims.actor, encoding, outbox, hello.resume)
        except MalformedMessage as fault:
            outbox.offer(encode_error(fault.id, Refused("malformed_message", fault.detail), _wall_ms(), encoding))
            outbox.close("malformed")
        except Refused as refusal:
            outbox.offer(encode_error(None, refusal, _wall_ms(), encoding))
            outbox.close("no_session" if refusal.code == "no_session" else "rate_limited")
        return None

    def _look_at(self, connection: _Connection, now: float, wall_ms: int) -> None:
        silence = now - connection.heard_at
        if connection.expires_at is not None and wall_ms >= connection.expires_at:
            connection.outbox.close("no_session")
        elif silence > GONE_AFTER_S:
            connection.outbox.close("going_away")
        elif silence > PING_AFTER_S and not connection.pinged:
            connection.pinged = True
            connection.outbox.write(Frame(Opcode.PING, b"").serialize(mask=False))


class _Messages:
    """Reads whole messages off a connection."""

    def __init__(self, stream: trio.abc.Stream, connection: _Connection) -> None:
        self._stream, self._connection = stream, connection
        self._parts: list[bytes] = []
        self._ready: list[bytes] = []

    async def next(self) -> bytes | None:
        """Return the next message, None when there will be none."""
        protocol, outbox = self._connection.protocol, self._connection.outbox
        while not self._ready:
            if protocol.state is not State.OPEN or outbox.closed is not None:
                return None
            data = await self._stream.receive_some(RECEIVE_BYTES)
            self._connection.heard_at, self._connection.pinged = trio.current_time(), False
            if data:
                protocol.receive_data(bytes(data))
            else:
                protocol.receive_eof()
            for event in protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            for out in protocol.data_to_send():
                if out:
                    outbox.write(out)
        return self._ready.pop(0)

    def _take(self, frame: Frame) -> None:
        # The protocol has checked their order and the size of the whole.
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._ready.append(b"".join(self._parts))
                self._parts.clear()


def _may_ask(connection: _Connection, now: float) -> bool:
    earned = (now - connection.allowance_at) * REQUESTS_PER_S
    connection.allowance, connection.allowance_at = min(BURST, connection.allowance + earned), now
    if connection.allowance < 1:
        return False
    connection.allowance -= 1
    return True


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
