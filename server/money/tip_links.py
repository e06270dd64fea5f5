"""Tip links in the database: a code that leads to somebody's profile with a suggestion, and what came by it.

A link is no secret and moves no money; its code is long so that nobody finds others' links by trying.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money.amounts import Amount, WireAmount, wire_amount
from signalling.refusals import Refused

MAX_LINKS = 100  # of one account that lead somewhere: one for each place where somebody shows a link
CODE_BYTES = 16  # 128 bits: nobody finds one by trying

_LEADS = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"
_ADD = Prepared(
    "INSERT INTO tip_links (code, owner, asset, units, note, created_at, expires_at)"
    " VALUES (:code, :owner, :asset, :units, :note, :now, :expires_at)"
)
_COUNT = Prepared(f"SELECT count(*) FROM tip_links WHERE owner = :owner AND {_LEADS}")
_FIND = Prepared(
    "SELECT l.owner, a.name, l.asset, l.units, l.note, l.expires_at FROM tip_links l JOIN accounts a ON a.id = l.owner"
    " LEFT JOIN account_facts f ON f.account = l.owner"
    f" WHERE l.code = :code AND {_LEADS} AND NOT coalesce(f.suspended, FALSE)"
)
_LIST = Prepared(
    "SELECT code, asset, units, note, created_at, expires_at, (SELECT count(*) FROM tip_link_visits v"
    f" WHERE v.code = tip_links.code) FROM tip_links WHERE owner = :owner AND {_LEADS} ORDER BY created_at DESC, code"
)
_TIPPED = Prepared(
    "SELECT t.link, t.asset, t.units FROM tips t JOIN tip_links l ON l.code = t.link WHERE l.owner = :owner"
    f" AND {_LEADS} AND NOT EXISTS (SELECT 1 FROM transfers r WHERE r.of = t.id)"
)
_REVOKE = Prepared(f"UPDATE tip_links SET revoked_at = :now WHERE code = :code AND owner = :owner AND {_LEADS}")
_VISIT = Prepared(
    "INSERT INTO tip_link_visits (code, account, at) VALUES (:code, :account, :at) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link to make: what it suggests, maybe nothing, a note of its owner's for who follows it, and its end (ms)."""

    owner: str
    suggested: Amount | None
    note: str
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class TipLink:
    """Where a code leads; `to` is the owner's name."""

    code: str
    owner: str
    to: str
    suggested: Amount | None
    note: str
    expires_at: int | None


class LinkStats(msgspec.Struct, frozen=True):
    """A link as its owner sees it; `visits` counts accounts, `tips` what was given by it and not taken back."""

    code: str
    suggested: WireAmount | None
    note: str
    created_at: int
    expires_at: int | None
    visits: int
    tips: int
    tipped: tuple[WireAmount, ...]


def create(connection: sa.Connection, new: NewLink, now_ms: int) -> TipLink:
    """Make a link; raises Refused("too_many_tip_links")."""
    if _COUNT(connection, owner=new.owner, now=now_ms).fetchone()[0] >= MAX_LINKS:
        raise Refused("too_many_tip_links")
    code, given = secrets.token_urlsafe(CODE_BYTES), new.suggested
    _ADD(
        connection,
        code=code,
        owner=new.owner,
        asset=None if given is None else given.asset,
        units=None if given is None else str(given.units),
        note=new.note,
        now=now_ms,
        expires_at=new.expires_at,
    )
    return find(connection, code, now_ms)


def find(connection: sa.Connection, code: str, now_ms: int) -> TipLink:
    """Return where a code leads. Raises Refused("tip_link_unknown"), the same for whatever leads nowhere."""
    row = _FIND(connection, code=code, now=now_ms).fetchone()
    if row is None:
        raise Refused("tip_link_unknown")
    return TipLink(code, row[0], row[1], _suggested(row[2], row[3]), row[4], row[5])


def listed(connection: sa.Connection, owner: str, now_ms: int) -> list[LinkStats]:
    """Return somebody's links that lead somewhere, the newest first, with what came by each."""
    tipped: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    counts: defaultdict[str, int] = defaultdict(int)
    for code, asset, units in _TIPPED(connection, owner=owner, now=now_ms):
        tipped[code][asset] += int(units)
        counts[code] += 1
    return [
        LinkStats(
            code=row[0],
            suggested=_wire(_suggested(row[1], row[2])),
            note=row[3],
            created_at=row[4],
            expires_at=row[5],
            visits=row[6],
            tips=counts[row[0]],
            tipped=tuple(wire_amount(Amount(asset, units)) for asset, units in sorted(tipped[row[0]].items())),
        )
        for row in _LIST(connection, owner=owner, now=now_ms)
    ]


def revoke(connection: sa.Connection, code: str, owner: str, now_ms: int) -> None:
    """Let a link lead nowhere from now on; raises Refused("tip_link_unknown")."""
    if _REVOKE(connection, code=code, owner=owner, now=now_ms).rowcount != 1:
        raise Refused("tip_link_unknown")


def visit(connection: sa.Connection, code: str, account: str, now_ms: int) -> None:
    """Count who followed a link, once, and not its owner; raises Refused("tip_link_unknown")."""
    if find(connection, code, now_ms).owner != account:
        _VISIT(connection, code=code, account=account, at=now_ms)


def _suggested(asset: str | None, units: str | None) -> Amount | None:
    return None if asset is None or units is None else Amount(asset, int(units))


def _wire(amount: Amount | None) -> WireAmount | None:
    return None if amount is None else wire_amount(amount)
