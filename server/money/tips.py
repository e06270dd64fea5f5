"""Tips in the database: each is paid, written down and told of in one transaction.

A tip is a transfer of the same id, so it is reversed by reversing that. It counts in the asset in which it was given,
and in the one in which it arrived by the rate that it was converted at, the platform's fee included: what somebody gave
does not depend on what the platform keeps, nor on today's rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from unicodedata import bidirectional

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.money import books, goals, offers, tip_links
from server.money.amounts import Amount, WireAmount, wire_amount
from server.money.assets import Assets, Surface
from server.money.goals import Counted
from server.money.ledger import Kind, Move, Reverse
from server.money.payments import Terms, pay, wallet
from server.money.quotes import Quote, Rate, make_quote
from server.names import fold
from server.talk import gifts, rows
from server.talk.gifts import GiftCard
from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused
from signalling.rooms.chat import tidy_untrusted
from signalling.wire.views import Person

DAY_MS = 86_400_000  # the time in which tips are added up that may ask for a fresh log-in
# Explicit directions (Unicode Bidirectional Algorithm): with them a text can pretend to be another.
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

# Who blocked or was blocked, and who is suspended, is not found: one statement, so that its time does not tell either.
_FIND_RECIPIENT = Prepared(
    "SELECT a.id, a.name, coalesce(f.tier, 0) FROM accounts a LEFT JOIN account_facts f ON f.account = a.id"
    " WHERE a.folded = :folded AND NOT coalesce(f.suspended, FALSE) AND NOT EXISTS (SELECT 1 FROM blocks b WHERE"
    " (b.blocker = a.id AND b.blocked = :asker) OR (b.blocker = :asker AND b.blocked = a.id))"
)
_FIND_STREAM = Prepared("SELECT owner FROM streams WHERE id = :id")
_ADD = Prepared(
    "INSERT INTO tips (id, sender, recipient, asset, units, fee, target, worth, arrived, stream, link, menu_item,"
    " message, anonymous, at, withdrawable_at, conversation) VALUES (:id, :sender, :recipient, :asset, :units, :fee,"
    " :target, :worth, :arrived, :stream, :link, :menu_item, :message, :anonymous, :at, :withdrawable_at,"
    " :conversation)"
)
_STANDING = " AND NOT EXISTS (SELECT 1 FROM transfers r WHERE r.of = tips.id)"
_FIND = Prepared(
    "SELECT t.id, t.sender, s.name, t.recipient, r.name, t.asset, t.units, t.fee, t.target, t.arrived, t.stream,"
    " t.menu_item, t.message, t.anonymous, t.at, t.withdrawable_at, t.conversation, t.worth FROM tips t"
    " JOIN accounts s ON s.id = t.sender JOIN accounts r ON r.id = t.recipient WHERE t.id = :id"
)
_BETWEEN = Prepared(
    "SELECT asset, units, worth FROM tips WHERE sender = :sender AND recipient = :recipient AND at >= :since"
    " AND (asset = :asset OR target = :asset)" + _STANDING
)
_SENT_SINCE = Prepared("SELECT units FROM tips WHERE sender = :sender AND asset = :asset AND at > :since" + _STANDING)
_UNRIPE = Prepared(
    "SELECT arrived, withdrawable_at FROM tips WHERE recipient = :recipient AND target = :asset"
    " AND withdrawable_at > :now" + _STANDING
)


class Rates(Protocol):
    """Where rates come from."""

    def rate(self, asset: str, target: str, now_ms: int) -> Rate | None:
        """Return the rate between two assets, None where there is none."""


@dataclass(frozen=True, slots=True)
class House:
    """What holds for all tips: assets, rates, the fee, and after how long (ms) a tip, or a large one, is withdrawn."""

    assets: Assets
    rates: Rates
    fee_bps: int
    ripe_after_ms: int
    large_ripe_after_ms: int


@dataclass(frozen=True, slots=True)
class Gift:
    """What somebody wants to give to whom (`to` is a name), under which id, and from what kind of session."""

    id: str
    sender: Person
    to: str
    amount: Amount
    surface: Surface
    is_fresh: bool
    stream: StreamId | None = None
    message: str = ""
    anonymous: bool = False
    quote: str | None = None
    link: str | None = None
    menu_item: str | None = None
    conversation: str | None = None


class TipView(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A tip as its sender and its recipient see it; `arrives` is what is left after fee and conversion.

    `menu_item` is what it is for, in the words of the recipient's menu.
    The recipient may spend it at once and withdraw it from `withdrawable_at` (epoch ms) on. `anonymous`: to all others.
    """

    id: str
    sender: Person
    to: Person
    amount: WireAmount
    fee: WireAmount
    arrives: WireAmount
    stream: StreamId | None
    menu_item: str | None
    message: str
    anonymous: bool
    at: int
    withdrawable_at: int
    conversation: str | None = None


