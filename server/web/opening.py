"""Opens a stream as a request asks for it, also for somebody else, and reads modes."""

from __future__ import annotations

import msgspec

from server.problems import Problem
from server.web.ports import Rooms
from server.web.schemas import MODES, NewStream, StreamDescription
from signalling.identifiers import Actor, Mode
from signalling.policy.commands import Describe
from signalling.policy.wording import description_untrusted, title_untrusted
from signalling.wire.views import Kind, StreamView

OPENING = ("already_live", "invalid_mode", "invalid_title", "no_capacity", "not_stored")


async def open_stream(rooms: Rooms, owner: Actor, new: NewStream) -> StreamView:
    """Open it; raises like `Rooms.create_stream`."""
    return await rooms.create_stream(
        owner,
        title=title_untrusted(new.title),
        kind=_read_kind_untrusted(new.kind),
        mode=read_mode_untrusted(new.mode),
        description=description_untrusted(new.description),
        best_picture=new.best_picture,
    )


def read_description_untrusted(said: StreamDescription) -> Describe:
    """Return what a stream is to be called and described as; raises Refused("invalid_title")."""
    title, description = said.title, said.description
    return Describe(
        None if title is None else title_untrusted(title),
        None if description is None else description_untrusted(description),
    )


def read_mode_untrusted(said: str) -> Mode:
    """Return a mode that may be asked for; raises Problem("invalid_mode")."""
    if said not in MODES:
        raise Problem("invalid_mode", f"the modes are {', '.join(MODES)}", extra={"field": "mode"})
    return Mode(said)


def _read_kind_untrusted(said: str) -> Kind:
    try:
        kind: Kind = msgspec.convert(said, Kind)
    except msgspec.ValidationError:
        raise Problem("invalid_mode", "the kinds are video and audio", extra={"field": "kind"}) from None
    return kind
