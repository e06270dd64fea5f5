"""Who sees whether somebody is here, and when they last were, as rows.

It is seen by those who are in a conversation with them, as far as they show it, and by nobody whom a block keeps apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from server.database.prepared import Prepared
from signalling.identifiers import AccountId

MINUTE_MS = 60_000  # to the second, it could be set against what others say and do

_SHOWN = Prepared(
    "SELECT s.at FROM accounts a LEFT JOIN talk_settings t ON t.account = a.id LEFT JOIN account_seen s"
    " ON s.account = a.id WHERE a.id = :account AND (a.id = :viewer OR (coalesce(t.shown_to, 'everyone') <> 'nobody'"
    " AND (coalesce(t.shown_to, 'everyone') = 'everyone'"
    " OR EXISTS (SELECT 1 FROM follows f WHERE f.follower = a.id AND f.streamer = :viewer))"
    " AND EXISTS (SELECT 1 FROM conversation_members m JOIN conversation_members o ON o.conversation = m.conversation"
    " WHERE m.account = a.id AND m.standing = 'in' AND o.account = :viewer AND o.standing = 'in')"
    " AND NOT EXISTS (SELECT 1 FROM blocks b WHERE (b.blocker = a.id AND b.blocked = :viewer)"
    " OR (b.blocker = :viewer AND b.blocked = a.id))))"
)
_NOTE = Prepared(
    "INSERT INTO account_seen (account, at) SELECT a.id, :at FROM accounts a WHERE a.id = :account AND NOT EXISTS"
    " (SELECT 1 FROM talk_settings t WHERE t.account = a.id AND t.shown_to = 'nobody')"
    " ON CONFLICT (account) DO UPDATE SET at = excluded.at"
)

Pair = tuple[AccountId, AccountId]  # who looks, and at whom


def shown(connection: sa.Connection, pairs: Iterable[Pair]) -> dict[Pair, int | None]:
    """Return the pairs of which the first may see how the second is, with when they last were here, as far as known."""
    found: dict[Pair, int | None] = {}
    for viewer, account in pairs:
        row = _SHOWN(connection, viewer=viewer, account=account).fetchone()
        if row is not None:
            found[viewer, account] = None if row[0] is None else row[0] - row[0] % MINUTE_MS
    return found


def note(connection: sa.Connection, accounts: Iterable[AccountId], now_ms: int) -> None:
    """Write down that accounts are here now, but for those who show it to nobody."""
    for account in sorted(accounts):
        _NOTE(connection, account=account, at=now_ms)
