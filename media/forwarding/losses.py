"""Which packets of one track are missing, and which of them to ask for again now (RFC 4585 section 6.2.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

MAX_TRIES = 10  # what ten requests did not bring, the publisher no longer has
MAX_MISSING = 256  # a burst larger than that is repaired by a keyframe, not by packets
REORDERED = 3  # packets behind the newest at which a gap is no reordering (RFC 5681 section 3.2 uses the same number)


@dataclass(slots=True)
class _Missing:
    tries: int = 0
    asked_ns: int = 0


@dataclass(slots=True)
class Losses:
    """The gaps of one source; `given_up` counts those that the last look gave up for good."""

    given_up: int = 0
    _looked_to: int = -1
    _missing: dict[int, _Missing] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether something was missing at the last look, and may still come."""
        return bool(self._missing)

    def look(self, cache_seq: npt.NDArray[np.int64], first: int, highest: int, now_ns: int, rtt_ns: int) -> list[int]:
        """Return the extended sequence numbers to ask for now, in rising order.

        `cache_seq` (int64, a power of two long) holds at `number % len` each number that arrived. A gap is asked for
        when three packets came after it or it was there at the last look already, and again after a round-trip time.
        """
        size = len(cache_seq)
        self.given_up = 0
        if self._looked_to > highest:  # the source began anew, read halfway through
            self._missing.clear()
            self._looked_to = -1
        known = set(self._missing)
        self._forget_arrived(cache_seq, highest - size + 1)
        begin = max(first if self._looked_to < 0 else self._looked_to + 1, highest - size + 1)
        if begin <= highest:
            numbers = np.arange(begin, highest + 1)
            for number in numbers[cache_seq[numbers & (size - 1)] != numbers].tolist():
                self._missing[number] = _Missing()
            self._looked_to = highest
        if len(self._missing) > MAX_MISSING:
            self.given_up += len(self._missing)
            self._missing.clear()
        old_enough = (number for number in sorted(self._missing) if number in known or number <= highest - REORDERED)
        return [number for number in old_enough if self._ask(number, now_ns, rtt_ns)]

    def _ask(self, number: int, now_ns: int, rtt_ns: int) -> bool:
        entry = self._missing[number]
        if entry.tries and now_ns - entry.asked_ns < rtt_ns:
            return False
        if entry.tries >= MAX_TRIES:
            del self._missing[number]
            self.given_up += 1
            return False
        entry.tries += 1
        entry.asked_ns = now_ns
        return True

    def _forget_arrived(self, cache_seq: npt.NDArray[np.int64], oldest: int) -> None:
        if not self._missing:
            return
        numbers = np.fromiter(self._missing, np.int64, len(self._missing))
        there = cache_seq[numbers & (len(cache_seq) - 1)] == numbers
        for number in numbers[there].tolist():
            del self._missing[number]
        for number in numbers[~there & (numbers < oldest)].tolist():
            del self._missing[number]  # the kernel would refuse it now
            self.given_up += 1
