"""The signalling socket: connections to `/ws`, led to their sessions.

They are WebSockets (RFC 6455, without compression), or WebTransport sessions for clients that speak only QUIC: one
bidirectional stream, which the client opens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio
from websockets.exceptions import NegotiationError
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import Side
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from media.moq.carriers.byte_session import ByteSession
from server.connections.fanout import Fanout
from server.connections.framing import CLOSE_CODES, LengthFraming, WebSocketFraming
from server.connections.inbox import SILENCE, Inbox, SocketInbox, StreamInbox
from server.connections.outbox import CLIENTS_ENDS, SocketOutbox
from server.connections.parking import Heard, Parked, Parking, Wake
from server.tokens import Claims
from signalling.identifiers import Actor
from signalling.ports import Outbox
from signalling.refusals import Refused
from signalling.sessions.session import Soon
from signalling.wire.messages import (
    MAX_MESSAGE_BYTES,
    Encoding,
    MalformedMessage,
    decode_hello_untrusted,
    encode_error,
)
from signalling.wire.requests import Hello, Resume

HELLO_S = 5.0  # to say who one is; a page has its token at hand
PING_AFTER_S = 25.0  # of silence: below the 30 s after which the strictest middleboxes forget a connection
GONE_AFTER_S = 45.0  # of silence, the ping included
QUIC_PING_AFTER_S = 15.0  # of silence: a round later is still before both ends' idle timeouts, mostly 30 s
ROUND_S = 5.0  # how often silence and expired tokens are looked for
FAREWELL_S = 1.0  # for clients to hear that the node ends
CLOSED_BY_CLIENT = 1000  # RFC 6455's normal closure, as the code of a WebTransport session
WEBTRANSPORT_PROTOCOLS = (Encoding.JSON.value, Encoding.MSGPACK.value)  # the first for clients that offer none
END_OF_HEAD = b"\r\n\r\n"
FRAMINGS = {Encoding.JSON: WebSocketFraming(Opcode.TEXT), Encoding.MSGPACK: WebSocketFraming(Opcode.BINARY)}

log = structlog.get_logger("socket")


class SessionPort(Protocol):
    """A signalling session."""

    async def receive_untrusted(self, data: bytes) -> None:
        """Answer one request."""

    def receive_soon_untrusted(self, data: bytes, done: Callable[[], None]) -> Soon:
        """Answer one request without a task, where that is possible; `done` is called once what is under way is."""

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
    """One open connection; `ping_after` and `pinged_at` in s of Trio's clock. `session` is there after its hello."""

    sockets: SignallingSocket
    encoding: Encoding
    inbox: Inbox
    outbox: SocketOutbox
    ping_after: float = PING_AFTER_S
    url_token: str | None = None
    pinged_at: float = 0.0
    expires_at: int | None = None
    session: SessionPort | None = None

    def park(self, parking: Parking, wake: Wake) -> None:
        """Have what it is sent heard where that needs no task, else `wake` called, once, for it to go on."""
        self.outbox.park(parking, Parked(self.hear, wake))

    def hear(self) -> Heard:
        """Do what the client asks, as far as that needs no task."""
        while (message := self.inbox.hear()) is not SILENCE:
            if message is None:
                return Heard.NEEDS_TASK
            soon = Soon.NOT_TAKEN
            if self.session is not None:
                soon = self.session.receive_soon_untrusted(message, self._hear_on)
            if soon is Soon.NOT_TAKEN:
                self.inbox.give_back(message)
                return Heard.NEEDS_TASK
            if soon is Soon.UNDER_WAY:
                return Heard.UNDER_WAY
        return Heard.ALL

    def _hear_on(self) -> None:
        if self.outbox.closed is None:
            self.outbox.go_on(self.hear())

    def detach(self) -> None:
        """Let its session go on without it."""
        session, self.session = self.session, None
        if session is not None:
            session.detach(self.outbox)

    async def go_on(self) -> _Connection | None:
        """Serve it until it is silent again, or has ended (None)."""
        return await self.sockets.keep(self)


