"""Offers what is published in a room as MoQ broadcasts, each source once, under the paths that sessions ask for."""

from __future__ import annotations

from media.door import Media, RoomRow
from signalling.identifiers import StreamId
from signalling.policy.hosting import source_of
from signalling.policy.rights import GUEST, STREAMER
from signalling.policy.state import RoomState


class Offers:
    """The broadcasts of one room: the streamer's has the stream's id as its path, all others stand below it."""

    def __init__(self, media: Media, row: RoomRow, stream: StreamId) -> None:
        self._media, self._row, self._stream = media, row, stream
        self._offered: set[str] = set()
        for source in (STREAMER, GUEST):
            self.offer(source)

    def keep_up(self, state: RoomState) -> None:
        """Offer what those publish, too, who are let beside the streamer by now."""
        for account in state.hosts:
            self.offer(source_of(account))

    def offer(self, source: str) -> None:
        """Offer what a source publishes, whenever it does, until the room closes."""
        if source not in self._offered:
            self._offered.add(source)
            path = self._stream if source == STREAMER else f"{self._stream}/{source}"
            self._media.offer(self._row, source, path)
