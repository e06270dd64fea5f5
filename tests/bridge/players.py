"""A MoQ player over raw QUIC or WebTransport on a real socket: our own engine at the client's end, driven by Trio."""

from __future__ import annotations

import math
import struct
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import trio
from aioquic.h3.events import H3Event, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from media.moq.carriers.carrier import Writing
from media.moq.carriers.quic_carrier import Http3, QuicCarrier, WebTransportCarrier, from_http_code
from media.moq.protocol import events
from media.moq.protocol.session import Session
from media.moq.protocol.versions import PREFERRED, Version
from media.moq.quic.connection import H3_ALPN
from media.moq.quic.group_streams import Groups
from media.moq.quic.table import ConnectionTable
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.origin import Origin
from media.moq.relaying.relay import Peer, Relay
from tests.moq.nodes import Everything
from tests.moq.streamer import stream_picture

PATIENCE_S = 20.0
BUFFER, ANCILLARY = 65_536, 64
SO_TIMESTAMPNS = 35  # Linux: the kernel's time of arrival with each datagram
HTTP_STREAMS = (3, 7, 11)  # of the server: control, encoder and decoder
NO_GROUPS = Groups(ConnectionTable(1))


class PlainCarrier(Writing, QuicCarrier):
    """On a connection that is aioquic's alone: no table has its books, and groups are written piece by piece."""


class PlainWebCarrier(Writing, WebTransportCarrier):
    """The same of a WebTransport session."""


