"""Decides what a request or a fact does to a call: `step(call, actor, given, now_ns) -> call`.

What has to be done about it follows from the two values: whoever carries it out cuts first, then tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from media.forwarding.admission import FOREVER
from signalling.calls import commands as c
from signalling.calls.state import MAX_IN_CALL, SECOND_NS, Call, Party
from signalling.identifiers import AccountId
from signalling.refusals import Refused

RING_NS = 90 * SECOND_NS  # time to find the telephone and look who it is
JOIN_NS = 30 * SECOND_NS  # from answering to a connection, the browser's question for the microphone included
HOLD_NS = 30 * SECOND_NS  # a change of network heals within seconds, a page that is loaded anew, too
ALONE_NS = 60 * SECOND_NS  # the others may be about to come back


def begin(call: Call, rung: Iterable[AccountId], device: str, now_ns: int) -> Call:
    """Return a new call that rings others."""
    parties = {account: Party("rung", now_ns + RING_NS) for account in rung}
    return _settle(replace(call, parties={call.caller: Party("joining", device=device), **parties}), now_ns)


def step(call: Call, actor: AccountId | None, given: c.Command | c.Fact, now_ns: int) -> Call:
    """Apply one command or fact; raises Refused, and then nothing changed. Facts about what is over change nothing."""
    if call.ended is not None:
        if isinstance(given, c.Fact | c.HangUp | c.Decline):
            return call
        raise Refused("call_ended", reason=call.ended)
    return _settle(_apply(_lapse(call, now_ns), actor, given, now_ns), now_ns)


def deadline_ns(call: Call) -> int:
    """Return when something happens by itself (monotonic ns)."""
    if call.ended is not None:
        return FOREVER
    return min(call.alone_until_ns, *(party.until_ns for party in call.parties.values()))


def _apply(call: Call, actor: AccountId | None, given: c.Command | c.Fact, now_ns: int) -> Call:
    if isinstance(given, c.Tick):
        return call
    if isinstance(given, c.Break):
        return _end(call, "internal_error", now_ns)
    if isinstance(given, c.Resume):
        return _resume(call, now_ns)
    assert actor is not None, "all else is of somebody"
    match given:
        case c.Answer():
            return _answer(call, actor, given, now_ns)
        case c.Decline():
            return _decline(call, actor)
        case c.HangUp():
            return _go(call, actor, "left")
        case c.Remove():
            return _go(call, actor, "removed")
        case c.Busy():
            return _go(call, actor, "busy")
        case c.Part(other):
            return _part(call, actor, other)
        case c.Come():
            return _come(call, actor)
        case c.Lose():
            return _lose(call, actor, now_ns)
        case c.AskVideo():
            return _ask_video(call, actor)
        case c.AnswerVideo(agreed):
            return _answer_video(call, actor, agreed)
        case c.BecomeLive(stream, named):
            _require_active(call, actor)
            return replace(call, stream=stream, starter=actor, named=named, asked=None)


def _answer(call: Call, actor: AccountId, given: c.Answer, now_ns: int) -> Call:
    party = call.parties.get(actor)
    if party is not None and party.is_active:
        # Who lost its connection may come back over another device: nobody speaks there any more.
        if given.device == party.device or party.stage == "lost":
            return _with(call, actor, replace(party, device=given.device))
        raise Refused("answered_elsewhere")
    if party is None and call.kind == "direct":
        raise Refused("call_unknown")
    if len(call.active) >= MAX_IN_CALL:
        raise Refused("call_full", f"at most {MAX_IN_CALL} are in a call")
    apart = call.apart | {frozenset((actor, other)) for other in given.apart if other in call.parties}
    came = party is not None and party.came
    call = replace(call, apart=apart, answered=True)
    caller = call.parties[call.caller]
    if caller.stage == "joining" and caller.until_ns >= FOREVER:
        call = _with(call, call.caller, replace(caller, until_ns=now_ns + JOIN_NS))
    return _with(call, actor, Party("joining", now_ns + JOIN_NS, given.device, came=came))


def _decline(call: Call, actor: AccountId) -> Call:
    party = call.parties.get(actor)
    if party is not None and party.is_active:
        raise Refused("answered_elsewhere")
    return _go(call, actor, "declined") if party is not None and party.stage == "rung" else call


def _go(call: Call, actor: AccountId, why: str) -> Call:
    party = call.parties.get(actor)
    if party is None or party.stage == "out":
        return call
    return _with(call, actor, Party("out", why=why, came=party.came))


def _part(call: Call, actor: AccountId, other: AccountId) -> Call:
    if actor not in call.parties or other not in call.parties:
        return call
    if call.kind == "direct":
        return _go(call, actor, "left")
    return replace(call, apart=call.apart | {frozenset((actor, other))})


def _come(call: Call, actor: AccountId) -> Call:
    party = call.parties.get(actor)
    if party is None or not party.is_active:
        return call
    return _with(call, actor, Party("in", device=party.device, came=True))


def _lose(call: Call, actor: AccountId, now_ns: int) -> Call:
    party = call.parties.get(actor)
    if party is None or party.stage != "in" or call.stream is not None:
        return call
    return _with(call, actor, replace(party, stage="lost", until_ns=now_ns + HOLD_NS))


def _ask_video(call: Call, actor: AccountId) -> Call:
    _require_active(call, actor)
    if call.video:
        return call
    if call.kind == "group":
        return replace(call, video=True)
    if call.asked is not None and call.asked != actor:
        return replace(call, video=True, asked=None)  # both want it
    return replace(call, asked=actor)


def _answer_video(call: Call, actor: AccountId, agreed: bool) -> Call:
    _require_active(call, actor)
    if call.asked is None:
        raise Refused("request_unknown")
    if call.asked == actor and agreed:
        raise Refused("request_unknown", "it is for the other to agree")
    return replace(call, video=agreed, asked=None)


def _resume(call: Call, now_ns: int) -> Call:
    if call.stream is None:
        return call
    back = {
        account: replace(party, stage="lost", until_ns=now_ns + HOLD_NS) if party.is_active else party
        for account, party in call.parties.items()
    }
    return replace(call, stream=None, starter=None, named=frozenset(), parties=back)


def _require_active(call: Call, actor: AccountId) -> None:
    if actor not in call.active:
        raise Refused("not_in_call")


def _lapse(call: Call, now_ns: int) -> Call:
    """Let be over what is over by itself."""
    why = {"rung": "missed", "joining": "lost", "lost": "lost"}
    for account, party in call.parties.items():
        if party.until_ns <= now_ns:
            call = _go(call, account, why[party.stage])
    return call


def _settle(call: Call, now_ns: int) -> Call:
    """See what has become of the call as a whole."""
    if call.ended is not None:
        return call
    present = sum(party.stage == "in" for party in call.parties.values())
    if call.met_ns is None and present > 1:
        call = replace(call, met_ns=now_ns)
    over = _over(call)
    if over is not None:
        return _end(call, over, now_ns)
    is_alone = len(call.active) == 1 and not call.rung and call.stream is None
    if not is_alone:
        return replace(call, alone_until_ns=FOREVER)
    if not call.answered:
        return _end(call, "missed", now_ns) if call.kind == "direct" or len(call.parties) > 1 else call
    until_ns = min(call.alone_until_ns, now_ns + ALONE_NS)
    return _end(call, "ended", now_ns) if until_ns <= now_ns else replace(call, alone_until_ns=until_ns)


def _over(call: Call) -> str | None:
    """Return as what the call has ended, None while it goes on."""
    if call.kind == "direct":
        caller = call.parties[call.caller]
        gone = [party.why for party in call.parties.values() if party.stage == "out"]
        if not gone:
            return None
        if call.answered:
            return "connection_lost" if gone == ["lost"] else "ended"
        # Who blocks the caller meanwhile does not want to be rung: no more is told.
        return "cancelled" if caller.stage == "out" else gone[0] if gone[0] in ("missed", "busy") else "declined"
    if call.active:
        return None
    return "ended" if call.answered else "cancelled"


def _end(call: Call, reason: str, now_ns: int) -> Call:
    seconds = 0 if call.met_ns is None else (now_ns - call.met_ns) // SECOND_NS
    return replace(call, ended=reason, asked=None, alone_until_ns=FOREVER, seconds=seconds)


def _with(call: Call, account: AccountId, party: Party) -> Call:
    return replace(call, parties={**call.parties, account: party})
