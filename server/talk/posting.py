"""Messages as they are written into the database, each once, and told of with it.

Who writes to somebody who has blocked them is answered as ever, and the message is withheld: it is there for its sender
alone, also after the block is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from server import eventlog
from server.eventlog import Happened
from server.names import fold
from server.prepared import Prepared
from server.talk import rows
from server.talk.showing import OWN
from signalling.identifiers import AccountId
from signalling.messenger import policy
from signalling.messenger.model import Conversation, ConversationId, Member, Message
from signalling.messenger.quotas import Quotas, day_ends_in_ms, day_of
from signalling.messenger.views import MessageSent
from signalling.messenger.wording import mentions_in
from signalling.refusals import Refused

_KNOWN = Prepared(
    "SELECT seq, at, text, edited_at, erased_at FROM messages"
    " WHERE conversation = :conversation AND sender = :sender AND txn = :txn"
)
_ADD = Prepared(
    "INSERT INTO messages (conversation, seq, sender, kind, text, reply_to, mentions, forwarded, card, at, withheld,"
    " reacted, txn) VALUES (:conversation, :seq, :sender, :kind, :text, :reply_to, :mentions, :forwarded, :card, :at,"
    " :withheld, FALSE, :txn)"
)
_ADVANCE = Prepared("UPDATE conversations SET head = :head, last_at = :at WHERE id = :id")
_ADVANCE_UNSEEN = Prepared("UPDATE conversations SET head = :head WHERE id = :id")
_CLEAR_DRAFT = Prepared(
    "UPDATE conversation_members SET draft = ''"
    " WHERE conversation = :conversation AND account = :account AND draft <> ''"
)
_FIND = Prepared(
    "SELECT seq, sender, kind, at, erased_at IS NOT NULL, forwarded, withheld FROM messages"
    " WHERE conversation = :conversation AND seq = :seq"
)
_TEXT = Prepared("SELECT text FROM messages WHERE conversation = :conversation AND seq = :seq")
_TIER = Prepared("SELECT tier FROM account_facts WHERE account = :account")
_USE = Prepared(
    "INSERT INTO message_quotas (account, day, used) VALUES (:account, :day, 1) ON CONFLICT (account) DO UPDATE SET"
    " used = CASE WHEN message_quotas.day = excluded.day THEN message_quotas.used + 1 ELSE 1 END, day = excluded.day"
    " WHERE message_quotas.day <> excluded.day OR message_quotas.used < :limit RETURNING used"
)
_NAMED = Prepared(
    "SELECT a.id FROM accounts a JOIN conversation_members m ON m.account = a.id"
    " WHERE a.folded = :folded AND m.conversation = :conversation AND m.standing = 'in'"
)


class Draft(msgspec.Struct, frozen=True):
    """A message to be written, its text tidied; `txn` is what its sender calls it, once per conversation.

    With `origin`, a conversation and a number, it is that message's text which is written.
    """

    conversation: ConversationId
    sender: AccountId
    text: str
    txn: str
    at: int
    quotas: Quotas
    reply_to: int | None = None
    origin: tuple[str, int] | None = None


class Posted(msgspec.Struct, frozen=True):
    """What became of a draft; `replayed` when it had been written before."""

    sent: MessageSent
    replayed: bool = False


def post_each(connection: sa.Connection, drafts: Sequence[Draft]) -> Sequence[Posted | Exception]:
    """Write messages, each once; those that are refused have written nothing.

    With Refused: conversation_unknown, not_in_conversation, read_only, you_blocked_them, message_unknown,
    message_erased, idempotency_mismatch, message_quota_used.
    """
    outcomes: list[Posted | Exception] = []
    events: list[Happened] = []
    for draft in drafts:
        try:
            outcomes.append(_post(connection, draft, events))
        except Refused as refused:
            outcomes.append(refused)
    eventlog.append_each(connection, events)
    return outcomes


def _post(connection: sa.Connection, draft: Draft, events: list[Happened]) -> Posted:
    conversation = rows.lock(connection, draft.conversation)
    member = rows.find_member(connection, draft.conversation, draft.sender)
    if conversation is None:
        raise Refused("conversation_unknown")
    known = _known(connection, draft, policy.require_in(member))
    if known is not None:
        return Posted(known, replayed=True)
    sender = policy.require_in(member)
    grown = policy.post(conversation, sender)
    withheld = is_withheld(connection, conversation, sender)
    text, mentions = _content(connection, draft, sender)
    _spend(connection, draft)
    add(connection, grown, draft, events, text=text, mentions=mentions, withheld=withheld)
    _CLEAR_DRAFT(connection, conversation=draft.conversation, account=draft.sender)
    return Posted(MessageSent(conversation.id, grown.head, draft.at))


def add(
    connection: sa.Connection,
    grown: Conversation,
    draft: Draft,
    events: list[Happened],
    *,
    text: str,
    mentions: tuple[str, ...] = (),
    withheld: bool = False,
    kind: str = "text",
    card: object = None,
) -> None:
    """Write the message that a conversation has grown by, and what tells of it into `events`."""
    _ADD(
        connection,
        conversation=grown.id,
        seq=grown.head,
        sender=draft.sender,
        kind=kind,
        text=text,
        reply_to=draft.reply_to,
        mentions=msgspec.json.encode(mentions).decode(),
        forwarded=draft.origin is not None,
        card=None if card is None else msgspec.json.encode(card).decode(),
        at=draft.at,
        withheld=withheld,
        txn=draft.txn,
    )
    if withheld:
        _ADVANCE_UNSEEN(connection, id=grown.id, head=grown.head)
        fields = {"seq": grown.head, OWN: True}
        told = Happened(grown.id, "message.created", draft.at, fields, (draft.sender,))
    else:
        _ADVANCE(connection, id=grown.id, head=grown.head, at=draft.at)
        told = Happened(grown.id, "message.created", draft.at, {"seq": grown.head}, party=grown.id)
    events.append(told)


def _known(connection: sa.Connection, draft: Draft, sender: Member) -> MessageSent | None:
    row = _KNOWN(connection, conversation=draft.conversation, sender=sender.account, txn=draft.txn).fetchone()
    if row is None:
        return None
    seq, at, text, edited_at, erased_at = row
    if edited_at is None and erased_at is None and draft.origin is None and text != draft.text:
        raise Refused("idempotency_mismatch", "this client_txn was used for another message")
    return MessageSent(draft.conversation, seq, at)


def is_withheld(connection: sa.Connection, conversation: Conversation, sender: Member) -> bool:
    """Whether what somebody writes is kept from the other of two. Raises Refused("you_blocked_them")."""
    if conversation.kind != "direct":
        return False
    other, _ = rows.other_of(connection, conversation.id, sender.account)
    if rows.has_blocked(connection, sender.account, other):
        raise Refused("you_blocked_them")
    return rows.has_blocked(connection, other, sender.account)


def _content(connection: sa.Connection, draft: Draft, sender: Member) -> tuple[str, tuple[str, ...]]:
    if draft.reply_to is not None:
        policy.require_seen(sender, find(connection, draft.conversation, draft.reply_to))
    if draft.origin is None:
        return draft.text, mentioned(connection, draft.conversation, draft.text)
    source, seq = draft.origin
    reader = rows.find_member(connection, source, draft.sender)
    if reader is None or not reader.is_in:
        raise Refused("message_unknown")
    found = policy.require_seen(reader, find(connection, source, seq))
    if found.kind != "text":
        raise Refused("message_fixed")
    return str(_TEXT(connection, conversation=source, seq=seq).fetchone()[0]), ()


def mentioned(connection: sa.Connection, conversation: str, text: str) -> tuple[str, ...]:
    """Return the members of a conversation whom a text mentions."""
    if "@" not in text:
        return ()
    found = [
        row[0]
        for name in mentions_in(text)
        for row in _NAMED(connection, folded=fold(name), conversation=conversation).fetchall()
    ]
    return tuple(dict.fromkeys(found))


def _spend(connection: sa.Connection, draft: Draft) -> None:
    """Take one of the messages that the sender may write today, unless there is no limit."""
    if not draft.quotas.per_day:
        return
    tier = _TIER(connection, account=draft.sender).fetchone()
    limit = draft.quotas.limit(0 if tier is None else tier[0])
    if limit is None:
        return
    used = None
    if limit > 0:
        used = _USE(connection, account=draft.sender, day=day_of(draft.at), limit=limit).fetchone()
    if used is None:
        raise Refused("message_quota_used", limit=limit, retry_after_ms=day_ends_in_ms(draft.at))


def find(connection: sa.Connection, conversation: str, seq: int) -> Message | None:
    """Return a message, as what may be done to it depends on it."""
    row = _FIND(connection, conversation=conversation, seq=seq).fetchone()
    if row is None:
        return None
    number, sender, kind, at, erased, forwarded, withheld = row
    return Message(number, AccountId(sender), kind, at, bool(erased), bool(forwarded), bool(withheld))
