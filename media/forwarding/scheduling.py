"""What the forwarding thread asks of Linux's scheduler, on a core that it shares with Python."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from contextlib import suppress

NICE = -10  # ten times the weight of a thread of the usual niceness
# The least that Linux takes. A thread with a shorter slice than the running one's takes over the moment it wakes (since
# Linux 6.12); otherwise a packet would wait for the slice of a chat message to end, which is 3 ms on usual machines.
SLICE_NS = 100_000
SCHED_OTHER = 0
SCHED_ATTR = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period: see sched(7)
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # its number: the C library of Debian 12 has no name for it


def run_at_once() -> None:
    """Have the calling thread run as soon as it has work, as far as the machine allows.

    More weight needs root or CAP_SYS_NICE. A shorter slice needs no right, and Linux 6.12.
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)  # 0: this thread alone, as Linux counts
    number = SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    attributes = SCHED_ATTR.pack(SCHED_ATTR.size, SCHED_OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, SLICE_NS, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # an older Linux takes no notice of the slice
