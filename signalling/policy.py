"""Decides what a request or a fact does to a room: `step(state, actor, given, now_ns) -> (state, events)`.

Pure: no clock, no randomness, nothing outside is touched. What must be done next is returned, so it can't be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from media.forwarding.admission import FOREVER
from signalling import commands as c
from signalling import events as e
from signalling import extensions, one_to_one
from signalling.identifiers import AccountId, Mode
from signalling.one_to_one import SECOND_NS, Result
from signalling.refusals import Refused
from signalling.state import Announced, Prepared, RoomState
from signalling.verdicts import Verdict

MAX_COUNTDOWN_S = 600  # a viewer who is warned earlier has forgotten it by then
PREPARED_FOR_NS = 60 * SECOND_NS  # long enough to read a list of names
CONFIRMED_KEPT = 16  # answers remembered for a confirmation that is repeated
TIME_LIMIT_S = (60, 7 * 86_400)
STREAM_WARNINGS_S = (300, 60, 10)
WAITING_NS = 24 * 3600 * SECOND_NS  # a stream that was announced in the morning may begin in the evening
INTERRUPTED_NS = 120 * SECOND_NS  # to restart an encoder or a phone; longer than a one-to-one may pause

Accounts = tuple[AccountId, ...]


def step(state: RoomState, actor: AccountId | None, given: c.Command | c.Fact, now_ns: int) -> Result:
    """Apply one command of `actor`, or one fact (actor None); raises Refused, and then nothing changed."""
    after, events = _step(state, actor, given, now_ns)
    after, called = one_to_one.call_next(state, after, events, now_ns)
    return _keep_shown(after, now_ns), events + called


def _step(state: RoomState, actor: AccountId | None, given: c.Command | c.Fact, now_ns: int) -> Result:
    if state.ended is not None:
        if isinstance(given, c.Fact | c.Leave):
            return state, []
        raise Refused("stream_ended")
    if isinstance(given, c.OwnersCommand) and actor != state.owner:
        raise Refused("not_the_owner")
    if not isinstance(given, c.Tick | c.Join) and now_ns >= _end_due_ns(state):
        # What is over is over, also when the tick that says so comes a moment later. (Who comes in ends nothing: that
        # happens beside the room's turn, where nobody would be told.)
        state, over = _tick(state, now_ns)
        state, events = _step(state, actor, given, now_ns)
        return state, over + events
    match given:
        case c.Join():
            return _join(state, _who(actor), given.verdict)
        case c.Leave():
            return _leave(state, _who(actor), now_ns)
        case c.PrepareMode():
            return _prepare(state, given, now_ns)
        case c.ConfirmMode():
            return _confirm(state, given, now_ns)
        case c.CallOffMode():
            return _call_off(state)
        case c.SetTimeLimit(seconds):
            return _set_time_limit(state, seconds, now_ns)
        case c.GrantTicket(account):
            return _access(state, lambda s: replace(s, tickets=s.tickets | {account}), now_ns)
        case c.RevokeTicket(account):
            return _revoke_ticket(state, account, now_ns)
        case c.Seated(seats, offer):
            return _seat(replace(state, offer=offer), dict(seats), now_ns)
        case c.Entitle(account):
            return _access(state, lambda s: replace(s, entitled=s.entitled | {account}), now_ns)
        case c.Disentitle(account):
            return _access(state, lambda s: replace(s, entitled=s.entitled - {account}), now_ns)
        case c.Eject(account):
            return _eject(state, account, now_ns)
        case c.Readmit(account):
            return _access(state, lambda s: replace(s, ejected=s.ejected - {account}), now_ns)
        case c.RequestOneToOne():
            return one_to_one.request(state, _who(actor), given, now_ns)
        case c.CancelOneToOne():
            return one_to_one.withdraw(state, _who(actor), "cancelled")
        case c.DeclineOneToOne(account):
            return one_to_one.withdraw(state, account, "declined")
        case c.AcceptOneToOne():
            return _accept(state, given, now_ns)
        case c.ConfirmOneToOne():
            return _come(state, _who(actor), now_ns)
        case c.AskExtension():
            return extensions.ask(state, _who(actor), given)
        case c.CancelExtension():
            return extensions.cancel(state, _who(actor))
        case c.AcceptExtension():
            return extensions.agree(state, given, now_ns)
        case c.DeclineExtension():
            return extensions.decline(state)
        case c.EndOneToOne():
            return _hang_up(state, _who(actor), now_ns)
        case c.Judged(verdicts):
            return _judge(state, dict(verdicts), now_ns)
        case c.Hidden(account):
            return _hide(state, account, now_ns)
        case c.Unhidden(account):
            return replace(state, hidden=state.hidden - {account}), []
        case c.RulesChanged(demands):
            newest = max(state.demands, demands, key=lambda known: known.version)
            return replace(state, demands=newest), [e.RulesChanged(demands.version)]
        case c.TakenOver():
            return replace(state, takeovers=state.takeovers + 1), []
        case c.StreamerFlows():
            return _streamer_flows(state)
        case c.StreamerLost():
            return _streamer_lost(state, now_ns)
        case c.MediaFlows():
            return one_to_one.resume(state, now_ns)
        case c.MediaStops():
            return one_to_one.pause(state, now_ns)
        case c.MediaMissed(missed_ns):
            return one_to_one.miss(state, missed_ns)
        case c.RequestFailed(request, reason):
            return one_to_one.fail(state, request, reason)
        case c.ExtensionFailed(request, number):
            return extensions.fail(state, request, number)
        case c.EndStream():
            return _end(state, "ended_by_streamer", now_ns)
        case c.Tick():
            return _tick(state, now_ns)


def deadline_ns(state: RoomState) -> int:
    """When the next Tick is due; FOREVER for never."""
    due = [state.picture_until_ns, *(request.lapses_ns for request in state.requests)]
    if state.until_ns is not None:
        due += [state.until_ns, *(state.until_ns - seconds * SECOND_NS for seconds in state.warnings_s)]
    if state.announced is not None:
        due.append(state.announced.at_ns)
    if state.one_to_one is not None:
        until_ns = state.one_to_one.until_ns
        due += [until_ns, *(until_ns - seconds * SECOND_NS for seconds in state.one_to_one.warnings_s)]
    return min(due)


def _end_due_ns(state: RoomState) -> int:
    """When the stream, its mode or its one-to-one ends by itself."""
    due = [state.picture_until_ns]
    due += [] if state.until_ns is None else [state.until_ns]
    due += [] if state.announced is None else [state.announced.at_ns]
    due += [] if state.one_to_one is None else [state.one_to_one.until_ns]
    return min(due)


def _who(actor: AccountId | None) -> AccountId:
    assert actor is not None, "a command without an actor is a bug"
    return actor


# -- coming and going, and who may watch -------------------------------------------------------------------------------


def _join(state: RoomState, account: AccountId, verdict: Verdict | None) -> Result:
    if account == state.owner:
        return state, []
    if account in state.hidden:
        raise Refused("stream_unknown")
    if verdict is not None:
        state = state.supposing(account, verdict)
    return replace(state, present=state.present | {account}), []


def _leave(state: RoomState, account: AccountId, now_ns: int) -> Result:
    if state.one_to_one is not None and account == state.one_to_one.guest:
        state, events = _finish(state, "guest_left", now_ns)
    else:
        events = []
    if state.asks(account):
        state, withdrawn = one_to_one.withdraw(state, account, "left")
        events += withdrawn
    return _forget(state, account), events


def _forget(state: RoomState, account: AccountId) -> RoomState:
    verdicts = {other: verdict for other, verdict in state.verdicts.items() if other != account}
    return replace(state, present=state.present - {account}, verdicts=verdicts)


def _access(
    state: RoomState, change: Callable[[RoomState], RoomState], now_ns: int, reason: str | None = None
) -> Result:
    """Apply a change of who may watch: the epoch rises by one, and everyone present is told what it changed for him.

    That includes who waits already, and now for something else. `reason` is told instead of the missing grant's.
    """
    after = change(state)
    if after == state:
        return state, []
    after = replace(after, epoch=state.epoch + 1, prepared=_still_prepared(state, after, now_ns))
    events: list[e.Event] = []
    for account in sorted(state.present):
        was, may = state.admits(account, now_ns), after.admits(account, now_ns)
        if may:
            events += [] if was else [e.AccessGranted(account, after.epoch, after.via(account))]
            continue
        why, readmit = after.refusal(account, now_ns)
        if was or why != state.refusal(account, now_ns)[0]:
            events.append(e.AccessRevoked(account, after.epoch, (reason if was else None) or why, readmit))
    return _withdraw_hopeless(after, events)


def _revoke_ticket(state: RoomState, account: AccountId, now_ns: int) -> Result:
    if account in state.bought and account not in state.tickets:
        raise Refused("ticket_bought")
    return _access(state, lambda s: replace(s, tickets=s.tickets - {account}), now_ns, "ticket_revoked")


def _seat(state: RoomState, seats: dict[AccountId, c.Seat], now_ns: int) -> Result:
    """Take up who bought a ticket, who is about to, and who has none any more."""

    def now(former: frozenset[AccountId], seat: c.Seat) -> frozenset[AccountId]:
        return (former - seats.keys()) | {account for account, said in seats.items() if said == seat}

    def change(state: RoomState) -> RoomState:
        return replace(state, bought=now(state.bought, "bought"), paying=now(state.paying, "paying"))

    return _access(state, change, now_ns, "ticket_revoked")


def _withdraw_hopeless(state: RoomState, events: list[e.Event]) -> Result:
    """Take back the requests for a one-to-one that can no longer be granted."""
    paid = state.usual_mode is Mode.PAID
    gone = [request.account for request in state.requests if paid or not state.hears(request.account)]
    for account in gone:
        state, withdrawn = one_to_one.withdraw(state, account, "mode_changed" if paid else "access_revoked")
        events = [*events, *withdrawn]
    return state, events


def _judge(state: RoomState, verdicts: dict[AccountId, Verdict], now_ns: int) -> Result:
    """Take verdicts on accounts: those present, and the streamer, whose stream ends when it is denied."""
    owners = verdicts.get(state.owner)
    if owners is not None and owners.denied is not None:
        return _end(state, owners.denied, now_ns)
    events: list[e.Event] = []
    before, judged = state, {account: verdict for account, verdict in verdicts.items() if account in state.present}
    for account in sorted(account for account, verdict in judged.items() if verdict.denied is not None):
        state, told = _release(state, account, "guest_denied", now_ns)
        events += told
    after = replace(state, verdicts={**state.verdicts, **judged})
    changed = [account for account in sorted(judged) if _is_news(before, after, account, now_ns)]
    if changed:
        after = replace(after, epoch=state.epoch + 1, prepared=_still_prepared(state, after, now_ns))
    for account in changed:
        if after.admits(account, now_ns):
            events.append(e.AccessGranted(account, after.epoch, after.via(account)))
        else:
            events.append(e.AccessRevoked(account, after.epoch, *after.refusal(account, now_ns)))
    return _withdraw_hopeless(after, events)


def _is_news(before: RoomState, after: RoomState, account: AccountId, now_ns: int) -> bool:
    """Whether an account may watch now and could not, or the other way round, or is kept out by something else."""
    was, may = _watched(before, account, now_ns), after.admits(account, now_ns)
    if was or may:
        return was != may
    return before.refusal(account, now_ns)[0] != after.refusal(account, now_ns)[0]


def _watched(state: RoomState, account: AccountId, now_ns: int) -> bool:
    """Whether an account may watch, or could until its verdict lapsed, of which nobody has been told yet."""
    lapsed_ns = state.verdict(account).until_ns
    return state.admits(account, now_ns) or (lapsed_ns <= now_ns and state.admits(account, lapsed_ns - 1))


def _hide(state: RoomState, account: AccountId, now_ns: int) -> Result:
    if account == state.owner or account in state.hidden:
        return state, []
    here = account in state.present
    state, events = _release(state, account, "guest_ejected", now_ns)
    before = state
    state = replace(_forget(state, account), hidden=state.hidden | {account})
    if here:
        state = replace(state, epoch=state.epoch + 1, prepared=_still_prepared(before, state, now_ns))
        events.append(e.AccessRevoked(account, state.epoch, *state.refusal(account, now_ns)))
    return _withdraw_hopeless(state, events)


def _release(state: RoomState, account: AccountId, reason: str, now_ns: int) -> Result:
    """End the one-to-one of a guest that must go."""
    if state.one_to_one is not None and account == state.one_to_one.guest:
        return _finish(state, reason, now_ns)
    return state, []


def _eject(state: RoomState, account: AccountId, now_ns: int) -> Result:
    if account == state.owner:
        raise Refused("mode_conflict", "the streamer can't be put out of the own stream")
    state, events = _release(state, account, "guest_ejected", now_ns)
    if state.asks(account):
        state, withdrawn = one_to_one.withdraw(state, account, "declined")
        events += withdrawn
    state, told = _access(state, lambda s: replace(s, ejected=s.ejected | {account}), now_ns)
    return state, events + told


# -- modes: first prepared, then confirmed -----------------------------------------------------------------------------


def _prepare(state: RoomState, given: c.PrepareMode, now_ns: int) -> Result:
    if given.mode is Mode.ONE_TO_ONE:
        raise Refused("invalid_mode", "a one-to-one begins by accepting a viewer")
    if state.one_to_one is not None:
        raise Refused("mode_conflict", "end the one-to-one first")
    prepared = Prepared(given.mode, given.token, now_ns + PREPARED_FOR_NS)
    removed, stay, paying = _audience(state, given.mode, now_ns)
    event = e.ModePrepared(given.mode, given.token, removed, stay, prepared.expires_ns, paying)
    return replace(state, prepared=prepared), [event]


def _confirm(state: RoomState, given: c.ConfirmMode, now_ns: int) -> Result:
    for token, mode, epoch, removed in state.confirmed:
        if token == given.token:
            return state, [e.AlreadySwitched(mode, epoch, removed)]
    if state.announced is not None and state.announced.token == given.token:
        return state, [e.AlreadyAnnounced(state.announced.mode, state.announced.at_ns)]
    prepared = state.prepared
    if prepared is None or prepared.token != given.token:
        raise Refused("room_changed")
    if now_ns >= prepared.expires_ns:
        raise Refused("room_changed", "the preparation is older than a minute; look again who would leave")
    removed, stay, _ = _audience(state, prepared.mode, now_ns)
    if removed and not stay and not given.allow_empty:
        raise Refused("audience_empty")
    if given.after_s:
        return _announce(state, prepared, given.after_s, now_ns)
    return _switch(state, prepared.mode, given.token, now_ns)


def _announce(state: RoomState, prepared: Prepared, after_s: int, now_ns: int) -> Result:
    if isinstance(after_s, bool) or not 0 < after_s <= MAX_COUNTDOWN_S:
        raise Refused("invalid_countdown")
    announced = Announced(prepared.mode, prepared.token, now_ns + after_s * SECOND_NS)
    event = e.ModeAnnounced(announced.mode, announced.at_ns)
    return replace(state, prepared=None, announced=announced), [event]


def _call_off(state: RoomState) -> Result:
    if state.announced is None:
        raise Refused("no_switch_announced")
    return replace(state, announced=None), [e.ModeCalledOff(state.announced.mode)]


def _switch(state: RoomState, mode: Mode, token: str, now_ns: int) -> Result:
    """Switch in one turn: who does not belong from now on gets not one packet more. An announced switch is void."""
    removed, _, _ = _audience(state, mode, now_ns)
    after, told = _access(state, lambda s: replace(s, mode=mode), now_ns)
    done = (token, mode, after.epoch, removed)
    after = replace(after, prepared=None, announced=None, confirmed=(*after.confirmed, done)[-CONFIRMED_KEPT:])
    if after.epoch == state.epoch:  # it was the mode already
        off: list[e.Event] = [] if state.announced is None else [e.ModeCalledOff(state.announced.mode)]
        return after, [e.AlreadySwitched(mode, after.epoch, removed), *off]
    return after, [e.ModeSwitched(mode, after.epoch, removed), *told]


def _still_prepared(before: RoomState, after: RoomState, now_ns: int) -> Prepared | None:
    """Return what is prepared, unless somebody would go now who was said to stay: a ticket sold voids nothing."""
    prepared = before.prepared
    if prepared is None or before.mode is not after.mode:
        return None
    said_to_stay = _audience(before, prepared.mode, now_ns)[1]
    stay = _audience(after, prepared.mode, now_ns)[1]
    return prepared if set(said_to_stay) <= set(stay) else None


def _audience(state: RoomState, mode: Mode, now_ns: int) -> tuple[Accounts, Accounts, Accounts]:
    """Return who would have to go in a mode, who would stay, and who would wait in the lobby."""
    after = replace(state, mode=mode)
    watching = [account for account in sorted(state.present) if state.admits(account, now_ns)]
    stay = {account for account in watching if after.admits(account, now_ns)}
    others = [account for account in watching if account not in stay]
    paying = {account for account in others if after.refusal(account, now_ns)[0] == "payment_pending"}
    return tuple(account for account in others if account not in paying), tuple(sorted(stay)), tuple(sorted(paying))


# -- time --------------------------------------------------------------------------------------------------------------


def _set_time_limit(state: RoomState, seconds: int | None, now_ns: int) -> Result:
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


def _tick(state: RoomState, now_ns: int) -> Result:
    if state.until_ns is not None and now_ns >= state.until_ns:
        return _end(state, "time_limit", now_ns)
    if now_ns >= state.picture_until_ns:
        return _end(state, "never_started" if state.picture == "waiting" else "streamer_gone", now_ns)
    state, events = one_to_one.lapse(state, now_ns)
    if state.until_ns is not None:
        due = tuple(s for s in state.warnings_s if now_ns >= state.until_ns - s * SECOND_NS)
        events += [e.TimeWarning(s, state.until_ns, False) for s in due]
        state = replace(state, warnings_s=tuple(s for s in state.warnings_s if s not in due))
    if state.announced is not None and now_ns >= state.announced.at_ns:
        state, switched = _switch(state, state.announced.mode, state.announced.token, now_ns)
        return state, events + switched
    session = state.one_to_one
    if session is None:
        return state, events
    if now_ns >= session.until_ns:
        state, ended = _finish(state, one_to_one.why_over(session), now_ns)
        return state, events + ended
    due = tuple(s for s in session.warnings_s if now_ns >= session.until_ns - s * SECOND_NS)
    events += [e.TimeWarning(s, session.until_ns, True) for s in due]
    left = tuple(s for s in session.warnings_s if s not in due)
    return replace(state, one_to_one=replace(session, warnings_s=left)), events


def _streamer_flows(state: RoomState) -> Result:
    if state.picture == "live":
        return state, []
    event = e.StreamStarted() if state.picture == "waiting" else e.StreamResumed()
    return replace(state, picture="live", picture_until_ns=FOREVER), [event]


def _streamer_lost(state: RoomState, now_ns: int) -> Result:
    if state.picture != "live":
        return state, []
    until_ns = now_ns + INTERRUPTED_NS
    return replace(state, picture="interrupted", picture_until_ns=until_ns), [e.StreamInterrupted(until_ns)]


def _keep_shown(state: RoomState, now_ns: int) -> RoomState:
    """Let the clock of what ticket holders were shown run while there is a picture for them alone, and stand else."""
    shows = state.mode is Mode.PAID and state.picture == "live" and state.ended is None
    if shows == (state.showing_since_ns is not None):
        return state
    return replace(state, shown_ns=state.shown_by_ns(now_ns), showing_since_ns=now_ns if shows else None)


def _end(state: RoomState, reason: str, now_ns: int) -> Result:
    # Nobody is told of the former mode's rights: nobody has them any more.
    events: list[e.Event] = [
        e.OneToOneWithdrawn(request.account, "stream_ended", request.id) for request in state.requests
    ]
    mode = state.usual_mode
    if state.one_to_one is not None:
        events.append(one_to_one.ended(state.one_to_one, "stream_ended", now_ns))
    state = replace(state, ended=reason, mode=mode, one_to_one=None, requests=(), epoch=state.epoch + 1)
    return state, [*events, e.StreamEnded(reason)]


# -- one-to-one --------------------------------------------------------------------------------------------------------


def _accept(state: RoomState, given: c.AcceptOneToOne, now_ns: int) -> Result:
    if state.announced is not None:
        raise Refused("mode_conflict", "a switch of the mode is on its way: call it off first")
    if given.manner.confirm_s:
        return one_to_one.offer(state, given, now_ns)
    session = one_to_one.begin(state, given, now_ns)
    rest = tuple(other for other in state.requests if other.account != given.account)
    after, told = _access(state, lambda s: replace(s, mode=Mode.ONE_TO_ONE, one_to_one=session, requests=rest), now_ns)
    switched = e.ModeSwitched(Mode.ONE_TO_ONE, after.epoch, ())
    return after, [switched, e.OneToOneAccepted(given.account, session.until_ns, session.request), *told]


def _come(state: RoomState, account: AccountId, now_ns: int) -> Result:
    if state.one_to_one is not None and account == state.one_to_one.guest:
        return state, []
    return _accept(state, one_to_one.confirmed(state, account, now_ns), now_ns)


def _hang_up(state: RoomState, account: AccountId, now_ns: int) -> Result:
    session = state.one_to_one
    if session is None:
        raise Refused("mode_conflict", "no one-to-one is running")
    if account not in (state.owner, session.guest):
        raise Refused("not_the_owner", "only the two in a one-to-one can end it")
    return _finish(state, "ended_by_streamer" if account == state.owner else "ended_by_guest", now_ns)


def _finish(state: RoomState, reason: str, now_ns: int) -> Result:
    """Return to the former mode, with its rules as they are now."""
    session = state.one_to_one
    assert session is not None
    # Seen from within the one-to-one: a guest who may go on watching is not told to have been let in.
    within_ns = min(now_ns, session.until_ns - 1)
    after, told = _access(state, lambda s: replace(s, mode=session.former, one_to_one=None), within_ns)
    over = one_to_one.ended(session, reason, now_ns)
    return after, [over, e.ModeSwitched(session.former, after.epoch, ()), *told]
