"""Webhooks of providers: nobody else's are taken, and no malformed one is more than a refusal."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.money.amounts import WireAmount
from server.money.webhooks import DepositSettled, read_webhook_untrusted, sign
from signalling.refusals import Refused
from tests.money.provider_service import SECRET

OTHER = "whsec_" + "YW5vdGhlciBzZWNyZXQsIG9mIHNvbWVib2R5IGVsc2U="
BODY = b'{"type":"deposit.settled","transaction":"t1","account":"ann","amount":{"asset":"USD","units":"5"}}'


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def test_a_signed_webhook_is_read_with_any_of_the_secrets() -> None:
    event = read_webhook_untrusted([OTHER, SECRET], sign(SECRET, "m", BODY, now()), BODY)
    assert event == DepositSettled("t1", "ann", WireAmount("USD", "5"))


@pytest.mark.parametrize("late_s", [-301, 301])
def test_a_webhook_of_another_time_is_refused(late_s: int) -> None:
    headers = sign(SECRET, "m", BODY, now() - dt.timedelta(seconds=late_s))
    with pytest.raises(Refused, match="webhook_rejected"):
        read_webhook_untrusted([SECRET], headers, BODY)


def test_a_webhook_of_somebody_else_or_of_another_body_or_id_is_refused() -> None:
    good = sign(SECRET, "m", BODY, now())
    for headers, body in (
        (sign(OTHER, "m", BODY, now()), BODY),
        (good, BODY.replace(b'"5"', b'"6"')),
        ({**good, "webhook-id": "n"}, BODY),
        ({}, BODY),
    ):
        with pytest.raises(Refused, match="webhook_rejected"):
            read_webhook_untrusted([SECRET], headers, body)


@given(
    st.binary(max_size=40),
    st.fixed_dictionaries({name: st.text(max_size=40) for name in sign(SECRET, "m", b"", now())}),
)
def test_whatever_comes_is_refused_in_our_words(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match="webhook_rejected"):
        read_webhook_untrusted([SECRET], headers, body)


@pytest.mark.parametrize("signature", ["v1", "v1,a,b", "v1,a", "v1,ä", "", " ", "v1a,AAAA"])
def test_a_malformed_signature_is_refused(signature: str) -> None:
    headers = {**sign(SECRET, "m", BODY, now()), "webhook-signature": signature}
    with pytest.raises(Refused, match="webhook_rejected"):
        read_webhook_untrusted([SECRET], headers, BODY)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"type":"other"}', b'{"type":"deposit.reversed"}', b"[" * 5000])
def test_what_a_provider_says_that_is_not_understood_is_refused_as_that(body: bytes) -> None:
    with pytest.raises(Refused, match="webhook_malformed"):
        read_webhook_untrusted([SECRET], sign(SECRET, "m", body, now()), body)
