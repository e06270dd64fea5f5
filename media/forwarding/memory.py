"""Where the forwarding tables are in memory: one record that compiled code finds everything in, for each worker.

Every worker sees its own tables first in its record, and behind them the same ones as all others: the pages of those
are mapped into each record. So compiled code takes a single pointer whoever runs it, and what Python decides by a
store is decided for all workers at once.
"""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
import numpy.typing as npt

from media.forwarding.backlogs import BACKLOG
from media.forwarding.buffers import point_headers_at_buffers
from media.forwarding.cached import CACHED
from media.forwarding.choices import ALL_LAYERS, CHOICE, GIVEN, NUMBERS
from media.forwarding.entries import ADDRESS, CONTROL, PENDING, REPORT
from media.forwarding.estimates import ESTIMATE, SENT, SENT_LOG, TREND_POINTS
from media.forwarding.layouts import laid_out
from media.forwarding.replays import REPLAYS
from media.forwarding.structures import STRUCTURE
from media.forwarding.tables import (
    ADDRESSES,
    ADDRESSES_OF_OURS,
    ARENA,
    BATCH,
    CACHE,
    DATAGRAM,
    EXTENSIONS,
    ICE_NAME,
    LEVELS,
    LINE,
    MESSAGES,
    NEWCOMERS,
    NOTICES,
    PAYLOAD_HEAD,
    PAYLOAD_TAIL,
    PENDINGS,
    REPORTS,
    RING,
    ROOM,
    SOCKETS,
    SSRCS,
    SUBSCRIPTION,
    TRACK,
    TRANSPORT,
    TWCC,
    WORKERS,
    Count,
    Limits,
    Shared,
    Tables,
)
from media.wire.extensions import Passed

MAP_NORESERVE = 0x4000  # Linux: memory counts when it is touched
MAP_SHARED, MAP_FIXED = 0x01, 0x10
MAP_FAILED = ctypes.c_void_p(-1).value
PAGE = 65_536  # the largest of Linux' usual page sizes: what is mapped anew has to begin with a page

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)


def _own(capacity: Limits) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("shared", "i8", (Shared.CELLS,)),
            ("counters", "u8", (Count.CELLS,)),
            ("polls", "i8", (ADDRESSES_OF_OURS + 1,)),
            ("scratch", "i8", (16,)),
            ("iv", "u1", (12,)),
            ("hash_input", "u1", (448,)),
            ("hash_words", "i8", (80,)),
            ("hash_digest", "u1", (20,)),
            ("pending", PENDING, (PENDINGS,)),
            ("plan_sizes", "i8", (PENDINGS,)),
            ("plan_pads", "i8", (PENDINGS,)),
            ("drawn", STRUCTURE, (1,)),
            ("first_subscriptions", "i4", (capacity.tracks,)),
            ("told", "i8", (capacity.tracks, CACHE)),
            ("waiting", "i4", (capacity.subscriptions,)),
            ("due_reports", REPORT, (REPORTS,)),
            ("newcomers", "i4", (NEWCOMERS,)),
            ("addresses", ADDRESS, (ADDRESSES,)),
            ("ring", CONTROL, (RING,)),
            ("ring_data", "u1", (RING, DATAGRAM)),
            ("ring_address", "u1", (RING, 32)),
            ("inbox", "u1", (BATCH, DATAGRAM)),
            ("inbox_address", "u1", (BATCH, 32)),
            ("inbox_headers", "u8", (BATCH, 8)),
            ("inbox_vectors", "u8", (BATCH, 2)),
            ("arena", "u1", (ARENA,)),
            ("outbox_headers", "u8", (MESSAGES, 8)),
            ("outbox_vectors", "u8", (MESSAGES, 2)),
            ("outbox_segments", "u1", (MESSAGES, 24)),
            ("outbox_counts", "i8", (MESSAGES,)),
            ("outbox_transports", "i8", (MESSAGES,)),
        ],
        align=True,
    )


