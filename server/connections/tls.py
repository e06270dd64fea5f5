"""A self-made TLS certificate, kept in the data directory, for machines that have no other."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path

import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.addresses import own_addresses
from server.tokens import write_secret

VALID = datetime.timedelta(days=365)
RENEW = datetime.timedelta(days=30)  # before the end
SKEW = datetime.timedelta(days=1)  # clients' clocks may be slow
CERTIFICATE, KEY = "tls.crt", "tls.key"
LOOK_EVERY_S = 6 * 3600.0  # whether it is time to renew
WILDCARDS = ("0.0.0.0", "::")

log = structlog.get_logger("tls")


def server_context(folder: Path, host: str) -> ssl.SSLContext:
    """Return a context for HTTP/1.1 with the folder's certificate, which is made or renewed when need be."""
    _renew(folder, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # Trio can't, and clients could make us work with it
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    # HTTP/2 would let WebSockets bypass the signalling socket.
    context.set_alpn_protocols(["http/1.1"])
    return context


async def keep_fresh(context: ssl.SSLContext, folder: Path, host: str) -> None:
    """Renew the certificate before it ends, for the connections that come then, until cancelled."""
    while True:
        await trio.sleep(LOOK_EVERY_S)
        try:
            if _renew(folder, host):
                context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
                log.info("certificate_renewed", file=str(folder / CERTIFICATE))
        except OSError as error:
            log.error("certificate_not_renewed", file=str(folder / CERTIFICATE), error=str(error))


def _renew(folder: Path, host: str) -> bool:
    """Make a certificate unless there is one that serves for long enough; returns whether one was made."""
    certificate, key = folder / CERTIFICATE, folder / KEY
    if _serves(certificate, key, host):
        return False
    _make(certificate, key, host)
    return True


def _serves(certificate: Path, key: Path, host: str) -> bool:
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    fresh = loaded.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > RENEW
    return fresh and loaded.public_key() == private.public_key() and set(_names(host)) <= set(names)


def _make(certificate: Path, key: Path, host: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mesi")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(key, pem.decode().strip())
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _names(host: str) -> list[x509.GeneralName]:
    names: dict[x509.GeneralName, None] = {}
    hosts = own_addresses() if host in WILDCARDS else [host]
    for name in (*hosts, "localhost", socket.gethostname(), "127.0.0.1", "::1"):
        try:
            names[x509.IPAddress(ipaddress.ip_address(name.split("%")[0]))] = None
        except ValueError:
            if name.isascii():
                names[x509.DNSName(name)] = None
    return list(names)
