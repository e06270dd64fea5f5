"""The ledger: whatever is done in whatever order, nothing is lost, made or resolved twice."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.money.ledger import (
    OVERDRAWN,
    PLATFORM,
    Account,
    Command,
    Expire,
    Hold,
    Kind,
    Leg,
    Move,
    Phase,
    Post,
    Reverse,
    Transfer,
    View,
    Void,
    about,
    changes,
    held,
    step,
    touched,
)
from server.money.payments import Terms, pay, wallet
from signalling.refusals import Refused
from tests.money.commands import deposit, give, quote


@dataclass
class Books:
    """The books in memory: exactly what the store keeps."""

    balances: Counter[Account] = field(default_factory=Counter)
    transfers: dict[str, Transfer] = field(default_factory=dict)

    def do(self, command: Command, now_ms: int = 0) -> Transfer:
        past = self.transfers.get(about(command) or "")
        settled = any(past is not None and other.of == past.id for other in self.transfers.values())
        known = {account: self.balances[account] for account in touched(command, past)}
        transfer = step(View(known, past, settled), command, now_ms)
        if transfer.id in self.transfers:
            raise Refused("transfer_exists")
        self.transfers[transfer.id] = transfer
        for account, units in changes(transfer.legs).items():
            assert account in known, "touched() names every account that changes"
            self.balances[account] += units
        return transfer

    def refuses(self, command: Command, code: str, now_ms: int = 0) -> None:
        before = dict(self.balances), dict(self.transfers)
        with pytest.raises(Refused) as refused:
            self.do(command, now_ms)
        assert refused.value.code == code
        assert before == (dict(self.balances), self.transfers)

    def has(self, owner: str, asset: str = "USD", kind: Kind = Kind.WALLET) -> int:
        return self.balances[Account(owner, kind, asset)]


@pytest.fixture
def books() -> Books:
    books = Books()
    books.do(deposit("ann", 1000))
    return books


def to(taker: str, units: int, giver: str = "ann") -> tuple[Leg, ...]:
    return (Leg(held(wallet(giver, "USD")), wallet(taker, "USD"), units),)


def hold(units: int, identifier: str = "h", expires_at: int | None = 100) -> Hold:
    return Hold(identifier, "one_to_one", wallet("ann", "USD"), units, expires_at)


def test_a_hold_is_out_of_the_wallet_until_it_is_resolved(books: Books) -> None:
    books.do(hold(700))
    assert (books.has("ann"), books.has("ann", kind=Kind.HELD)) == (300, 700)
    books.refuses(give("ann", "bob", 301, "g"), "insufficient_funds")
    books.do(Post("h", to("bob", 700)))
    assert (books.has("ann"), books.has("ann", kind=Kind.HELD), books.has("bob")) == (300, 0, 700)


def test_what_a_partial_posting_leaves_goes_back(books: Books) -> None:
    books.do(hold(700))
    books.do(Post("h", to("bob", 250)))
    assert (books.has("ann"), books.has("ann", kind=Kind.HELD), books.has("bob")) == (750, 0, 250)


@pytest.mark.parametrize("first", [Post("h", to("bob", 5)), Void("h"), Expire("h")], ids=lambda c: type(c).__name__)
def test_a_hold_is_resolved_once(books: Books, first: Command) -> None:
    books.do(hold(700))
    books.do(first, 100 if isinstance(first, Expire) else 99)
    for again in (Post("h", to("bob", 5)), Void("h"), Expire("h")):
        books.refuses(again, "hold_resolved", 100)


def test_a_hold_expires_neither_before_its_time_nor_is_paid_after_it(books: Books) -> None:
    books.do(hold(700))
    books.refuses(Expire("h"), "hold_not_due", 99)
    books.refuses(Post("h", to("bob", 5)), "hold_expired", 100)
    books.do(Expire("h"), 100)
    assert books.has("ann") == 1000
    books.do(hold(700, "for good", None))
    books.refuses(Expire("for good"), "hold_not_due", 10**15)


def test_more_than_was_held_is_not_taken_from_others_holds(books: Books) -> None:
    books.do(hold(100, "h"))
    books.do(hold(100, "other"))
    books.refuses(Post("h", to("bob", 101)), "exceeds_hold")


def test_what_is_unknown_is_refused(books: Books) -> None:
    books.refuses(Void("nothing"), "hold_unknown")
    books.refuses(Void("deposit:ann:USD"), "hold_unknown")  # a transfer, but no hold
    books.refuses(Reverse("nothing"), "transfer_unknown")
    books.do(hold(1))
    books.refuses(Reverse("h"), "not_reversible")
    books.do(Void("h"))
    books.refuses(Reverse("h.voided"), "not_reversible")


def test_linked_legs_happen_all_or_none(books: Books) -> None:
    legs = (
        Leg(wallet("ann", "USD"), wallet("bob", "USD"), 10),
        Leg(wallet("ann", "MESI"), wallet("bob", "MESI"), 10),
    )
    books.refuses(Move("m", "swap", legs), "insufficient_funds")
    assert books.has("bob") == 0


def test_a_fee_stays_with_the_platform_in_the_asset_that_was_paid(books: Books) -> None:
    books.do(Move("t", "tip", pay(wallet("ann", "USD"), "bob", 105, Terms(1000))))
    assert (books.has("ann"), books.has("bob"), books.has(PLATFORM, kind=Kind.FEE)) == (895, 95, 10)


def test_a_conversion_passes_through_liquidity_and_keeps_its_quote(books: Books) -> None:
    rate = quote(7, 3)
    books.do(Move("t", "tip", pay(wallet("ann", "USD"), "bob", 100, Terms(1000, rate)), rate))
    assert books.has("bob", "MESI") == 90 * 7 // 3
    assert books.has(PLATFORM, "USD", Kind.LIQUIDITY) == 90
    assert books.has(PLATFORM, "MESI", Kind.LIQUIDITY) == -210
    assert books.transfers["t"].quote == rate


def test_a_quote_that_ran_out_is_refused(books: Books) -> None:
    rate = quote(7, 3, expires_at=50)
    legs = pay(wallet("ann", "USD"), "bob", 100, Terms(1000, rate))
    books.refuses(Move("t", "tip", legs, rate), "quote_expired", 50)
    books.do(hold(500))
    paid = Post("h", pay(held(wallet("ann", "USD")), "bob", 100, Terms(1000, rate)), rate)
    books.refuses(paid, "quote_expired", 50)
    books.do(paid, 49)


def test_a_tip_that_would_arrive_as_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="amount_too_small"):
        pay(wallet("ann", "USD"), "bob", 1, Terms(1000, quote(1, 2)))
    with pytest.raises(Refused, match="amount_too_small"):
        pay(wallet("ann", "USD"), "bob", 1, Terms(9999))


@given(st.integers(1, 10**30), st.integers(1, 10**12), st.integers(1, 10**12), st.integers(0, 9999))
def test_a_conversion_is_rounded_by_less_than_a_unit_and_for_liquidity(
    units: int, numerator: int, denominator: int, fee_bps: int
) -> None:
    rate = quote(numerator, denominator)
    try:
        legs = pay(wallet("ann", "USD"), "bob", units, Terms(fee_bps, rate))
    except Refused:
        return
    totals = changes(legs)
    taken = totals[Account(PLATFORM, Kind.LIQUIDITY, "USD")]
    given_out = totals[wallet("bob", "MESI")]
    assert 0 <= taken * numerator - given_out * denominator < denominator
    assert totals[wallet("ann", "USD")] == -units


def test_a_reversal_returns_what_was_paid_and_takes_back_what_arrived(books: Books) -> None:
    rate = quote(7, 3)
    books.do(Move("t", "tip", pay(wallet("ann", "USD"), "bob", 100, Terms(1000, rate)), rate))
    books.do(Reverse("t"))
    assert books.has("ann") == 1000
    assert {units for account, units in books.balances.items() if account.owner in ("bob", PLATFORM)} == {0}
    books.refuses(Reverse("t"), "already_reversed")


def test_who_spent_what_is_taken_back_owes_it(books: Books) -> None:
    books.do(give("ann", "bob", 100, "t"))
    books.do(give("bob", "cem", 70, "u"))
    books.do(Reverse("t"))
    assert (books.has("ann"), books.has("bob"), books.has("bob", kind=Kind.DEBT)) == (1000, 0, -70)
    assert books.has("cem") == 70


def test_reversing_a_posted_hold_renews_no_promise(books: Books) -> None:
    books.do(hold(700))
    books.do(Post("h", to("bob", 250)))
    books.do(Reverse("h.posted"))
    assert (books.has("ann"), books.has("ann", kind=Kind.HELD), books.has("bob")) == (1000, 0, 0)


PEOPLE = st.sampled_from(["ann", "bob", "cem"])
ASSETS = st.sampled_from(["USD", "MESI"])
UNITS = st.integers(1, 200)
SHARES = st.lists(st.tuples(PEOPLE, UNITS), min_size=1, max_size=3)


class AnyOrder(RuleBasedStateMachine):
    """Does anything at any time; what must always hold is checked after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.now = 0
        self.names = 0

    def attempt(self, command: Command) -> None:
        with contextlib.suppress(Refused):
            self.books.do(command, self.now)

    def name(self) -> str:
        self.names += 1
        return f"t{self.names}"

    def any_transfer(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from([*self.books.transfers, "unknown"]))

    @rule(owner=PEOPLE, asset=ASSETS, units=UNITS)
    def deposits(self, owner: str, asset: str, units: int) -> None:
        self.attempt(deposit(owner, units, asset, self.name()))

    @rule(giver=PEOPLE, taker=PEOPLE, units=UNITS, fee=st.integers(0, 5000), converted=st.booleans())
    def pays(self, giver: str, taker: str, units: int, fee: int, converted: bool) -> None:
        terms = Terms(fee, quote(7, 3) if converted else None)
        if giver == taker and not converted:
            return
        try:
            legs = pay(wallet(giver, "USD"), taker, units, terms)
        except Refused:
            return
        self.attempt(Move(self.name(), "tip", legs, terms.quote))

    @rule(owner=PEOPLE, asset=ASSETS, units=UNITS, lasts=st.one_of(st.none(), st.integers(0, 30)))
    def holds(self, owner: str, asset: str, units: int, lasts: int | None) -> None:
        expires_at = None if lasts is None else self.now + lasts
        self.attempt(Hold(self.name(), "promise", wallet(owner, asset), units, expires_at))

    @rule(shares=SHARES, data=st.data())
    def posts(self, shares: list[tuple[str, int]], data: st.DataObject) -> None:
        name = self.any_transfer(data)
        found = self.books.transfers.get(name)
        source = found.legs[0].target if found and found.phase is Phase.HOLD else held(wallet("ann", "USD"))
        self.attempt(Post(name, tuple(Leg(source, wallet(taker, source.asset), units) for taker, units in shares)))

    @rule(data=st.data())
    def voids(self, data: st.DataObject) -> None:
        self.attempt(Void(self.any_transfer(data)))

    @rule(data=st.data())
    def expires(self, data: st.DataObject) -> None:
        self.attempt(Expire(self.any_transfer(data)))

    @rule(data=st.data())
    def reverses(self, data: st.DataObject) -> None:
        self.attempt(Reverse(self.any_transfer(data)))

    @rule(later=st.integers(0, 20))
    def time_passes(self, later: int) -> None:
        self.now += later

    @invariant()
    def everything_adds_up_to_nothing(self) -> None:
        for asset in ("USD", "MESI"):
            assert sum(units for account, units in self.books.balances.items() if account.asset == asset) == 0

    @invariant()
    def nothing_is_below_its_floor(self) -> None:
        assert all(units >= 0 for account, units in self.books.balances.items() if account.kind not in OVERDRAWN)

    @invariant()
    def what_is_held_is_what_was_promised_and_not_resolved(self) -> None:
        resolved = [transfer.of for transfer in self.books.transfers.values() if transfer.of]
        assert len(resolved) == len(set(resolved))
        promised: Counter[Account] = Counter()
        for transfer in self.books.transfers.values():
            if transfer.phase is Phase.HOLD and transfer.id not in resolved:
                promised[transfer.legs[0].target] += transfer.legs[0].units
        holding = {a: units for a, units in self.books.balances.items() if a.kind is Kind.HELD and units}
        assert holding == dict(promised)

    @invariant()
    def replaying_the_log_gives_the_balances(self) -> None:
        replayed: Counter[Account] = Counter()
        for transfer in self.books.transfers.values():
            for leg in transfer.legs:
                replayed[leg.source] -= leg.units
                replayed[leg.target] += leg.units
        assert {a: u for a, u in replayed.items() if u} == {a: u for a, u in self.books.balances.items() if u}


TestAnyOrder = AnyOrder.TestCase
