"""Reads out of the box office: what holders, sellers, rooms and the clerk need to know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money.ticket_rows import SALE, TICKET, sale_of_row, ticket_of_row
from server.money.tickets import MAX_QUANTITY, Sale, Ticket, TicketState
from signalling.refusals import Refused

_FIND_SALE = Prepared(SALE + "id = :id")
_NEWEST_SALE = Prepared(SALE + "stream = :stream ORDER BY number DESC LIMIT 1")
_RUNNING = Prepared(SALE + "state IN ('open', 'closed') AND id > :after ORDER BY id LIMIT :limit")
_OWING = Prepared("SELECT id FROM sales WHERE state = 'cancelled' AND sold > 0 LIMIT :limit")
_FIND_TICKET = Prepared(TICKET + "id = :id")
_IN_STATE = Prepared(TICKET + "sale = :sale AND state = :state ORDER BY number LIMIT :limit")
_PAGE = Prepared(
    "SELECT t.id, t.sale, t.account, t.state, t.asset, t.price, t.until, t.number, a.name FROM tickets t"
    " LEFT JOIN accounts a ON a.id = t.account WHERE t.sale = :sale AND t.number > :after"
    " ORDER BY t.number LIMIT :limit"
)
_LIVE = Prepared(TICKET + "sale = :sale AND account = :account AND state IN ('reserved', 'sold')")
_ALL_LIVE = Prepared(
    "SELECT t.account, t.state FROM tickets t JOIN sales s ON s.id = t.sale"
    " WHERE s.stream = :stream AND s.state <> 'cancelled' AND t.state IN ('reserved', 'sold')"
)
_LIVE_OF = Prepared(
    "SELECT t.state FROM tickets t JOIN sales s ON s.id = t.sale"
    " WHERE s.stream = :stream AND s.state <> 'cancelled' AND t.account = :account AND t.state IN ('reserved', 'sold')"
)
_MINE = Prepared(
    "SELECT t.id, t.sale, t.account, t.state, t.asset, t.price, t.until, t.number, s.stream FROM tickets t"
    " JOIN sales s ON s.id = t.sale WHERE t.account = :account AND t.number < :before"
    " ORDER BY t.number DESC LIMIT :limit"
)
_COUNT_STATES = Prepared("SELECT state, price, count(*) FROM tickets WHERE sale = :sale GROUP BY state, price")
_COUNT_WAITING = Prepared("SELECT count(*) FROM ticket_queue WHERE sale = :sale")
_SHOWN = Prepared("SELECT ended, shown_ms, takeovers FROM streams WHERE id = :id")
# The streamer put the holder out or blocked him, or what he paid with was taken back. A holder who blocks the streamer
# loses the sight of the stream, but gets nothing back by that: else a show would be free up to its last minute but one.
_FORFEITED = Prepared(
    "SELECT t.id, t.sale, t.account, t.state, t.asset, t.price, t.until FROM tickets t JOIN sales s ON s.id = t.sale"
    " JOIN streams st ON st.id = s.stream"
    " WHERE t.state = 'sold' AND s.state IN ('open', 'closed') AND s.earned = 0 AND ("
    " EXISTS (SELECT 1 FROM blocks b WHERE b.blocker = s.seller AND b.blocked = t.account)"
    " OR replace(st.ejected, '\"' || t.account || '\"', '') <> st.ejected"
    " OR EXISTS (SELECT 1 FROM balances d WHERE d.owner = t.account AND d.asset = t.asset AND d.kind = 'debt'"
    " AND substr(d.units, 1, 1) = '-')) LIMIT :limit"
)
_LAPSED = Prepared(
    "SELECT count(*) FROM (SELECT account FROM tickets WHERE sale = :sale AND state = 'expired'"
    " ORDER BY number DESC LIMIT :limit) recent WHERE account = :account"
)
MAX_LAPSED = 5  # reservations of one account that come to nothing: whoever means it has bought by then
LAPSED_LOOKED_AT = 500  # of a sale, the latest: under the sale's lock there is no time for more
NEWEST = 2**62  # above every number


@dataclass(frozen=True, slots=True)
class Report:
    """A sale as its seller sees it; `taken` is what was paid for tickets that were not refunded, in minor units."""

    sale: Sale
    waiting: int
    expired: int
    refunded: int
    taken: int


@dataclass(frozen=True, slots=True)
class Numbered:
    """A ticket, its place among all tickets, its stream, and what its holder is called where that was asked for."""

    number: int
    ticket: Ticket
    stream: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the record of a stream says: whether it has ended, how much of it was for ticket holders, takeovers."""

    has_ended: bool
    shown_ms: int
    takeovers: int


def find_sale(connection: sa.Connection, sale_id: str) -> Sale:
    """Return a sale; raises Refused("sale_unknown")."""
    row = _FIND_SALE(connection, id=sale_id).fetchone()
    if row is None:
        raise Refused("sale_unknown")
    return sale_of_row(row)


