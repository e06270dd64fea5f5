"""Tickets in the database: seats, reservations and what was paid for them, each change one transaction.

Like in `books`, every function takes an open connection: `await store.write(box_office.buy, ...)` returns when seat,
payment and event are on the disk. The sale's row is locked first, so that two buyers can't have the same seat; CHECKs
and a unique index stand behind that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.money import books
from server.money import tickets as t
from server.money.amounts import Amount, wire_amount
from server.money.ledger import PLATFORM, Account, Kind, Leg, Move
from server.money.payments import Terms, pay, wallet
from server.money.ticket_reports import find_ticket, require_earnest, ticket_of
from server.money.ticket_rows import SALE, TICKET, changing, sale_of_row, sale_values, ticket_of_row, ticket_row
from server.money.tickets import Sale, SaleState, Ticket, TicketState
from signalling.refusals import Refused

_LOCK_SALE = Prepared(SALE + "id = :id", locks=True)
_ADD_SALE = Prepared(
    "INSERT INTO sales (id, stream, seller, asset, price, late_price, quantity, opens_at, closes_at, minimum_s, began,"
    " earned, state, reserved, sold) VALUES (:id, :stream, :seller, :asset, :price, :late_price, :quantity, :opens_at,"
    " :closes_at, :minimum_s, :began, :earned, :state, :reserved, :sold) ON CONFLICT DO NOTHING"
)
_SET_SALE = Prepared(
    "UPDATE sales SET price = :price, late_price = :late_price, quantity = :quantity, began = :began, earned = :earned,"
    " state = :state, reserved = :reserved, sold = :sold WHERE id = :id"
)
_FIND_IN_STATE = Prepared(TICKET + "sale = :sale AND state = :state ORDER BY number LIMIT :limit")
_DUE = Prepared("SELECT id, sale FROM tickets WHERE state = 'reserved' AND until <= :now ORDER BY until LIMIT :limit")
_ADD_TICKET = Prepared(
    "INSERT INTO tickets (id, sale, account, state, asset, price, until)"
    " VALUES (:id, :sale, :account, :state, :asset, :price, :until)"
)
_SET_TICKET = Prepared("UPDATE tickets SET state = :state, until = :until WHERE id = :id")
_WAIT = Prepared("INSERT INTO ticket_queue (sale, account, at) VALUES (:sale, :account, :at) ON CONFLICT DO NOTHING")
_STOP_WAITING = Prepared("DELETE FROM ticket_queue WHERE sale = :sale AND account = :account")
_FIRST_WAITING = Prepared("SELECT number, account FROM ticket_queue WHERE sale = :sale ORDER BY number LIMIT 1")
_COUNT_WAITING = Prepared("SELECT count(*) FROM ticket_queue WHERE sale = :sale")
_POSITION = Prepared(
    "SELECT count(*) FROM ticket_queue q JOIN ticket_queue mine ON mine.sale = q.sale AND q.number <= mine.number"
    " WHERE mine.sale = :sale AND mine.account = :account"
)


class Purchase(msgspec.Struct, frozen=True):
    """Who wants which ticket, under which id, and the price that was shown."""

    sale: str
    ticket: str
    account: str
    price_seen: Amount


# -- buying ------------------------------------------------------------------------------------------------------------


def buy(connection: sa.Connection, purchase: Purchase, now_ms: int) -> Ticket:
    """Reserve a seat and pay for it at once. Raises Refused like `tickets.step` and `books.apply`."""
    sale, there = _open(connection, purchase.sale, purchase.account)
    if there is not None and there.state is TicketState.RESERVED:
        return _pay_reserved(connection, sale, there, now_ms)
    sale, ticket = seat(sale, there, purchase, now_ms)
    add_tickets(connection, [ticket])
    _charge(connection, sale, ticket, now_ms)
    return ticket


def seat(sale: Sale, there: Ticket | None, purchase: Purchase, now_ms: int) -> tuple[Sale, Ticket]:
    """Decide about a seat that is paid for at once, by somebody with the ticket `there`; raises Refused."""
    wish = t.Reserve(purchase.ticket, purchase.account, purchase.price_seen)
    sale, ticket = t.step(sale, there, wish, now_ms)
    sale, ticket = t.step(sale, ticket, t.Pay(purchase.account), now_ms)
    assert ticket is not None
    return sale, ticket


def price_of(sale: Sale, ticket: Ticket) -> Move:
    """Return how a ticket is paid for."""
    leg = Leg(wallet(ticket.account, ticket.price.asset), escrow(sale), ticket.price.units)
    return Move(f"ticket.{ticket.id}", "ticket", (leg,))


def news_of_sold(sale: Sale, ticket: Ticket, now_ms: int) -> list[Happened]:
    """Return what there is to tell of a ticket that was just sold."""
    sold = _news(sale, "ticket.sold", ticket, now_ms)
    return [sold] if sale.free > 0 else [sold, _news(sale, "sale.sold_out", None, now_ms)]


def reserve(connection: sa.Connection, purchase: Purchase, now_ms: int) -> Ticket:
    """Keep a seat for somebody who is about to pay; who has one reserved already, gets that. Raises Refused."""
    sale, there = _open(connection, purchase.sale, purchase.account)
    if there is not None and there.state is TicketState.RESERVED:
        return there
    require_earnest(connection, sale.id, purchase.account)
    sale, ticket = t.step(sale, there, t.Reserve(purchase.ticket, purchase.account, purchase.price_seen), now_ms)
    assert ticket is not None
    add_tickets(connection, [ticket])
    save_sale(connection, sale)
    _tell(connection, sale, "ticket.reserved", ticket, now_ms)
    return ticket


def pay_for(connection: sa.Connection, ticket: str, account: str, now_ms: int) -> Ticket:
    """Pay for a reserved seat. Raises Refused, and then nobody was charged."""
    sale, reserved = _open_ticket(connection, ticket)
    if reserved.account != account:
        raise Refused("reservation_unknown")
    there = ticket_of(connection, sale.id, account)
    if there is not None and there.id != reserved.id:  # reserved or bought after this one had expired
        raise Refused("ticket_exists", ticket=there.id, state=there.state.value)
    return _pay_reserved(connection, sale, reserved, now_ms)


def give_up(connection: sa.Connection, ticket: str, account: str, now_ms: int) -> Ticket:
    """End a reservation before its time; raises Refused."""
    return _released(connection, ticket, t.GiveUp(account), now_ms)


def any_run_out(connection: sa.Connection, now_ms: int) -> bool:
    """Return whether there are reservations whose time is over."""
    return _DUE(connection, now=now_ms, limit=1).fetchone() is not None


def run_out(connection: sa.Connection, now_ms: int, limit: int) -> list[Ticket]:
    """End up to `limit` reservations whose time is over, and offer their seats on; returns what ended."""
    due = sorted(_DUE(connection, now=now_ms, limit=limit).fetchall(), key=lambda row: (row[1], row[0]))
    ended = []
    with eventlog.gathering(connection):
        for ticket, _ in due:
            try:
                ended.append(_released(connection, ticket, t.RunOut(), now_ms))
            except Refused:
                continue  # another node was faster, or it was paid for meanwhile
    return ended


def refund(connection: sa.Connection, ticket: str, now_ms: int) -> Ticket:
    """Give back what was paid for one ticket, and its seat to the next; raises Refused."""
    _, refunded = _refunded(connection, *_open_ticket(connection, ticket), now_ms)
    return refunded


# -- waiting -----------------------------------------------------------------------------------------------------------


def wait(connection: sa.Connection, sale_id: str, account: str, now_ms: int) -> int:
    """Queue up for a seat; returns the position from 1. Raises Refused (not_sold_out, too_many_waiting, ...)."""
    sale, there = _open(connection, sale_id, account)
    if there is not None:
        raise Refused("ticket_exists", ticket=there.id, state=there.state.value)
    if account == sale.seller:
        raise Refused("own_ticket")
    if sale.state is not SaleState.OPEN:
        raise Refused("sale_closed")
    if sale.free > 0:
        raise Refused("not_sold_out")
    require_earnest(connection, sale.id, account)
    if int(_COUNT_WAITING(connection, sale=sale.id).fetchone()[0]) >= t.MAX_WAITING:
        raise Refused("too_many_waiting")
    _WAIT(connection, sale=sale.id, account=account, at=now_ms)
    return position(connection, sale.id, account)


def stop_waiting(connection: sa.Connection, sale_id: str, account: str) -> None:
    """Leave the queue; who is not in it, may."""
    _STOP_WAITING(connection, sale=sale_id, account=account)


def position(connection: sa.Connection, sale_id: str, account: str) -> int:
    """Return somebody's place in the queue from 1, 0 for nobody's."""
    return int(_POSITION(connection, sale=sale_id, account=account).fetchone()[0])


# -- selling -----------------------------------------------------------------------------------------------------------


def open_sale(connection: sa.Connection, sale: Sale, now_ms: int) -> Sale:
    """Open a sale; a stream has one at a time. Raises Refused (sale_exists, and what `tickets.open_sale` raises)."""
    sale = t.open_sale(sale, now_ms)
    if _ADD_SALE(connection, **sale_values(sale)).rowcount != 1:
        raise Refused("sale_exists")
    _tell(connection, sale, "sale.opened", None, now_ms)
    return sale


def change(connection: sa.Connection, sale_id: str, command: t.Change | t.Begin | t.Close, now_ms: int) -> Sale:
    """Change, begin or close a sale; seats that are added go to those who wait. Raises Refused."""
    before = lock_sale(connection, sale_id)
    sale, _ = t.step(before, None, command, now_ms)
    if sale == before:
        return sale
    sale = _offer_free_seats(connection, sale, now_ms)
    save_sale(connection, sale)
    words = {t.Change: "sale.changed", t.Begin: "sale.began", t.Close: "sale.closed"}
    _tell(connection, sale, words[type(command)], None, now_ms)
    return sale


def earn(
    connection: sa.Connection, sale_id: str, command: t.Earn | t.Settle | t.Cancel, terms: Terms, now_ms: int
) -> Sale:
    """Take up that a show was delivered, or that it ended: pay the seller out of the escrow, or cancel the sale.

    After a cancelled one, call `refund_some` until it returns nothing; that may also be after a crash. Raises Refused.
    """
    before = lock_sale(connection, sale_id)
    sale, _ = t.step(before, None, command, now_ms)
    if sale.earned:
        _pay_out(connection, sale, terms, now_ms)
    save_sale(connection, sale)
    if sale.state is before.state and sale.earned is not before.earned:
        _tell(connection, sale, "sale.earned", None, now_ms)
    if sale.state is not before.state:
        _tell(connection, sale, f"sale.{sale.state}", None, now_ms)
    return sale


def pay_out(connection: sa.Connection, sale_id: str, terms: Terms, now_ms: int) -> bool:
    """Pay a seller what late comers paid for a show that was delivered; returns whether there was anything."""
    sale = lock_sale(connection, sale_id)
    return sale.earned and _pay_out(connection, sale, terms, now_ms)


def is_worth_paying(sale: Sale, units: int, terms: Terms) -> bool:
    """Return whether anything of what is in a sale's escrow would arrive at its seller."""
    if not units:
        return False
    try:
        pay(escrow(sale), sale.seller, units, terms)
    except Refused as refused:
        if refused.code != "amount_too_small":
            raise
        return False
    return True


