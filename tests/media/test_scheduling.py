"""The forwarding thread runs as soon as it has work: what Linux says of a thread that asked for it."""

from __future__ import annotations

import ctypes
import os
import platform
import threading

import pytest

from media.forwarding.scheduling import NICE, SCHED_ATTR, SCHED_SETATTR, SLICE_NS, run_at_once

LINUX = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
RUNTIME = 5  # its place in SCHED_ATTR


def slice_ns() -> int:
    """Return the calling thread's slice as Linux has it."""
    attributes = ctypes.create_string_buffer(SCHED_ATTR.size)
    number = SCHED_SETATTR[platform.machine()] + 1  # sched_getattr is the next call on each machine
    assert ctypes.CDLL(None).syscall(number, 0, attributes, SCHED_ATTR.size, 0) == 0
    return int(SCHED_ATTR.unpack(attributes.raw)[RUNTIME])


def in_a_thread(done: list[tuple[int, int]]) -> None:
    run_at_once()
    done.append((slice_ns(), os.getpriority(os.PRIO_PROCESS, 0)))


@pytest.mark.skipif(LINUX < (6, 12), reason=f"Linux {platform.release()} has no slices of threads; 6.12 has")
def test_the_forwarding_thread_takes_over_from_a_longer_slice() -> None:
    before = slice_ns()
    done: list[tuple[int, int]] = []
    thread = threading.Thread(target=in_a_thread, args=(done,))
    thread.start()
    thread.join()
    ((ns, nice),) = done
    assert ns == SLICE_NS < before
    assert nice in (NICE, 0)  # 0 without the right
    assert slice_ns() == before  # of that thread alone
