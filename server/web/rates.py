"""How fast one asker may ask: token buckets, as many as a bounded table holds."""

from __future__ import annotations

from collections import OrderedDict

MAX_ASKERS = 65_536  # 10 MB; beyond, who asked least recently is forgotten and starts with a full bucket


class TokenBuckets:
    """One bucket for each asker, refilled at `per_s` up to `burst`."""

    def __init__(self, per_s: float, burst: int, *, max_askers: int = MAX_ASKERS) -> None:
        self._per_s, self._burst, self._max_askers = per_s, burst, max_askers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when (s)
        self.refused = 0
        self.forgotten = 0

    def wait_s(self, asker: str, now_s: float) -> float:
        """Return 0 when there is a token, else the seconds until there will be one; takes none."""
        tokens, since_s = self._buckets.get(asker, (float(self._burst), now_s))
        missing = 1 - tokens - (now_s - since_s) * self._per_s
        return max(0.0, missing / self._per_s)

    def take(self, asker: str, now_s: float) -> float:
        """Take one token; return 0 when there was one, else the seconds until there will be."""
        tokens, since_s = self._buckets.pop(asker, (float(self._burst), now_s))
        tokens = min(float(self._burst), tokens + (now_s - since_s) * self._per_s)
        wait_s = 0.0
        if tokens >= 1:
            tokens -= 1
        else:
            wait_s = (1 - tokens) / self._per_s
            self.refused += 1
        self._buckets[asker] = (tokens, now_s)
        if len(self._buckets) > self._max_askers:
            self._buckets.popitem(last=False)
            self.forgotten += 1
        return wait_s
