"""Many moves of one transaction: decided one after the other on balances read once, and written together.

What many pay into, such as the escrow of a sale, is read and written once for all of them, and each kind of row goes
into the database with one statement. The books are the same as after one `books.apply` for each move.

For SQLite alone, where a transaction has the books to itself: no balance is locked here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money import books
from server.money.ledger import Account, Kind, Move, Transfer, View, decide

_BALANCES = Prepared(
    "SELECT owner, kind, asset, units FROM balances WHERE owner IN (SELECT value FROM json_each(:owners))"
)
_SET_BALANCE = Prepared(
    "INSERT INTO balances (owner, kind, asset, units) VALUES (:owner, :kind, :asset, :units)"
    " ON CONFLICT (owner, kind, asset) DO UPDATE SET units = excluded.units"
)


class Journal:
    """Moves between accounts of `owners`, to be written when all are decided."""

    def __init__(self, connection: sa.Connection, owners: Iterable[str]) -> None:
        assert connection.dialect.name == "sqlite"
        names = msgspec.json.encode(sorted(owners)).decode()
        rows = _BALANCES(connection, owners=names).fetchall()
        self._balances = {Account(owner, Kind(kind), asset): int(units) for owner, kind, asset, units in rows}
        self._view = View(self._balances)
        self._owed = {account.owner: account for account, units in self._balances.items() if _is_owed(account, units)}
        self._moves: list[tuple[Transfer, int]] = []
        self._changed: set[Account] = set()

    def apply(self, move: Move, now_ms: int) -> Transfer:
        """Decide a move without a quote; raises Refused like `books.apply`, and then nothing changes.

        That a transfer is there already is found out when it is written.
        """
        assert move.quote is None
        if self._owed:
            self._check_debts(move)
        transfer, changed = decide(self._view, move, now_ms)
        for account, units in changed.items():
            self._balances[account] = self._balances.get(account, 0) + units
        self._changed.update(changed)
        self._moves.append((transfer, now_ms))
        return transfer

    def _check_debts(self, move: Move) -> None:
        for owner in books.spenders(move):
            if owner in self._owed:
                account = self._owed[owner]
                raise books.in_debt(account.asset, -self._balances[account])

    def write(self, connection: sa.Connection) -> None:
        """Write all moves. Raises sqlalchemy.exc.IntegrityError when one is there already."""
        books.write_moves(connection, self._moves)
        _SET_BALANCE.each(connection, [books.balance_row(each, self._balances[each]) for each in self._changed])


def _is_owed(account: Account, units: int) -> bool:
    return account.kind is Kind.DEBT and units < 0
