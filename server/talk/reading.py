"""Conversations as their members read them: the list, one of them, its messages and its members."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.talk import rows, showing
from server.talk.marking import RECEIPTS_UP_TO
from server.talk.showing import Place, oldest_kept
from signalling.identifiers import AccountId
from signalling.messenger import policy
from signalling.messenger.model import ConversationId, Member, Role, Standing
from signalling.messenger.views import (
    ConversationPage,
    ConversationView,
    MarkerView,
    MemberPage,
    MemberView,
    MessagePage,
    Mine,
)
from signalling.refusals import Refused
from signalling.wire.views import Person

MAX_UNREAD = 1000  # counted; whoever has more unread looks at none of them one by one
_END = 2**62

_UNREAD = (
    "FROM messages x WHERE x.conversation = c.id AND x.seq > m.seen AND x.seq > m.since AND x.sender <> m.account"
    " AND x.erased_at IS NULL AND NOT x.withheld AND (c.keep_s IS NULL OR x.at > :now - c.keep_s * 1000)"
    " AND NOT EXISTS (SELECT 1 FROM messages_hidden h"
    " WHERE h.account = m.account AND h.conversation = x.conversation AND h.seq = x.seq)"
)
_LIST = (
    "SELECT c.id, c.kind, c.title, c.head, c.members, c.history, c.joining, c.posting, c.keep_s, c.last_at, m.role,"
    " m.standing, m.since, m.seated, m.delivered, m.read, m.seen, m.muted_until, m.pinned, m.archived, m.draft,"
    f" (SELECT count(*) FROM (SELECT 1 AS one {_UNREAD} LIMIT {MAX_UNREAD}) counted),"
    f" EXISTS (SELECT 1 {_UNREAD} AND x.mentions LIKE :mention)"
    " FROM conversation_members m JOIN conversations c ON c.id = m.conversation"
    " WHERE m.account = :account AND m.standing IN ('in', 'invited', 'asked')"
    " AND (c.kind <> 'group' OR c.members > 0)"
)
_FIND = Prepared(f"{_LIST} AND c.id = :conversation")
_PAGE = Prepared(
    f"{_LIST} AND (c.head > 0 OR c.kind = 'group' OR c.opened_by = :account)"
    " AND (c.last_at < :at OR (c.last_at = :at AND c.id < :id)) ORDER BY c.last_at DESC, c.id DESC LIMIT :limit"
)
_MEMBERS = Prepared(
    "SELECT a.id, a.name, m.role, m.standing FROM conversation_members m JOIN accounts a ON a.id = m.account"
    " WHERE m.conversation = :conversation AND m.account > :after AND (m.standing = 'in' OR (:leads = 1"
    " AND m.standing IN ('invited', 'asked', 'banned'))) ORDER BY a.id LIMIT :limit"
)


def page(
    connection: sa.Connection, account: AccountId, cursor: str | None, limit: int, now_ms: int
) -> ConversationPage:
    """Return some conversations of an account. Raises Refused("invalid_cursor")."""
    at, id = _read_cursor_untrusted(cursor)
    asked = {"account": account, "now": now_ms, "mention": _mention(account), "at": at, "id": id, "limit": limit}
    shown = tuple(_view(connection, account, row, now_ms) for row in _PAGE(connection, **asked).fetchall())
    last = shown[-1] if len(shown) == limit else None
    return ConversationPage(shown, None if last is None else f"{last.last_at}.{last.id}")


def show(connection: sa.Connection, account: AccountId, conversation: str, now_ms: int) -> ConversationView:
    """Return one conversation, also to who is asked to come in. Raises Refused("conversation_unknown")."""
    asked = {"account": account, "now": now_ms, "mention": _mention(account), "conversation": conversation}
    row = _FIND(connection, **asked).fetchone()
    if row is None:
        raise Refused("conversation_unknown")
    return _view(connection, account, row, now_ms)


def messages(
    connection: sa.Connection, account: AccountId, conversation: str, edges: Edges, now_ms: int
) -> MessagePage:
    """Return some messages: those above or below an edge, or the last. Raises Refused like `policy.require_in`."""
    found = rows.find(connection, conversation)
    member = policy.require_in(rows.find_member(connection, conversation, account) if found is not None else None)
    assert found is not None
    oldest = oldest_kept(found.keep_s, now_ms)
    if edges.pinned:
        shown = showing.pinned(connection, member, conversation, Place(0, edges.limit, oldest))
    elif edges.after is not None:
        shown = showing.after(connection, member, conversation, Place(edges.after, edges.limit, oldest))
    else:
        edge = _END if edges.before is None else edges.before
        shown = showing.before(connection, member, conversation, Place(edge, edges.limit, oldest))
    return MessagePage(tuple(shown), found.head)


class Edges(msgspec.Struct, frozen=True):
    """Which messages: above a number, below one, the pinned ones, or the last."""

    after: int | None
    before: int | None
    limit: int
    pinned: bool = False


def members(connection: sa.Connection, account: AccountId, conversation: str, after: str, limit: int) -> MemberPage:
    """Return some members; who leads sees those, too, who are not in. Raises Refused like `policy.require_in`."""
    member = policy.require_in(rows.find_member(connection, conversation, account))
    asked = {"conversation": conversation, "after": after, "leads": int(member.leads), "limit": limit}
    found = _MEMBERS(connection, **asked).fetchall()
    return MemberPage(
        tuple(MemberView(Person(AccountId(id), name), role, standing) for id, name, role, standing in found)
    )


def _view(connection: sa.Connection, account: AccountId, row: tuple[Any, ...], now_ms: int) -> ConversationView:
    id, kind, title, head, count, history, joining, posting, keep_s, last_at, role, standing, *rest = row
    since, seated, delivered, read, seen, muted_until, pinned, archived, draft, unread, mentioned = rest
    member = Member(account, Role(role), Standing(standing), since, seated, delivered, read, seen)
    other, blocked = None, False
    if kind == "direct":
        other = Person(*rows.other_of(connection, id, account))
        blocked = rows.has_blocked(connection, account, other.id)
    last = None
    if member.is_in:
        last = next(iter(showing.before(connection, member, id, Place(_END, 1, oldest_kept(keep_s, now_ms)))), None)
    markers: tuple[MarkerView, ...] = ()
    if member.is_in and count <= RECEIPTS_UP_TO and not blocked:
        others = rows.members_in(connection, id)
        markers = tuple(MarkerView(m.account, m.delivered, m.read) for m in others if m.account != account)
    return ConversationView(
        id=ConversationId(id),
        kind=kind,
        title=title,
        other=other,
        members=count,
        head=head,
        unread=unread if member.is_in else 0,
        mentioned=bool(mentioned) and member.is_in,
        blocked=blocked,
        mine=Mine(role, standing, delivered, read, seen, muted_until, bool(pinned), bool(archived), draft),
        last=last,
        markers=markers,
        history=history,
        joining=joining,
        posting=posting,
        keep_s=keep_s,
        last_at=last_at,
    )


def _mention(account: str) -> str:
    return f'%"{account}"%'


def _read_cursor_untrusted(cursor: str | None) -> tuple[int, str]:
    if cursor is None:
        return _END, ""
    at, _, id = cursor.partition(".")
    if not (at.isascii() and at.isdigit() and len(at) < 17):
        raise Refused("invalid_cursor")
    return int(at), id
