"""Tickets: never more than seats, never one too many for an account, and every charge has its seat."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from server.money import tickets as t
from server.money.amounts import Amount
from server.money.tickets import RESERVED_FOR_MS, Sale, SaleState, Ticket, TicketState
from signalling.refusals import Refused

PRICE = Amount("USD", 500)
SALE = Sale("s1", "stream1", "streamer", PRICE, quantity=2, opens_at=0, closes_at=10**9)


def reserved(sale: Sale = SALE, account: str = "ann", now_ms: int = 0) -> tuple[Sale, Ticket]:
    sale, ticket = t.step(sale, None, t.Reserve(f"t-{account}", account, PRICE), now_ms)
    assert ticket is not None
    return sale, ticket


def refuses(code: str, sale: Sale, ticket: Ticket | None, command: t.Command, now_ms: int = 0) -> Refused:
    with pytest.raises(Refused) as refused:
        t.step(sale, ticket, command, now_ms)
    assert refused.value.code == code
    return refused.value


def test_a_seat_is_reserved_then_sold() -> None:
    sale, ticket = reserved()
    assert (sale.free, sale.reserved, ticket.until) == (1, 1, RESERVED_FOR_MS)
    sale, sold = t.step(sale, ticket, t.Pay("ann"), 1)
    assert (sale.free, sale.reserved, sale.sold) == (1, 0, 1)
    assert sold is not None
    assert sold.state is TicketState.SOLD


def test_a_reservation_runs_out_not_before_its_time_and_its_seat_is_free() -> None:
    sale, ticket = reserved()
    refuses("reservation_not_due", sale, ticket, t.RunOut(), RESERVED_FOR_MS - 1)
    sale, ended = t.step(sale, ticket, t.RunOut(), RESERVED_FOR_MS)
    assert (sale.free, ended and ended.state) == (2, TicketState.EXPIRED)


def test_who_pays_too_late_is_seated_again_while_there_is_a_seat() -> None:
    sale, ticket = reserved()
    sale, ended = t.step(sale, ticket, t.RunOut(), RESERVED_FOR_MS)
    again, sold = t.step(sale, ended, t.Pay("ann"), RESERVED_FOR_MS + 1)
    assert (again.sold, sold and sold.state) == (1, TicketState.SOLD)
    for other in ("bob", "cem"):
        sale, _ = reserved(sale, other)
    refuses("reservation_expired", sale, ended, t.Pay("ann"))


def test_a_lower_price_is_kept_no_longer_than_its_seat() -> None:
    sale, ticket = reserved()
    dearer, _ = t.step(sale, None, t.Change(price=501), 0)
    assert t.step(dearer, ticket, t.Pay("ann"), 0)[1] is not None
    dearer, ended = t.step(dearer, ticket, t.RunOut(), RESERVED_FOR_MS)
    refuses("reservation_expired", dearer, ended, t.Pay("ann"))
    begun, given_up = t.step(replace(sale, late_price=800, began=True), ticket, t.GiveUp("ann"), 0)
    refuses("reservation_expired", begun, given_up, t.Pay("ann"))


def test_a_price_that_rose_since_it_was_seen_is_not_taken_and_a_reservation_keeps_its_own() -> None:
    sale, ticket = reserved()
    dearer, _ = t.step(sale, None, t.Change(price=501), 0)
    refused = refuses("price_changed", dearer, None, t.Reserve("t2", "bob", PRICE))
    assert refused.extra == {"price": {"asset": "USD", "units": "501"}}
    refuses("price_changed", sale, None, t.Reserve("t2", "bob", Amount("EUR", 10**6)))
    assert ticket.price == PRICE
    cheaper, _ = t.step(sale, None, t.Change(price=400), 0)
    _, cheap = reserved(cheaper, "bob")
    assert cheap.price == Amount("USD", 400)


def test_the_late_price_holds_once_the_show_has_begun() -> None:
    sale = replace(SALE, late_price=800)
    assert sale.price_now == PRICE
    begun, _ = t.step(sale, None, t.Begin(), 0)
    assert begun.price_now == Amount("USD", 800)
    assert t.step(SALE, None, t.Begin(), 0)[0].price_now == PRICE


def test_what_can_t_be_sold_is_refused() -> None:
    sale, ticket = reserved()
    refuses("own_ticket", sale, None, t.Reserve("t2", "streamer", PRICE))
    refuses("ticket_exists", sale, ticket, t.Reserve("t2", "ann", PRICE))
    refuses("sale_not_open", replace(sale, opens_at=5), None, t.Reserve("t2", "bob", PRICE), 4)
    refuses("sale_closed", replace(sale, closes_at=5), None, t.Reserve("t2", "bob", PRICE), 5)
    refuses("sale_closed", t.step(sale, None, t.Close(), 0)[0], None, t.Reserve("t2", "bob", PRICE))
    refuses("sold_out", replace(sale, sold=1), None, t.Reserve("t2", "bob", PRICE))
    refuses("reservation_unknown", sale, ticket, t.Pay("bob"))
    refuses("reservation_unknown", sale, None, t.Pay("ann"))
    refuses("reservation_unknown", sale, ticket, t.GiveUp("bob"))


def test_a_reservation_may_be_paid_after_the_sale_has_closed() -> None:
    sale, ticket = reserved()
    closed, _ = t.step(sale, None, t.Close(), 0)
    assert t.step(closed, ticket, t.Pay("ann"), 1)[0].sold == 1


def test_there_are_never_fewer_seats_than_are_taken() -> None:
    sale, _ = reserved(replace(SALE, sold=1))
    refuses("quantity_taken", sale, None, t.Change(quantity=1))
    assert t.step(sale, None, t.Change(quantity=2), 0)[0].free == 0


def test_a_show_pays_its_seller_only_when_enough_was_delivered() -> None:
    assert t.step(SALE, None, t.Settle(300), 0)[0].state is SaleState.DELIVERED
    assert t.step(SALE, None, t.Settle(299), 0)[0].state is SaleState.CANCELLED
    over = replace(SALE, state=SaleState.DELIVERED)
    for command in (t.Settle(300), t.Cancel(), t.Begin(), t.Close(), t.Change(quantity=5)):
        refuses("sale_closed", over, None, command)


def test_nothing_is_refunded_after_the_show_was_delivered() -> None:
    sale, ticket = reserved()
    sale, sold = t.step(sale, ticket, t.Pay("ann"), 0)
    refuses("show_delivered", replace(sale, earned=True), sold, t.Refund())
    back, refunded = t.step(replace(sale, state=SaleState.CANCELLED), sold, t.Refund(), 0)
    assert (back.sold, refunded and refunded.state) == (0, TicketState.REFUNDED)
    refuses("ticket_unknown", back, refunded, t.Refund())
    refuses("reservation_unknown", sale, refunded, t.Pay("ann"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"quantity": 0}, "invalid_quantity"),
        ({"quantity": 100_001}, "invalid_quantity"),
        ({"price": Amount("USD", 0)}, "invalid_price"),
        ({"late_price": 0}, "invalid_price"),
        ({"closes_at": 0}, "invalid_sale"),
        ({"minimum_s": -1}, "invalid_sale"),
    ],
)
def test_a_sale_that_makes_no_sense_is_not_opened(change: dict[str, object], code: str) -> None:
    with pytest.raises(Refused, match=code):
        t.open_sale(replace(SALE, **change), 0)  # type: ignore[arg-type]


@given(
    st.builds(t.Show, st.booleans(), st.booleans(), st.integers(0, 1000)),
    st.integers(1, 1000),
    st.one_of(st.none(), st.integers(1, 10)),
    st.integers(0, 20),
)
def test_what_is_due_is_done_in_a_few_steps_and_comes_to_what_was_delivered(
    show: t.Show, minimum_s: int, closes_at: int | None, now_ms: int
) -> None:
    sale = replace(SALE, minimum_s=minimum_s, closes_at=closes_at)
    steps = 0
    while (command := t.due(sale, show, now_ms)) is not None and sale.state in (SaleState.OPEN, SaleState.CLOSED):
        sale, _ = t.step(sale, None, command, now_ms)
        steps += 1
        assert steps <= 3
    delivered = show.delivered_s >= minimum_s
    assert sale.earned is delivered
    if not show.is_on:
        assert sale.state is (SaleState.DELIVERED if delivered else SaleState.CANCELLED)
    else:
        assert sale.began is show.is_paid
        assert (sale.state is SaleState.CLOSED) is (closes_at is not None and now_ms >= closes_at)


class AnyOrder(RuleBasedStateMachine):
    """Sells seats in any order; counts and tickets always agree."""

    def __init__(self) -> None:
        super().__init__()
        self.sale = replace(SALE, quantity=3)
        self.tickets: dict[str, Ticket] = {}
        self.now = 0
        self.earned_with: int | None = None  # as many were refunded by then

    def attempt(self, account: str, command: t.Command) -> None:
        with contextlib.suppress(Refused):
            self.sale, ticket = t.step(self.sale, self.tickets.get(account), command, self.now)
            if ticket is not None:
                self.tickets[account] = ticket

    @rule(
        account=st.sampled_from("abcdef"),
        kind=st.sampled_from(["reserve", "pay", "give up", "run out", "refund"]),
        later=st.integers(0, RESERVED_FOR_MS),
    )
    def buyers_act(self, account: str, kind: str, later: int) -> None:
        self.now += later
        commands: dict[str, t.Command] = {
            "reserve": t.Reserve("t", account, PRICE),
            "pay": t.Pay(account),
            "give up": t.GiveUp(account),
            "run out": t.RunOut(),
            "refund": t.Refund(),
        }
        self.attempt(account, commands[kind])

    @rule(quantity=st.integers(0, 6))
    def seller_changes(self, quantity: int) -> None:
        with contextlib.suppress(Refused):
            self.sale, _ = t.step(self.sale, None, t.Change(quantity=quantity), self.now)

    @rule(
        command=st.one_of(
            st.builds(t.Begin), st.builds(t.Close), st.builds(t.Cancel), st.builds(t.Earn, st.integers(0, 600))
        )
    )
    def the_show_goes_on(self, command: t.Command) -> None:
        with contextlib.suppress(Refused):
            self.sale, _ = t.step(self.sale, None, command, self.now)

    @invariant()
    def what_is_earned_stays_earned_and_paid_for(self) -> None:
        refunded = sum(ticket.state is TicketState.REFUNDED for ticket in self.tickets.values())
        if self.earned_with is not None:
            assert self.sale.earned
            assert self.sale.state is not SaleState.CANCELLED
            assert refunded <= self.earned_with
        elif self.sale.earned:
            self.earned_with = refunded

    @invariant()
    def seats_and_tickets_agree(self) -> None:
        states = [ticket.state for ticket in self.tickets.values()]
        assert self.sale.reserved == states.count(TicketState.RESERVED)
        assert self.sale.sold == states.count(TicketState.SOLD)
        assert self.sale.free >= 0


TestAnyOrder = AnyOrder.TestCase
