"""Switches a room's mode, as it was prepared: at once, or announced and by itself. Pure."""

from __future__ import annotations

from dataclasses import replace

from signalling.identifiers import Mode
from signalling.policy import admitting, preparing
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import SECOND_NS, Result
from signalling.policy.state import Announced, Prepared, RoomState
from signalling.refusals import Refused

MAX_COUNTDOWN_S = 600  # a viewer who is warned earlier has forgotten it by then
CONFIRMED_KEPT = 16  # answers remembered for a confirmation that is repeated
# Each switch sends people out or back in, and asks for keyframes. Whoever does it more often has a program that is
# broken, or plays with the audience.
MAX_SWITCHES = 20
SWITCHES_WITHIN_NS = 300 * SECOND_NS


def confirm(state: RoomState, given: c.ConfirmMode, now_ns: int) -> Result:
    """Do what was prepared, once, now or after a while; raises Refused."""
    if isinstance(given.after_s, bool) or not 0 <= given.after_s <= MAX_COUNTDOWN_S:
        raise Refused("invalid_countdown", max_s=MAX_COUNTDOWN_S)
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
    removed, stay, _ = preparing.audience(state, prepared.mode, now_ns)
    if removed and not stay and not given.allow_empty:
        raise Refused("audience_empty")
    if given.after_s or state.mode is not Mode.PUBLIC:
        state = _counted(state, now_ns)
    if given.after_s:
        return _announce(state, prepared, given.after_s, now_ns)
    return switch(state, prepared.mode, given.token, now_ns)


def _counted(state: RoomState, now_ns: int) -> RoomState:
    """Count a switch that may wait; raises Refused. What closes a public stream at once never has to."""
    recent = tuple(at_ns for at_ns in state.switched_ns if at_ns > now_ns - SWITCHES_WITHIN_NS)
    if len(recent) >= MAX_SWITCHES:
        wait_ns = recent[0] + SWITCHES_WITHIN_NS - now_ns
        raise Refused("switched_too_often", wait_s=-(-wait_ns // SECOND_NS))
    return replace(state, switched_ns=(*recent, now_ns))


def _announce(state: RoomState, prepared: Prepared, after_s: int, now_ns: int) -> Result:
    announced = Announced(prepared.mode, prepared.token, now_ns + after_s * SECOND_NS)
    event = e.ModeAnnounced(announced.mode, announced.at_ns)
    return replace(state, prepared=None, announced=announced), [event]


def call_off(state: RoomState) -> Result:
    """Take an announced switch back; raises Refused."""
    if state.announced is None:
        raise Refused("no_switch_announced")
    return replace(state, announced=None), [e.ModeCalledOff(state.announced.mode)]


def switch(state: RoomState, mode: Mode, token: str, now_ns: int) -> Result:
    """Switch in one turn: who does not belong from now on gets not one packet more. An announced switch is void."""
    removed, _, _ = preparing.audience(state, mode, now_ns)
    after, told = admitting.access(state, lambda s: replace(s, mode=mode), now_ns)
    done = (token, mode, after.epoch, removed)
    after = replace(after, prepared=None, announced=None, confirmed=(*after.confirmed, done)[-CONFIRMED_KEPT:])
    if after.epoch == state.epoch:  # it was the mode already
        off: list[e.Event] = [] if state.announced is None else [e.ModeCalledOff(state.announced.mode)]
        return after, [e.AlreadySwitched(mode, after.epoch, removed), *off]
    return after, [e.ModeSwitched(mode, after.epoch, removed), *told]
