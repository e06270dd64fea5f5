"""Sessions over QMux in a WebSocket, for browsers whose WebTransport the players avoid (RFC 6455, no compression)."""

from __future__ import annotations

import math
import secrets
from collections import Counter

import trio
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from media.io.tcp import TcpStream, tcp_below
from media.moq.qmux import DRAFTS, MAX_RECORD_BYTES, QmuxCarrier
from media.moq.qmux_frames import DatagramArrived, QmuxEvent, StreamArrived, StreamReset, StreamStopped
from media.moq.relay import Peer, Relay
from media.moq.requests import Admit, Refusal, SessionRequest, split_target_untrusted
from media.moq.rights import Rights
from media.moq.session import Session
from media.moq.versions import PREFERRED, Version

RECEIVE_BYTES = 65_536
WRITE_TIMEOUT_S = 10.0  # for one record to leave; a client that reads nothing for as long is gone
GOODBYE_S = 2.0  # for a client to answer our close frame
QUIET_S = 10.0  # of ours, before we show a sign of life; clients give up after 30
SILENT_S = 30.0  # of the client's, before we give up
SUBPROTOCOLS = [Subprotocol(f"{draft}.{version.value}") for version in PREFERRED for draft in DRAFTS]


class QmuxSocket:
    """Serves WebSocket connections as sessions of a relay."""

    def __init__(self, relay: Relay, admit: Admit) -> None:
        self._relay, self._admit = relay, admit
        self._hop = secrets.randbelow((1 << 53) - 1) + 1
        self._open = 0
        self.counts = Counter[str]()

    def counters(self) -> dict[str, int]:
        """How many connections there are, and what became of others, by name."""
        return {"qmux_connections": self._open, **{f"qmux_{name}": count for name, count in self.counts.items()}}

    async def serve(self, stream: trio.abc.Stream, head: bytes, address: str = "") -> None:
        """Serve one connection whose request `head` asked for an upgrade; returns when it has ended.

        `stream` is a socket, or TLS on top of a `TcpStream`.
        """
        if isinstance(stream, trio.SocketStream):
            stream = TcpStream(stream)
        protocol = ServerProtocol(subprotocols=SUBPROTOCOLS, max_size=MAX_RECORD_BYTES)
        conversation: _Conversation | None = None
        with trio.move_on_after(WRITE_TIMEOUT_S):
            conversation = await self._shake_hands(stream, protocol, head, address)
        if conversation is None:
            return
        self._open += 1
        try:
            await conversation.run()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self.counts["lost"] += 1
        finally:
            self._open -= 1
            conversation.end()
            self.counts.update(conversation.carrier.counts)

    async def _shake_hands(
        self, stream: trio.abc.Stream, protocol: ServerProtocol, head: bytes, address: str
    ) -> _Conversation | None:
        protocol.receive_data(head)
        request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
        if request is None:
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return None
        response = protocol.accept(request)
        chosen = response.headers.get("Sec-WebSocket-Protocol")
        rights: Rights | Refusal = Refusal(400, f"Offer one of {', '.join(SUBPROTOCOLS)}.")
        if response.status_code == 101:
            if chosen is not None:
                rights = self._ask(request, chosen, address)
            if isinstance(rights, Refusal):
                self.counts["sessions_refused"] += 1
                response = protocol.reject(rights.status, rights.reason + "\n")
        protocol.send_response(response)
        for data in protocol.data_to_send():
            await stream.send_all(data)
        if response.status_code != 101 or chosen is None or isinstance(rights, Refusal):
            return None
        return _Conversation(stream, protocol, chosen, self._relay, self._hop, rights)

    def _ask(self, request: Request, chosen: str, address: str) -> Rights | Refusal:
        path, token = split_target_untrusted(request.path)
        version = Version(chosen.partition(".")[2])
        return self._admit(SessionRequest(path, token, version, "websocket", address, request.headers.get("Origin")))


