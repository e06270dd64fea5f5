"""WebRTC transports: the engine of each is fed with what arrives, told the time, and obeyed."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import structlog

from media.channel import EVENTS
from media.channels import Channels
from media.facts import Connected, MediaEvent, TransportId
from media.forwarding.admission import FOREVER
from media.forwarding.forwarder import ControlDatagram, Forwarder
from media.forwarding.layers.wishes import ANY_PICTURE, Wish
from media.rooms import Room
from media.webrtc.certificate import Certificate, Certificates
from media.webrtc.data_channel import DATA_COUNTERS, ChannelClosed, ChannelMessage, ChannelOpened
from media.webrtc.ice import Address, IceCredentials, Path
from media.webrtc.negotiation import LocalEndpoint, PublisherAnswer, ViewerAnswer
from media.webrtc.peer import (
    PEER_COUNTERS,
    AddressForgotten,
    AddressValidated,
    Closed,
    Nominated,
    Peer,
    PeerEvent,
    Secured,
    Transmit,
)
from media.webrtc.stun import username_untrusted

log = structlog.get_logger("media")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Where clients find us."""

    udp: tuple[Address, ...]
    tcp: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class OurSide:
    """What we show of ourselves in one answer, the certificate that proves it, and the worker that it leads to."""

    certificate: Certificate
    worker: int
    shown: LocalEndpoint


@dataclass(slots=True)
class Endpoint:
    """One WebRTC client that publishes what `source` is in a room, or watches it."""

    id: TransportId
    row: int
    room: Room
    source: str
    role: Literal["publisher", "viewer"]
    peer: Peer
    subscriptions: list[int] = field(default_factory=list)
    wish: Wish = ANY_PICTURE
    timer_ns: int = FOREVER
    ufrags: tuple[str, ...] = ()
    watched_tracks: list[int] = field(default_factory=list)
    lacks: frozenset[str] = frozenset()  # kinds that a viewer asked for and was not given


