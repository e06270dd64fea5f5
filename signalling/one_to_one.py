"""The pure part of a one-to-one: who asks for it, when its clock runs, and how much of it was delivered.

How it changes who may watch is the policy's; nothing here lets anybody in.
"""

from __future__ import annotations

from dataclasses import replace

from signalling import commands as c
from signalling import events as e
from signalling.identifiers import AccountId, Mode
from signalling.refusals import Refused
from signalling.state import OneToOne, Request, RoomState

SECOND_NS = 1_000_000_000
ONE_TO_ONE_S = (300, 1800)
ONE_TO_ONE_WARNINGS_S = (60, 10)
SETUP_NS = 45 * SECOND_NS  # to allow a camera and connect
PAUSE_NS = 60 * SECOND_NS  # of lost connections, over a whole one-to-one
MAX_REQUESTS = 100  # a streamer does not read a longer list

Result = tuple[RoomState, list[e.Event]]


def request(state: RoomState, wish: Request, now_ns: int) -> Result:
    """Let someone wait for a one-to-one; raises Refused."""
    account = wish.account
    if wish.seconds is not None and not ONE_TO_ONE_S[0] <= wish.seconds <= ONE_TO_ONE_S[1]:
        raise Refused("duration_out_of_range")
    if account == state.owner or state.mode is Mode.PAID:
        raise Refused("mode_conflict", "a one-to-one is asked for by a viewer of a public or private stream")
    if state.asks(account) or state.in_one_to_one(account):
        raise Refused("request_exists")
    if not state.hears(account):
        reason, readmit = state.refusal(account, now_ns)
        raise Refused(reason, readmit=readmit)
    if account not in state.present:
        raise Refused("not_present")
    if len(state.requests) >= MAX_REQUESTS:
        raise Refused("too_many_requests")
    requests = (*state.requests, wish)
    return replace(state, requests=requests), [e.OneToOneRequested(account, wish.seconds, len(requests))]


def withdraw(state: RoomState, account: AccountId, reason: str) -> Result:
    """Take a request out of the line; raises Refused."""
    if not state.asks(account):
        raise Refused("request_unknown")
    rest = tuple(other for other in state.requests if other.account != account)
    return replace(state, requests=rest), [e.OneToOneWithdrawn(account, reason)]


def begin(state: RoomState, given: c.AcceptOneToOne, now_ns: int) -> OneToOne:
    """Return the one-to-one that an accepted request becomes, to be set up; raises Refused."""
    if state.one_to_one is not None:
        raise Refused("already_in_one_to_one")
    if state.mode not in (Mode.PUBLIC, Mode.PRIVATE):
        raise Refused("mode_conflict", "a one-to-one starts from a public or private stream")
    if isinstance(given.seconds, bool) or not ONE_TO_ONE_S[0] <= given.seconds <= ONE_TO_ONE_S[1]:
        raise Refused("duration_out_of_range")
    if not state.asks(given.account):
        raise Refused("request_unknown")
    # While it is set up no warning of the end makes sense: the end is not known yet.
    session = OneToOne(given.account, state.mode, given.seconds * SECOND_NS, PAUSE_NS, now_ns + SETUP_NS)
    if state.until_ns is not None and latest_end_ns(session) > state.until_ns:
        raise Refused("exceeds_time_limit")
    return session


def resume(state: RoomState, now_ns: int) -> Result:
    """Let the clock run, for the first time or again after a pause."""
    session = state.one_to_one
    if session is None or session.running_since_ns is not None or now_ns >= session.until_ns:
        return state, []
    if session.delivered_ns or session.pause_left_ns < PAUSE_NS:
        session = replace(session, pause_left_ns=session.until_ns - now_ns)
    until_ns = now_ns + session.left_ns
    warnings = tuple(s for s in ONE_TO_ONE_WARNINGS_S if s * SECOND_NS < session.left_ns)
    session = replace(session, running_since_ns=now_ns, until_ns=until_ns, warnings_s=warnings)
    return replace(state, one_to_one=session), [e.OneToOneStarted(session.guest, until_ns)]


def pause(state: RoomState, now_ns: int) -> Result:
    """Stop the clock until both sides are back, as long as the allowed pause lasts."""
    session = state.one_to_one
    if session is None or session.running_since_ns is None or now_ns >= session.until_ns:
        return state, []
    session = replace(
        session,
        delivered_ns=session.delivered_ns + now_ns - session.running_since_ns,
        left_ns=session.until_ns - now_ns,
        running_since_ns=None,
        until_ns=now_ns + session.pause_left_ns,
        warnings_s=(),
    )
    return replace(state, one_to_one=session), [e.OneToOnePaused(session.guest, session.until_ns)]


def ended(session: OneToOne, reason: str, now_ns: int) -> e.OneToOneEnded:
    """Return what is told of a one-to-one that is over."""
    delivered_ns = session.delivered_ns
    if session.running_since_ns is not None:
        delivered_ns += min(now_ns, session.until_ns) - session.running_since_ns
    return e.OneToOneEnded(session.guest, reason, delivered_ns)


def why_over(session: OneToOne) -> str:
    """Name what ends a one-to-one whose time has come."""
    if session.running_since_ns is not None:
        return "time_over"
    return "connection_lost" if session.delivered_ns else "setup_timeout"


def latest_end_ns(session: OneToOne) -> int:
    """Return when it is over at the latest, with all the pauses that it may still have."""
    return session.until_ns + (0 if session.running_since_ns is not None else session.left_ns) + session.pause_left_ns
