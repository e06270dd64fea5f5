"""Two people, what they pay each other, and reviewers: over one connection, without a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from msgspec.structs import replace

from server.access import relations
from server.bids import rows as bids
from server.bids import rules
from server.bids.rows import Wish
from server.migrations import upgrade
from server.money import appointments, audit, books, box_office, tips
from server.money.amounts import Amount, WireAmount
from server.money.appointments import Asking
from server.money.assets import Assets
from server.money.box_office import Purchase
from server.money.ledger import Account, Kind
from server.money.one_to_one_terms import Choice, Offer
from server.money.one_to_ones import Close, Deliver, OneToOne, Reach
from server.money.one_to_ones import State as Call
from server.money.payments import Terms as PaymentTerms
from server.money.quotes import DEFAULT_RATES, FixedRates, make_quote
from server.money.tickets import Cancel, Earn, Sale, SaleState
from server.money.tips import Gift, House
from server.review import cases, deciding, filing, obligations, stakes
from server.review.cases import Outcome
from server.review.deciding import Moved, Terms
from server.review.filing import OfAccount, Report
from server.review.obligations import Settled, Underway
from server.review.rows import Filed
from server.review.stakes import Stake
from server.talk import opening, posting
from server.talk.posting import Draft
from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId
from signalling.messenger.quotas import Quotas
from signalling.wire.views import Person
from tests.money.commands import deposit, do
from tests.money.test_tips import open_accounts

FEE_BPS = 1000
FUNDS = 1_000_000
PRICE = 3000
APPEAL_MS = 86_400_000
DELIVERED_S = 60
ASSETS = Assets()
RATES = FixedRates(DEFAULT_RATES, ASSETS)
HOUSE = House(ASSETS, RATES, FEE_BPS, ripe_after_ms=0, large_ripe_after_ms=0)
BOB, ANN = AccountId("bob"), AccountId("ann")
TALK = ConversationId("c_two")


def find_terms(asset: str, fee_bps: int, now_ms: int) -> PaymentTerms:
    target = ASSETS.find(asset).settles_in
    if target == asset:
        return PaymentTerms(fee_bps)
    return PaymentTerms(fee_bps, make_quote(f"q.{asset}.{now_ms}", RATES.rate(asset, target, now_ms), now_ms))


TERMS = Terms(find_terms, {asset.code: 10**40 for asset in ASSETS})


def template() -> sa.Engine:
    """Return an empty database of the newest schema, with Ann, Bob, three reviewers, and money in Bob's wallet."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    with engine.begin() as connection:
        upgrade(connection)
        open_accounts(connection, "ann", "bob", "mod1", "mod2", "mod3")
        connection.exec_driver_sql(
            "INSERT INTO streams (id, number, owner, owner_name, title, description, kind, mode, epoch, tickets,"
            " entitled, ejected, started_at, shown_ms, takeovers, best_picture) VALUES ('s1', 1, 'ann', 'ann', 'A', '',"
            " 'video', 'public', 1, '[]', '[]', '[]', 0, 0, 0, 'everyone')"
        )
        do(connection, deposit("bob", FUNDS))
        opening.open_direct(connection, TALK, BOB, "ann", 0)
        appointments.put_offer(connection, "s1", Offer((Choice(300, WireAmount("USD", str(PRICE))),), cooldown_s=0), 0)
    return engine


