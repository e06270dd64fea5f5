"""What media knows of its rooms: their rows, who publishes in them, and the transports within."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from media.facts import RoomRow, TransportId
from media.forwarding.admission import NOTHING, Grant
from media.webrtc.negotiation import CodecDescription


@dataclass(slots=True)
class Track:
    """What one source publishes of one kind."""

    row: int
    codec: CodecDescription
    layers: tuple[str, ...] = ()  # of simulcast, by name
    path: str = ""  # of the broadcast as which it is offered
    feeder: TransportId | None = None


@dataclass(slots=True)
class Room:
    """One room of the forwarding tables."""

    row: RoomRow
    requires: Grant
    best_requires: Grant = NOTHING  # what the best layer of a picture takes besides
    paths: dict[str, str] = field(default_factory=dict)  # of broadcasts, by source
    sources: dict[str, dict[str, Track]] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)  # of sources: a track has one writer, whoever feeds it
    endpoints: set[TransportId] = field(default_factory=set)
    incoming: set[TransportId] = field(default_factory=set)
    has_news: bool = False  # its audience changed, and nobody has looked since

    @property
    def tracks(self) -> Iterator[Track]:
        """Every track of every source."""
        for tracks in self.sources.values():
            yield from tracks.values()

    def starve(self, transport: TransportId) -> None:
        """Have a transport feed no track any more."""
        for track in self.tracks:
            if track.feeder == transport:
                track.feeder = None
