"""Money that comes in and goes out: what payment providers say is written into the books once, however often it comes.

A deposit is a transfer whose id is the provider's transaction. A withdrawal is a hold, which the provider's word that
it has paid turns into a payment and its word that it can't gives back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.money import books, debts
from server.money.amounts import Amount, read_amount_untrusted, wire_amount
from server.money.assets import Assets
from server.money.ledger import Account, Hold, Kind, Leg, Move, Phase, Post, Reverse, Transfer, Void, held
from server.money.payments import wallet
from server.money.webhooks import DepositReversed, DepositSettled, ProviderEvent, WithdrawalFailed, WithdrawalPaid
from signalling.refusals import Refused

MAX_TRANSACTION = 96  # characters of a provider's name for a transaction; they have 20 to 70

_ADD_WITHDRAWAL = Prepared(
    "INSERT INTO withdrawals (id, provider, account, asset, units, state, at)"
    " VALUES (:id, :provider, :account, :asset, :units, 'requested', :at)"
)
_FIND_WITHDRAWAL = Prepared("SELECT provider, account, asset, units FROM withdrawals WHERE id = :id")
_REQUESTED = Prepared(
    "SELECT id, provider, account, asset, units FROM withdrawals WHERE state = 'requested' ORDER BY at LIMIT :limit"
)
_SET_STATE = Prepared("UPDATE withdrawals SET state = :state WHERE id = :id AND state <> 'resolved'")
_FIND_ACCOUNT = Prepared("SELECT 1 FROM accounts WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What is to be paid out to whom."""

    id: str
    provider: str
    account: str
    amount: Amount


def settle(
    connection: sa.Connection, provider: str, event: ProviderEvent, assets: Assets, now_ms: int
) -> Literal["done", "repeated"]:
    """Write down what a provider says; "repeated" when that was done before.

    Raises Refused: provider_conflict when it said something else before, account_unknown, transfer_unknown, and what
    `read_amount_untrusted` raises.
    """
    match event:
        case DepositSettled():
            return _deposit(connection, provider, event, assets, now_ms)
        case DepositReversed(transaction):
            return _reverse(connection, _deposit_id(provider, transaction), now_ms)
        case WithdrawalPaid(withdrawal):
            return _resolve(connection, provider, withdrawal, Phase.POSTED, now_ms)
        case WithdrawalFailed(withdrawal):
            return _resolve(connection, provider, withdrawal, Phase.VOIDED, now_ms)


def request_withdrawal(connection: sa.Connection, withdrawal: Withdrawal, now_ms: int) -> Transfer:
    """Hold what is to be paid out, and note that the provider must be told; `untold` finds it.

    Raises Refused (in_debt, insufficient_funds, transfer_exists).
    """
    who, amount = withdrawal.account, withdrawal.amount
    hold = Hold(withdrawal.id, "withdrawal", wallet(who, amount.asset), amount.units, None)
    transfer = books.apply(connection, hold, now_ms)
    _ADD_WITHDRAWAL(
        connection,
        id=withdrawal.id,
        provider=withdrawal.provider,
        account=who,
        asset=amount.asset,
        units=str(amount.units),
        at=now_ms,
    )
    return transfer


def untold(connection: sa.Connection, limit: int) -> list[Withdrawal]:
    """Return withdrawals of which the provider may not know yet, the oldest first."""
    rows = _REQUESTED(connection, limit=limit)
    return [Withdrawal(row[0], row[1], row[2], Amount(row[3], int(row[4]))) for row in rows]


def mark_told(connection: sa.Connection, withdrawal: str) -> None:
    """Note that the provider knows of a withdrawal."""
    _SET_STATE(connection, id=withdrawal, state="told")


def _deposit_id(provider: str, transaction: str) -> str:
    if not 0 < len(transaction) <= MAX_TRANSACTION:
        raise Refused("webhook_malformed", f"a transaction has 1 to {MAX_TRANSACTION} characters")
    return f"deposit.{provider}.{transaction}"


def _deposit(
    connection: sa.Connection, provider: str, event: DepositSettled, assets: Assets, now_ms: int
) -> Literal["done", "repeated"]:
    amount = read_amount_untrusted(event.amount, assets)
    identifier = _deposit_id(provider, event.transaction)
    source = Account(provider, Kind.PROVIDER, amount.asset)
    legs = (Leg(source, wallet(event.account, amount.asset), amount.units),)
    before = books.find_transfer(connection, identifier)
    if before is not None:
        if before.legs != legs:
            raise Refused("provider_conflict", "this transaction was another deposit before")
        return "repeated"
    if _FIND_ACCOUNT(connection, id=event.account).fetchone() is None:
        raise Refused("account_unknown")
    books.apply(connection, Move(identifier, "deposit", legs), now_ms)
    debts.settle(connection, event.account, amount.asset, now_ms)
    _tell(connection, event.account, "payment.settled", identifier, amount, now_ms)
    return "done"


def _reverse(connection: sa.Connection, deposit: str, now_ms: int) -> Literal["done", "repeated"]:
    try:
        books.apply(connection, Reverse(deposit), now_ms)
    except Refused as refused:
        if refused.code == "already_reversed":
            return "repeated"
        raise
    original = books.find_transfer(connection, deposit)
    assert original is not None
    (leg,) = original.legs
    amount = Amount(leg.target.asset, leg.units)
    _tell(connection, leg.target.owner, "payment.reversed", deposit, amount, now_ms)
    return "done"


def _resolve(
    connection: sa.Connection, provider: str, withdrawal: str, wanted: Phase, now_ms: int
) -> Literal["done", "repeated"]:
    row = _FIND_WITHDRAWAL(connection, id=withdrawal).fetchone()
    if row is None or row[0] != provider:
        raise Refused("transfer_unknown", "this provider was asked for no such withdrawal")
    _, account, asset, text = row
    source = held(wallet(account, asset))
    paid = Post(withdrawal, (Leg(source, Account(provider, Kind.PROVIDER, asset), int(text)),))
    try:
        books.apply(connection, paid if wanted is Phase.POSTED else Void(withdrawal), now_ms)
    except Refused as refused:
        if refused.code != "hold_resolved":
            raise
        if books.find_transfer(connection, f"{withdrawal}.{wanted}") is None:
            raise Refused("provider_conflict", "this withdrawal had another end before") from None
        return "repeated"
    _SET_STATE(connection, id=withdrawal, state="resolved")
    kind = "withdrawal.paid" if wanted is Phase.POSTED else "withdrawal.failed"
    _tell(connection, account, kind, withdrawal, Amount(asset, int(text)), now_ms)
    return "done"


def _tell(connection: sa.Connection, account: str, kind: str, transfer: str, amount: Amount, now_ms: int) -> None:
    fields = {"transfer": transfer, "amount": wire_amount(amount)}
    eventlog.append(connection, Happened(account, kind, now_ms, fields))
