"""What may become of a request for a paid chat: paid once, or given back, in time and by nobody else's word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.bids.rules import (
    ANSWER_MS,
    CHAT_MS,
    Accept,
    Bid,
    Command,
    Confirm,
    Decline,
    Part,
    RunOut,
    State,
    Withdraw,
    step,
)
from signalling.refusals import Refused

ASKED = Bid("b", "c", "bob", "ann", "USD", 500, 1000, 0, ANSWER_MS)
TAKEN = step(ASKED, Accept(), 1)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from([Accept(), Decline(), Withdraw(), Confirm()]),
    st.builds(RunOut, st.booleans()),
    st.builds(Part, st.booleans(), st.booleans()),
)


def refused(bid: Bid, command: Command, now_ms: int) -> str:
    with pytest.raises(Refused) as caught:
        step(bid, command, now_ms)
    return caught.value.code


@given(commands=st.lists(st.tuples(COMMANDS, st.integers(0, CHAT_MS)), max_size=12))
def test_every_order_ends_once_and_only_what_was_accepted_is_paid(commands: list[tuple[Command, int]]) -> None:
    bid, now_ms, ends = ASKED, 0, 0
    for command, later_ms in commands:
        now_ms += later_ms
        before = bid
        try:
            bid = step(bid, command, now_ms)
        except Refused:
            continue
        assert before.is_open, "what is over stays so"
        ends += not bid.is_open
    assert ends == (not bid.is_open) == (bid.ended_at is not None)
    assert bid.state not in (State.PAID, State.FROZEN) or bid.accepted_at is not None


def test_what_is_not_answered_in_time_goes_back_and_can_no_longer_be_accepted() -> None:
    assert refused(ASKED, RunOut(True), ANSWER_MS - 1) == "bid_closed"
    assert refused(ASKED, Accept(), ANSWER_MS) == "bid_closed"
    assert (step(ASKED, RunOut(True), ANSWER_MS).state, step(ASKED, RunOut(True), ANSWER_MS).reason) == (
        State.RETURNED,
        "expired",
    )


@pytest.mark.parametrize(("written", "state"), [(True, State.PAID), (False, State.RETURNED)])
def test_what_was_accepted_is_paid_in_the_end_where_the_other_has_written(written: bool, state: State) -> None:
    assert refused(TAKEN, RunOut(written), CHAT_MS) == "bid_closed"
    assert step(TAKEN, RunOut(written), 1 + CHAT_MS).state is state


def test_who_bid_withdraws_only_what_was_not_accepted_and_pays_only_what_was() -> None:
    assert step(ASKED, Withdraw(), 5).state is State.RETURNED
    assert refused(TAKEN, Withdraw(), 5) == "bid_closed"
    assert refused(ASKED, Confirm(), 5) == "bid_closed"
    assert step(TAKEN, Confirm(), 5).state is State.PAID
    assert refused(TAKEN, Accept(), 5) == "bid_closed"
    assert [step(bid, Decline(), 5).state for bid in (ASKED, TAKEN)] == [State.RETURNED, State.RETURNED]


@pytest.mark.parametrize("by_host", [True, False])
def test_who_parts_gains_nothing_by_it(by_host: bool) -> None:
    assert step(ASKED, Part(by_host, False), 5).state is State.RETURNED
    assert step(TAKEN, Part(by_host, False), 5).state is State.RETURNED
    assert step(TAKEN, Part(by_host, True), 5).state is (State.FROZEN if by_host else State.PAID)
