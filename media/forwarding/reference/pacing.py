"""When picture may leave to a viewer, and what of it waits, in plain Python: sound and repairs never do."""

from __future__ import annotations

from dataclasses import dataclass

from media.forwarding.backlogs import BURST_NS

HEADERS = 28  # octets that a packet takes beside its payload, at least


@dataclass(slots=True)
class Pace:
    """For how long an octet takes a viewer's way (ns, 0 unknown), and until when what was sent takes it."""

    octet_ns: int = 0
    taken_ns: int = 0

    def take(self, octets: int, now: int) -> None:
        """Note that a packet with a payload of so many octets leaves."""
        if self.octet_ns:
            self.taken_ns = max(self.taken_ns, now) + (octets + HEADERS) * self.octet_ns

    def has_room(self, now: int) -> bool:
        """Whether picture may leave now."""
        return self.taken_ns - now <= BURST_NS


@dataclass(slots=True)
class Backlog:
    """What waits: all of the track behind what was offered last, up to `to`; the first began at `since_ns`."""

    to: int
    since_ns: int
