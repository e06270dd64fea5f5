"""Checks the books against themselves: what must hold, whatever happened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money.ledger import OVERDRAWN, Account, Kind

OVERDUE_MS = 60_000  # holds are expired every few seconds; one that is so late was forgotten

_ENTRIES = Prepared("SELECT owner, kind, asset, units FROM entries")
_BALANCES = Prepared("SELECT owner, kind, asset, units FROM balances")
_OPEN_HOLDS = Prepared("SELECT id, owner, asset, units, expires_at FROM open_holds")
_UNRESOLVED = Prepared(
    "SELECT id FROM transfers t WHERE phase = 'hold' AND NOT EXISTS (SELECT 1 FROM transfers r WHERE r.of = t.id)"
)


def check(connection: sa.Connection, now_ms: int) -> list[str]:
    """Return a sentence for each thing that is wrong; none when the books are right. Reads every entry there is."""
    entries = _sums(_ENTRIES(connection))
    balances = _sums(_BALANCES(connection))
    return [
        *_unbalanced(entries),
        *_drifted(entries, balances),
        *_below(balances),
        *_holds(connection, balances, now_ms),
    ]


def _sums(rows: Iterator[tuple[str, str, str, str]]) -> dict[Account, int]:
    sums: defaultdict[Account, int] = defaultdict(int)
    for owner, kind, asset, units in rows:
        sums[Account(owner, Kind(kind), asset)] += int(units)
    return sums


def _unbalanced(entries: dict[Account, int]) -> Iterator[str]:
    totals: defaultdict[str, int] = defaultdict(int)
    for account, units in entries.items():
        totals[account.asset] += units
    for asset, units in totals.items():
        if units:
            yield f"the entries in {asset} add up to {units}, not to 0"


def _drifted(entries: dict[Account, int], balances: dict[Account, int]) -> Iterator[str]:
    for account in sorted(entries.keys() | balances.keys()):
        is_, should = balances.get(account, 0), entries.get(account, 0)
        if is_ != should:
            yield f"{_name(account)} has {is_}, but its entries add up to {should}"


def _below(balances: dict[Account, int]) -> Iterator[str]:
    for account, units in balances.items():
        if units < 0 and account.kind not in OVERDRAWN:
            yield f"{_name(account)} is below 0: {units}"


def _holds(connection: sa.Connection, balances: dict[Account, int], now_ms: int) -> Iterator[str]:
    promised: defaultdict[Account, int] = defaultdict(int)
    found = set()
    for identifier, owner, asset, units, expires_at in _OPEN_HOLDS(connection):
        found.add(identifier)
        promised[Account(owner, Kind.HELD, asset)] += int(units)
        if expires_at is not None and now_ms - expires_at > OVERDUE_MS:
            yield f"hold {identifier} should have expired {(now_ms - expires_at) // 1000} s ago"
    holding = {account: units for account, units in balances.items() if account.kind is Kind.HELD}
    for account in sorted(promised.keys() | holding.keys()):
        if promised.get(account, 0) != holding.get(account, 0):
            yield f"{_name(account)} has {holding.get(account, 0)}, but {promised.get(account, 0)} are promised"
    for identifier in sorted(found ^ {row[0] for row in _UNRESOLVED(connection)}):
        yield f"hold {identifier} is open in one place and resolved in another"


def _name(account: Account) -> str:
    return f"{account.kind} of {account.owner} in {account.asset}"
