"""What somebody's wallet shows: its history, each line a change of what may be spent, and with whom it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money import books
from server.money.amounts import Amount, WireAmount, wire_amount
from server.money.ledger import Kind, Phase
from signalling.identifiers import AccountId
from signalling.refusals import Refused
from signalling.wire.views import Person

# One line for all that a transfer did to a wallet: it is where the last of those entries is.
_LINES = Prepared(
    "SELECT e.id, e.transfer, t.phase, t.reason, t.of, e.asset, e.at, r.phase"
    " FROM entries e JOIN transfers t ON t.id = e.transfer LEFT JOIN transfers r ON r.of = t.id"
    " WHERE e.owner = :owner AND e.kind = 'wallet' AND e.id < :before AND NOT EXISTS (SELECT 1 FROM entries f"
    " WHERE f.transfer = e.transfer AND f.owner = e.owner AND f.kind = 'wallet' AND f.asset = e.asset AND f.id > e.id)"
    " ORDER BY e.id DESC LIMIT :limit"
)
_PARTIES = Prepared(
    "SELECT e.owner, e.kind, e.asset, e.units, a.name FROM entries e LEFT JOIN accounts a ON a.id = e.owner"
    " WHERE e.transfer = :transfer ORDER BY e.id"
)
_NEWEST = 2**63 - 1  # above every id of an entry

State = Literal["done", "held", "posted", "voided", "expired", "reversed"]


class LineView(msgspec.Struct, frozen=True, rename={"party": "with"}):
    """One change of what may be spent of an asset; all of them add up to what is there.

    `what` says for what, such as deposit, withdrawal, tip, ticket or debt; `amount` came `in` or went `out`, and `fee`
    is what the platform kept of what was paid. `with` is the other account, and `of` the transfer that this one takes
    back or ends, each null for none. `state` is what became of it: of a promise held, then posted, voided or expired;
    of all else done, or reversed once another line has taken it back.
    """

    id: str
    transfer: str
    of: str | None
    what: str
    direction: Literal["in", "out"]
    amount: WireAmount
    fee: WireAmount | None
    party: Person | None
    at: int
    state: State


class StatementPage(msgspec.Struct, frozen=True):
    """Some lines, the newest first; `cursor` leads to the next page, null when there is none."""

    entries: tuple[LineView, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A transfer from one side: by how many units that wallet changes, the fee, and who is on the other side."""

    units: int
    fee: Amount | None
    party: Person | None


def read_cursor_untrusted(cursor: str | None) -> int | None:
    """Return where a page begins; raises Refused("invalid_cursor")."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= len(str(_NEWEST)) and int(cursor) <= _NEWEST):
        raise Refused("invalid_cursor")
    return int(cursor)


def statement(connection: sa.Connection, owner: str, before: int | None, limit: int) -> StatementPage:
    """Return up to `limit` (at most `books.MAX_LINES`) lines of an owner's wallet that are older than `before`."""
    limit = min(limit, books.MAX_LINES)
    start = _NEWEST if before is None else before
    rows = _LINES(connection, owner=owner, before=start, limit=limit).fetchall()
    lines = []
    for identifier, transfer, phase, reason, of, asset, at, follower in rows:
        seen = _see(connection, transfer, owner, asset)
        lines.append(
            LineView(
                id=str(identifier),
                transfer=transfer,
                of=of,
                what=reason,
                direction="in" if seen.units > 0 else "out",
                amount=wire_amount(Amount(asset, abs(seen.units))),
                fee=None if seen.fee is None else wire_amount(seen.fee),
                party=seen.party,
                at=at,
                state=_state(Phase(phase), follower),
            )
        )
    return StatementPage(tuple(lines), str(rows[-1][0]) if len(rows) == limit else None)


def _see(connection: sa.Connection, transfer: str, owner: str, mine: str) -> _Seen:
    units = 0
    fee: Amount | None = None
    party: Person | None = None
    for other, kind, asset, text, name in _PARTIES(connection, transfer=transfer):
        if kind == Kind.FEE:
            fee = Amount(asset, abs(int(text)) + (0 if fee is None else fee.units))
        elif (other, kind, asset) == (owner, Kind.WALLET, mine):
            units += int(text)
        elif name is not None and other != owner:
            party = party or Person(AccountId(other), name)
    return _Seen(units, fee, party)


def _state(phase: Phase, follower: str | None) -> State:
    match phase:
        case Phase.HOLD:
            return "held" if follower is None else _ended(Phase(follower))
        case _:
            return "done" if follower is None else "reversed"


def _ended(phase: Phase) -> State:
    match phase:
        case Phase.POSTED:
            return "posted"
        case Phase.VOIDED:
            return "voided"
        case _:
            return "expired"
