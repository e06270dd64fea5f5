"""Decides what a stream is called and how it is described while it is on. Pure."""

from __future__ import annotations

from dataclasses import replace

from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import SECOND_NS, Result
from signalling.policy.state import RoomState
from signalling.refusals import Refused

# Each is told to everybody in the room and in the directory: somebody who changes words has done so by then.
MOST = 10
WITHIN_NS = 60 * SECOND_NS


def describe(state: RoomState, given: c.Describe, now_ns: int) -> Result:
    """Call it something else, or describe it anew. Raises Refused("described_too_often")."""
    title = state.title if given.title is None else given.title
    description = state.description if given.description is None else given.description
    if (title, description) == (state.title, state.description):
        return state, []
    recent = tuple(at_ns for at_ns in state.described_ns if at_ns > now_ns - WITHIN_NS)
    if len(recent) >= MOST:
        wait_ns = recent[0] + WITHIN_NS - now_ns
        raise Refused("described_too_often", wait_s=-(-wait_ns // SECOND_NS))
    after = replace(state, title=title, description=description, described_ns=(*recent, now_ns))
    return after, [e.Described(title, description)]