def tidy_message_untrusted(text: str) -> str:
    """Return the text that goes with a tip, maybe none; raises Refused("invalid_message")."""
    if not text.strip():
        return ""
    text = tidy_untrusted(text)
    if any(bidirectional(character) in TURNING for character in text):
        raise Refused("invalid_message", "it contains characters that turn the direction of writing")
    return text


# -- giving ------------------------------------------------------------------------------------------------------------


def give(connection: sa.Connection, gift: Gift, house: House, now_ms: int) -> TipView:
    """Pay a tip out and write it down, in a conversation as a message, too.

    Raises Refused, and then nobody was charged: asset_not_allowed_on_surface, account_unknown, self_tip,
    recipient_not_eligible, bad_context, tip_link_unknown, menu_item_unknown, price_changed, quote_expired,
    rate_unavailable, amount_too_small, step_up_required, and what `books.apply` and `gifts.require_both` raise.
    """
    house.assets.check_surface(gift.amount.asset, gift.surface)
    recipient = find_recipient(connection, gift.sender.id, gift.to, gift.amount.asset, house.assets)
    _check_context(connection, gift, recipient.id, now_ms)
    grown = None
    if gift.conversation is not None:
        grown = gifts.require_both(connection, gift.conversation, gift.sender.id, recipient.id)
    item = gift.menu_item
    label = None if item is None else goals.label_of(connection, recipient.id, item, gift.amount)
    quote = quote_for(connection, gift.amount.asset, gift.quote, house, f"q.{gift.id}", now_ms)
    legs = pay(wallet(gift.sender.id, gift.amount.asset), recipient.id, gift.amount.units, Terms(house.fee_bps, quote))
    books.apply(connection, Move(gift.id, "tip", legs, quote), now_ms)
    # The sender's wallet is locked by now: of two tips at once the second sees the first.
    ripe_at = _ripe_at(connection, gift, house, now_ms)
    arrived = legs[-1]
    fee = sum(leg.units for leg in legs if leg.target.kind is Kind.FEE)
    tip = TipView(
        id=gift.id,
        sender=gift.sender,
        to=recipient,
        amount=wire_amount(gift.amount),
        fee=wire_amount(Amount(gift.amount.asset, fee)),
        arrives=wire_amount(Amount(arrived.target.asset, arrived.units)),
        stream=gift.stream,
        menu_item=label,
        message=gift.message,
        anonymous=gift.anonymous,
        at=now_ms,
        withdrawable_at=ripe_at,
        conversation=gift.conversation,
    )
    worth = gift.amount.units if quote is None else quote.convert(gift.amount.units)
    _add(connection, tip, worth, gift.link)
    reached = goals.count(connection, _counted(tip, worth, 1), now_ms)
    _tell(connection, "tip.created", tip, now_ms)
    goals.tell_reached(connection, recipient.id, reached, now_ms)
    if grown is not None:
        card = GiftCard(tip.id, msgspec.to_builtins(recipient), msgspec.to_builtins(tip.amount))
        gifts.show(connection, grown, gift.sender.id, gift.message, card, now_ms)
    return tip


def quote_for(
    connection: sa.Connection, asset: str, known: str | None, house: House, new: str, now_ms: int
) -> Quote | None:
    """Return the rate at which an asset arrives: the `known` quote's, else today's under the id `new`; None for 1:1.

    Raises Refused (quote_expired, also for a quote that is none or of something else; rate_unavailable).
    """
    target = house.assets.find(asset).settles_in
    if target == asset:
        return None
    if known is None:
        return make_quote(new, house.rates.rate(asset, target, now_ms), now_ms)
    quote = offers.find(connection, known)
    if quote is None or (quote.rate.asset, quote.rate.target) != (asset, target) or now_ms >= quote.expires_at:
        raise Refused("quote_expired")
    return quote


def find_recipient(connection: sa.Connection, sender: AccountId, name: str, asset: str, assets: Assets) -> Person:
    """Return whom somebody may give an asset to. Raises Refused (account_unknown, self_tip, recipient_not_eligible)."""
    row = _FIND_RECIPIENT(connection, folded=fold(name), asker=sender).fetchone()
    if row is None:
        raise Refused("account_unknown", f"nobody is called {name!r} here")
    if row[0] == sender:
        raise Refused("self_tip")
    assets.check_recipient(asset, row[2])
    return Person(AccountId(row[0]), row[1])


def _check_context(connection: sa.Connection, gift: Gift, recipient: AccountId, now_ms: int) -> None:
    """Let tips in a stream or by a link go to its owner. A stream may have ended: the money arrives all the same."""
    if gift.link is not None and tip_links.find(connection, gift.link, now_ms).owner != recipient:
        raise Refused("bad_context", "this link is not the recipient's")
    if gift.stream is None:
        return
    row = _FIND_STREAM(connection, id=gift.stream).fetchone()
    if row is None or row[0] != recipient:
        raise Refused("bad_context", "this stream is not the recipient's")


