"""One DTLS 1.2 association over pyOpenSSL's memory BIOs: datagrams in, datagrams and SRTP keys out (RFC 5764, 6347).

OpenSSL alone is not enough for an SFU: one spoofed plaintext record ends a handshake in progress, and a lost flight
costs a second although the client repeats its hello every 50 ms. So records that no honest handshake contains are
removed first, a handshake that failed starts anew, and a repeated hello repeats the flight.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

from media.webrtc.certificate import Certificate
from media.webrtc.srtp import SrtpKeys, SrtpProfile

DTLS_1_2 = 0xFEFD  # pinned: 1.3 brings other records, timers and acknowledgements
MTU = 1200  # bytes of UDP payload that every path carries
RECORD_HEADER = 13
HANDSHAKE_HEADER = 12
MAX_HANDSHAKE_MESSAGE = 16_384  # the largest of browsers is 1.4 kB; OpenSSL would reassemble up to 16 MB
MAX_ATTEMPTS = 8  # handshakes per transport: each costs about 0.5 ms, and a spoofer must not buy more
REPEAT_INTERVAL_NS = 40_000_000  # browsers repeat a hello after 50 ms
NEVER_NS = 2**63 - 1

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO = 1
# What an honest peer sends in the clear, by our role (RFC 6347 section 4.2.4).
FROM_CLIENT = frozenset({CLIENT_HELLO, 11, 15, 16})
FROM_SERVER = frozenset({0, 2, 3, 11, 12, 13, 14})

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha-512": hashes.SHA512(),
    "sha-384": hashes.SHA384(),
    "sha-256": hashes.SHA256(),
}


class DtlsRole(Enum):
    """Which side of the handshake we are."""

    SERVER = auto()
    CLIENT = auto()


class DtlsState(Enum):
    """Where an association stands; the last three are final."""

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
        self._flight: list[bytes] = []
        self._repeated_ns = 0
        self.state = DtlsState.HANDSHAKING
        self.keys: SrtpKeys | None = None
        self.attempts = 0
        self.junk_records = 0
        self.repeated_flights = 0

    @property
    def has_begun(self) -> bool:
        """Whether a handshake was ever started."""
        return self.attempts > 0

    def start(self) -> list[bytes]:
        """Send the first hello when we are the client; the server waits."""
        if self._role is not DtlsRole.CLIENT or self._connection is not None:
            return []
        return self._handshake(self._connect())

    def receive_untrusted(self, datagram: bytes, now_ns: int) -> list[bytes]:
        """Take one datagram from the peer's validated address."""
        if self.state is DtlsState.SECURED:
            return self._read(datagram)
        if self.state is not DtlsState.HANDSHAKING:
            return []
        allowed = FROM_CLIENT if self._role is DtlsRole.SERVER else FROM_SERVER
        records = list(_plausible_records(datagram, allowed))
        self.junk_records += not records
        if not records:
            return []
        if self._flight and any(_is_client_hello(record) for record in records):
            return self._repeat_flight(now_ns)
        connection = self._connection or self._connect()
        connection.bio_write(b"".join(records))
        return self._handshake(connection)

    def deadline_ns(self, now_ns: int) -> int:
        """When `handle_timeout` wants to be called, by OpenSSL's retransmission timer."""
        if self._connection is None or self.state is not DtlsState.HANDSHAKING:
            return NEVER_NS
        seconds = self._connection.DTLSv1_get_timeout()
        return NEVER_NS if seconds is None else now_ns + int(seconds * 1e9)

    def handle_timeout(self) -> list[bytes]:
        """Repeat what was lost."""
        if self._connection is None or self.state is not DtlsState.HANDSHAKING:
            return []
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error:
            self._give_up()
        return self._outgoing()

    def close(self) -> list[bytes]:
        """Say close_notify; no keys are given out afterwards."""
        if self.state is not DtlsState.SECURED or self._connection is None:
            self.state = DtlsState.CLOSED
            return []
        self.state = DtlsState.CLOSED
        try:
            self._connection.shutdown()
        except SSL.Error:
            return []
        return self._outgoing()

    def _connect(self) -> SSL.Connection:
        self.attempts += 1
        self._flight = []
        self._connection = SSL.Connection(_context(self._certificate, self._role), None)
        if self._role is DtlsRole.CLIENT:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        self._connection.set_ciphertext_mtu(MTU)
        return self._connection

    def _handshake(self, connection: SSL.Connection) -> list[bytes]:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            datagrams = self._outgoing()
            self._flight = datagrams or self._flight
            return datagrams
        except SSL.Error:
            datagrams = self._outgoing()
            self._give_up()
            return datagrams
        datagrams = self._outgoing()
        self._finish(connection)
        return datagrams

    def _finish(self, connection: SSL.Connection) -> None:
        # Keys exist only for the certificate that was promised in the offer (RFC 8827 section 6.5).
        profile = SrtpProfile.by_name(connection.get_selected_srtp_profile())
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if profile is None or certificate is None or not _is_promised(certificate, self._fingerprints):
            self.state = DtlsState.FAILED
            return
        size = 2 * (profile.key_size + profile.salt_size)
        material = connection.export_keying_material(b"EXTRACTOR-dtls_srtp", size)
        self.keys = SrtpKeys.from_exported(profile, material, we_are_client=self._role is DtlsRole.CLIENT)
        self.state = DtlsState.SECURED

    def _give_up(self) -> None:
        self._connection = None
        self._flight = []
        if self.attempts >= MAX_ATTEMPTS:
            self.state = DtlsState.FAILED

    def _read(self, datagram: bytes) -> list[bytes]:
        # After the handshake only close_notify matters; unauthenticated records have no effect (OpenSSL drops them).
        assert self._connection is not None
        if _is_first_hello(datagram):
            return []
        self._connection.bio_write(datagram)
        try:
            while True:
                self._connection.recv(65_536)
        except SSL.WantReadError:
            pass
        except SSL.Error:
            self.state = DtlsState.CLOSED
        return self._outgoing()

    def _repeat_flight(self, now_ns: int) -> list[bytes]:
        if now_ns - self._repeated_ns < REPEAT_INTERVAL_NS:
            return []
        self._repeated_ns = now_ns
        self.repeated_flights += 1
        return list(self._flight)

    def _outgoing(self) -> list[bytes]:
        # The BIO has no datagram boundaries: cut at record headers, pack up to the MTU.
        if self._connection is None:
            return []
        datagrams: list[bytes] = []
        while True:
            try:
                flight = self._connection.bio_read(65_536)
            except SSL.Error:
                return datagrams
            for record in _records(flight):
                if datagrams and len(datagrams[-1]) + len(record) <= MTU:
                    datagrams[-1] += record
                else:
                    datagrams.append(record)


