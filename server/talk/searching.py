"""Finds messages by their words, in the database's own full-text index, among those that an account sees."""

from __future__ import annotations

import re

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.talk import rows, showing
from server.talk.showing import oldest_kept
from signalling.identifiers import AccountId
from signalling.messenger.views import MessageView

MAX_WORDS = 10  # searched for at once
MAX_SEARCHED = 500  # conversations searched through: those with the newest messages
WORD = re.compile(r"\w+")

_MINE = Prepared(
    "SELECT c.id FROM conversation_members m JOIN conversations c ON c.id = m.conversation"
    " WHERE m.account = :account AND m.standing = 'in' ORDER BY c.last_at DESC LIMIT :limit"
)
_SEEN = (
    " JOIN conversation_members m ON m.conversation = x.conversation AND m.account = :account AND m.standing = 'in'"
    " WHERE {found} AND x.seq > m.since AND x.seq < :before AND (NOT x.withheld OR x.sender = :account)"
    " AND NOT EXISTS (SELECT 1 FROM messages_hidden h"
    " WHERE h.account = :account AND h.conversation = x.conversation AND h.seq = x.seq)"
    " ORDER BY x.id DESC LIMIT :limit"
)
_IN_SQLITE = Prepared(
    "SELECT x.conversation, x.seq, x.at FROM message_words w JOIN messages x ON x.id = w.rowid"
    + _SEEN.format(found="w.message_words MATCH :words")
)
_IN_POSTGRES = Prepared(
    "SELECT x.conversation, x.seq, x.at FROM messages x"
    + _SEEN.format(
        found="to_tsvector('simple', x.text) @@ to_tsquery('simple', :words) AND x.conversation = ANY(:conversations)"
    )
)


def search(
    connection: sa.Connection,
    account: AccountId,
    text: str,
    conversation: str | None,
    before: int,
    limit: int,
    now_ms: int,
) -> list[MessageView]:
    """Return the newest messages that hold all words of a text, the last of which may be a beginning.

    Within one conversation they have numbers below `before`.
    """
    words = WORD.findall(text)[:MAX_WORDS]
    places = [row[0] for row in _MINE(connection, account=account, limit=MAX_SEARCHED)]
    if conversation is not None:
        places = [conversation] if rows.find_member(connection, conversation, account) is not None else []
    if not words or not places:
        return []
    asked = {"account": account, "before": before, "limit": limit}
    if connection.dialect.name == "postgresql":
        wanted = " & ".join(f"'{word}'" for word in words) + ":*"
        found = _IN_POSTGRES(connection, **asked, words=wanted, conversations=places).fetchall()
    else:
        within = " OR ".join(f'"{place}"' for place in places)
        wanted = " AND ".join(f'"{word}"' for word in words) + " *"
        found = _IN_SQLITE(connection, **asked, words=f"conversation : ({within}) AND text : ({wanted})").fetchall()
    return [view for id, seq, at in found if (view := _kept(connection, id, seq, at, now_ms)) is not None]


def _kept(connection: sa.Connection, conversation: str, seq: int, at: int, now_ms: int) -> MessageView | None:
    within = rows.find(connection, conversation)
    if within is None or at <= oldest_kept(within.keep_s, now_ms):
        return None
    return showing.message(connection, conversation, seq)