@contextmanager
def copied(source: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection to a copy of a database."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    try:
        with source.connect() as there, engine.connect() as here:
            there.connection.driver_connection.backup(here.connection.driver_connection)  # type: ignore[union-attr]
            here.connection.driver_connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[union-attr]
            yield here
    finally:
        engine.dispose()


@dataclass
class World:
    """What happens between Ann, who streams, and Bob, who pays; the time goes on by a second with each thing."""

    connection: sa.Connection
    now_ms: int = 10_000
    number: int = 0
    calls: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    sales: list[str] = field(default_factory=list)
    filed: list[str] = field(default_factory=list)
    bids: list[str] = field(default_factory=list)

    def tick(self) -> int:
        self.now_ms += 1000
        self.number += 1
        return self.now_ms

    # -- what is paid for ----------------------------------------------------------------------------------------------

    def ask(self) -> OneToOne:
        now = self.tick()
        asking = Asking(
            f"r{self.number}", "s1", "ann", "bob", 300, Amount("USD", PRICE), None, FEE_BPS, meets_conditions=False
        )
        one = appointments.ask(self.connection, asking, now)
        self.calls.append(one.id)
        return one

    def reach(self, state: Call) -> None:
        appointments.move(self.connection, self.calls[-1], Reach(state), self.tick())

    def deliver(self, delivered_ms: int) -> None:
        appointments.move(self.connection, self.calls[-1], Deliver(delivered_ms), self.tick())

    def hang_up(self, delivered_ms: int | None = None) -> None:
        appointments.move(self.connection, self.calls[-1], Close("ended_by_guest", delivered_ms), self.tick())

    def call(self) -> OneToOne:
        found = appointments.find(self.connection, self.calls[-1])
        assert found is not None
        return found

    def tip(self, units: int) -> None:
        now = self.tick()
        gift = Gift(f"tip.{self.number}", Person(BOB, "bob"), "ann", Amount("USD", units), "web", is_fresh=True)
        tips.give(self.connection, gift, HOUSE, now)
        self.given.append(gift.id)

    def bid(self, units: int) -> None:
        now = self.tick()
        wish = Wish(f"b{self.number}", Person(BOB, "bob"), TALK, Amount("USD", units), "web", "may I?")
        bids.ask(self.connection, wish, ASSETS, FEE_BPS, now)
        self.bids.append(wish.id)

    def answer(self, command: rules.Command) -> None:
        who = "ann" if isinstance(command, rules.Accept | rules.Decline) else "bob"
        bids.move(self.connection, self.bids[-1], who, command, self.tick())

    def write(self) -> None:
        now = self.tick()
        draft = Draft(TALK, ANN, "hello", f"m{self.number}", now, Quotas())
        for posted in posting.post_each(self.connection, [draft]):
            if isinstance(posted, Exception):
                raise posted

    def wait(self) -> None:
        self.now_ms += rules.CHAT_MS
        bids.run_out(self.connection, self.tick(), 100)

    def open_sale(self) -> Sale:
        now = self.tick()
        sale = Sale(f"sale{self.number}", "s1", "ann", Amount("USD", PRICE), 10, now, minimum_s=DELIVERED_S)
        self.sales.append(sale.id)
        return box_office.open_sale(self.connection, sale, now)

    def buy(self) -> str:
        now = self.tick()
        wish = Purchase(self.sales[-1], f"t{self.number}", "bob", Amount("USD", PRICE))
        return box_office.buy(self.connection, wish, now).id

    def earn(self, delivered_s: int = DELIVERED_S) -> None:
        now = self.tick()
        terms = find_terms("USD", FEE_BPS, now)
        box_office.earn(self.connection, self.sales[-1], Earn(delivered_s), terms, now)

    def cancel(self) -> None:
        now = self.tick()
        terms = find_terms("USD", FEE_BPS, now)
        sale = box_office.earn(self.connection, self.sales[-1], Cancel(), terms, now)
        if sale.state is SaleState.CANCELLED:
            box_office.refund_some(self.connection, self.sales[-1], now, 100)

    # -- apart, and before reviewers -----------------------------------------------------------------------------------

    def block(self, who: str, delivered_ms: int | None = None, *, shown: bool = False) -> Settled:
        now, (one, other) = self.tick(), (ANN, BOB) if who == "ann" else (BOB, ANN)
        relations.block(self.connection, one, other, now)
        known = {} if delivered_ms is None or not self.calls else {self.calls[-1]: delivered_ms}
        underway = Underway(known, frozenset({"s1"} if shown else ()))
        settled = obligations.settle(self.connection, one, other, underway, FEE_BPS, now)
        self.filed += [filed.case.id for filed in settled.cases]
        return settled

    def unblock(self, who: str) -> None:
        one, other = (ANN, BOB) if who == "ann" else (BOB, ANN)
        relations.unblock(self.connection, one, other)

    def report(self, name: str = "ann", reason: filing.Reason = "unfair_block", by: str = "bob") -> Filed:
        now = self.tick()
        wanted = Report(OfAccount(name), reason, "why?")
        filed = filing.file(self.connection, f"case{self.number}", by, wanted, FEE_BPS, now)
        if filed.case.id not in self.filed:
            self.filed.append(filed.case.id)
        return filed

    def move(self, case: str, command: cases.Command, account: str = "mod1") -> Moved:
        return deciding.move(self.connection, case, account, command, TERMS, self.tick())

    def decide(self, case: str, outcome: Outcome, by: str = "mod1") -> Moved:
        self.move(case, cases.Take(by), by)
        return deciding.decide(self.connection, case, by, outcome, APPEAL_MS, TERMS, self.tick())

    # -- what it comes to ----------------------------------------------------------------------------------------------

    def stakes(self, case: str) -> list[Stake]:
        return stakes.of_case(self.connection, case)

    def has(self, owner: str, asset: str = "USD", kind: Kind = Kind.WALLET) -> int:
        return books.balance(self.connection, Account(owner, kind, asset))

    def worth(self, owner: str) -> int:
        """Return what somebody has, less what he owes."""
        return self.has(owner) + self.has(owner, kind=Kind.HELD) + self.has(owner, kind=Kind.DEBT)

    def flaws(self) -> list[str]:
        return audit.check(self.connection, self.now_ms)


def outcome(refund_bps: int = 0, **values: Any) -> Outcome:
    return replace(Outcome("upheld" if refund_bps else "not_upheld", "so", "so", refund_bps), **values)
