"""The pure part of making a running one-to-one longer: its guest asks, its streamer agrees, and both may not.

What it costs is held before the room hears of it, and nobody here knows of that. A one-to-one that is over takes what
was asked for with it: nobody is asked to pay for time that can't be given any more.
"""

from __future__ import annotations

from dataclasses import replace

from signalling.identifiers import AccountId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import ONE_TO_ONE_S, ONE_TO_ONE_WARNINGS_S, SECOND_NS, Result, latest_end_ns
from signalling.policy.state import Extension, OneToOne, RoomState
from signalling.refusals import Refused

LEAST_S = 60  # less is over before the streamer has read the question


def ask(state: RoomState, account: AccountId, given: c.AskExtension) -> Result:
    """Ask the streamer for more time; raises Refused."""
    session = _of_guest(state, account)
    if session.request and not given.number:
        raise Refused("payment_required", "there are terms for it: ask over HTTP, with what you agree to")
    if session.extension is not None:
        raise Refused("extension_exists")
    if not session.is_timed:
        raise Refused("mode_conflict", "the one-to-one has not begun yet")
    longest_s = longest(session)
    if isinstance(given.seconds, bool) or not LEAST_S <= given.seconds <= longest_s:
        raise Refused("duration_out_of_range", f"from {LEAST_S} to {longest_s} more seconds, {ONE_TO_ONE_S[1]} in all")
    _check_limit(state, session, given.seconds)
    asked = replace(session, extension=Extension(given.seconds, given.number))
    event = e.ExtensionAsked(session.guest, given.seconds, session.request, given.number)
    return replace(state, one_to_one=asked), [event]


def cancel(state: RoomState, account: AccountId) -> Result:
    """Take back what was asked; raises Refused."""
    _of_guest(state, account)
    return _drop(state, "cancelled")


def fail(state: RoomState, request: str, number: int) -> Result:
    """Take back what was asked under a number, if it is there still."""
    session = state.one_to_one
    if session is None or session.request != request or session.extension is None:
        return state, []
    return _drop(state, "cancelled") if session.extension.number == number else (state, [])


def decline(state: RoomState) -> Result:
    """Refuse what was asked; raises Refused."""
    return _drop(state, "declined")


def agree(state: RoomState, given: c.AcceptExtension, now_ns: int) -> Result:
    """Let the one-to-one be so much longer; raises Refused, as for one that was over before."""
    session, asked = _asked(state)
    if asked.seconds != given.seconds:
        raise Refused("request_unknown", f"what is asked for is {asked.seconds} s")
    _check_limit(state, session, asked.seconds)
    longer = replace(session, seconds=session.seconds + asked.seconds, extension=None)
    more_ns = asked.seconds * SECOND_NS
    if session.running_since_ns is None:
        longer, until_ns = replace(longer, left_ns=session.left_ns + more_ns), None
    else:
        until_ns = session.until_ns + more_ns
        ahead = tuple(s for s in ONE_TO_ONE_WARNINGS_S if now_ns < until_ns - s * SECOND_NS)
        longer = replace(longer, until_ns=until_ns, warnings_s=ahead)
    event = e.OneToOneExtended(session.guest, asked.seconds, until_ns, session.request, asked.number)
    return replace(state, one_to_one=longer), [event]


def longest(session: OneToOne) -> int:
    """Return how many seconds more a one-to-one may last."""
    return ONE_TO_ONE_S[1] - session.seconds


def _drop(state: RoomState, reason: str) -> Result:
    session, asked = _asked(state)
    event = e.ExtensionEnded(session.guest, asked.seconds, reason, session.request, asked.number)
    return replace(state, one_to_one=replace(session, extension=None)), [event]


def _asked(state: RoomState) -> tuple[OneToOne, Extension]:
    session = state.one_to_one
    if session is None or session.extension is None:
        raise Refused("request_unknown", "nobody asks for more time")
    return session, session.extension


def _of_guest(state: RoomState, account: AccountId) -> OneToOne:
    session = state.one_to_one
    if session is None or session.guest != account:
        raise Refused("mode_conflict", "only the guest of a running one-to-one asks for more time")
    return session


def _check_limit(state: RoomState, session: OneToOne, seconds: int) -> None:
    if state.until_ns is not None and latest_end_ns(session) + seconds * SECOND_NS > state.until_ns:
        raise Refused("exceeds_time_limit")
