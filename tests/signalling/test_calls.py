"""Calls as values: who is rung and let in, what time does, and how each ends; the same in whatever order it comes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalling.calls import commands as c
from signalling.calls.policy import ALONE_NS, HOLD_NS, JOIN_NS, RING_NS, begin, deadline_ns, step
from signalling.calls.state import MAX_IN_CALL, SECOND_NS, Call, CallId
from signalling.identifiers import AccountId, StreamId
from signalling.messenger.model import ConversationId
from signalling.refusals import Refused

ANN, BOB, EVE = AccountId("ann"), AccountId("bob"), AccountId("eve")
NOW = 1_000 * SECOND_NS


def ring(*others: AccountId, kind: str = "direct", video: bool = False) -> Call:
    call = Call(CallId("call_1"), ConversationId("c_1"), kind, ANN, video, {})  # type: ignore[arg-type]
    return begin(call, others, "telephone", NOW)


def met(*others: AccountId, kind: str = "direct", video: bool = False) -> Call:
    call = ring(*others, kind=kind, video=video)
    for other in others:
        call = step(call, other, c.Answer("laptop"), NOW)
    for account in (ANN, *others):
        call = step(call, account, c.Come(), NOW)
    return call


def refusal(call: Call, actor: AccountId, given: c.Command) -> str:
    with pytest.raises(Refused) as refused:
        step(call, actor, given, NOW)
    return refused.value.code


def test_a_call_is_answered_once_and_counts_from_when_both_are_in_it() -> None:
    call = ring(BOB)
    assert (call.state, call.active, call.rung) == ("ringing", {ANN}, {BOB})
    call = step(call, BOB, c.Answer("laptop"), NOW)
    assert (call.state, call.active, call.rung) == ("running", {ANN, BOB}, frozenset())
    assert step(call, BOB, c.Answer("laptop"), NOW) == call
    assert refusal(call, BOB, c.Answer("telephone")) == "answered_elsewhere"
    assert refusal(call, BOB, c.Decline()) == "answered_elsewhere"
    assert refusal(call, EVE, c.Answer("laptop")) == "call_unknown"
    call = step(call, ANN, c.Come(), NOW)
    call = step(call, BOB, c.Come(), NOW + SECOND_NS)
    call = step(call, ANN, c.HangUp(), NOW + 61 * SECOND_NS)
    assert (call.ended, call.seconds, call.active) == ("ended", 60, frozenset())
    assert step(call, BOB, c.HangUp(), NOW) == call
    assert refusal(call, BOB, c.Answer("laptop")) == "call_ended"


@pytest.mark.parametrize(
    ("actor", "given", "reason"),
    [
        (BOB, c.Decline(), "declined"),
        (BOB, c.HangUp(), "declined"),
        (BOB, c.Busy(), "busy"),
        (ANN, c.HangUp(), "cancelled"),
        (ANN, c.Part(BOB), "cancelled"),
        (BOB, c.Part(ANN), "declined"),
        (BOB, c.Remove(), "declined"),
    ],
    ids=["declined", "hung up", "busy", "cancelled", "caller blocks", "callee blocks", "callee is removed"],
)
def test_a_ringing_call_ends_as(actor: AccountId, given: c.Command | c.Fact, reason: str) -> None:
    assert step(ring(BOB), actor, given, NOW).ended == reason


def test_nobody_is_rung_for_longer_than_a_minute_and_a_half() -> None:
    call = ring(BOB)
    assert deadline_ns(call) == NOW + RING_NS
    assert step(call, None, c.Tick(), NOW + RING_NS - 1) == call
    assert step(call, None, c.Tick(), NOW + RING_NS).ended == "missed"
    assert step(call, BOB, c.Answer("laptop"), NOW + RING_NS - 1).state == "running"
    with pytest.raises(Refused, match="call_ended"):
        step(step(call, None, c.Tick(), NOW + RING_NS), BOB, c.Answer("laptop"), NOW + RING_NS)


@pytest.mark.parametrize("comes", [ANN, BOB])
def test_who_never_connects_ends_the_call(comes: AccountId) -> None:
    call = step(ring(BOB), BOB, c.Answer("laptop"), NOW)
    call = step(call, comes, c.Come(), NOW)
    assert step(call, None, c.Tick(), NOW + JOIN_NS).ended == "connection_lost"


def test_who_is_put_out_is_told_of_it_and_of_nothing_afterwards() -> None:
    call = step(met(BOB, EVE, kind="group"), EVE, c.Remove(), NOW)
    assert call.parties[EVE].why == "removed"
    assert call.audience == {ANN, BOB}
    assert replace(ring(BOB), unaware=frozenset({BOB})).audience == {ANN}


def test_a_lost_connection_is_waited_for_and_another_device_may_go_on() -> None:
    call = step(met(BOB), BOB, c.Lose(), NOW)
    assert (call.parties[BOB].stage, deadline_ns(call)) == ("lost", NOW + HOLD_NS)
    back = step(step(call, BOB, c.Answer("telephone"), NOW), BOB, c.Come(), NOW)
    assert (back.parties[BOB].stage, back.parties[BOB].device) == ("in", "telephone")
    over = step(call, None, c.Tick(), NOW + HOLD_NS)
    assert (over.ended, over.seconds) == ("connection_lost", HOLD_NS // SECOND_NS)


def test_pictures_are_agreed_on_by_both() -> None:
    call = met(BOB)
    asked = step(call, ANN, c.AskVideo(), NOW)
    assert (asked.asked, asked.video) == (ANN, False)
    assert refusal(asked, ANN, c.AnswerVideo(True)) == "request_unknown"
    assert step(asked, ANN, c.AnswerVideo(False), NOW).asked is None
    assert not step(asked, BOB, c.AnswerVideo(False), NOW).video
    agreed = step(asked, BOB, c.AnswerVideo(True), NOW)
    assert (agreed.asked, agreed.video) == (None, True)
    assert step(asked, BOB, c.AskVideo(), NOW).video  # both want it
    assert refusal(call, BOB, c.AnswerVideo(True)) == "request_unknown"
    assert refusal(ring(BOB), BOB, c.AskVideo()) == "not_in_call"
    assert step(met(BOB, EVE, kind="group"), BOB, c.AskVideo(), NOW).video


def test_only_who_is_in_it_sends_and_hears_and_nobody_himself() -> None:
    call = ring(BOB)
    assert not call.hears(ANN, BOB)
    assert not call.sends(BOB)
    call = met(BOB)
    assert call.hears(ANN, BOB)
    assert call.hears(BOB, ANN)
    assert not call.hears(ANN, ANN)
    assert not call.hears(EVE, ANN)
    ended = step(call, ANN, c.HangUp(), NOW)
    assert not ended.sends(BOB)


def test_a_block_ends_a_call_of_two_and_parts_two_in_a_group() -> None:
    assert step(met(BOB), BOB, c.Part(ANN), NOW).ended == "ended"
    call = step(met(BOB, EVE, kind="group"), BOB, c.Part(ANN), NOW)
    assert call.ended is None
    assert not call.hears(ANN, BOB)
    assert not call.hears(BOB, ANN)
    assert call.hears(EVE, ANN)
    later = step(met(BOB, kind="group"), EVE, c.Answer("laptop", frozenset({ANN})), NOW)
    assert (later.hears(EVE, ANN), later.hears(EVE, BOB)) == (False, True)


def test_a_group_goes_on_without_the_caller_and_ends_when_one_is_left_alone() -> None:
    call = step(met(BOB, EVE, kind="group"), ANN, c.HangUp(), NOW)
    assert (call.ended, call.active) == (None, {BOB, EVE})
    call = step(call, ANN, c.Answer("telephone"), NOW)
    for account in (ANN, BOB):
        call = step(call, account, c.HangUp(), NOW)
    assert deadline_ns(call) == NOW + ALONE_NS
    assert step(call, BOB, c.Answer("laptop"), NOW).alone_until_ns > deadline_ns(call)
    assert step(call, None, c.Tick(), NOW + ALONE_NS).ended == "ended"
    assert step(call, EVE, c.HangUp(), NOW).ended == "ended"


def test_a_group_that_nobody_answers_is_missed() -> None:
    call = step(ring(BOB, EVE, kind="group"), BOB, c.Decline(), NOW)
    assert call.state == "ringing"
    assert step(call, None, c.Tick(), NOW + RING_NS).ended == "missed"
    assert step(call, ANN, c.HangUp(), NOW).ended == "cancelled"


def test_as_many_are_in_a_call_as_can_be() -> None:
    others = [AccountId(f"p{number}") for number in range(MAX_IN_CALL)]
    call = met(*others[:-1], kind="group")
    assert refusal(call, others[-1], c.Answer("laptop")) == "call_full"
    call = step(call, others[0], c.HangUp(), NOW)
    assert others[-1] in step(call, others[-1], c.Answer("laptop"), NOW).active


def test_what_became_a_stream_sends_nothing_until_that_has_ended() -> None:
    call = step(met(BOB, EVE, kind="group"), ANN, c.BecomeLive(StreamId("s_1")), NOW)
    assert call.state == "live"
    assert not call.sends(ANN)
    assert not call.hears(BOB, ANN)
    assert step(call, BOB, c.Lose(), NOW) == call
    back = step(call, None, c.Resume(), NOW)
    assert (back.state, back.parties[BOB].stage, back.sends(BOB)) == ("running", "lost", True)
    assert step(back, None, c.Tick(), NOW + HOLD_NS).ended == "ended"
    assert refusal(met(BOB, kind="group"), EVE, c.BecomeLive(StreamId("s_1"))) == "not_in_call"


GIVEN = st.sampled_from(
    [
        *(c.Answer("laptop"), c.Answer("telephone"), c.Decline(), c.HangUp(), c.AskVideo(), c.AnswerVideo(True)),
        *(c.Come(), c.Lose(), c.Remove(), c.Part(ANN), c.Busy(), c.BecomeLive(StreamId("s")), c.Resume(), c.Tick()),
    ]
)


@given(
    st.sampled_from(["direct", "group"]),
    st.lists(st.tuples(st.sampled_from([ANN, BOB, EVE]), GIVEN, st.integers(0, 100)), max_size=40),
)
def test_whatever_comes_a_call_ends_by_itself_and_what_has_ended_stays_so(
    kind: str, coming: list[tuple[AccountId, c.Command | c.Fact, int]]
) -> None:
    call, now_ns = ring(BOB, *([EVE] if kind == "group" else []), kind=kind), NOW
    for actor, wanted, seconds in coming:
        now_ns += seconds * SECOND_NS
        before = call
        try:
            call = step(call, actor, wanted, now_ns)
        except Refused:
            continue
        assert len(call.active) <= MAX_IN_CALL
        assert call.ended is not None or call.active
        assert not (before.ended and call != before)
        if kind == "direct" and call.ended is None:
            assert all(party.stage != "out" for party in call.parties.values())
            assert EVE not in call.parties
        assert all(not call.sends(account) for account in call.parties if account not in call.active)
    call = replace(call, stream=None)
    for account in (ANN, BOB, EVE):
        call = step(call, account, c.Lose(), now_ns)
    for _ in range(20):
        now_ns = max(now_ns, min(deadline_ns(call), now_ns + RING_NS))
        call = step(call, None, c.Tick(), now_ns)
    assert call.ended is not None
