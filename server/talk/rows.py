"""Conversations and their members as rows: read, locked, and written back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from server.database.prepared import Prepared
from signalling.identifiers import AccountId
from signalling.messenger.model import Conversation, ConversationId, Member, Role, Standing

CONVERSATION = ("id", "kind", "title", "head", "members", "history", "joining", "posting", "keep_s")
MEMBER = ("account", "role", "standing", "since", "seated", "delivered", "read", "seen", "draft <> ''")
_CONVERSATION, _MEMBER = ", ".join(CONVERSATION), ", ".join(MEMBER)
_FIND = Prepared(f"SELECT {_CONVERSATION} FROM conversations WHERE id = :id")
_LOCK = Prepared(f"SELECT {_CONVERSATION} FROM conversations WHERE id = :id", locks=True)
_FIND_MEMBER = Prepared(
    f"SELECT {_MEMBER} FROM conversation_members WHERE conversation = :conversation AND account = :account"
)
_LIST_IN = Prepared(
    f"SELECT {_MEMBER} FROM conversation_members"
    " WHERE conversation = :conversation AND standing = 'in' ORDER BY account"
)
_SAVE_MEMBER = Prepared(
    "INSERT INTO conversation_members (conversation, account, role, standing, since, seated, delivered, read, seen,"
    " pinned, archived, draft) VALUES (:conversation, :account, :role, :standing, :since, :seated, :delivered, :read,"
    " :seen, FALSE, FALSE, '') ON CONFLICT (conversation, account) DO UPDATE SET role = excluded.role,"
    " standing = excluded.standing, since = excluded.since, seated = excluded.seated, delivered = excluded.delivered,"
    " read = excluded.read, seen = excluded.seen"
)
_COUNT = Prepared(
    "UPDATE conversations SET members = (SELECT count(*) FROM conversation_members"
    " WHERE conversation = :id AND standing = 'in') WHERE id = :id"
)
_MARK = Prepared(
    "UPDATE conversation_members SET delivered = CASE WHEN delivered < :delivered THEN :delivered ELSE delivered END,"
    " read = CASE WHEN read < :read THEN :read ELSE read END, seen = CASE WHEN seen < :seen THEN :seen ELSE seen END"
    " WHERE conversation = :conversation AND account = :account"
)
_OTHER = Prepared(
    "SELECT a.id, a.name FROM conversation_members m JOIN accounts a ON a.id = m.account"
    " WHERE m.conversation = :conversation AND m.account <> :account ORDER BY a.id LIMIT 1"
)
_BLOCKED = Prepared("SELECT 1 FROM blocks WHERE blocker = :blocker AND blocked = :blocked")


def columns(names: Sequence[str], table: str) -> str:
    """Return columns as they are named beside those of other tables."""
    return ", ".join(f"{table}.{name}" for name in names)


def find(connection: sa.Connection, id: str) -> Conversation | None:
    """Return a conversation."""
    row = _FIND(connection, id=id).fetchone()
    return None if row is None else Conversation(*row)


def lock(connection: sa.Connection, id: str) -> Conversation | None:
    """Return a conversation that nobody else changes until the commit."""
    row = _LOCK(connection, id=id).fetchone()
    return None if row is None else Conversation(*row)


def find_member(connection: sa.Connection, conversation: str, account: str) -> Member | None:
    """Return how an account stands to a conversation; None for one that never had to do with it."""
    row = _FIND_MEMBER(connection, conversation=conversation, account=account).fetchone()
    return None if row is None else member(row)


def members_in(connection: sa.Connection, conversation: str) -> list[Member]:
    """Return all who are in a conversation."""
    return [member(row) for row in _LIST_IN(connection, conversation=conversation)]


def save_member(connection: sa.Connection, conversation: ConversationId, member: Member) -> None:
    """Write down how an account stands to a conversation."""
    _SAVE_MEMBER(
        connection,
        conversation=conversation,
        account=member.account,
        role=member.role.value,
        standing=member.standing.value,
        since=member.since,
        seated=member.seated,
        delivered=member.delivered,
        read=member.read,
        seen=member.seen,
    )


def save_markers(connection: sa.Connection, conversation: ConversationId, member: Member) -> None:
    """Write down a member's markers alone; none goes back, whatever another device says at the same time."""
    _MARK(
        connection,
        conversation=conversation,
        account=member.account,
        delivered=member.delivered,
        read=member.read,
        seen=member.seen,
    )


def count_members(connection: sa.Connection, conversation: ConversationId) -> None:
    """Count anew who is in a conversation that is locked."""
    _COUNT(connection, id=conversation)


def other_of(connection: sa.Connection, conversation: str, account: str) -> tuple[AccountId, str]:
    """Return id and name of the other of a direct conversation."""
    row = _OTHER(connection, conversation=conversation, account=account).fetchone()
    return AccountId(row[0]), row[1]


def has_blocked(connection: sa.Connection, blocker: str, blocked: str) -> bool:
    """Whether an account blocked another."""
    return _BLOCKED(connection, blocker=blocker, blocked=blocked).fetchone() is not None


def member(row: Sequence[Any]) -> Member:
    """Return a member from its columns."""
    account, role, standing, since, seated, delivered, read, seen, drafting = row
    markers = (delivered, read, seen)
    return Member(AccountId(account), Role(role), Standing(standing), since, seated, *markers, bool(drafting))
