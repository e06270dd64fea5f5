"""The ticket desk: sells a stream's tickets. What is sold is first written, then let in, then answered.

The rules: a ticket is for one stream, and lets in whenever that is on for ticket holders, on any device of its holder.
What is paid waits in escrow until enough of the show was delivered, which means: on for ticket holders, with a picture,
for `delivered_after_s` in all. Then the streamer is paid, and tickets that are sold later are paid out at once. A show
that ends before is paid back whole. Going back to public in between gives nothing back by itself: the holders saw what
they paid for, or the show goes on later, or it ends too early and is paid back.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, TypeVarTuple

import msgspec
import sqlalchemy as sa

from server.access.service import Access
from server.database.gathered import Gathered
from server.database.store import Database
from server.money import box_office, ticket_reports, till
from server.money import tickets as t
from server.money.amounts import WireAmount, read_amount_untrusted
from server.money.assets import Assets
from server.money.box_office import Purchase
from server.money.idempotency import Answered, Idempotent, Outcome, Request, once_each
from server.money.shows import Shows
from server.money.ticket_rows import name_ticket
from server.money.ticket_views import (
    MyTickets,
    Position,
    ReportView,
    SaleView,
    show_mine,
    show_report,
    show_sale,
    show_ticket,
)
from server.money.tickets import Sale, Ticket, TicketState
from server.money.till import Wish
from server.money.usher import Usher
from server.tokens import Claims
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ID_BYTES = 12  # of a sale's name; it is no secret


class NewSale(msgspec.Struct, frozen=True):
    """Seats to sell; without `opens_at` from now on. Times in epoch ms."""

    price: WireAmount
    quantity: int
    late_price: WireAmount | None
    opens_at: int | None
    closes_at: int | None
    delivered_after_s: int


class TicketDesk:
    """Sells tickets over a node's store and rooms; raises Refused and StoreFailed."""

    def __init__(
        self,
        store: Database,
        rooms: Rooms,
        access: Access,
        usher: Usher,
        shows: Shows,
        assets: Assets,
        keys: Idempotent,
        wall_ms: Callable[[], int],
    ) -> None:
        self._store, self._rooms, self._access, self._usher = store, rooms, access, usher
        self._shows, self._assets, self._wall_ms = shows, assets, wall_ms
        self._keys = keys
        self._sales = Gathered[str, Sale | None](lambda sales: store.read(ticket_reports.find_sales, sales))
        self.sold = self.refused = 0

    def counters(self) -> dict[str, int]:
        """How much was sold, by name."""
        return {"tickets_bought": self.sold, "tickets_refused": self.refused}

    # -- selling -------------------------------------------------------------------------------------------------------

    async def open_sale(self, actor: Actor, stream: StreamId, new: NewSale) -> SaleView:
        """Sell tickets for a stream. Raises Refused (not_the_owner, sale_exists, invalid_sale, ...)."""
        seller = self._rooms.stream(stream, actor).card.streamer.id
        _require(actor, seller)
        now = self._wall_ms()
        sale = Sale(
            f"sale_{secrets.token_hex(ID_BYTES)}",
            stream,
            seller,
            read_amount_untrusted(new.price, self._assets),
            new.quantity,
            now if new.opens_at is None else new.opens_at,
            new.closes_at,
            self._units(new.late_price, new.price.asset),
            new.delivered_after_s,
        )
        self._shows.terms(sale, now)  # what could not be paid out is not sold
        return show_sale(await self._written(box_office.open_sale, sale, now), now)

    async def show(self, actor: Actor, stream: StreamId) -> SaleView:
        """Show a stream's newest sale. Raises Refused (stream_unknown, sale_unknown)."""
        self._rooms.stream(stream, actor)
        sale = await self._store.read(ticket_reports.sale_of, stream)
        if sale is None:
            raise Refused("sale_unknown")
        sale = await self._shows.keep_up(sale)
        mine, position = await self._store.read(_place_of, sale.id, actor.account)
        state = self._rooms.state(stream)
        if mine is not None and mine.state is TicketState.SOLD and state and actor.account not in state.bought:
            await self._usher.seat_soon(stream, [actor.account])
        return show_sale(sale, self._wall_ms(), mine, position)

    async def change(
        self, actor: Actor, sale_id: str, price: WireAmount | None, late_price: WireAmount | None, quantity: int | None
    ) -> SaleView:
        """Change a sale; who has reserved a seat keeps its price. Raises Refused (quantity_taken, sale_closed, ...)."""
        sale = await self._own(actor, sale_id)
        asset = sale.price.asset
        return await self._order(sale, t.Change(quantity, self._units(price, asset), self._units(late_price, asset)))

    async def close(self, actor: Actor, sale_id: str) -> SaleView:
        """Sell no more. Raises Refused("sale_closed")."""
        return await self._order(await self._own(actor, sale_id), t.Close())

    async def cancel(self, actor: Actor, sale_id: str) -> SaleView:
        """End a sale: all get their money back, unless the show was delivered. Raises Refused("sale_closed")."""
        sale = await self._own(actor, sale_id)
        return show_sale(await self._shows.apply(sale, t.Cancel()), self._wall_ms())

    async def refund(self, actor: Actor, sale_id: str, ticket_id: str) -> None:
        """Give one buyer the money back; answers when the ticket lets in no more. Raises Refused."""
        sale = await self._own(actor, sale_id)
        ticket = await self._store.read(ticket_reports.find_ticket, ticket_id)
        if ticket is None or ticket.sale != sale.id:
            raise Refused("ticket_unknown")
        await self._written(box_office.refund, ticket_id, self._wall_ms())
        await self._usher.seat(StreamId(sale.stream), [AccountId(ticket.account)])

    async def report(self, actor: Actor, sale_id: str, after: int, limit: int) -> ReportView:
        """Show its streamer how a sale goes, also when it is over. Raises Refused (sale_unknown, not_the_owner)."""
        sale = await self._own(actor, sale_id)
        report, holders = await self._store.read(_report, sale, after, limit)
        show, takeovers = await self._shows.look(sale)
        return show_report(
            report,
            holders,
            limit,
            fee_bps=self._shows.fee_bps,
            delivered_s=0 if show is None else show.delivered_s,
            takeovers=takeovers,
            now_ms=self._wall_ms(),
        )

    # -- buying --------------------------------------------------------------------------------------------------------

    async def reserve(self, session: Claims, sale_id: str, price_seen: WireAmount, request: Request) -> Answered:
        """Keep a seat for two minutes; answers with a TicketView. Raises Refused (price_changed, sold_out, ...)."""
        sale, purchase, now = await self._read_wish(session, sale_id, price_seen)
        answered = await self._charged(self._keys.write(request, now, _reserve, purchase, now))
        await self._let_in(sale, session.actor)
        return answered

    async def buy(self, session: Claims, sale_id: str, price_seen: WireAmount, request: Request) -> Answered:
        """Buy a ticket, with the seat reserved before if there is one; answers when its holder is let in.

        Raises Refused (price_changed, sold_out, insufficient_funds, ...), and then nothing was charged.
        """
        sale, purchase, now = await self._read_wish(session, sale_id, price_seen)
        answered = await self._charged(self._keys.write_each(request, now, SELL, Wish(purchase, now)))
        await self._let_in(sale, session.actor)
        self.sold += not answered.replayed
        return answered

    async def pay(self, session: Claims, ticket_id: str, request: Request) -> Answered:
        """Pay for a reserved seat; answers when its holder is let in. Raises Refused, and then nothing was charged."""
        actor = session.actor
        sale = await self._of_reservation(actor, ticket_id)
        self._assets.check_surface(sale.price.asset, session.surface)
        await self._require_buyer(actor, sale)
        now = self._wall_ms()
        answered = await self._charged(self._keys.write(request, now, _pay, ticket_id, actor.account, now))
        await self._let_in(sale, actor)
        self.sold += not answered.replayed
        return answered

    async def give_up(self, actor: Actor, ticket_id: str) -> None:
        """End a reservation of one's own. Raises Refused("reservation_unknown")."""
        sale = await self._of_reservation(actor, ticket_id)
        await self._written(box_office.give_up, ticket_id, actor.account, self._wall_ms())
        await self._let_in(sale, actor)

    async def wait(self, actor: Actor, sale_id: str) -> Position:
        """Queue up for a ticket. Raises Refused (not_sold_out, sale_closed, ticket_exists, too_many_waiting)."""
        sale = await self._visible(actor, sale_id)
        await self._require_buyer(actor, sale)
        return Position(await self._store.write(box_office.wait, sale.id, actor.account, self._wall_ms()))

    async def stop_waiting(self, actor: Actor, sale_id: str) -> None:
        """Leave the queue."""
        sale = await self._visible(actor, sale_id)
        await self._store.write(box_office.stop_waiting, sale.id, actor.account)

    async def mine(self, actor: Actor, before: int | None, limit: int) -> MyTickets:
        """Show somebody's own tickets."""
        before = ticket_reports.NEWEST if before is None else before
        return show_mine(await self._store.read(ticket_reports.tickets_of, actor.account, before, limit), limit)

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def _read_wish(self, session: Claims, sale_id: str, price_seen: WireAmount) -> tuple[Sale, Purchase, int]:
        """Return what somebody wants who may buy, and when it was asked for."""
        actor = session.actor
        sale = await self._visible(actor, sale_id)
        self._assets.check_surface(sale.price.asset, session.surface)
        await self._require_buyer(actor, sale)
        seen = read_amount_untrusted(price_seen, self._assets)
        now = self._wall_ms()
        return sale, Purchase(sale.id, name_ticket(now), actor.account, seen), now

    async def _charged(self, writing: Awaitable[Answered]) -> Answered:
        try:
            return await writing
        except Refused:
            self.refused += 1
            raise
        finally:
            self._usher.look()

    async def _let_in(self, sale: Sale, actor: Actor) -> None:
        await self._usher.seat_soon(StreamId(sale.stream), [actor.account])

    async def _require_buyer(self, actor: Actor, sale: Sale) -> None:
        """Let only those buy who could come in with a ticket, of a sale that is up to date."""
        stream = StreamId(sale.stream)
        state = self._rooms.state(stream)
        if state is None or state.ended is not None:
            raise Refused("stream_ended")
        if actor.account in state.ejected:
            raise Refused("ejected")
        if actor.account != sale.seller:
            await self._access.require_proven(stream, actor.account)
        await self._shows.keep_up(sale)

    async def _visible(self, actor: Actor, sale_id: str) -> Sale:
        """Return a sale of a stream that is there for who asks; raises Refused("sale_unknown")."""
        sale = await self._sales.ask(sale_id)
        if sale is None:
            raise Refused("sale_unknown")
        if actor.account == sale.seller or actor.admin:
            return sale
        try:
            self._rooms.stream(StreamId(sale.stream), actor)
        except Refused as refused:
            if refused.code == "stream_unknown":
                raise Refused("sale_unknown") from None
            raise
        return sale

    async def _own(self, actor: Actor, sale_id: str) -> Sale:
        sale = await self._visible(actor, sale_id)
        _require(actor, sale.seller)
        return sale

    async def _of_reservation(self, actor: Actor, ticket_id: str) -> Sale:
        ticket = await self._store.read(ticket_reports.find_ticket, ticket_id)
        if ticket is None or ticket.account != actor.account:
            raise Refused("reservation_unknown")
        return await self._visible(actor, ticket.sale)

    async def _order(self, sale: Sale, command: t.Change | t.Close) -> SaleView:
        now = self._wall_ms()
        return show_sale(await self._written(box_office.change, sale.id, command, now), now)

    async def _written(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        written = await self._store.write(work, *arguments)
        self._usher.look()
        return written

    def _units(self, price: WireAmount | None, asset: str) -> int | None:
        if price is None:
            return None
        if price.asset != asset:
            raise Refused("invalid_price", f"tickets of this sale are paid for in {asset}")
        return read_amount_untrusted(price, self._assets).units


def _require(actor: Actor, seller: str) -> None:
    if actor.account != seller and not actor.admin:
        raise Refused("not_the_owner")


def _place_of(connection: sa.Connection, sale: str, account: str) -> tuple[Ticket | None, int]:
    mine = ticket_reports.ticket_of(connection, sale, account)
    return mine, 0 if mine is not None else box_office.position(connection, sale, account)


def _report(
    connection: sa.Connection, sale: Sale, after: int, limit: int
) -> tuple[ticket_reports.Report, list[ticket_reports.Numbered]]:
    report = ticket_reports.report(connection, sale.id)
    return report, ticket_reports.tickets_sold(connection, sale, after, limit)


def _reserve(connection: sa.Connection, purchase: Purchase, now_ms: int) -> Answered:
    return _answer(box_office.reserve(connection, purchase, now_ms))


def _sell_each(connection: sa.Connection, wishes: Sequence[Wish]) -> list[Outcome]:
    outcomes = till.sell_each(connection, wishes)
    return [_answer(outcome) if isinstance(outcome, Ticket) else outcome for outcome in outcomes]


SELL = once_each(_sell_each)


def _pay(connection: sa.Connection, ticket: str, account: str, now_ms: int) -> Answered:
    return _answer(box_office.pay_for(connection, ticket, account, now_ms))


def _answer(ticket: Ticket) -> Answered:
    return Answered(201, msgspec.json.encode(show_ticket(ticket)))
