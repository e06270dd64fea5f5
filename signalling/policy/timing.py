"""Lets time pass for a room: its limit and warnings, what is over by itself, its picture, and its end. Pure."""

from __future__ import annotations

from dataclasses import replace

from media.forwarding.admission import FOREVER
from signalling.identifiers import Mode
from signalling.policy import calling, one_to_one, switching
from signalling.policy import events as e
from signalling.policy.one_to_one import SECOND_NS, Result
from signalling.policy.state import RoomState
from signalling.refusals import Refused

TIME_LIMIT_S = (60, 7 * 86_400)
STREAM_WARNINGS_S = (300, 60, 10)
INTERRUPTED_NS = 120 * SECOND_NS  # to restart an encoder or a phone; longer than a one-to-one may pause


def set_time_limit(state: RoomState, seconds: int | None, now_ns: int) -> Result:
    """Set when the stream ends, or that it does not; raises Refused."""
    if seconds is None:
        return replace(state, until_ns=None, warnings_s=()), [e.TimeLimitSet(None)]
    if isinstance(seconds, bool) or not TIME_LIMIT_S[0] <= seconds <= TIME_LIMIT_S[1]:
        raise Refused("invalid_time_limit", f"from {TIME_LIMIT_S[0]} to {TIME_LIMIT_S[1]} seconds from now")
    until_ns = now_ns + seconds * SECOND_NS
    if state.one_to_one is not None and until_ns < one_to_one.latest_end_ns(state.one_to_one):
        raise Refused("exceeds_time_limit", "the running one-to-one would not be over by then")
    ahead = warnings_ahead(until_ns, now_ns)
    return replace(state, until_ns=until_ns, warnings_s=ahead), [e.TimeLimitSet(until_ns)]


def warnings_ahead(until_ns: int, now_ns: int) -> tuple[int, ...]:
    """Return the warnings, in seconds before the end of a stream, that are yet to be given."""
    return tuple(seconds for seconds in STREAM_WARNINGS_S if now_ns < until_ns - seconds * SECOND_NS)


def tick(state: RoomState, now_ns: int) -> Result:
    """Do what is due by now."""
    if state.until_ns is not None and now_ns >= state.until_ns:
        return end(state, "time_limit", now_ns)
    if now_ns >= state.picture_until_ns:
        return end(state, "never_started" if state.picture == "waiting" else "streamer_gone", now_ns)
    state, events = one_to_one.lapse(state, now_ns)
    if state.until_ns is not None:
        due = tuple(s for s in state.warnings_s if now_ns >= state.until_ns - s * SECOND_NS)
        events += [e.TimeWarning(s, state.until_ns, False) for s in due]
        state = replace(state, warnings_s=tuple(s for s in state.warnings_s if s not in due))
    if state.announced is not None and now_ns >= state.announced.at_ns:
        state, switched = switching.switch(state, state.announced.mode, state.announced.token, now_ns)
        return state, events + switched
    session = state.one_to_one
    if session is None:
        return state, events
    if now_ns >= session.until_ns:
        state, ended = calling.finish(state, one_to_one.why_over(session), now_ns)
        return state, events + ended
    due = tuple(s for s in session.warnings_s if now_ns >= session.until_ns - s * SECOND_NS)
    events += [e.TimeWarning(s, session.until_ns, True) for s in due]
    left = tuple(s for s in session.warnings_s if s not in due)
    return replace(state, one_to_one=replace(session, warnings_s=left)), events


def streamer_flows(state: RoomState) -> Result:
    """Note that the streamer's media arrives."""
    if state.picture == "live":
        return state, []
    event = e.StreamStarted() if state.picture == "waiting" else e.StreamResumed()
    return replace(state, picture="live", picture_until_ns=FOREVER), [event]


def streamer_lost(state: RoomState, now_ns: int) -> Result:
    """Note that it no longer does: it may come back for a while."""
    if state.picture != "live":
        return state, []
    until_ns = now_ns + INTERRUPTED_NS
    return replace(state, picture="interrupted", picture_until_ns=until_ns), [e.StreamInterrupted(until_ns)]


def keep_shown(state: RoomState, now_ns: int) -> RoomState:
    """Let the clock of what ticket holders were shown run while there is a picture for them alone, and stand else."""
    shows = state.mode is Mode.PAID and state.picture == "live" and state.ended is None
    if shows == (state.showing_since_ns is not None):
        return state
    return replace(state, shown_ns=state.shown_by_ns(now_ns), showing_since_ns=now_ns if shows else None)


def end(state: RoomState, reason: str, now_ns: int) -> Result:
    """End the stream for everybody."""
    # Nobody is told of the former mode's rights: nobody has them any more.
    events: list[e.Event] = [
        e.OneToOneWithdrawn(request.account, "stream_ended", request.id) for request in state.requests
    ]
    mode = state.usual_mode
    if state.one_to_one is not None:
        events.append(one_to_one.ended(state.one_to_one, "stream_ended", now_ns))
    state = replace(state, ended=reason, mode=mode, one_to_one=None, requests=(), epoch=state.epoch + 1)
    return state, [*events, e.StreamEnded(reason)]
