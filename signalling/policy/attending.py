"""Lets people come, go and be judged in a room. Pure."""

from __future__ import annotations

from dataclasses import replace

from signalling.identifiers import AccountId
from signalling.policy import admitting, best_picture, calling, one_to_one, preparing, timing
from signalling.policy import events as e
from signalling.policy.one_to_one import Result
from signalling.policy.state import RoomState
from signalling.policy.verdicts import Verdict
from signalling.refusals import Refused


def join(state: RoomState, account: AccountId, verdict: Verdict | None) -> Result:
    """Let somebody be present, admitted or waiting; raises Refused for whom the stream does not exist."""
    if account == state.owner:
        return state, []
    if account in state.hidden:
        raise Refused("stream_unknown")
    if verdict is not None:
        state = state.supposing(account, verdict)
    return replace(state, present=state.present | {account}), []


def leave(state: RoomState, account: AccountId, now_ns: int) -> Result:
    """Let somebody go, with what he asked for and the one-to-one that he is in."""
    if state.one_to_one is not None and account == state.one_to_one.guest:
        state, events = calling.finish(state, "guest_left", now_ns)
    else:
        events = []
    if state.asks(account):
        state, withdrawn = one_to_one.withdraw(state, account, "left")
        events += withdrawn
    return _forget(state, account), events


def _forget(state: RoomState, account: AccountId) -> RoomState:
    verdicts = {other: verdict for other, verdict in state.verdicts.items() if other != account}
    return replace(state, present=state.present - {account}, verdicts=verdicts)


def judge(state: RoomState, verdicts: dict[AccountId, Verdict], now_ns: int) -> Result:
    """Take verdicts on accounts: those present, and the streamer, whose stream ends when it is denied."""
    owners = verdicts.get(state.owner)
    if owners is not None and owners.denied is not None:
        return timing.end(state, owners.denied, now_ns)
    events: list[e.Event] = []
    before, judged = state, {account: verdict for account, verdict in verdicts.items() if account in state.present}
    for account in sorted(account for account, verdict in judged.items() if verdict.denied is not None):
        state, told = calling.release(state, account, "guest_denied", now_ns)
        events += told
    after = replace(state, verdicts={**state.verdicts, **judged})
    changed = [account for account in sorted(judged) if _is_news(before, after, account, now_ns)]
    best = {account: best_picture.change(before, after, account, now_ns) for account in sorted(judged)}
    best = {account: has for account, has in best.items() if has is not None}
    if changed or best:
        after = replace(after, epoch=state.epoch + 1, prepared=preparing.still_prepared(state, after, now_ns))
    for account in changed:
        if after.admits(account, now_ns):
            events.append(e.AccessGranted(account, after.epoch, after.via(account)))
        else:
            events.append(e.AccessRevoked(account, after.epoch, *after.refusal(account, now_ns)))
    events += [e.BestPictureJudged(account, bool(has), after.epoch) for account, has in best.items()]
    return admitting.withdraw_hopeless(after, events)


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


def hide(state: RoomState, account: AccountId, now_ns: int) -> Result:
    """Make the stream one that never was for an account."""
    if account == state.owner or account in state.hidden:
        return state, []
    here = account in state.present
    state, events = calling.release(state, account, "guest_ejected", now_ns)
    before = state
    state = replace(_forget(state, account), hidden=state.hidden | {account})
    if here:
        state = replace(state, epoch=state.epoch + 1, prepared=preparing.still_prepared(before, state, now_ns))
        events.append(e.AccessRevoked(account, state.epoch, *state.refusal(account, now_ns)))
    return admitting.withdraw_hopeless(state, events)


def eject(state: RoomState, account: AccountId, now_ns: int) -> Result:
    """Put an account out, whatever it holds; raises Refused for the streamer."""
    if account == state.owner:
        raise Refused("mode_conflict", "the streamer can't be put out of the own stream")
    state, events = calling.release(state, account, "guest_ejected", now_ns)
    if state.asks(account):
        state, withdrawn = one_to_one.withdraw(state, account, "declined")
        events += withdrawn
    state, told = admitting.access(state, lambda s: replace(s, ejected=s.ejected | {account}), now_ns)
    return state, events + told
