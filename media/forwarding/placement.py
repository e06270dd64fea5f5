"""Which worker a transport is put on: where the least is to be done, and near its publisher as long as that is fair."""

from __future__ import annotations

# A viewer beside its publisher costs no wake-up of another worker: rooms of a few viewers stay whole.
SLACK = 4


class Placement:
    """Counts the transports of each worker."""

    def __init__(self, workers: int) -> None:
        self.loads = [0] * workers

    def for_source(self) -> int:
        """Return the worker of all who are going to publish as one source."""
        return self._least()

    def for_viewer(self, home: int) -> int:
        """Return the worker of a viewer of a source that sits on `home`."""
        least = self._least()
        return home if self.loads[home] <= self.loads[least] + SLACK else least

    def enter(self, worker: int) -> None:
        """Note that a transport came."""
        self.loads[worker] += 1

    def leave(self, worker: int) -> None:
        """Note that a transport ended."""
        self.loads[worker] -= 1

    def _least(self) -> int:
        return self.loads.index(min(self.loads))
