"""Reads what issuers have signed about people: JSON Web Tokens by pinned keys (RFC 7519, RFC 8725).

Each issuer has one algorithm and its own keys, so that no token chooses how it is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server.access.rules import KyfAccountAge, KyfAgeOver, KyfClause, KyfRegion, KyfTier, KyfVerified
from server.config import KyfIssuer, KyfThresholds, Region
from signalling.refusals import Refused

TYPE = "kyf+jwt"  # RFC 8725 section 3.11: no other token of the issuer's can be taken for one of these
MAX_TOKEN = 16_384  # characters; real ones have about 1,000
MAX_NAME = 256  # characters of `sub` and `jti`
MAX_VALID_S = 400 * 86_400  # an identity card is looked at again after a year
REQUIRED = ["iss", "sub", "aud", "iat", "exp", "jti", "nonce", "kyf"]
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
AGE = re.compile(r"age_over_([1-9][0-9]{0,2})")
SURE = ("substantial", "high")  # of the levels of eIDAS (EU) 910/2014 article 8


class ProvenFacts(msgspec.Struct, frozen=True):
    """What a claim says of a person. Anything but a plain yes is a no."""

    outcome: str = "SUCCESS"
    assurance: str = ""
    method: str = ""
    region: Region | None = None
    sanctions: str = "clear"

    @property
    def certain(self) -> bool:
        """Whether the issuer is sure of what it says."""
        return self.outcome == "SUCCESS" and self.sanctions == "clear"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim whose signature is an issuer's; times are epoch ms."""

    issuer: str
    subject: str
    jti: str
    nonce: str
    issued_at: int
    expires_at: int
    age_over: int
    verified: bool
    region: str | None


class Issuers:
    """The issuers that a node trusts; raises ValueError for a key that is none."""

    def __init__(self, pinned: Iterable[KyfIssuer]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in pinned}
        self._keys = {
            (issuer.issuer, key.kid): _key(issuer, key.public_key)
            for issuer in self._issuers.values()
            for key in issuer.keys
        }

    def read_untrusted(self, token: str) -> Claim:
        """Return what a token claims; raises Refused("claim_invalid") for all that no issuer has signed so."""
        if len(token) > MAX_TOKEN:
            raise Refused("claim_invalid", "the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            said = jwt.decode(token, options={"verify_signature": False})
            issuer = self._issuers.get(str(said.get("iss")))
            key = None if issuer is None else self._keys.get((issuer.issuer, header.get("kid", "")))
            if issuer is None or key is None:
                raise Refused("claim_invalid", "the issuer or its key is not one of those that count here")
            if header.get("typ") != TYPE:
                raise Refused("claim_invalid", f"the token's typ must be {TYPE}")
            claims = jwt.decode(
                token,
                key,
                algorithms=[issuer.algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                options={"require": REQUIRED},
            )
            return _claim(issuer.issuer, claims)
        except jwt.ExpiredSignatureError:
            raise Refused("claim_invalid", "the claim has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as fault:
            raise Refused("claim_invalid", "the token is not a claim that an issuer has signed") from fault


def demanded(thresholds: KyfThresholds) -> tuple[KyfClause, ...]:
    """Return what a configuration demands of everybody, as clauses."""
    found: list[KyfClause] = []
    if thresholds.age_over:
        found.append(KyfAgeOver(thresholds.age_over))
    if thresholds.verified:
        found.append(KyfVerified())
    if thresholds.regions_inside or thresholds.regions_outside:
        found.append(KyfRegion(thresholds.regions_inside or None, thresholds.regions_outside or None))
    if thresholds.tier:
        found.append(KyfTier(thresholds.tier))
    if thresholds.account_age_s:
        found.append(KyfAccountAge(thresholds.account_age_s))
    return tuple(found)


def _key(issuer: KyfIssuer, pem: str) -> PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, PublicKey):
            raise ValueError("a key of another kind")
        # The library itself says whether a key fits the algorithm.
        jwt.get_algorithm_by_name(issuer.algorithm).prepare_key(key)
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.PyJWTError) as fault:
        raise ValueError(f"{issuer.issuer}: no public key in PEM for {issuer.algorithm} ({fault})") from fault
    return key


def _claim(issuer: str, claims: dict[str, Any]) -> Claim:
    facts = msgspec.convert(claims["kyf"], ProvenFacts)
    for name in ("sub", "jti", "nonce"):
        if not isinstance(claims[name], str) or not 1 <= len(claims[name]) <= MAX_NAME:
            raise ValueError(f"{name} must be text of at most {MAX_NAME} characters")
    issued_at, expires_at = int(claims["iat"]), int(claims["exp"])
    if not 0 < expires_at - issued_at <= MAX_VALID_S:
        raise ValueError("the claim is valid for too long")
    ages = [int(found[1]) for name, value in claims["kyf"].items() if value is True and (found := AGE.fullmatch(name))]
    return Claim(
        issuer=issuer,
        subject=claims["sub"],
        jti=claims["jti"],
        nonce=claims["nonce"],
        issued_at=issued_at * 1000,
        expires_at=expires_at * 1000,
        age_over=max(ages, default=0) if facts.certain else 0,
        # A guess by a photograph may say how old someone looks, but not who it is.
        verified=facts.certain and facts.assurance in SURE and facts.method != "estimation",
        region=facts.region if facts.certain else None,
    )
