"""Sales and tickets as rows of the database: their columns, and what becomes of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from server.money.amounts import Amount
from server.money.tickets import Sale, SaleState, Ticket, TicketState

SALE = (
    "SELECT id, stream, seller, asset, price, late_price, quantity, opens_at, closes_at, minimum_s, began, earned,"
    " state, reserved, sold FROM sales WHERE "
)
TICKET = "SELECT id, sale, account, state, asset, price, until FROM tickets WHERE "

RANDOM_BITS = 48  # of a ticket's name, beside its millisecond; it is no secret, and asking the system would take longer


def name_ticket(now_ms: int) -> str:
    """Return a new ticket's id, one that is above all earlier ones.

    So the indexes of tickets, transfers and entries grow at their ends, where many rows share a page that is written.
    Two of one millisecond are the same once in 2^48; then the second is not written, and its buyer is not charged.
    """
    return f"ticket_{now_ms:012x}{random.getrandbits(RANDOM_BITS):012x}"


def sale_of_row(row: Sequence[Any]) -> Sale:
    """Return the sale of a row with the columns of SALE."""
    identifier, stream, seller, asset, price, late_price, quantity, opens_at, closes_at, minimum_s = row[:10]
    began, earned, state, reserved, sold = row[10:]
    return Sale(
        identifier,
        stream,
        seller,
        Amount(asset, int(price)),
        quantity,
        opens_at,
        closes_at,
        None if late_price is None else int(late_price),
        minimum_s,
        bool(began),
        bool(earned),
        SaleState(state),
        reserved,
        sold,
    )


def sale_values(sale: Sale) -> dict[str, Any]:
    """Return all of a sale by column."""
    return {
        "id": sale.id,
        "stream": sale.stream,
        "seller": sale.seller,
        "asset": sale.price.asset,
        "quantity": sale.quantity,
        "opens_at": sale.opens_at,
        "closes_at": sale.closes_at,
        "minimum_s": sale.minimum_s,
        **changing(sale),
    }


def changing(sale: Sale) -> dict[str, Any]:
    """Return the part of a sale that changes, and its id, by column."""
    return {
        "id": sale.id,
        "price": str(sale.price.units),
        "late_price": None if sale.late_price is None else str(sale.late_price),
        "quantity": sale.quantity,
        "began": int(sale.began),
        "earned": int(sale.earned),
        "state": sale.state.value,
        "reserved": sale.reserved,
        "sold": sale.sold,
    }


def ticket_of_row(row: Sequence[Any]) -> Ticket:
    """Return the ticket of a row with the columns of TICKET."""
    identifier, sale, account, state, asset, price, until = row
    return Ticket(identifier, sale, account, TicketState(state), Amount(asset, int(price)), until)


def ticket_row(ticket: Ticket) -> tuple[str | int, ...]:
    """Return a ticket as a row with the columns of TICKET."""
    price, state = ticket.price, str(ticket.state)
    return ticket.id, ticket.sale, ticket.account, state, price.asset, str(price.units), ticket.until
