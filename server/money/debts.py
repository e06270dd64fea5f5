"""Debts: who spent what was taken back afterwards pays it with what comes in next, before anything else.

`books.apply` refuses to let anybody spend who owes. So a debt is paid as soon as there is money: with a deposit in the
same transaction, with all else by the clerk, a moment later.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money import books
from server.money.ledger import Account, Kind, Leg, Move
from server.money.payments import wallet

_PAYABLE = Prepared(
    "SELECT d.owner, d.asset FROM balances d JOIN balances w ON w.owner = d.owner AND w.asset = d.asset"
    " WHERE d.kind = 'debt' AND substr(d.units, 1, 1) = '-' AND w.kind = 'wallet' AND w.units <> '0' LIMIT :limit"
)


def settle(connection: sa.Connection, owner: str, asset: str, now_ms: int) -> bool:
    """Pay what somebody owes of an asset out of the wallet, as far as it goes; returns whether there was anything."""
    there = books.balances_of(connection, owner)
    debt = Account(owner, Kind.DEBT, asset)
    units = min(there.get(wallet(owner, asset), 0), -there.get(debt, 0))
    if units <= 0:
        return False
    leg = Leg(wallet(owner, asset), debt, units)
    books.apply(connection, Move(f"debt.{secrets.token_hex(12)}", "debt", (leg,)), now_ms)
    return True


def are_due(connection: sa.Connection) -> bool:
    """Return whether there are debts for which there is money by now."""
    return _PAYABLE(connection, limit=1).fetchone() is not None


def settle_due(connection: sa.Connection, now_ms: int, limit: int) -> int:
    """Pay up to `limit` debts for which there is money by now; returns how many."""
    due = _PAYABLE(connection, limit=limit).fetchall()
    return sum(settle(connection, owner, asset, now_ms) for owner, asset in due)
