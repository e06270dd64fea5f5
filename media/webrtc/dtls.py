"""One DTLS 1.2 association over pyOpenSSL's memory BIOs: datagrams in, datagrams and SRTP keys out (RFC 5764, 6347).

What it carries besides, packets of SCTP for data channels (RFC 8261), goes through `send` and `take_data`.

OpenSSL alone is not enough for an SFU. One spoofed plaintext record ends its handshake, a lost flight costs a second
although the client repeats its hello every 50 ms, and its timer reads the wall clock. So implausible records never
reach it, a handshake that failed starts anew, a repeated hello is answered with the same flight, and retransmission
runs on the caller's time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from OpenSSL import SSL, crypto

from media.webrtc.certificate import Certificate
from media.webrtc.dtls_records import (
    FROM_CLIENT,
    FROM_SERVER,
    HANDSHAKE,
    MTU,
    Record,
    is_plausible,
    pack,
    records_untrusted,
)
from media.webrtc.srtp import SrtpKeys, SrtpProfile

DTLS_1_2 = 0xFEFD  # pinned: 1.3 brings other records, timers and acknowledgements
MAX_ATTEMPTS = 8  # handshakes per transport: each costs about 0.5 ms, and a spoofer must not buy more
FIRST_REPEAT_NS = 400_000_000  # RFC 9147 section 5.8.2 for DTLS-SRTP
# As browsers do with theirs. FFmpeg takes our first for a sign to begin, and does not read it.
HELLO_REPEAT_NS = 50_000_000
LAST_REPEAT_NS = 6_400_000_000
MAX_REPEATS = 10  # more than fit into the half minute that a handshake may take
HELLO_ANSWER_NS = 40_000_000  # browsers repeat a hello after 50 ms; faster repetition is not theirs
STALE_NS = 3_000_000_000  # a client whose own handshake failed may start over after this much silence
RESTART_PAUSE_NS = 1_000_000_000  # our own pause before starting over as the client
NEVER_NS = 2**63 - 1

_HASHES = ("sha-512", "sha-384", "sha-256")  # best first


class DtlsRole(Enum):
    """Which side of the handshake we are."""

    SERVER = auto()
    CLIENT = auto()


class DtlsState(Enum):
    """Where an association stands; the last two are final."""

    HANDSHAKING = auto()
    SECURED = auto()
    CLOSED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A certificate fingerprint as offered in SDP (RFC 8122); `algorithm` in lower case, `digest` in raw bytes."""

    algorithm: str
    digest: bytes


