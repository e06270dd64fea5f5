"""Which packets of an encoding with layers within itself a viewer gets, and what became of each, in plain Python.

Read reference.py first, which uses it. Up to which layers a viewer is to get is said from outside. It goes down at a
picture's beginning, up in spatial layers with a keyframe, and up in temporal ones where the encoder says that it can.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from media.forwarding.choices import ALL_LAYERS, NUMBERS
from media.forwarding.reference.tracks import Cached
from media.wire.layering import Layering, Mark


class Fate(IntEnum):
    """What became of an outgoing number."""

    AWAITED = 0  # its packet has not come yet
    SENT = 1
    MARKED = 2  # sent with a marker that its publisher did not set, as the last packet of a picture
    EMPTY = 3  # its packet came late, and was not for this viewer


@dataclass(slots=True)
class Given:
    """To which packet an outgoing number was given, and by how much its picture's number is less."""

    ext_seq: int
    fate: Fate
    picture_shift: int


@dataclass(slots=True, eq=False)
class Choice:
    """What one subscription is to get at most, and where it stands; `begin` ends the time when it got everything."""

    most_spatial: int = ALL_LAYERS
    most_temporal: int = ALL_LAYERS
    spatial: int = ALL_LAYERS
    temporal: int = ALL_LAYERS
    former: tuple[int, int] = (ALL_LAYERS, ALL_LAYERS)  # the same of pictures before `changed_at`
    changed_at: int = -1
    frame: int = -1  # of the newest picture
    begun_at: int | None = None  # from this source number on outgoing ones are given one by one
    newest: int = 0  # of the source, since then
    picture_shift: int = 0
    given: dict[int, Given] = field(default_factory=dict)  # by outgoing number, modulo NUMBERS

    def anchor(self) -> None:
        """Begin anew: a decoder starts, with all that comes."""
        self.spatial = self.temporal = ALL_LAYERS
        self.frame, self.changed_at, self.begun_at, self.picture_shift = -1, -1, None, 0
        self.given.clear()

    def look(self, packet: Cached, most_spatial: int) -> bool:
        """Take note of the newest packet, and go down or up; returns whether it begins a picture."""
        begins, before = packet.frame != self.frame, (self.spatial, self.temporal)
        self.frame = packet.frame
        if packet.is_key:
            self.spatial, self.temporal = most_spatial, self.most_temporal
        elif begins:
            self.spatial, self.temporal = min(self.spatial, most_spatial), min(self.temporal, self.most_temporal)
            self._rise(packet.place)
        if before != (self.spatial, self.temporal):
            self.former, self.changed_at = before, packet.frame
        return begins

    def _rise(self, place: Layering) -> None:
        is_next = Mark.SYNC_HERE in place.marks and place.temporal == self.temporal + 1
        if is_next and self.temporal < self.most_temporal:
            self.temporal += 1
        if Mark.SYNC_AFTER in place.marks and place.spatial == 0 and place.temporal <= self.temporal:
            self.temporal = self.most_temporal

    def takes(self, packet: Cached) -> tuple[bool, bool]:
        """Whether a packet is of the viewer's layers, and its picture ends with it, though more follows for others."""
        is_former, place = packet.frame < self.changed_at, packet.place
        spatial, temporal = self.former if is_former else (self.spatial, self.temporal)
        takes = place.spatial <= spatial and place.temporal <= temporal
        return takes, takes and Mark.ENDS in place.marks and place.spatial == spatial and not packet.marker

    def begin(self, ext_seq: int) -> None:
        """Give numbers one by one from this packet on, which may be missing yet."""
        self.begun_at, self.newest = ext_seq, ext_seq - 1

    def give(self, seq: int, ext_seq: int, fate: Fate) -> None:
        """Note to which packet an outgoing number went."""
        self.given[seq % NUMBERS] = Given(ext_seq, fate, self.picture_shift)

    def find(self, ext_seq: int, first: int, last: int) -> int | None:
        """Return the outgoing number that a packet was given, of those from `first` to `last`."""
        for seq in range(last, max(first - 1, last - NUMBERS), -1):
            if self.given[seq % NUMBERS].ext_seq <= ext_seq:
                return seq if self.given[seq % NUMBERS].ext_seq == ext_seq else None
        return None
