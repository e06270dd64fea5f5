"""The certificate of a QUIC endpoint without one from an authority: short-lived, so that browsers take it by its hash.

The WebTransport specification (section 3.1.1, serverCertificateHashes) wants ECDSA P-256 and less than 14 days.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import trio
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

LIFETIME = datetime.timedelta(days=10)
CLOCK_SKEW = datetime.timedelta(days=1)  # of visitors whose clock is behind; part of the 14 days
RENEW_AFTER = datetime.timedelta(days=5)  # so that a page that took the hash has it for five more days


@dataclass(frozen=True, slots=True, eq=False)
class QuicCertificate:
    """A self-signed certificate and its key, in memory only."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    renew_at: datetime.datetime

    @classmethod
    def self_made(cls, names: Sequence[str], now: datetime.datetime) -> QuicCertificate:
        """Make one for host names and addresses, valid at `now` (UTC)."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mesi")])
        builder = x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - CLOCK_SKEW,
            not_valid_after=now + LIFETIME,
        ).add_extension(x509.SubjectAlternativeName([_general_name(one) for one in names]), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key, now + RENEW_AFTER)

    @property
    def sha256(self) -> str:
        """The hash of the certificate's DER, in lower-case hex, as players ask for it."""
        return self.cert.fingerprint(hashes.SHA256()).hex()


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Certificates:
    """Shows clients of a configuration a certificate of ours, and the next before it ends; `keep` it in a nursery."""

    def __init__(self, names: Sequence[str], configuration: QuicConfiguration) -> None:
        self._names, self._configuration = names, configuration
        self.newest = self._renew()

    async def keep(self) -> None:
        """Renew it in time, until cancelled."""
        while True:
            rest = self.newest.renew_at - datetime.datetime.now(datetime.UTC)
            await trio.sleep(max(1.0, rest.total_seconds()))
            self.newest = self._renew()

    def _renew(self) -> QuicCertificate:
        made = QuicCertificate.self_made(self._names, datetime.datetime.now(datetime.UTC))
        self._configuration.certificate, self._configuration.private_key = made.cert, made.key
        return made