def refund_some(connection: sa.Connection, sale_id: str, now_ms: int, limit: int) -> list[Ticket]:
    """Give back what was paid for up to `limit` tickets of a cancelled sale; returns them."""
    sale = lock_sale(connection, sale_id)
    assert sale.state is SaleState.CANCELLED
    rows = _FIND_IN_STATE(connection, sale=sale_id, state=TicketState.SOLD.value, limit=limit).fetchall()
    refunded = []
    with eventlog.gathering(connection):
        for row in rows:
            sale, ticket = _refunded(connection, sale, ticket_of_row(row), now_ms)
            refunded.append(ticket)
    return refunded


def escrow(sale: Sale) -> Account:
    """Return where a sale's money is until the show was delivered."""
    return Account(f"sale.{sale.id}", Kind.ESCROW, sale.price.asset)


# -- parts -------------------------------------------------------------------------------------------------------------


def _pay_reserved(connection: sa.Connection, sale: Sale, reserved: Ticket, now_ms: int) -> Ticket:
    sale, ticket = t.step(sale, reserved, t.Pay(reserved.account), now_ms)
    assert ticket is not None
    _save_ticket(connection, ticket)
    _charge(connection, sale, ticket, now_ms)
    return ticket


def _charge(connection: sa.Connection, sale: Sale, ticket: Ticket, now_ms: int) -> None:
    books.apply(connection, price_of(sale, ticket), now_ms)
    save_sale(connection, sale)
    for event in news_of_sold(sale, ticket, now_ms):
        eventlog.append(connection, event)


