"""The other side of a WebRTC endpoint: a controlling ICE agent with one server address. Sans-IO.

Used by the demo streamer, the load tools and the tests; thousands fit into one process.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from media.webrtc import stun
from media.webrtc.certificate import Certificate
from media.webrtc.dtls import NEVER_NS, Dtls, DtlsRole, DtlsState, Fingerprint
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.peer import Closed, CloseReason, PeerEvent, Secured, Transmit

MILLISECOND_NS = 1_000_000
FIRST_CHECKS_NS = 50 * MILLISECOND_NS  # between checks until one is answered
CONSENT_CHECK_NS = 2_500 * MILLISECOND_NS  # as Chromium; the server's limit is 30 s (RFC 7675)
GIVE_UP_NS = 15_000 * MILLISECOND_NS
HOST_PRIORITY = 2_130_706_431  # RFC 8445 section 5.1.2.1, type preference 126


class ClientPeer:
    """One client. `remote` are the credentials of the server's answer, `local` those of our offer."""

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
    ) -> None:
        self.local, self.remote = local, remote
        self._address = remote_address
        self._dtls = Dtls(certificate, dtls_role, fingerprints)
        self._tie_breaker = secrets.randbits(64)
        self._transactions: set[bytes] = set()
        self._opened_ns = self._heard_ns = now_ns
        self._check_due_ns = now_ns
        self._dtls_due_ns = NEVER_NS
        self._is_closed = False
        self.is_connected = False

    @property
    def is_secured(self) -> bool:
        """Whether SRTP keys exist."""
        return self._dtls.state is DtlsState.SECURED

    def start(self, now_ns: int) -> list[PeerEvent]:
        """Send the first connectivity check."""
        return [self._check(now_ns)]

    def receive_untrusted(self, datagram: bytes, now_ns: int) -> list[PeerEvent]:
        """Take one STUN or DTLS datagram from the server."""
        if self._is_closed or not datagram:
            return []
        if datagram[0] >= 4:
            return self._after_dtls(self._dtls.receive_untrusted(datagram, now_ns), now_ns)
        answer = stun.parse_untrusted(datagram)
        if answer is None or answer.transaction not in self._transactions:
            return []
        if answer.method is not stun.Method.SUCCESS or not answer.is_authentic(self.remote.password):
            return []
        self._transactions.clear()
        self._heard_ns = now_ns
        self.is_connected = True
        self._check_due_ns = now_ns + CONSENT_CHECK_NS
        return self._after_dtls(self._dtls.start(), now_ns) if not self._dtls.has_begun else []

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        return NEVER_NS if self._is_closed else min(self._check_due_ns, self._dtls_due_ns)

    def handle_timeout(self, now_ns: int) -> list[PeerEvent]:
        """Repeat checks and handshake flights; give up on a server that is silent for 15 s."""
        if self._is_closed:
            return []
        if now_ns - self._heard_ns >= GIVE_UP_NS:
            return [*self.close(), Closed(CloseReason.CONSENT_EXPIRED)]
        events: list[PeerEvent] = []
        if now_ns >= self._check_due_ns:
            events.append(self._check(now_ns))
        if now_ns >= self._dtls_due_ns:
            events += self._after_dtls(self._dtls.handle_timeout(), now_ns)
        return events

    def restart_ice(self, local: IceCredentials, remote: IceCredentials, now_ns: int) -> list[PeerEvent]:
        """Check again under new credentials; DTLS and SRTP go on."""
        self.local, self.remote = local, remote
        self._transactions.clear()
        self.is_connected = False
        return [self._check(now_ns)]

    def close(self) -> list[PeerEvent]:
        """Say close_notify."""
        self._is_closed = True
        return [Transmit(datagram, self._address) for datagram in self._dtls.close()]

    def _check(self, now_ns: int) -> Transmit:
        transaction = secrets.token_bytes(12)
        self._transactions.add(transaction)
        self._check_due_ns = now_ns + (CONSENT_CHECK_NS if self.is_connected else FIRST_CHECKS_NS)
        request = stun.binding_request(
            transaction,
            f"{self.remote.ufrag}:{self.local.ufrag}",
            self.remote.password,
            priority=HOST_PRIORITY,
            tie_breaker=self._tie_breaker,
            nominates=True,
        )
        return Transmit(request, self._address)

    def _after_dtls(self, datagrams: list[bytes], now_ns: int) -> list[PeerEvent]:
        events: list[PeerEvent] = [Transmit(datagram, self._address) for datagram in datagrams]
        self._dtls_due_ns = self._dtls.deadline_ns(now_ns)
        if self._dtls.state in (DtlsState.FAILED, DtlsState.CLOSED):
            failed = self._dtls.state is DtlsState.FAILED
            return [*events, *self.close(), Closed(CloseReason.DTLS_FAILED if failed else CloseReason.CLOSED_BY_PEER)]
        if self._dtls.keys is not None:
            events.append(Secured(self._dtls.keys))
            self._dtls.keys = None
        return events
