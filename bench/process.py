"""What a process costs: processor time of all its threads, and memory, as Linux accounts for them."""

from __future__ import annotations

from pathlib import Path


class NoSuchProcess(Exception):
    """The process is gone, or belongs to somebody whose processes can't be read."""


def cpu_ns(pid: int) -> int:
    """Return the processor time of all threads that live now (ns, by the scheduler's own accounts)."""
    try:
        tasks = list(Path("/proc", str(pid), "task").iterdir())
        return sum(_task_ns(task) for task in tasks)
    except OSError as error:
        raise NoSuchProcess(f"process {pid} can't be read: {error}") from error


def _task_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # a thread that ended just now


def memory_bytes(pid: int) -> int:
    """Return the resident memory."""
    try:
        for line in Path("/proc", str(pid), "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError as error:
        raise NoSuchProcess(f"process {pid} can't be read: {error}") from error
    return 0  # a process that ends has none any more
