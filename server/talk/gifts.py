"""Tips in conversations: each is a message there, written in the transaction that pays it, and as true as the books."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.talk import rows
from server.talk.cards import bring_up_to_date
from server.talk.posting import Batch, Draft, Written
from signalling.identifiers import AccountId
from signalling.messenger import policy
from signalling.messenger.model import Conversation
from signalling.messenger.quotas import Quotas
from signalling.refusals import Refused

KIND = "tip"
_FIND = Prepared(
    "SELECT seq, card FROM messages WHERE conversation = :conversation AND sender = :sender AND txn = :txn"
)


class GiftCard(msgspec.Struct, frozen=True):
    """What a message of a tip shows: to whom, how much, and whether it was taken back."""

    tip: str
    to: dict[str, str]
    amount: dict[str, str]
    reversed: bool = False


def require_both(connection: sa.Connection, conversation: str, sender: AccountId, recipient: AccountId) -> Conversation:
    """Return a conversation in which the sender writes and the recipient reads, locked until the commit.

    Raises Refused (conversation_unknown, not_in_conversation, read_only; bad_context for who is not in it).
    """
    found = rows.lock(connection, conversation)
    if found is None:
        raise Refused("conversation_unknown")
    grown = policy.post(found, rows.find_member(connection, conversation, sender))
    receiving = rows.find_member(connection, conversation, recipient)
    if receiving is None or not receiving.is_in:
        raise Refused("bad_context", "the recipient is not in this conversation")
    return grown


def show(connection: sa.Connection, grown: Conversation, sender: AccountId, text: str, card: GiftCard, at: int) -> None:
    """Write the message of a tip that was just paid; the tip's id is what its sender calls it."""
    batch = Batch(connection)
    batch.add(grown, Draft(grown.id, sender, text, card.tip, at, Quotas()), Written(text, kind=KIND, card=card))
    batch.write()


def take_back(connection: sa.Connection, conversation: str, sender: AccountId, tip: str, at: int) -> None:
    """Show on the message of a tip, in a locked conversation, that it was taken back, unless it is kept no longer."""
    row = _FIND(connection, conversation=conversation, sender=sender, txn=tip).fetchone()
    if row is None:
        return
    card: dict[str, Any] = msgspec.json.decode(row[1])
    bring_up_to_date(connection, conversation, row[0], {**card, "reversed": True}, at)
