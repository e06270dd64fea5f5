"""The steps within one encoding that has spatial or temporal layers (SVC): what comes of each, and what it takes.

The least step is the smallest picture at the fewest pictures a second; then come all its pictures, then each larger
one at full rate. A step takes what it needs of the lower ones, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from media.forwarding.choices import ALL_LAYERS

STEP = 1 << 16  # more than there are rows of tracks: a step's number has its row, its layers and a one in front
LAYERS = ALL_LAYERS + 1


class Within(NamedTuple):
    """Up to which layers a step goes."""

    spatial: int
    temporal: int


LEAST = Within(0, 0)


def number(row: int, within: Within) -> int:
    """Return a number for a step of a track's row that is no row."""
    return row + STEP * (LAYERS * LAYERS + LAYERS * within.spatial + within.temporal)


def layers_of(step: int) -> Within | None:
    """Return the layers of a step, None if it is a row."""
    spatial, temporal = divmod(step // STEP - LAYERS * LAYERS, LAYERS)
    return None if step < STEP else Within(spatial, temporal)


def steps(spatials: int, temporals: int) -> list[Within]:
    """Return the steps of so many layers of either kind, the least first."""
    lowest = [Within(0, temporal) for temporal in range(temporals)]
    return lowest + [Within(spatial, temporals - 1) for spatial in range(1, spatials)]


@dataclass(slots=True)
class Ladder:
    """What was seen of one track's layers: `octets` are those that came of each, ever."""

    octets: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((LAYERS, LAYERS), np.int64))
    came_ns: dict[Within, int] = field(default_factory=dict)
    others: int = 0  # octets that came of layers above the lowest
    spatials: int = 1
    temporals: int = 1

    def look(self, octets: npt.NDArray[Any], now_ns: int) -> bool:
        """Take what has come of each layer (int64[spatial, temporal]); returns whether there are other steps now."""
        others = int(octets.sum()) - int(octets[0, 0])
        if others == self.others:  # most encodings have no layers
            if octets[0, 0] > self.octets[0, 0]:
                self.octets[0, 0] = octets[0, 0]
                self.came_ns[LEAST] = now_ns
            return False
        self.others = others
        changed = octets > self.octets
        self.octets = octets.copy()
        spatials, temporals = self.spatials, self.temporals
        if changed.any():
            self.spatials = max(self.spatials, 1 + int(np.flatnonzero(changed.any(axis=1))[-1]))
            self.temporals = max(self.temporals, 1 + int(np.flatnonzero(changed.any(axis=0))[-1]))
        for step in steps(self.spatials, self.temporals):
            own = changed[step.spatial, step.temporal] if not step.spatial else changed[step.spatial].any()
            if own:
                self.came_ns[step] = now_ns
        return (spatials, temporals) != (self.spatials, self.temporals)

    def of(self, step: Within) -> int:
        """Return the octets that have come of a step, with those of the lower ones."""
        return int(self.octets[: step.spatial + 1, : step.temporal + 1].sum())

    def last_ns(self, step: Within) -> int:
        """When something last came that this step has and the one below has not; 0 never."""
        return self.came_ns.get(step, 0)