def _common(capacity: Limits) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("rooms", ROOM, (capacity.rooms,)),
            ("transports", TRANSPORT, (capacity.transports,)),
            ("tracks", TRACK, (capacity.tracks,)),
            ("subscriptions", SUBSCRIPTION, (capacity.subscriptions,)),
            ("payload_types", "i4", (capacity.transports, 128)),
            ("salts", "u1", (capacity.transports, 12)),
            ("opening_salts", "u1", (capacity.transports, 12)),
            ("passed_ids", "u1", (capacity.transports, Passed.CELLS)),
            ("extension_ids", "u1", (capacity.subscriptions, Passed.CELLS)),
            ("levels", "u1", (capacity.tracks, LEVELS)),
            ("sockaddrs", "u1", (capacity.transports, 32)),
            ("ssrcs", "u4", (capacity.transports, SSRCS)),
            ("windows", REPLAYS, (capacity.transports, SSRCS)),
            ("ice_names", "u1", (capacity.transports, ICE_NAME)),
            ("ice_keys", "u1", (capacity.transports, 64)),
            ("sockets", "i8", (SOCKETS,)),
            ("wakes", "i8", (WORKERS,)),
            ("asleep", "i8", (WORKERS, LINE)),
            ("notice_heads", "i8", (WORKERS, WORKERS, LINE)),
            ("notice_tails", "i8", (WORKERS, WORKERS, LINE)),
            ("notices", PENDING, (WORKERS, WORKERS, NOTICES)),
            ("twcc_seq", "i8", (capacity.tracks, TWCC)),
            ("twcc_arrival_ns", "i8", (capacity.tracks, TWCC)),
            ("estimates", ESTIMATE, (capacity.transports,)),
            ("trends", "f8", (capacity.transports, TREND_POINTS, 2)),
            ("sent_log", SENT, (capacity.transports, SENT_LOG)),
            ("layer_octets", "i8", (capacity.tracks, ALL_LAYERS + 1, ALL_LAYERS + 1)),
            ("choices", CHOICE, (capacity.subscriptions,)),
            ("given", GIVEN, (capacity.subscriptions, NUMBERS)),
            ("backlogs", BACKLOG, (capacity.subscriptions,)),
            ("cache_seq", "i8", (capacity.tracks, CACHE)),
            ("cache_info", CACHED, (capacity.tracks, CACHE)),
            ("cache_extensions", "u1", (capacity.tracks, CACHE, EXTENSIONS)),
            ("structures", STRUCTURE, (capacity.tracks,)),
            ("cache_heads", "u1", (capacity.tracks, CACHE, PAYLOAD_HEAD)),
            # Last, since offsets of fields are 32 bits wide in compiled code and this one is larger than that.
            ("cache_tails", "u1", (capacity.tracks, CACHE, PAYLOAD_TAIL)),
        ],
        align=True,
    )


CAPACITY = Limits()
_OWN, _COMMON = _own(CAPACITY), _common(CAPACITY)
OWN_SIZE = -(-_OWN.itemsize // PAGE) * PAGE
# One record holds every table: compiled functions pass a single pointer and find everything at fixed offsets from it.
# Passing the arrays one by one cost 1.5 us a packet and made the compiler work two and a half times as long.
LAYOUT = laid_out([(_OWN, 0), (_COMMON, OWN_SIZE)], OWN_SIZE + _COMMON.itemsize)

assert LAYOUT.itemsize > 0, "NumPy and the compiler have 31 bits for the size of a record"


def make_tables(limits: Limits, workers: int = 1) -> tuple[Tables, ...]:
    """Allocate the tables of each worker; pages are touched only as rows are used.

    Raises ValueError for more than CAPACITY and WORKERS, and OSError when the machine has no memory for them.
    """
    if any(getattr(limits, name) > getattr(CAPACITY, name) for name in Limits.__slots__):
        raise ValueError(f"limits {limits} exceed what is compiled in: {CAPACITY}")
    if not 1 <= workers <= WORKERS:
        raise ValueError(f"{workers} workers: there can be 1 to {WORKERS}")
    made = tuple(_view(whole) for whole in _records(workers))
    for number, tables in enumerate(made):
        shared = tables.shared
        shared[Shared.USE_GSO] = 1
        shared[Shared.OPEN_TRANSPORT] = -1
        shared[Shared.WORKER], shared[Shared.WORKERS] = number, workers
        tables.first_subscriptions[:] = -1
        point_headers_at_buffers(tables)
    return made


def _records(workers: int) -> list[npt.NDArray[np.void]]:
    areas = [
        mmap.mmap(-1, LAYOUT.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        for _ in range(workers)
    ]
    records = [np.frombuffer(area, LAYOUT) for area in areas]
    if workers > 1:  # alone it keeps memory of its own, which Linux backs with larger pages
        common = os.memfd_create("mesi-tables")
        try:
            os.ftruncate(common, _COMMON.itemsize)
            for record in records:
                _map(common, record.ctypes.data + OWN_SIZE)
        finally:
            os.close(common)
    return records


def _map(file: int, where: int) -> None:
    flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE
    if _libc.mmap(where, _COMMON.itemsize, mmap.PROT_READ | mmap.PROT_WRITE, flags, file, 0) == MAP_FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"no memory for the forwarding tables: {os.strerror(error)}")


def _view(whole: npt.NDArray[np.void]) -> Tables:
    return Tables(whole, **{name: whole[name][0] for name in LAYOUT.names or ()})
