"""The ledger in the database: what `ledger.step` decides, written in the transaction of whoever calls.

Every function takes an open connection, so that a ticket, its price and the event that tells of it are one transaction:
`await store.write(fn, ...)` returns when all of it is on the disk. Units are decimal text, exact at any size in both
databases; balances are what the entries add up to, kept beside them under a CHECK.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money.ledger import (
    Account,
    Command,
    Expire,
    Hold,
    Kind,
    Leg,
    Move,
    Phase,
    Transfer,
    View,
    about,
    decide,
    touched,
)
from server.money.quotes import Quote, Rate
from signalling.refusals import Refused

MAX_LINES = 200  # of a history in one go
_TRANSFER = (
    "SELECT t.id, t.phase, t.reason, t.of, t.expires_at, q.id, q.asset, q.target, q.numerator, q.denominator,"
    " q.source, q.taken_at, q.expires_at FROM transfers t LEFT JOIN quotes q ON q.id = t.quote WHERE t.id = :id"
)
_FIND_TRANSFER = Prepared(_TRANSFER)
_LOCK_TRANSFER = Prepared("SELECT id FROM transfers WHERE id = :id", locks=True)
_FIND_FOLLOWER = Prepared("SELECT 1 FROM transfers WHERE of = :id")
_ADD_TRANSFER = Prepared(
    "INSERT INTO transfers (id, phase, reason, of, expires_at, quote, at)"
    " VALUES (:id, :phase, :reason, :of, :expires_at, :quote, :at) ON CONFLICT DO NOTHING"
)
_ADD_MOVE = Prepared("INSERT INTO transfers (id, phase, reason, at) VALUES (:id, 'immediate', :reason, :at)")
_ADD_ENTRY = Prepared(
    "INSERT INTO entries (transfer, leg, owner, kind, asset, units, at)"
    " VALUES (:transfer, :leg, :owner, :kind, :asset, :units, :at)"
)
_FIND_ENTRIES = Prepared("SELECT leg, owner, kind, asset, units FROM entries WHERE transfer = :id ORDER BY leg, id")
_LOCK_BALANCE = Prepared(
    "SELECT units FROM balances WHERE owner = :owner AND kind = :kind AND asset = :asset", locks=True
)
_FIND_BALANCES = Prepared("SELECT kind, asset, units FROM balances WHERE owner = :owner ORDER BY kind, asset")
_OWES = Prepared(
    "SELECT asset, units FROM balances WHERE owner = :owner AND kind = 'debt' AND substr(units, 1, 1) = '-'"
)
_OPEN_BALANCE = Prepared(
    "INSERT INTO balances (owner, kind, asset, units) VALUES (:owner, :kind, :asset, '0') ON CONFLICT DO NOTHING"
)
_SET_BALANCE = Prepared("UPDATE balances SET units = :units WHERE owner = :owner AND kind = :kind AND asset = :asset")
_ADD_HOLD = Prepared(
    "INSERT INTO open_holds (id, owner, asset, units, expires_at) VALUES (:id, :owner, :asset, :units, :expires_at)"
)
_END_HOLD = Prepared("DELETE FROM open_holds WHERE id = :id")
_DUE_HOLDS = Prepared("SELECT id FROM open_holds WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit")
_ADD_QUOTE = Prepared(
    "INSERT INTO quotes (id, asset, target, numerator, denominator, source, taken_at, expires_at)"
    " VALUES (:id, :asset, :target, :numerator, :denominator, :source, :taken_at, :expires_at) ON CONFLICT DO NOTHING"
)
_FIND_QUOTE = Prepared(
    "SELECT id, asset, target, numerator, denominator, source, taken_at, expires_at FROM quotes WHERE id = :id"
)
_HISTORY = Prepared(
    "SELECT e.id, e.transfer, t.phase, t.reason, e.kind, e.asset, e.units, e.at"
    " FROM entries e JOIN transfers t ON t.id = e.transfer"
    " WHERE e.owner = :owner AND e.id < :before ORDER BY e.id DESC LIMIT :limit"
)
_FIRST_LINE = 2**63 - 1  # above every id of an entry


def apply(connection: sa.Connection, command: Command, now_ms: int) -> Transfer:
    """Do one command and return what was written.

    Raises Refused like `ledger.step`, Refused("transfer_exists") when the books have its id already, and
    Refused("in_debt") when somebody would spend who owes. Then nothing was written, and the caller may do something
    else in the same transaction.
    """
    subject = about(command)
    past = None if subject is None else _find(connection, subject)
    settled = past is not None and _FIND_FOLLOWER(connection, id=past.id).fetchone() is not None
    balances = _lock(connection, touched(command, past))
    for owner in spenders(command):
        _check_debts(connection, owner)
    transfer, changed = decide(View(balances, past, settled), command, now_ms)
    _write(connection, transfer, now_ms)
    rows = [{**account_row(account), "units": str(balances[account] + units)} for account, units in changed.items()]
    _SET_BALANCE.many(connection, rows)
    return transfer


def find_transfer(connection: sa.Connection, identifier: str) -> Transfer | None:
    """Return a transfer with its legs."""
    row = _FIND_TRANSFER(connection, id=identifier).fetchone()
    if row is None:
        return None
    quote = None if row[5] is None else read_quote(row[5:])
    return Transfer(row[0], Phase(row[1]), row[2], _legs(connection, identifier), row[3], row[4], quote)


def balance(connection: sa.Connection, account: Account) -> int:
    """Return the units of one account."""
    return balances_of(connection, account.owner).get(account, 0)


def balances_of(connection: sa.Connection, owner: str) -> dict[Account, int]:
    """Return all accounts of an owner."""
    rows = _FIND_BALANCES(connection, owner=owner)
    return {Account(owner, Kind(kind), asset): int(units) for kind, asset, units in rows}


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of an owner's history; `units` are below 0 where it was given, `at` is in epoch ms."""

    id: int
    transfer: str
    phase: Phase
    reason: str
    kind: Kind
    asset: str
    units: int
    at: int


