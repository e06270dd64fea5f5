"""What people do with their own wallet: see it, pay in through a provider, and have paid out what may be."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping

import msgspec
import sqlalchemy as sa
import structlog

from server.database.store import Database
from server.money import books, providers, tips
from server.money.amounts import Amount, WireAmount, wire_amount
from server.money.assets import Assets
from server.money.idempotency import Answered, Idempotent, Request
from server.money.ledger import Account, Kind
from server.money.payments import wallet
from server.money.payouts import Provider, ProviderFailed
from server.money.providers import Withdrawal
from server.money.statement import StatementPage, statement
from signalling.refusals import Refused

log = structlog.get_logger("money")


class BalanceView(msgspec.Struct, frozen=True):
    """What there is of an asset, in minor units as text; `scale` is the number of decimals that people write.

    `available` may be spent, and of it `withdrawable` be paid out now; `held` is promised, `owed` has to be paid first.
    """

    asset: str
    scale: int
    available: str
    withdrawable: str
    held: str
    owed: str


class WalletView(msgspec.Struct, frozen=True):
    """A wallet; `bonus` are assets that only some may receive and nobody is paid out.

    `providers` names those through whom money is paid in and out here, maybe nobody.
    """

    balances: tuple[BalanceView, ...]
    bonus: tuple[BalanceView, ...]
    providers: tuple[str, ...]


class StartedDeposit(msgspec.Struct, frozen=True):
    """A deposit that its owner may pay now, at `url`; it is in the wallet once the provider says so."""

    reference: str
    url: str
    amount: WireAmount


class RequestedWithdrawal(msgspec.Struct, frozen=True):
    """A withdrawal that is held, until the provider says that it has paid or can't."""

    withdrawal: str
    amount: WireAmount


class Cashier:
    """People's own wallets on a node's store, and the providers by name; raises Refused and StoreFailed."""

    def __init__(
        self,
        store: Database,
        assets: Assets,
        keys: Idempotent,
        known: Mapping[str, Provider],
        wall_ms: Callable[[], int],
    ) -> None:
        self.assets = assets
        self._store, self._keys, self._known, self._wall_ms = store, keys, known, wall_ms
        self.deposits_started = self.withdrawals = self.provider_failures = 0

    async def show(self, account: str) -> WalletView:
        """Return what is in a wallet."""
        return await self._store.read(_show, account, self.assets, tuple(self._known), self._wall_ms())

    async def statement(self, account: str, before: int | None, limit: int) -> StatementPage:
        """Return a part of a wallet's history."""
        return await self._store.read(statement, account, before, limit)

    async def start_deposit(self, provider: str | None, amount: Amount, request: Request) -> Answered:
        """Have a provider take money in; the answer holds a `StartedDeposit`.

        Raises Refused (provider_unknown, provider_unavailable, bonus_asset, and what `Idempotent.write` raises).
        """
        self._check_money(amount.asset)
        done = await self._keys.find(request)
        if done is not None:
            return done
        name, asked = self._provider(provider)
        # The same key is the same deposit for the provider, too: after a crash between the two it is asked for again.
        digest = hashlib.sha256("\0".join((request.account, request.key, request.digest)).encode()).hexdigest()
        reference = f"d.{digest[:32]}"
        try:
            url = await asked.start_deposit(reference, request.account, amount)
        except ProviderFailed as failure:
            self.provider_failures += 1
            log.warning("deposit_not_started", provider=name, reason=str(failure))
            raise Refused("provider_unavailable") from None
        body = msgspec.json.encode(StartedDeposit(reference, url, wire_amount(amount)))
        self.deposits_started += 1
        return await self._keys.write(request, self._wall_ms(), lambda connection: Answered(201, body))

    async def withdraw(self, provider: str | None, amount: Amount, request: Request) -> Answered:
        """Hold what is to be paid out; the answer holds a `RequestedWithdrawal`.

        Raises Refused (provider_unknown, bonus_asset, in_debt, insufficient_funds, not_withdrawable_yet, ...).
        """
        self._check_money(amount.asset)
        name, _ = self._provider(provider)
        wish = Withdrawal(f"withdrawal.{secrets.token_hex(12)}", name, request.account, amount)
        now_ms = self._wall_ms()
        answered = await self._keys.write(request, now_ms, _withdraw, wish, now_ms)
        self.withdrawals += not answered.replayed
        return answered

    def counters(self) -> dict[str, int]:
        """How much was paid in and out, by name."""
        return {
            "deposits_started": self.deposits_started,
            "deposits_not_started": self.provider_failures,
            "withdrawals": self.withdrawals,
        }

    def _provider(self, name: str | None) -> tuple[str, Provider]:
        name = next(iter(self._known), "") if name is None else name
        if name not in self._known:
            raise Refused("provider_unknown")
        return name, self._known[name]

    def _check_money(self, asset: str) -> None:
        if self.assets.find(asset).is_bonus:
            raise Refused("bonus_asset")


def _show(
    connection: sa.Connection, account: str, assets: Assets, providers: tuple[str, ...], now_ms: int
) -> WalletView:
    there = books.balances_of(connection, account)
    shown: dict[bool, list[BalanceView]] = {False: [], True: []}
    for asset in assets:
        available = there.get(wallet(account, asset.code), 0)
        unripe = tips.unripe(connection, account, asset.code, now_ms)
        view = BalanceView(
            asset=asset.code,
            scale=asset.scale,
            available=str(available),
            withdrawable=str(0 if asset.is_bonus else max(0, available - unripe)),
            held=str(there.get(Account(account, Kind.HELD, asset.code), 0)),
            owed=str(-there.get(Account(account, Kind.DEBT, asset.code), 0)),
        )
        shown[asset.is_bonus].append(view)
    return WalletView(tuple(shown[False]), tuple(shown[True]), providers)


def _withdraw(connection: sa.Connection, wish: Withdrawal, now_ms: int) -> Answered:
    providers.request_withdrawal(connection, wish, now_ms)
    # Its wallet is locked by now. Whatever is spent is taken to be what came first, so what came lately has to be left.
    left = books.balance(connection, wallet(wish.account, wish.amount.asset))
    lately = tips.unripe(connection, wish.account, wish.amount.asset, now_ms)
    if left < lately:
        withdrawable = max(0, left + wish.amount.units - lately)
        raise Refused("not_withdrawable_yet", withdrawable=wire_amount(Amount(wish.amount.asset, withdrawable)))
    return Answered(201, msgspec.json.encode(RequestedWithdrawal(wish.id, wire_amount(wish.amount))))
