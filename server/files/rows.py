"""Files as rows: begun within the space of their owner, arrived, judged, dropped."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.files.settings import FileSettings
from signalling.identifiers import AccountId
from signalling.refusals import Refused

State = Literal["uploading", "received", "ready", "refused", "dropped"]
DAY_MS = 86_400_000  # what is not whole by then, or shown in no message, is removed
MAX_OPEN = 16  # uploads of one account that are not whole: a page sends three at once
UNLIMITED = 2**62

_COLUMNS = "id, owner, name, size, sha256, state, problem, type, facts, uses, created_at, expires_at"
_FIND = Prepared(f"SELECT {_COLUMNS} FROM files WHERE id = :id")
_LOCK = Prepared(f"SELECT {_COLUMNS} FROM files WHERE id = :id", locks=True)
_TIER = Prepared("SELECT tier FROM account_facts WHERE account = :account")
_BEGIN_USE = Prepared("INSERT INTO file_usage (account, bytes) VALUES (:account, 0) ON CONFLICT DO NOTHING")
_USE = Prepared(
    "UPDATE file_usage SET bytes = bytes + :size WHERE account = :account AND bytes + :size <= :limit RETURNING bytes"
)
_USED = Prepared("SELECT bytes FROM file_usage WHERE account = :account")
_CHARGE = Prepared("UPDATE files SET charged = size WHERE id = :id AND charged = 0 RETURNING owner, size")
_DISCHARGE = Prepared("UPDATE files SET charged = 0 WHERE id = :id")
_GIVE_BACK = Prepared("UPDATE file_usage SET bytes = bytes - :size WHERE account = :account")
_CHARGED = Prepared("SELECT owner, charged FROM files WHERE id = :id", locks=True)
_COUNT_OPEN = Prepared("SELECT count(*) FROM files WHERE owner = :owner AND state = 'uploading'")
_ADD = Prepared(
    "INSERT INTO files (id, owner, name, size, sha256, state, facts, charged, uses, created_at, expires_at)"
    " VALUES (:id, :owner, :name, :size, :sha256, 'uploading', '{}', :size, 0, :at, :expires)"
)
_ARRIVE = Prepared("UPDATE files SET state = 'received', expires_at = :expires WHERE id = :id AND state = 'uploading'")
_SETTLE = Prepared(
    "UPDATE files SET state = 'ready', type = :type, size = :size, facts = :facts, charged = :charged,"
    " expires_at = :expires WHERE id = :id"
)
_REFUSE = Prepared(
    "UPDATE files SET state = 'refused', problem = :problem, charged = 0, expires_at = :expires WHERE id = :id"
)
_DROP = Prepared("UPDATE files SET state = 'dropped', charged = 0, expires_at = 0 WHERE id = :id AND uses = 0")
_RECEIVED = Prepared("SELECT id FROM files WHERE state = 'received' ORDER BY created_at, id LIMIT :limit")
_DUE = Prepared("SELECT id FROM files WHERE expires_at <= :now LIMIT :limit")
_FORGET = Prepared("DELETE FROM files WHERE id = :id AND state = 'dropped'")


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a file besides its type; `preview_bytes` is the size of a small picture of it, 0 for none."""

    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    preview_bytes: int = 0


class File(msgspec.Struct, frozen=True):
    """One file."""

    id: str
    owner: AccountId
    name: str
    size: int
    sha256: str
    state: State
    problem: str | None
    type: str | None
    facts: Facts
    uses: int
    created_at: int
    expires_at: int | None


class Usage(msgspec.Struct, frozen=True):
    """How much of its space an account uses, in bytes; no limit is null."""

    used: int
    limit: int | None


def begin(connection: sa.Connection, file: File, settings: FileSettings) -> None:
    """Write down a file to be uploaded; its space is taken from now on.

    Raises Refused (space_used, too_many_uploads).
    """
    limit = _limit(connection, file.owner, settings)
    _BEGIN_USE(connection, account=file.owner)
    room = UNLIMITED if limit is None else limit
    if _USE(connection, account=file.owner, size=file.size, limit=room).fetchone() is None:
        raise Refused("space_used", limit=limit)
    if _COUNT_OPEN(connection, owner=file.owner).fetchone()[0] >= MAX_OPEN:
        raise Refused("too_many_uploads", f"at most {MAX_OPEN} that are not whole")
    _ADD(
        connection,
        id=file.id,
        owner=file.owner,
        name=file.name,
        size=file.size,
        sha256=file.sha256,
        at=file.created_at,
        expires=file.expires_at,
    )


