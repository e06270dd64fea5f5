"""Compiled: the forwarding thread's loop: poll, receive a batch, fan it out, flush, pass the fence.

It runs outside the GIL and never calls Python. Each turn begins by reading the newest fence and ends, with everything
sent, by publishing it: what was decided before a fence was asked governs every packet that leaves after it is done.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numba
import numpy as np
from numba import njit, types

from media.forwarding.fanout import fan_out
from media.forwarding.receiving import receive
from media.forwarding.sending import flush, read_clock
from media.forwarding.tables import BATCH, Limits, Shared, make_tables
from media.io.native import MSG_DONTWAIT, POLLIN, poll, read, recvmmsg, write

IDLE_MS = 100  # the thread looks up this often although nothing arrived; only a lost wake-up would need it
ROUNDS = 4  # batches of one turn: bounds the time between two fences


def _cache_directory() -> Path:
    """Where compiled code is kept: one folder for each state of the sources, beside them or in the user's cache.

    Numba itself notices only changes of the file it compiles, not of those that file calls.
    """
    here = Path(__file__).resolve().parent
    sources = [*sorted(here.glob("*.py")), here.parent / "io" / "native.py", here.parent / "wire" / "codecs.py"]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    beside = here / "__pycache__"
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mesi"
    for folder in (beside, home):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder / f"kernel-{digest}"
    return Path(tempfile.gettempdir()) / f"mesi-kernel-{digest}"


setattr(numba.config, "CACHE_DIR", str(_cache_directory()))  # noqa: B010  (made at run time; type checkers miss it)
_TABLES = numba.typeof(make_tables(Limits(rooms=1, transports=1, tracks=1, subscriptions=1)))


@njit(nogil=True)
def turn(t):
    """Receive one batch and send all that follows from it; returns how many datagrams it held."""
    for i in range(BATCH):
        t.inbox_headers[i, 1] = np.uint64(32)
    socket = np.int32(t.shared[Shared.SOCKET])
    got = recvmmsg(socket, t.inbox_headers.ctypes.data, np.uint32(BATCH), np.int32(MSG_DONTWAIT), np.uint64(0))
    now = read_clock(t)
    waiting = 0
    for i in range(max(got, 0)):
        track, ext_seq = receive(t, i, np.int64(t.inbox_headers[i, 7] & np.uint64(0xFFFFFFFF)), now)
        if track >= 0:
            t.pending[waiting].track = track
            t.pending[waiting].ext_seq = ext_seq
            waiting += 1
    start = 0
    while start < waiting:
        stop = start + 1
        while stop < waiting and t.pending[stop].track == t.pending[start].track:
            stop += 1
        fan_out(t, start, stop)
        start = stop
    flush(t)
    return np.int64(got)


@njit([types.int64(_TABLES)], nogil=True, cache=True)
def run(t):
    """Forward until `shared[STOP]`; returns the number of turns. Runs in a thread of its own."""
    turns = 0
    t.scratch[10] = t.shared[Shared.SOCKET] | (POLLIN << 32)
    t.scratch[11] = t.shared[Shared.WAKE] | (POLLIN << 32)
    while t.shared[Shared.STOP] == 0:
        poll(t.scratch[10:].ctypes.data, np.uint64(2), np.int32(IDLE_MS))
        asked = t.shared[Shared.FENCE_ASKED]
        if t.scratch[11] >> 48:
            read(np.int32(t.shared[Shared.WAKE]), t.scratch[12:].ctypes.data, np.uint64(8))
        for _ in range(ROUNDS):
            if turn(t) < BATCH:
                break
        if asked != t.shared[Shared.FENCE_DONE]:
            t.shared[Shared.FENCE_DONE] = asked
            t.shared[Shared.ATTENTION] = 1
        if t.shared[Shared.ATTENTION]:
            t.shared[Shared.ATTENTION] = 0
            t.scratch[13] = 1
            write(np.int32(t.shared[Shared.NOTIFY]), t.scratch[13:].ctypes.data, np.uint64(8))
        turns += 1
    return turns


def is_cached() -> bool:
    """Whether the compiled loop came from the cache on disk rather than from the compiler just now."""
    return bool(run.stats.cache_hits)
