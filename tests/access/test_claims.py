"""Signed claims: only what a pinned issuer signed, with its one algorithm, counts; whatever is not certain is a no."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.claims import Issuers, demanded
from server.access.rules import KyfAccountAge, KyfAgeOver, KyfRegion, KyfTier, KyfVerified
from server.config import KyfThresholds
from signalling.refusals import Refused
from tests.access.issuers import Issuer

ISSUER = Issuer()
ISSUERS = Issuers([ISSUER.pinned])


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256", "PS256"])
def test_a_claim_of_a_pinned_issuer_is_read(algorithm: str) -> None:
    issuer = Issuer(algorithm)
    claims = issuer.claims("n", age_over_21=True, age_over_65=False)
    claim = Issuers([issuer.pinned]).read_untrusted(issuer.sign(claims))
    assert (claim.subject, claim.nonce, claim.jti) == (claims["sub"], "n", claims["jti"])
    assert (claim.age_over, claim.verified, claim.region) == (21, True, "FR")
    assert (claim.issued_at, claim.expires_at) == (claims["iat"] * 1000, claims["exp"] * 1000)


@pytest.mark.parametrize(
    ("kyf", "age", "verified", "region"),
    [
        ({"outcome": "UNCERTAIN"}, 0, False, None),
        ({"outcome": "UNDERAGE"}, 0, False, None),
        ({"sanctions": "hit"}, 0, False, None),
        ({"age_over_18": "true"}, 0, True, "FR"),
        ({"age_over_18": 1}, 0, True, "FR"),
        ({"age_over_18": "uncertain"}, 0, True, "FR"),
        ({"age_over_018": True, "age_over_18": False}, 0, True, "FR"),
        ({"assurance": "low"}, 18, False, "FR"),
        ({"method": "estimation"}, 18, False, "FR"),
        ({"region": None}, 18, True, None),
    ],
)
def test_anything_but_a_plain_yes_is_a_no(kyf: dict[str, Any], age: int, verified: bool, region: str | None) -> None:
    claim = ISSUERS.read_untrusted(ISSUER.sign(ISSUER.claims("n", **kyf)))
    assert (claim.age_over, claim.verified, claim.region) == (age, verified, region)


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def head(**values: object) -> str:
    return part(msgspec.json.encode({"alg": "ES256", "typ": "kyf+jwt", "kid": "2026", **values}))


def forged() -> dict[str, str]:
    claims, now = ISSUER.claims("n"), int(time.time())
    good = ISSUER.sign(claims)
    first, body, signature = good.split(".")
    secret = f"{head(alg='HS256')}.{body}"
    by_public_key = hmac.new(ISSUER.pem.encode(), secret.encode(), hashlib.sha256).digest()
    without = {name: {k: v for k, v in claims.items() if k != name} for name in claims}
    return {
        "another key": Issuer().sign(claims),
        "no signature": f"{first}.{body}.",
        "alg none": f"{head(alg='none')}.{body}.",
        "the public key as a secret": f"{secret}.{part(by_public_key)}",
        "another algorithm": f"{head(alg='ES384')}.{body}.{signature}",
        "another body": f"{first}.{part(b'{}')}.{signature}",
        "a bearer token": ISSUER.sign(claims, typ="JWT"),
        "an unknown kid": ISSUER.sign(claims, kid="1999"),
        "a kid that is no text": f"{head(kid=['2026'])}.{body}.{signature}",
        "another issuer": ISSUER.sign({**claims, "iss": "https://elsewhere.test"}),
        "another audience": ISSUER.sign({**claims, "aud": "https://elsewhere.test"}),
        "expired": ISSUER.sign({**claims, "iat": now - 20, "exp": now - 10}),
        "not yet": ISSUER.sign({**claims, "nbf": now + 86_400, "exp": now + 90_000}),
        "issued tomorrow": ISSUER.sign({**claims, "iat": now + 86_400, "exp": now + 86_500}),
        "for ever": ISSUER.sign({**claims, "exp": now + 10**9}),
        "kyf that is none": ISSUER.sign({**claims, "kyf": ["age_over_18"]}),
        "a region that is none": ISSUER.sign(ISSUER.claims("n", region="Narnia")),
        "no nonce": ISSUER.sign({**claims, "nonce": ""}),
        "an endless subject": ISSUER.sign({**claims, "sub": "s" * 257}),
        **{f"without {name}": ISSUER.sign(rest) for name, rest in without.items()},
        "too long": good + "A" * 20_000,
    }


FORGED = forged()


@pytest.mark.parametrize("what", FORGED)
def test_what_no_issuer_signed_so_is_refused(what: str) -> None:
    with pytest.raises(Refused, match="claim_invalid"):
        ISSUERS.read_untrusted(FORGED[what])


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: ".".join([part(raw)] * 3)))
def test_garbage_is_refused_and_nothing_else(token: str) -> None:
    with pytest.raises(Refused, match="claim_invalid"):
        ISSUERS.read_untrusted(token)


def test_a_key_that_does_not_fit_the_algorithm_is_refused_at_the_start() -> None:
    for pem in ("no key", Issuer("RS256").pem):
        issuer = Issuer()
        pinned = issuer.pinned
        wrong = type(pinned)(pinned.issuer, pinned.audience, "ES256", (type(pinned.keys[0])(pem),))
        with pytest.raises(ValueError, match="no public key in PEM for ES256"):
            Issuers([wrong])


def test_a_configuration_demands_what_it_says() -> None:
    assert demanded(KyfThresholds()) == ()
    full = KyfThresholds(18, True, ("FR",), ("US",), 2, 3600)
    assert demanded(full) == (
        KyfAgeOver(18),
        KyfVerified(),
        KyfRegion(("FR",), ("US",)),
        KyfTier(2),
        KyfAccountAge(3600),
    )


def test_the_library_reads_what_the_tests_sign() -> None:
    claims = ISSUER.claims("n")
    assert jwt.decode(ISSUER.sign(claims), ISSUER.key.public_key(), ["ES256"], audience=claims["aud"]) == claims
