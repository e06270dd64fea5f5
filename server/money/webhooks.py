"""Signed webhooks (Standard Webhooks): what a payment provider says, and how it is known that nobody else said it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError

from server.money.amounts import WireAmount
from signalling.refusals import Refused

MAX_HEADER = 1024  # characters; an id, a time or some signatures during a rotation have less than 300


class DepositSettled(msgspec.Struct, frozen=True, tag="deposit.settled"):
    """An account paid in; `transaction` is the provider's own name for it."""

    transaction: str
    account: str
    amount: WireAmount


class DepositReversed(msgspec.Struct, frozen=True, tag="deposit.reversed"):
    """A deposit was taken back: a chargeback, a refund by the shop."""

    transaction: str


class WithdrawalPaid(msgspec.Struct, frozen=True, tag="withdrawal.paid"):
    """What was asked to be paid out, has been."""

    withdrawal: str


class WithdrawalFailed(msgspec.Struct, frozen=True, tag="withdrawal.failed"):
    """What was asked to be paid out, can't be."""

    withdrawal: str


ProviderEvent = DepositSettled | DepositReversed | WithdrawalPaid | WithdrawalFailed
_decoder: msgspec.json.Decoder[ProviderEvent] = msgspec.json.Decoder(ProviderEvent)


def read_webhook_untrusted(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> ProviderEvent:
    """Return what a provider says, signed with one of its secrets ("whsec_..."), within five minutes of its clock.

    Raises Refused: "webhook_rejected" when it may be anybody's, "webhook_malformed" when it is the provider's, but not
    understood. Source: the Standard Webhooks specification, "verifying signatures".
    """
    if not any(_is_signed(secret, headers, body) for secret in secrets):
        raise Refused("webhook_rejected")
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refused("webhook_malformed", str(error)) from None


def sign(secret: str, message: str, body: bytes, at: dt.datetime) -> dict[str, str]:
    """Return the headers of a signed message."""
    return sign_with((secret,), message, body, at)


def sign_with(secrets: Sequence[str], message: str, body: bytes, at: dt.datetime) -> dict[str, str]:
    """Return the headers of a message that is signed with several secrets, one of which its receiver knows."""
    at = at.astimezone(dt.UTC)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message, at, body.decode()) for secret in secrets),
    }


def _is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    signed = {name: headers.get(name, "")[:MAX_HEADER] for name in names}
    try:
        Webhook(secret).verify(body, signed, json_parse=False)
    except (WebhookVerificationError, ValueError):
        # ValueError: what the library's parts raise of a malformed signature or a body that is not UTF-8.
        return False
    return True
