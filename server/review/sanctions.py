"""What decisions impose on accounts: suspensions with an end, bans, and strikes for false reports."""

from __future__ import annotations

import sqlalchemy as sa

from server.access import relations
from server.database.prepared import Prepared
from signalling.identifiers import AccountId

STRIKES = 3  # so many false reports within STRIKES_MS, and the account reports nothing for PAUSE_MS
STRIKES_MS = 180 * 86_400_000
PAUSE_MS = 30 * 86_400_000
_ADD = Prepared(
    "INSERT INTO sanctions (case_id, account, kind, since, until, lifts) VALUES (:case_id, :account, :kind, :since,"
    " :until, :lifts)"
)
_IS_SUSPENDED = Prepared("SELECT 1 FROM account_facts WHERE account = :account AND suspended")
_ACTIVE = Prepared(
    "SELECT min(CASE WHEN lifts THEN 1 ELSE 0 END) FROM sanctions"
    " WHERE account = :account AND kind <> 'strike' AND lifted_at IS NULL"
)
_OF_CASE = Prepared("SELECT id, account, kind, lifts FROM sanctions WHERE case_id = :case_id AND lifted_at IS NULL")
_DUE = Prepared(
    "SELECT id, account, kind, lifts FROM sanctions WHERE until <= :now AND lifted_at IS NULL"
    " ORDER BY until LIMIT :limit"
)
_LIFT = Prepared("UPDATE sanctions SET lifted_at = :now WHERE id = :id")
_OUTLAST = Prepared("UPDATE sanctions SET lifts = FALSE WHERE account = :account AND lifted_at IS NULL")
_STRIKES = Prepared(
    "SELECT count(*), max(since) FROM sanctions WHERE account = :account AND kind = 'strike' AND since > :since"
    " AND lifted_at IS NULL"
)


def suspend(connection: sa.Connection, case: str, account: str, until: int | None, now_ms: int) -> None:
    """Suspend an account until a moment (epoch ms), None for good."""
    # Whom an operator had suspended before stays so when this ends.
    found = _ACTIVE(connection, account=account).fetchone()[0]
    lifts = bool(found) if found is not None else _IS_SUSPENDED(connection, account=account).fetchone() is None
    kind = "ban" if until is None else "suspension"
    _ADD(connection, case_id=case, account=account, kind=kind, since=now_ms, until=until, lifts=lifts)
    relations.set_account_facts(connection, AccountId(account), suspended=True, tier=None)


def outlast(connection: sa.Connection, account: str) -> None:
    """Let nothing that ends here end the suspension of an account: an operator has suspended it besides."""
    _OUTLAST(connection, account=account)


def strike(connection: sa.Connection, case: str, account: str, now_ms: int) -> None:
    """Count a false report."""
    _ADD(connection, case_id=case, account=account, kind="strike", since=now_ms, until=None, lifts=False)


def lift_of_case(connection: sa.Connection, case: str, now_ms: int) -> list[AccountId]:
    """Take back what a case imposed; returns who is no longer suspended."""
    return _lift(connection, _OF_CASE(connection, case_id=case).fetchall(), now_ms)


def any_due(connection: sa.Connection, now_ms: int) -> bool:
    """Return whether there are suspensions whose time is over."""
    return _DUE(connection, now=now_ms, limit=1).fetchone() is not None


def lift_due(connection: sa.Connection, now_ms: int, limit: int) -> list[AccountId]:
    """End suspensions whose time is over; returns who is no longer suspended."""
    return _lift(connection, _DUE(connection, now=now_ms, limit=limit).fetchall(), now_ms)


def paused_until(connection: sa.Connection, account: str, now_ms: int) -> int | None:
    """Return until when an account reports nothing for its false reports (epoch ms), None where it may."""
    count, last = strikes(connection, account, now_ms)
    return last + PAUSE_MS if last is not None and count >= STRIKES and now_ms < last + PAUSE_MS else None


def strikes(connection: sa.Connection, account: str, now_ms: int) -> tuple[int, int | None]:
    """Return how many reports of an account were false lately, and when the last of them was decided (epoch ms)."""
    count, last = _STRIKES(connection, account=account, since=now_ms - STRIKES_MS).fetchone()
    return count, last


def _lift(connection: sa.Connection, rows: list[tuple[int, str, str, bool]], now_ms: int) -> list[AccountId]:
    free = []
    for id, account, kind, lifts in rows:
        _LIFT(connection, id=id, now=now_ms)
        if kind != "strike" and lifts and _ACTIVE(connection, account=account).fetchone()[0] is None:
            relations.set_account_facts(connection, AccountId(account), suspended=False, tier=None)
            free.append(AccountId(account))
    return free