class Endpoints:
    """Every WebRTC transport of a node, found by its id, its row and the username fragments of its checks.

    `close` ends one with a reason, `tell` passes facts on, and `wake` has `run_timers` called in time.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        clock_ns: Callable[[], int],
        *,
        numbers: itertools.count[int],
        close: Callable[[TransportId, str], None],
        tell: Callable[[MediaEvent], None],
        wake: Callable[[], None],
    ) -> None:
        self.by_id: dict[TransportId, Endpoint] = {}
        self.timers: list[tuple[int, TransportId]] = []
        self.faults = 0  # transports ended by an exception of ours
        self._forwarder, self._now_ns, self._numbers = forwarder, clock_ns, numbers
        self._close, self._tell, self._wake = close, tell, wake
        self.certificates = Certificates(clock_ns())
        self._by_row: dict[int, Endpoint] = {}
        self._by_ufrag: dict[str, Endpoint] = {}
        self._ended: Counter[str] = Counter(dict.fromkeys(PEER_COUNTERS, 0))
        self._ended_data: Counter[str] = Counter(dict.fromkeys(DATA_COUNTERS, 0))
        self._channels = Channels(self, tell)
        self._candidates: tuple[tuple[Address, ...], tuple[Address, ...]] = ((), ())
        # Control datagrams that belong to no transport, or came to another worker than the transport's.
        self._strays = {"unknown_ufrag": 0, "unknown_source": 0, "wrong_worker": 0}

    # -- births and deaths -------------------------------------------------------------------------------------------

    def our_side(self, worker: int) -> OurSide:
        """Make new credentials, to be shown with the candidates of a worker."""
        certificate = self.certificates.current(self._now_ns())
        shown = self.shown_by(worker)
        local = LocalEndpoint(IceCredentials.random(), certificate.fingerprint, shown.udp, shown.tcp)
        return OurSide(certificate, worker, local)

    def shown_by(self, worker: int) -> Candidates:
        """Return where clients find a worker: on its own UDP ports, or over TCP on the ports of all."""
        udp, tcp = self._candidates
        ahead = tuple((host, port + worker) for host, port in udp)
        return Candidates((*self._forwarder.workers.addresses(worker), *ahead), tcp)

    def advertise(self, udp: tuple[Address, ...], tcp: tuple[Address, ...]) -> None:
        """Show clients these, too: where somebody forwards what is for the first worker, and where TCP is taken."""
        self._candidates = (udp, tcp)

    def open(
        self,
        room: Room,
        source: str,
        role: Literal["publisher", "viewer"],
        ours: OurSide,
        answer: PublisherAnswer | ViewerAnswer,
    ) -> Endpoint:
        """Open a transport to whom `answer` is sent; raises NoCapacity."""
        row = self._forwarder.open_transport(room.row, publishes=role == "publisher", worker=ours.worker)
        peer = Peer(
            certificate=ours.certificate,
            local=ours.shown.ice,
            remote=answer.remote_ice,
            fingerprints=answer.fingerprints,
            dtls_role=answer.dtls_role,
            now_ns=self._now_ns(),
            data=answer.data,
            labels=(EVENTS,),
        )
        endpoint = Endpoint(TransportId(next(self._numbers)), row, room, source, role, peer)
        self.by_id[endpoint.id] = self._by_row[row] = endpoint
        room.endpoints.add(endpoint.id)
        self.index_ufrags(endpoint)
        self._set_timer(endpoint)
        return endpoint

    def discard(self, endpoint: Endpoint) -> None:
        """Say goodbye to a client that is not found by its id any more, and forget it; its row is still taken."""
        self.say_goodbye(endpoint)
        self._ended.update(endpoint.peer.counters())
        self._ended_data.update(endpoint.peer.data_counters())
        self._channels.discard(endpoint.id)
        for ufrag in endpoint.ufrags:
            self._by_ufrag.pop(ufrag, None)
        self._by_row.pop(endpoint.row, None)
        endpoint.room.endpoints.discard(endpoint.id)

    def say_goodbye(self, endpoint: Endpoint) -> None:
        """Tell a client that this was all."""
        # It may be closed for a fault of its engine, which must not keep its rows from being freed.
        try:
            for event in endpoint.peer.close():
                if isinstance(event, Transmit):
                    self._forwarder.send(event.datagram, event.destination)
        except Exception as fault:
            self.faults += 1
            log.error("transport_fault", transport=endpoint.id, exc_info=fault)

    def index_ufrags(self, endpoint: Endpoint) -> None:
        """Find an endpoint by the username fragments that its engine answers to now."""
        for ufrag in endpoint.ufrags:
            self._by_ufrag.pop(ufrag, None)
        endpoint.ufrags = endpoint.peer.local_ufrags
        for ufrag in endpoint.ufrags:
            self._by_ufrag[ufrag] = endpoint
        self._answer_checks(endpoint)

    def _answer_checks(self, endpoint: Endpoint) -> None:
        # Once connected, the checks of every few seconds cost no Python; what is unusual about one comes here still.
        peer = endpoint.peer
        if peer.is_secured:
            username = f"{peer.local.ufrag}:{peer.remote.ufrag}"
            self._forwarder.answer_checks(endpoint.row, username, peer.local.password)

    # -- what arrives ------------------------------------------------------------------------------------------------

    def receive_untrusted(self, datagrams: Iterable[ControlDatagram]) -> None:
        """Give STUN and DTLS datagrams to whose they are."""
        for datagram in datagrams:
            endpoint = self._addressee(datagram.data, datagram.transport, datagram.source)
            if endpoint is not None:
                self._guarded(endpoint, endpoint.peer.receive_untrusted, datagram.data, datagram.source)

    def worker_untrusted(self, check: bytes) -> int | None:
        """Return the worker of the session of ours that a datagram names, None if it is no such check."""
        names = username_untrusted(check)
        endpoint = None if names is None else self._by_ufrag.get(names[0])
        return None if endpoint is None else self._forwarder.worker_of(endpoint.row)

    def take_check_untrusted(self, check: bytes, source: Path, seen_as: Address) -> None:
        """Take a check that came from `seen_as`, carried here as if from `source`."""
        endpoint = self._addressee(check, self._forwarder.owner(source), source)
        if endpoint is not None:
            self._guarded(endpoint, partial(endpoint.peer.receive_untrusted, seen_as=seen_as), check, source)

    def lose(self, source: Path) -> None:
        """Send nothing to an address any more, whose connection ended."""
        endpoint = self._by_row.get(self._forwarder.owner(source))
        if endpoint is not None:
            self._guarded(endpoint, lambda now_ns: endpoint.peer.lose(source))

    def _addressee(self, datagram: bytes, row: int, source: Path) -> Endpoint | None:
        names = username_untrusted(datagram)
        found = self._by_row.get(row) if names is None else self._by_ufrag.get(names[0])
        if found is None:
            self._strays["unknown_source" if names is None else "unknown_ufrag"] += 1
        elif self._forwarder.workers.at(source) != self._forwarder.worker_of(found.row):
            # By our answer nobody sends there, and two workers must never have to do with one transport.
            self._strays["wrong_worker"] += 1
            return None
        return found

    def _guarded(self, endpoint: Endpoint, step: Callable[..., Iterable[PeerEvent]], *arguments: object) -> None:
        # A fault of ours in one transport's engine ends that transport and nothing else.
        try:
            self._apply(endpoint, step(*arguments, self._now_ns()))
        except Exception as fault:
            self._end_faulty(endpoint, fault)

    def end_faulty(self, row: int, fault: Exception) -> None:
        """End the transport of a row for a fault of ours."""
        if (endpoint := self._by_row.get(row)) is not None:
            self._end_faulty(endpoint, fault)

    def _end_faulty(self, endpoint: Endpoint, fault: Exception) -> None:
        self.faults += 1
        log.error("transport_fault", transport=endpoint.id, exc_info=fault)
        self._close(endpoint.id, "internal_error")

    def _apply(self, endpoint: Endpoint, events: Iterable[PeerEvent]) -> None:
        for event in events:
            match event:
                case Transmit(datagram, destination):
                    self._forwarder.send(datagram, destination)
                case AddressValidated(address):
                    self._forwarder.bind_address(endpoint.row, address)
                case AddressForgotten(address):
                    self._forwarder.unbind_address(endpoint.row, address)
                case Nominated(address):
                    self._forwarder.send_to(endpoint.row, address)
                case Secured(keys):
                    self._forwarder.set_keys(endpoint.row, keys)
                    self._answer_checks(endpoint)
                    self._tell(Connected(endpoint.id))
                case ChannelOpened() | ChannelMessage() | ChannelClosed():
                    self._channels.take(endpoint.id, event)
                case Closed(reason):
                    self._close(endpoint.id, reason.value)
                    return
        if endpoint.ufrags != endpoint.peer.local_ufrags:
            self.index_ufrags(endpoint)
        self._set_timer(endpoint)

    # -- data channels -----------------------------------------------------------------------------------------------

    def send_message(self, transport: TransportId, stream: int, message: bytes, key: str | None) -> None:
        """Send text on a data channel, if it is still there."""
        if (endpoint := self.by_id.get(transport)) is not None:
            self._guarded(endpoint, endpoint.peer.send_message, stream, message, key)

    def buffered(self, transport: TransportId) -> int:
        """Return how many bytes of messages on data channels have not arrived yet."""
        endpoint = self.by_id.get(transport)
        return 0 if endpoint is None else endpoint.peer.buffered

    def close_channel(self, transport: TransportId, stream: int, reason: str) -> None:
        """Close a data channel, if it is still there."""
        if (endpoint := self.by_id.get(transport)) is not None:
            self._guarded(endpoint, endpoint.peer.close_channel, stream, reason)

    # -- time --------------------------------------------------------------------------------------------------------

    def next_timer_ns(self) -> int:
        """When `run_timers` wants to be called (monotonic ns)."""
        return self.timers[0][0] if self.timers else FOREVER

    def run_timers(self, now_ns: int) -> None:
        """Tell the time to the engines that asked for it."""
        while self.timers and self.timers[0][0] <= now_ns:
            deadline_ns, transport = heapq.heappop(self.timers)
            endpoint = self.by_id.get(transport)
            if endpoint is None or endpoint.timer_ns != deadline_ns:
                continue
            endpoint.timer_ns = FOREVER
            self._guarded(endpoint, self._events_due, endpoint)

    def _set_timer(self, endpoint: Endpoint) -> None:
        # Entries are lazy: one that comes too early looks again, so only an earlier deadline needs a new entry.
        deadline_ns = endpoint.peer.deadline_ns()
        if deadline_ns < endpoint.timer_ns:
            endpoint.timer_ns = deadline_ns
            heapq.heappush(self.timers, (deadline_ns, endpoint.id))
            if self.timers[0][1] == endpoint.id:
                self._wake()

    def _events_due(self, endpoint: Endpoint, now_ns: int) -> list[PeerEvent]:
        last_media_ns = self._forwarder.last_media_ns(endpoint.row)
        if last_media_ns:
            endpoint.peer.saw_media(last_media_ns)
        return endpoint.peer.handle_timeout(now_ns) if endpoint.peer.deadline_ns() <= now_ns else []

    def counters(self) -> dict[str, int]:
        """Count the transports, and what their engines and those of ended ones saw."""
        peers, data = Counter(self._ended), Counter(self._ended_data)
        for endpoint in self.by_id.values():
            peers.update(endpoint.peer.counters())
            data.update(endpoint.peer.data_counters())
        return {
            **data,
            "data_channels": len(self._channels),
            **{f"peer_{name}": count for name, count in {**peers, **self._strays}.items()},
            "transports": len(self.by_id),
        }
