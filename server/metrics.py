"""Counters as text for Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

# Names as Prometheus takes them: letters, digits and underscores.
FOREIGN = re.compile(r"[^a-zA-Z0-9_]")


class _Collector:
    def __init__(self, counters: Mapping[str, int]) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        # Gauges: some of the values count what is open now, and the rest never falls anyway.
        for name, value in sorted(self._counters.items()):
            clean = f"mesi_{FOREIGN.sub('_', name)}"
            yield GaugeMetricFamily(clean, name.replace("_", " "), value=value)


def render(counters: Mapping[str, int]) -> bytes:
    """Return all counters in Prometheus' text format, each named `mesi_<name>`."""
    registry = CollectorRegistry()
    registry.register(_Collector(counters))
    return generate_latest(registry)
