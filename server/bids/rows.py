"""Requests for paid chats in the database: what is bid is held, and shown as a message, in one transaction.

The conversation is locked first, as by everybody who writes there, then the bid, then the books. A hold is resolved by
the change that closes its bid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from server.bids import rules
from server.bids.rules import ANSWER_MS, Bid, Command, Part, RunOut, State
from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.money import books, tips
from server.money.amounts import Amount, WireAmount, wire_amount
from server.money.assets import Assets, Surface
from server.money.ledger import Account, Hold, Leg, Post, Void, held
from server.money.payments import Terms, pay, wallet
from server.talk import gifts
from server.talk import rows as conversations
from server.talk.cards import bring_up_to_date
from server.talk.posting import Batch, Draft, Written
from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId
from signalling.messenger.quotas import Quotas
from signalling.refusals import Refused
from signalling.wire.views import Person

KIND = "bid"
MAX_OPEN = 20  # of one account: who has asked so many waits for answers first
_COLUMNS = "id, conversation, guest, host, asset, units, fee_bps, asked_at, until, state, reason, accepted_at, ended_at"
_FIND = Prepared(f"SELECT {_COLUMNS} FROM bids WHERE id = :id")
_LOCK = Prepared(f"SELECT {_COLUMNS} FROM bids WHERE id = :id", locks=True)
_ADD = Prepared(
    f"INSERT INTO bids ({_COLUMNS}) VALUES (:id, :conversation, :guest, :host, :asset, :units, :fee_bps, :asked_at,"
    " :until, :state, :reason, :accepted_at, :ended_at) ON CONFLICT DO NOTHING"
)
_SET = Prepared(
    "UPDATE bids SET state = :state, until = :until, reason = :reason, accepted_at = :accepted_at,"
    " ended_at = :ended_at WHERE id = :id"
)
_COUNT_OPEN = Prepared("SELECT count(*) FROM bids WHERE guest = :guest AND ended_at IS NULL")
_DUE = Prepared("SELECT id FROM bids WHERE ended_at IS NULL AND until <= :now ORDER BY until LIMIT :limit")
_BETWEEN = Prepared(
    "SELECT id FROM bids WHERE ended_at IS NULL"
    " AND ((guest = :one AND host = :other) OR (guest = :other AND host = :one)) ORDER BY number"
)
_NAMES = Prepared("SELECT id, name FROM accounts WHERE id = :one OR id = :other")
_MESSAGE = Prepared("SELECT seq FROM messages WHERE conversation = :conversation AND sender = :guest AND txn = :txn")
# Files are in messages of this kind, too. Who is in a call of two is heard, whoever of them began it.
_WRITTEN = Prepared(
    "SELECT 1 FROM messages WHERE conversation = :conversation AND sender = :host AND at >= :since AND kind = 'text'"
    " AND erased_at IS NULL AND NOT withheld LIMIT 1"
)
_TALKED = Prepared(
    "SELECT 1 FROM calls WHERE conversation = :conversation AND began_at >= :since AND NOT withheld"
    " AND (seconds > 0 OR state = 'running') LIMIT 1"
)


class BidCard(msgspec.Struct, frozen=True):
    """What the message of a bid shows: whom it asks, how much is held, how it stands, why, and until when."""

    bid: str
    to: Person
    amount: WireAmount
    state: str
    reason: str
    until: int


class BidView(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A request for a paid chat as both see it. `until` is the next deadline (epoch ms), null when it is over."""

    id: str
    conversation: str
    sender: Person
    to: Person
    amount: WireAmount
    state: str
    reason: str
    asked_at: int
    accepted_at: int | None
    ended_at: int | None
    until: int | None


class Wish(msgspec.Struct, frozen=True):
    """A bid as it is made: by whom, where, for how much, in which words."""

    id: str
    guest: Person
    conversation: str
    amount: Amount
    surface: Surface
    words: str


