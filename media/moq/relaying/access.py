"""What a session's rights give it of a broadcast's tracks: what is reserved, or what is for all in its place."""

from __future__ import annotations

from media.moq.relaying.origin import Broadcast, Track
from media.moq.relaying.rights import Rights


class Access:
    """The rights of one session, applied to tracks. Within `with access:` each broadcast is asked for once.

    No checkpoint may be within.
    """

    def __init__(self, rights: Rights) -> None:
        self._rights = rights
        self._judged: dict[tuple[str, bool], bool] | None = None

    def __enter__(self) -> None:
        self._judged = {}

    def __exit__(self, *raised: object) -> None:
        self._judged = None

    def admits(self, path: str, track: Track) -> bool:
        """Whether an object of a track may be written to it now."""
        judged = self._judged
        if judged is None:
            return self._judge(path, track.is_reserved)
        asked = (path, track.is_reserved)
        answer = judged.get(asked)
        if answer is None:
            answer = judged[asked] = self._judge(*asked)
        return answer

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
