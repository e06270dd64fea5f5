"""Tips from one account to another: first in the books, then whoever they let in is let in, then they are shown."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import msgspec
import sqlalchemy as sa
import structlog
import trio

from server.access.service import Access
from server.database.store import Database
from server.money import goals, offers, tips
from server.money.amounts import Amount, WireAmount, split, wire_amount
from server.money.assets import Surface
from server.money.idempotency import Answered, Idempotent, Request
from server.money.payments import WHOLE_BPS
from server.money.quotes import Quote
from server.money.tips import Gift, House, TipView
from server.tokens import Claims
from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.wire.tips import GoalTold, TipReversedTold, TipTold
from signalling.wire.views import Money, Person

PATIENCE_S = 5.0  # a tip that is in the books is answered then, although its stream has not judged its giver yet
FRESH_MS = 600_000  # since the log-in: long enough to tip a few times, too short for a device that was left open

log = structlog.get_logger("money")


class QuoteView(msgspec.Struct, frozen=True):
    """What would arrive of an amount until `expires_at`: one unit of `amount` is `numerator` / `denominator` units."""

    quote: str
    amount: WireAmount
    fee: WireAmount
    arrives: WireAmount
    numerator: str
    denominator: str
    source: str
    taken_at: int
    expires_at: int


class Wish(msgspec.Struct, frozen=True):
    """A tip as it is asked for: to whom, by name; how much; in which stream, by which link, for what of the menu."""

    to: str
    amount: Amount
    stream: StreamId | None = None
    message: str = ""
    anonymous: bool = False
    quote: str | None = None
    link: str | None = None
    menu_item: str | None = None
    conversation: str | None = None


class TipJar:
    """Takes tips on a node's store and shows them in its rooms; raises Refused and StoreFailed."""

    def __init__(
        self, store: Database, house: House, keys: Idempotent, access: Access, rooms: Rooms, wall_ms: Callable[[], int]
    ) -> None:
        self._store, self._house, self._keys, self._wall_ms = store, house, keys, wall_ms
        self._access, self._rooms = access, rooms
        self.tips = self.reversed = self.late = 0

    async def quote(self, amount: Amount, surface: Surface) -> QuoteView:
        """Promise a rate for a while. Raises Refused (rate_unavailable, amount_too_small, ...)."""
        self._house.assets.check_surface(amount.asset, surface)
        return await self._store.write(_quote, amount, self._house, self._wall_ms())

    async def give(self, session: Claims, wish: Wish, request: Request) -> Answered:
        """Give a tip, once for each key; the answer holds a `TipView`. Raises Refused like `tips.give`."""
        now_ms, sender = self._wall_ms(), session.actor
        gift = Gift(
            id=f"tip.{secrets.token_hex(12)}",
            sender=Person(sender.account, sender.name),
            to=wish.to,
            amount=wish.amount,
            surface=session.surface,
            is_fresh=now_ms - session.issued_at < FRESH_MS,
            stream=wish.stream,
            message=tips.tidy_message_untrusted(wish.message),
            anonymous=wish.anonymous,
            quote=wish.quote,
            link=wish.link,
            menu_item=wish.menu_item,
            conversation=wish.conversation,
        )
        expired: Refused | None = None
        try:
            answered = await self._keys.write(request, now_ms, _give, gift, self._house, now_ms)
        except Refused as refused:
            if refused.code != "quote_expired":
                raise
            expired = refused
        if expired is not None:
            # Offered only now: what is refused leaves nothing written, and a new quote has to be.
            raise Refused(expired.code, quote=await self.quote(wish.amount, session.surface))
        if not answered.replayed:
            self.tips += 1
            await self._show(msgspec.json.decode(answered.body, type=TipView))
        return answered

    async def reverse(self, tip_id: str) -> TipView:
        """Take a tip back, and the right to watch that it gave. Raises Refused (tip_unknown, already_reversed)."""
        now_ms = self._wall_ms()
        tip = await self._store.write(tips.reverse, tip_id, now_ms)
        self.reversed += 1
        await self._judge(tip)
        for account in {tip.sender.id, tip.to.id}:
            self._rooms.tell(account, TipReversedTold(server_now=now_ms, tip=tip.id))
        await self._show_goals(tip.to.id)
        return tip

    async def find(self, account: str, tip_id: str) -> TipView:
        """Return a tip that an account gave or got; raises Refused("tip_unknown")."""
        tip = await self._store.read(tips.find, tip_id)
        if tip is None or account not in (tip.sender.id, tip.to.id):
            raise Refused("tip_unknown")
        return tip

    def counters(self) -> Mapping[str, int]:
        """How many tips there were, by name."""
        return {"tips": self.tips, "tips_reversed": self.reversed, "tips_late": self.late}

    async def _judge(self, tip: TipView) -> None:
        """Have its giver judged anew who may watch by it, or no longer: what is late goes on by itself."""
        with trio.move_on_after(PATIENCE_S) as patience:
            await self._access.changed_between(tip.sender.id, tip.to.id)
        if patience.cancelled_caught:
            self.late += 1
            log.error("tip_late", tip=tip.id)

    async def _show(self, tip: TipView) -> None:
        await self._judge(tip)
        told = TipTold(
            server_now=self._wall_ms(),
            tip=tip.id,
            stream=tip.stream,
            sender=tip.sender,
            to=tip.to,
            amount=Money(tip.amount.asset, tip.amount.units),
            menu_item=tip.menu_item,
            message=tip.message,
            anonymous=tip.anonymous,
            at=tip.at,
        )
        self._rooms.show_tip(told)
        await self._show_goals(tip.to.id)

    async def _show_goals(self, owner: AccountId) -> None:
        for goal in await self._store.read(goals.running, owner):
            told = GoalTold(
                server_now=self._wall_ms(),
                goal=goal.id,
                stream=goal.stream,
                title=goal.title,
                amount=Money(goal.amount.asset, goal.amount.units),
                collected=goal.collected,
                reached_at=goal.reached_at,
            )
            self._rooms.show_goal(owner, told)


def _give(connection: sa.Connection, gift: Gift, house: House, now_ms: int) -> Answered:
    return Answered(201, msgspec.json.encode(tips.give(connection, gift, house, now_ms)))


def _quote(connection: sa.Connection, amount: Amount, house: House, now_ms: int) -> QuoteView:
    quote = tips.quote_for(connection, amount.asset, None, house, f"q.{secrets.token_hex(12)}", now_ms)
    if quote is None:
        raise Refused("nothing_to_convert", f"{amount.asset} arrives as it is")
    net, fee = split(amount.units, [WHOLE_BPS - house.fee_bps, house.fee_bps])
    arrives = quote.convert(net)
    if arrives == 0:
        raise Refused("amount_too_small")
    offers.add(connection, quote)
    return _quoted(quote, amount, fee, arrives)


def _quoted(quote: Quote, amount: Amount, fee: int, arrives: int) -> QuoteView:
    rate = quote.rate
    return QuoteView(
        quote=quote.id,
        amount=wire_amount(amount),
        fee=wire_amount(Amount(amount.asset, fee)),
        arrives=wire_amount(Amount(rate.target, arrives)),
        numerator=str(rate.numerator),
        denominator=str(rate.denominator),
        source=rate.source,
        taken_at=rate.taken_at,
        expires_at=quote.expires_at,
    )
