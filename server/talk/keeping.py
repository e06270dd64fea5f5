"""Drops messages that are older than their conversation keeps them, from the front and in bounds.

Those of a conversation that a case is about wait until it is closed, and let go.
"""

from __future__ import annotations

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.files import uses

_DUE = Prepared(
    "SELECT c.id, c.keep_s FROM conversations c WHERE c.keep_s IS NOT NULL AND"
    " (SELECT x.at FROM messages x WHERE x.conversation = c.id ORDER BY x.seq LIMIT 1) <= :now - c.keep_s * 1000"
    " AND NOT EXISTS (SELECT 1 FROM cases d WHERE d.conversation = c.id AND (d.legal_hold OR d.state <> 'closed'))"
    " LIMIT :limit"
)
_DROP = Prepared(
    "DELETE FROM messages WHERE conversation = :conversation AND at <= :until AND seq IN"
    " (SELECT seq FROM messages WHERE conversation = :conversation ORDER BY seq LIMIT :limit)"
)
_BELOW = " WHERE conversation = :conversation AND seq < :oldest"
_DROP_REACTIONS = Prepared(f"DELETE FROM message_reactions{_BELOW}")
_DROP_HIDDEN = Prepared(f"DELETE FROM messages_hidden{_BELOW}")
_OLDEST = Prepared("SELECT min(seq) FROM messages WHERE conversation = :conversation")
_HEAD = Prepared("SELECT head FROM conversations WHERE id = :conversation")


def drop_old(connection: sa.Connection, now_ms: int, limit: int) -> int:
    """Drop messages that are kept no longer; returns how many."""
    dropped = 0
    for conversation, keep_s in _DUE(connection, now=now_ms, limit=limit).fetchall():
        until = now_ms - keep_s * 1000
        dropped += _DROP(connection, conversation=conversation, until=until, limit=limit).rowcount
        oldest = _OLDEST(connection, conversation=conversation).fetchone()[0]
        if oldest is None:
            oldest = _HEAD(connection, conversation=conversation).fetchone()[0] + 1
        for statement in (_DROP_REACTIONS, _DROP_HIDDEN):
            statement(connection, conversation=conversation, oldest=oldest)
        uses.release_below(connection, conversation, oldest)
    return dropped
