"""An issuer of signed claims, with a key of its own."""

from __future__ import annotations

import secrets
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.config import KyfIssuer, KyfKey

NAME, AUDIENCE = "https://verifier.test", "https://streams.test"


class Issuer:
    def __init__(self, algorithm: Any = "ES256", kid: str = "2026") -> None:
        self.algorithm, self.kid = algorithm, kid
        self.key: Any
        if algorithm == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
        elif algorithm.startswith("ES"):
            self.key = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = rsa.generate_private_key(65537, 2048)

    @property
    def pem(self) -> str:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]

    @property
    def pinned(self) -> KyfIssuer:
        return KyfIssuer(NAME, AUDIENCE, self.algorithm, (KyfKey(self.pem, self.kid),))

    def claims(self, nonce: str, expires_s: int = 3600, **kyf: Any) -> dict[str, Any]:
        now = int(time.time())
        return {
            "iss": NAME,
            "sub": secrets.token_hex(8),
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + expires_s,
            "jti": secrets.token_hex(8),
            "nonce": nonce,
            "kyf": {"age_over_18": True, "assurance": "substantial", "method": "document", "region": "FR", **kyf},
        }

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        return jwt.encode(claims, self.key, self.algorithm, {"typ": "kyf+jwt", "kid": self.kid, **header})
