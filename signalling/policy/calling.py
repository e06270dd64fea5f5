"""Begins and ends a room's one-to-one, with what that means for who may watch. Pure."""

from __future__ import annotations

from dataclasses import replace

from signalling.identifiers import AccountId, Mode
from signalling.policy import admitting, one_to_one
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import Result
from signalling.policy.state import RoomState
from signalling.refusals import Refused


def accept(state: RoomState, given: c.AcceptOneToOne, now_ns: int) -> Result:
    """Take a viewer into a one-to-one, or offer it where that one is waited for; raises Refused."""
    if state.announced is not None:
        raise Refused("mode_conflict", "a switch of the mode is on its way: call it off first")
    if given.manner.confirm_s:
        return one_to_one.offer(state, given, now_ns)
    session = one_to_one.begin(state, given, now_ns)
    rest = tuple(other for other in state.requests if other.account != given.account)
    begun = replace(state, mode=Mode.ONE_TO_ONE, one_to_one=session, requests=rest)
    after, told = admitting.access(state, lambda _: begun, now_ns)
    switched = e.ModeSwitched(Mode.ONE_TO_ONE, after.epoch, ())
    return after, [switched, e.OneToOneAccepted(given.account, session.until_ns, session.request), *told]


def come(state: RoomState, account: AccountId, now_ns: int) -> Result:
    """Begin the one-to-one that was offered; raises Refused."""
    if state.one_to_one is not None and account == state.one_to_one.guest:
        return state, []
    return accept(state, one_to_one.confirmed(state, account, now_ns), now_ns)


def hang_up(state: RoomState, account: AccountId, now_ns: int) -> Result:
    """End the one-to-one for one of the two; raises Refused."""
    session = state.one_to_one
    if session is None:
        raise Refused("mode_conflict", "no one-to-one is running")
    if account not in (state.owner, session.guest):
        raise Refused("not_the_owner", "only the two in a one-to-one can end it")
    return finish(state, "ended_by_streamer" if account == state.owner else "ended_by_guest", now_ns)


def release(state: RoomState, account: AccountId, reason: str, now_ns: int) -> Result:
    """End the one-to-one of a guest that must go."""
    if state.one_to_one is not None and account == state.one_to_one.guest:
        return finish(state, reason, now_ns)
    return state, []


def finish(state: RoomState, reason: str, now_ns: int) -> Result:
    """Return to the former mode, with its rules as they are now."""
    session = state.one_to_one
    assert session is not None
    # Seen from within the one-to-one: a guest who may go on watching is not told to have been let in.
    within_ns = min(now_ns, session.until_ns - 1)
    after, told = admitting.access(state, lambda s: replace(s, mode=session.former, one_to_one=None), within_ns)
    over = one_to_one.ended(session, reason, now_ns)
    return after, [over, e.ModeSwitched(session.former, after.epoch, ()), *told]
