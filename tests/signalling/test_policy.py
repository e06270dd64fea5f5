"""The rules of a room, each a sentence; and what must hold after any sequence of commands."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.forwarding.admission import FOREVER, Grant
from signalling.identifiers import AccountId, Mode
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import PAUSE_NS, SECOND_NS, SETUP_NS
from signalling.policy.preparing import PREPARED_FOR_NS
from signalling.policy.state import Request, RoomState
from signalling.policy.step import deadline_ns, step
from signalling.policy.switching import MAX_SWITCHES, SWITCHES_WITHIN_NS
from signalling.refusals import Refused
from signalling.wire.views import Money, TicketOffer

OWNER, ANN, BOB, CAT = (AccountId(name) for name in ("owner", "ann", "bob", "cat"))
NOW = 5 * SECOND_NS


def room(**changes: object) -> RoomState:
    return replace(RoomState(OWNER, present=frozenset({ANN, BOB, CAT})), **changes)  # type: ignore[arg-type]


def do(state: RoomState, actor: AccountId | None, *given: c.Command | c.Fact, now_ns: int = NOW) -> RoomState:
    for item in given:
        state, _ = step(state, actor, item, now_ns)
    return state


def refused(state: RoomState, actor: AccountId, given: c.Command, now_ns: int = NOW) -> str:
    with pytest.raises(Refused) as caught:
        step(state, actor, given, now_ns)
    return caught.value.code


def in_one_to_one(seconds: int = 300) -> RoomState:
    asked = do(room(), ANN, c.RequestOneToOne())
    return do(asked, OWNER, c.AcceptOneToOne(ANN, seconds))


def test_anyone_watches_a_public_stream_and_the_streamer_always_does() -> None:
    assert room().admits(ANN, NOW)
    for mode in Mode:
        assert room(mode=mode).admits(OWNER, NOW)


def test_preparing_says_who_would_go_and_confirming_makes_it_so() -> None:
    state = do(room(), OWNER, c.GrantTicket(ANN))
    state, events = step(state, OWNER, c.PrepareMode(Mode.PAID, "t"), NOW)
    assert events == [e.ModePrepared(Mode.PAID, "t", (BOB, CAT), (ANN,), NOW + PREPARED_FOR_NS)]
    assert state.admits(BOB, NOW)
    after, events = step(state, OWNER, c.ConfirmMode("t"), NOW)
    assert after.epoch == state.epoch + 1
    assert events[0] == e.ModeSwitched(Mode.PAID, after.epoch, (BOB, CAT))
    assert events[1:] == [
        e.AccessRevoked(account, after.epoch, "ticket_required", ("ticket",)) for account in (BOB, CAT)
    ]
    assert [account for account in (ANN, BOB, CAT) if after.admits(account, NOW)] == [ANN]


def test_confirming_twice_is_confirming_once() -> None:
    state = do(room(), OWNER, c.GrantTicket(ANN), c.PrepareMode(Mode.PAID, "t"))
    once, first = step(state, OWNER, c.ConfirmMode("t"), NOW)
    twice, second = step(once, OWNER, c.ConfirmMode("t"), NOW)
    assert twice == once
    assert first[0] == e.ModeSwitched(Mode.PAID, once.epoch, (BOB, CAT))
    assert second == [e.AlreadySwitched(Mode.PAID, once.epoch, (BOB, CAT))]
    back = do(twice, OWNER, c.PrepareMode(Mode.PUBLIC, "u"), c.ConfirmMode("u"))
    assert step(back, OWNER, c.ConfirmMode("t"), NOW) == (back, second)
    _, events = step(do(back, OWNER, c.PrepareMode(Mode.PUBLIC, "v")), OWNER, c.ConfirmMode("v"), NOW)
    assert events == [e.AlreadySwitched(Mode.PUBLIC, back.epoch, ())]


def test_a_confirmation_is_stale_when_somebody_would_go_who_was_said_to_stay() -> None:
    state = do(room(present=frozenset({ANN})), OWNER, c.GrantTicket(ANN), c.PrepareMode(Mode.PAID, "t"))
    joined = do(state, BOB, c.Join())
    assert isinstance(step(joined, OWNER, c.ConfirmMode("t"), NOW)[1][0], e.ModeSwitched)
    assert do(joined, OWNER, c.GrantTicket(BOB), c.ConfirmMode("t")).admits(BOB, NOW)
    assert refused(do(state, OWNER, c.RevokeTicket(ANN)), OWNER, c.ConfirmMode("t")) == "room_changed"
    asked = do(state, ANN, c.RequestOneToOne())
    called = do(do(asked, OWNER, c.AcceptOneToOne(ANN, 300)), OWNER, c.EndOneToOne())
    assert refused(called, OWNER, c.ConfirmMode("t")) == "room_changed"
    assert refused(state, OWNER, c.ConfirmMode("t"), NOW + PREPARED_FOR_NS) == "room_changed"
    assert refused(state, OWNER, c.ConfirmMode("other")) == "room_changed"


def test_an_empty_audience_must_be_allowed_in_words() -> None:
    state = do(room(), OWNER, c.PrepareMode(Mode.PAID, "t"))
    assert refused(state, OWNER, c.ConfirmMode("t")) == "audience_empty"
    assert do(state, OWNER, c.ConfirmMode("t", allow_empty=True)).mode is Mode.PAID


def seated(*seats: tuple[AccountId, c.Seat]) -> c.Seated:
    return c.Seated(seats, TicketOffer("s", Money("USD", "500"), 3))


def test_who_pays_at_the_switch_waits_in_the_lobby_until_it_is_paid_or_over() -> None:
    state = do(room(), None, seated((ANN, "bought"), (BOB, "paying")))
    prepared, events = step(state, OWNER, c.PrepareMode(Mode.PAID, "t"), NOW)
    assert events == [e.ModePrepared(Mode.PAID, "t", (CAT,), (ANN,), NOW + PREPARED_FOR_NS, (BOB,))]
    paid, events = step(prepared, OWNER, c.ConfirmMode("t"), NOW)
    assert events == [
        e.ModeSwitched(Mode.PAID, paid.epoch, (CAT,)),
        e.AccessRevoked(BOB, paid.epoch, "payment_pending", ("ticket",)),
        e.AccessRevoked(CAT, paid.epoch, "ticket_required", ("ticket",)),
    ]
    assert [account for account in (ANN, BOB, CAT) if paid.admits(account, NOW)] == [ANN]
    later, events = step(paid, None, seated((BOB, "bought")), NOW)
    assert events == [e.AccessGranted(BOB, later.epoch, "ticket")]
    over, events = step(paid, None, seated((BOB, "none")), NOW)
    assert events == [e.AccessRevoked(BOB, over.epoch, "ticket_required", ("ticket",))]
    back, events = step(later, None, seated((BOB, "none"), (ANN, "bought")), NOW)
    assert events == [e.AccessRevoked(BOB, back.epoch, "ticket_revoked", ("ticket",))]


def test_a_ticket_that_was_paid_for_is_not_just_taken() -> None:
    state = do(room(), None, seated((ANN, "bought")))
    assert refused(state, OWNER, c.RevokeTicket(ANN)) == "ticket_bought"
    both = do(state, OWNER, c.GrantTicket(ANN), c.RevokeTicket(ANN))
    assert both.holders == frozenset({ANN})


def test_what_is_told_again_of_seats_changes_nothing() -> None:
    state = do(room(mode=Mode.PAID), None, seated((ANN, "bought"), (BOB, "paying")))
    assert step(state, None, seated((ANN, "bought"), (BOB, "paying")), NOW) == (state, [])


def test_an_announced_switch_comes_by_itself_and_can_be_called_off() -> None:
    at_ns = NOW + 30 * SECOND_NS
    state = do(room(), OWNER, c.GrantTicket(ANN), c.PrepareMode(Mode.PAID, "t"))
    assert refused(state, OWNER, c.ConfirmMode("t", after_s=601)) == "invalid_countdown"
    waiting, events = step(state, OWNER, c.ConfirmMode("t", after_s=30), NOW)
    assert events == [e.ModeAnnounced(Mode.PAID, at_ns)]
    assert (waiting.mode, waiting.admits(BOB, NOW), deadline_ns(waiting)) == (Mode.PUBLIC, True, at_ns)
    assert step(waiting, OWNER, c.ConfirmMode("t", after_s=30), NOW)[1] == [e.AlreadyAnnounced(Mode.PAID, at_ns)]
    off, events = step(waiting, OWNER, c.CallOffMode(), NOW)
    assert (events, deadline_ns(off)) == ([e.ModeCalledOff(Mode.PAID)], FOREVER)
    assert refused(off, OWNER, c.CallOffMode()) == "no_switch_announced"
    assert refused(off, OWNER, c.ConfirmMode("t")) == "room_changed"
    sold = do(waiting, OWNER, c.GrantTicket(BOB))
    done, events = step(sold, None, c.Tick(), at_ns)
    assert events[0] == e.ModeSwitched(Mode.PAID, done.epoch, (CAT,))
    assert (done.announced, done.admits(BOB, at_ns), done.admits(CAT, at_ns)) == (None, True, False)
    assert step(done, OWNER, c.ConfirmMode("t"), at_ns)[1] == [e.AlreadySwitched(Mode.PAID, done.epoch, (CAT,))]
    late, events = step(sold, BOB, c.Leave(), at_ns + 1)
    assert isinstance(events[0], e.ModeSwitched)
    assert late.mode is Mode.PAID


@pytest.mark.parametrize("after_s", [-1, 601, 2**80, True])
def test_a_countdown_is_none_or_within_ten_minutes(after_s: int) -> None:
    state = do(room(), OWNER, c.PrepareMode(Mode.PAID, "t"))
    assert refused(state, OWNER, c.ConfirmMode("t", allow_empty=True, after_s=after_s)) == "invalid_countdown"


def switched(state: RoomState, mode: Mode, token: str, at_ns: int, **how: int) -> RoomState:
    confirm = c.ConfirmMode(token, allow_empty=True, **how)
    return do(state, OWNER, c.PrepareMode(mode, token), confirm, now_ns=at_ns)


def test_who_plays_with_the_audience_has_to_wait_and_may_close_the_door_all_the_same() -> None:
    state = room()
    for number in range(MAX_SWITCHES):
        closed = switched(state, Mode.PAID, f"close{number}", NOW + number)
        state = switched(closed, Mode.PUBLIC, f"open{number}", NOW + number)
    at_ns = NOW + MAX_SWITCHES
    state = switched(state, Mode.PAID, "close", at_ns)
    prepared = do(state, OWNER, c.PrepareMode(Mode.PUBLIC, "open"), now_ns=at_ns)
    with pytest.raises(Refused, match="switched_too_often") as caught:
        step(prepared, OWNER, c.ConfirmMode("open"), at_ns)
    assert caught.value.extra == {"wait_s": 300}
    later_ns = NOW + SWITCHES_WITHIN_NS
    assert switched(state, Mode.PUBLIC, "later", later_ns).mode is Mode.PUBLIC


def test_announcements_that_are_called_off_again_and_again_have_to_wait_too() -> None:
    state = room()
    for number in range(MAX_SWITCHES):
        state = do(switched(state, Mode.PAID, f"t{number}", NOW, after_s=60), OWNER, c.CallOffMode())
    state = do(state, OWNER, c.PrepareMode(Mode.PAID, "t"))
    assert refused(state, OWNER, c.ConfirmMode("t", allow_empty=True, after_s=60)) == "switched_too_often"
    assert do(state, OWNER, c.ConfirmMode("t", allow_empty=True)).mode is Mode.PAID


def test_between_the_announcement_and_the_switch_there_is_no_one_to_one() -> None:
    state = do(room(), ANN, c.RequestOneToOne())
    state = do(state, OWNER, c.PrepareMode(Mode.PAID, "t"), c.ConfirmMode("t", allow_empty=True, after_s=30))
    assert refused(state, OWNER, c.AcceptOneToOne(ANN, 300)) == "mode_conflict"


def test_the_clock_of_a_show_runs_while_there_is_a_picture_for_ticket_holders_alone() -> None:
    def at(second: int, state: RoomState, given: c.Command | c.Fact) -> RoomState:
        actor = OWNER if isinstance(given, c.OwnersCommand) else None
        return do(state, actor, given, now_ns=NOW + second * SECOND_NS)

    def shown(second: int) -> int:
        return state.shown_by_ns(NOW + second * SECOND_NS) // SECOND_NS

    state = at(0, room(), c.StreamerFlows())
    assert shown(100) == 0
    state = at(101, at(100, state, c.PrepareMode(Mode.PAID, "t")), c.ConfirmMode("t", allow_empty=True))
    assert shown(111) == 10
    state = at(111, state, c.StreamerLost())
    assert shown(120) == 10
    state = at(120, state, c.StreamerFlows())
    state = at(125, at(124, state, c.PrepareMode(Mode.PUBLIC, "u")), c.ConfirmMode("u"))
    assert shown(200) == 15
    state = at(202, at(201, state, c.PrepareMode(Mode.PAID, "v")), c.ConfirmMode("v", allow_empty=True))
    state = at(210, state, c.EndStream())
    assert shown(999) == 23


def test_a_ticket_matters_only_where_tickets_are_required_and_its_loss_is_told() -> None:
    paid = room(mode=Mode.PAID, tickets=frozenset({ANN}))
    after, events = step(paid, OWNER, c.RevokeTicket(ANN), NOW)
    assert events == [e.AccessRevoked(ANN, after.epoch, "ticket_revoked", ("ticket",))]
    after, events = step(paid, OWNER, c.GrantTicket(BOB), NOW)
    assert events == [e.AccessGranted(BOB, after.epoch, "ticket")]
    assert do(room(tickets=frozenset({ANN})), OWNER, c.RevokeTicket(ANN)).admits(ANN, NOW)


def test_an_ejected_account_stays_out_whatever_it_holds() -> None:
    for mode in (Mode.PUBLIC, Mode.PRIVATE, Mode.PAID):
        state = room(mode=mode, tickets=frozenset({ANN}), entitled=frozenset({ANN}))
        after, events = step(state, OWNER, c.Eject(ANN), NOW)
        assert events == [e.AccessRevoked(ANN, after.epoch, "ejected", ())]
        assert not do(after, OWNER, c.GrantTicket(ANN), c.Entitle(ANN)).admits(ANN, NOW)
        assert do(after, OWNER, c.Readmit(ANN)).admits(ANN, NOW)


def test_only_the_streamer_changes_the_room() -> None:
    given: list[c.Command] = [
        c.PrepareMode(Mode.PAID, "t"),
        c.SetTimeLimit(60),
        c.GrantTicket(ANN),
        c.Eject(BOB),
        c.AcceptOneToOne(ANN, 300),
        c.EndStream(),
    ]
    assert {refused(room(), ANN, command) for command in given} == {"not_the_owner"}


@pytest.mark.parametrize("seconds", [299, 1801, 0, -1, True])
def test_a_one_to_one_lasts_from_five_to_thirty_minutes(seconds: int) -> None:
    asked = do(room(), ANN, c.RequestOneToOne())
    assert refused(asked, OWNER, c.AcceptOneToOne(ANN, seconds)) == "duration_out_of_range"
    for fine in (300, 1800):
        assert do(asked, OWNER, c.AcceptOneToOne(ANN, fine)).mode is Mode.ONE_TO_ONE


def test_in_a_one_to_one_only_the_two_get_anything_and_the_others_come_back_by_themselves() -> None:
    state = in_one_to_one()
    assert state.requires == Grant.WELCOME | Grant.CHOSEN
    assert [account for account in (OWNER, ANN, BOB, CAT) if state.admits(account, NOW)] == [OWNER, ANN]
    after, events = step(state, OWNER, c.EndOneToOne(), NOW)
    assert after.mode is Mode.PUBLIC
    assert [event.account for event in events if isinstance(event, e.AccessGranted)] == [BOB, CAT]


def test_the_clock_starts_when_both_sides_media_flows_and_stops_to_the_nanosecond() -> None:
    state = in_one_to_one(300)
    late = NOW + SETUP_NS - 1
    running, events = step(state, None, c.MediaFlows(), late)
    until_ns = late + 300 * SECOND_NS
    assert events == [e.OneToOneStarted(ANN, until_ns)]
    assert running.admits(ANN, until_ns - 1)
    assert not running.admits(ANN, until_ns)
    ended, events = step(running, None, c.Tick(), until_ns)
    assert events[0] == e.OneToOneEnded(ANN, "time_over", 300 * SECOND_NS)
    assert ended.mode is Mode.PUBLIC
    assert [event.account for event in events if isinstance(event, e.AccessGranted)] == [BOB, CAT]


def test_a_one_to_one_that_is_never_set_up_ends_and_delivered_nothing() -> None:
    state = in_one_to_one()
    assert deadline_ns(state) == NOW + SETUP_NS
    _, events = step(state, None, c.Tick(), NOW + SETUP_NS)
    assert events[0] == e.OneToOneEnded(ANN, "setup_timeout", 0)


def test_a_lost_connection_stops_the_clock_for_a_minute_in_all() -> None:
    state = do(in_one_to_one(300), None, c.MediaFlows())
    at = NOW + 100 * SECOND_NS
    state = do(state, None, c.MediaStops(), now_ns=at)
    state, events = step(state, None, c.MediaFlows(), at + 40 * SECOND_NS)
    assert events == [e.OneToOneStarted(ANN, at + 240 * SECOND_NS)]
    state = do(state, None, c.MediaStops(), now_ns=at + 50 * SECOND_NS)
    assert deadline_ns(state) == at + 50 * SECOND_NS + PAUSE_NS - 40 * SECOND_NS
    _, events = step(state, None, c.Tick(), deadline_ns(state))
    assert events[0] == e.OneToOneEnded(ANN, "connection_lost", 110 * SECOND_NS)


def test_from_a_paid_stream_there_is_no_one_to_one() -> None:
    assert refused(room(mode=Mode.PAID), ANN, c.RequestOneToOne()) == "mode_conflict"
    asked = replace(do(room(), ANN, c.RequestOneToOne()), mode=Mode.PAID)
    assert refused(asked, OWNER, c.AcceptOneToOne(ANN, 300)) == "mode_conflict"


def test_one_guest_at_a_time_and_one_request_each() -> None:
    asked = do(room(), ANN, c.RequestOneToOne())
    assert refused(asked, ANN, c.RequestOneToOne()) == "request_exists"
    both = do(asked, BOB, c.RequestOneToOne())
    running = do(both, OWNER, c.AcceptOneToOne(ANN, 300))
    assert running.requests == (Request(BOB),)
    assert refused(running, OWNER, c.AcceptOneToOne(BOB, 300)) == "already_in_one_to_one"


WAIT = c.Manner(30, calls_next=True)


def called(*waiting: AccountId, manner: c.Manner = WAIT) -> RoomState:
    """Return a room in which so many asked, and the first of them is offered a one-to-one of 300 s."""
    state = room()
    for account in waiting:
        state = do(state, account, c.RequestOneToOne(id=f"of {account}"))
    return do(state, OWNER, c.AcceptOneToOne(waiting[0], 300, manner))


def test_who_is_accepted_has_a_time_to_come_and_until_then_the_stream_goes_on_for_all() -> None:
    asked = do(do(room(), BOB, c.RequestOneToOne()), ANN, c.RequestOneToOne(id="of ann"))
    state, events = step(asked, OWNER, c.AcceptOneToOne(ANN, 300, WAIT), NOW)
    by_ns = NOW + 30 * SECOND_NS
    assert events == [e.OneToOneOffered(ANN, 300, by_ns, "of ann")]
    assert (state.mode, state.epoch, [waiting.account for waiting in state.requests]) == (Mode.PUBLIC, 1, [ANN, BOB])
    assert deadline_ns(state) == by_ns
    assert refused(state, BOB, c.ConfirmOneToOne()) == "request_unknown"
    assert refused(state, OWNER, c.AcceptOneToOne(BOB, 300, WAIT)) == "one_to_one_offered"
    assert step(state, OWNER, c.AcceptOneToOne(ANN, 300, WAIT), NOW + 1) == (state, []), "twice is once"
    assert refused(state, ANN, c.ConfirmOneToOne(), now_ns=by_ns) == "request_expired"
    begun, events = step(state, ANN, c.ConfirmOneToOne(), by_ns - 1)
    assert begun.mode is Mode.ONE_TO_ONE
    assert e.OneToOneAccepted(ANN, by_ns - 1 + SETUP_NS, "of ann") in events
    assert step(begun, ANN, c.ConfirmOneToOne(), by_ns) == (begun, [])


def test_when_one_does_not_come_the_next_is_called_until_nobody_waits() -> None:
    state, at, gone = called(ANN, BOB, CAT), NOW, []
    for account, then in ((ANN, BOB), (BOB, CAT), (CAT, None)):
        at += 30 * SECOND_NS
        state, events = step(state, None, c.Tick(), at)
        assert events[0] == e.OneToOneWithdrawn(account, "missed", f"of {account}")
        offered = [event.account for event in events if isinstance(event, e.OneToOneOffered)]
        assert offered == ([] if then is None else [then])
        gone.append(account)
    assert state.requests == ()
    assert state.mode is Mode.PUBLIC


@pytest.mark.parametrize(
    ("way", "actor", "next_is_called"),
    [
        (c.CancelOneToOne(), ANN, True),
        (c.Leave(), ANN, True),
        (c.DeclineOneToOne(ANN), OWNER, False),
        (c.Eject(ANN), OWNER, False),
        (c.SetTimeLimit(3600), OWNER, False),
        (c.EndStream(), OWNER, False),
    ],
)
def test_the_next_is_called_when_the_viewer_would_not_come_and_not_when_the_streamer_would_not(
    way: c.Command, actor: AccountId, next_is_called: bool
) -> None:
    for manner in (WAIT, c.Manner(30, calls_next=False)):
        _, events = step(called(ANN, BOB, manner=manner), actor, way, NOW + 1)
        offered = [event.account for event in events if isinstance(event, e.OneToOneOffered)]
        assert offered == ([BOB] if next_is_called and manner.calls_next else [])


def test_who_could_not_be_served_before_the_stream_ends_is_passed_over() -> None:
    state = do(room(), BOB, c.RequestOneToOne(1800, id="long"))
    state = do(do(state, CAT, c.RequestOneToOne(300, id="short")), ANN, c.RequestOneToOne(300, id="first"))
    state = do(do(state, OWNER, c.SetTimeLimit(900)), OWNER, c.AcceptOneToOne(ANN, 300, WAIT))
    state = do(state, None, c.Tick(), now_ns=NOW + 30 * SECOND_NS)
    assert [(waiting.account, waiting.offered is not None) for waiting in state.requests] == [(CAT, True), (BOB, False)]


RUNNING = do(in_one_to_one(300), None, c.MediaFlows())
END_NS = NOW + 300 * SECOND_NS


def test_a_one_to_one_is_made_longer_when_the_guest_asks_and_the_streamer_agrees() -> None:
    state, events = step(RUNNING, ANN, c.AskExtension(600), NOW + 1)
    assert events == [e.ExtensionAsked(ANN, 600)]
    assert refused(state, ANN, c.AskExtension(60)) == "extension_exists"
    assert refused(state, ANN, c.AcceptExtension(600)) == "not_the_owner"
    assert refused(state, OWNER, c.AcceptExtension(900)) == "request_unknown", "of what was asked, and nothing else"
    state, warned = step(state, None, c.Tick(), END_NS - 60 * SECOND_NS)
    longer, events = step(state, OWNER, c.AcceptExtension(600), END_NS - 1)
    assert events == [e.OneToOneExtended(ANN, 600, END_NS + 600 * SECOND_NS)]
    assert (longer.epoch, longer.mode) == (state.epoch, Mode.ONE_TO_ONE)
    assert longer.holding(ANN).until_ns == END_NS + 600 * SECOND_NS
    assert not longer.admits(BOB, END_NS)
    _, again = step(longer, None, c.Tick(), END_NS + 540 * SECOND_NS)
    assert warned == [e.TimeWarning(60, END_NS, True)]
    assert again == [e.TimeWarning(60, END_NS + 600 * SECOND_NS, True)], "of the new end, once more"
    _, over = step(longer, None, c.Tick(), END_NS + 600 * SECOND_NS)
    assert over[0] == e.OneToOneEnded(ANN, "time_over", 900 * SECOND_NS)


def test_an_answer_that_comes_with_the_end_or_after_it_adds_nothing() -> None:
    asked = do(RUNNING, ANN, c.AskExtension(300), now_ns=END_NS - 1)
    assert refused(asked, OWNER, c.AcceptExtension(300), now_ns=END_NS) == "request_unknown"
    assert refused(RUNNING, ANN, c.AskExtension(300), now_ns=END_NS) == "mode_conflict"
    _, events = step(asked, None, c.Tick(), END_NS)
    assert events[0] == e.OneToOneEnded(ANN, "time_over", 300 * SECOND_NS)


@pytest.mark.parametrize(
    ("actor", "command", "reason"), [(OWNER, c.DeclineExtension(), "declined"), (ANN, c.CancelExtension(), "cancelled")]
)
def test_either_side_can_leave_the_end_where_it_is(actor: AccountId, command: c.Command, reason: str) -> None:
    asked = do(RUNNING, ANN, c.AskExtension(300))
    after, events = step(asked, actor, command, NOW + 1)
    assert (after, events) == (RUNNING, [e.ExtensionEnded(ANN, 300, reason)])
    assert refused(after, actor, command) == "request_unknown"


def test_half_an_hour_is_the_most_and_a_minute_the_least_and_the_stream_s_own_end_comes_first() -> None:
    for seconds in (59, 1501, 0, -60, True):
        assert refused(RUNNING, ANN, c.AskExtension(seconds)) == "duration_out_of_range"
    full = do(do(RUNNING, ANN, c.AskExtension(1500)), OWNER, c.AcceptExtension(1500))
    assert refused(full, ANN, c.AskExtension(60)) == "duration_out_of_range"
    limited = do(RUNNING, OWNER, c.SetTimeLimit(660))
    assert refused(limited, ANN, c.AskExtension(301)) == "exceeds_time_limit"
    asked = do(limited, ANN, c.AskExtension(300))
    shorter = do(asked, OWNER, c.SetTimeLimit(600))
    assert refused(shorter, OWNER, c.AcceptExtension(300)) == "exceeds_time_limit"
    for who in (OWNER, BOB):
        assert refused(RUNNING, who, c.AskExtension(60)) == "mode_conflict"
    assert refused(in_one_to_one(), ANN, c.AskExtension(60)) == "mode_conflict", "its clock has not run yet"


def test_while_the_clock_stands_an_extension_is_time_that_is_left() -> None:
    paused = do(RUNNING, None, c.MediaStops(), now_ns=NOW + 100 * SECOND_NS)
    longer = do(do(paused, ANN, c.AskExtension(60)), OWNER, c.AcceptExtension(60))
    assert deadline_ns(longer) == deadline_ns(paused), "the pause may last no longer"
    _, events = step(longer, None, c.MediaFlows(), NOW + 110 * SECOND_NS)
    assert events == [e.OneToOneStarted(ANN, NOW + (110 + 260) * SECOND_NS)]


def test_a_time_limit_can_be_set_extended_and_cleared_and_warns_on_the_way() -> None:
    state = do(room(), OWNER, c.SetTimeLimit(400))
    warned = []
    for _ in range(3):
        at = deadline_ns(state)
        state, events = step(state, None, c.Tick(), at)
        warned += [event.remaining_s for event in events if isinstance(event, e.TimeWarning)]
    assert warned == [300, 60, 10]
    assert deadline_ns(do(state, OWNER, c.SetTimeLimit(None))) == FOREVER
    assert not state.admits(ANN, NOW + 400 * SECOND_NS)
    _, events = step(state, None, c.Tick(), NOW + 400 * SECOND_NS)
    assert events == [e.StreamEnded("time_limit")]


@pytest.mark.parametrize("seconds", [0, -5, 59, 7 * 86_400 + 1, True])
def test_a_senseless_time_limit_is_refused(seconds: int) -> None:
    assert refused(room(), OWNER, c.SetTimeLimit(seconds)) == "invalid_time_limit"


def test_a_one_to_one_never_outlives_the_streams_time_limit() -> None:
    asked = do(do(room(), OWNER, c.SetTimeLimit(600)), ANN, c.RequestOneToOne())
    assert refused(asked, OWNER, c.AcceptOneToOne(ANN, 600)) == "exceeds_time_limit"
    assert refused(do(in_one_to_one(300), None, c.MediaFlows()), OWNER, c.SetTimeLimit(60)) == "exceeds_time_limit"


def test_an_ended_stream_admits_nobody_and_takes_no_command() -> None:
    state, events = step(in_one_to_one(), OWNER, c.EndStream(), NOW)
    assert [type(event) for event in events][0 :: len(events) - 1] == [e.OneToOneEnded, e.StreamEnded]
    assert not state.admits(ANN, NOW)
    assert refused(state, OWNER, c.SetTimeLimit(60)) == "stream_ended"


def test_a_stream_that_ends_in_a_one_to_one_grants_nobody_anything() -> None:
    state, events = step(do(in_one_to_one(), BOB, c.RequestOneToOne()), OWNER, c.EndStream(), NOW)
    assert events == [
        e.OneToOneWithdrawn(BOB, "stream_ended"),
        e.OneToOneEnded(ANN, "stream_ended", 0),
        e.StreamEnded("ended_by_streamer"),
    ]
    assert state.mode is Mode.PUBLIC


def test_what_is_over_is_over_for_a_command_that_comes_before_the_tick() -> None:
    limited = do(room(), OWNER, c.SetTimeLimit(60))
    assert refused(limited, OWNER, c.SetTimeLimit(None), NOW + 60 * SECOND_NS) == "stream_ended"
    running = do(in_one_to_one(300), None, c.MediaFlows())
    after, events = step(running, OWNER, c.GrantTicket(BOB), NOW + 300 * SECOND_NS)
    assert events[0] == e.OneToOneEnded(ANN, "time_over", 300 * SECOND_NS)
    assert (after.mode, after.tickets) == (Mode.PUBLIC, {BOB})
    assert refused(running, OWNER, c.EndOneToOne(), NOW + 300 * SECOND_NS) == "mode_conflict"


def test_who_waits_is_told_when_it_is_for_something_else() -> None:
    state = in_one_to_one()
    after, events = step(state, OWNER, c.Eject(BOB), NOW)
    assert events == [e.AccessRevoked(BOB, after.epoch, "ejected", ())]
    ended, events = step(after, OWNER, c.EndOneToOne(), NOW)
    assert [event.account for event in events if isinstance(event, e.AccessRevoked)] == []
    private = replace(state, entitled=frozenset({BOB}), one_to_one=replace(state.one_to_one, former=Mode.PRIVATE))
    ended, events = step(private, OWNER, c.EndOneToOne(), NOW)
    assert events[2:] == [
        e.AccessRevoked(ANN, ended.epoch, "not_entitled", ("entitlement",)),
        e.AccessGranted(BOB, ended.epoch, "streamer"),
        e.AccessRevoked(CAT, ended.epoch, "not_entitled", ("entitlement",)),
    ]


def test_a_request_that_can_no_longer_be_granted_is_taken_back() -> None:
    asked = do(do(room(entitled=frozenset({BOB})), ANN, c.RequestOneToOne()), BOB, c.RequestOneToOne())
    prepared = do(asked, OWNER, c.PrepareMode(Mode.PRIVATE, "t"))
    after, events = step(prepared, OWNER, c.ConfirmMode("t"), NOW)
    assert after.requests == (Request(BOB),)
    assert events[-1] == e.OneToOneWithdrawn(ANN, "access_revoked")
    prepared = do(after, OWNER, c.PrepareMode(Mode.PAID, "u"))
    after, events = step(prepared, OWNER, c.ConfirmMode("u", allow_empty=True), NOW)
    assert after.requests == ()
    assert events[-1] == e.OneToOneWithdrawn(BOB, "mode_changed")


def test_who_is_not_there_asks_for_nothing() -> None:
    assert refused(room(present=frozenset()), ANN, c.RequestOneToOne()) == "not_present"


people = st.sampled_from([OWNER, ANN, BOB, CAT])
tokens = st.sampled_from(["t1", "t2"])
seats = st.sampled_from(["bought", "paying", "none"])
inputs = st.one_of(
    st.builds(c.Join),
    st.builds(c.Leave),
    st.builds(c.PrepareMode, st.sampled_from(list(Mode)), tokens),
    st.builds(c.ConfirmMode, tokens, st.booleans(), st.sampled_from([0, 0, 30])),
    st.builds(c.CallOffMode),
    st.builds(
        lambda account, seat: c.Seated(((account, seat),)), people, st.sampled_from(["bought", "paying", "none"])
    ),
    st.builds(c.SetTimeLimit, st.one_of(st.none(), st.integers(0, 5000))),
    st.builds(c.GrantTicket, people),
    st.builds(c.RevokeTicket, people),
    st.builds(c.Entitle, people),
    st.builds(c.Disentitle, people),
    st.builds(c.Eject, people),
    st.builds(c.Readmit, people),
    st.builds(c.RequestOneToOne),
    st.builds(c.CancelOneToOne),
    st.builds(c.DeclineOneToOne, people),
    st.builds(c.AcceptOneToOne, people, st.integers(299, 1801)),
    st.builds(c.AcceptOneToOne, people, st.just(300), st.builds(c.Manner, st.integers(1, 60), st.booleans())),
    st.builds(c.ConfirmOneToOne),
    st.builds(c.AskExtension, st.sampled_from([59, 60, 300])),
    st.builds(c.CancelExtension),
    st.builds(c.AcceptExtension, st.sampled_from([60, 300])),
    st.builds(c.DeclineExtension),
    st.builds(c.EndOneToOne),
    st.builds(c.MediaFlows),
    st.builds(c.MediaStops),
    st.builds(c.Tick),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(people, inputs, st.integers(0, 400 * SECOND_NS)), max_size=40))
def test_after_any_sequence_the_right_people_watch_and_are_told(
    sequence: list[tuple[AccountId, c.Command | c.Fact, int]],
) -> None:
    state, now_ns = room(), NOW
    for actor, item, passed_ns in sequence:
        now_ns += passed_ns
        if deadline_ns(state) <= now_ns:
            state, _ = step(state, None, c.Tick(), now_ns)
        before = state
        may_before = {account for account in before.present if before.admits(account, now_ns)}
        try:
            state, events = step(state, None if isinstance(item, c.Fact) else actor, item, now_ns)
        except Refused:
            assert state is before
            continue
        assert state.epoch - before.epoch in (0, 1, 2)
        may_after = {account for account in state.present if state.admits(account, now_ns)}
        told_in = {event.account for event in events if isinstance(event, e.AccessGranted)}
        told_out = {event.account for event in events if isinstance(event, e.AccessRevoked)}
        if state.ended is None and not isinstance(item, c.Join | c.Leave):
            assert may_after - may_before <= told_in
            assert may_before - may_after <= told_out
        if state.epoch == before.epoch and not isinstance(item, c.Join | c.Leave | c.MediaFlows | c.MediaStops):
            assert may_after == may_before or state.until_ns != before.until_ns
        if state.mode is Mode.ONE_TO_ONE and state.ended is None:
            assert state.one_to_one is not None
            assert may_after <= {state.one_to_one.guest}
            assert state.one_to_one.seconds <= 1800
        offered = [waiting.offered is not None for waiting in state.requests]
        assert not any(offered[1:]), "one at a time, and that is the first"
        assert not any(offered) or state.mode in (Mode.PUBLIC, Mode.PRIVATE)
        assert not may_after & state.ejected
