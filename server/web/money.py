"""The API of money: what payment providers and administrators may do."""

from __future__ import annotations

import secrets
from typing import Protocol

import msgspec

from server.money.amounts import Amount, parse_decimal_untrusted
from server.money.assets import Assets
from server.money.idempotency import Answered, Request, read_request_untrusted
from server.money.wallets import Balance, Deposited
from server.web import schemas as s
from server.web.api import ROOT, known
from server.web.ports import FindAccount
from server.web.routes import Access, Answer, Asked, Route

ADMIN = ("no_session", "admin_only")
KEY = ("idempotency_key_invalid", "idempotency_mismatch", "idempotency_in_flight")
AMOUNT = ("asset_unknown", "invalid_amount", "amount_exceeds_supply")


class Wallets(Protocol):
    """What these routes need of `server.money.wallets`."""

    assets: Assets

    async def deposit(self, account: str, amount: Amount, request: Request) -> Answered:
        """Put money into a wallet."""

    async def balances(self, account: str) -> list[Balance]:
        """Return what somebody has."""

    async def check(self) -> list[str]:
        """Return what is wrong with the books."""

    async def hear(self, provider: str, headers: dict[str, str], body: bytes) -> str:
        """Write down what a payment provider says."""


class NewDeposit(s.Taken, frozen=True):
    """Money that an administrator puts into a wallet; the amount is written as people do: "12.50"."""

    name: s.Name
    asset: str
    amount: str


class Balances(msgspec.Struct, frozen=True):
    """What an account has."""

    account: str
    balances: list[Balance]


class Flaws(msgspec.Struct, frozen=True):
    """What is wrong with the books, in sentences; nothing when they are right."""

    flaws: list[str]


class Heard(msgspec.Struct, frozen=True):
    """What a webhook did: "done", or "repeated" when that had been done before."""

    outcome: str


def money_routes(wallets: Wallets, find_account: FindAccount) -> list[Route]:
    """Return the routes of money."""

    async def deposit(asked: Asked) -> Answer:
        new: NewDeposit = asked.body
        account = await known(find_account, new.name)
        amount = parse_decimal_untrusted(new.amount, wallets.assets.find(new.asset))
        # A command that is typed has no key; one that is sent again by a program has.
        key = asked.headers.get("Idempotency-Key") or secrets.token_urlsafe(16)
        body = msgspec.json.encode(new)
        request = read_request_untrusted(asked.actor.account, "POST /admin/ledger/deposits", key, body)
        answered = await wallets.deposit(account, amount, request)
        return Answer(answered.body, {"Idempotent-Replayed": "true"} if answered.replayed else {}, answered.status)

    async def balances(asked: Asked) -> Answer:
        account = await known(find_account, asked.path["name"])
        return Answer(Balances(account, await wallets.balances(account)))

    async def check(asked: Asked) -> Answer:
        return Answer(Flaws(await wallets.check()))

    async def hear(asked: Asked) -> Answer:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        return Answer(Heard(await wallets.hear(asked.path["provider"], headers, asked.body.encode())))

    return [
        Route(
            "POST",
            f"{ROOT}/admin/ledger/deposits",
            "Put money into a wallet",
            deposit,
            Access.ADMIN,
            body=NewDeposit,
            result=Deposited,
            status=201,
            problems=(*ADMIN, *KEY, *AMOUNT, "account_unknown", "invalid_request"),
        ),
        Route(
            "GET",
            f"{ROOT}/admin/ledger/balances/{{name}}",
            "Show what an account has",
            balances,
            Access.ADMIN,
            result=Balances,
            problems=(*ADMIN, "account_unknown"),
        ),
        Route(
            "GET",
            f"{ROOT}/admin/ledger/check",
            "Check the books against themselves",
            check,
            Access.ADMIN,
            result=Flaws,
            problems=ADMIN,
        ),
        Route(
            "POST",
            f"{ROOT}/webhooks/payments/{{provider}}",
            "Hear what a payment provider says (Standard Webhooks)",
            hear,
            Access.ANYONE,
            body=str,
            result=Heard,
            problems=("webhook_rejected", "webhook_malformed", "provider_unknown", "provider_conflict", *AMOUNT),
        ),
    ]
