"""The server's side of one WebRTC endpoint: ICE-lite, DTLS, consent, data. Sans-IO: datagrams and time in, events out.

Rules worth knowing: only an address that passed an authenticated check may do DTLS; media goes to the address nominated
last; what cannot be authenticated is dropped without an answer (RFC 8445, RFC 7675, RFC 8827).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence

from media.webrtc import stun
from media.webrtc.certificate import Certificate
from media.webrtc.data_channel import ChannelEvent
from media.webrtc.data_section import DataOffer
from media.webrtc.data_transport import DataTransport
from media.webrtc.dtls import NEVER_NS, Dtls, DtlsRole, DtlsState, Fingerprint
from media.webrtc.events import (
    AddressForgotten,
    AddressValidated,
    Closed,
    CloseReason,
    Drop,
    Nominated,
    PeerEvent,
    Secured,
    Transmit,
)
from media.webrtc.ice import Address, IceCredentials, Path

__all__ = [
    "PEER_COUNTERS",
    "AddressForgotten",
    "AddressValidated",
    "CloseReason",
    "Closed",
    "Drop",
    "Nominated",
    "Peer",
    "PeerEvent",
    "Secured",
    "Transmit",
]

SECOND_NS = 1_000_000_000
CONSENT_NS = 30 * SECOND_NS  # RFC 7675 section 5.1; FFmpeg checks once or twice in 5 s, media counts as well
HALF_OPEN_NS = 30 * SECOND_NS  # an answered offer whose client never comes holds its rows no longer than this
PEER_COUNTERS = (*(reason.value for reason in Drop), "handshakes", "repeated_flights")
MAX_ADDRESSES = 16  # a roaming phone has a few; each one is a row in the address table


class Peer:
    """One endpoint. `remote` are the credentials of its offer, `local` those of our answer; times are monotonic ns.

    Of data channels, where it offered `data`, it may open those with one of `labels`.

    `drops` counts the datagrams that had no effect, by reason.
    """

    def __init__(
        self,
        *,
        certificate: Certificate,
        local: IceCredentials,
        remote: IceCredentials,
        fingerprints: Sequence[Fingerprint],
        dtls_role: DtlsRole,
        now_ns: int,
        data: DataOffer | None = None,
        labels: Collection[str] = (),
    ) -> None:
        self.local, self.remote = local, remote
        self._restart: tuple[IceCredentials, IceCredentials] | None = None
        self._dtls = Dtls(certificate, dtls_role, fingerprints)
        self._dtls_role, self._data_offer, self._labels = dtls_role, data, labels
        self._data: DataTransport | None = None
        self._addresses: OrderedDict[Path, int] = OrderedDict()  # when each was validated, least recently first
        self._path: Path | None = None  # where media goes
        self._dtls_address: Path | None = None  # where the handshake happens
        self._is_nominated = False
        self._due_by_ns = now_ns + HALF_OPEN_NS
        self._heard_ns = now_ns
        self._is_closed = False
        self.is_secured = False
        self.drops: Counter[Drop] = Counter()

    @property
    def local_ufrags(self) -> tuple[str, ...]:
        """Every ufrag of ours under which checks may arrive now."""
        return (self.local.ufrag,) if self._restart is None else (self.local.ufrag, self._restart[0].ufrag)

    def counters(self) -> dict[str, int]:
        """Everything counted here: datagrams dropped by reason, handshakes begun, flights repeated on request."""
        counted = {reason.value: self.drops[reason] for reason in Drop}
        handshake = {"handshakes": self._dtls.attempts, "repeated_flights": self._dtls.repeated_flights}
        return counted | handshake

    def receive_untrusted(
        self, datagram: bytes, source: Path, now_ns: int, *, seen_as: Address | None = None
    ) -> list[PeerEvent]:
        """Take one STUN or DTLS datagram; of one that was carried here `seen_as` is where it came from."""
        if self._is_closed:
            return self._dropped(Drop.CLOSED)
        first = datagram[0] if datagram else 255
        if first < 4:
            return self._receive_check(datagram, source, seen_as or (source[0], source[1]), now_ns)
        if not 20 <= first < 64:
            return self._dropped(Drop.NOT_OURS)
        if source not in self._addresses:
            return self._dropped(Drop.ADDRESS_NOT_VALIDATED)
        return self._receive_dtls(datagram, source, now_ns)

    def saw_media(self, now_ns: int) -> None:
        """Count an authenticated media packet as a sign of life."""
        self._heard_ns = max(self._heard_ns, now_ns)

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        if self._is_closed:
            return NEVER_NS
        if self.is_secured:
            return min(self._heard_ns + CONSENT_NS, self._data.deadline_ns() if self._data else NEVER_NS)
        return min(self._due_by_ns, self._dtls.deadline_ns())

    def handle_timeout(self, now_ns: int) -> list[PeerEvent]:
        """Repeat handshake flights, and end what never came or went silent."""
        if self._is_closed:
            return []
        if self.is_secured:
            return self._handle_secured_timeout(now_ns)
        if now_ns >= self._due_by_ns:
            return self._end(CloseReason.DTLS_TIMEOUT if self._addresses else CloseReason.NEVER_CAME)
        destination = self._dtls_address or self._path
        return self._after_dtls(self._dtls.handle_timeout(now_ns), destination, now_ns) if destination else []

    def send_message(self, stream: int, data: bytes, key: str | None, now_ns: int) -> list[PeerEvent]:
        """Send text on a data channel; of messages that wait under one key only the newest goes."""
        if self._data is None or self._is_closed:
            return []
        return self._with_data(self._data.channels.send(stream, data, key=key), now_ns)

    @property
    def buffered(self) -> int:
        """How many bytes of messages on data channels have not arrived yet."""
        return 0 if self._data is None else self._data.channels.buffered

    def close_channel(self, stream: int, reason: str, now_ns: int) -> list[PeerEvent]:
        """Close a data channel; the transport goes on."""
        if self._data is None or self._is_closed:
            return []
        return self._with_data(self._data.channels.close(stream, reason), now_ns)

    def data_counters(self) -> dict[str, int]:
        """Count what became of data channels, by DATA_COUNTERS."""
        return {} if self._data is None else self._data.channels.counters()

    def restart_ice(self, remote: IceCredentials) -> IceCredentials:
        """Accept new credentials beside the old, which serve until the first valid check on the new (RFC 9725 4.3.3).

        A second restart before that replaces the first.
        """
        local = IceCredentials.random()
        self._restart = (local, remote)
        return local

    def lose(self, address: Path) -> list[PeerEvent]:
        """Forget an address that ended, as connections do; media has nowhere to go until the next check."""
        if self._addresses.pop(address, None) is None:
            return []
        if address == self._path:
            self._path, self._is_nominated = None, False
        if address == self._dtls_address:
            self._dtls_address = None
        return [AddressForgotten(address)]

    def close(self) -> list[PeerEvent]:
        """Revoke consent: say close_notify and answer nothing any more."""
        if self._is_closed:
            return []
        self._is_closed = True
        farewell = self._dtls.close()
        return [Transmit(datagram, self._path) for datagram in farewell] if self._path else []

    def _receive_check(self, datagram: bytes, source: Path, seen_as: Address, now_ns: int) -> list[PeerEvent]:
        check = stun.parse_untrusted(datagram)
        if check is None:
            return self._dropped(Drop.NOT_STUN)
        if check.method is not stun.Method.REQUEST:
            return self._dropped(Drop.NOT_A_REQUEST)
        credentials = self._credentials_for(check.username)
        if credentials is None:
            return self._dropped(Drop.WRONG_USERNAME)
        if not check.is_authentic(credentials.password):
            return self._dropped(Drop.WRONG_PASSWORD)
        if check.unknown_required:
            answer = stun.unknown_attribute_response(check.transaction, check.unknown_required, credentials.password)
            return [*self._dropped(Drop.UNKNOWN_ATTRIBUTE), Transmit(answer, source)]
        if credentials is not self.local:
            self._adopt_restart()
        self._heard_ns = max(self._heard_ns, now_ns)
        answer = stun.success_response(check.transaction, seen_as, credentials.password)
        return [Transmit(answer, source), *self._validate(source, check.nominates, now_ns)]

    def _credentials_for(self, username: str | None) -> IceCredentials | None:
        if username == f"{self.local.ufrag}:{self.remote.ufrag}":
            return self.local
        if self._restart and username == f"{self._restart[0].ufrag}:{self._restart[1].ufrag}":
            return self._restart[0]
        return None

    def _adopt_restart(self) -> None:
        # The path stays until the new session nominates one (RFC 8445 section 9).
        assert self._restart is not None
        self.local, self.remote = self._restart
        self._restart = None

    def _validate(self, source: Path, nominates: bool, now_ns: int) -> list[PeerEvent]:
        events: list[PeerEvent] = []
        if source not in self._addresses:
            events.append(AddressValidated(source))
            if not self._addresses:
                self._due_by_ns = now_ns + HALF_OPEN_NS  # from here on it is the handshake that is awaited
        self._addresses[source] = now_ns
        self._addresses.move_to_end(source)
        if self._path is None or nominates:
            self._is_nominated |= nominates
            if self._path is not None and self._path != source:
                # What is on its way from there still counts; its checks may have been answered without our hearing.
                self._addresses[self._path] = now_ns
                self._addresses.move_to_end(self._path)
            events += self._move_path(source)
        # Browsers nominate 60 ms after their first hello: DTLS never waits for it.
        events += self._after_dtls(self._dtls.start(now_ns), source, now_ns)
        return events + self._forget_stale(now_ns)

    def _move_path(self, address: Path) -> list[PeerEvent]:
        if address == self._path:
            return []
        self._path = address
        return [Nominated(address)]

    def _forget_stale(self, now_ns: int) -> list[PeerEvent]:
        # An address that lost consent may belong to somebody else by now; one in use never goes.
        forgotten: list[PeerEvent] = []
        for address, validated_ns in tuple(self._addresses.items()):
            if len(self._addresses) <= MAX_ADDRESSES and now_ns < validated_ns + CONSENT_NS:
                break
            if address != self._path:
                del self._addresses[address]
                forgotten.append(AddressForgotten(address))
        return forgotten

    def _receive_dtls(self, datagram: bytes, source: Path, now_ns: int) -> list[PeerEvent]:
        junk_before = self._dtls.junk_datagrams
        answer = self._dtls.receive_untrusted(datagram, now_ns)
        if self._dtls.junk_datagrams > junk_before:
            return self._dropped(Drop.NOT_DTLS)
        self._dtls_address = source
        return self._after_dtls(answer, source, now_ns)

    def _after_dtls(self, datagrams: list[bytes], destination: Path, now_ns: int) -> list[PeerEvent]:
        events: list[PeerEvent] = [Transmit(datagram, destination) for datagram in datagrams]
        match self._dtls.state:
            case DtlsState.FAILED:
                return events + self._end(CloseReason.DTLS_FAILED)
            case DtlsState.CLOSED:
                return events + self._end(CloseReason.CLOSED_BY_PEER)
        if self._dtls.keys is not None and not self.is_secured:
            self.is_secured = True
            self._heard_ns = max(self._heard_ns, now_ns)
            # Without a nomination so far, the address that proved itself by the handshake is the one to use.
            events += [] if self._is_nominated else self._move_path(destination)
            events.append(Secured(self._dtls.keys))
            if self._data_offer is not None:
                self._data = DataTransport(self._dtls, self._dtls_role, self._data_offer, self._labels, now_ns)
        records = self._dtls.take_data()
        if self._data is not None and records:
            events += self._with_data(self._data.receive(records, now_ns), now_ns)
        return events

    def _handle_secured_timeout(self, now_ns: int) -> list[PeerEvent]:
        if now_ns >= self._heard_ns + CONSENT_NS:
            return self._end(CloseReason.CONSENT_EXPIRED)
        return [] if self._data is None else self._with_data(self._data.handle_timeout(now_ns), now_ns)

    def _with_data(self, told: list[ChannelEvent], now_ns: int) -> list[PeerEvent]:
        """Send what data channels have to send now; without a path it is lost, and sent again later."""
        assert self._data is not None
        datagrams, path = self._data.take_datagrams(now_ns), self._path or self._dtls_address
        return [*told, *(Transmit(datagram, path) for datagram in datagrams if path is not None)]

    def _end(self, reason: CloseReason) -> list[PeerEvent]:
        return [*self.close(), Closed(reason)]

    def _dropped(self, reason: Drop) -> list[PeerEvent]:
        self.drops[reason] += 1
        return []