def usage(connection: sa.Connection, account: AccountId, settings: FileSettings) -> Usage:
    """Return how much an account keeps."""
    row = _USED(connection, account=account).fetchone()
    return Usage(0 if row is None else row[0], _limit(connection, account, settings))


def find(connection: sa.Connection, id: str) -> File | None:
    """Return a file."""
    return _file(_FIND(connection, id=id).fetchone())


def lock(connection: sa.Connection, id: str) -> File | None:
    """Return a file that nobody else changes until the commit."""
    return _file(_LOCK(connection, id=id).fetchone())


def arrive(connection: sa.Connection, id: str, now_ms: int) -> bool:
    """Write down that a file is whole; returns whether there is one to be."""
    return bool(_ARRIVE(connection, id=id, expires=now_ms + DAY_MS).rowcount)


def settle(connection: sa.Connection, id: str, kept: Kept, now_ms: int) -> bool:
    """Write down what a file turned out to be; returns whether it is still wanted."""
    found = lock(connection, id)
    if found is None or found.state != "received":
        return False
    _charge_no_longer(connection, id)
    _SETTLE(
        connection,
        id=id,
        type=kept.type,
        size=kept.size,
        facts=msgspec.json.encode(kept.facts).decode(),
        charged=kept.size,
        expires=now_ms + DAY_MS,
    )
    _GIVE_BACK(connection, account=found.owner, size=-kept.size)
    return True


class Kept(msgspec.Struct, frozen=True):
    """What is kept of an upload."""

    type: str
    size: int
    facts: Facts


def refuse(connection: sa.Connection, id: str, problem: str, now_ms: int) -> None:
    """Write down why a file is not taken; its owner can read it for a day."""
    found = lock(connection, id)
    if found is None or found.state not in ("uploading", "received"):
        return
    _charge_no_longer(connection, id)
    _REFUSE(connection, id=id, problem=problem, expires=now_ms + DAY_MS)


def drop(connection: sa.Connection, id: str) -> bool:
    """Let nobody see a file any more, unless a message shows it; returns whether that was done."""
    found = lock(connection, id)
    if found is None or found.uses:
        return False
    _charge_no_longer(connection, id)
    return bool(_DROP(connection, id=id).rowcount)


def is_charged(connection: sa.Connection, id: str) -> bool:
    """Whether a file takes of its owner's space; one that is kept for others alone does not."""
    row = _CHARGED(connection, id=id).fetchone()
    return row is not None and row[1] > 0


def charge(connection: sa.Connection, id: str) -> None:
    """Let a file take of its owner's space again, even where there is none left."""
    row = _CHARGE(connection, id=id).fetchone()
    if row is not None:
        _GIVE_BACK(connection, account=row[0], size=-row[1])


def discharge(connection: sa.Connection, id: str) -> None:
    """Let a file that stays take nothing of its owner's space."""
    _charge_no_longer(connection, id)
    _DISCHARGE(connection, id=id)


def received(connection: sa.Connection, limit: int) -> list[str]:
    """Return files that are whole and were not looked at yet, the oldest first."""
    return [row[0] for row in _RECEIVED(connection, limit=limit).fetchall()]


def due(connection: sa.Connection, now_ms: int, limit: int) -> list[str]:
    """Return files that are to be removed."""
    return [row[0] for row in _DUE(connection, now=now_ms, limit=limit).fetchall()]


def drop_each(connection: sa.Connection, ids: list[str]) -> list[str]:
    """Drop files; returns those that are."""
    return [id for id in ids if drop(connection, id)]


def forget_each(connection: sa.Connection, ids: list[str]) -> None:
    """Forget files whose content is gone."""
    for id in ids:
        _FORGET(connection, id=id)


def _limit(connection: sa.Connection, account: AccountId, settings: FileSettings) -> int | None:
    tier = _TIER(connection, account=account).fetchone()
    return settings.space_of(0 if tier is None else tier[0])


def _charge_no_longer(connection: sa.Connection, id: str) -> None:
    """Give its owner back what a file takes; what it takes from then on is for the caller to write down."""
    row = _CHARGED(connection, id=id).fetchone()
    if row is not None and row[1]:
        _GIVE_BACK(connection, account=row[0], size=row[1])


def _file(row: tuple[Any, ...] | None) -> File | None:
    if row is None:
        return None
    id, owner, name, size, sha256, state, problem, type, facts, uses, created_at, expires_at = row
    known = msgspec.json.decode(facts, type=Facts)
    return File(id, AccountId(owner), name, size, sha256, state, problem, type, known, uses, created_at, expires_at)