@dataclass
class Player:
    """One session. `last_object_ns` is when the kernel received the last datagram with a part of an object (epoch)."""

    address: tuple[str, int]
    target: str
    is_web: bool = False  # over WebTransport
    frames: dict[int, list[tuple[int, int | None, bytes]]] = field(default_factory=dict)  # by subscription
    object_bytes: int = 0
    last_object_ns: int = 0
    announced: set[str] = field(default_factory=set)
    retracted: set[str] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    ended: dict[int, int | None] = field(default_factory=dict)
    groups: list[tuple[int, int]] = field(default_factory=list)
    closed: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        protocol = H3_ALPN if self.is_web else PREFERRED[0].value
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=[protocol], max_datagram_frame_size=65_536, max_data=16 << 20
        )
        configuration.verify_mode = 0  # type: ignore[assignment]
        configuration.server_name = "localhost"
        self.quic = cast(TabledConnection, QuicConnection(configuration=configuration))
        self.socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.socket.setsockopt(trio.socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.received_ns = 0
        self.session: Session | None = None
        self.carrier: QuicCarrier | None = None
        self.http: Http3 | None = None
        self.connect_stream = 0
        self.early = deque[WebTransportStreamDataReceived]()
        self.stirred = trio.Event()
        self.changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self.socket.bind(("127.0.0.1", 0))
        self.quic.connect(self.address, now=time.monotonic())
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            while True:
                self._flush()
                timer = self.quic.get_timer()
                pause_s = math.inf if timer is None else max(0.0, timer - time.monotonic())
                self.stirred = trio.Event()
                with trio.move_on_after(pause_s):
                    await self.stirred.wait()
                now = time.monotonic()
                if timer is not None and timer <= now:
                    self.quic.handle_timer(now=now)
                    self._take_events()

    async def until(self, claim: object) -> None:
        """Wait until `claim` (a function) is true."""
        assert callable(claim)
        with trio.fail_after(PATIENCE_S):
            while not claim():
                self.changed = trio.Event()
                await self.changed.wait()

    def subscribe(self, path: str, track: str) -> int:
        assert self.session is not None
        number = self.session.subscribe(path, track, max_latency_ms=1_000)
        assert number is not None
        self.frames[number] = []
        self._wake()
        return number

    def _wake(self) -> None:
        self.stirred.set()

    def _flush(self) -> None:
        now = time.monotonic()
        for datagram, _ in self.quic.datagrams_to_send(now=now):
            self.socket._sock.sendto(datagram, self.address)  # type: ignore[attr-defined]  # never blocks on loopback

    async def _receive(self) -> None:
        while True:
            data, notes, _, _ = await self.socket.recvmsg(BUFFER, ANCILLARY)
            seconds, nanoseconds = struct.unpack("qq", notes[0][2])
            self.received_ns = seconds * 1_000_000_000 + nanoseconds
            self.quic.receive_datagram(data, self.address, now=time.monotonic())
            self._take_events()
            self._wake()

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case quic_events.HandshakeCompleted() if self.is_web:
                    self._ask_for_session()
                case quic_events.HandshakeCompleted():
                    self._begin(PlainCarrier(self.quic, NO_GROUPS, self._wake), self.target)
                case quic_events.StreamDataReceived(stream_id=stream, data=data, end_stream=is_last):
                    if stream % 4 == 3 and data and not (self.is_web and stream in HTTP_STREAMS):
                        self.object_bytes += len(data)
                        self.last_object_ns = self.received_ns
                    if self.http is not None:
                        self._take_http(self.http.handle_event(event))
                    elif self.session is not None:
                        self._take(self.session.receive_untrusted(stream, data, is_last=is_last))
                case quic_events.StreamReset(stream_id=stream, error_code=code):
                    if self.session is not None:
                        self._take(self.session.reset_untrusted(stream, from_http_code(code) if self.is_web else code))
                case quic_events.ConnectionTerminated(error_code=code, reason_phrase=reason):
                    self.closed = (code, reason)
            self.changed.set()

    def _begin(self, carrier: QuicCarrier, path: str | None) -> None:
        self.carrier = carrier
        self.session = Session(carrier, Version(PREFERRED[0].value), origin=77, path=path)
        self.session.request_announcements("")

    def _ask_for_session(self) -> None:
        self.http = Http3(self.quic)
        self.connect_stream = self.quic.get_next_available_stream_id()
        headers = {
            ":method": "CONNECT",
            ":scheme": "https",
            ":authority": "127.0.0.1",
            ":path": self.target,
            ":protocol": "webtransport",
            "wt-available-protocols": f'"{PREFERRED[0].value}"',
        }
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.http.send_headers(self.connect_stream, encoded)

    def _take_http(self, found: list[H3Event]) -> None:
        for event in found:
            match event:
                case HeadersReceived(headers=headers) if self.session is None:
                    assert dict(headers)[b":status"] == b"200"
                    assert self.http is not None
                    web = PlainWebCarrier(self.quic, NO_GROUPS, self.http, self.connect_stream, self._wake)
                    self._begin(web, None)
                case WebTransportStreamDataReceived():
                    self.early.append(event)  # a stream may overtake the answer to our CONNECT
        while self.session is not None and self.early:
            part = self.early.popleft()
            self._take(self.session.receive_untrusted(part.stream_id, part.data, is_last=part.stream_ended))

    def _take(self, found: list[events.Event]) -> None:
        for event in found:
            match event:
                case events.BroadcastAnnounced(path, _):
                    self.announced.add(path)
                    self.retracted.discard(path)
                case events.BroadcastRetracted(path):
                    self.retracted.add(path)
                    self.announced.discard(path)
                case events.GroupBegan(subscription, sequence):
                    self.groups.append((subscription, sequence))
                case events.FrameArrived(subscription, sequence, timestamp, payload):
                    self.frames[subscription].append((sequence, timestamp, payload))
                case events.SubscriptionEnded(subscription, code):
                    self.ended[subscription] = code

    def leave(self) -> None:
        self.quic.close()
        self._flush()
        self.socket.close()


@asynccontextmanager
async def open_players(
    address: tuple[str, int], targets: list[str], *, is_web: bool = False
) -> AsyncIterator[list[Player]]:
    players = [Player(address, target, is_web) for target in targets]
    try:
        async with trio.open_nursery() as nursery:
            for player in players:
                await nursery.start(player.run)
            yield players
            nursery.cancel_scope.cancel()
    finally:
        for player in players:
            player.leave()


@asynccontextmanager
async def open_player(address: tuple[str, int], target: str) -> AsyncIterator[Player]:
    async with open_players(address, [target]) as (player,):
        yield player


class Streamer(Player):
    """A session that publishes what an origin of its own holds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.origin = Origin()
        self.relay = Relay(self.origin, time.monotonic_ns)
        self.peer: Peer | None = None

    def _flush(self) -> None:
        if self.peer is not None:
            self.peer.write()
        super()._flush()

    def _take(self, found: list[events.Event]) -> None:
        if self.peer is None:
            assert self.session is not None
            assert self.carrier is not None
            self.peer = self.relay.join(self.session, self.carrier, Everything(watches=True, publishes=False))
        self.peer.handle(found)


@asynccontextmanager
async def open_streamer(
    address: tuple[str, int], target: str, path: str, picture_from: trio.Event | None = None
) -> AsyncIterator[Streamer]:
    """Publish the test picture until the block ends; sound alone until `picture_from`, where it is given."""
    streamer = Streamer(address, target)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(streamer.run)
            await streamer.until(lambda: streamer.session is not None)
            nursery.start_soon(stream_picture, streamer.origin, path, "legacy", picture_from)
            yield streamer
            nursery.cancel_scope.cancel()
    finally:
        streamer.leave()
