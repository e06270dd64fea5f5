"""Short words for money in tests."""

from __future__ import annotations

import sqlalchemy as sa

from server.money import books
from server.money.ledger import Account, Command, Kind, Leg, Move, Transfer
from server.money.payments import wallet
from server.money.quotes import Quote, Rate

FAR = 10**15  # a time that never comes


def bank(asset: str = "USD") -> Account:
    return Account("bank", Kind.PROVIDER, asset)


def deposit(owner: str, units: int, asset: str = "USD", identifier: str | None = None) -> Move:
    leg = Leg(bank(asset), wallet(owner, asset), units)
    return Move(identifier or f"deposit:{owner}:{asset}", "deposit", (leg,))


def give(giver: str, taker: str, units: int, identifier: str, asset: str = "USD") -> Move:
    return Move(identifier, "gift", (Leg(wallet(giver, asset), wallet(taker, asset), units),))


def quote(numerator: int, denominator: int, expires_at: int = FAR) -> Quote:
    return Quote("q1", Rate("USD", "MESI", numerator, denominator, "test", 0), expires_at)


def do(connection: sa.Connection, command: Command, now_ms: int = 0) -> Transfer:
    return books.apply(connection, command, now_ms)
