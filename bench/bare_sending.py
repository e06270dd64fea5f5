"""Compiled: the bare work of a fan-out: copy, protect, and sendmmsg with GSO, at the pace of a real stream.

What no forwarding server can do without: for each viewer a copy of the packet under its own numbers, encrypted under
its own key (libsrtp, AES-128-GCM), and a share of a system call. No receiving, no tables, no decisions, no feedback.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import njit, types

from media.io.compiled import keep_compiled
from media.io.native import CLOCK_MONOTONIC, clock_gettime, memcpy, nanosleep, sendmmsg, srtp_protect

MESSAGES = 64  # of one sendmmsg, as the server sends them
SLOT = 65_536  # bytes of one message
HEADER = 12  # bytes of an RTP header without extensions
VIDEO, AUDIO = 96, 111  # payload types
SECOND_NS = 1_000_000_000


class Job(NamedTuple):
    """Everything prepared, so that only what is measured remains; all arrays of whole numbers where not said."""

    contexts: npt.NDArray[np.uint64]  # [viewers]: libsrtp's
    names: npt.NDArray[np.uint8]  # [viewers, 16]: struct sockaddr_in
    due_ns: npt.NDArray[np.int64]  # [bursts], from the start
    first: npt.NDArray[np.int64]  # [bursts + 1]: where each burst's packets begin
    kinds: npt.NDArray[np.int64]  # [packets]: payload types
    marks: npt.NDArray[np.int64]  # [packets]
    stamps: npt.NDArray[np.int64]  # [packets]: timestamps
    starts: npt.NDArray[np.int64]  # [packets + 1], into payloads
    payloads: npt.NDArray[np.uint8]
    numbers: npt.NDArray[np.int64]  # [2]: next sequence number of video and sound
    arena: npt.NDArray[np.uint8]  # [MESSAGES, SLOT]
    headers: npt.NDArray[np.uint64]  # [MESSAGES, 8]: struct mmsghdr
    vectors: npt.NDArray[np.uint64]  # [MESSAGES, 2]: struct iovec
    segments: npt.NDArray[np.uint8]  # [MESSAGES, 24]: struct cmsghdr with the segment size
    scratch: npt.NDArray[np.int64]
    failures: npt.NDArray[np.int64]  # [2]: protect, send


def _empty_job() -> Job:
    """Return a job of the types that the compiler needs to know."""
    row, table = np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.uint64)
    octets = np.zeros((0, 0), dtype=np.uint8)
    return Job(
        contexts=np.zeros(0, dtype=np.uint64),
        names=octets,
        due_ns=row,
        first=row,
        kinds=row,
        marks=row,
        stamps=row,
        starts=row,
        payloads=np.zeros(0, dtype=np.uint8),
        numbers=row,
        arena=octets,
        headers=table,
        vectors=table,
        segments=octets,
        scratch=row,
        failures=row,
    )


keep_compiled("bench-bare", __file__)


@njit(nogil=True)
def _wait_until(job, when_ns):
    while True:
        clock_gettime(np.int32(CLOCK_MONOTONIC), job.scratch.ctypes.data)
        left = when_ns - job.scratch[0] * SECOND_NS - job.scratch[1]
        if left <= 0:
            return
        job.scratch[2], job.scratch[3] = left // SECOND_NS, left % SECOND_NS
        nanosleep(job.scratch[2:].ctypes.data, np.uint64(0))


@njit(nogil=True)
def _write(data, at, value, size):
    for k in range(size):
        data[at + k] = (value >> (8 * (size - 1 - k))) & 255


@njit(nogil=True)
def _protect(job, message, at, packet, viewer, pad):
    """Write one packet into a message's slot and encrypt it; returns its size, 0 when libsrtp refuses."""
    out, start = job.arena[message], job.starts[packet]
    size = job.starts[packet + 1] - start
    kind = job.kinds[packet]
    sound = 1 if kind == AUDIO else 0
    out[at] = 0x80 | (0x20 if pad > 0 else 0)
    out[at + 1] = kind | (0x80 if job.marks[packet] else 0)
    _write(out, at + 2, job.numbers[sound], 2)
    _write(out, at + 4, job.stamps[packet], 4)
    _write(out, at + 8, 2 * viewer + sound + 1, 4)
    memcpy(out[at + HEADER :].ctypes.data, job.payloads[start:].ctypes.data, np.uint64(size))
    for k in range(pad):
        out[at + HEADER + size + k] = pad
    job.scratch[4] = HEADER + size + pad
    if srtp_protect(job.contexts[viewer], out[at:].ctypes.data, job.scratch[4:].ctypes.data) != 0:
        job.failures[0] += 1
        return 0
    return job.scratch[4] & 0xFFFFFFFF


@njit(nogil=True)
def _fill(job, message, first, stop, viewer):
    """Write a burst for one viewer: segments of one size, as GSO wants them, only the last may be smaller."""
    largest = 0
    for packet in range(first, stop):
        largest = max(largest, job.starts[packet + 1] - job.starts[packet])
    at, segment = 0, 0
    sound = 1 if job.kinds[first] == AUDIO else 0
    number = job.numbers[sound]
    for packet in range(first, stop):
        pad = 0 if packet + 1 == stop else largest - (job.starts[packet + 1] - job.starts[packet])
        size = _protect(job, message, at, packet, viewer, pad)
        job.numbers[sound] += 1
        segment = max(segment, size)
        at += size
    job.numbers[sound] = number
    job.vectors[message, 1] = np.uint64(at)
    job.headers[message, 0] = job.names[viewer].ctypes.data
    job.headers[message, 1] = np.uint64(16)
    merged = stop - first > 1
    job.headers[message, 4] = job.segments[message].ctypes.data if merged else np.uint64(0)
    job.headers[message, 5] = np.uint64(24) if merged else np.uint64(0)
    job.segments[message, 16], job.segments[message, 17] = segment & 255, segment >> 8


@njit(nogil=True)
def _flush(fd, job, messages, packets):
    """Send messages of so many packets each; returns how many packets left."""
    done = 0
    while done < messages:
        where = job.headers[done:].ctypes.data
        sent = sendmmsg(np.int32(fd), where, np.uint32(messages - done), np.int32(0))
        if sent <= 0:
            job.failures[1] += packets * (messages - done)
            break
        done += sent
    return done * packets


@njit([types.int64(types.int64, numba.typeof(_empty_job()))], nogil=True, cache=True)
def send_all(fd, job):
    """Send every burst to every viewer when it is due; returns how many packets left."""
    clock_gettime(np.int32(CLOCK_MONOTONIC), job.scratch.ctypes.data)
    began_ns = job.scratch[0] * SECOND_NS + job.scratch[1]
    sent = 0
    for burst in range(job.due_ns.shape[0]):
        first, stop = job.first[burst], job.first[burst + 1]
        _wait_until(job, began_ns + job.due_ns[burst])
        queued = 0
        for viewer in range(job.contexts.shape[0]):
            _fill(job, queued, first, stop, viewer)
            queued += 1
            if queued == MESSAGES:
                sent += _flush(fd, job, queued, stop - first)
                queued = 0
        sent += _flush(fd, job, queued, stop - first)
        job.numbers[1 if job.kinds[first] == AUDIO else 0] += stop - first
    return sent
