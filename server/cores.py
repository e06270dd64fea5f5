"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of processor time within each period, or "max"


def usable_cores(quota: Path = QUOTA) -> int:
    """Return the cores that the process is bound to, or what time of a container's quota lasts for, if that is less."""
    bound = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text().split()
        return max(1, min(bound, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # no container, or no limit
        return bound