def ask(connection: sa.Connection, wish: Wish, assets: Assets, fee_bps: int, now_ms: int) -> BidView:
    """Hold what is bid, and ask for the chat.

    Raises Refused, and then nothing is held: asset_not_allowed_on_surface, account_unknown, recipient_not_eligible,
    bad_context where there are not two, bid_exists, too_many_bids, and what `gifts.require_both` and books raise.
    """
    assets.check_surface(wish.amount.asset, wish.surface)
    found = conversations.find(connection, wish.conversation)
    member = conversations.find_member(connection, wish.conversation, wish.guest.id)
    if found is None or member is None:
        raise Refused("conversation_unknown")
    if found.kind != "direct":
        raise Refused("bad_context", "a paid chat is one of two")
    _, name = conversations.other_of(connection, wish.conversation, wish.guest.id)
    host = tips.find_recipient(connection, wish.guest.id, name, wish.amount.asset, assets)
    grown = gifts.require_both(connection, wish.conversation, wish.guest.id, host.id)
    if _COUNT_OPEN(connection, guest=wish.guest.id).fetchone()[0] >= MAX_OPEN:
        raise Refused("too_many_bids", f"at most {MAX_OPEN} that are not over")
    amount = wish.amount
    money = (amount.asset, amount.units, fee_bps)
    bid = Bid(wish.id, grown.id, wish.guest.id, host.id, *money, asked_at=now_ms, until=now_ms + ANSWER_MS)
    purse = wallet(bid.guest, bid.asset)
    pay(held(purse), bid.host, bid.units, Terms(fee_bps))  # what is too little to arrive is refused now
    if _ADD(connection, **_values(bid)).rowcount != 1:
        raise Refused("bid_exists")
    books.apply(connection, Hold(bid.hold, "chat", purse, bid.units, None), now_ms)
    batch = Batch(connection)
    draft = Draft(ConversationId(grown.id), wish.guest.id, wish.words, bid.hold, now_ms, Quotas())
    batch.add(grown, draft, Written(wish.words, kind=KIND, card=_card(bid, host)))
    batch.write()
    _tell(connection, bid, now_ms)
    return _view(bid, {wish.guest.id: wish.guest, host.id: host})


def move(connection: sa.Connection, id: str, account: str, command: Command, now_ms: int) -> BidView:
    """Let one of the two do something about a bid. Raises Refused (bid_unknown, bid_closed)."""
    if not rules.is_for(_of_the_two(connection, id, account), account, command):
        raise Refused("bid_closed", "that is for the other to do")
    after = _change(connection, id, lambda _: command, now_ms)
    return _view(after, _names(connection, after))


def find(connection: sa.Connection, id: str, account: str) -> BidView:
    """Return a bid to one of the two. Raises Refused("bid_unknown")."""
    bid = _of_the_two(connection, id, account)
    return _view(bid, _names(connection, bid))


def due(connection: sa.Connection, now_ms: int, limit: int) -> list[str]:
    """Return bids whose deadline is over."""
    return [id for (id,) in _DUE(connection, now=now_ms, limit=limit)]


def run_out(connection: sa.Connection, now_ms: int, limit: int) -> list[Bid]:
    """Settle bids whose deadline is over: what was not answered, or not delivered, goes back."""
    settled = []
    with eventlog.gathering(connection):
        for id in due(connection, now_ms, limit):
            try:
                settled.append(_change(connection, id, lambda bid: RunOut(_has_written(connection, bid)), now_ms))
            except Refused:
                continue  # it was closed, or accepted, in the last moment
    return settled


def lock_between(connection: sa.Connection, one: str, other: str) -> list[str]:
    """Lock the open bids between two people, and their conversation, before anything of theirs is paid."""
    found = [id for (id,) in _BETWEEN(connection, one=one, other=other)]
    for id in found:
        conversations.lock(connection, _bid(_FIND(connection, id=id).fetchone()).conversation)
        _LOCK(connection, id=id)
    return found


def part(connection: sa.Connection, id: str, blocker: str, escrow: Callable[[str], Account], now_ms: int) -> Bid:
    """Settle a bid as one of the two blocks the other; what is frozen goes where `escrow` says, by its asset."""

    def command(bid: Bid) -> Command:
        return Part(blocker == bid.host, _has_written(connection, bid))

    return _change(connection, id, command, now_ms, escrow)


