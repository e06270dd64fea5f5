"""Reads how loud each publisher of a room is, as the kernel noted it, and tells when somebody else speaks.

A room with one publisher has nobody to tell apart, and costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from media.facts import RoomRow, Speaking
from media.forwarding.admission import FOREVER
from media.forwarding.tables import LEVELS, Tables
from media.rooms import Room
from media.speakers import STEP_NS, Heard, Speakers

STEP_DB = 6  # a level that changed by less is no news


class Hearing:
    """Listens to all rooms of a node; what is new goes to `tell`."""

    def __init__(self, tables: Tables, rooms: Mapping[RoomRow, Room], tell: Callable[[Speaking], None]) -> None:
        self._tables, self._rooms, self._tell = tables, rooms, tell
        self._speakers: dict[RoomRow, Speakers] = {}
        self._read: dict[int, int] = {}  # how many levels of a track were read
        self._told: dict[RoomRow, Heard] = {}
        self._due_ns = 0

    def listen(self) -> None:
        """Look again: somebody publishes who did not before."""
        self._due_ns = 0

    def next_look_ns(self) -> int:
        """When `look` wants to be called (monotonic ns)."""
        return self._due_ns

    def look(self, now_ns: int) -> None:
        """Tell what is new; nothing before it is due."""
        if now_ns < self._due_ns:
            return
        sounds = ((room, _sounds(within)) for room, within in self._rooms.items())
        heard = {room: self._hear(room, rows) for room, rows in sounds if len(rows) > 1}
        self._due_ns = now_ns + STEP_NS if heard else FOREVER
        for gone in self._speakers.keys() - heard.keys():
            del self._speakers[gone]
            self._told.pop(gone, None)
        if not heard:
            self._read.clear()
        for room, one in heard.items():
            if self._is_news(room, one):
                self._tell(Speaking(room, one.speaker, one.levels))

    def _hear(self, room: RoomRow, rows: Mapping[str, int]) -> Heard:
        levels = {source: self._levels(row) for source, row in rows.items()}
        return self._speakers.setdefault(room, Speakers()).decide(levels)

    def _levels(self, row: int) -> list[int]:
        count, ring = int(self._tables.tracks["levels"][row]), self._tables.levels[row].tolist()
        first = self._read.get(row, count)
        self._read[row] = count
        first = max(first if first <= count else 0, count - LEVELS)
        return [ring[number % LEVELS] for number in range(first, count)]

    def _is_news(self, room: RoomRow, heard: Heard) -> bool:
        told = self._told.get(room)
        if told is not None and told.speaker == heard.speaker and told.levels.keys() == heard.levels.keys():
            moved = (abs(level - told.levels[source]) for source, level in heard.levels.items())
            if max(moved) < STEP_DB:
                return False
        self._told[room] = heard
        return True


def _sounds(room: Room) -> dict[str, int]:
    fed = ((source, tracks.get("audio")) for source, tracks in room.sources.items())
    return {source: track.row for source, track in fed if track is not None and track.feeder is not None}
