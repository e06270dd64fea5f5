"""Decides about tickets: `step(sale, ticket, command, now_ms) -> (sale, ticket)`.

A sale has a number of seats. Each is free, reserved for somebody who is paying, or sold:

    reserved   until a moment; then the seat is free again
    sold       paid for, into the sale's escrow: the seller earns it once enough of the show was delivered
    expired    the reservation ran out or was given up; nothing was charged
    refunded   what was paid went back to the buyer

While people wait for a seat there is no free one: it is offered to the first of them in the moment it becomes free.

Pure: no clock, no randomness, no SQL. What is paid is decided by the ledger, in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from server.money.amounts import Amount
from signalling.refusals import Refused

RESERVED_FOR_MS = 120_000  # to fill a wallet and pay; a show that is live can't wait as long as a theatre
MAX_QUANTITY = 100_000
MAX_WAITING = 2000  # people; nobody waits behind more, and when seats are added all are offered one at once
DELIVERED_S = 300  # of a show after which it counts as delivered, unless the sale says otherwise


class SaleState(StrEnum):
    """What a sale has come to. A closed one sells no more; delivered and cancelled are ends.

    A sale whose show was delivered sells on, to who comes late, until the streamer closes it or the stream ends.
    """

    OPEN = "open"
    CLOSED = "closed"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class TicketState(StrEnum):
    """What a ticket has come to."""

    RESERVED = "reserved"
    SOLD = "sold"
    EXPIRED = "expired"
    REFUNDED = "refunded"


LIVE = (TicketState.RESERVED, TicketState.SOLD)  # those that occupy a seat


class Sale(msgspec.Struct, frozen=True):
    """Seats for one stream's ticket-only part; times in epoch ms.

    `late_price` is what a ticket costs once the show has begun, None for the same. `minimum_s` is how much of the show
    must be delivered for the seller to be paid; once it was, the sale is `earned`, and no ticket goes back any more.
    """

    id: str
    stream: str
    seller: str
    price: Amount
    quantity: int
    opens_at: int
    closes_at: int | None = None
    late_price: int | None = None
    minimum_s: int = DELIVERED_S
    began: bool = False
    earned: bool = False
    state: SaleState = SaleState.OPEN
    reserved: int = 0
    sold: int = 0

    @property
    def free(self) -> int:
        """Seats that nobody has."""
        return self.quantity - self.reserved - self.sold

    @property
    def price_now(self) -> Amount:
        """What a ticket costs now."""
        late = self.late_price if self.began else None
        return self.price if late is None else Amount(self.price.asset, late)


class Ticket(msgspec.Struct, frozen=True):
    """One account's seat. The price is what it was when the seat was reserved; `until` is the reservation's end."""

    id: str
    sale: str
    account: str
    state: TicketState
    price: Amount
    until: int


# -- commands ----------------------------------------------------------------------------------------------------------


class Reserve(msgspec.Struct, frozen=True):
    """Take a free seat. `price_seen` is what the buyer was shown: more is not taken."""

    ticket: str
    account: str
    price_seen: Amount


@dataclass(frozen=True, slots=True)
class Offer:
    """Reserve a free seat for the first who waits."""

    ticket: str
    account: str


class Pay(msgspec.Struct, frozen=True):
    """Turn a reservation into a ticket. One that ran out still finds a seat while there are free ones."""

    account: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End one's own reservation before its time."""

    account: str


@dataclass(frozen=True, slots=True)
class RunOut:
    """End a reservation whose time is over."""


@dataclass(frozen=True, slots=True)
class Refund:
    """Take a ticket back that was paid for."""


@dataclass(frozen=True, slots=True)
class Change:
    """Set what is not None. A price holds for reservations from now on; there are never fewer seats than are taken."""

    quantity: int | None = None
    price: int | None = None
    late_price: int | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """The show has begun: tickets cost the late price now."""


@dataclass(frozen=True, slots=True)
class Close:
    """Sell no more; what is reserved may still be paid for."""


