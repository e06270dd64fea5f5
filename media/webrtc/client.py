"""The other side of a WebRTC endpoint: a controlling ICE agent with one server address. Sans-IO.

Used by the demo streamer, the load tools and the tests; thousands fit into one process. It has one candidate pair, and
nominates it with each check (RFC 8445 section 8.1.1); a server that is a full agent gets its own checks answered.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Sequence

from media.webrtc import stun
from media.webrtc.certificate import Certificate
from media.webrtc.data_channel import ChannelEvent
from media.webrtc.data_section import DataOffer
from media.webrtc.data_transport import DataTransport
from media.webrtc.dcep import Opening
from media.webrtc.dtls import NEVER_NS, Dtls, DtlsRole, DtlsState, Fingerprint
from media.webrtc.events import Closed, CloseReason, PeerEvent, Secured, Transmit
from media.webrtc.ice import Address, IceCredentials

MILLISECOND_NS = 1_000_000
FIRST_PAUSE_NS = 50 * MILLISECOND_NS  # RFC 8445's Ta: a server on a good path is reached at once
LAST_PAUSE_NS = 500 * MILLISECOND_NS  # RFC 8489's RTO
CONSENT_CHECK_NS = 2_500 * MILLISECOND_NS  # as Chromium; each is a new transaction, up to a fifth early or late
CONSENT_NS = 30_000 * MILLISECOND_NS  # RFC 7675 section 5.1
SETUP_NS = 30_000 * MILLISECOND_NS  # as long as the server keeps what never connects
MAX_UNANSWERED = 64  # transactions remembered: what half a minute of unanswered checks makes
HOST_PRIORITY = 2_130_706_431  # RFC 8445 section 5.1.2.1, type preference 126


class ClientPeer:
    """One client. `remote` are the credentials of the server's answer, `local` those of our offer.

    Its events are those of `Peer`, without the ones about addresses. Times are monotonic ns. With `data`, what the
    answer says of data channels, it can open some.
    """

    def __init__(
        self,
        *,
        certificate: Certificate,
        local: IceCredentials,
        remote: IceCredentials,
        fingerprints: Sequence[Fingerprint],
        dtls_role: DtlsRole,
        remote_address: Address,
        now_ns: int,
        data: DataOffer | None = None,
    ) -> None:
        self.local, self.remote = local, remote
        self._address = remote_address
        self._dtls = Dtls(certificate, dtls_role, fingerprints)
        self._dtls_role, self._data_offer = dtls_role, data
        self._data: DataTransport | None = None
        self._checks = 0
        self._unanswered: deque[bytes] = deque(maxlen=MAX_UNANSWERED)
        self._pause_ns = FIRST_PAUSE_NS
        self._check_due_ns = now_ns
        self._due_by_ns = now_ns + SETUP_NS
        self._heard_ns = now_ns
        self._is_closed = False
        self.is_connected = False
        self.is_secured = False

    def start(self, now_ns: int) -> list[PeerEvent]:
        """Send the first connectivity check."""
        return [] if self._is_closed else [self._check(now_ns)]

    def receive_untrusted(self, datagram: bytes, now_ns: int) -> list[PeerEvent]:
        """Take one STUN or DTLS datagram from the server's address."""
        if self._is_closed or not datagram:
            return []
        if 20 <= datagram[0] < 64:
            flight = self._dtls.receive_untrusted(datagram, now_ns) if self.is_connected else []
            return self._after_dtls(flight, now_ns)
        answer = stun.parse_untrusted(datagram)
        if answer is not None and answer.method is stun.Method.REQUEST:
            return self._answer_check(answer)
        if answer is None or answer.method is not stun.Method.SUCCESS or answer.mapped_address is None:
            return []
        if answer.transaction not in self._unanswered or not answer.is_authentic(self.remote.password):
            return []
        return self._hear(now_ns)

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        if self._is_closed:
            return NEVER_NS
        data_ns = self._data.deadline_ns() if self._data else NEVER_NS
        return min(self._check_due_ns, self._dtls.deadline_ns(), self._gives_up_ns(), data_ns)

    def handle_timeout(self, now_ns: int) -> list[PeerEvent]:
        """Repeat checks and handshake flights; end when the server never answered, or fell silent."""
        if self._is_closed:
            return []
        if now_ns >= self._gives_up_ns():
            return self._end(self._why_given_up())
        checks: list[PeerEvent] = [self._check(now_ns)] if now_ns >= self._check_due_ns else []
        events = checks + self._after_dtls(self._dtls.handle_timeout(now_ns), now_ns)
        return events if self._data is None else events + self._with_data(self._data.handle_timeout(now_ns), now_ns)

    def open_channel(self, label: str, now_ns: int, stream: int | None = None) -> list[PeerEvent]:
        """Open a data channel, by default the first that is ours to open; it can be sent on at once."""
        assert self._data is not None, "the answer has no data channels, or is not connected yet"
        self._data.channels.open(self._data.next_stream if stream is None else stream, Opening(label))
        return self._with_data([], now_ns)

    def send_message(self, data: bytes, now_ns: int, stream: int | None = None) -> list[PeerEvent]:
        """Send text on a data channel, by default the first that is ours to open."""
        assert self._data is not None
        on = self._data.next_stream if stream is None else stream
        return self._with_data(self._data.channels.send(on, data), now_ns)

    def restart_ice(self, local: IceCredentials, remote: IceCredentials, now_ns: int) -> list[PeerEvent]:
        """Check again under new credentials; DTLS and SRTP go on."""
        if self._is_closed:
            return []
        self.local, self.remote = local, remote
        self._unanswered.clear()
        self._pause_ns = FIRST_PAUSE_NS
        return [self._check(now_ns)]

    def close(self) -> list[PeerEvent]:
        """Say close_notify, and stop checking."""
        if self._is_closed:
            return []
        self._is_closed = True
        return [Transmit(datagram, self._address) for datagram in self._dtls.close()]

    def _hear(self, now_ns: int) -> list[PeerEvent]:
        self._unanswered.clear()
        self._heard_ns = now_ns
        self._pause_ns = CONSENT_CHECK_NS
        self._check_due_ns = now_ns + self._spread(CONSENT_CHECK_NS)
        if not self.is_connected:
            self.is_connected = True
            self._due_by_ns = now_ns + SETUP_NS  # from here on it is the handshake that is awaited
        return self._after_dtls(self._dtls.start(now_ns), now_ns)

    def _answer_check(self, check: stun.Binding) -> list[PeerEvent]:
        # A full ICE agent sends nothing on a pair that it has not checked itself (RFC 8445 section 7.3.1.4).
        ours = check.username == f"{self.local.ufrag}:{self.remote.ufrag}"
        if not ours or not check.is_authentic(self.local.password):
            return []
        return [Transmit(stun.success_response(check.transaction, self._address, self.local.password), self._address)]

    def _check(self, now_ns: int) -> Transmit:
        self._checks += 1
        transaction = self._derived(b"transaction", self._checks)[:12]
        self._unanswered.append(transaction)
        self._check_due_ns = now_ns + self._pause_ns
        if self._pause_ns < LAST_PAUSE_NS:
            self._pause_ns = min(2 * self._pause_ns, LAST_PAUSE_NS)
        request = stun.binding_request(
            transaction,
            f"{self.remote.ufrag}:{self.local.ufrag}",
            self.remote.password,
            priority=HOST_PRIORITY,
            tie_breaker=int.from_bytes(self._derived(b"tie-breaker", 0)[:8]),
            nominates=True,
        )
        return Transmit(request, self._address)

    def _derived(self, purpose: bytes, number: int) -> bytes:
        # Unpredictable to outsiders as RFC 8489 section 5 asks, and yet decided by the credentials alone.
        return hmac.digest(self.local.password.encode(), purpose + number.to_bytes(8), "sha256")

    def _spread(self, interval_ns: int) -> int:
        # 0.8 to 1.2 of the interval (RFC 7675 section 5.1), so that thousands of clients do not check in step.
        return interval_ns * (205 + self._derived(b"spread", self._checks)[0] * 102 // 255) // 256

    def _gives_up_ns(self) -> int:
        return self._heard_ns + CONSENT_NS if self.is_secured else self._due_by_ns

    def _why_given_up(self) -> CloseReason:
        if self.is_secured:
            return CloseReason.CONSENT_EXPIRED
        return CloseReason.DTLS_TIMEOUT if self.is_connected else CloseReason.NEVER_CAME

    def _after_dtls(self, datagrams: list[bytes], now_ns: int) -> list[PeerEvent]:
        events: list[PeerEvent] = [Transmit(datagram, self._address) for datagram in datagrams]
        match self._dtls.state:
            case DtlsState.FAILED:
                return events + self._end(CloseReason.DTLS_FAILED)
            case DtlsState.CLOSED:
                return events + self._end(CloseReason.CLOSED_BY_PEER)
        if self._dtls.keys is not None and not self.is_secured:
            self.is_secured = True
            events.append(Secured(self._dtls.keys))
            if self._data_offer is not None:
                self._data = DataTransport(self._dtls, self._dtls_role, self._data_offer, (), now_ns, begins=True)
                events += self._with_data([], now_ns)
        records = self._dtls.take_data()
        if self._data is not None and records:
            events += self._with_data(self._data.receive(records, now_ns), now_ns)
        return events

    def _with_data(self, told: list[ChannelEvent], now_ns: int) -> list[PeerEvent]:
        assert self._data is not None
        return [*told, *(Transmit(datagram, self._address) for datagram in self._data.take_datagrams(now_ns))]

    def _end(self, reason: CloseReason) -> list[PeerEvent]:
        return [*self.close(), Closed(reason)]