def _pay_out(connection: sa.Connection, sale: Sale, terms: Terms, now_ms: int) -> bool:
    there = books.balance(connection, escrow(sale))
    quote = terms.quote
    if is_worth_paying(sale, there, terms):
        legs = pay(escrow(sale), sale.seller, there, terms)
    elif there and sale.state is SaleState.DELIVERED:
        # Less than a unit of what its seller gets, and no more will come: it stays where the rest of each conversion
        # does, or, where nothing is converted, it is the fee.
        legs = (Leg(escrow(sale), Account(PLATFORM, Kind.LIQUIDITY if quote else Kind.FEE, sale.price.asset), there),)
        quote = None
    else:
        return False
    # One at a time, under the sale's lock; in the same millisecond the second finds nothing, or is refused and comes
    # again.
    books.apply(connection, Move(f"sale.{sale.id}.earned.{now_ms}", "tickets", legs, quote), now_ms)
    return True


def _refunded(connection: sa.Connection, sale: Sale, sold: Ticket, now_ms: int) -> tuple[Sale, Ticket]:
    sale, ticket = t.step(sale, sold, t.Refund(), now_ms)
    assert ticket is not None
    leg = Leg(escrow(sale), wallet(ticket.account, ticket.price.asset), ticket.price.units)
    books.apply(connection, Move(f"ticket.{ticket.id}.refund", "ticket", (leg,)), now_ms)
    _save_ticket(connection, ticket)
    sale = _offer_free_seats(connection, sale, now_ms)
    save_sale(connection, sale)
    _tell(connection, sale, "ticket.refunded", ticket, now_ms)
    return sale, ticket


