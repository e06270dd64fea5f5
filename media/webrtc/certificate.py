"""The certificate a node shows in DTLS handshakes, and its fingerprint (RFC 8122, RFC 8827 section 6.5)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

LIFETIME = datetime.timedelta(days=30)  # as long as browsers give their own
CLOCK_SKEW = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A self-signed ECDSA P-256 certificate with its key; it lives in memory only and changes with each start."""

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
