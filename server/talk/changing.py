"""What is done to messages that are there: edited, taken back, hidden, reacted to and pinned, each told of with it.

Who was blocked by the other of two goes on as if nothing were, and the other hears nothing of it: an edited message is
withheld from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.files import uses
from server.talk import posting, rows
from server.talk.showing import OWN
from signalling.identifiers import AccountId
from signalling.messenger import policy
from signalling.messenger.model import Conversation, Member, Message
from signalling.refusals import Refused

MAX_REACTIONS_EACH = 8  # by one account to one message
MAX_PINNED = 50  # in a conversation: what is pinned is to be found at a glance

_EDIT = Prepared(
    "UPDATE messages SET text = :text, mentions = :mentions, edited_at = :at, withheld = :withheld"
    " WHERE conversation = :conversation AND seq = :seq"
)
_ERASE = Prepared(
    "UPDATE messages SET text = '', mentions = '[]', erased_at = :at, pinned_at = NULL, reacted = FALSE, attached = 0"
    " WHERE conversation = :conversation AND seq = :seq"
)
_HIDE = Prepared(
    "INSERT INTO messages_hidden (account, conversation, seq) VALUES (:account, :conversation, :seq)"
    " ON CONFLICT DO NOTHING"
)
_REACT = Prepared(
    "INSERT INTO message_reactions (conversation, seq, account, reaction, at)"
    " VALUES (:conversation, :seq, :account, :reaction, :at) ON CONFLICT DO NOTHING"
)
_UNREACT = Prepared(
    "DELETE FROM message_reactions"
    " WHERE conversation = :conversation AND seq = :seq AND account = :account AND reaction = :reaction"
)
_DROP_REACTIONS = Prepared("DELETE FROM message_reactions WHERE conversation = :conversation AND seq = :seq")
_COUNT_MINE = Prepared(
    "SELECT count(*) FROM message_reactions WHERE conversation = :conversation AND seq = :seq AND account = :account"
)
_SET_REACTED = Prepared("UPDATE messages SET reacted = TRUE WHERE conversation = :conversation AND seq = :seq")
_PIN = Prepared("UPDATE messages SET pinned_at = :at WHERE conversation = :conversation AND seq = :seq")
_COUNT_PINNED = Prepared("SELECT count(*) FROM messages WHERE conversation = :conversation AND pinned_at IS NOT NULL")


class Target(msgspec.Struct, frozen=True):
    """A message that an account wants to do something to, now (epoch ms)."""

    account: AccountId
    conversation: str
    seq: int
    now_ms: int

    @property
    def key(self) -> dict[str, Any]:
        """The message, as statements name it."""
        return {"conversation": self.conversation, "seq": self.seq}


@dataclass(frozen=True, slots=True)
class _Aim:
    """What a target turned out to be; `apart` when the other of two has blocked the account."""

    target: Target
    conversation: Conversation
    member: Member
    message: Message | None
    apart: bool = False


def edit(connection: sa.Connection, target: Target, text: str) -> None:
    """Let the sender write it anew. Raises Refused like `policy.edit`, and you_blocked_them."""
    aim = _aim_between(connection, target)
    message = policy.edit(aim.member, aim.message, target.now_ms)
    mentions = msgspec.json.encode(posting.mentioned(connection, target.conversation, text)).decode()
    withheld = message.withheld or aim.apart
    _EDIT(connection, **target.key, text=text, mentions=mentions, at=target.now_ms, withheld=withheld)
    _tell(connection, aim)


def erase(connection: sa.Connection, target: Target) -> None:
    """Take it back for all. Raises Refused like `policy.erase`."""
    aim = _aim(connection, target)
    policy.erase(aim.conversation, aim.member, aim.message)
    _ERASE(connection, **target.key, at=target.now_ms)
    _DROP_REACTIONS(connection, **target.key)
    uses.release(connection, target.conversation, target.seq)
    _tell(connection, aim)


def hide(connection: sa.Connection, target: Target) -> None:
    """Take it back for the account alone, also an erased one. Raises Refused("message_unknown")."""
    aim = _aim(connection, target)
    if aim.message is None or not policy.sees(aim.member, aim.message):
        raise Refused("message_unknown")
    if _HIDE(connection, **target.key, account=target.account).rowcount:
        fields = {"seq": target.seq}
        told = Happened(target.conversation, "message.hidden", target.now_ms, fields, (target.account,))
        eventlog.append(connection, told)


def react(connection: sa.Connection, target: Target, reaction: str) -> None:
    """React to it, once in each way.

    Raises Refused (message_unknown, message_erased, too_many_reactions, you_blocked_them).
    """
    aim = _aim_between(connection, target)
    policy.require_seen(aim.member, aim.message)
    mine = {**target.key, "account": target.account}
    if not _REACT(connection, **mine, reaction=reaction, at=target.now_ms).rowcount:
        return
    if _COUNT_MINE(connection, **mine).fetchone()[0] > MAX_REACTIONS_EACH:
        raise Refused("too_many_reactions", f"at most {MAX_REACTIONS_EACH} of one account")
    _SET_REACTED(connection, **target.key)
    _tell(connection, aim)


def unreact(connection: sa.Connection, target: Target, reaction: str) -> None:
    """Take a reaction back, if there is one. Raises Refused (message_unknown, message_erased)."""
    aim = _aim(connection, target)
    policy.require_seen(aim.member, aim.message)
    if _UNREACT(connection, **target.key, account=target.account, reaction=reaction).rowcount:
        _tell(connection, aim)


def pin(connection: sa.Connection, target: Target) -> None:
    """Pin it. Raises Refused like `policy.pin`, too_many_pins and you_blocked_them."""
    aim = _aim_between(connection, target)
    policy.pin(aim.conversation, aim.member, aim.message)
    _PIN(connection, **target.key, at=target.now_ms)
    if _COUNT_PINNED(connection, conversation=target.conversation).fetchone()[0] > MAX_PINNED:
        raise Refused("too_many_pins", f"at most {MAX_PINNED}")
    _tell(connection, aim)


def unpin(connection: sa.Connection, target: Target) -> None:
    """Pin it no longer. Raises Refused like `policy.pin`."""
    aim = _aim(connection, target)
    policy.pin(aim.conversation, aim.member, aim.message)
    _PIN(connection, **target.key, at=None)
    _tell(connection, aim)


def _aim(connection: sa.Connection, target: Target) -> _Aim:
    conversation = rows.lock(connection, target.conversation)
    if conversation is None:
        raise Refused("conversation_unknown")
    member = policy.require_in(rows.find_member(connection, target.conversation, target.account))
    apart = False
    if conversation.kind == "direct":
        other, _ = rows.other_of(connection, conversation.id, member.account)
        apart = rows.has_blocked(connection, other, member.account)
    message = posting.find(connection, target.conversation, target.seq)
    return _Aim(target, conversation, member, message, apart)


def _aim_between(connection: sa.Connection, target: Target) -> _Aim:
    """Aim at what the other of two would hear of. Raises Refused("you_blocked_them")."""
    aim = _aim(connection, target)
    posting.is_withheld(connection, aim.conversation, aim.member)
    return aim


def _tell(connection: sa.Connection, aim: _Aim) -> None:
    target = aim.target
    if aim.apart or (aim.message is not None and aim.message.withheld):
        fields = {"seq": target.seq, OWN: True}
        told = Happened(target.conversation, "message.changed", target.now_ms, fields, (target.account,))
    else:
        fields = {"seq": target.seq}
        told = Happened(target.conversation, "message.changed", target.now_ms, fields, party=target.conversation)
    eventlog.append(connection, told)