def _released(connection: sa.Connection, ticket_id: str, command: t.GiveUp | t.RunOut, now_ms: int) -> Ticket:
    sale, there = _open_ticket(connection, ticket_id)
    sale, ticket = t.step(sale, there, command, now_ms)
    assert ticket is not None
    _save_ticket(connection, ticket)
    save_sale(connection, _offer_free_seats(connection, sale, now_ms))
    _tell(connection, sale, "ticket.expired", ticket, now_ms)
    return ticket


def _offer_free_seats(connection: sa.Connection, sale: Sale, now_ms: int) -> Sale:
    while sale.free > 0 and sale.state is SaleState.OPEN:
        first = _FIRST_WAITING(connection, sale=sale.id).fetchone()
        if first is None:
            break
        number, account = first
        _STOP_WAITING(connection, sale=sale.id, account=account)
        sale, ticket = t.step(sale, None, t.Offer(f"{sale.id}.offer{number}", account), now_ms)
        assert ticket is not None
        add_tickets(connection, [ticket])
        _tell(connection, sale, "ticket.offered", ticket, now_ms)
    return sale


def lock_sale(connection: sa.Connection, sale_id: str) -> Sale:
    """Return a sale, kept from other writers; raises Refused("sale_unknown")."""
    row = _LOCK_SALE(connection, id=sale_id).fetchone()
    if row is None:
        raise Refused("sale_unknown")
    return sale_of_row(row)


def _open(connection: sa.Connection, sale_id: str, account: str) -> tuple[Sale, Ticket | None]:
    sale = lock_sale(connection, sale_id)
    return sale, ticket_of(connection, sale_id, account)


def _open_ticket(connection: sa.Connection, ticket_id: str) -> tuple[Sale, Ticket]:
    ticket = find_ticket(connection, ticket_id)
    if ticket is None:
        raise Refused("ticket_unknown")
    sale = lock_sale(connection, ticket.sale)
    # Read again under the sale's lock, for another may have changed it in between.
    ticket = find_ticket(connection, ticket_id)
    assert ticket is not None
    return sale, ticket


def _tell(connection: sa.Connection, sale: Sale, kind: str, ticket: Ticket | None, now_ms: int) -> None:
    eventlog.append(connection, _news(sale, kind, ticket, now_ms))


def _news(sale: Sale, kind: str, ticket: Ticket | None, now_ms: int) -> Happened:
    price = sale.price_now if ticket is None else ticket.price
    fields: dict[str, Any] = {
        "sale": sale.id,
        "state": sale.state,
        "free": sale.free,
        "sold": sale.sold,
        "price": wire_amount(price),
    }
    if ticket is None:
        return Happened(sale.stream, kind, now_ms, fields, (sale.seller,))
    fields["ticket"], fields["account"] = ticket.id, ticket.account
    if ticket.state is TicketState.RESERVED:
        fields["until"] = ticket.until
    return Happened(sale.stream, kind, now_ms, fields, (sale.seller, ticket.account))


def save_sale(connection: sa.Connection, sale: Sale) -> None:
    """Write what changed of a sale."""
    _SET_SALE(connection, **changing(sale))


def add_tickets(connection: sa.Connection, tickets: Sequence[Ticket]) -> None:
    """Write new tickets."""
    _ADD_TICKET.each(connection, [ticket_row(ticket) for ticket in tickets])


def _save_ticket(connection: sa.Connection, ticket: Ticket) -> None:
    _SET_TICKET(connection, id=ticket.id, state=ticket.state.value, until=ticket.until)
