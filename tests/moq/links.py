"""A client of aioquic's and a server's connection, joined in memory: no socket, and time that a test turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived

from media.moq.protocol.requests import Refusal, SessionRequest
from media.moq.protocol.versions import PREFERRED
from media.moq.quic.configuration import CIPHERS
from media.moq.quic.connection import Connection
from media.moq.quic.group_streams import Groups
from media.moq.quic.table import ConnectionTable
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.origin import Origin
from media.moq.relaying.relay import Peer, Relay
from media.moq.relaying.rights import Rights
from tests.moq.certificates import CERTIFICATE
from tests.moq.nodes import Everything

CLIENT, SERVER = ("127.0.0.1", 1), ("127.0.0.1", 2)
STEP_S = 0.005
HTTP_STREAMS = (3, 7, 11)  # control, encoder and decoder
QUIET_S = 1.0  # beyond that only idle timeouts are waited for


def configuration() -> QuicConfiguration:
    protocols = ["h3", *(version.value for version in PREFERRED)]
    made = QuicConfiguration(is_client=False, alpn_protocols=protocols, max_datagram_frame_size=65_536)
    made.cipher_suites = CIPHERS
    made.certificate, made.private_key = CERTIFICATE.cert, CERTIFICATE.key
    return made


@dataclass
class Link:
    """Both ends. `loses` says which of the server's datagrams never arrive."""

    alpn: str = "h3"
    rights: Rights | Refusal = field(default_factory=Everything)
    prepare: Callable[[QuicConnection], None] = lambda quic: None
    loses: Callable[[bytes], bool] = lambda datagram: False

    def __post_init__(self) -> None:
        self.now, self.origin = 100.0, Origin()
        self.relay = Relay(self.origin, lambda: int(self.now * 1e9))
        self.requests: list[SessionRequest] = []
        own = QuicConfiguration(is_client=True, alpn_protocols=[self.alpn], max_datagram_frame_size=65_536)
        own.verify_mode = 0  # type: ignore[assignment]
        self.client = QuicConnection(configuration=own)
        self.prepare(self.client)
        self.client.connect(SERVER, now=self.now)
        self.table = ConnectionTable(4)
        self.row = self.table.take_row()
        self.quic = TabledConnection(
            self.row,
            configuration(),
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.connection = Connection(self.quic, Groups(self.table), self.relay, self._admit, 9, CLIENT[0], lambda: None)
        self.sessions: set[int] = set()
        self.events: list[QuicEvent] = []  # of the client
        self.statuses: list[bytes] = []
        self.carried: list[bytes] = []  # packets of the kernel's
        self.source = CLIENT  # where the client is
        self.counts = Counter[str]()
        self.http = H3Connection(self.client, enable_webtransport=True) if self.alpn == "h3" else None
        self.run()

    @property
    def peer(self) -> Peer:
        assert self.connection.peer is not None
        return self.connection.peer

    def connect(
        self, versions: str = '"moq-lite-05"', path: str = "/anon?jwt=t", protocol: str = "webtransport"
    ) -> int:
        """Ask for a WebTransport session; returns its id."""
        assert self.http is not None
        self.run()
        session = self.client.get_next_available_stream_id()
        self.sessions.add(session)
        headers = {
            ":method": "CONNECT",
            ":scheme": "https",
            ":authority": "127.0.0.1",
            ":path": "/anon?jwt=t",
            ":protocol": protocol,
            "origin": "https://page",
            "wt-available-protocols": versions,
        }
        self.http.send_headers(session, [(name.encode(), value.encode()) for name, value in headers.items()])
        self.run()
        return session

    def open_bidi(self, session: int, data: bytes, *, is_last: bool = False) -> int:
        assert self.http is not None
        stream = self.http.create_webtransport_stream(session)
        self.client.send_stream_data(stream, data, end_stream=is_last)
        self.run()
        return stream

    def run(self, rounds: int = 400) -> None:
        """Let both ends talk until neither has anything to say soon, or for so many rounds."""
        for _ in range(rounds):
            self.now += STEP_S
            if not self._exchange():
                timers = [timer for quic in (self.client, self.quic) if (timer := quic.get_timer()) is not None]
                timers.append(self.table.run_timers(self.now))
                if min(timers, default=self.now + 9) > self.now + QUIET_S:
                    return
                self.now = max(self.now, min(timers))
            timer = self.client.get_timer()
            if timer is not None and timer <= self.now:
                self.client.handle_timer(now=self.now)
            timer = self.quic.get_timer()
            if timer is not None and timer <= self.now:
                self.connection.handle_quic_timer(self.now)
            self.table.run_timers(self.now)

    def _exchange(self) -> bool:
        has_spoken = False
        for datagram, _ in self.client.datagrams_to_send(now=self.now):
            self.hear(datagram, self.source)
            has_spoken = True
        while (event := self.quic.next_event()) is not None:
            self.connection.handle(event)
        self.connection.write()
        words = [datagram for datagram, _ in self.connection.datagrams(self.now)]
        carried = [
            packet for _, burst in self.table.bursts([self.row.number], self.now) for packet in burst.datagrams()
        ]
        self.carried += carried
        for datagram in words + carried:
            has_spoken = True
            if not self.loses(datagram):
                self.client.receive_datagram(datagram, SERVER, now=self.now)
        self.connection.after_flush()
        while (event := self.client.next_event()) is not None:
            self.see(event)
        return has_spoken

    def hear(self, datagram: bytes, source: tuple[str, int] = CLIENT) -> None:
        """Have the server's end take a datagram."""
        if not self.table.take_in_untrusted(datagram, source, self.now):
            self.connection.receive_untrusted(datagram, source, self.now)

    def see(self, event: QuicEvent) -> None:
        self.events.append(event)
        if self.http is None or getattr(event, "stream_id", 0) not in {*HTTP_STREAMS, *self.sessions}:
            return  # aioquic's own client takes what answers on WebTransport's streams for HTTP/3
        for found in self.http.handle_event(event):
            if isinstance(found, HeadersReceived):
                self.statuses.append(dict(found.headers)[b":status"])

    def received(self, stream: int) -> bytes:
        """Return everything the client got on a stream."""
        arrived = [event for event in self.events if isinstance(event, StreamDataReceived)]
        return b"".join(event.data for event in arrived if event.stream_id == stream)

    def streams(self, prefix: bytes) -> list[int]:
        """Return the streams on which the client got something that begins so."""
        ids = {event.stream_id for event in self.events if isinstance(event, StreamDataReceived)}
        return sorted(id for id in ids if self.received(id).startswith(prefix))

    def _admit(self, request: SessionRequest) -> Rights | Refusal:
        self.requests.append(request)
        return self.rights


def wt_uni(session: int) -> bytes:
    return encode_uint_var(0x54) + encode_uint_var(session)
