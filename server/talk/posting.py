"""Messages as they are written into the database, each once, and told of with it.

Who writes to somebody who has blocked them is answered as ever, and the message is withheld: it is there for its sender
alone, also after the block is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Fresh, Happened
from server.files import uses
from server.names import fold
from server.talk import ahead, rows, showing
from server.talk.ahead import Ahead
from server.talk.showing import OWN
from signalling.identifiers import AccountId
from signalling.messenger import policy
from signalling.messenger.model import Conversation, ConversationId, Member, Message
from signalling.messenger.quotas import Quotas, day_ends_in_ms, day_of
from signalling.messenger.views import MessageSent, MessageView
from signalling.messenger.wording import mentions_in
from signalling.refusals import Refused
from signalling.wire.views import Person

_KNOWN = Prepared(
    "SELECT seq, at, text, edited_at, erased_at FROM messages"
    " WHERE conversation = :conversation AND sender = :sender AND txn = :txn"
)
_ADD = Prepared(
    "INSERT INTO messages (conversation, seq, sender, kind, text, reply_to, mentions, forwarded, card, at, withheld,"
    " reacted, attached, txn, origin_conversation, origin_seq) VALUES (:conversation, :seq, :sender, :kind, :text,"
    " :reply_to, :mentions, :forwarded, :card, :at, :withheld, :reacted, :attached, :txn, :origin_conversation,"
    " :origin_seq)"
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

    With `origin`, a conversation and a number, it is that message's text and files which are written; else `files` are
    ids of the sender's own.
    """

    conversation: ConversationId
    sender: AccountId
    text: str
    txn: str
    at: int
    quotas: Quotas
    reply_to: int | None = None
    origin: tuple[str, int] | None = None
    files: tuple[str, ...] = ()


class Posted(msgspec.Struct, frozen=True):
    """What became of a draft; `replayed` when it had been written before, `fresh` where it may be shown as it is."""

    sent: MessageSent
    replayed: bool = False
    fresh: Fresh | None = None


def post_each(connection: sa.Connection, drafts: Sequence[Draft]) -> Sequence[Posted | Exception]:
    """Write messages, each once; those that are refused have written nothing.

    With Refused: conversation_unknown, not_in_conversation, read_only, you_blocked_them, message_unknown,
    message_erased, idempotency_mismatch, message_quota_used, and like `uses.require_ready`.
    """
    looked = ahead.look(connection, drafts)
    batch = Batch(connection, looked.conversations)
    outcomes: list[_Post | Posted | Exception] = []
    for n, draft in enumerate(drafts):
        try:
            outcomes.append(_post(connection, batch, draft, looked.each.get(n)))
        except Refused as refused:
            outcomes.append(refused)
    first = batch.write()
    return [outcome.posted(first) if isinstance(outcome, _Post) else outcome for outcome in outcomes]


class _Post(NamedTuple):
    """A message of a batch, how many came before it, and how it is shown, where that is known."""

    sent: MessageSent
    place: int
    event: Happened
    shown: MessageView | None

    def posted(self, first: int) -> Posted:
        """Return what became of it, when the first event of its batch had an id (0: unknown)."""
        if not first or self.shown is None:
            return Posted(self.sent)
        return Posted(self.sent, fresh=showing.as_fresh(first + self.place, self.event, self.shown))


def _post(connection: sa.Connection, batch: Batch, draft: Draft, looked: Ahead | None) -> _Post | Posted:
    conversation = batch.conversation(draft.conversation)
    if looked is not None:
        batch.meet(draft.conversation, draft.sender, looked.member)
    sender = policy.require_in(batch.member(draft.conversation, draft.sender))
    known = batch.said.get((draft.conversation, draft.sender, draft.txn)) or _known(connection, draft, sender, looked)
    if known is not None:
        return Posted(known, replayed=True)
    grown = policy.post(conversation, sender)
    withheld = is_withheld(connection, conversation, sender)
    written = _content(connection, batch, draft, sender)
    if withheld:
        written = replace(written, withheld=True)
    _spend(connection, draft)
    place = batch.add(grown, draft, written)
    if sender.drafting:
        _CLEAR_DRAFT(connection, conversation=draft.conversation, account=draft.sender)
    shown = None
    if looked is not None and not (withheld or written.files or written.card):
        person = Person(draft.sender, looked.name)
        shown = MessageView(
            conversation=draft.conversation,
            seq=grown.head,
            sender=person,
            kind=written.kind,
            text=written.text,
            reply_to=draft.reply_to,
            mentions=written.mentions,
            forwarded=draft.origin is not None,
            at=draft.at,
        )
    return _Post(MessageSent(conversation.id, grown.head, draft.at), place, batch.events[place], shown)


class Written(msgspec.Struct, frozen=True):
    """What a message holds: `card` is what it stands for, where it is not a text."""

    text: str
    mentions: tuple[AccountId, ...] = ()
    withheld: bool = False
    kind: str = "text"
    card: msgspec.Struct | None = None
    files: tuple[str, ...] = ()


