"""The money of a one-to-one: whatever happens in whatever order, it is settled once, by what was delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from server.access.rules import Follows
from server.money.amounts import Amount, WireAmount
from server.money.assets import Assets
from server.money.ledger import Hold, Kind, Post, Void, held
from server.money.one_to_one_desk import meaning_of
from server.money.one_to_one_terms import Choice, Offer, check_offer_untrusted, price_to_hold
from server.money.one_to_ones import (
    CLOSED,
    ORDER,
    Agree,
    Close,
    Command,
    Deliver,
    Deny,
    Drop,
    Lengthen,
    More,
    OneToOne,
    Reach,
    State,
    charges,
    due,
    step,
)
from server.money.payments import Terms, pay, wallet
from signalling.identifiers import Mode, StreamId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.refusals import Refused
from tests.money.commands import deposit
from tests.money.test_ledger import Books
from tests.signalling.simulation.test_simulation import ANN, BOB, OWNER
from tests.signalling.worlds import WALL_MS, World, open_world

HELD = Amount("USD", 3001)
ASKED = OneToOne("r1", "s1", "streamer", "viewer", 300, HELD, 1000, asked_at=0)

REACHES = st.sampled_from([Reach(state) for state in (State.QUEUED, State.OFFERED, State.ACCEPTED, State.RUNNING)])
DELIVERED = st.integers(0, 400_000)
CLOSES = st.builds(Close, st.sampled_from(["cancelled", "declined", "expired", "left", "lost"]), DELIVERED | st.none())
NUMBERS = st.integers(1, 3)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    REACHES,
    st.builds(Deliver, DELIVERED),
    CLOSES,
    st.just(Deny("kyf_denied")),
    st.builds(Lengthen, st.sampled_from([0, 60, 301, 1500])),
    st.builds(Agree, NUMBERS),
    st.builds(Drop, NUMBERS),
)


def put_down(books: Books, before: OneToOne, after: OneToOne) -> None:
    """Hold, give back and pay out what a change means, as the database does it."""
    assert after.held is not None
    purse = wallet("viewer", after.held.asset)
    known = {more.number: more for more in before.extensions}
    for more in after.extensions:
        if more.number not in known:
            books.do(Hold(after.hold_for(more.number), "one2one", purse, more.units, None))
        elif more.state is More.DROPPED and known[more.number].state is not More.DROPPED:
            books.do(Void(after.hold_for(more.number)))
    for hold, units in [] if after.is_open or not before.is_open else charges(after):
        try:
            legs = pay(held(purse), "streamer", units, Terms(after.fee_bps)) if units else ()
        except Refused:
            legs = ()  # what is too little for anything to arrive is given back
        books.do(Post(hold, legs) if legs else Void(hold))


@given(commands=st.lists(COMMANDS, max_size=12), units=st.integers(1, 10**30))
def test_every_order_of_events_resolves_every_hold_once_and_takes_no_more_than_was_held(
    commands: list[Command], units: int
) -> None:
    one, books, settled, all_there_is = replace(ASKED, held=Amount("USD", units)), Books(), 0, units * 100
    books.do(deposit("viewer", all_there_is))
    books.do(Hold(one.hold, "one2one", wallet("viewer", "USD"), units, None))
    for command in [*commands, Close("server_restarted")]:
        before = one
        try:
            one = step(one, command, 1)
        except Refused:
            continue
        assert ORDER.index(one.state) >= ORDER.index(before.state), "a state only follows those above it"
        if not before.is_open:
            assert one == before, "what is over stays as it is"
        elif not one.is_open:
            settled += 1
        put_down(books, before, one)
    assert settled == 1
    assert one.whole_held is not None
    assert 0 <= one.captured <= one.whole_held.units
    assert one.captured + one.refunded == one.whole_held.units
    assert one.whole_seconds <= 1800
    by_kind = {kind: sum(n for account, n in books.balances.items() if account.kind is kind) for kind in Kind}
    assert by_kind[Kind.HELD] == 0
    assert by_kind[Kind.WALLET] + by_kind[Kind.FEE] == all_there_is


@given(units=st.integers(1, 10**30), delivered_ms=st.integers(0, 300_000))
def test_what_is_due_is_the_share_to_the_unit_and_grows_with_what_is_delivered(units: int, delivered_ms: int) -> None:
    assert abs(due(units, 300, delivered_ms) * 300_000 - units * delivered_ms) <= 300_000
    assert due(units, 300, delivered_ms) <= due(units, 300, min(300_000, delivered_ms + 1))
    assert (due(units, 300, 0), due(units, 300, 300_000), due(units, 300, 300_001)) == (0, units, units)


def lengthened(seconds: int, *, tip: int = 3000, price: int = 3000, granted: bool = True) -> OneToOne:
    one = replace(ASKED, held=Amount("USD", tip), price=price, state=State.RUNNING)
    one = step(one, Lengthen(seconds), 1)
    return step(one, Agree(1), 2) if granted else one


@given(
    price=st.integers(1, 10**12),
    tip=st.integers(0, 10**12),
    seconds=st.integers(60, 1500),
    delivered_ms=st.integers(0, 2_000_000),
)
def test_time_that_was_not_given_is_never_charged_and_each_part_pays_for_itself(
    price: int, tip: int, seconds: int, delivered_ms: int
) -> None:
    one = lengthened(seconds, tip=price + tip, price=price)
    over = step(one, Close("time_over", delivered_ms), 3)
    delivered_ms = min(delivered_ms, (300 + seconds) * 1000)
    (_, first), (_, second) = charges(over)
    assert first == due(price + tip, 300, delivered_ms)
    assert second == due(one.extensions[0].units, seconds, max(0, delivered_ms - 300_000))
    assert over.captured == first + second
    assert (one.extensions[0].units - 1) * 300 < price * seconds <= one.extensions[0].units * 300
    refused = step(
        lengthened(seconds, tip=price + tip, price=price, granted=False), Close("time_over", delivered_ms), 3
    )
    assert refused.captured == first, "what nobody granted is not paid, whatever was delivered"
    assert refused.whole_seconds == 300


def test_more_time_costs_what_the_first_minutes_cost_without_the_tip() -> None:
    assert lengthened(300, tip=9000).price_of(150) == Amount("USD", 1500)
    assert replace(ASKED, price=None).price_of(100) == Amount("USD", 1001), "to the next unit up"
    assert replace(ASKED, held=None).price_of(100) is None


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (replace(ASKED, state=State.QUEUED), "mode_conflict"),
        (lengthened(300, granted=False), "extension_exists"),
        (lengthened(1441), "duration_out_of_range"),
    ],
)
def test_more_time_that_can_t_be_had_is_refused(one: OneToOne, code: str) -> None:
    with pytest.raises(Refused) as refused:
        step(one, Lengthen(60), 1)
    assert refused.value.code == code


def test_one_that_never_came_to_it_pays_nothing_and_one_that_was_set_up_has_ended() -> None:
    for state, end in ((State.HELD, State.WITHDRAWN), (State.QUEUED, State.WITHDRAWN), (State.ACCEPTED, State.ENDED)):
        over = step(replace(ASKED, state=state), Close("setup_timeout", 0), 7)
        assert (over.state, over.captured, over.refunded, over.ended_at) == (end, 0, 3001, 7)


def test_a_denial_stops_what_waits_and_not_what_runs() -> None:
    running = step(ASKED, Reach(State.RUNNING), 5)
    assert (running.started_at, step(running, Deny("kyf_denied"), 6)) == (5, running)
    assert step(ASKED, Deny("kyf_denied"), 6).reason == "kyf_denied"


def test_after_a_crash_what_was_written_down_last_is_paid() -> None:
    one = step(step(step(ASKED, Reach(State.RUNNING), 0), Deliver(30_000), 1), Deliver(25_000), 2)
    over = step(one, Close("server_restarted"), 3)
    assert (over.delivered_ms, over.captured) == (30_000, 300)


PRICED = Choice(300, WireAmount("USD", "3000"))


@pytest.mark.parametrize(
    ("most", "tip", "outcome"),
    [
        (Amount("USD", 3000), None, 3000),
        (Amount("USD", 9000), None, 3000),
        (Amount("USD", 3000), Amount("USD", 3000), 3000),
        (Amount("USD", 3000), Amount("USD", 7777), 7777),
        (None, Amount("USD", 7777), "payment_required"),
        (Amount("USD", 2999), Amount("USD", 7777), "price_changed"),
        (Amount("EUR", 3000), None, "price_changed"),
        (Amount("USD", 3000), Amount("EUR", 7777), "invalid_price"),
        (Amount("USD", 3000), Amount("USD", 2999), "invalid_price"),
    ],
)
def test_no_more_is_held_than_was_agreed_to(most: Amount | None, tip: Amount | None, outcome: int | str) -> None:
    try:
        answer: int | str = price_to_hold(PRICED, most, tip).units
    except Refused as refused:
        answer = refused.code
    assert answer == outcome


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        (Offer((PRICED, Choice(300))), "invalid_offer"),
        (Offer((PRICED, Choice(600, WireAmount("EUR", "1")))), "invalid_offer"),
        (Offer((Choice(300, WireAmount("USD", "0")),)), "invalid_amount"),
        (Offer((Choice(300, WireAmount("GOLD", "1")),)), "asset_unknown"),
        (Offer((Choice(300, WireAmount("BONUS", "1")),)), "recipient_not_eligible"),
    ],
)
def test_what_contradicts_itself_can_t_be_offered(offer: Offer, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_offer_untrusted(offer, Assets())
    assert refused.value.code == code


def test_conditions_stand_instead_of_the_price_or_beside_it() -> None:
    either = Offer((PRICED,), (Follows(),), "any")
    both = Offer((PRICED,), (Follows(),), "all")
    assert (either.is_free(PRICED, True), either.is_free(PRICED, False), both.is_free(PRICED, True)) == (
        True,
        False,
        False,
    )
    assert (either.demands_conditions(PRICED), both.demands_conditions(PRICED)) == (False, True)
    assert either.demands_conditions(Choice(300)), "without a price there are only the conditions"


# -- in a room, on a clock that can be turned --------------------------------------------------------------------------


@dataclass
class PaperDesk:
    """Keeps one request on paper, as the desk does in the database."""

    one: OneToOne = ASKED
    words: list[str] = field(default_factory=list)

    async def require_free(self, stream: StreamId, account: object) -> None:
        await trio.lowlevel.checkpoint()

    async def manner_of(self, stream: StreamId) -> c.Manner:
        await trio.lowlevel.checkpoint()
        return c.AT_ONCE

    def hear(self, stream: StreamId, events: Sequence[e.Event]) -> None:
        for event in events:
            meant = meaning_of(event)
            if meant is not None:
                self._take(*meant)

    def delivered(self, request: str, delivered_ns: int) -> None:
        self._take(request, Deliver(delivered_ns // 1_000_000))

    def _take(self, request: str, command: Command) -> None:
        assert request == self.one.id
        self.one = step(self.one, command, 0)
        if isinstance(command, Close):
            self.words.append(command.reason)


async def begin(world: World, desk: PaperDesk, seconds: int) -> tuple[StreamId, Any]:
    """Have Ann in a call of so many seconds with the streamer, both sending and watching; returns her camera, too."""
    desk.one = replace(desk.one, seconds=seconds)
    world.rooms.attend(desk)
    stream = await world.create(OWNER, Mode.PUBLIC)
    await world.publish(stream, OWNER)
    await world.client(ANN, stream)
    await world.watch(stream, ANN)
    await world.rooms.command(stream, ANN, c.RequestOneToOne(seconds, "r1"))
    await world.rooms.command(stream, OWNER, c.AcceptOneToOne(ANN.account, seconds))
    camera = await world.publish(stream, ANN)
    await world.watch(stream, OWNER)
    return stream, camera


async def test_half_an_hour_to_its_end_is_paid_whole_whatever_the_wall_clock_does(autojump_clock: MockClock) -> None:
    for jump_ms in (0, 3_600_000, -3_600_000):
        async with open_world() as world:
            desk = PaperDesk()
            await begin(world, desk, 1800)
            await trio.sleep(600)
            world.clock.wall_ms = lambda jump_ms=jump_ms: WALL_MS + jump_ms + world.now_ns // 1_000_000  # type: ignore[misc]
            await trio.sleep(1199)
            assert desk.one.state is State.RUNNING
            assert 1_790_000 <= desk.one.delivered_ms <= 1_799_000, "it is written down as it goes"
            await trio.sleep(2)
            assert (desk.words, desk.one.delivered_ms, desk.one.captured) == (["time_over"], 1_800_000, 3001)


@pytest.mark.parametrize(("at_s", "granted"), [(0, True), (298, True), (299.999, True), (300, False)])
async def test_more_time_is_paid_when_it_was_granted_before_the_end_and_else_costs_nothing(
    autojump_clock: MockClock, at_s: float, granted: bool
) -> None:
    async with open_world() as world:
        desk = PaperDesk()
        stream, _ = await begin(world, desk, 300)
        desk.one = step(desk.one, Lengthen(60), 0)
        await world.rooms.command(stream, ANN, c.AskExtension(60, 1))
        await trio.sleep(at_s)
        accept = c.AcceptExtension(60)
        if granted:
            await world.rooms.command(stream, OWNER, accept)
        else:
            with pytest.raises(Refused, match="request_unknown"):
                await world.rooms.command(stream, OWNER, accept)
        await trio.sleep(302 - at_s)
        assert desk.words == ([] if granted else ["time_over"])
        await trio.sleep(60)
        assert (desk.words, desk.one.whole_seconds) == (["time_over"], 360 if granted else 300)
        assert (desk.one.delivered_ms, desk.one.captured) == ((360_000, 3602) if granted else (300_000, 3001))


async def test_an_interruption_is_not_paid_and_too_long_a_one_ends_it(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = PaperDesk()
        stream, camera = await begin(world, desk, 300)
        await trio.sleep(100)
        world.media.close(world.transports[camera.session_id], "consent_expired")
        await trio.sleep(25)
        camera = await world.publish(stream, ANN)
        await trio.sleep(50)
        world.media.close(world.transports[camera.session_id], "consent_expired")
        await trio.sleep(36)
        assert desk.words == ["connection_lost"]
        assert desk.one.delivered_ms == pytest.approx(150_000, abs=1100)
        assert desk.one.captured == due(HELD.units, 300, desk.one.delivered_ms)


async def test_while_the_streamer_does_not_watch_the_guest_nothing_is_due(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = PaperDesk()
        stream, _ = await begin(world, desk, 300)
        await trio.sleep(60)
        watching = next(t for t in world.media.transports.values() if not t.publishes and t.source == "guest")
        world.media.close(watching.id, "closed_by_client")
        await trio.sleep(100)
        await world.rooms.command(stream, ANN, c.EndOneToOne())
        assert desk.words == ["ended_by_guest"]
        assert desk.one.delivered_ms == pytest.approx(60_000, abs=2000)


async def test_a_camera_that_never_comes_costs_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = PaperDesk()
        world.rooms.attend(desk)
        stream = await world.create(OWNER, Mode.PUBLIC)
        await world.publish(stream, OWNER)
        await world.client(ANN, stream)
        await world.rooms.command(stream, ANN, c.RequestOneToOne(300, "r1"))
        await world.rooms.command(stream, OWNER, c.AcceptOneToOne(ANN.account, 300))
        await trio.sleep(46)
        assert (desk.words, desk.one.state, desk.one.captured) == (["setup_timeout"], State.ENDED, 0)


async def test_a_request_that_nobody_takes_lapses_after_what_the_viewer_would_wait(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = PaperDesk()
        world.rooms.attend(desk)
        stream = await world.create(OWNER, Mode.PUBLIC)
        page = await world.client(ANN, stream)
        await world.client(BOB, stream)
        await world.rooms.command(stream, ANN, c.RequestOneToOne(300, "r1", expires_s=90))
        await trio.sleep(89)
        assert desk.one.state is State.QUEUED
        await trio.sleep(2)
        assert (desk.words, desk.one.state in CLOSED, desk.one.captured) == (["expired"], True, 0)
        assert page.last("one_to_one.cancelled")["reason"] == "expired"
