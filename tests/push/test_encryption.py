"""What is pushed is encrypted as RFC 8291 says, signed as RFC 8292 says, and keys that are none are refused."""

from __future__ import annotations

from contextlib import suppress

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from server.push.devices import subscription_untrusted
from server.push.encryption import MAX_CONTENT, Keys, encrypt, keys_untrusted
from server.push.vapid import LASTS_S, MAX_SERVICES, RENEWED_S, Vapid
from signalling.refusals import Refused
from tests.push.services import Browser, b64, unb64

# RFC 8291 appendix A.
TEXT = b"When I grow up, I want to be a watermelon"
BROWSER_KEY = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SENDER_KEY = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_y"
    "l95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)
GOOD = Browser().subscription("https://push.example.org/x")["keys"]


def private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(unb64(text), "big"), ec.SECP256R1())


def test_the_example_of_the_rfc_is_encrypted_as_it_stands_there() -> None:
    browser = Browser(private(BROWSER_KEY), unb64(AUTH))
    body = encrypt(TEXT, Keys(browser.public, browser.auth), unb64(SALT), private(SENDER_KEY))
    assert b64(body) == BODY
    assert browser.decrypt(body) == TEXT


@given(st.binary(max_size=MAX_CONTENT), st.binary(min_size=16, max_size=16))
def test_a_browser_reads_what_is_encrypted_for_it_and_no_other_does(content: bytes, salt: bytes) -> None:
    browser, other = Browser(), Browser()
    keys = keys_untrusted(b64(browser.public), b64(browser.auth))
    body = encrypt(content, keys, salt, ec.generate_private_key(ec.SECP256R1()))
    assert len(body) <= 4096
    assert browser.decrypt(body) == content.rstrip(b"\0") or content.endswith(b"\0")
    with pytest.raises(Exception):  # noqa: B017, PT011
        other.decrypt(body)


@given(st.text(max_size=130), st.text(max_size=40))
def test_whatever_is_no_key_is_refused_and_nothing_else_happens(p256dh: str, auth: str) -> None:
    for public, secret in ((p256dh, auth), (GOOD["p256dh"], auth), (p256dh, GOOD["auth"])):
        with suppress(Refused):
            keys = keys_untrusted(public, secret)
            assert (len(keys.public), len(keys.auth)) == (65, 16)


@given(st.text(max_size=60), st.booleans())
def test_an_endpoint_is_an_address_over_tls_or_refused(text: str, private: bool) -> None:
    for endpoint in (text, f"https://{text}", f"http://{text}", f"https://push.example.org/{text}"):
        with suppress(Refused):
            given = subscription_untrusted(endpoint, GOOD["p256dh"], GOOD["auth"], private=private)
            assert given.endpoint.isascii()
            assert given.endpoint.lower().startswith("https://") or private


@pytest.mark.parametrize(
    "endpoint",
    ["http://push.example.org/x", "https://me@push.example.org/x", "ftp://push.example.org/x", "https:///x", "x"],
)
def test_an_endpoint_without_tls_a_host_or_with_a_name_is_refused(endpoint: str) -> None:
    with pytest.raises(Refused):
        subscription_untrusted(endpoint, GOOD["p256dh"], GOOD["auth"], private=False)


def test_a_service_reads_who_sends_and_a_token_is_used_until_shortly_before_its_end() -> None:
    vapid = Vapid(b"\x01" * 32, "mailto:admin@example.org")
    now = 1_900_000_000
    first = vapid.authorization("https://push.example.org", now)
    token = first.removeprefix("vapid t=").partition(",")[0]
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(vapid.public_key))
    claims = jwt.decode(token, key, algorithms=["ES256"], options={"verify_exp": False, "verify_aud": False})
    assert claims == {"aud": "https://push.example.org", "exp": now + LASTS_S, "sub": "mailto:admin@example.org"}
    assert vapid.authorization("https://push.example.org", now + LASTS_S - RENEWED_S) == first
    assert vapid.authorization("https://push.example.org", now + LASTS_S - RENEWED_S + 1) != first
    assert Vapid(b"\x01" * 32, "").public_key == vapid.public_key
    for number in range(MAX_SERVICES + 10):
        vapid.authorization(f"https://{number}.example.org", now)
    assert len(vapid._tokens) == MAX_SERVICES
