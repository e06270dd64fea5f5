"""What a session's rights give it of a broadcast's tracks: what is reserved, or what is for all in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from media.moq.origin import Broadcast, Track
from media.moq.rights import Rights


class Access:
    """The rights of one session, applied to tracks."""

    def __init__(self, rights: Rights) -> None:
        self._rights = rights
        self._judged: dict[tuple[str, bool], bool] | None = None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Ask the rights once of each broadcast; no checkpoint may be within."""
        self._judged = {}
        try:
            yield
        finally:
            self._judged = None

    def admits(self, path: str, track: Track) -> bool:
        """Whether an object of a track may be written to it now."""
        judged, asked = self._judged, (path, track.is_reserved)
        if judged is None:
            return self._judge(*asked)
        if asked not in judged:
            judged[asked] = self._judge(*asked)
        return judged[asked]

    def find(self, broadcast: Broadcast, name: str) -> Track | None:
        """Return what a session gets under a track's name; None where there is nothing, or nothing for it."""
        reserved = broadcast.reserved.get(name)
        if reserved is not None and self.admits(broadcast.path, reserved):
            return reserved
        track = broadcast.tracks.get(name)
        is_for_others = track is not None and track.is_reserved and not self.admits(broadcast.path, track)
        return None if is_for_others else track

    def _judge(self, path: str, is_reserved: bool) -> bool:
        return self._rights.admits_best(path) if is_reserved else self._rights.admits(path)
