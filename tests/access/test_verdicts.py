"""What a room makes of verdicts: it cuts those they concern and nobody else, tells once, and lets time do the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from media.forwarding.admission import Grant
from signalling.identifiers import AccountId, Mode
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.state import OneToOne, Request, RoomState
from signalling.policy.step import step
from signalling.policy.verdicts import Verdict
from signalling.refusals import Refused

OWNER, ANN, BOB = AccountId("owner"), AccountId("ann"), AccountId("bob")
NOW = 10**12
FOLLOWS, OUT = Verdict(via="follows"), Verdict()


def private(**values: object) -> RoomState:
    state = RoomState(OWNER, mode=Mode.PRIVATE, **values)  # type: ignore[arg-type]
    for account in (ANN, BOB):
        state, _ = step(state, account, c.Join(FOLLOWS), NOW)
    return state


def test_only_whom_a_verdict_concerns_is_cut_and_told_and_all_of_a_batch_in_one_epoch() -> None:
    state = private()
    after, events = step(state, None, c.Judged(((ANN, OUT),)), NOW)
    assert events == [e.AccessRevoked(ANN, state.epoch + 1, "not_entitled", ("entitlement",))]
    assert after.admits(BOB, NOW)
    assert not after.admits(ANN, NOW)
    after, events = step(after, None, c.Judged(((BOB, OUT), (ANN, FOLLOWS))), NOW)
    assert events == [
        e.AccessGranted(ANN, state.epoch + 2, "follows"),
        e.AccessRevoked(BOB, state.epoch + 2, "not_entitled", ("entitlement",)),
    ]


def test_a_verdict_that_changes_no_right_changes_no_epoch() -> None:
    state = private()
    after, events = step(state, None, c.Judged(((ANN, Verdict(via="sub_tier")),)), NOW)
    assert (events, after.epoch) == ([], state.epoch)


def test_what_lapses_lapses_by_itself_and_is_told_when_it_is_judged() -> None:
    state = private()
    state, _ = step(state, None, c.Judged(((ANN, Verdict(via="sub_tier", via_until_ns=NOW + 5)),)), NOW)
    assert state.admits(ANN, NOW + 4)
    assert not state.admits(ANN, NOW + 5)
    holding = state.holding(ANN)
    assert (holding.holds & Grant.ENTITLED, holding.until_ns, holding.keeps) == (Grant.ENTITLED, NOW + 5, Grant.WELCOME)
    after, events = step(state, None, c.Judged(((ANN, OUT),)), NOW + 9)
    assert events == [e.AccessRevoked(ANN, state.epoch + 1, "not_entitled", ("entitlement",))]
    assert step(after, None, c.Judged(((ANN, OUT),)), NOW + 10) == (after, [])


def test_a_proof_that_lapses_ends_the_welcome_itself() -> None:
    state = RoomState(OWNER)
    state, _ = step(state, ANN, c.Join(Verdict(welcome_until_ns=NOW + 5)), NOW)
    assert state.admits(ANN, NOW + 4)
    assert not state.admits(ANN, NOW + 5)
    assert state.holding(ANN).keeps == 0


@pytest.mark.parametrize("mode", [Mode.PUBLIC, Mode.PRIVATE])
def test_a_proof_ends_the_welcome_also_when_a_subscription_lapses_before_it(mode: Mode) -> None:
    verdict = Verdict(via="sub_tier", via_until_ns=NOW + 3, welcome_until_ns=NOW + 5)
    state = RoomState(OWNER, mode=mode).supposing(ANN, verdict)
    assert [state.admits(ANN, NOW + later) for later in (2, 3, 4, 5)] == [True, *[mode is Mode.PUBLIC] * 2, False]


@pytest.mark.parametrize("mode", [Mode.PUBLIC, Mode.PRIVATE, Mode.PAID])
def test_a_denial_beats_tickets_choice_and_rules_in_every_mode(mode: Mode) -> None:
    state = RoomState(OWNER, mode=mode, tickets=frozenset({ANN}), entitled=frozenset({ANN}))
    state, _ = step(state, ANN, c.Join(FOLLOWS), NOW)
    assert state.admits(ANN, NOW)
    denied, events = step(state, None, c.Judged(((ANN, Verdict(via="follows", denied="kyf_required")),)), NOW)
    assert events == [e.AccessRevoked(ANN, state.epoch + 1, "kyf_required", ())]
    hidden, events = step(state, None, c.Hidden(ANN), NOW)
    assert events == [e.AccessRevoked(ANN, state.epoch + 1, "stream_unknown", ())]
    for after in (denied, hidden):
        assert not after.admits(ANN, NOW)
        assert not after.hears(ANN)


def test_nobody_joins_a_stream_that_is_hidden_from_him() -> None:
    state, _ = step(RoomState(OWNER), None, c.Hidden(ANN), NOW)
    with pytest.raises(Refused, match="stream_unknown"):
        step(state, ANN, c.Join(), NOW)
    state, _ = step(state, None, c.Unhidden(ANN), NOW)
    assert step(state, ANN, c.Join(), NOW)[0].present == {ANN}


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (c.Hidden(ANN), "guest_ejected"),
        (c.Judged(((ANN, Verdict(denied="kyf_required")),)), "guest_denied"),
    ],
)
def test_a_guest_who_is_denied_ends_the_one_to_one_and_a_wait_for_one(fact: c.Fact, reason: str) -> None:
    session = OneToOne(ANN, Mode.PRIVATE, 300, 300, 60, NOW + 100, running_since_ns=NOW - 7)
    state = replace(private(), mode=Mode.ONE_TO_ONE, one_to_one=session)
    after, events = step(state, None, fact, NOW)
    assert events[0] == e.OneToOneEnded(ANN, reason, 7)
    assert (after.mode, after.one_to_one) == (Mode.PRIVATE, None)
    waiting = replace(private(), requests=(Request(ANN),))
    after, events = step(waiting, None, fact, NOW)
    assert e.OneToOneWithdrawn(ANN, "access_revoked") in events
    assert after.requests == ()


def test_a_streamer_who_is_denied_streams_no_more() -> None:
    after, events = step(private(), None, c.Judged(((OWNER, Verdict(denied="suspended")),)), NOW)
    assert after.ended == "suspended"
    assert events == [e.StreamEnded("suspended")]


def test_of_those_who_left_nothing_is_known_any_more() -> None:
    state, _ = step(private(), ANN, c.Leave(), NOW)
    assert set(state.verdicts) == {BOB}
    after, events = step(state, None, c.Judged(((ANN, FOLLOWS),)), NOW)
    assert (set(after.verdicts), events) == ({BOB}, [])