class Batch:
    """Messages that are written together: what many of them need is read once, and each kind of row written at once."""

    def __init__(self, connection: sa.Connection, conversations: dict[str, Conversation] | None = None) -> None:
        self._connection = connection
        self._conversations = {} if conversations is None else conversations
        self._members: dict[tuple[str, str], Member | None] = {}
        self._rows: list[dict[str, Any]] = []
        self._seen_at: dict[str, int] = {}
        self.events: list[Happened] = []
        self.said: dict[tuple[str, str, str], MessageSent] = {}

    def conversation(self, id: str) -> Conversation:
        """Return a conversation with the messages of this batch, locked. Raises Refused("conversation_unknown")."""
        found = self._conversations.get(id) or rows.lock(self._connection, id)
        if found is None:
            raise Refused("conversation_unknown")
        self._conversations[id] = found
        return found

    def member(self, conversation: str, account: str) -> Member | None:
        """Return how an account stands to a conversation."""
        key = conversation, account
        if key not in self._members:
            self._members[key] = rows.find_member(self._connection, conversation, account)
        return self._members[key]

    def meet(self, conversation: str, account: str, member: Member | None) -> None:
        """Know how an account stands to a conversation."""
        self._members.setdefault((conversation, account), member)

    def add(self, grown: Conversation, draft: Draft, written: Written) -> int:
        """Add the message that a conversation has grown by; returns its place."""
        self._conversations[grown.id] = grown
        self.said[grown.id, draft.sender, draft.txn] = MessageSent(grown.id, grown.head, draft.at)
        origin_conversation, origin_seq = draft.origin or (None, None)
        row = {
            "conversation": grown.id,
            "seq": grown.head,
            "sender": draft.sender,
            "kind": written.kind,
            "text": written.text,
            "reply_to": draft.reply_to,
            "mentions": msgspec.json.encode(written.mentions).decode(),
            "forwarded": draft.origin is not None,
            "card": None if written.card is None else msgspec.json.encode(written.card).decode(),
            "at": draft.at,
            "withheld": written.withheld,
            "reacted": False,
            "attached": len(written.files),
            "txn": draft.txn,
            "origin_conversation": origin_conversation,
            "origin_seq": origin_seq,
        }
        self._rows.append(row)
        uses.attach(self._connection, grown.id, grown.head, written.files)
        if written.withheld:
            fields = {"seq": grown.head, OWN: True}
            told = Happened(grown.id, "message.created", draft.at, fields, (draft.sender,))
        else:
            self._seen_at[grown.id] = draft.at
            told = Happened(grown.id, "message.created", draft.at, {"seq": grown.head}, party=grown.id)
        self.events.append(told)
        return len(self.events) - 1

    def text_of(self, conversation: str, seq: int) -> str:
        """Return what a message says that may be one of this batch."""
        for row in self._rows:
            if (row["conversation"], row["seq"]) == (conversation, seq):
                return str(row["text"])
        return str(_TEXT(self._connection, conversation=conversation, seq=seq).fetchone()[0])

    def find(self, conversation: str, seq: int) -> Message | None:
        """Return a message that may be one of this batch."""
        for row in self._rows:
            if (row["conversation"], row["seq"]) == (conversation, seq):
                return Message(seq, row["sender"], row["kind"], row["at"], False, row["forwarded"], row["withheld"])
        return find(self._connection, conversation, seq)

    def write(self) -> int:
        """Write all messages, and what tells of them; returns what `eventlog.append_each` does."""
        if not self._rows:
            return 0
        _ADD.many(self._connection, self._rows)
        for id in dict.fromkeys(row["conversation"] for row in self._rows):
            head = self._conversations[id].head
            if id in self._seen_at:
                _ADVANCE(self._connection, id=id, head=head, at=self._seen_at[id])
            else:
                _ADVANCE_UNSEEN(self._connection, id=id, head=head)
        return eventlog.append_each(self._connection, self.events)


def _known(connection: sa.Connection, draft: Draft, sender: Member, looked: Ahead | None) -> MessageSent | None:
    if looked is not None:
        row = looked.known
    else:
        row = _KNOWN(connection, conversation=draft.conversation, sender=sender.account, txn=draft.txn).fetchone()
    if row is None:
        return None
    seq, at, text, edited_at, erased_at = row
    if erased_at is None and draft.origin is None:
        files = tuple(dict.fromkeys(draft.files))
        if (edited_at is None and text != draft.text) or files != uses.of_message(connection, draft.conversation, seq):
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


def _content(connection: sa.Connection, batch: Batch, draft: Draft, sender: Member) -> Written:
    if draft.reply_to is not None:
        policy.require_seen(sender, batch.find(draft.conversation, draft.reply_to))
    if draft.origin is None:
        files = uses.require_ready(connection, sender.account, draft.files)
        return Written(draft.text, mentioned(connection, draft.conversation, draft.text), files=files)
    source, seq = draft.origin
    reader = batch.member(source, draft.sender)
    if reader is None or not reader.is_in:
        raise Refused("message_unknown")
    found = policy.require_seen(reader, batch.find(source, seq))
    if found.kind != "text":
        raise Refused("message_fixed")
    return Written(batch.text_of(source, seq), files=uses.of_message(connection, source, seq))


def mentioned(connection: sa.Connection, conversation: str, text: str) -> tuple[AccountId, ...]:
    """Return the members of a conversation whom a text mentions."""
    if "@" not in text:
        return ()
    found = [
        AccountId(row[0])
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
