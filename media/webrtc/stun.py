"""STUN Binding requests and responses as bytes (RFC 8489), as far as ICE needs them (RFC 8445 section 7).

The reader is strict and total: any bytes give a `Binding` or None, never an exception. Authentication is a separate,
explicit step, because whose password counts is known only after the username was read.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from media.webrtc.ice import Address

HEADER_SIZE = 20
MAGIC_COOKIE = 0x2112A442
FINGERPRINT_XOR = 0x5354554E
MAX_ATTRIBUTES = 32  # browsers send at most 9; a loop over attacker's bytes needs an end
MAX_USERNAME = 513  # RFC 8489 section 14.3


class Method(IntEnum):
    """Message types of the Binding method (RFC 8489 section 5)."""

    REQUEST = 0x0001
    INDICATION = 0x0011
    SUCCESS = 0x0101
    ERROR = 0x0111


class Attribute(IntEnum):
    """Attribute types (RFC 8489 section 18.3, RFC 8445 section 20.2)."""

    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A


METHODS = frozenset(Method)
UNDERSTOOD = frozenset(Attribute)
COMPREHENSION_OPTIONAL = 0x8000


@dataclass(frozen=True, slots=True)
class Binding:
    """One well-formed Binding message; nothing in it may be trusted before `is_authentic`."""

    method: Method
    transaction: bytes
    attributes: dict[int, bytes]
    integrity_offset: int | None
    raw: bytes

    @property
    def username(self) -> str | None:
        """The USERNAME attribute, or None where it is absent or not text."""
        value = self.attributes.get(Attribute.USERNAME)
        if value is None or len(value) > MAX_USERNAME:
            return None
        try:
            return value.decode("ascii")
        except UnicodeDecodeError:
            return None

    @property
    def nominates(self) -> bool:
        """Whether USE-CANDIDATE is present."""
        return Attribute.USE_CANDIDATE in self.attributes

    @property
    def unknown_required(self) -> tuple[int, ...]:
        """Comprehension-required attribute types that are not understood (RFC 8489 section 6.3.1)."""
        return tuple(t for t in self.attributes if t < COMPREHENSION_OPTIONAL and t not in UNDERSTOOD)

    @property
    def mapped_address(self) -> Address | None:
        """The XOR-MAPPED-ADDRESS, or None where it is absent or malformed."""
        value = self.attributes.get(Attribute.XOR_MAPPED_ADDRESS, b"")
        if len(value) not in (8, 20) or value[1] != {8: 1, 20: 2}[len(value)]:
            return None
        port = struct.unpack_from("!H", value, 2)[0] ^ (MAGIC_COOKIE >> 16)
        return str(ipaddress.ip_address(_xor(value[4:], self.transaction))), port

    def is_authentic(self, password: str) -> bool:
        """Whether MESSAGE-INTEGRITY is present and made with `password`; compares in constant time."""
        if self.integrity_offset is None:
            return False
        covered = bytearray(self.raw[: self.integrity_offset])
        struct.pack_into("!H", covered, 2, self.integrity_offset + 24 - HEADER_SIZE)
        expected = hmac.digest(password.encode(), covered, hashlib.sha1)
        return hmac.compare_digest(expected, self.attributes[Attribute.MESSAGE_INTEGRITY])


def parse_untrusted(datagram: bytes) -> Binding | None:
    """Read one datagram; None for whatever is not a well-formed Binding message.

    Attributes after MESSAGE-INTEGRITY are ignored except FINGERPRINT, which must fit (RFC 8489 section 14.5, 14.7).
    """
    if len(datagram) < HEADER_SIZE or len(datagram) % 4:
        return None
    kind, length, cookie = struct.unpack_from("!HHI", datagram)
    if cookie != MAGIC_COOKIE or length != len(datagram) - HEADER_SIZE or kind not in METHODS:
        return None
    attributes: dict[int, bytes] = {}
    integrity_offset: int | None = None
    offset = HEADER_SIZE
    for _ in range(MAX_ATTRIBUTES):
        if offset == len(datagram):
            return Binding(Method(kind), datagram[8:HEADER_SIZE], attributes, integrity_offset, datagram)
        attribute, size = struct.unpack_from("!HH", datagram, offset)
        value = datagram[offset + 4 : offset + 4 + size]
        if len(value) != size:
            return None
        if attribute == Attribute.FINGERPRINT and not _fingerprint_fits(datagram, offset, value):
            return None
        if attribute == Attribute.MESSAGE_INTEGRITY and integrity_offset is None:
            if size != 20:
                return None
            attributes[attribute], integrity_offset = value, offset
        elif integrity_offset is None:
            attributes.setdefault(attribute, value)
        offset += 4 + (size + 3 & ~3)
        if offset > len(datagram):
            return None
    return None


def username_untrusted(datagram: bytes) -> tuple[str, str] | None:
    """Return (our ufrag, their ufrag) of a Binding request, or None when it is none (RFC 8445 section 7.2.2)."""
    if len(datagram) < HEADER_SIZE or datagram[0] or datagram[1] != Method.REQUEST:
        return None
    message = parse_untrusted(datagram)
    username = message.username if message else None
    if username is None:
        return None
    ours, colon, theirs = username.partition(":")
    return (ours, theirs) if colon else None


def binding_request(
    transaction: bytes, username: str, password: str, *, priority: int, tie_breaker: int, nominates: bool
) -> bytes:
    """Build a connectivity check of the controlling agent (RFC 8445 section 7.1)."""
    attributes = [
        (Attribute.USERNAME, username.encode()),
        (Attribute.PRIORITY, struct.pack("!I", priority)),
        (Attribute.ICE_CONTROLLING, struct.pack("!Q", tie_breaker)),
    ]
    if nominates:
        attributes.append((Attribute.USE_CANDIDATE, b""))
    return _sealed(Method.REQUEST, transaction, attributes, password)


def success_response(transaction: bytes, source: Address, password: str) -> bytes:
    """Build the answer to an authenticated request that came from `source`."""
    ip = ipaddress.ip_address(source[0].partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # a dual-stack socket writes IPv4 so; the client knows itself by the short form
    port = source[1] ^ (MAGIC_COOKIE >> 16)
    mapped = struct.pack("!BBH", 0, 1 if ip.version == 4 else 2, port) + _xor(ip.packed, transaction)
    return _sealed(Method.SUCCESS, transaction, [(Attribute.XOR_MAPPED_ADDRESS, mapped)], password)


def unknown_attribute_response(transaction: bytes, unknown: tuple[int, ...], password: str) -> bytes:
    """Build a 420 answer; only ever sent to an authenticated request, so that it reflects nothing."""
    attributes = [
        (Attribute.ERROR_CODE, struct.pack("!HBB", 0, 4, 20) + b"Unknown Attribute"),
        (Attribute.UNKNOWN_ATTRIBUTES, b"".join(struct.pack("!H", attribute) for attribute in unknown)),
    ]
    return _sealed(Method.ERROR, transaction, attributes, password)


def _sealed(method: Method, transaction: bytes, attributes: list[tuple[Attribute, bytes]], password: str) -> bytes:
    message = bytearray(struct.pack("!HHI", method, 0, MAGIC_COOKIE) + transaction)
    for attribute, value in attributes:
        message += struct.pack("!HH", attribute, len(value)) + value + bytes(-len(value) % 4)
    struct.pack_into("!H", message, 2, len(message) - HEADER_SIZE + 24)
    digest = hmac.digest(password.encode(), message, hashlib.sha1)
    message += struct.pack("!HH", Attribute.MESSAGE_INTEGRITY, 20) + digest
    struct.pack_into("!H", message, 2, len(message) - HEADER_SIZE + 8)
    message += struct.pack("!HHI", Attribute.FINGERPRINT, 4, zlib.crc32(message) ^ FINGERPRINT_XOR)
    return bytes(message)


def _fingerprint_fits(datagram: bytes, offset: int, value: bytes) -> bool:
    expected = zlib.crc32(datagram[:offset]) ^ FINGERPRINT_XOR
    return len(datagram) == offset + 8 and len(value) == 4 and int.from_bytes(value) == expected


def _xor(packed: bytes, transaction: bytes) -> bytes:
    mask = struct.pack("!I", MAGIC_COOKIE) + transaction
    return bytes(a ^ b for a, b in zip(packed, mask, strict=False))
