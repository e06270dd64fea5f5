"""Decides what a request or a fact does to a room: `step(state, actor, given, now_ns) -> (state, events)`.

Pure: no clock, no randomness, nothing outside is touched. What must be done next is returned, so it can't be forgotten.
"""

from __future__ import annotations

from dataclasses import replace

from signalling.identifiers import AccountId
from signalling.policy import (
    admitting,
    attending,
    best_picture,
    calling,
    describing,
    extensions,
    hosting,
    one_to_one,
    preparing,
    switching,
    timing,
)
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import SECOND_NS, Result
from signalling.policy.state import RoomState
from signalling.refusals import Refused

WAITING_NS = 24 * 3600 * SECOND_NS  # a stream that was announced in the morning may begin in the evening


def step(state: RoomState, actor: AccountId | None, given: c.Command | c.Fact, now_ns: int) -> Result:
    """Apply one command of `actor`, or one fact (actor None); raises Refused, and then nothing changed."""
    after, events = _step(state, actor, given, now_ns)
    after, called = one_to_one.call_next(state, after, events, now_ns)
    return timing.keep_shown(after, now_ns), events + called


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
        state, over = timing.tick(state, now_ns)
        state, events = _step(state, actor, given, now_ns)
        return state, over + events
    match given:
        case c.Join():
            return attending.join(state, _who(actor), given.verdict)
        case c.Leave():
            return attending.leave(state, _who(actor), now_ns)
        case c.PrepareMode():
            return preparing.prepare(state, given, now_ns)
        case c.ConfirmMode():
            return switching.confirm(state, given, now_ns)
        case c.CallOffMode():
            return switching.call_off(state)
        case c.SetTimeLimit(seconds):
            return timing.set_time_limit(state, seconds, now_ns)
        case c.SetBestPicture(wanted):
            return best_picture.reserve(state, wanted)
        case c.Describe():
            return describing.describe(state, given, now_ns)
        case c.GrantTicket(account):
            return admitting.access(state, lambda s: replace(s, tickets=s.tickets | {account}), now_ns)
        case c.RevokeTicket(account):
            return admitting.revoke_ticket(state, account, now_ns)
        case c.Seated(seats, offer):
            return admitting.seat(replace(state, offer=offer), dict(seats), now_ns)
        case c.Entitle(account):
            return admitting.access(state, lambda s: replace(s, entitled=s.entitled | {account}), now_ns)
        case c.Disentitle(account):
            return admitting.access(state, lambda s: replace(s, entitled=s.entitled - {account}), now_ns)
        case c.AddHost(account, name):
            hosting.require_few(state, account)
            return _host(state, {**state.hosts, account: name}, now_ns)
        case c.DropHost(account):
            return _host(state, {other: name for other, name in state.hosts.items() if other != account}, now_ns)
        case c.Eject(account):
            return attending.eject(state, account, now_ns)
        case c.Readmit(account):
            return admitting.access(state, lambda s: replace(s, ejected=s.ejected - {account}), now_ns)
        case c.RequestOneToOne():
            return one_to_one.request(state, _who(actor), given, now_ns)
        case c.CancelOneToOne():
            return one_to_one.withdraw(state, _who(actor), "cancelled")
        case c.DeclineOneToOne(account):
            return one_to_one.withdraw(state, account, "declined")
        case c.AcceptOneToOne():
            return calling.accept(state, given, now_ns)
        case c.ConfirmOneToOne():
            return calling.come(state, _who(actor), now_ns)
        case c.AskExtension():
            return extensions.ask(state, _who(actor), given)
        case c.CancelExtension():
            return extensions.cancel(state, _who(actor))
        case c.AcceptExtension():
            return extensions.agree(state, given, now_ns)
        case c.DeclineExtension():
            return extensions.decline(state)
        case c.EndOneToOne():
            return calling.hang_up(state, _who(actor), now_ns)
        case c.Judged(verdicts):
            return attending.judge(state, dict(verdicts), now_ns)
        case c.Hidden(account):
            return attending.hide(state, account, now_ns)
        case c.Unhidden(account):
            return replace(state, hidden=state.hidden - {account}), []
        case c.RulesChanged(demands):
            newest = max(state.demands, demands, key=lambda known: known.version)
            return replace(state, demands=newest), [e.RulesChanged(demands.version)]
        case c.TakenDown():
            return timing.end(state, "taken_down", now_ns)
        case c.TakenOver():
            return replace(state, takeovers=state.takeovers + 1), []
        case c.StreamerFlows():
            return timing.streamer_flows(state)
        case c.StreamerLost():
            return timing.streamer_lost(state, now_ns)
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
            return timing.end(state, "ended_by_streamer", now_ns)
        case c.Tick():
            return timing.tick(state, now_ns)


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


def _host(state: RoomState, hosts: dict[AccountId, str], now_ns: int) -> Result:
    after, events = admitting.access(state, lambda s: replace(s, hosts=hosts), now_ns)
    return after, [*events, e.HostsChanged(tuple(sorted(hosts)))] if after != state else events


def _who(actor: AccountId | None) -> AccountId:
    assert actor is not None, "a command without an actor is a bug"
    return actor