@dataclass(frozen=True, slots=True)
class Earn:
    """Enough of the show was delivered: the seller has earned what was paid, and what late comers will pay."""

    delivered_s: int


@dataclass(frozen=True, slots=True)
class Settle:
    """End the sale: enough of the show was delivered and the seller earns it, or all get their money back."""

    delivered_s: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the sale because there will be no show; one that was earned by then stays earned."""


Command = Reserve | Offer | Pay | GiveUp | RunOut | Refund | Change | Begin | Close | Earn | Settle | Cancel


# -- deciding ----------------------------------------------------------------------------------------------------------


def open_sale(sale: Sale, now_ms: int) -> Sale:
    """Return a sale that may be opened; raises Refused (invalid_quantity, invalid_price, invalid_sale)."""
    _check_quantity(sale.quantity)
    _check_price(sale.price.units)
    if sale.late_price is not None:
        _check_price(sale.late_price)
    if sale.closes_at is not None and sale.closes_at <= max(sale.opens_at, now_ms):
        raise Refused("invalid_sale", "it would close before it opens")
    if not 1 <= sale.minimum_s <= 86_400:
        raise Refused("invalid_sale", "the least that is delivered is from 1 s to a day")
    return replace(sale, state=SaleState.OPEN, began=False, earned=False, reserved=0, sold=0)


def step(sale: Sale, ticket: Ticket | None, command: Command, now_ms: int) -> tuple[Sale, Ticket | None]:
    """Apply one command to a sale and the ticket that it is about; raises Refused, and then nothing changed.

    For Reserve and Offer, `ticket` is what the account has in this sale already.
    """
    match command:
        case Reserve() | Offer():
            return _reserve(sale, ticket, command, now_ms)
        case Pay():
            return _pay(sale, ticket, command, now_ms)
        case GiveUp(account):
            return _release(sale, _reservation(ticket, account))
        case RunOut():
            reservation = _reservation(ticket, None)
            if now_ms < reservation.until:
                raise Refused("reservation_not_due")
            return _release(sale, reservation)
        case Refund():
            return _refund(sale, ticket)
        case Change():
            return _change(sale, command), ticket
        case Begin():
            _check_running(sale)
            return replace(sale, began=True), ticket
        case Close():
            _check_running(sale)
            return replace(sale, state=SaleState.CLOSED), ticket
        case Earn(delivered_s):
            _check_running(sale)
            return replace(sale, earned=_is_earned(sale, delivered_s)), ticket
        case Settle(delivered_s):
            return _end(sale, delivered_s), ticket
        case Cancel():
            return _end(sale, 0), ticket


def _reserve(sale: Sale, there: Ticket | None, command: Reserve | Offer, now_ms: int) -> tuple[Sale, Ticket]:
    _check_running(sale)
    if command.account == sale.seller:
        raise Refused("own_ticket")
    if there is not None and there.state in LIVE:
        raise Refused("ticket_exists", ticket=there.id, state=there.state.value)
    price = sale.price_now
    if isinstance(command, Reserve):
        _check_selling(sale, now_ms)
        if price.asset != command.price_seen.asset or price.units > command.price_seen.units:
            raise Refused("price_changed", price={"asset": price.asset, "units": str(price.units)})
        if sale.free <= 0:
            raise Refused("sold_out")
    assert sale.free > 0
    until = now_ms + RESERVED_FOR_MS
    ticket = Ticket(command.ticket, sale.id, command.account, TicketState.RESERVED, price, until)
    return replace(sale, reserved=sale.reserved + 1), ticket


def _pay(sale: Sale, ticket: Ticket | None, command: Pay, now_ms: int) -> tuple[Sale, Ticket]:
    if ticket is None or ticket.account != command.account:
        raise Refused("reservation_unknown")
    _check_running(sale)
    match ticket.state:
        case TicketState.SOLD:
            raise Refused("ticket_exists", ticket=ticket.id, state=ticket.state.value)
        case TicketState.REFUNDED:
            raise Refused("reservation_unknown")
        case TicketState.EXPIRED:
            # Nor is a lower price kept for longer than its seat.
            if sale.free <= 0 or sale.state is not SaleState.OPEN or sale.price_now.units > ticket.price.units:
                raise Refused("reservation_expired")
            return replace(sale, sold=sale.sold + 1), replace(ticket, state=TicketState.SOLD)
        case TicketState.RESERVED:
            # Until somebody else was given it, the seat is the payer's, even a moment after its time.
            sold = replace(sale, reserved=sale.reserved - 1, sold=sale.sold + 1)
            return sold, replace(ticket, state=TicketState.SOLD)


def _reservation(ticket: Ticket | None, account: str | None) -> Ticket:
    if ticket is None or ticket.state is not TicketState.RESERVED or account not in (None, ticket.account):
        raise Refused("reservation_unknown")
    return ticket


def _release(sale: Sale, ticket: Ticket) -> tuple[Sale, Ticket]:
    return replace(sale, reserved=sale.reserved - 1), replace(ticket, state=TicketState.EXPIRED)


def _refund(sale: Sale, ticket: Ticket | None) -> tuple[Sale, Ticket]:
    if ticket is None or ticket.state is not TicketState.SOLD:
        raise Refused("ticket_unknown")
    if sale.earned:
        raise Refused("show_delivered")
    return replace(sale, sold=sale.sold - 1), replace(ticket, state=TicketState.REFUNDED)


def _change(sale: Sale, command: Change) -> Sale:
    _check_running(sale)
    if command.quantity is not None:
        _check_quantity(command.quantity)
        if command.quantity < sale.sold + sale.reserved:
            raise Refused("quantity_taken", f"{sale.sold + sale.reserved} seats are sold or reserved")
        sale = replace(sale, quantity=command.quantity)
    if command.price is not None:
        _check_price(command.price)
        sale = replace(sale, price=Amount(sale.price.asset, command.price))
    if command.late_price is not None:
        _check_price(command.late_price)
        sale = replace(sale, late_price=command.late_price)
    return sale


def _end(sale: Sale, delivered_s: int) -> Sale:
    _check_running(sale)
    earned = _is_earned(sale, delivered_s)
    return replace(sale, earned=earned, state=SaleState.DELIVERED if earned else SaleState.CANCELLED)


def _is_earned(sale: Sale, delivered_s: int) -> bool:
    return sale.earned or delivered_s >= sale.minimum_s


def _check_running(sale: Sale) -> None:
    if sale.state in (SaleState.DELIVERED, SaleState.CANCELLED):
        raise Refused("sale_closed")


def _check_selling(sale: Sale, now_ms: int) -> None:
    if sale.state is not SaleState.OPEN or (sale.closes_at is not None and now_ms >= sale.closes_at):
        raise Refused("sale_closed")
    if now_ms < sale.opens_at:
        raise Refused("sale_not_open", opens_at=sale.opens_at)


def _check_quantity(quantity: int) -> None:
    if not 1 <= quantity <= MAX_QUANTITY:
        raise Refused("invalid_quantity", f"a sale has 1 to {MAX_QUANTITY} seats")


def _check_price(units: int) -> None:
    if units < 1:
        raise Refused("invalid_price", "what costs nothing is given, not sold")


# -- what is due -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Show:
    """A stream as its sale sees it: whether it is on, for ticket holders alone just now, and how much of that was."""

    is_on: bool
    is_paid: bool
    delivered_s: int


def due(sale: Sale, show: Show, now_ms: int) -> Begin | Close | Earn | Settle | None:
    """Return what is due in a running sale by what became of its show, None for nothing."""
    if not show.is_on:
        return Settle(show.delivered_s)
    if show.is_paid and not sale.began:
        return Begin()
    if not sale.earned and show.delivered_s >= sale.minimum_s:
        return Earn(show.delivered_s)
    if sale.state is SaleState.OPEN and sale.closes_at is not None and now_ms >= sale.closes_at:
        return Close()
    return None
