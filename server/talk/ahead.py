"""Looks up in one query what the messages need that are written together; only SQLite writes several together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from server.database.prepared import Several
from server.talk import rows
from signalling.messenger.model import Conversation, Member

_LOOK = Several(
    "WITH k (n, conversation, sender, txn) AS ({{keys}})"
    " SELECT k.n, a.name, {conversation}, {member}, x.seq, x.at, x.text, x.edited_at, x.erased_at"
    " FROM k CROSS JOIN conversations c ON c.id = k.conversation"
    " LEFT JOIN conversation_members m ON m.conversation = k.conversation AND m.account = k.sender"
    " LEFT JOIN accounts a ON a.id = k.sender"
    " LEFT JOIN messages x ON x.conversation = k.conversation AND x.sender = k.sender AND x.txn = k.txn".format(
        conversation=rows.columns(rows.CONVERSATION, "c"), member=rows.columns(rows.MEMBER, "m")
    ),
    4,
)


class Named(Protocol):
    """What is to be written: where, by whom, and what its sender calls it."""

    @property
    def conversation(self) -> str:
        """The conversation's id."""

    @property
    def sender(self) -> str:
        """The sender's account."""

    @property
    def txn(self) -> str:
        """The sender's name for it."""


class Ahead(NamedTuple):
    """What is known of a message's conversation, of its sender, and of the message, where it was written before."""

    name: str
    member: Member | None
    known: tuple[Any, ...] | None


class Looked(NamedTuple):
    """The conversations, and what is known of each message by its place; of unknown conversations there is nothing."""

    conversations: dict[str, Conversation]
    each: dict[int, Ahead]


def look(connection: sa.Connection, drafts: Sequence[Named]) -> Looked:
    """Look up what several messages need."""
    looked = Looked({}, {})
    if len(drafts) < 2 or connection.dialect.name != "sqlite":
        return looked
    keys = [(n, draft.conversation, draft.sender, draft.txn) for n, draft in enumerate(drafts)]
    members_at = 2 + len(rows.CONVERSATION)
    known_at = members_at + len(rows.MEMBER)
    for row in _LOOK(connection, keys):
        id = row[2]
        if id not in looked.conversations:
            looked.conversations[id] = Conversation(*row[2:members_at])
        member = None if row[members_at] is None else rows.member(row[members_at:known_at])
        known = None if row[known_at] is None else row[known_at:]
        looked.each[row[0]] = Ahead(row[1], member, known)
    return looked
