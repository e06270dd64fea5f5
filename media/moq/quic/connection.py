"""One QUIC connection of the endpoint, from its first event to its session's end. Sans-IO.

WebTransport sessions begin with a CONNECT that carries path, token and versions; on raw QUIC the version is the ALPN,
and path and token come in the peer's SETUP, until which everything else waits. Over WebTransport a path may lead to
another service than MoQ.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from aioquic.h3.events import DatagramReceived, DataReceived, H3Event, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic import events as quic_events
from aioquic.quic.packet_builder import QuicDeliveryState

from media.io.udp import Datagram, Destination
from media.moq.carriers.capsules import CapsuleReader
from media.moq.carriers.carrier import Code
from media.moq.carriers.quic_carrier import Http3, QuicCarrier, WebTransportCarrier, from_http_code
from media.moq.kernel import columns as c
from media.moq.protocol.events import Event, SetupReceived
from media.moq.protocol.requests import (
    Admit,
    OtherServices,
    OtherSession,
    Refusal,
    SessionRequest,
    split_target_untrusted,
)
from media.moq.protocol.session import NEVER_NS, Session
from media.moq.protocol.versions import Version, choose_version
from media.moq.quic.configuration import H3_ALPN
from media.moq.quic.group_streams import Groups
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.relay import Peer, Relay
from media.moq.relaying.rights import Rights

WEBTRANSPORT = (b"webtransport", b"webtransport-h3")  # the latter from draft 15 on
MAX_WAITING_EVENTS = 64  # before SETUP: a client asks a few things at once
QUOTED = re.compile(r'"([A-Za-z0-9_.-]{1,64})"')


APPLICATION = -1  # among a connection's packet spaces


class Connection:
    """A QUIC connection and at most one session on it; the owner of its row in the table."""

    def __init__(
        self,
        quic: TabledConnection,
        groups: Groups,
        relay: Relay,
        admit: Admit,
        hop: int,
        address: str,
        wake: Callable[[], None],
        services: OtherServices | None = None,
    ) -> None:
        self.quic, self.counts = quic, Counter[str]()
        self.has_failed = False
        self.is_stirred = False  # by what the kernel took in
        self.is_timer_old = True  # since aioquic did something
        quic.row.owner = self
        self._groups = groups
        self.peer: Peer | None = None
        self._services = services
        self._other: OtherSession | None = None
        self._relay, self._admit, self._hop, self._address, self._wake = relay, admit, hop, address, wake
        self._http: Http3 | None = None
        self._version: Version | None = None
        self._session: Session | None = None
        self._carrier: QuicCarrier | None = None
        self._connect_stream: int | None = None
        self._capsules = CapsuleReader()
        self._waiting: list[Event] = []
        self._has_words = True  # aioquic's, for the next datagrams
        self.is_over = False

    def handle(self, event: quic_events.QuicEvent) -> None:
        """Take one of the connection's events."""
        self._has_words = True
        match event:
            case quic_events.ProtocolNegotiated(alpn_protocol=alpn):
                if alpn == H3_ALPN:
                    self._http = Http3(self.quic)
                else:
                    self._version = choose_version([alpn or ""])
            case quic_events.HandshakeCompleted():
                if self._version is not None:
                    self._begin_raw(self._version)
            case quic_events.ConnectionTerminated():
                self._end()
            case quic_events.StreamReset(stream_id=stream, error_code=code):
                self._handle_http(event)
                if stream == self._connect_stream:
                    self._leave()
                elif self._session is not None:
                    self._take(self._session.reset_untrusted(stream, self._code(code)))
                elif self._other is not None:
                    self._other.reset_untrusted(stream)
            case quic_events.StopSendingReceived(stream_id=stream, error_code=code):
                self._handle_http(event)
                if self._carrier is not None:
                    self._carrier.give_back(stream)
                if self._session is not None:
                    self._take(self._session.stopped_untrusted(stream, self._code(code)))
                elif self._other is not None:
                    self._other.stopped_untrusted(stream)
                if stream == self._connect_stream:
                    self._leave()
            case quic_events.PingAcknowledged():
                if self._other is not None:
                    self._other.heard()
            case _ if self._http is not None:
                self._handle_http(event)
            case quic_events.StreamDataReceived(stream_id=stream, data=data, end_stream=is_last):
                if self._session is not None:
                    self._take(self._session.receive_untrusted(stream, data, is_last=is_last))
            case quic_events.DatagramFrameReceived(data=data):
                if self._session is not None:
                    self._take(self._session.datagram_untrusted(data))

    def write(self) -> None:
        """Let the session write what it has, as far as there is room."""
        if self.has_failed:
            raise RuntimeError("what was heard could not be passed on")
        self.is_stirred = False
        if self.peer is not None:
            self.peer.write()
        elif self._other is not None:
            self._other.write()

    def receive_untrusted(self, data: bytes, source: Destination, now: float) -> None:
        """Take a datagram that does more than acknowledge (s, monotonic)."""
        self._has_words = True
        self.quic.catch_up()
        self.quic.receive_datagram(data, source, now=now)
        self._show()

    def handle_quic_timer(self, now: float) -> None:
        """Do what is due in QUIC (s, monotonic)."""
        self._has_words = True
        self.quic.handle_timer(now=now)
        self._show()

    def close(self, reason: str) -> None:
        """End the connection at its next flush."""
        self._has_words = True
        self.quic.close(reason_phrase=reason)
        self._show()

    def must_speak(self, now: float) -> bool:
        """Whether aioquic may have something to say now (s, monotonic)."""
        quic, carrier = self.quic, self._carrier
        if self._has_words or carrier is None or carrier.must_speak or quic._probe_pending:
            return True
        ack_at = quic._loss.spaces[APPLICATION].ack_at
        return ack_at is not None and ack_at <= now

    def datagrams(self, now: float) -> list[Datagram]:
        """Return what leaves now besides groups (s, monotonic)."""
        quic, carrier = self.quic, self._carrier
        if not self.must_speak(now):
            return []
        if quic.row.ints[c.TAIL] - quic.row.ints[c.HEAD] > c.STREAM_ENTRIES and not quic._close_pending:
            self.counts["flights_full"] += 1  # until some of it is acknowledged, or given up
            return []
        quic.catch_up()
        datagrams = quic.say(now, is_paced=carrier is None or carrier.has_unsent)
        # What pacing or congestion holds back is asked for again.
        is_held_up = quic._pacing_at is not None or not quic._loss.bytes_in_flight < quic._loss.congestion_window
        self._has_words = is_held_up
        if carrier is not None:
            carrier.has_spoken()
            self._has_words |= carrier.has_unsent
        self._show()
        return datagrams

    def _show(self) -> None:
        """Let the kernel know what aioquic may have changed."""
        self.is_timer_old = True
        self.quic.show()
        if self._carrier is not None:
            self._carrier.show()

    # -- the kernel tells ----------------------------------------------------------------------------------------------

    def foreign_settled(self, number: int, *, is_acknowledged: bool) -> None:
        """Tell aioquic what became of a packet of its own."""
        self.quic.settled(number, QuicDeliveryState.ACKED if is_acknowledged else QuicDeliveryState.LOST)
        self._has_words |= not is_acknowledged
        self._wake()  # something may have waited for room, or for that

    def stream_over(self, stream: int) -> None:
        """Let go of a stream that carried a group."""
        if self._carrier is not None:
            self._carrier.stream_over(stream)

    def stirred(self) -> None:
        """Have what waited for room leave."""
        self.is_stirred = True
        self._wake()

    def fail(self) -> None:
        """Have the next flush end the connection, for a fault of ours."""
        self.has_failed = True
        self._wake()

    def probe(self) -> None:
        """Have aioquic send what asks for an acknowledgement."""
        self.quic._send_probe()
        self._wake()

    def after_flush(self) -> None:
        """Lose the datagrams that found no room: they would be late."""
        if self._carrier is not None:
            self._carrier.drop_datagrams()

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called (monotonic)."""
        return NEVER_NS if self._session is None else self._session.deadline_ns()

    def handle_timeout(self, now_ns: int) -> None:
        """Do what is due in the session."""
        if self._session is not None:
            self._session.handle_timeout(now_ns)

    # -- HTTP/3 --------------------------------------------------------------------------------------------------------

    def _handle_http(self, event: quic_events.QuicEvent) -> None:
        if self._http is None:
            return
        for found in self._http.handle_event(event):
            self._handle_http_event(found)

    def _handle_http_event(self, event: H3Event) -> None:
        match event:
            case WebTransportStreamDataReceived(session_id=session, stream_id=stream, data=data, stream_ended=is_last):
                if session != self._connect_stream or stream == session:
                    # The session's own stream among them: nobody honest opens a stream of a session on it.
                    self.counts["streams_astray"] += 1
                elif self._session is not None:
                    self._take(self._session.receive_untrusted(stream, data, is_last=is_last))
                elif self._other is not None:
                    self._other.receive_untrusted(stream, data, is_last=is_last)
            case DatagramReceived(stream_id=session, data=data):
                if session == self._connect_stream and self._session is not None:
                    self._take(self._session.datagram_untrusted(data))
            case HeadersReceived():
                self._answer(event)
            case DataReceived(stream_id=stream, data=data, stream_ended=is_last) if stream == self._connect_stream:
                closed = self._capsules.feed_untrusted(data)
                if closed is not None or is_last:
                    self._leave()

    def _answer(self, asked: HeadersReceived) -> None:
        assert self._http is not None
        headers = dict(asked.headers)
        if headers.get(b":method") != b"CONNECT" or headers.get(b":protocol") not in WEBTRANSPORT:
            self._refuse(asked.stream_id, 404)
            return
        if self._connect_stream is not None:
            self._refuse(asked.stream_id, 429)
            return
        offered = QUOTED.findall(headers.get(b"wt-available-protocols", b"").decode("latin-1"))
        target = headers.get(b":path", b"").decode("latin-1")
        if self._begin_other(asked.stream_id, target, offered):
            return
        version = choose_version(offered)
        if version is None:
            self._refuse(asked.stream_id, 400)
            return
        origin = headers.get(b"origin")
        admitted = self._ask(target, version, "webtransport", None if origin is None else origin.decode("latin-1"))
        if isinstance(admitted, Refusal):
            self._refuse(asked.stream_id, admitted.status)
            return
        carrier = WebTransportCarrier(self.quic, self._groups, self._http, asked.stream_id, self._wake)
        self._accept(asked.stream_id, carrier, version.value)
        self._session = Session(carrier, version, origin=self._hop)
        self.peer = self._relay.join(self._session, carrier, admitted)

    def _begin_other(self, stream: int, target: str, offered: Sequence[str]) -> bool:
        """Begin a session of another service than MoQ; False when the path is not one's."""
        assert self._http is not None
        if self._services is None:
            return False
        path, token = split_target_untrusted(target)
        carrier = WebTransportCarrier(self.quic, self._groups, self._http, stream, self._wake)
        begun = self._services.begin(path, token, offered, carrier)
        if begun is None:
            return False
        if isinstance(begun, Refusal):
            self._refuse(stream, begun.status)
            return True
        self._other, protocol = begun
        self._accept(stream, carrier, protocol)
        return True

    def _accept(self, stream: int, carrier: WebTransportCarrier, protocol: str) -> None:
        assert self._http is not None
        self._connect_stream, self._carrier = stream, carrier
        self._http.send_headers(stream, [(b":status", b"200"), (b"wt-protocol", f'"{protocol}"'.encode())])

    def _refuse(self, stream: int, status: int) -> None:
        assert self._http is not None
        self.counts["sessions_refused"] += 1
        self._http.send_headers(stream, [(b":status", str(status).encode())], end_stream=True)
        self._wake()

    def _leave(self) -> None:
        """End the connection with the session that the client ended: it has no other."""
        self.close("")
        self._end()
        self._wake()

    # -- raw QUIC ------------------------------------------------------------------------------------------------------

    def _begin_raw(self, version: Version) -> None:
        carrier = QuicCarrier(self.quic, self._groups, self._wake)
        self._carrier = carrier
        self._session = Session(carrier, version, origin=self._hop)
        if not version.traits.has_setup:
            self._join_raw("")  # the version has no words for a path

    def _join_raw(self, target: str) -> None:
        assert self._session is not None
        assert self._carrier is not None
        admitted = self._ask(target, self._session.version, "quic", None)
        if isinstance(admitted, Refusal):
            self.counts["sessions_refused"] += 1
            self._session.close(admitted.status, admitted.reason)
            return
        self.peer = self._relay.join(self._session, self._carrier, admitted)
        waiting, self._waiting = self._waiting, []
        self.peer.handle(waiting)

    # -- both ----------------------------------------------------------------------------------------------------------

    def _ask(self, target: str, version: Version, carrier: str, origin: str | None) -> Rights | Refusal:
        path, token = split_target_untrusted(target)
        return self._admit(SessionRequest(path, token, version, carrier, self._address, origin))

    def _take(self, found: list[Event]) -> None:
        if self.peer is not None:
            self.peer.handle(found)
            return
        for event in found:
            self._waiting.append(event)
            if isinstance(event, SetupReceived):
                self._join_raw(event.path or "")
        if len(self._waiting) > MAX_WAITING_EVENTS and self._session is not None:
            self._waiting.clear()
            self._session.close(Code.TOO_MUCH, "no SETUP")

    def _code(self, code: int) -> int:
        return code if self._http is None else from_http_code(code)

    @property
    def has_session(self) -> bool:
        """Whether a session is let in."""
        return (self.peer is not None or self._other is not None) and not self.was_ended_by_us

    @property
    def was_ended_by_us(self) -> bool:
        """Whether we closed the session, and the client has not followed yet."""
        session = self._session or self._other
        return session is not None and session.is_closed and not self.is_over

    def abandon(self) -> None:
        """End the session without a word on the wire, and give the row back."""
        self._end()
        self.quic.row.table.free_row(self.quic.row)

    def _end(self) -> None:
        if self.peer is not None:
            self.peer.end()
        if self._other is not None:
            self._other.lose()
        if self._carrier is not None:
            self._carrier.end()
        self.is_over = True
