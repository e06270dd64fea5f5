"""What is told of who is here over the signalling socket."""

from __future__ import annotations

from signalling.messenger.views import PresenceView
from signalling.wire.events import WireEvent


class PresenceShown(WireEvent, frozen=True, kw_only=True, tag="presence"):
    """How some of the people whom you watch are now; of the others nothing changed."""

    people: tuple[PresenceView, ...]
