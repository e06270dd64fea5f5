"""The pure part of a one-to-one: who asks for it, when its clock runs, and how much of it was delivered.

How it changes who may watch is the policy's; nothing here lets anybody in.
"""

from __future__ import annotations

from dataclasses import replace

from media.forwarding.admission import FOREVER
from signalling.identifiers import AccountId, Mode
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.state import Offered, OneToOne, Request, RoomState
from signalling.refusals import Refused

SECOND_NS = 1_000_000_000
ONE_TO_ONE_S = (300, 1800)
ONE_TO_ONE_WARNINGS_S = (60, 10)
SETUP_NS = 45 * SECOND_NS  # to allow a camera and connect
PAUSE_NS = 60 * SECOND_NS  # of lost connections, over a whole one-to-one
MAX_REQUESTS = 100  # a streamer does not read a longer list
# What takes a request away that was offered, and is no reason to call the next: the streamer, or the stream.
CALLED_OFF = {"declined", "mode_changed", "stream_ended", "access_revoked"}

Result = tuple[RoomState, list[e.Event]]


def request(state: RoomState, account: AccountId, wish: c.RequestOneToOne, now_ns: int) -> Result:
    """Let someone wait for a one-to-one; raises Refused."""
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
    until_ns = FOREVER if wish.expires_s is None else now_ns + wish.expires_s * SECOND_NS
    requests = (*state.requests, Request(account, wish.seconds, wish.id, until_ns))
    return replace(state, requests=requests), [e.OneToOneRequested(account, wish.seconds, len(requests), wish.id)]


def withdraw(state: RoomState, account: AccountId, reason: str) -> Result:
    """Take a request out of the line; raises Refused."""
    gone = next((waiting for waiting in state.requests if waiting.account == account), None)
    if gone is None:
        raise Refused("request_unknown")
    rest = tuple(other for other in state.requests if other is not gone)
    return replace(state, requests=rest), [e.OneToOneWithdrawn(account, reason, gone.id)]


def fail(state: RoomState, request: str, reason: str) -> Result:
    """Take a request out of the line by its id, if it is there still."""
    found = next((waiting for waiting in state.requests if request and waiting.id == request), None)
    return (state, []) if found is None else withdraw(state, found.account, reason)


def lapse(state: RoomState, now_ns: int) -> Result:
    """Take out of the line whose time is over."""
    events: list[e.Event] = []
    for waiting in [waiting for waiting in state.requests if now_ns >= waiting.lapses_ns]:
        state, withdrawn = withdraw(state, waiting.account, "expired" if waiting.offered is None else "missed")
        events += withdrawn
    return state, events


def offer(state: RoomState, given: c.AcceptOneToOne, now_ns: int) -> Result:
    """Offer a viewer a one-to-one that can begin as soon as it is confirmed; raises Refused."""
    manner = given.manner
    until_ns = now_ns + manner.confirm_s * SECOND_NS
    begin(state, given, until_ns)
    if state.called is not None:
        return state, []
    accepted = next(waiting for waiting in state.requests if waiting.account == given.account)
    others = tuple(other for other in state.requests if other is not accepted)
    offered = Offered(given.seconds, until_ns, manner.confirm_s, manner.calls_next)
    requests = (replace(accepted, offered=offered), *others)
    return replace(state, requests=requests), [e.OneToOneOffered(given.account, given.seconds, until_ns, accepted.id)]


def confirmed(state: RoomState, account: AccountId, now_ns: int) -> c.AcceptOneToOne:
    """Return what is to be done now that a viewer confirms what was offered; raises Refused."""
    called = state.called
    if called is None or called.account != account or called.offered is None:
        raise Refused("request_unknown", "no one-to-one is offered to you now")
    if now_ns >= called.offered.until_ns:
        raise Refused("request_expired")
    return c.AcceptOneToOne(account, called.offered.seconds)


def call_next(before: RoomState, after: RoomState, events: list[e.Event], now_ns: int) -> Result:
    """Offer the one-to-one that was offered to someone who did not come to the next in line for whom it can be."""
    gone = before.called
    if gone is None or gone.offered is None or not gone.offered.calls_next or after.announced is not None:
        return after, []
    withdrawn = [event for event in events if isinstance(event, e.OneToOneWithdrawn) and event.account == gone.account]
    if not withdrawn or withdrawn[0].reason in CALLED_OFF:
        return after, []
    manner = c.Manner(gone.offered.confirm_s, calls_next=True)
    for waiting in after.requests:
        given = c.AcceptOneToOne(waiting.account, waiting.seconds or gone.offered.seconds, manner)
        try:
            return offer(after, given, now_ns)
        except Refused:
            continue  # the stream ends before that length would be over; a shorter one may fit
    return after, []


def begin(state: RoomState, given: c.AcceptOneToOne, now_ns: int) -> OneToOne:
    """Return the one-to-one that an accepted request becomes, to be set up; raises Refused."""
    if state.one_to_one is not None:
        raise Refused("already_in_one_to_one")
    if state.mode not in (Mode.PUBLIC, Mode.PRIVATE):
        raise Refused("mode_conflict", "a one-to-one starts from a public or private stream")
    if isinstance(given.seconds, bool) or not ONE_TO_ONE_S[0] <= given.seconds <= ONE_TO_ONE_S[1]:
        raise Refused("duration_out_of_range")
    accepted = next((waiting for waiting in state.requests if waiting.account == given.account), None)
    if accepted is None:
        raise Refused("request_unknown")
    if state.called is not None and state.called is not accepted:
        raise Refused("one_to_one_offered")
    if accepted.id and accepted.seconds not in (None, given.seconds):
        raise Refused("duration_out_of_range", f"what was agreed on is {accepted.seconds} s")
    # While it is set up no warning of the end makes sense: the end is not known yet.
    length_ns = given.seconds * SECOND_NS
    session = OneToOne(
        given.account, state.mode, given.seconds, length_ns, PAUSE_NS, now_ns + SETUP_NS, request=accepted.id
    )
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
    return replace(state, one_to_one=session), [e.OneToOneStarted(session.guest, until_ns, session.request)]


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


def miss(state: RoomState, missed_ns: int) -> Result:
    """Note that nothing passed for a while in which the clock ran: it is not delivered."""
    session = state.one_to_one
    if session is None or session.running_since_ns is None:
        return state, []
    return replace(state, one_to_one=replace(session, missed_ns=session.missed_ns + missed_ns)), []


def delivered_ns(session: OneToOne, now_ns: int) -> int:
    """Return for how long the clock ran and media passed both ways."""
    ran_ns = session.delivered_ns
    if session.running_since_ns is not None:
        ran_ns += min(now_ns, session.until_ns) - session.running_since_ns
    return max(0, ran_ns - session.missed_ns)


def ended(session: OneToOne, reason: str, now_ns: int) -> e.OneToOneEnded:
    """Return what is told of a one-to-one that is over."""
    return e.OneToOneEnded(session.guest, reason, delivered_ns(session, now_ns), session.request)


def why_over(session: OneToOne) -> str:
    """Name what ends a one-to-one whose time has come."""
    if session.running_since_ns is not None:
        return "time_over"
    return "connection_lost" if session.delivered_ns else "setup_timeout"


def latest_end_ns(session: OneToOne) -> int:
    """Return when it is over at the latest, with all the pauses that it may still have."""
    return session.until_ns + (0 if session.running_since_ns is not None else session.left_ns) + session.pause_left_ns
