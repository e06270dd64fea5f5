"""A rush for few seats, played from one seed: no clock but the simulation's own, real box office, real books.

A crowd wants tickets of one sale. In each turn of the simulated time somebody does something: buys, reserves, pays,
gives up, sends the same request again, has a ticket taken back; the seller changes price and seats; the clerk ends what
has run out; the clock is set forwards and back. What each was charged and paid back is noted beside the books, by what
they were told alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from server.money import box_office, ticket_reports
from server.money.amounts import Amount
from server.money.box_office import Purchase
from server.money.idempotency import Answered, Request, once, read_request_untrusted
from server.money.payments import Terms
from server.money.tickets import RESERVED_FOR_MS, Cancel, Change, Sale, Settle, Ticket, TicketState
from signalling.refusals import Refused
from tests.money.commands import deposit, do

SEATS = 100
FUNDS = 3000
START_MS = 10**6
STEP_MS = 10 * RESERVED_FOR_MS
TERMS = Terms(fee_bps=1000)
SALE = Sale("s1", "stream1", "streamer", Amount("USD", 500), SEATS, opens_at=0)
EXPECTED = {
    "sold_out",
    "ticket_exists",
    "price_changed",
    "reservation_expired",
    "reservation_unknown",
    "quantity_taken",
    "not_sold_out",
    "too_many_waiting",
    "insufficient_funds",
}


class Rush:
    """The crowd of one seed. `paid` and `back` are units by ticket, `outcomes` counts what was answered."""

    def __init__(self, seed: int, buyers: int) -> None:
        self._random = random.Random(seed)
        self.buyers = [f"buyer{number}" for number in range(buyers)]
        self.now_ms, self.price = START_MS, SALE.price.units
        self.paid: dict[str, int] = {}
        self.back: dict[str, int] = {}
        self.owner: dict[str, str] = {}
        self.outcomes: Counter[str] = Counter()
        self._reserved: list[Ticket] = []
        self._waiting: list[str] = []
        self._asked: list[tuple[Request, str, int, bytes]] = []

    def open(self, connection: sa.Connection) -> None:
        """Open the sale; every tenth buyer has too little to pay with."""
        box_office.open_sale(connection, SALE, 0)
        for number, buyer in enumerate(self.buyers):
            do(connection, deposit(buyer, FUNDS if number % 10 else 100))

    def play(self, connection: sa.Connection, buyers: list[str]) -> None:
        """Let each of some buyers come once, one after the other, and others do something in between."""
        for buyer in buyers:
            self.now_ms += self._random.randint(1, 2 * RESERVED_FOR_MS // 100)
            if self._random.random() < 0.02:
                self.now_ms = max(START_MS, self.now_ms + self._random.randint(-STEP_MS, STEP_MS))
            arrive = self._buy if self._random.random() < 0.3 else self._reserve
            self._attempt(connection, arrive, buyer)
            for chance, act in (
                (0.05, self._pay),
                (0.02, self._wait),
                (0.02, self._take_offer),
                (0.03, self._give_up),
                (0.1, self._send_again),
                (0.01, self._refund),
                (0.02, self._change_price),
                (0.02, self._change_quantity),
                (0.05, self._run_out),
            ):
                if self._random.random() < chance:
                    self._attempt(connection, act, buyer)
            sale = ticket_reports.find_sale(connection, SALE.id)
            assert 0 <= sale.sold + sale.reserved <= sale.quantity <= SEATS

    def end(self, connection: sa.Connection, *, delivered: bool) -> None:
        """Deliver the show, or cancel it and pay all back."""
        command = Settle(SALE.minimum_s) if delivered else Cancel()
        box_office.earn(connection, SALE.id, command, TERMS, self.now_ms)
        while not delivered and (refunded := box_office.refund_some(connection, SALE.id, self.now_ms, 10)):
            for ticket in refunded:
                self._note_refund(ticket)

    # -- what people do ------------------------------------------------------------------------------------------------

    def _attempt(self, connection: sa.Connection, act: Callable[[sa.Connection, str], None], buyer: str) -> None:
        # What a store's write does: who is refused leaves nothing behind.
        savepoint = connection.begin_nested()
        try:
            act(connection, buyer)
        except Refused as refused:
            savepoint.rollback()
            self.outcomes[refused.code] += 1
        else:
            savepoint.commit()
            self.outcomes[act.__name__.removeprefix("_")] += 1

    def _buy(self, connection: sa.Connection, buyer: str) -> None:
        seen = self._random.choice([self.price, self.price, 400])
        request = read_request_untrusted(buyer, "buy", "once", str(seen).encode())
        answer = self._once(connection, request, buyer, seen)
        self._asked.append((request, buyer, seen, answer.body))

    def _once(self, connection: sa.Connection, request: Request, buyer: str, seen: int) -> Answered:
        def sell(connection: sa.Connection) -> Answered:
            name = f"t{self._random.getrandbits(64):x}"
            ticket = box_office.buy(connection, Purchase(SALE.id, name, buyer, Amount("USD", seen)), self.now_ms)
            self._note_payment(ticket)
            return Answered(201, msgspec.json.encode(ticket.id))

        return once(connection, request, self.now_ms, sell)

    def _send_again(self, connection: sa.Connection, _: str) -> None:
        if self._asked:
            request, buyer, seen, body = self._random.choice(self._asked)
            again = self._once(connection, request, buyer, seen)
            assert again.replayed
            assert again.body == body

    def _reserve(self, connection: sa.Connection, buyer: str) -> None:
        name = f"t{self._random.getrandbits(64):x}"
        wish = Purchase(SALE.id, name, buyer, Amount("USD", self.price))
        self._reserved.append(box_office.reserve(connection, wish, self.now_ms))

    def _wait(self, connection: sa.Connection, buyer: str) -> None:
        box_office.wait(connection, SALE.id, buyer, self.now_ms)
        self._waiting.append(buyer)

    def _take_offer(self, connection: sa.Connection, _: str) -> None:
        for buyer in self._waiting[:20]:
            offered = ticket_reports.ticket_of(connection, SALE.id, buyer)
            if offered is not None and offered.state is TicketState.RESERVED:
                self._note_payment(box_office.pay_for(connection, offered.id, buyer, self.now_ms))
                self._waiting.remove(buyer)
                break

    def _pay(self, connection: sa.Connection, _: str) -> None:
        if self._reserved:
            ticket = self._random.choice(self._reserved[-20:])
            self._note_payment(box_office.pay_for(connection, ticket.id, ticket.account, self.now_ms))

    def _give_up(self, connection: sa.Connection, _: str) -> None:
        if self._reserved:
            ticket = self._random.choice(self._reserved[-20:])
            box_office.give_up(connection, ticket.id, ticket.account, self.now_ms)

    def _run_out(self, connection: sa.Connection, _: str) -> None:
        box_office.run_out(connection, self.now_ms, 10)

    def _refund(self, connection: sa.Connection, _: str) -> None:
        held = [ticket for ticket in self.paid if ticket not in self.back]
        if held:
            self._note_refund(box_office.refund(connection, self._random.choice(held), self.now_ms))

    def _change_price(self, connection: sa.Connection, _: str) -> None:
        price = self._random.randint(300, 900)
        box_office.change(connection, SALE.id, Change(price=price), self.now_ms)
        self.price = price

    def _change_quantity(self, connection: sa.Connection, _: str) -> None:
        box_office.change(connection, SALE.id, Change(quantity=SEATS + self._random.randint(-10, 0)), self.now_ms)

    # -- what they were told -------------------------------------------------------------------------------------------

    def _note_payment(self, ticket: Ticket) -> None:
        assert ticket.id not in self.paid
        self.paid[ticket.id], self.owner[ticket.id] = ticket.price.units, ticket.account

    def _note_refund(self, ticket: Ticket) -> None:
        assert ticket.id not in self.back
        self.back[ticket.id] = ticket.price.units
