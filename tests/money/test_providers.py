"""Deposits and withdrawals with a provider over HTTP: credited once, paid once, and given back when that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from server.config import ProviderSettings
from server.events import eventlog
from server.money import audit, books, providers
from server.money.amounts import Amount
from server.money.assets import Assets
from server.money.ledger import Account, Kind
from server.money.payments import wallet
from server.money.payouts import HttpProvider, Payouts, ProviderFailed
from server.money.providers import Withdrawal
from server.money.webhooks import WithdrawalPaid, read_webhook_untrusted
from signalling.refusals import Refused
from tests.money.commands import do, give
from tests.money.databases import AnyStore
from tests.money.provider_service import SECRET, ProviderService, provider_service

ASSETS = Assets()
DEPOSIT = {"type": "deposit.settled", "transaction": "t1", "account": "ann", "amount": {"asset": "USD", "units": "500"}}
TAKEN_BACK = {"type": "deposit.reversed", "transaction": "t1"}
PAID = {"type": "withdrawal.paid", "withdrawal": "w1"}
FAILED = {"type": "withdrawal.failed", "withdrawal": "w1"}


def open_account(connection: sa.Connection, name: str) -> None:
    connection.exec_driver_sql(
        f"INSERT INTO accounts (id, name, folded, created_at) VALUES ('{name}', '{name}', '{name}', 0)"
    )


class World:
    """A store, a provider that can be asked, and its webhooks going into the store."""

    def __init__(self, store: AnyStore, service: ProviderService, provider: HttpProvider) -> None:
        self.store, self.service, self.provider = store, service, provider

    async def has(self, owner: str, kind: Kind = Kind.WALLET) -> int:
        return await self.store.read(books.balance, Account(owner, kind, "USD"))

    async def withdraw(self, units: int, identifier: str = "w1") -> None:
        withdrawal = Withdrawal(identifier, "pay", "ann", Amount("USD", units))
        await self.store.write(providers.request_withdrawal, withdrawal, 0)

    async def is_right(self) -> None:
        assert await self.store.read(audit.check, 0) == []


@asynccontextmanager
async def open_world(store: AnyStore) -> AsyncIterator[World]:
    await store.write(open_account, "ann")

    async def hear(headers: dict[str, str], body: bytes) -> Any:
        event = read_webhook_untrusted([SECRET], headers, body)
        return await store.write(providers.settle, "pay", event, ASSETS, 0)

    async with provider_service(hear) as (service, http):
        yield World(store, service, HttpProvider(ProviderSettings("pay", service.url, SECRET), http))


async def test_a_deposit_is_credited_once_however_often_it_is_told(store: AnyStore) -> None:
    async with open_world(store) as world:
        answers = []

        async def say() -> None:
            try:
                answers.append(await world.service.say(DEPOSIT))
            except Refused as refused:
                answers.append(refused.code)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(say)
        assert answers.count("done") == 1
        assert set(answers) <= {"done", "repeated", "transfer_exists"}  # the last is told again by the provider
        assert await world.service.say(DEPOSIT) == "repeated"
        assert await world.has("ann") == 500
        assert [logged.event.type for logged in await store.read(eventlog.read_from, 0, 10)] == ["payment.settled"]
        await world.is_right()


async def test_a_transaction_that_changes_its_meaning_is_refused(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        for other in ({**DEPOSIT, "amount": {"asset": "USD", "units": "501"}}, {**DEPOSIT, "account": "bob"}):
            with pytest.raises(Refused, match="provider_conflict"):
                await world.service.say(other)
        assert await world.has("ann") == 500


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"account": "nobody"}, "account_unknown"),
        ({"amount": {"asset": "GOLD", "units": "1"}}, "asset_unknown"),
        ({"amount": {"asset": "USD", "units": "-1"}}, "invalid_amount"),
        ({"transaction": ""}, "webhook_malformed"),
        ({"transaction": "x" * 97}, "webhook_malformed"),
    ],
)
async def test_a_deposit_that_makes_no_sense_credits_nobody(store: AnyStore, change: dict[str, Any], code: str) -> None:
    async with open_world(store) as world:
        with pytest.raises(Refused, match=code):
            await world.service.say({**DEPOSIT, **change})
        assert await world.has("ann") == 0


async def test_a_deposit_taken_back_after_it_was_spent_leaves_a_debt_that_stops_withdrawals(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        await store.write(do, give("ann", "bob", 300, "g"))
        assert await world.service.say(TAKEN_BACK) == "done"
        assert await world.service.say(TAKEN_BACK) == "repeated"
        assert (await world.has("ann"), await world.has("ann", Kind.DEBT), await world.has("bob")) == (0, -300, 300)
        with pytest.raises(Refused, match="in_debt"):
            await world.withdraw(1)
        with pytest.raises(Refused, match="transfer_unknown"):
            await world.service.say({**TAKEN_BACK, "transaction": "t2"})
        await world.is_right()


async def test_a_withdrawal_is_held_told_and_paid_once(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        await world.withdraw(200)
        assert (await world.has("ann"), await world.has("ann", Kind.HELD)) == (300, 200)
        payouts = Payouts(store, {"pay": world.provider})
        await payouts.tell()
        await payouts.tell()
        assert world.service.heard == payouts.told == 1
        assert world.service.requests["w1"]["amount"] == {"asset": "USD", "units": "200"}
        assert await world.service.say(PAID) == "done"
        assert await world.service.say(PAID) == "repeated"
        assert (await world.has("ann"), await world.has("ann", Kind.HELD), await world.has("pay", Kind.PROVIDER)) == (
            300,
            0,
            -300,
        )
        with pytest.raises(Refused, match="provider_conflict"):
            await world.service.say(FAILED)
        await world.is_right()


async def test_a_withdrawal_that_fails_is_given_back(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        await world.withdraw(200)
        assert await world.service.say(FAILED) == "done"
        assert await world.service.say(FAILED) == "repeated"
        assert await world.has("ann") == 500
        await Payouts(store, {"pay": world.provider}).tell()
        assert world.service.heard == 0  # what is over is not asked for any more


async def test_a_provider_that_is_down_is_told_later(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        await world.withdraw(200)
        payouts = Payouts(store, {"pay": world.provider})
        world.service.broken = True
        await payouts.tell()
        assert (payouts.told, payouts.failures) == (0, 1)
        world.service.broken = False
        await payouts.tell()
        assert (payouts.told, payouts.failures) == (1, 1)


async def test_a_provider_that_is_not_configured_any_more_is_said_so(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        await world.withdraw(200)
        payouts = Payouts(store, {})
        await payouts.tell()
        assert payouts.counters() == {"payouts_told": 0, "payout_failures": 1}


async def test_another_provider_can_t_resolve_a_withdrawal(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        await world.withdraw(200)
        with pytest.raises(Refused, match="transfer_unknown"):
            await store.write(providers.settle, "other", WithdrawalPaid("w1"), ASSETS, 0)


async def test_nobody_withdraws_more_than_there_is_nor_twice_under_one_name(store: AnyStore) -> None:
    async with open_world(store) as world:
        await world.service.say(DEPOSIT)
        with pytest.raises(Refused, match="insufficient_funds"):
            await world.withdraw(501)
        await world.withdraw(200)
        with pytest.raises(Refused, match="transfer_exists"):
            await world.withdraw(200)
        assert await store.read(books.balance, wallet("ann", "USD")) == 300


async def test_a_deposit_starts_at_the_provider_s_page_and_a_dead_provider_is_an_error(store: AnyStore) -> None:
    async with open_world(store) as world:
        url = await world.provider.start_deposit("r1", "ann", Amount("USD", 500))
        assert url == f"{world.service.url}/pay/r1"
        world.service.broken = True
        with pytest.raises(ProviderFailed, match="answered 500"):
            await world.provider.start_deposit("r2", "ann", Amount("USD", 500))
