"""Gives out the rows of one forwarding table."""

from __future__ import annotations

from dataclasses import dataclass, field


class NoCapacity(Exception):
    """A table is full: the node carries as much as its limits allow."""


@dataclass(slots=True)
class Rows:
    """Row numbers of one table: the lowest free first, so that pages stay few."""

    capacity: int
    free: list[int] = field(default_factory=list)
    used: int = 0

    def take(self) -> int:
        """Return a free row; raises NoCapacity."""
        if self.free:
            return self.free.pop()
        if self.used == self.capacity:
            raise NoCapacity
        self.used += 1
        return self.used - 1