def history(connection: sa.Connection, owner: str, before: int | None, limit: int) -> list[Line]:
    """Return up to `limit` (at most MAX_LINES) entries of an owner before an id, the newest first."""
    start = _FIRST_LINE if before is None else before
    rows = _HISTORY(connection, owner=owner, before=start, limit=min(limit, MAX_LINES))
    return [Line(r[0], r[1], Phase(r[2]), r[3], Kind(r[4]), r[5], int(r[6]), r[7]) for r in rows]


def due_holds(connection: sa.Connection, now_ms: int, limit: int) -> list[str]:
    """Return the holds whose time has run out, the oldest first."""
    return [row[0] for row in _DUE_HOLDS(connection, now=now_ms, limit=limit)]


def expire_due(connection: sa.Connection, now_ms: int, limit: int) -> list[Transfer]:
    """Give back what has run out; returns the transfers that did it."""
    return [apply(connection, Expire(hold), now_ms) for hold in due_holds(connection, now_ms, limit)]


def save_quote(connection: sa.Connection, quote: Quote) -> None:
    """Write a quote down, so that it can be kept and shown later."""
    _ADD_QUOTE(connection, **quote_row(quote))


def find_quote(connection: sa.Connection, identifier: str) -> Quote | None:
    """Return a quote that was written down."""
    row = _FIND_QUOTE(connection, id=identifier).fetchone()
    return None if row is None else read_quote(row)


# -- rows --------------------------------------------------------------------------------------------------------------


def _find(connection: sa.Connection, identifier: str) -> Transfer | None:
    # Locked first, read afterwards: who had to wait for the lock then sees what the other has written.
    if _LOCK_TRANSFER(connection, id=identifier).fetchone() is None:
        return None
    return find_transfer(connection, identifier)


def quote_row(quote: Quote) -> dict[str, str | int]:
    """Return a quote as the columns of a row."""
    rate = quote.rate
    return {
        "id": quote.id,
        "asset": rate.asset,
        "target": rate.target,
        "numerator": str(rate.numerator),
        "denominator": str(rate.denominator),
        "source": rate.source,
        "taken_at": rate.taken_at,
        "expires_at": quote.expires_at,
    }


def read_quote(row: Sequence[object]) -> Quote:
    """Return the quote of a row, its columns in the order of `quote_row`."""
    identifier, asset, target, numerator, denominator, source, taken_at, expires_at = row
    rate = Rate(str(asset), str(target), _int(numerator), _int(denominator), str(source), _int(taken_at))
    return Quote(str(identifier), rate, _int(expires_at))


