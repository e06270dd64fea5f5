"""Paid chats on both databases: what is bid is held with its message, and settled once, whoever does what when."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from server.access import relations
from server.bids import rows
from server.bids.rows import BidView, Wish
from server.bids.rules import ANSWER_MS, CHAT_MS, Accept, Command, Confirm, Decline, Withdraw
from server.money import audit, books
from server.money.amounts import Amount
from server.money.assets import Assets
from server.money.ledger import Account, Kind
from server.review import deciding, filing, obligations
from server.review.cases import Decide, Outcome, Take
from server.review.obligations import Settled, Underway
from server.talk import calls
from signalling.calls.book import Wanted
from signalling.calls.state import CallId
from signalling.calls.views import CallCard
from signalling.identifiers import Actor
from signalling.messenger.model import ConversationId
from signalling.wire.views import Person
from tests.files.test_uses import file_of
from tests.money.commands import deposit, do
from tests.money.databases import AnyStore
from tests.review.worlds import APPEAL_MS, TERMS
from tests.talk.people import Talker, code, people

FUNDS, BID, FEE_BPS = 10_000, 3000, 1000
NET = 2700


class Pair:
    """Bob, who has money, and Ann, whom he asks for a paid chat."""

    def __init__(self, store: AnyStore, ann: Talker, bob: Talker, talk: str) -> None:
        self.store, self.ann, self.bob, self.talk, self.count = store, ann, bob, talk, 0

    @classmethod
    async def meet(cls, store: AnyStore) -> Pair:
        ann, bob = await people(store, "ann", "bob")
        await store.write(do, deposit("bob", FUNDS))
        return cls(store, ann, bob, await bob.direct("ann"))

    def later(self, ms: int) -> None:
        self.ann.now += ms
        self.bob.now += ms

    async def ask(self, units: int = BID, **more: Any) -> BidView:
        guest = Person(self.bob.id, "bob")
        wish = Wish(f"b{self.count + 1}", guest, more.get("talk", self.talk), Amount("USD", units), "web", "may I?")
        view = await self.store.write(rows.ask, wish, Assets(), FEE_BPS, self.bob.now)
        self.count += 1
        return view

    async def do(self, who: Talker, command: Command) -> BidView:
        return await self.store.write(rows.move, f"b{self.count}", who.id, command, who.now)

    async def call(self, seconds: int) -> None:
        """Have Bob call Ann; they talk for so long."""
        id, at = CallId(f"call {self.bob.now}"), self.bob.now
        wanted = Wanted(ConversationId(self.talk), False, "d", id)
        await self.store.write(calls.begin, Actor(self.bob.id, "bob"), id, wanted, at)
        shown = CallCard(id, False, "ended", seconds=seconds)
        await self.store.write(calls.bring_up_to_date, ConversationId(self.talk), shown, at + 1)

    async def run_out(self) -> int:
        return len(await self.store.write(rows.run_out, self.ann.now, 100))

    async def block(self, who: Talker, other: Talker) -> Settled:
        def work(connection: sa.Connection) -> Settled:
            relations.block(connection, who.id, other.id, who.now)
            return obligations.settle(connection, who.id, other.id, Underway(), FEE_BPS, who.now)

        return await self.store.write(work)

    async def have(self) -> tuple[int, int, int]:
        """Return what Bob may spend, what is held of his, and what Ann has; the books are right."""

        def read(connection: sa.Connection) -> tuple[int, int, int]:
            assert audit.check(connection, self.ann.now) == []
            purses = (("bob", Kind.WALLET), ("bob", Kind.HELD), ("ann", Kind.WALLET))
            one, two, three = (books.balance(connection, Account(owner, kind, "USD")) for owner, kind in purses)
            return one, two, three

        return await self.store.read(read)

    async def card(self) -> dict[str, Any]:
        shown = [message for message in await self.ann.messages(self.talk) if message.kind == "bid"]
        return dict(shown[-1].card or {})


async def test_a_bid_is_held_with_its_message_and_paid_when_who_paid_says_so(store: AnyStore) -> None:
    pair = await Pair.meet(store)
    view = await pair.ask()
    assert (view.state, view.until) == ("asked", pair.bob.now + ANSWER_MS)
    assert await pair.have() == (FUNDS - BID, BID, 0)
    assert (await pair.card())["state"] == "asked"
    assert await code(pair.ask()) == "bid_exists"
    assert await code(pair.do(pair.bob, Accept())) == "bid_closed"
    assert (await pair.do(pair.ann, Accept())).state == "accepted"
    assert await pair.have() == (FUNDS - BID, BID, 0)
    assert await code(pair.do(pair.bob, Withdraw())) == "bid_closed"
    await pair.do(pair.bob, Confirm())
    assert await pair.have() == (FUNDS - BID, 0, NET)
    assert (await pair.card())["state"] == "paid"
    assert await code(pair.do(pair.bob, Confirm())) == "bid_closed"
    assert (await pair.ask()).state == "asked", "one after the other"


async def test_all_goes_back_that_is_declined_withdrawn_or_not_answered(store: AnyStore) -> None:
    pair = await Pair.meet(store)
    for who, command, reason in ((pair.ann, Decline(), "declined"), (pair.bob, Withdraw(), "withdrawn")):
        await pair.ask()
        assert (await pair.do(who, command)).reason == reason
        assert await pair.have() == (FUNDS, 0, 0)
    await pair.ask()
    pair.later(ANSWER_MS - 1)
    assert await pair.run_out() == 0
    pair.later(1)
    assert (await pair.run_out(), await pair.run_out()) == (1, 0)
    assert await pair.have() == (FUNDS, 0, 0)
    assert (await pair.card())["reason"] == "expired"


async def test_after_two_days_it_is_paid_where_the_other_has_written_and_goes_back_else(store: AnyStore) -> None:
    pair = await Pair.meet(store)
    await pair.ann.send(pair.talk, "before it was accepted")
    for text, has in (("", (FUNDS, 0, 0)), ("hello", (FUNDS - BID, 0, NET))):
        pair.later(1000)
        await pair.ask()
        await pair.do(pair.ann, Accept())
        await pair.bob.send(pair.talk, "hello?")
        if text:
            await pair.ann.send(pair.talk, text)
        pair.later(CHAT_MS)
        assert await pair.run_out() == 1
        assert await pair.have() == has


async def test_a_file_or_a_call_is_as_good_as_a_text(store: AnyStore) -> None:
    pair = await Pair.meet(store)
    await file_of(pair.ann)
    for what, has in (("missed", (FUNDS, 0, 0)), ("answered", (FUNDS - BID, 0, NET)), ("file", (4000, 0, 2 * NET))):
        pair.later(1000)
        await pair.ask()
        await pair.do(pair.ann, Accept())
        if what == "file":
            await pair.ann.send(pair.talk, "", files=("f_1",))
        else:
            await pair.call(9 if what == "answered" else 0)
        pair.later(CHAT_MS)
        assert await pair.run_out() == 1
        assert await pair.have() == has


async def test_who_blocks_gains_nothing_and_in_the_middle_a_case_decides(store: AnyStore) -> None:
    pair = await Pair.meet(store)
    await pair.ask()
    assert (await pair.block(pair.ann, pair.bob)).cases == ()
    assert await pair.have() == (FUNDS, 0, 0)
    assert await code(pair.ask()) == "account_unknown", "as if she were not there"
    await store.write(relations.unblock, pair.ann.id, pair.bob.id)
    await pair.ask()
    await pair.do(pair.ann, Accept())
    await pair.ann.send(pair.talk, "hello")
    (filed,) = (await pair.block(pair.ann, pair.bob)).cases
    assert (filed.case.reporter, filed.case.respondent, filed.filing.about.kind) == ("bob", "ann", "chat")
    assert await pair.have() == (FUNDS - BID, 0, 0)
    assert (await pair.card())["state"] == "frozen"
    half = Outcome("partly_upheld", "half", "half", refund_bps=5000)
    for command in (Take("mod"), Decide("mod", half, needs_second=False, appeal_ms=APPEAL_MS)):
        await store.write(deciding.move, filed.case.id, "mod", command, TERMS, pair.ann.now)
    assert await pair.have() == (FUNDS - BID // 2, 0, NET // 2)


async def test_a_viewer_who_blocks_pays_what_was_delivered_and_may_report_what_was_paid(store: AnyStore) -> None:
    pair = await Pair.meet(store)
    await pair.ask()
    await pair.do(pair.ann, Accept())
    await pair.ann.send(pair.talk, "hello")
    assert (await pair.block(pair.bob, pair.ann)).cases == ()
    assert await pair.have() == (FUNDS - BID, 0, NET)
    wanted = filing.Report(filing.OfAccount("ann"), "unfair_block", "")
    filed = await store.write(filing.file, "case1", pair.bob.id, wanted, FEE_BPS, pair.bob.now)
    back = Outcome("upheld", "all", "all", refund_bps=10_000)
    for command in (Take("mod"), Decide("mod", back, needs_second=False, appeal_ms=APPEAL_MS)):
        await store.write(deciding.move, filed.case.id, "mod", command, TERMS, pair.ann.now)
    assert await pair.have() == (FUNDS, 0, 0)


async def test_what_can_t_be_had_is_refused_and_nothing_is_held(store: AnyStore) -> None:
    pair = await Pair.meet(store)
    (eve,) = await people(store, "eve")
    group = await pair.bob.group(pair.ann)
    theirs = await eve.direct("ann")
    assert await code(pair.ask(FUNDS + 1)) == "insufficient_funds"
    assert await code(pair.ask(talk=group)) == "bad_context"
    assert await code(pair.ask(talk=theirs)) == "conversation_unknown"
    assert await pair.have() == (FUNDS, 0, 0)
    await pair.ask()
    assert await code(pair.do(eve, Decline())) == "bid_unknown"
    assert await code(store.read(rows.find, "b1", eve.id)) == "bid_unknown"
    assert await pair.have() == (FUNDS - BID, BID, 0)