def find_sales(connection: sa.Connection, sales: Iterable[str]) -> dict[str, Sale | None]:
    """Return each of some sales, None for one that is not there."""
    rows = {sale: _FIND_SALE(connection, id=sale).fetchone() for sale in sales}
    return {sale: None if row is None else sale_of_row(row) for sale, row in rows.items()}


def sale_of(connection: sa.Connection, stream: str) -> Sale | None:
    """Return a stream's newest sale."""
    row = _NEWEST_SALE(connection, stream=stream).fetchone()
    return None if row is None else sale_of_row(row)


def running_sales(connection: sa.Connection, after: str, limit: int) -> list[Sale]:
    """Return sales that have not come to an end, by id; more follow the last one's."""
    return [sale_of_row(row) for row in _RUNNING(connection, after=after, limit=limit)]


def owing_sales(connection: sa.Connection, limit: int) -> list[str]:
    """Return cancelled sales of which not all holders have their money back."""
    return [row[0] for row in _OWING(connection, limit=limit)]


def find_ticket(connection: sa.Connection, ticket: str) -> Ticket | None:
    """Return a ticket."""
    row = _FIND_TICKET(connection, id=ticket).fetchone()
    return None if row is None else ticket_of_row(row)


def forfeited_tickets(connection: sa.Connection, limit: int) -> list[Ticket]:
    """Return tickets that are to be paid back, since their holders may not use them any more through no will of theirs.

    That is until enough of the show was delivered; after that it is for people to decide.
    """
    return [ticket_of_row(row) for row in _FORFEITED(connection, limit=limit)]


def ticket_of(connection: sa.Connection, sale_id: str, account: str) -> Ticket | None:
    """Return what somebody has reserved or bought."""
    row = _LIVE(connection, sale=sale_id, account=account).fetchone()
    return None if row is None else ticket_of_row(row)


def require_earnest(connection: sa.Connection, sale_id: str, account: str) -> None:
    """Raise Refused("reserved_too_often") of somebody who keeps others from seats by letting reservations lapse."""
    lapsed = _LAPSED(connection, sale=sale_id, account=account, limit=LAPSED_LOOKED_AT).fetchone()
    if lapsed[0] >= MAX_LAPSED:
        raise Refused("reserved_too_often")


def in_state(connection: sa.Connection, sale_id: str, state: TicketState) -> list[str]:
    """Return who has tickets in a state: holders are SOLD, and RESERVED wait in the lobby while they pay."""
    return [row[2] for row in _IN_STATE(connection, sale=sale_id, state=state.value, limit=MAX_QUANTITY)]


def seats_of(connection: sa.Connection, stream: str) -> dict[str, TicketState]:
    """Return who has a seat in a stream, reserved or sold. What a cancelled sale sold, lets nobody in any more."""
    return _strongest(_ALL_LIVE(connection, stream=stream))


def seats_among(connection: sa.Connection, stream: str, accounts: Iterable[str]) -> dict[str, TicketState]:
    """Return who of some accounts has a seat in a stream."""
    rows = [(each, row[0]) for each in accounts for row in _LIVE_OF(connection, stream=stream, account=each)]
    return _strongest(rows)


def tickets_of(connection: sa.Connection, account: str, before: int, limit: int) -> list[Numbered]:
    """Return somebody's tickets, newest first, those numbered below `before`."""
    rows = _MINE(connection, account=account, before=before, limit=limit)
    return [Numbered(row[7], ticket_of_row(row[:7]), row[8]) for row in rows]


def tickets_sold(connection: sa.Connection, sale: Sale, after: int, limit: int) -> list[Numbered]:
    """Return a sale's tickets in any state, oldest first, those numbered above `after`."""
    rows = _PAGE(connection, sale=sale.id, after=after, limit=limit)
    return [Numbered(row[7], ticket_of_row(row[:7]), sale.stream, row[8] or "") for row in rows]


def report(connection: sa.Connection, sale_id: str) -> Report:
    """Return how a sale goes; raises Refused("sale_unknown")."""
    sale = find_sale(connection, sale_id)
    counts = dict.fromkeys(TicketState, 0)
    taken = 0
    for state, price, count in _COUNT_STATES(connection, sale=sale.id):
        counts[TicketState(state)] += count
        taken += int(price) * count if state == TicketState.SOLD else 0
    waiting = int(_COUNT_WAITING(connection, sale=sale.id).fetchone()[0])
    return Report(sale, waiting, counts[TicketState.EXPIRED], counts[TicketState.REFUNDED], taken)


def shown(connection: sa.Connection, stream: str) -> Shown:
    """Return what is written down of a stream that was shown; nothing of one that is not there."""
    row = _SHOWN(connection, id=stream).fetchone()
    return Shown(True, 0, 0) if row is None else Shown(row[0] is not None, int(row[1]), int(row[2]))


def _strongest(rows: Iterable[tuple[str, str]]) -> dict[str, TicketState]:
    """Return each account's seat; one who bought in one sale and reserves in another has bought."""
    seats: dict[str, TicketState] = {}
    for account, state in rows:
        if seats.get(account) is not TicketState.SOLD:
            seats[account] = TicketState(state)
    return seats
