"""Sells tickets to many at once: to each as `box_office.buy` would, in few statements for all of them.

Who buys together shares what the database does: the sale, its escrow and everybody's balances are read and written
once, and each kind of row goes in with one statement. Each purchase is decided by itself, by the same rules, one after
the other: who is refused leaves nothing behind, and each who buys has a transfer, entries and an event of his own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.money import box_office
from server.money.box_office import Purchase
from server.money.journal import Journal
from server.money.ticket_rows import TICKET, ticket_of_row
from server.money.tickets import Sale, Ticket, TicketState
from signalling.refusals import Refused

_LIVE = Prepared(
    TICKET + "sale = :sale AND state IN ('reserved', 'sold') AND account IN (SELECT value FROM json_each(:accounts))"
)


class Wish(msgspec.Struct, frozen=True):
    """A purchase, and when it was asked for (epoch ms)."""

    purchase: Purchase
    now_ms: int


def sell_each(connection: sa.Connection, wishes: Sequence[Wish]) -> list[Ticket | Exception]:
    """Return for each wish its ticket, or the Refused of who gets none and is charged nothing.

    Raises what `box_office.buy` raises for a single one, and what the database raises; then nothing may be kept.
    """
    if len(wishes) == 1:
        (wish,) = wishes
        return [box_office.buy(connection, wish.purchase, wish.now_ms)]
    till = _Till(connection, [wish.purchase for wish in wishes])
    outcomes = [till.sell(wish) for wish in wishes]
    till.write(connection)
    return [
        _sell_reserved(connection, wish) if outcome is None else outcome
        for wish, outcome in zip(wishes, outcomes, strict=True)
    ]


class _Till:
    """Sales, tickets and money of those who buy now, as they become with each purchase."""

    def __init__(self, connection: sa.Connection, purchases: Sequence[Purchase]) -> None:
        buyers: defaultdict[str, set[str]] = defaultdict(set)
        for purchase in purchases:
            buyers[purchase.sale].add(purchase.account)
        self._sales: dict[str, Sale] = {}
        self._tickets: dict[tuple[str, str], Ticket] = {}
        for sale_id in sorted(buyers):
            try:
                self._sales[sale_id] = box_office.lock_sale(connection, sale_id)
            except Refused:
                continue  # each who asks for it is told
            accounts = msgspec.json.encode(sorted(buyers[sale_id])).decode()
            for row in _LIVE(connection, sale=sale_id, accounts=accounts):
                ticket = ticket_of_row(row)
                self._tickets[sale_id, ticket.account] = ticket
        owners = {box_office.escrow(sale).owner for sale in self._sales.values()}
        self._journal = Journal(connection, owners.union(*buyers.values()))
        self._changed: set[str] = set()
        self._sold: list[Ticket] = []
        self._news: list[eventlog.Happened] = []

    def sell(self, wish: Wish) -> Ticket | Refused | None:
        """Return what comes of a wish, None for who has a seat reserved."""
        purchase, now_ms = wish.purchase, wish.now_ms
        place = purchase.sale, purchase.account
        there = self._tickets.get(place)
        if there is not None and there.state is TicketState.RESERVED:
            return None
        try:
            if purchase.sale not in self._sales:
                raise Refused("sale_unknown")
            sale, ticket = box_office.seat(self._sales[purchase.sale], there, purchase, now_ms)
            self._journal.apply(box_office.price_of(sale, ticket), now_ms)
        except Refused as refused:
            return refused
        self._sales[sale.id], self._tickets[place] = sale, ticket
        self._changed.add(sale.id)
        self._sold.append(ticket)
        self._news += box_office.news_of_sold(sale, ticket, now_ms)
        return ticket

    def write(self, connection: sa.Connection) -> None:
        """Write what was sold."""
        box_office.add_tickets(connection, self._sold)
        self._journal.write(connection)
        for sale_id in sorted(self._changed):
            box_office.save_sale(connection, self._sales[sale_id])
        eventlog.append_each(connection, self._news)


def _sell_reserved(connection: sa.Connection, wish: Wish) -> Ticket | Refused:
    """Let somebody pay for a seat that was reserved, after those who had none: few do so at once."""
    try:
        with connection.begin_nested():
            return box_office.buy(connection, wish.purchase, wish.now_ms)
    except Refused as refused:
        return refused
