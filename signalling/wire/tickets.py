"""What clients are told of sales and tickets over the signalling socket; times are wall-clock epoch milliseconds.

A price is {"asset": "USD", "units": "1500"}. The names are those of the event log.
"""

from __future__ import annotations

from typing import Any

from signalling.identifiers import StreamId
from signalling.wire.events import WireEvent


class _OfSale(WireEvent, frozen=True, kw_only=True):
    stream: StreamId
    sale: str


class _Sale(_OfSale, frozen=True, kw_only=True):
    """`price` is what a ticket costs now, `free` how many seats nobody has."""

    state: str
    price: Any
    free: int


class SaleOpened(_Sale, frozen=True, kw_only=True, tag="sale.opened"):
    """To all in the stream: tickets are sold."""


class SaleChanged(_Sale, frozen=True, kw_only=True, tag="sale.changed"):
    """To all in the stream: price or number of seats are others now."""


class SaleBegan(_Sale, frozen=True, kw_only=True, tag="sale.began"):
    """To all in the stream: the show has begun, and tickets cost the late price."""


class SaleEarned(_Sale, frozen=True, kw_only=True, tag="sale.earned"):
    """To all in the stream: enough of the show was delivered, so no ticket goes back any more."""


class SaleClosed(_Sale, frozen=True, kw_only=True, tag="sale.closed"):
    """To all in the stream: no more tickets are sold; what is reserved can still be paid for."""


class SaleSoldOut(_Sale, frozen=True, kw_only=True, tag="sale.sold_out"):
    """To all in the stream: the last seat is sold."""


class SaleDelivered(_Sale, frozen=True, kw_only=True, tag="sale.delivered"):
    """To all in the stream: the show is over and was delivered."""


class SaleCancelled(_Sale, frozen=True, kw_only=True, tag="sale.cancelled"):
    """To all in the stream: there is no show, and everybody gets the money back."""


class SaleSeats(_OfSale, frozen=True, kw_only=True, tag="sale.seats"):
    """To all in the stream: so many seats are left; of several in a row, the newest alone may come."""

    free: int


class _Ticket(_OfSale, frozen=True, kw_only=True):
    ticket: str
    price: Any


class TicketReserved(_Ticket, frozen=True, kw_only=True, tag="ticket.reserved"):
    """To its buyer: the seat is kept until `until`."""

    until: int


class TicketOffered(_Ticket, frozen=True, kw_only=True, tag="ticket.offered"):
    """To who waited for one: a seat became free and is kept until `until`."""

    until: int


class TicketSold(_Ticket, frozen=True, kw_only=True, tag="ticket.sold"):
    """To its buyer: the ticket is paid for, and lets in."""


class TicketExpired(_Ticket, frozen=True, kw_only=True, tag="ticket.expired"):
    """To its buyer: the reservation is over; nothing was charged."""


class TicketRefunded(_Ticket, frozen=True, kw_only=True, tag="ticket.refunded"):
    """To its buyer: the ticket lets in no more, and its price is back in the wallet."""


OF_SALES: dict[str, type[_Sale]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        SaleOpened,
        SaleChanged,
        SaleBegan,
        SaleEarned,
        SaleClosed,
        SaleSoldOut,
        SaleDelivered,
        SaleCancelled,
    )
}
OF_TICKETS: dict[str, type[_Ticket]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (TicketReserved, TicketOffered, TicketSold, TicketExpired, TicketRefunded)
}