def spenders(command: Command) -> set[str]:
    """Return whose wallets a command takes from, for anything but what its owner owes."""
    match command:
        case Hold(wallet=wallet):
            return {wallet.owner}
        case Move(legs=legs):
            return {
                leg.source.owner for leg in legs if leg.source.kind is Kind.WALLET and leg.target.kind is not Kind.DEBT
            }
        case _:
            return set()


def _check_debts(connection: sa.Connection, owner: str) -> None:
    owed = _OWES(connection, owner=owner).fetchone()
    if owed is not None:
        raise in_debt(owed[0], -int(owed[1]))


def in_debt(asset: str, units: int) -> Refused:
    """Return what somebody is told who would spend and owes `units`."""
    return Refused("in_debt", owed={"asset": asset, "units": str(units)})


def _int(value: object) -> int:
    assert isinstance(value, str | int)
    return int(value)


def _legs(connection: sa.Connection, transfer: str) -> tuple[Leg, ...]:
    sources: dict[int, Account] = {}
    targets: dict[int, tuple[Account, int]] = {}
    for leg, owner, kind, asset, text in _FIND_ENTRIES(connection, id=transfer):
        account, units = Account(owner, Kind(kind), asset), int(text)
        if units < 0:
            sources[leg] = account
        else:
            targets[leg] = account, units
    return tuple(Leg(sources[leg], *targets[leg]) for leg in sorted(sources))


def _lock(connection: sa.Connection, accounts: Iterable[Account]) -> dict[Account, int]:
    """Return the balances, kept from other writers; in one order everywhere, so that two don't wait for each other."""
    balances: dict[Account, int] = {}
    for account in sorted(accounts):
        row = _LOCK_BALANCE(connection, **account_row(account)).fetchone()
        if row is None:
            _OPEN_BALANCE(connection, **account_row(account))
            row = _LOCK_BALANCE(connection, **account_row(account)).fetchone()
        balances[account] = int(row[0])
    return balances


def account_row(account: Account) -> dict[str, str]:
    """Return an account as columns."""
    return {"owner": account.owner, "kind": account.kind.value, "asset": account.asset}


def balance_row(account: Account, units: int) -> tuple[str, ...]:
    """Return what an account has, in the order of the table's columns."""
    return account.owner, str(account.kind), account.asset, str(units)


def _transfer_row(transfer: Transfer, now_ms: int) -> dict[str, str | int | None]:
    return {
        "id": transfer.id,
        "phase": transfer.phase.value,
        "reason": transfer.reason,
        "of": transfer.of,
        "expires_at": transfer.expires_at,
        "quote": None if transfer.quote is None else transfer.quote.id,
        "at": now_ms,
    }


def _entry_rows(moves: Iterable[tuple[Transfer, int]]) -> list[tuple[str | int, ...]]:
    return [
        (transfer.id, number, account.owner, str(account.kind), account.asset, str(units), now_ms)
        for transfer, now_ms in moves
        for number, leg in enumerate(transfer.legs)
        for account, units in ((leg.source, -leg.units), (leg.target, leg.units))
    ]


def write_moves(connection: sa.Connection, moves: Sequence[tuple[Transfer, int]]) -> None:
    """Write moves without a quote, each with its time (epoch ms), but not yet what they change of the balances.

    Raises sqlalchemy.exc.IntegrityError when one is there already.
    """
    _ADD_MOVE.each(connection, [(transfer.id, transfer.reason, now_ms) for transfer, now_ms in moves])
    _ADD_ENTRY.each(connection, _entry_rows(moves))


def _write(connection: sa.Connection, transfer: Transfer, now_ms: int) -> None:
    if transfer.quote is not None:
        save_quote(connection, transfer.quote)
    if _ADD_TRANSFER(connection, **_transfer_row(transfer, now_ms)).rowcount != 1:
        raise Refused("transfer_exists")
    _ADD_ENTRY.each(connection, _entry_rows([(transfer, now_ms)]))
    if transfer.phase is Phase.HOLD:
        (promise,) = transfer.legs
        _ADD_HOLD(
            connection,
            id=transfer.id,
            owner=promise.source.owner,
            asset=promise.source.asset,
            units=str(promise.units),
            expires_at=transfer.expires_at,
        )
    elif transfer.of is not None and transfer.phase is not Phase.REVERSED:
        _END_HOLD(connection, id=transfer.of)
