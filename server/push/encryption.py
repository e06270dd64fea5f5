"""Encrypts what is pushed for one browser alone (RFC 8291, in the aes128gcm coding of RFC 8188).

The steps are those of the RFC over primitives of `cryptography`: the one library on PyPI that has them ready (http-ece)
comes without wheels and without types, and what is built on it sends through requests or aiohttp, which Trio can't run.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signalling.refusals import Refused

CURVE = ec.SECP256R1()
POINT_BYTES = 65  # an uncompressed point of the curve
AUTH_BYTES = 16
SALT_BYTES = 16
RECORD_BYTES = 4096  # what push services take at least (RFC 8030 section 7.2), in one record
LAST_RECORD = b"\x02"
MAX_CONTENT = RECORD_BYTES - 16 - len(LAST_RECORD) - (SALT_BYTES + 4 + 1 + POINT_BYTES)


@dataclass(frozen=True, slots=True)
class Keys:
    """A browser's public key and the secret that it shares with who may push to it."""

    public: bytes
    auth: bytes


def keys_untrusted(p256dh: str, auth: str) -> Keys:
    """Read the keys of a subscription (base64url). Raises Refused("invalid_push_subscription")."""
    keys = Keys(_decode(p256dh), _decode(auth))
    if len(keys.public) != POINT_BYTES or len(keys.auth) != AUTH_BYTES:
        raise Refused("invalid_push_subscription", "its keys have another length")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(CURVE, keys.public)
    except ValueError:
        raise Refused("invalid_push_subscription", "p256dh is no point of the curve") from None
    return keys


def encrypt(content: bytes, keys: Keys, salt: bytes, sender: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the body of a push; `salt` and `sender` are fresh ones for each."""
    assert len(content) <= MAX_CONTENT, "what is said in a notice is bounded"
    receiver = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, keys.public)
    public = point_of(sender)
    shared = sender.exchange(ec.ECDH(), receiver)
    secret = _derive(shared, keys.auth, b"WebPush: info\0" + keys.public + public, 32)
    key = _derive(secret, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derive(secret, salt, b"Content-Encoding: nonce\0", 12)
    head = salt + RECORD_BYTES.to_bytes(4, "big") + bytes([len(public)]) + public
    return head + AESGCM(key).encrypt(nonce, content + LAST_RECORD, None)


def point_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half of a key as an uncompressed point."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def to_base64url(raw: bytes) -> str:
    """Write bytes as browsers write them."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _derive(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    return HKDF(hashes.SHA256(), size, salt, info).derive(secret)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeError):
        raise Refused("invalid_push_subscription", "its keys are not base64url") from None
