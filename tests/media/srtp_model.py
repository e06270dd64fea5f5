"""SRTP of plain packets as RFC 3711 and RFC 7714 write it, in a few lines over plain AES: what libsrtp is held against.

Packets have a header of 12 bytes; there is no replay check, so that a repeated packet can be looked into.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER = 12
ENCRYPTION, AUTHENTICATION, SALT = 0, 1, 2  # labels of RFC 3711 section 4.3.2
SHA1_TAG = 10


def keystream(key: bytes, iv: int, size: int) -> bytes:
    """Return AES in counter mode (RFC 3711 section 4.1.1); `iv` has 128 bits."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv.to_bytes(16))).encryptor()
    return encryptor.update(bytes(size))


def derive(master: bytes, label: int, size: int, *, key_size: int = 16) -> bytes:
    """Derive a session key from master key and salt, of 112 bits or padded to them (RFC 3711 section 4.3.1)."""
    salt = int.from_bytes(master[key_size:].ljust(14, b"\0"))
    return keystream(master[:key_size], (salt ^ label << 48) << 16, size)


def seal_cm(master: bytes, packet: bytes, roc: int = 0) -> bytes:
    """Protect with AES_CM_128_HMAC_SHA1_80 (RFC 3711 sections 4.1 and 4.2)."""
    seq, ssrc = int.from_bytes(packet[2:4]), int.from_bytes(packet[8:12])
    salt = int.from_bytes(derive(master, SALT, 14))
    iv = salt << 16 ^ ssrc << 64 ^ (roc << 16 | seq) << 16
    stream = keystream(derive(master, ENCRYPTION, 16), iv, len(packet) - HEADER)
    sealed = packet[:HEADER] + _xor(packet[HEADER:], stream)
    tag = hmac.digest(derive(master, AUTHENTICATION, 20), sealed + roc.to_bytes(4), hashlib.sha1)
    return sealed + tag[:SHA1_TAG]


def gcm_iv(salt: bytes, ssrc: int, roc: int, seq: int) -> bytes:
    """Return the 96-bit IV of RFC 7714 section 8.1."""
    return _xor(bytes(2) + ssrc.to_bytes(4) + roc.to_bytes(4) + seq.to_bytes(2), salt)


def header_size(packet: bytes) -> int:
    """Return the octets that are not encrypted: those of a header extension are not either (RFC 7714 section 8.2)."""
    return HEADER + (4 + 4 * int.from_bytes(packet[HEADER + 2 : HEADER + 4]) if packet[0] & 0x10 else 0)


def seal_gcm(key: bytes, salt: bytes, packet: bytes, roc: int = 0) -> bytes:
    """Protect with AEAD_AES_128_GCM under session keys (RFC 7714 section 8)."""
    iv = gcm_iv(salt, int.from_bytes(packet[8:12]), roc, int.from_bytes(packet[2:4]))
    head = header_size(packet)
    return packet[:head] + AESGCM(key).encrypt(iv, packet[head:], packet[:head])


def open_gcm(key: bytes, salt: bytes, sealed: bytes, roc: int = 0) -> bytes:
    """Undo `seal_gcm`; raises cryptography's InvalidTag."""
    iv = gcm_iv(salt, int.from_bytes(sealed[8:12]), roc, int.from_bytes(sealed[2:4]))
    head = header_size(sealed)
    return sealed[:head] + AESGCM(key).decrypt(iv, sealed[head:], sealed[:head])


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
