"""Who reviews: accounts to which the operator gave that role."""

from __future__ import annotations

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.names import fold
from signalling.identifiers import AccountId
from signalling.refusals import Refused

MAX_MODERATORS = 1000  # each is told of every case that waits
_FIND = Prepared("SELECT id FROM accounts WHERE folded = :folded")
_ADD = Prepared("INSERT INTO moderators (account, since) VALUES (:account, :since) ON CONFLICT DO NOTHING")
_REMOVE = Prepared("DELETE FROM moderators WHERE account = :account")
_COUNT = Prepared("SELECT count(*) FROM moderators")
_IS_ONE = Prepared(
    "SELECT 1 FROM moderators m LEFT JOIN account_facts f ON f.account = m.account"
    " WHERE m.account = :account AND NOT coalesce(f.suspended, FALSE)"
)
_LIST = Prepared("SELECT a.id, a.name, m.since FROM moderators m JOIN accounts a ON a.id = m.account ORDER BY a.folded")


def add(connection: sa.Connection, name: str, now_ms: int) -> AccountId:
    """Let an account review. Raises Refused (account_unknown, too_many_moderators)."""
    account = _find(connection, name)
    if _COUNT(connection).fetchone()[0] >= MAX_MODERATORS:
        raise Refused("too_many_moderators")
    _ADD(connection, account=account, since=now_ms)
    return account


def remove(connection: sa.Connection, name: str) -> AccountId:
    """Let an account review no more. Raises Refused("account_unknown")."""
    account = _find(connection, name)
    _REMOVE(connection, account=account)
    return account


def is_one(connection: sa.Connection, account: str) -> bool:
    """Return whether an account reviews."""
    return _IS_ONE(connection, account=account).fetchone() is not None


def everybody(connection: sa.Connection) -> list[tuple[AccountId, str, int]]:
    """Return who reviews: id, name, and since when."""
    return [(AccountId(id), name, since) for id, name, since in _LIST(connection)]


def _find(connection: sa.Connection, name: str) -> AccountId:
    row = _FIND(connection, folded=fold(name)).fetchone()
    if row is None:
        raise Refused("account_unknown", f"nobody is called {name!r} here")
    return AccountId(row[0])
