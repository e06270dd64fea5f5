"""How a case goes on: whatever is asked in whatever order, nobody decides twice, in his own case, or on an appeal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from server.review.cases import (
    Case,
    Command,
    Decide,
    Lift,
    Object,
    Outcome,
    Release,
    Repay,
    RunOut,
    Sanction,
    Second,
    State,
    Strike,
    Take,
    TakeDown,
    concerns_respondent,
    consequences,
    step,
)
from signalling.refusals import Refused

DAY_MS = 86_400_000
APPEAL_MS = 10 * DAY_MS
OPEN = Case("c", "bob", "ann", opened_at=0)
NO = Outcome("not_upheld", "nothing was wrong", "nothing was wrong")
BACK = Outcome("upheld", "you get it back", "it goes back", refund_bps=10_000)
SUSPENDED = Outcome("upheld", "thank you", "not for a day", sanction="suspension", suspend_s=86_400)
DOWN = Outcome("upheld", "it is gone", "it is taken down", takedown=True)
FALSE = Outcome("false_report", "it was false", "", strike=True)
WHO = st.sampled_from(["mod1", "mod2", "mod3", "ann", "bob"])
OUTCOMES = st.sampled_from([NO, BACK, SUSPENDED, DOWN, FALSE])
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Take, WHO),
    st.builds(Release, WHO),
    st.builds(Decide, WHO, OUTCOMES, st.booleans(), st.just(APPEAL_MS)),
    st.builds(Second, WHO, st.booleans(), st.just(APPEAL_MS)),
    st.builds(Object, WHO, st.just("no")),
    st.just(RunOut()),
)


def refused(case: Case, command: Command, now_ms: int = 1) -> str:
    with pytest.raises(Refused) as caught:
        step(case, command, now_ms)
    return caught.value.code


def decided(outcome: Outcome, by: str = "mod1", case: Case = OPEN) -> Case:
    return step(step(case, Take(by), 1), Decide(by, outcome, needs_second=False, appeal_ms=APPEAL_MS), 2)


@given(commands=st.lists(st.tuples(COMMANDS, st.integers(0, 20)), max_size=25))
def test_every_order_decides_at_most_twice_and_never_by_a_side_or_one_who_had_part(
    commands: list[tuple[Command, int]],
) -> None:
    case, now_ms, effects = OPEN, 0, []
    for command, days in commands:
        now_ms += days * DAY_MS
        before = case
        try:
            case = step(case, command, now_ms)
        except Refused:
            continue
        effects += consequences(before, case)
        assert before.state is not State.CLOSED, "what is closed stays so"
        assert case.reviewer not in ("ann", "bob")
        assert case.proposal is None or case.is_in_hand
    assert sum(isinstance(effect, Repay) for effect in effects) == len(case.decisions) <= 2
    assert len(case.appeals) <= 1
    names = [name for each in case.decisions for name in (each.by, each.seconded_by) if name is not None]
    assert not {"ann", "bob"} & set(names)
    assert len(names) == len(set(names)), "who had part in a decision has none in another"
    assert (case.state is State.CLOSED) >= (len(case.decisions) == 2)


def test_what_moves_much_money_waits_for_another_reviewer_who_may_refuse_it() -> None:
    taken = step(OPEN, Take("mod1"), 1)
    waiting = step(taken, Decide("mod1", BACK, needs_second=True, appeal_ms=APPEAL_MS), 2)
    assert (waiting.state, consequences(taken, waiting)) == (State.TAKEN, [])
    assert refused(waiting, Second("mod1", True, APPEAL_MS)) == "other_reviewer"
    assert refused(waiting, Second("bob", True, APPEAL_MS)) == "own_case"
    assert refused(waiting, Decide("mod1", NO, False, APPEAL_MS)) == "case_conflict"
    assert step(waiting, Second("mod2", False, APPEAL_MS), 3) == taken
    done = step(waiting, Second("mod2", True, APPEAL_MS), 3)
    assert (done.state, done.decisions[0].seconded_by, done.appeal_until) == (State.DECIDED, "mod2", 3 + APPEAL_MS)
    assert consequences(waiting, done) == [Repay(10_000)]
    assert step(step(waiting, Release("mod1"), 3), Take("mod2"), 4).proposal is None


def test_each_side_may_appeal_once_in_time_and_somebody_else_decides() -> None:
    case = decided(NO)
    assert refused(case, Object("eve", "no"), 3) == "appeal_too_late"
    assert refused(case, Object("bob", "no"), 2 + APPEAL_MS) == "appeal_too_late"
    assert refused(OPEN, Object("bob", "no")) == "case_conflict"
    appealed = step(case, Object("bob", "no"), 3)
    assert appealed.state is State.APPEALED
    assert refused(appealed, Take("mod1")) == "other_reviewer"
    assert refused(appealed, RunOut(), 2 + APPEAL_MS) == "case_conflict"
    final = decided(BACK, "mod2", appealed)
    assert (final.state, len(final.decisions)) == (State.CLOSED, 2)
    assert refused(final, Object("ann", "no"), 4) == "case_conflict"
    assert consequences(appealed, step(appealed, Take("mod2"), 1)) == []


def test_a_decision_stands_when_nobody_appealed_in_time() -> None:
    case = decided(NO)
    assert refused(case, RunOut(), 1 + APPEAL_MS) == "case_conflict"
    assert step(case, RunOut(), 2 + APPEAL_MS).state is State.CLOSED


def test_what_follows_is_on_the_right_side_and_an_appeal_takes_the_former_back() -> None:
    first = decided(SUSPENDED)
    before = step(OPEN, Take("mod1"), 1)
    assert consequences(before, first) == [Repay(0), Sanction("ann", 2 + DAY_MS)]
    appealed = step(first, Object("ann", "no"), 3)
    assert consequences(appealed, decided(FALSE, "mod2", appealed)) == [Repay(0), Lift(), Strike("bob")]
    appealed = step(decided(DOWN), Object("ann", "no"), 3)
    assert consequences(before, decided(DOWN)) == [Repay(0), TakeDown()]
    assert consequences(appealed, decided(NO, "mod2", appealed)) == [Repay(0), Lift()]
    banned = replace(SUSPENDED, sanction="ban", suspend_s=0)
    assert consequences(before, decided(banned)) == [Repay(0), Sanction("ann", None)]


@pytest.mark.parametrize(
    ("outcome", "values"),
    [
        (SUSPENDED, {"suspend_s": 0}),
        (NO, {"suspend_s": 60}),
        (NO, {"strike": True}),
        (FALSE, {"strike": False}),
    ],
)
def test_an_outcome_that_contradicts_itself_is_refused(outcome: Outcome, values: dict[str, Any]) -> None:
    taken = step(OPEN, Take("mod1"), 1)
    assert refused(taken, Decide("mod1", replace(outcome, **values), False, APPEAL_MS)) == "invalid_outcome"


def test_nobody_is_sanctioned_where_nobody_is_and_of_nothing_nobody_is_accused() -> None:
    nobody = step(replace(OPEN, respondent=None), Take("mod1"), 1)
    for outcome in (SUSPENDED, DOWN):
        assert refused(nobody, Decide("mod1", outcome, False, APPEAL_MS)) == "invalid_outcome"
    assert not any(concerns_respondent(decided(outcome)) for outcome in (NO, FALSE))
    assert all(concerns_respondent(decided(outcome)) for outcome in (BACK, SUSPENDED, DOWN))