class Dtls:
    """One association. All methods return the datagrams to send to the peer, each at most MTU bytes."""

    def __init__(self, certificate: Certificate, role: DtlsRole, fingerprints: Sequence[Fingerprint]) -> None:
        self._certificate, self._role, self._fingerprints = certificate, role, tuple(fingerprints)
        self._connection: SSL.Connection | None = None
        self._flight: list[bytes] = []  # what we said last, for repetition
        self._data: list[bytes] = []  # what was received since it was taken last
        self._hello_random: bytes | None = None
        self._clear_records = 0
        self._repeats = 0
        self._repeat_due_ns = NEVER_NS
        self._answered_ns = 0
        self._progress_ns = 0
        self.state = DtlsState.HANDSHAKING
        self.keys: SrtpKeys | None = None
        self.attempts = 0
        self.junk_datagrams = 0
        self.repeated_flights = 0

    @property
    def has_begun(self) -> bool:
        """Whether a handshake was ever started."""
        return self.attempts > 0

    def start(self, now_ns: int) -> list[bytes]:
        """Send the first hello when we are the client; the server waits."""
        if self._role is not DtlsRole.CLIENT or self.has_begun or self.state is not DtlsState.HANDSHAKING:
            return []
        return self._handshake(self._connect(), now_ns)

    def receive_untrusted(self, datagram: bytes, now_ns: int) -> list[bytes]:
        """Take one datagram from an address that ICE validated."""
        if self.state is DtlsState.SECURED:
            return self._receive_secured(datagram, now_ns)
        if self.state is not DtlsState.HANDSHAKING:
            return []
        expected = FROM_CLIENT if self._role is DtlsRole.SERVER else FROM_SERVER
        records = [record for record in records_untrusted(datagram) if is_plausible(record, expected)]
        if not records:
            self.junk_datagrams += 1
            return []
        hello = next((record for record in records if record.is_hello), None)
        if hello is not None and self._flight and not self._starts_over(hello, now_ns):
            return self._repeat_flight(now_ns)
        if self._connection is None and hello is None:
            return []  # left over from a handshake that failed
        if hello is not None:
            self._hello_random = hello.hello_random or self._hello_random
        self._progress_ns = now_ns
        connection = self._connection or self._connect()
        connection.bio_write(b"".join(self._numbered(record) for record in records))
        return self._handshake(connection, now_ns)

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        return self._repeat_due_ns if self.state is DtlsState.HANDSHAKING else NEVER_NS

    def handle_timeout(self, now_ns: int) -> list[bytes]:
        """Repeat a flight that was not answered in time, or start over as the client."""
        if now_ns < self.deadline_ns():
            return []
        if self._connection is None:
            return self._handshake(self._connect(), now_ns)
        # Once a second has really passed OpenSSL renumbers the records; until then the same bytes serve.
        with contextlib.suppress(SSL.Error):
            self._connection.DTLSv1_handle_timeout()
        self._flight = self._outgoing(self._connection) or self._flight
        self._repeats += 1
        self._schedule_repeat(now_ns)
        return list(self._flight)

    def send(self, data: bytes) -> list[bytes]:
        """Send application data, as one record in a datagram of its own; nothing before there are keys."""
        if self.state is not DtlsState.SECURED or self._connection is None:
            return []
        try:
            self._connection.send(data)
            return [record.raw for record in records_untrusted(self._connection.bio_read(65_536))]
        except SSL.Error:
            return []

    def take_data(self) -> list[bytes]:
        """Return the application data that was received, record by record."""
        data, self._data = self._data, []
        return data

    def close(self) -> list[bytes]:
        """Say close_notify; no keys are given out afterwards."""
        farewell = self._say_goodbye() if self.state is DtlsState.SECURED else []
        self.state, self._connection, self._flight = DtlsState.CLOSED, None, []
        return farewell

    def _connect(self) -> SSL.Connection:
        self.attempts += 1
        self._connection = SSL.Connection(_context(self._certificate, self._role), None)
        if self._role is DtlsRole.CLIENT:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        self._connection.set_ciphertext_mtu(MTU)
        return self._connection

    def _numbered(self, record: Record) -> bytes:
        # Anyone can write sequence numbers in the clear, and one far ahead would make OpenSSL take all that follow for
        # old. There is nothing to replay before the keys exist: messages carry numbers of their own.
        if record.epoch:
            return record.raw
        self._clear_records += 1
        return record.raw[:5] + self._clear_records.to_bytes(6) + record.raw[11:]

    def _handshake(self, connection: SSL.Connection, now_ns: int) -> list[bytes]:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            flight = self._outgoing(connection)
            if flight:
                self._flight, self._repeats, self._answered_ns = flight, 0, now_ns
                self._schedule_repeat(now_ns)
            return flight
        except SSL.Error:
            return self._start_over(connection, now_ns)
        flight = self._outgoing(connection)
        if not self._finish(connection):
            self.state = DtlsState.FAILED
            return flight + self._say_goodbye()
        self._flight, self._answered_ns = flight, now_ns
        return flight

    def _finish(self, connection: SSL.Connection) -> bool:
        # Keys exist only for the certificate that was promised in the offer (RFC 8827 section 6.5).
        profile = SrtpProfile.by_name(connection.get_selected_srtp_profile())
        certificate = connection.get_peer_certificate()
        if profile is None or certificate is None or not _is_promised(certificate, self._fingerprints):
            return False
        size = 2 * (profile.key_size + profile.salt_size)
        material = connection.export_keying_material(b"EXTRACTOR-dtls_srtp", size)
        self.keys = SrtpKeys.from_exported(profile, material, we_are_client=self._role is DtlsRole.CLIENT)
        self.state = DtlsState.SECURED
        return True

    def _start_over(self, connection: SSL.Connection, now_ns: int) -> list[bytes]:
        alert = self._outgoing(connection)
        has_answered = bool(self._flight)
        self._connection, self._flight, self._hello_random = None, [], None
        self._repeats = 0
        self._repeat_due_ns = now_ns + RESTART_PAUSE_NS if self._role is DtlsRole.CLIENT else NEVER_NS
        if self.attempts >= MAX_ATTEMPTS:
            self.state = DtlsState.FAILED
        # As long as nothing was answered, an honest client still waits for its first flight: an alert, provoked by
        # somebody else's broken hello, would end its handshake. Later its handshake is lost anyway, and it may know.
        return alert if has_answered or self.state is DtlsState.FAILED else []

    def _starts_over(self, hello: Record, now_ns: int) -> bool:
        is_new = hello.hello_random not in (None, self._hello_random)
        if not is_new or now_ns - self._progress_ns < STALE_NS or self.attempts >= MAX_ATTEMPTS:
            return False
        self._connection, self._flight = None, []
        return True

    def _schedule_repeat(self, now_ns: int) -> None:
        is_unheard = self._role is DtlsRole.CLIENT and not self._clear_records
        first_ns = HELLO_REPEAT_NS if is_unheard else FIRST_REPEAT_NS
        interval_ns = min(first_ns << self._repeats, LAST_REPEAT_NS)
        self._repeat_due_ns = now_ns + interval_ns if self._repeats < MAX_REPEATS else NEVER_NS

    def _repeat_flight(self, now_ns: int) -> list[bytes]:
        if now_ns - self._answered_ns < HELLO_ANSWER_NS:
            return []
        self._answered_ns = now_ns
        self.repeated_flights += 1
        return list(self._flight)

    def _receive_secured(self, datagram: bytes, now_ns: int) -> list[bytes]:
        records = [record for record in records_untrusted(datagram) if record.epoch]
        if not records:
            self.junk_datagrams += 1
            return []
        assert self._connection is not None
        self._connection.bio_write(b"".join(record.raw for record in records))
        try:
            while True:
                self._data.append(self._connection.recv(4096))
        except SSL.WantReadError:
            answer = self._outgoing(self._connection)
        except SSL.Error:
            # Only what the peer itself encrypted comes this far: its close_notify, or a fatal alert.
            self.state = DtlsState.CLOSED
            return self._say_goodbye()
        # A client that repeats its Finished has not seen ours; the same bytes again serve as well as new ones.
        missed_finish = self._role is DtlsRole.SERVER and any(record.kind == HANDSHAKE for record in records)
        return answer or (self._repeat_flight(now_ns) if missed_finish else [])

    def _say_goodbye(self) -> list[bytes]:
        if self._connection is None:
            return []
        connection, self._connection = self._connection, None
        with contextlib.suppress(SSL.Error):
            connection.shutdown()
        return self._outgoing(connection)

    def _outgoing(self, connection: SSL.Connection) -> list[bytes]:
        # The BIO has no datagram boundaries: cut at record headers, pack up to the MTU.
        try:
            return pack(records_untrusted(connection.bio_read(65_536)))
        except SSL.Error:
            return []


