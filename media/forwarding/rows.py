"""The row numbers of one table: given out, taken back, and counted; and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Rows that one node may use; the defaults, which none may exceed, hold several times what a core can forward."""

    rooms: int = 2048
    transports: int = 16_384
    tracks: int = 2048
    subscriptions: int = 32_768


class NoCapacity(Exception):
    """A table is full: the node carries as much as its limits allow."""


@dataclass(slots=True)
class Rows:
    """Row numbers up to `capacity`; those that were freed are given out first, so that pages stay few."""

    capacity: int
    free: list[int] = field(default_factory=list)
    used: int = 0

    @property
    def in_use(self) -> int:
        """How many are given out."""
        return self.used - len(self.free)

    def take(self) -> int:
        """Return a free one; raises NoCapacity."""
        if self.free:
            return self.free.pop()
        if self.used == self.capacity:
            raise NoCapacity
        self.used += 1
        return self.used - 1
