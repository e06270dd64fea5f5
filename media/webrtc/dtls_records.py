"""DTLS 1.2 records as an untrusted wire format: cutting, packing, and what an honest handshake can contain (RFC 6347).

DTLS protects nothing before its keys exist, and one implausible plaintext record ends OpenSSL's handshake for good. So
records that no honest peer sends are recognised here, before OpenSSL sees them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MTU = 1200  # bytes of UDP payload that every path carries
RECORD_HEADER = 13
HANDSHAKE_HEADER = 12
MAX_HANDSHAKE_MESSAGE = 16_384  # the largest of browsers is 1.4 kB; OpenSSL would reassemble up to 16 MB

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE = 20, 21, 22
CLIENT_HELLO, CERTIFICATE, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY = 1, 11, 16, 15
HELLO_VERIFY_REQUEST, SERVER_HELLO, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 3, 2, 12, 13, 14

# What a peer sends in the clear, and the message numbers that each may carry (RFC 6347 section 4.2.2). A client's are
# fixed, because we send no HelloVerifyRequest and always ask for a certificate; a server may have sent one.
FROM_CLIENT = {
    CLIENT_HELLO: range(1),
    CERTIFICATE: range(1, 2),
    CLIENT_KEY_EXCHANGE: range(2, 3),
    CERTIFICATE_VERIFY: range(3, 4),
}
FROM_SERVER = {
    HELLO_VERIFY_REQUEST: range(1),
    SERVER_HELLO: range(2),
    CERTIFICATE: range(1, 3),
    SERVER_KEY_EXCHANGE: range(2, 4),
    CERTIFICATE_REQUEST: range(3, 5),
    SERVER_HELLO_DONE: range(3, 6),
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its content type, its epoch (0 is in the clear), and all of its bytes."""

    kind: int
    epoch: int
    raw: bytes

    @property
    def body(self) -> bytes:
        """What follows the header."""
        return self.raw[RECORD_HEADER:]

    @property
    def is_hello(self) -> bool:
        """Whether this is a ClientHello, or a part of one; meaningful for plausible records only."""
        return self.kind == HANDSHAKE and self.epoch == 0 and self.raw[RECORD_HEADER] == CLIENT_HELLO

    @property
    def hello_random(self) -> bytes | None:
        """The random that tells two ClientHellos apart, or None where this record does not hold it whole."""
        body = self.body
        is_first_part = self.is_hello and body[6:9] == b"\0\0\0" and len(body) >= HANDSHAKE_HEADER + 34
        return body[HANDSHAKE_HEADER + 2 : HANDSHAKE_HEADER + 34] if is_first_part else None


def records_untrusted(datagram: bytes) -> Iterator[Record]:
    """Cut a datagram, or a flight out of OpenSSL, at record headers; what is cut short ends it."""
    offset = 0
    while offset + RECORD_HEADER <= len(datagram):
        end = offset + RECORD_HEADER + struct.unpack_from("!H", datagram, offset + 11)[0]
        if end > len(datagram):
            return
        epoch = struct.unpack_from("!H", datagram, offset + 3)[0]
        yield Record(datagram[offset], epoch, datagram[offset:end])
        offset = end


def pack(records: Iterable[Record]) -> list[bytes]:
    """Join records into datagrams of at most MTU bytes; a single larger record (OpenSSL makes none) goes alone."""
    datagrams: list[bytes] = []
    for record in records:
        if datagrams and len(datagrams[-1]) + len(record.raw) <= MTU:
            datagrams[-1] += record.raw
        else:
            datagrams.append(record.raw)
    return datagrams


def is_plausible(record: Record, expected: dict[int, range]) -> bool:
    """Whether an honest peer's handshake can contain this record; `expected` is FROM_CLIENT or FROM_SERVER.

    Alerts in the clear are never believed: anyone can send them, and an honest failure shows by silence as well.
    """
    if record.raw[1] != 0xFE:
        return False
    if record.epoch:
        return record.epoch == 1 and record.kind in (ALERT, HANDSHAKE)
    if record.kind == CHANGE_CIPHER_SPEC:
        return record.body == b"\x01"
    return record.kind == HANDSHAKE and _is_plausible_handshake(record.body, expected)


def _is_plausible_handshake(body: bytes, expected: dict[int, range]) -> bool:
    offset = 0
    while offset + HANDSHAKE_HEADER <= len(body):
        total = int.from_bytes(body[offset + 1 : offset + 4])
        number = int.from_bytes(body[offset + 4 : offset + 6])
        start = int.from_bytes(body[offset + 6 : offset + 9])
        size = int.from_bytes(body[offset + 9 : offset + 12])
        if number not in expected.get(body[offset], ()):
            return False
        if total > MAX_HANDSHAKE_MESSAGE or start + size > total or (total > 0 and size == 0):
            return False
        offset += HANDSHAKE_HEADER + size
    return offset == len(body) and offset > 0
