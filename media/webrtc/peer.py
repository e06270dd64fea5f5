"""The server's side of one WebRTC endpoint: ICE-lite, DTLS, consent. Sans-IO: datagrams and time in, events out.

Rules worth knowing: only an address that passed an authenticated check may do DTLS; media goes to the address nominated
last; what cannot be authenticated is dropped without an answer (RFC 8445, RFC 7675, RFC 8827).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from media.webrtc import stun
from media.webrtc.certificate import Certificate
from media.webrtc.dtls import NEVER_NS, Dtls, DtlsRole, DtlsState, Fingerprint
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.srtp import SrtpKeys

SECOND_NS = 1_000_000_000
CONSENT_NS = 30 * SECOND_NS  # RFC 7675 section 5.1; FFmpeg checks once or twice in 5 s, media counts as well
HALF_OPEN_NS = 30 * SECOND_NS  # an answered offer whose client never comes holds its rows no longer than this
MAX_ADDRESSES = 16  # a roaming phone has a few; each one is a row in the address table


class CloseReason(Enum):
    """Why a peer ended by itself."""

    CLOSED_BY_PEER = "closed_by_peer"
    CONSENT_EXPIRED = "consent_expired"
    NEVER_CAME = "never_came"
    DTLS_FAILED = "dtls_failed"
    DTLS_TIMEOUT = "dtls_timeout"


class Drop(Enum):
    """Why a datagram had no effect."""

    NOT_STUN = "not_stun"
    NOT_A_REQUEST = "not_a_request"
    WRONG_USERNAME = "wrong_username"
    WRONG_PASSWORD = "wrong_password"
    ADDRESS_NOT_VALIDATED = "address_not_validated"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send `datagram` to `destination`."""

    datagram: bytes
    destination: Address


@dataclass(frozen=True, slots=True)
class AddressValidated:
    """Datagrams from `address` belong to this peer from now on."""

    address: Address


@dataclass(frozen=True, slots=True)
class AddressForgotten:
    """Datagrams from `address` no longer belong to this peer."""

    address: Address


@dataclass(frozen=True, slots=True)
class Nominated:
    """Send media to `address` from now on."""

    address: Address


