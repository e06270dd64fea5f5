"""How much one account may write in a day, by its tier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Quotas:
    """Messages a day from each tier on, by rising tier; an account below the lowest has no limit."""

    per_day: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Quotas:
        """Return the quotas of (tier, messages a day)."""
        return cls(tuple(sorted(pairs)))

    def limit(self, tier: int) -> int | None:
        """Return how many messages a day an account of a tier may write, None for any number."""
        limits = [limit for least, limit in self.per_day if least <= tier]
        return limits[-1] if limits else None


def day_of(now_ms: int) -> int:
    """Return the day (UTC, since the epoch) on which messages are counted together."""
    return now_ms // DAY_MS


def day_ends_in_ms(now_ms: int) -> int:
    """Return how long it is until messages are counted anew."""
    return DAY_MS - now_ms % DAY_MS
