"""Compiled: many datagrams in and out of a UDP socket in one system call each way."""

from __future__ import annotations

import numpy as np
from numba import njit

from media.io.native import (
    EAGAIN,
    EINTR,
    EINVAL,
    EIO,
    ENOPROTOOPT,
    EOPNOTSUPP,
    MSG_DONTWAIT,
    SOL_UDP,
    UDP_SEGMENT,
    read_errno,
    recvmmsg,
    sendmmsg,
)
from media.moq.kernel.columns import (
    ADDRESS,
    ADDRESS_BYTES,
    MAX_ADDRESS_BYTES,
    MESSAGE_AT,
    MESSAGE_BYTES,
    MESSAGE_ROW,
    MESSAGE_SIZE,
    OFFLOADS_REFUSED,
    PACKETS_SENT,
    SEND_BUFFER_FULL,
    SEND_CALLS,
    SEND_ERRORS,
)

BATCH = 64  # messages of one call
MAX_DATAGRAM_BYTES = 2_048  # nobody sends longer ones over the Internet
NAME_STRIDE = 32
# A struct mmsghdr of 64 bytes, as 8 whole numbers; an iovec has 2, a control message with one number 3.
NAME, NAME_BYTES, PART, PART_COUNT, CONTROL, CONTROL_BYTES, FLAGS, DONE_BYTES, HEADER_INTS = range(9)
PART_INTS, CONTROL_INTS = 2, 3
CONTROL_MESSAGE_BYTES = 16 + 2


@njit
def _set_part(headers, parts, i, at, size):
    parts[i, 0], parts[i, 1] = at, size
    headers[i, PART], headers[i, PART_COUNT] = np.int64(parts.ctypes.data) + 8 * PART_INTS * i, 1
    headers[i, CONTROL], headers[i, CONTROL_BYTES], headers[i, FLAGS], headers[i, DONE_BYTES] = 0, 0, 0, 0


@njit
def receive(fd, headers, parts, arrivals, sizes, names):
    """Read what is there, up to BATCH datagrams; returns how many, or the system's error less than 0."""
    for i in range(BATCH):
        _set_part(headers, parts, i, np.int64(arrivals.ctypes.data) + MAX_DATAGRAM_BYTES * i, MAX_DATAGRAM_BYTES)
        headers[i, NAME], headers[i, NAME_BYTES] = np.int64(names.ctypes.data) + NAME_STRIDE * i, MAX_ADDRESS_BYTES
    got = np.int64(recvmmsg(fd, headers.ctypes.data, np.uint32(BATCH), np.int32(MSG_DONTWAIT), np.uint64(0)))
    if got < 0:
        return -read_errno()
    for i in range(got):
        sizes[i] = headers[i, DONE_BYTES]
    return got


@njit
def _call(fd, headers, i, count, counts):
    counts[SEND_CALLS] += 1
    base = headers.ctypes.data + np.uint64(8 * HEADER_INTS * i)
    return np.int64(sendmmsg(fd, base, np.uint32(count), np.int32(MSG_DONTWAIT)))


@njit
def _datagrams(parts, controls, i):
    size = controls[i, 2]
    return (parts[i, 1] + size - 1) // size


@njit
def _send_singly(fd, headers, parts, controls, i, counts):
    """Send the datagrams of a message one by one."""
    size, spare = controls[i, 2], BATCH
    for at in range(0, parts[i, 1], size):
        _set_part(headers, parts, spare, parts[i, 0] + at, min(size, parts[i, 1] - at))
        headers[spare, NAME], headers[spare, NAME_BYTES] = headers[i, NAME], headers[i, NAME_BYTES]
        if _call(fd, headers, spare, 1, counts) == 1:
            counts[PACKETS_SENT] += 1
        else:
            counts[SEND_BUFFER_FULL if read_errno() == EAGAIN else SEND_ERRORS] += 1


@njit
def _send_batch(fd, headers, parts, controls, count, counts):
    """Send messages in order; what finds no room is lost."""
    i = 0
    while i < count:
        sent = _call(fd, headers, i, count - i, counts)
        for _ in range(sent):
            counts[PACKETS_SENT] += _datagrams(parts, controls, i)
            i += 1
        if sent > 0:
            continue
        error = read_errno()
        if error == EINTR:
            continue
        if error == EAGAIN:
            for left in range(i, count):
                counts[SEND_BUFFER_FULL] += _datagrams(parts, controls, left)
            return
        refuses = error in (EIO, EINVAL, EOPNOTSUPP, ENOPROTOOPT)
        if headers[i, CONTROL_BYTES] and refuses:
            # A path or a kernel without it.
            counts[OFFLOADS_REFUSED] += 1
            _send_singly(fd, headers, parts, controls, i, counts)
        else:
            counts[SEND_ERRORS] += _datagrams(parts, controls, i)
        i += 1


@njit
def transmit(fd, tables, out, messages, count, offloads, headers, parts, controls):
    """Send messages of datagrams of one size, each in one piece where the system's kernel cuts them."""
    ints, octets, counts = tables[0], tables[4], tables[9]
    laid = 0
    for m in range(count):
        row, total, size = messages[m, MESSAGE_ROW], messages[m, MESSAGE_BYTES], messages[m, MESSAGE_SIZE]
        step = total if offloads else size
        for at in range(0, total, step):
            length = min(step, total - at)
            _set_part(headers, parts, laid, np.int64(out.ctypes.data) + messages[m, MESSAGE_AT] + at, length)
            headers[laid, NAME] = np.int64(octets.ctypes.data) + octets.shape[1] * row + ADDRESS
            headers[laid, NAME_BYTES] = ints[row, ADDRESS_BYTES]
            controls[laid, 0], controls[laid, 1] = CONTROL_MESSAGE_BYTES, SOL_UDP | (UDP_SEGMENT << 32)
            controls[laid, 2] = size
            if length > size:
                headers[laid, CONTROL] = np.int64(controls.ctypes.data) + 8 * CONTROL_INTS * laid
                headers[laid, CONTROL_BYTES] = 8 * CONTROL_INTS
            laid += 1
            if laid == BATCH:
                _send_batch(fd, headers, parts, controls, laid, counts)
                laid = 0
    _send_batch(fd, headers, parts, controls, laid, counts)
