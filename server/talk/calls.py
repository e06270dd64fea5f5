"""Calls as their conversations keep them: a message each, written when it begins and brought up to date in place.

Who calls somebody who has blocked them is answered as ever, and the message is withheld, as `server.talk.posting` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa

from server.access.relations import apart_from
from server.database.prepared import Prepared
from server.database.store import Database
from server.events import eventlog
from server.events.eventlog import Happened
from server.talk import cards, posting, rows
from server.talk.pace import Paces
from server.talk.posting import Batch, Draft, Written
from signalling.calls.book import Begun, Wanted
from signalling.calls.state import RUNG_UP_TO, Call, CallId
from signalling.calls.views import CallCard, CallView, card
from signalling.identifiers import AccountId, Actor
from signalling.messenger import policy
from signalling.messenger.model import Conversation, ConversationId
from signalling.messenger.quotas import Quotas
from signalling.refusals import Refused
from signalling.wire.views import Person

KIND = "call"

_KNOWN = Prepared(
    "SELECT c.id, c.video, c.state, c.stream, c.seconds, c.reason, c.began_at FROM messages m"
    " LEFT JOIN calls c ON c.conversation = m.conversation AND c.seq = m.seq"
    " WHERE m.conversation = :conversation AND m.sender = :sender AND m.txn = :txn"
)
_ADD = Prepared(
    "INSERT INTO calls (id, conversation, seq, caller, withheld, video, state, seconds, began_at)"
    " VALUES (:id, :conversation, :seq, :caller, :withheld, :video, 'ringing', 0, :at)"
)
_OTHERS = Prepared(
    "SELECT a.id, a.name FROM conversation_members m JOIN accounts a ON a.id = m.account"
    " WHERE m.conversation = :conversation AND m.standing = 'in' AND m.account <> :account ORDER BY a.id"
)
_QUIET = Prepared(
    "SELECT account FROM conversation_members WHERE conversation = :conversation AND standing = 'in'"
    " AND muted_until IS NOT NULL AND (muted_until < 0 OR muted_until > :now)"
)
_BLOCKS = Prepared(
    "SELECT b.blocker, b.blocked FROM blocks b"
    " JOIN conversation_members m ON m.account = b.blocker AND m.conversation = :conversation AND m.standing = 'in'"
    " JOIN conversation_members n ON n.account = b.blocked AND n.conversation = :conversation AND n.standing = 'in'"
)
_FIND = Prepared("SELECT seq, caller, withheld FROM calls WHERE id = :id AND ended_at IS NULL")
_OPEN = Prepared("SELECT id, conversation, video FROM calls WHERE ended_at IS NULL ORDER BY began_at, id")
_SET = Prepared(
    "UPDATE calls SET video = :video, state = :state, stream = :stream, seconds = :seconds, reason = :reason,"
    " ended_at = :ended_at WHERE id = :id"
)


class StoredCalls:
    """Calls on a node's store; `nudge` has the log looked at."""

    def __init__(self, store: Database, paces: Paces, nudge: Callable[[], None]) -> None:
        self._store, self._paces, self._nudge = store, paces, nudge

    async def begin(self, actor: Actor, id: CallId, wanted: Wanted, now_ms: int) -> Begun | CallView:
        """Write down that a call begins; one that was begun before is returned as it has ended. Raises Refused."""
        self._paces.ring(actor.account, wanted.conversation)
        begun = await self._store.write(begin, actor, id, wanted, now_ms)
        self._nudge()
        return begun

    async def write(self, call: Call, now_ms: int) -> None:
        """Write down what has become of a call."""
        await self._store.write(bring_up_to_date, call.conversation, card(call), now_ms)
        self._nudge()

    async def apart_within(self, conversation: ConversationId, account: AccountId) -> frozenset[AccountId]:
        """Return from whom a member is parted by a block. Raises Refused like `policy.require_in`."""
        return await self._store.read(_apart_within, conversation, account)

    async def outside(self, conversation: str, accounts: Sequence[AccountId]) -> list[AccountId]:
        """Return those of accounts that are not in a conversation."""
        return await self._store.read(_outside, conversation, accounts)

    async def recover(self, now_ms: int) -> None:
        """Write down that the calls that were going on have ended."""
        await self._store.write(interrupt_all, now_ms)