@dataclass(frozen=True, slots=True)
class Secured:
    """The handshake is done and the certificate is the promised one."""

    keys: SrtpKeys


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer ended; it does nothing any more."""

    reason: CloseReason


PeerEvent = Transmit | AddressValidated | AddressForgotten | Nominated | Secured | Closed


class Peer:
    """One endpoint. `remote` are the credentials of its offer, `local` those of our answer."""

    def __init__(
        self,
        *,
        certificate: Certificate,
        local: IceCredentials,
        remote: IceCredentials,
        fingerprints: Sequence[Fingerprint],
        dtls_role: DtlsRole,
        now_ns: int,
    ) -> None:
        self.local, self.remote = local, remote
        self._restart: tuple[IceCredentials, IceCredentials] | None = None
        self._dtls = Dtls(certificate, dtls_role, fingerprints)
        self._addresses: OrderedDict[Address, None] = OrderedDict()  # least recently checked first
        self._path: Address | None = None
        self._is_nominated = False
        self._opened_ns = now_ns
        self._heard_ns = now_ns
        self._dtls_due_ns = NEVER_NS
        self._is_closed = False
        self.drops: Counter[Drop] = Counter()

    @property
    def local_ufrags(self) -> tuple[str, ...]:
        """Every ufrag of ours under which checks may arrive now."""
        return (self.local.ufrag,) if self._restart is None else (self.local.ufrag, self._restart[0].ufrag)

    @property
    def is_secured(self) -> bool:
        """Whether SRTP keys exist."""
        return self._dtls.state is DtlsState.SECURED

    def receive_untrusted(self, datagram: bytes, source: Address, now_ns: int) -> list[PeerEvent]:
        """Take one STUN or DTLS datagram."""
        if self._is_closed:
            return self._dropped(Drop.CLOSED)
        if datagram and datagram[0] < 4:
            return self._receive_check(datagram, source, now_ns)
        if source not in self._addresses:
            return self._dropped(Drop.ADDRESS_NOT_VALIDATED)
        return self._after_dtls(self._dtls.receive_untrusted(datagram, now_ns), source, now_ns)

    def saw_media(self, now_ns: int) -> None:
        """Count an authenticated media packet as a sign of life."""
        self._heard_ns = max(self._heard_ns, now_ns)

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        if self._is_closed:
            return NEVER_NS
        if not self.is_secured:
            return min(self._opened_ns + HALF_OPEN_NS, self._dtls_due_ns)
        return self._heard_ns + CONSENT_NS

    def handle_timeout(self, now_ns: int) -> list[PeerEvent]:
        """Repeat handshake flights, and end what never came or went silent."""
        if self._is_closed:
            return []
        if self.is_secured:
            return self._end(CloseReason.CONSENT_EXPIRED) if now_ns >= self._heard_ns + CONSENT_NS else []
        if now_ns >= self._opened_ns + HALF_OPEN_NS:
            return self._end(CloseReason.DTLS_TIMEOUT if self._addresses else CloseReason.NEVER_CAME)
        if now_ns < self._dtls_due_ns or self._path is None:
            return []
        return self._after_dtls(self._dtls.handle_timeout(), self._path, now_ns)

    def restart_ice(self, remote: IceCredentials) -> IceCredentials:
        """Accept new credentials beside the old, which serve until the first valid check on the new (RFC 8445 2.4)."""
        local = IceCredentials.random()
        self._restart = (local, remote)
        return local

    def close(self) -> list[PeerEvent]:
        """Revoke consent: say close_notify and answer nothing any more."""
        if self._is_closed:
            return []
        self._is_closed = True
        farewell = self._dtls.close()
        return [Transmit(datagram, self._path) for datagram in farewell] if self._path else []

    def _receive_check(self, datagram: bytes, source: Address, now_ns: int) -> list[PeerEvent]:
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
            return [Transmit(answer, source)]
        if credentials is not self.local:
            self._adopt_restart()
        self._heard_ns = max(self._heard_ns, now_ns)
        answer = stun.success_response(check.transaction, source, credentials.password)
        return [Transmit(answer, source), *self._validate(source, check.nominates, now_ns)]

    def _credentials_for(self, username: str | None) -> IceCredentials | None:
        if username == f"{self.local.ufrag}:{self.remote.ufrag}":
            return self.local
        if self._restart and username == f"{self._restart[0].ufrag}:{self._restart[1].ufrag}":
            return self._restart[0]
        return None

    def _adopt_restart(self) -> None:
        assert self._restart is not None
        self.local, self.remote = self._restart
        self._restart = None
        self._is_nominated = False

    def _validate(self, source: Address, nominates: bool, now_ns: int) -> list[PeerEvent]:
        events: list[PeerEvent] = []
        if source not in self._addresses:
            self._addresses[source] = None
            events.append(AddressValidated(source))
            events += self._forget_oldest()
        self._addresses.move_to_end(source)
        # Before a nomination the first validated address carries DTLS: browsers nominate 60 ms after their hello.
        if self._path is None or (nominates and self._path != source) or not (nominates or self._is_nominated):
            self._path = source
            events.append(Nominated(source))
        self._is_nominated |= nominates
        if not self._dtls.has_begun:
            events += self._after_dtls(self._dtls.start(), source, now_ns)
        return events

    def _forget_oldest(self) -> list[PeerEvent]:
        if len(self._addresses) <= MAX_ADDRESSES:
            return []
        oldest = next(address for address in self._addresses if address != self._path)
        del self._addresses[oldest]
        return [AddressForgotten(oldest)]

    def _after_dtls(self, datagrams: list[bytes], destination: Address, now_ns: int) -> list[PeerEvent]:
        events: list[PeerEvent] = [Transmit(datagram, destination) for datagram in datagrams]
        self._dtls_due_ns = self._dtls.deadline_ns(now_ns)
        if self._dtls.state is DtlsState.FAILED:
            return events + self._end(CloseReason.DTLS_FAILED)
        if self._dtls.state is DtlsState.CLOSED:
            return events + self._end(CloseReason.CLOSED_BY_PEER)
        if self._dtls.keys is not None:
            events.append(Secured(self._dtls.keys))
            self._dtls.keys = None
            self._heard_ns = now_ns
        return events

    def _end(self, reason: CloseReason) -> list[PeerEvent]:
        return [*self.close(), Closed(reason)]

    def _dropped(self, reason: Drop) -> list[PeerEvent]:
        self.drops[reason] += 1
        return []
