"""The certificate a node shows in DTLS handshakes, and its fingerprint (RFC 8122, RFC 8827 section 6.5)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

LIFETIME = datetime.timedelta(days=30)  # as long as browsers give their own
RENEWED_NS = 24 * 3600 * 1_000_000_000  # a key that leaks tells of one day's new sessions; they may last for weeks
CLOCK_SKEW = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A self-signed ECDSA P-256 certificate with its key; it lives in memory only."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def self_made(cls) -> Certificate:
        """Make a new key and certificate, valid from a day ago for 30 days."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mesi")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - CLOCK_SKEW,
            not_valid_after=now + LIFETIME,
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint as SDP writes it: upper-case hex pairs with colons."""
        return self.cert.fingerprint(hashes.SHA256()).hex(":").upper()


class Certificates:
    """The certificate for new sessions, renewed every day; a session keeps the one that its answer promised."""

    def __init__(self, now_ns: int) -> None:
        self._current, self._made_ns = Certificate.self_made(), now_ns

    def current(self, now_ns: int) -> Certificate:
        """Return the certificate for a session that begins now (monotonic ns)."""
        if now_ns - self._made_ns >= RENEWED_NS:
            self._current, self._made_ns = Certificate.self_made(), now_ns
        return self._current