@functools.lru_cache(maxsize=8)
def _context(certificate: Certificate, role: DtlsRole) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_SERVER_METHOD if role is DtlsRole.SERVER else SSL.DTLS_CLIENT_METHOD)
    context.set_min_proto_version(DTLS_1_2)
    context.set_max_proto_version(DTLS_1_2)
    # Both this and set_ciphertext_mtu are needed: with one alone OpenSSL falls back to 256 bytes, or sends nothing.
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    context.set_tlsext_use_srtp(b":".join(profile.openssl_name for profile in SrtpProfile))
    # Any certificate is taken here; the fingerprint decides afterwards.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.use_certificate(certificate.cert)
    context.use_privatekey(certificate.key)
    return context


def _is_promised(certificate: x509.Certificate, fingerprints: Sequence[Fingerprint]) -> bool:
    # Any of the fingerprints of the strongest offered hash may match (RFC 8122 section 5).
    for algorithm, function in _HASHES.items():
        offered = [fingerprint.digest for fingerprint in fingerprints if fingerprint.algorithm == algorithm]
        if offered:
            return certificate.fingerprint(function) in offered
    return False


def _records(flight: bytes) -> Iterator[bytes]:
    offset = 0
    while offset + RECORD_HEADER <= len(flight):
        size = RECORD_HEADER + struct.unpack_from("!H", flight, offset + 11)[0]
        if offset + size > len(flight):
            return
        yield flight[offset : offset + size]
        offset += size


def _plausible_records(datagram: bytes, allowed: frozenset[int]) -> Iterator[bytes]:
    """Yield the records that an honest handshake may contain; junk of any other kind would end OpenSSL's."""
    for record in _records(datagram):
        kind, epoch, body = record[0], record[3:5], record[RECORD_HEADER:]
        if record[1] != 0xFE:
            continue
        encrypted = epoch != b"\0\0" and kind in (ALERT, HANDSHAKE)
        switch = epoch == b"\0\0" and kind == CHANGE_CIPHER_SPEC and body == b"\x01"
        if encrypted or switch or (epoch == b"\0\0" and kind == HANDSHAKE and _is_plausible_handshake(body, allowed)):
            yield record


def _is_plausible_handshake(body: bytes, allowed: frozenset[int]) -> bool:
    offset = 0
    while offset + HANDSHAKE_HEADER <= len(body):
        total = int.from_bytes(body[offset + 1 : offset + 4])
        start = int.from_bytes(body[offset + 6 : offset + 9])
        size = int.from_bytes(body[offset + 9 : offset + 12])
        if body[offset] not in allowed or total > MAX_HANDSHAKE_MESSAGE or start + size > total:
            return False
        offset += HANDSHAKE_HEADER + size
    return offset == len(body) and offset > 0


def _is_client_hello(record: bytes) -> bool:
    return record[0] == HANDSHAKE and record[3:5] == b"\0\0" and record[RECORD_HEADER] == CLIENT_HELLO


def _is_first_hello(datagram: bytes) -> bool:
    return len(datagram) > RECORD_HEADER and _is_client_hello(datagram)
