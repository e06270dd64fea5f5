"""Decides what of a room's changes is written down before it is done, so that a restart finds the narrower. Pure."""

from __future__ import annotations

from signalling.identifiers import Mode
from signalling.policy import commands as c
from signalling.policy.state import RoomState

FIRST = (
    c.AcceptOneToOne,
    c.ConfirmOneToOne,
    c.Eject,
    c.Readmit,
    c.GrantTicket,
    c.RevokeTicket,
    c.Entitle,
    c.Disentitle,
    c.EndStream,
    c.TakenDown,
)
# What only shuts a door is done even when it can't be written down now: a full disk must not hold it open.
SHUTTING = (c.ConfirmMode, c.SetBestPicture, c.Eject, c.RevokeTicket, c.Disentitle, c.EndStream, c.TakenDown)


def is_written_first(state: RoomState, given: c.Command | c.Fact) -> bool:
    """Whether a change is of who may watch, but for the way back to public: no ticket is lost, and no door reopened."""
    prepared = state.prepared
    if isinstance(given, c.ConfirmMode):
        return prepared is not None and prepared.token == given.token and prepared.mode is not Mode.PUBLIC
    if isinstance(given, c.SetBestPicture):
        return given.best_picture != "everyone"
    return isinstance(given, FIRST)
