"""The signalling socket: WebSocket connections to `/ws`, led to their sessions (RFC 6455, without compression)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio
from websockets.exceptions import NegotiationError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from server.inbox import SocketInbox
from server.outbox import CLIENTS_ENDS, CLOSE_CODES, SocketOutbox
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
FAREWELL_S = 1.0  # for clients to hear that the node ends
END_OF_HEAD = b"\r\n\r\n"

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
    """One open connection as the rounds see it; `pinged_at` in s of Trio's clock."""

    inbox: SocketInbox
    outbox: SocketOutbox
    pinged_at: float = 0.0
    expires_at: int | None = None


class SignallingSocket:
    """All signalling connections of a node; `run` it in a nursery before the first `serve`."""

    def __init__(self, rooms: RoomsPort, auth: AuthPort, write_timeout_s: float) -> None:
        self._rooms, self._auth, self._write_timeout_s = rooms, auth, write_timeout_s
        self._connections: set[_Connection] = set()
        self._closed = dict.fromkeys((*CLOSE_CODES, *CLIENTS_ENDS), 0)
        self._opened = self._refused = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ping the silent, and close those that are gone or whose token has expired, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(ROUND_S)
            now, wall_ms = trio.current_time(), time.time_ns() // 1_000_000
            for connection in tuple(self._connections):
                self._look_at(connection, now, wall_ms)

    def counters(self) -> dict[str, int]:
        """How many connections there are, were opened and were refused, and why others were closed, by name."""
        closed = {f"sockets_closed_{reason}": count for reason, count in self._closed.items()}
        now = {"sockets": len(self._connections), "sockets_opened": self._opened, "sockets_refused": self._refused}
        return now | closed

    async def serve(self, stream: trio.abc.Stream, received: bytes) -> None:
        """Serve one connection until it has ended; `received` is a head that asks for an upgrade, and what followed."""
        protocol = ServerProtocol(
            subprotocols=[Subprotocol(encoding.value) for encoding in Encoding], max_size=MAX_MESSAGE_BYTES
        )
        head, _, early = received.partition(END_OF_HEAD)
        encoding, answer = _shake_hands(protocol, head + END_OF_HEAD)
        with trio.move_on_after(self._write_timeout_s) as patience:
            await stream.send_all(answer)
        if encoding is None or patience.cancelled_caught:
            self._refused += 1
            return
        self._opened += 1
        async with trio.open_nursery() as nursery:
            opcode = Opcode.TEXT if encoding is Encoding.JSON else Opcode.BINARY
            outbox = SocketOutbox(stream, opcode, nursery, self._write_timeout_s)
            connection = _Connection(SocketInbox(stream, protocol, outbox, early), outbox)
            self._connections.add(connection)
            try:
                nursery.start_soon(self._converse, connection, encoding)
                await outbox.done.wait()
            finally:
                self._connections.discard(connection)
                with trio.move_on_after(FAREWELL_S, shield=True):
                    await _say_goodbye(outbox)
                self._closed[outbox.closed or "lost"] += 1
            nursery.cancel_scope.cancel()

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _converse(self, connection: _Connection, encoding: Encoding) -> None:
        inbox, outbox = connection.inbox, connection.outbox
        session: SessionPort | None = None
        try:
            with trio.move_on_after(HELLO_S) as patience:
                first = await inbox.next()
            if patience.cancelled_caught:
                outbox.close("hello_timeout")
            elif first is not None:
                session = self._begin(connection, encoding, first)
            while session is not None and (message := await inbox.next()) is not None:
                await session.receive_untrusted(message)
            outbox.end(inbox.ended)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            outbox.end("lost")
        except Exception:
            outbox.close("internal_error")
            raise
        finally:
            if session is not None:
                session.detach(outbox)

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
        heard_at = connection.inbox.heard_at
        if connection.expires_at is not None and wall_ms >= connection.expires_at:
            connection.outbox.close("no_session")
        elif now - heard_at > GONE_AFTER_S:
            connection.outbox.close("going_away")
        elif now - heard_at > PING_AFTER_S and connection.pinged_at <= heard_at:
            connection.pinged_at = now
            connection.outbox.write(Frame(Opcode.PING, b"").serialize(mask=False))


def _shake_hands(protocol: ServerProtocol, head: bytes) -> tuple[Encoding | None, bytes]:
    """Return the subprotocol, None when the request is refused, and the answer to send."""
    protocol.receive_data(head)
    request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
    if request is None:
        answer = b"".join(protocol.data_to_send())
        return None, answer or b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    response = protocol.accept(request)
    chosen = response.headers.get("Sec-WebSocket-Protocol") if response.status_code == 101 else None
    if isinstance(protocol.handshake_exc, NegotiationError):
        offered = " or ".join(encoding.value for encoding in Encoding)
        response = protocol.reject(400, f"Offer the subprotocol {offered}.\n")
    protocol.send_response(response)
    return None if chosen is None else Encoding(chosen), b"".join(protocol.data_to_send())


async def _say_goodbye(outbox: SocketOutbox) -> None:
    try:
        await outbox.farewell("going_away")
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
        return


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