class SignallingSocket:
    """All signalling connections of a node; `run` it in a nursery before the first `serve`."""

    def __init__(self, rooms: RoomsPort, auth: AuthPort, write_timeout_s: float) -> None:
        self._rooms, self._auth, self._write_timeout_s = rooms, auth, write_timeout_s
        self._connections: set[_Connection] = set()
        self._closed = dict.fromkeys((*CLOSE_CODES, *CLIENTS_ENDS), 0)
        self._fanout = Fanout()
        self._opened = self._refused = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ping the silent, and close those that are gone or whose token has expired, until cancelled."""
        async with trio.open_nursery() as self._writing:
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
        return now | closed | self._fanout.counters()

    async def serve(self, stream: trio.abc.Stream, received: bytearray) -> _Connection | None:
        """Serve one connection until it is silent, or has ended (None).

        `received` is a head that asks for an upgrade, and what followed.
        """
        encoding = await self._shake_hands(stream, received)
        if encoding is None:
            self._refused += 1
            return None
        outbox = SocketOutbox(stream, FRAMINGS[encoding], self._writing, self._write_timeout_s, self._fanout)
        protocol = WebSocketProtocol(Side.SERVER, max_size=MAX_MESSAGE_BYTES)
        inbox = SocketInbox(stream, protocol, outbox, bytes(received))
        return await self._begin(_Connection(self, encoding, inbox, outbox))

    async def _shake_hands(self, stream: trio.abc.Stream, received: bytearray) -> Encoding | None:
        """Take the head out of what was received and answer it; None when the request is refused, or nobody reads."""
        encoding, answer = _answer_head(received)
        with trio.move_on_after(self._write_timeout_s) as patience:
            await stream.send_all(answer)
        return None if patience.cancelled_caught else encoding

    async def serve_session(self, session: ByteSession, protocol: str, token: str | None) -> None:
        """Serve one WebTransport session until it has ended; `protocol` is an encoding's, `token` that of its URL.

        It ends with the code and the word that would have closed a WebSocket.
        """
        outbox: SocketOutbox | None = None
        try:
            outbox = SocketOutbox(session, LengthFraming(), self._writing, self._write_timeout_s)
            inbox = StreamInbox(session, outbox)
            await self._begin(_Connection(self, Encoding(protocol), inbox, outbox, QUIC_PING_AFTER_S, token))
        finally:
            reason = (None if outbox is None else outbox.closed) or "going_away"
            with trio.CancelScope(shield=True):
                # When the node ends nothing is acknowledged any more.
                patience_s = 0.0 if reason == "going_away" else FAREWELL_S
                await session.end(CLOSE_CODES.get(reason, CLOSED_BY_CLIENT), reason, patience_s)

    async def _begin(self, connection: _Connection) -> _Connection | None:
        self._opened += 1
        self._connections.add(connection)
        return await self.keep(connection)

    async def keep(self, connection: _Connection) -> _Connection | None:
        """Converse until the connection is silent, and returned to be parked, or has ended (None)."""
        outbox, is_silent = connection.outbox, False
        try:
            with outbox.life:
                await trio.lowlevel.checkpoint()  # between one silence and the next, and where the end is noticed
                is_silent = await self._converse(connection)
                if not is_silent:
                    connection.detach()
                    await trio.sleep_forever()  # until what is queued is out
        finally:
            if not is_silent:
                connection.detach()
                self._connections.discard(connection)
                with trio.move_on_after(FAREWELL_S, shield=True):
                    await _say_goodbye(outbox)
                self._closed[outbox.closed or "lost"] += 1
                outbox.stop()
        return connection if is_silent else None

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _converse(self, connection: _Connection) -> bool:
        """Answer until the client is silent where others can wait for it (True), or will say nothing more."""
        inbox, outbox = connection.inbox, connection.outbox
        try:
            session = connection.session or await self._greet(connection)
            while session is not None:
                message = await inbox.take() if outbox.may_park else await inbox.next()
                if message is SILENCE:
                    return True
                if message is None:
                    break
                await session.receive_untrusted(message)
            outbox.end(inbox.ended)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            outbox.end("lost")
        except Exception:
            outbox.close("internal_error")
            raise
        return False

    async def _greet(self, connection: _Connection) -> SessionPort | None:
        with trio.move_on_after(HELLO_S) as patience:
            first = await connection.inbox.next()
        if patience.cancelled_caught:
            connection.outbox.close("hello_timeout")
        elif first is not None:
            connection.session = self._attach(connection, first)
        return connection.session

    def _attach(self, connection: _Connection, first: bytes) -> SessionPort | None:
        outbox, encoding = connection.outbox, connection.encoding
        try:
            hello: Hello = decode_hello_untrusted(first, encoding)
            token = connection.url_token if hello.token is None else hello.token
            if token is None:
                raise MalformedMessage("hello needs a token")
            claims = self._auth.read(token)
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
        elif now - heard_at > connection.ping_after and connection.pinged_at <= heard_at:
            connection.pinged_at = now
            connection.inbox.ping()


def _answer_head(received: bytearray) -> tuple[Encoding | None, bytes]:
    """Take the head out; returns the subprotocol, None when the request is refused, and the answer to send."""
    protocol = ServerProtocol(subprotocols=[Subprotocol(encoding.value) for encoding in Encoding])
    end = received.index(END_OF_HEAD) + len(END_OF_HEAD)
    protocol.receive_data(bytes(received[:end]))
    del received[:end]
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
