"""What a process costs: processor time of all its threads, and memory, as Linux accounts for them."""

from __future__ import annotations

import time
from pathlib import Path

CPUCLOCK_SCHED = 2  # the kind of clock within a clock's number (clock_getcpuclockid(3), linux/posix-timers.h)


class NoSuchProcess(Exception):
    """The process is gone, or belongs to somebody whose processes can't be read."""


def cpu_ns(pid: int) -> int:
    """Return the processor time of all threads, those that have ended among them (ns, by the scheduler's accounts)."""
    try:
        return time.clock_gettime_ns(~pid << 3 | CPUCLOCK_SCHED)
    except OSError as error:
        raise NoSuchProcess(f"process {pid} can't be read: {error}") from error


def memory_bytes(pid: int) -> int:
    """Return the resident memory."""
    try:
        for line in Path("/proc", str(pid), "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError as error:
        raise NoSuchProcess(f"process {pid} can't be read: {error}") from error
    return 0  # a process that ends has none any more
