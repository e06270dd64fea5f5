"""What the API says of an account's right is what the room would decide."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.access.entitlement import entitlement
from server.access.judging import Judgement
from server.access.rules import NEVER, Finding, Invite, Lacking
from server.access.verdicts import verdict_of
from signalling.identifiers import AccountId, Mode
from signalling.policy.showing import Now
from signalling.policy.state import OneToOne, RoomState

OWNER, ANN, BOB = AccountId("owner"), AccountId("ann"), AccountId("bob")
NOW = 1_800_000_000_000
USUAL = (Mode.PUBLIC, Mode.PRIVATE, Mode.PAID)
TIMES = st.sampled_from([NOW - 1, NOW, NOW + 1, NEVER])
SOME = st.sampled_from([frozenset[AccountId](), frozenset({ANN}), frozenset({BOB})])
FINDINGS = st.one_of(
    st.builds(Finding, st.just(True), st.just("follows"), TIMES), st.just(Finding(False, missing=Lacking(Invite())))
)
JUDGEMENTS = st.builds(Judgement, st.sampled_from([None, "kyf_required"]), TIMES, FINDINGS, st.just(NEVER))
STATES = st.builds(
    RoomState,
    st.sampled_from([OWNER, ANN]),
    st.sampled_from(USUAL),
    tickets=SOME,
    entitled=SOME,
    ejected=SOME,
    best_picture=st.sampled_from(["everyone", "entitled"]),
)


@given(state=STATES, judgement=JUDGEMENTS)
def test_it_agrees_with_the_room(state: RoomState, judgement: Judgement) -> None:
    now = Now(5 * 10**9, NOW)
    told = entitlement(state, ANN, judgement, NOW)
    supposed = state.supposing(ANN, verdict_of(judgement, now))
    assert told.entitled == supposed.admits(ANN, now.ns)
    if told.entitled and told.until is not None:
        assert not supposed.admits(ANN, now.monotonic_of(told.until))
    if judgement.rule.until > NOW:  # one that was judged now has not lapsed
        assert told.best_picture == supposed.gives_best(ANN, now.ns)
    if not told.entitled and told.denied is not None:
        assert told.denied == supposed.refusal(ANN, now.ns)[0]


def test_who_watches_without_the_best_picture_is_told_what_would_help_to_it() -> None:
    missing = Lacking(Invite())
    state = RoomState(OWNER, best_picture="entitled")
    told = entitlement(state, ANN, Judgement(None, NEVER, Finding(False, missing=missing), NEVER), NOW)
    assert (told.entitled, told.best_picture, told.ways) == (True, False, missing)


def test_during_a_one_to_one_it_speaks_of_the_mode_that_returns() -> None:
    state = RoomState(
        OWNER, Mode.ONE_TO_ONE, tickets=frozenset({ANN}), one_to_one=OneToOne(BOB, Mode.PAID, 300, 300, 60, 1)
    )
    told = entitlement(state, ANN, Judgement(None, NEVER, Finding(False), NEVER), NOW)
    assert (told.mode, told.entitled, told.via) == (Mode.PAID, True, "ticket")