def begin(connection: sa.Connection, actor: Actor, id: CallId, wanted: Wanted, now_ms: int) -> Begun | CallView:
    """Write the message of a call that begins, and whom it rings.

    Raises Refused (conversation_unknown, not_in_conversation, read_only, you_blocked_them, idempotency_mismatch).
    """
    conversation = rows.lock(connection, wanted.conversation)
    if conversation is None:
        raise Refused("conversation_unknown")
    caller = policy.require_in(rows.find_member(connection, wanted.conversation, actor.account))
    known = _known(connection, conversation, actor, wanted.client_txn)
    if known is not None:
        return known
    grown = policy.post(conversation, caller)
    withheld = posting.is_withheld(connection, conversation, caller)
    shown = Written("", kind=KIND, card=CallCard(id, wanted.video, "ringing"), withheld=withheld)
    batch = Batch(connection)
    batch.add(grown, Draft(grown.id, actor.account, "", wanted.client_txn, now_ms, Quotas()), shown)
    of = {"id": id, "conversation": grown.id, "seq": grown.head}
    _ADD(connection, **of, caller=actor.account, withheld=withheld, video=wanted.video, at=now_ms)
    batch.write()
    _tell(connection, grown.id, "call.started", CallCard(id, wanted.video, "ringing"), actor.account, withheld, now_ms)
    return _begun(connection, conversation, actor.account, withheld, now_ms)


def _known(connection: sa.Connection, conversation: Conversation, actor: Actor, txn: str) -> CallView | None:
    row = _KNOWN(connection, conversation=conversation.id, sender=actor.account, txn=txn).fetchone()
    if row is None:
        return None
    id, video, state, stream, seconds, reason, began_at = row
    if id is None:
        raise Refused("idempotency_mismatch", "this client_txn was used for a message")
    return CallView(
        id=id,
        conversation=conversation.id,
        kind=conversation.kind,
        caller=Person(actor.account, actor.name),
        video=bool(video),
        state=state,
        parties=(),
        asked=None,
        began_at=began_at,
        met_at=None,
        stream=stream,
        starter=None,
        named=(),
        reason=reason,
        seconds=seconds,
        version=0,  # it is over, and does not change any more
    )


def _begun(
    connection: sa.Connection, conversation: Conversation, caller: AccountId, withheld: bool, now_ms: int
) -> Begun:
    blocks = frozenset(frozenset(map(AccountId, row)) for row in _BLOCKS(connection, conversation=conversation.id))
    if conversation.members > RUNG_UP_TO:
        return Begun(conversation.kind, {}, apart=blocks)
    others = {AccountId(id): name for id, name in _OTHERS(connection, conversation=conversation.id, account=caller)}
    quiet = frozenset(AccountId(id) for (id,) in _QUIET(connection, conversation=conversation.id, now=now_ms))
    if conversation.kind == "direct":
        unaware = frozenset(others) if withheld else frozenset[AccountId]()
        return Begun(conversation.kind, others, unaware, quiet)
    rung = {account: name for account, name in others.items() if frozenset((account, caller)) not in blocks}
    return Begun(conversation.kind, rung, quiet=quiet, apart=blocks)


def bring_up_to_date(connection: sa.Connection, conversation: ConversationId, shown: CallCard, now_ms: int) -> None:
    """Write down what has become of a call, on its message too, and tell of it; of what has ended nothing more."""
    rows.lock(connection, conversation)
    row = _FIND(connection, id=shown.call).fetchone()
    if row is None:
        return
    seq, caller, withheld = row
    values = {"video": shown.video, "state": shown.state, "stream": shown.stream, "seconds": shown.seconds}
    over = shown.state == "ended"
    _SET(connection, id=shown.call, **values, reason=shown.reason, ended_at=now_ms if over else None)
    cards.bring_up_to_date(connection, conversation, seq, shown, now_ms, caller if withheld else None)
    type = {"ringing": "call.changed", "running": "call.answered", "live": "call.live", "ended": "call.ended"}
    _tell(connection, conversation, type[shown.state], shown, caller, bool(withheld), now_ms)


def interrupt_all(connection: sa.Connection, now_ms: int) -> None:
    """End the calls that a restart has cut off."""
    for id, conversation, video in _OPEN(connection).fetchall():
        shown = CallCard(id, bool(video), "ended", "interrupted")
        bring_up_to_date(connection, conversation, shown, now_ms)


def _apart_within(connection: sa.Connection, conversation: str, account: AccountId) -> frozenset[AccountId]:
    policy.require_in(rows.find_member(connection, conversation, account))
    return apart_from(connection, account)


def _outside(connection: sa.Connection, conversation: str, accounts: Sequence[AccountId]) -> list[AccountId]:
    inside = {member.account for member in rows.members_in(connection, conversation)}
    return [account for account in accounts if account not in inside]


def _tell(
    connection: sa.Connection,
    conversation: str,
    type: str,
    shown: CallCard,
    caller: str,
    withheld: bool,
    now_ms: int,
) -> None:
    fields = {key: value for key, value in msgspec.structs.asdict(shown).items() if value is not None}
    accounts, party = ((caller,), "") if withheld else ((), conversation)
    told = Happened(conversation, type, now_ms, {"caller": caller, **fields}, accounts, party)
    eventlog.append(connection, told)