class _Conversation:
    """One connection after its handshake."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        protocol: ServerProtocol,
        chosen: str,
        relay: Relay,
        hop: int,
        rights: Rights,
    ) -> None:
        draft, _, version = chosen.partition(".")
        self._stream, self._protocol, self._relay = stream, protocol, relay
        self._version, self._hop, self._rights = Version(version), hop, rights
        self._tcp = tcp_below(stream)
        self._stirred = trio.Event()
        self._parts: list[bytes] = []
        self._replies: list[bytes] = []  # WebSocket frames of the protocol's own, like pongs
        self.carrier = QmuxCarrier(draft, self._wake, self._recall)
        self._peer: Peer | None = None
        self._said_goodbye = trio.Event()  # the client has

    def end(self) -> None:
        """Leave the relay, and let nothing be sent that no cut could reach any more."""
        if self._peer is not None:
            self._peer.end()
        if not self._tcp.is_clear:
            self._tcp.reset()

    async def run(self) -> None:
        """Serve until either end has had enough."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, nursery.cancel_scope)
            await self._send()
            with trio.move_on_after(GOODBYE_S):
                # Closing before would reset the connection, and our last words might be lost with it.
                await self._said_goodbye.wait()
            nursery.cancel_scope.cancel()

    def _wake(self) -> None:
        self._stirred.set()

    def _recall(self) -> None:
        # What TCP has taken it sends, unless the connection ends; where nothing waits the client is told why instead.
        if not self._tcp.is_clear:
            self.carrier.counts["cut_off"] += 1
            self._tcp.reset()

    async def _receive(self, conversation: trio.CancelScope) -> None:
        while not self._said_goodbye.is_set():
            with trio.move_on_after(SILENT_S) as patience:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            if patience.cancelled_caught or not data:
                conversation.cancel()
                return
            self._protocol.receive_data(bytes(data))
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            self._replies.extend(reply for reply in self._protocol.data_to_send() if reply)
            self._wake()

    def _take(self, frame: Frame) -> None:
        # The protocol has checked their order and the size of the whole.
        if frame.opcode is Opcode.CLOSE:
            self._said_goodbye.set()
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT, Opcode.TEXT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                record = b"".join(self._parts)
                self._parts.clear()
                found = self.carrier.receive_untrusted(record)
                if self._peer is None and self.carrier.is_ready:
                    session = Session(self.carrier, self._version, origin=self._hop)
                    self._peer = self._relay.join(session, self.carrier, self._rights)
                for event in found:
                    self._pass_on(event)

    def _pass_on(self, event: QmuxEvent) -> None:
        if self._peer is None:
            return
        session = self._peer.session
        match event:
            case StreamArrived(stream, data, is_last):
                self._peer.handle(session.receive_untrusted(stream, data, is_last=is_last))
            case StreamReset(stream, code):
                self._peer.handle(session.reset_untrusted(stream, code))
            case StreamStopped(stream, code):
                self._peer.handle(session.stopped_untrusted(stream, code))
            case DatagramArrived(data):
                self._peer.handle(session.datagram_untrusted(data))

    async def _send(self) -> None:
        quiet_at = trio.current_time() + QUIET_S
        while True:
            self._stirred = trio.Event()
            if await self._send_all():
                quiet_at = trio.current_time() + QUIET_S
            if self.carrier.is_closed or self._protocol.state is not State.OPEN:
                break
            with trio.move_on_after(max(0.0, min(quiet_at - trio.current_time(), self._due_s()))):
                await self._stirred.wait()
            if self._peer is not None:
                self._peer.session.handle_timeout(self._relay.now_ns())
            if trio.current_time() >= quiet_at:
                self.carrier.ping()
                quiet_at = trio.current_time() + QUIET_S
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
        for data in self._protocol.data_to_send():
            with trio.move_on_after(WRITE_TIMEOUT_S):
                await self._stream.send_all(data)

    async def _send_all(self) -> bool:
        """Send what there is, asking anew after each record what is most urgent; returns whether there was anything."""
        has_sent = False
        while True:
            if self._peer is not None:
                self._peer.write()
            data = self._next()
            if data is None:
                return has_sent
            self._tcp.expect(len(data))
            with trio.fail_after(WRITE_TIMEOUT_S):
                await self._stream.send_all(data)
            has_sent = True

    def _due_s(self) -> float:
        """Return in how many seconds the session has something to do."""
        if self._peer is None:
            return math.inf
        return (self._peer.session.deadline_ns() - self._relay.now_ns()) / 1e9

    def _next(self) -> bytes | None:
        if self._replies:
            return self._replies.pop(0)
        record = self.carrier.next_record()
        return None if record is None else Frame(Opcode.BINARY, record).serialize(mask=False)
