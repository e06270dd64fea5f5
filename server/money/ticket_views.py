"""Sales and tickets as clients see them; times are wall-clock epoch milliseconds."""

from __future__ import annotations

import msgspec

from server.money.amounts import Amount, WireAmount, split, wire_amount
from server.money.payments import WHOLE_BPS
from server.money.ticket_reports import Numbered, Report
from server.money.tickets import Sale, Ticket, TicketState


class TicketView(msgspec.Struct, frozen=True):
    """A ticket or a reservation of one's own; a reservation is kept until `until`."""

    ticket: str
    sale: str
    state: str
    price: WireAmount
    until: int | None


class MyTicket(msgspec.Struct, frozen=True):
    """A ticket of one's own, and the stream that it is for; `number` orders them."""

    ticket: TicketView
    stream: str
    number: int


class MyTickets(msgspec.Struct, frozen=True):
    """Some of one's tickets, newest first; `next` is the number before which more follow, null after the last."""

    tickets: tuple[MyTicket, ...]
    next: int | None


class SaleView(msgspec.Struct, frozen=True):
    """A sale as everybody sees it.

    `price_now` is what a ticket costs now, `left` how many there are, and `delivered_after_s` how much of the show must
    be delivered for the streamer to be paid; until then every ticket is refunded when the show ends. `earned` says that
    this much was. `mine` is the ticket or reservation of who asks, `position` a place in the queue from 1, 0 for none.
    """

    sale: str
    stream: str
    state: str
    price: WireAmount
    late_price: WireAmount | None
    price_now: WireAmount
    quantity: int
    left: int
    opens_at: int
    closes_at: int | None
    delivered_after_s: int
    began: bool
    earned: bool
    server_now: int
    mine: TicketView | None = None
    position: int = 0


class Position(msgspec.Struct, frozen=True):
    """A place in the queue for a ticket, from 1."""

    position: int


class Holder(msgspec.Struct, frozen=True):
    """Who has, or had, which ticket."""

    ticket: str
    account: str
    name: str
    state: str
    price: WireAmount
    number: int


class Takings(msgspec.Struct, frozen=True):
    """What tickets brought that were not refunded, in minor units: paid, kept by the platform, and left of it.

    Until `earned`, all of it waits in the sale's escrow.
    """

    asset: str
    gross: str
    fee: str
    net: str
    earned: bool


class ReportView(msgspec.Struct, frozen=True):
    """A sale as its streamer sees it; of `tickets`, those numbered above `next` follow on the next page."""

    sale: SaleView
    sold: int
    reserved: int
    expired: int
    refunded: int
    waiting: int
    delivered_s: int
    takeovers: int
    money: Takings
    tickets: tuple[Holder, ...]
    next: int | None


def show_ticket(ticket: Ticket) -> TicketView:
    """Show a ticket to its holder."""
    until = ticket.until if ticket.state is TicketState.RESERVED else None
    return TicketView(ticket.id, ticket.sale, ticket.state.value, wire_amount(ticket.price), until)


def show_sale(sale: Sale, now_ms: int, mine: Ticket | None = None, position: int = 0) -> SaleView:
    """Show a sale."""
    late = None if sale.late_price is None else wire_amount(Amount(sale.price.asset, sale.late_price))
    return SaleView(
        sale=sale.id,
        stream=sale.stream,
        state=sale.state.value,
        price=wire_amount(sale.price),
        late_price=late,
        price_now=wire_amount(sale.price_now),
        quantity=sale.quantity,
        left=sale.free,
        opens_at=sale.opens_at,
        closes_at=sale.closes_at,
        delivered_after_s=sale.minimum_s,
        began=sale.began,
        earned=sale.earned,
        server_now=now_ms,
        mine=None if mine is None else show_ticket(mine),
        position=position,
    )


def show_mine(found: list[Numbered], limit: int) -> MyTickets:
    """Show a page of somebody's tickets."""
    tickets = tuple(MyTicket(show_ticket(each.ticket), each.stream, each.number) for each in found)
    return MyTickets(tickets, found[-1].number if len(found) == limit else None)


def show_report(
    report: Report, holders: list[Numbered], limit: int, *, fee_bps: int, delivered_s: int, takeovers: int, now_ms: int
) -> ReportView:
    """Show how a sale goes."""
    sale = report.sale
    net, fee = split(report.taken, [WHOLE_BPS - fee_bps, fee_bps])
    return ReportView(
        sale=show_sale(sale, now_ms),
        sold=sale.sold,
        reserved=sale.reserved,
        expired=report.expired,
        refunded=report.refunded,
        waiting=report.waiting,
        delivered_s=delivered_s,
        takeovers=takeovers,
        money=Takings(sale.price.asset, str(report.taken), str(fee), str(net), sale.earned),
        tickets=tuple(_holder(each) for each in holders),
        next=holders[-1].number if len(holders) == limit else None,
    )


def _holder(found: Numbered) -> Holder:
    ticket = found.ticket
    return Holder(ticket.id, ticket.account, found.name, ticket.state.value, wire_amount(ticket.price), found.number)
