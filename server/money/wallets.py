"""Wallets on a node's store: what is in them, what comes in, and whether the books are right."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import msgspec
import sqlalchemy as sa

from server.database.store import Database
from server.events import eventlog
from server.events.eventlog import Happened
from server.money import audit, books, debts, providers
from server.money.amounts import Amount, WireAmount, format_units, wire_amount
from server.money.assets import Assets
from server.money.idempotency import Answered, Idempotent, Request
from server.money.ledger import Account, Kind, Leg, Move
from server.money.payments import wallet
from server.money.webhooks import read_webhook_untrusted
from signalling.refusals import Refused

OPERATOR = "operator"  # owner of the account that an operator's own deposits come from; no provider tells of it


class Balance(msgspec.Struct, frozen=True):
    """What an account has of an asset, in minor units as text: to spend, promised, and owed."""

    asset: str
    available: str
    held: str
    owed: str
    shown: str  # the available part as people read it


class Deposited(msgspec.Struct, frozen=True):
    """A deposit in the books."""

    transfer: str
    amount: WireAmount


class Wallets:
    """Wallets on a node's store; raises Refused and StoreFailed."""

    def __init__(
        self, store: Database, assets: Assets, signing_secrets: Mapping[str, str], wall_ms: Callable[[], int]
    ) -> None:
        self._store, self.assets, self._secrets, self._wall_ms = store, assets, signing_secrets, wall_ms
        self.keys = Idempotent(store)
        self.webhooks = self.webhooks_refused = 0

    async def deposit(self, account: str, amount: Amount, request: Request) -> Answered:
        """Put an operator's money into a wallet, once for each key; the answer holds a `Deposited`."""
        now_ms = self._wall_ms()
        transfer = f"deposit.{OPERATOR}.{secrets.token_hex(12)}"
        return await self.keys.write(request, now_ms, _deposit, transfer, account, amount, now_ms)

    async def balances(self, account: str) -> list[Balance]:
        """Return what somebody has, by asset."""
        there = await self._store.read(books.balances_of, account)
        return [self._balance(account, asset.code, asset.scale, there) for asset in self.assets]

    async def check(self) -> list[str]:
        """Return what is wrong with the books, in sentences."""
        return await self._store.read(audit.check, self._wall_ms())

    async def hear(self, provider: str, headers: Mapping[str, str], body: bytes) -> str:
        """Write down what a payment provider says; returns "done" or "repeated". Raises Refused."""
        self.webhooks += 1
        try:
            secret = self._secrets.get(provider)
            if secret is None:
                raise Refused("provider_unknown")
            event = read_webhook_untrusted([secret], headers, body)
            return await self._store.write(providers.settle, provider, event, self.assets, self._wall_ms())
        except Refused:
            self.webhooks_refused += 1
            raise

    def counters(self) -> dict[str, int]:
        """Say how much was heard, and asked twice, by name."""
        return {
            "payment_webhooks": self.webhooks,
            "payment_webhooks_refused": self.webhooks_refused,
            **self.keys.counters(),
        }

    def _balance(self, owner: str, asset: str, scale: int, there: Mapping[Account, int]) -> Balance:
        available = there.get(wallet(owner, asset), 0)
        held = there.get(Account(owner, Kind.HELD, asset), 0)
        owed = -there.get(Account(owner, Kind.DEBT, asset), 0)
        return Balance(asset, str(available), str(held), str(owed), format_units(available, scale))


def _deposit(connection: sa.Connection, name: str, account: str, amount: Amount, now_ms: int) -> Answered:
    source = Account(OPERATOR, Kind.PROVIDER, amount.asset)
    legs = (Leg(source, wallet(account, amount.asset), amount.units),)
    transfer = books.apply(connection, Move(name, "deposit", legs), now_ms)
    debts.settle(connection, account, amount.asset, now_ms)
    answer = Deposited(transfer.id, wire_amount(amount))
    fields = {"transfer": transfer.id, "amount": answer.amount}
    eventlog.append(connection, Happened(account, "payment.settled", now_ms, fields))
    return Answered(201, msgspec.json.encode(answer))