def _of_the_two(connection: sa.Connection, id: str, account: str) -> Bid:
    row = _FIND(connection, id=id).fetchone()
    bid = None if row is None else _bid(row)
    if bid is None or account not in (bid.guest, bid.host):
        raise Refused("bid_unknown")
    return bid


def _change(
    connection: sa.Connection,
    id: str,
    command: Callable[[Bid], Command],
    now_ms: int,
    escrow: Callable[[str], Account] | None = None,
) -> Bid:
    conversation = _bid(_FIND(connection, id=id).fetchone()).conversation
    conversations.lock(connection, conversation)
    before = _bid(_LOCK(connection, id=id).fetchone())
    after = rules.step(before, command(before), now_ms)
    _settle(connection, after, escrow, now_ms)
    _SET(connection, **{name: value for name, value in _values(after).items() if name in _CHANGING})
    row = _MESSAGE(connection, conversation=conversation, guest=after.guest, txn=after.hold).fetchone()
    if row is not None:
        card = _card(after, _names(connection, after)[after.host])
        bring_up_to_date(connection, conversation, row[0], card, now_ms)
    _tell(connection, after, now_ms)
    return after


_CHANGING = ("id", "state", "until", "reason", "accepted_at", "ended_at")


def _settle(connection: sa.Connection, bid: Bid, escrow: Callable[[str], Account] | None, now_ms: int) -> None:
    source = held(wallet(bid.guest, bid.asset))
    match bid.state:
        case State.PAID:
            books.apply(connection, Post(bid.hold, pay(source, bid.host, bid.units, Terms(bid.fee_bps))), now_ms)
        case State.RETURNED:
            books.apply(connection, Void(bid.hold), now_ms)
        case State.FROZEN:
            assert escrow is not None, "only a block freezes"
            books.apply(connection, Post(bid.hold, (Leg(source, escrow(bid.asset), bid.units),)), now_ms)


def _has_written(connection: sa.Connection, bid: Bid) -> bool:
    if bid.accepted_at is None:
        return False
    asked = {"conversation": bid.conversation, "since": bid.accepted_at}
    if _WRITTEN(connection, **asked, host=bid.host).fetchone() is not None:
        return True
    return _TALKED(connection, **asked).fetchone() is not None


def _tell(connection: sa.Connection, bid: Bid, now_ms: int) -> None:
    fields = {
        "bid": bid.id,
        "guest": bid.guest,
        "host": bid.host,
        "amount": wire_amount(bid.amount),
        "state": bid.state,
        "reason": bid.reason,
    }
    eventlog.append(connection, Happened(bid.conversation, f"bid.{bid.state}", now_ms, fields, (bid.guest, bid.host)))


def _names(connection: sa.Connection, bid: Bid) -> dict[str, Person]:
    found = _NAMES(connection, one=bid.guest, other=bid.host).fetchall()
    return {id: Person(AccountId(id), name) for id, name in found}


def _card(bid: Bid, host: Person) -> BidCard:
    return BidCard(bid.id, host, wire_amount(bid.amount), bid.state.value, bid.reason, bid.until)


def _view(bid: Bid, names: dict[str, Person]) -> BidView:
    times = (bid.asked_at, bid.accepted_at, bid.ended_at, bid.until if bid.is_open else None)
    guest, host = names[bid.guest], names[bid.host]
    return BidView(bid.id, bid.conversation, guest, host, wire_amount(bid.amount), bid.state.value, bid.reason, *times)


def _values(bid: Bid) -> dict[str, Any]:
    return {**msgspec.structs.asdict(bid), "state": bid.state.value, "units": str(bid.units)}


def _bid(row: Sequence[Any]) -> Bid:
    id, conversation, guest, host, asset, units, fee_bps, asked_at, until, state, *rest = row
    return Bid(id, conversation, guest, host, asset, int(units), fee_bps, asked_at, until, State(state), *rest)