def _ripe_at(connection: sa.Connection, gift: Gift, house: House, now_ms: int) -> int:
    """Return from when on a tip that was just paid may be withdrawn. Raises Refused.

    Whatever is spent is taken to be what came first. A sender who is left with less than what came lately has passed
    some of that on, and passing on makes it no sooner withdrawable: else a large tip would be paid out in small ones.
    """
    large = _is_large(connection, gift, house, now_ms)
    ripe_at = now_ms + (house.large_ripe_after_ms if large else house.ripe_after_ms)
    asset = gift.amount.asset
    lately = _UNRIPE(connection, recipient=gift.sender.id, asset=asset, now=now_ms).fetchall()
    if not lately or books.balance(connection, wallet(gift.sender.id, asset)) >= sum(int(row[0]) for row in lately):
        return ripe_at
    return int(max(ripe_at, *(row[1] for row in lately)))


def _is_large(connection: sa.Connection, gift: Gift, house: House, now_ms: int) -> bool:
    """Say whether a tip, with those of the day before, is above what any session may give. Raises Refused."""
    threshold = house.assets.find(gift.amount.asset).step_up_above
    if threshold is None:
        return False
    rows = _SENT_SINCE(connection, sender=gift.sender.id, asset=gift.amount.asset, since=now_ms - DAY_MS)
    if sum(int(row[0]) for row in rows) + gift.amount.units <= threshold:
        return False
    if not gift.is_fresh:
        raise Refused("step_up_required")
    return True


def _add(connection: sa.Connection, tip: TipView, worth: int, link: str | None) -> None:
    _ADD(
        connection,
        id=tip.id,
        sender=tip.sender.id,
        recipient=tip.to.id,
        asset=tip.amount.asset,
        units=tip.amount.units,
        fee=tip.fee.units,
        target=tip.arrives.asset,
        worth=str(worth),
        arrived=tip.arrives.units,
        stream=tip.stream,
        link=link,
        menu_item=tip.menu_item,
        message=tip.message,
        anonymous=tip.anonymous,
        at=tip.at,
        withdrawable_at=tip.withdrawable_at,
        conversation=tip.conversation,
    )


# -- afterwards --------------------------------------------------------------------------------------------------------


def reverse(connection: sa.Connection, tip_id: str, now_ms: int) -> TipView:
    """Take a tip back, in the asset and to the unit in which it was given. Raises Refused (tip_unknown, ...)."""
    tip = find(connection, tip_id)
    if tip is None:
        raise Refused("tip_unknown")
    if tip.conversation is not None:
        rows.lock(connection, tip.conversation)  # as in giving: before wallets, and before anything is told
    books.apply(connection, Reverse(tip_id), now_ms)
    worth = int(_FIND(connection, id=tip_id).fetchone()[-1])
    goals.count(connection, _counted(tip, worth, -1), now_ms)
    _tell(connection, "tip.reversed", tip, now_ms)
    if tip.conversation is not None:
        gifts.take_back(connection, tip.conversation, tip.sender.id, tip.id, now_ms)
    return tip


def find(connection: sa.Connection, tip_id: str) -> TipView | None:
    """Return a tip."""
    row = _FIND(connection, id=tip_id).fetchone()
    if row is None:
        return None
    return TipView(
        id=row[0],
        sender=Person(row[1], row[2]),
        to=Person(row[3], row[4]),
        amount=WireAmount(row[5], row[6]),
        fee=WireAmount(row[5], row[7]),
        arrives=WireAmount(row[8], row[9]),
        stream=row[10],
        menu_item=row[11],
        message=row[12],
        anonymous=bool(row[13]),
        at=row[14],
        withdrawable_at=row[15],
        conversation=row[16],
    )


def unripe(connection: sa.Connection, recipient: str, asset: str, now_ms: int) -> int:
    """Return the units that arrived as tips and may not be withdrawn yet."""
    return sum(int(row[0]) for row in _UNRIPE(connection, recipient=recipient, asset=asset, now=now_ms))


class TipsGiven:
    """Says what was tipped between two people; implements `server.access.standing.Tips`."""

    def total(
        self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
    ) -> int:
        """Return the sum of all tips that were not taken back."""
        return sum(_between(connection, sender, recipient, asset, since))

    def largest(
        self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
    ) -> int:
        """Return the largest single tip, 0 for none."""
        return max(_between(connection, sender, recipient, asset, since), default=0)


def _between(
    connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
) -> Iterator[int]:
    # Text adds up exactly in no database, so it is done here: some microseconds for each tip between the two.
    rows = _BETWEEN(connection, sender=sender, recipient=recipient, asset=asset, since=since or 0)
    for given, units, worth in rows:
        yield int(units if given == asset else worth)


def _counted(tip: TipView, worth: int, sign: int) -> Counted:
    units = {tip.arrives.asset: sign * worth} | {tip.amount.asset: sign * int(tip.amount.units)}
    return Counted(tip.to.id, tip.stream, tip.at, units)


def _tell(connection: sa.Connection, kind: str, tip: TipView, now_ms: int) -> None:
    eventlog.append(connection, Happened(tip.to.id, kind, now_ms, msgspec.to_builtins(tip), (tip.sender.id, tip.to.id)))
