"""What a session asks for of the broadcasts, as long as it is not answered."""

from __future__ import annotations

from dataclasses import dataclass

from media.moq.protocol import events
from media.moq.protocol.messages import Subscribe

Wanted = events.TrackWanted | events.SubscriptionWanted | events.FetchWanted


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A request for a track that its publisher has not described yet; `wish` when it is a subscription."""

    request: int
    path: str
    name: str
    wish: Subscribe | None = None


def path_of(wanted: Wanted) -> str:
    """Return the broadcast that is asked for."""
    match wanted:
        case events.TrackWanted():
            return wanted.broadcast
        case events.SubscriptionWanted():
            return wanted.wish.broadcast
        case events.FetchWanted():
            return wanted.broadcast