@functools.lru_cache(maxsize=8)
def _context(certificate: Certificate, role: DtlsRole) -> SSL.Context:
    # A context takes 0.3 ms to make and serves any number of connections.
    context = SSL.Context(SSL.DTLS_SERVER_METHOD if role is DtlsRole.SERVER else SSL.DTLS_CLIENT_METHOD)
    context.set_min_proto_version(DTLS_1_2)
    context.set_max_proto_version(DTLS_1_2)
    # Both OP_NO_QUERY_MTU and set_ciphertext_mtu are needed: with one alone OpenSSL falls back to 256 bytes, or sends
    # nothing at all.
    context.set_options(
        SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    context.set_tlsext_use_srtp(b":".join(profile.openssl_name for profile in SrtpProfile))
    # Any certificate is taken here; the fingerprint decides afterwards.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.use_certificate(certificate.cert)
    context.use_privatekey(certificate.key)
    return context


def _is_promised(certificate: crypto.X509, fingerprints: Sequence[Fingerprint]) -> bool:
    # Any of the fingerprints of the strongest offered hash may match (RFC 8122 section 5).
    for algorithm in _HASHES:
        offered = [fingerprint.digest for fingerprint in fingerprints if fingerprint.algorithm == algorithm]
        if offered:
            encoded = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
            return hashlib.new(algorithm.replace("-", ""), encoded).digest() in offered
    return False
