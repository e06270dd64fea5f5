"""The compiled calls, with their types: all that Python calls of this folder."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from media.io.cipher import (
    BLOCK_BYTES,
    aes_128_ecb,
    aes_256_ecb,
    encrypt_init,
    encrypt_update,
    free_context,
    new_context,
)
from media.io.compiled import keep_compiled
from media.moq.kernel import arrivals, recovery, sockets, streams
from media.moq.kernel.columns import (
    ELICITING,
    EVENT_SPACE,
    EVENTS,
    HEAD,
    IS_CONFIRMED,
    IS_DONE,
    IS_FIRST,
    IS_HELD,
    IS_USED,
    LAST_ELICITING,
    LOSS_AT,
    MAX_EVENTS,
    MESSAGE_AT,
    MESSAGE_BYTES,
    MESSAGE_ROW,
    MESSAGE_SIZE,
    MESSAGES,
    NONE,
    PACING_AT,
    PACKET_BYTES,
    PTO_COUNT,
    TAIL,
)

MAX_MESSAGES = 1_024  # of one call to `build`
MAX_BACKOFF = 16  # doublings of a PTO

keep_compiled("quic", __file__)

_octets = types.Array(types.uint8, 1, "C")
_octet_rows = types.Array(types.uint8, 2, "C")
_constants = types.Array(types.uint8, 1, "C", readonly=True)
_whole = types.Array(types.int64, 1, "C")
_wholes = types.Array(types.int64, 2, "C")
_reals = types.Array(types.float64, 2, "C")
_cube = types.Array(types.int64, 3, "C")
# ints, reals, ring, times, octets, streams, prefixes, groups, events, counts, runs
_tables = types.Tuple(
    (_wholes, _reals, _cube, _reals, _octet_rows, _wholes, _octet_rows, _wholes, _wholes, _whole, _cube)
)


@njit([types.uintp(_constants)], cache=True)
def open_mask(key):
    """Return a context for header protection by AES (RFC 9001 section 5.4.3); 0 when there is none."""
    context = new_context()
    if context == 0:
        return context
    cipher = aes_128_ecb() if key.size == 16 else aes_256_ecb()
    zero = np.uint64(0)
    if encrypt_init(context, cipher, zero, key.ctypes.data, zero) != 1:
        free_context(context)
        return zero
    return context


@njit([types.boolean(types.uintp, _constants, _octets)], cache=True)
def make_mask(context, sample, out):
    """Encrypt one block of 16 bytes; False when the cipher refuses."""
    size = np.empty(1, np.int32)
    done = encrypt_update(context, out.ctypes.data, size.ctypes.data, sample.ctypes.data, np.int32(BLOCK_BYTES))
    return done == 1


@njit([types.void(_tables, _wholes, types.int64)], cache=True)
def enter_ids(tables, ids, rows):
    """Write down anew which of the first so many connections has which id."""
    arrivals.enter_ids(tables, ids, rows)


@njit([types.int64(types.int32, _wholes, _wholes, _octet_rows, _whole, _octet_rows)], cache=True)
def receive(fd, headers, parts, datagrams, sizes, names):
    """Read what is there, up to BATCH datagrams; returns how many, or the system's error less than 0."""
    return sockets.receive(fd, headers, parts, datagrams, sizes, names)


@njit(
    [
        types.int64(
            _tables,
            _wholes,
            _octet_rows,
            _whole,
            _octet_rows,
            _whole,
            types.int64,
            types.int64,
            types.float64,
            _octets,
            _whole,
            _octets,
        )
    ],
    cache=True,
)
def take_in_untrusted(tables, ids, datagrams, sizes, names, verdicts, begin, end, now, plain, found, work):
    """Judge datagrams from `begin` up to before `end`; returns before which it stopped: events have to be read then."""
    for i in range(begin, end):
        if tables[9][EVENTS] > MAX_EVENTS - EVENT_SPACE:
            return i
        verdicts[i] = arrivals.verdict_on(tables, ids, datagrams[i], sizes[i], names[i], now, plain, found, work)
    return end


@njit([types.void(_tables, types.int64, _whole, types.int64, types.float64, types.float64)], cache=True)
def acknowledge(tables, row, ranges, count, delay_s, now):
    """Take in an acknowledgement that aioquic has read: so many (from, to), oldest first."""
    recovery.acknowledge(tables, row, ranges, 0, count, delay_s, now)


@njit([types.void(_tables, types.int64, types.float64)], cache=True)
def detect_losses(tables, row, now):
    """Give up what is lost of one connection."""
    recovery.detect_losses(tables, row, now)
    recovery.forget_done(tables[0][row], tables[2], row)


@njit(
    [types.boolean(_tables, types.int64, types.int64, types.int64, types.int64, types.float64)],
    cache=True,
)
def enter_foreign(tables, row, number, flags, size, now):
    """Put a packet of aioquic's in flight; False when there is no place."""
    one = tables[0][row]
    if one[TAIL] - one[HEAD] >= recovery.ENTRIES:
        return False
    recovery.enter(one, tables[2], tables[3], row, number, flags | IS_FIRST, NONE, 0, 0, size, now)
    return True


@njit([types.void(_tables, types.int64, types.int64)], cache=True)
def forget(tables, row, number):
    """Wait no more for a packet of aioquic's."""
    one, ring = tables[0][row], tables[2]
    for k in range(one[HEAD], one[TAIL]):
        if ring[row, k & recovery.MASK, 0] == number:
            ring[row, k & recovery.MASK, 2] |= IS_DONE
    recovery.forget_done(one, ring, row)


@njit(
    [types.int64(_tables, _whole, types.int64, types.int64, types.float64, _octets, _wholes, _octets)],
    cache=True,
)
def build(tables, rows, begin, end, now, out, messages, work):
    """Write what connections have to send, from `begin` up to before `end` of `rows`, into `out`.

    Returns before which it stopped: what there is has to be sent then. A row of `messages` says whose packets lie from
    where on, how many bytes of which size, all but the last.
    """
    at, count = np.int64(0), np.int64(0)
    for i in range(begin, end):
        row = rows[i]
        while tables[0][row, IS_USED]:
            is_full = out.size - at < streams.MAX_BURST_BYTES + tables[0][row, PACKET_BYTES]
            if is_full or count == messages.shape[0] or tables[9][EVENTS] > MAX_EVENTS - EVENT_SPACE:
                tables[9][MESSAGES] = count
                return i
            stop = streams.build_burst(tables, row, now, out, at, work)
            if stop == at:
                break
            messages[count, MESSAGE_ROW], messages[count, MESSAGE_AT] = row, at
            messages[count, MESSAGE_BYTES], messages[count, MESSAGE_SIZE] = stop - at, tables[0][row, PACKET_BYTES]
            at, count = stop, count + 1
    tables[9][MESSAGES] = count
    return end


@njit(
    [types.void(types.int32, _tables, _octets, _wholes, types.int64, types.boolean, _wholes, _wholes, _wholes)],
    cache=True,
)
def transmit(fd, tables, out, messages, count, offloads, headers, parts, controls):
    """Send so many messages."""
    sockets.transmit(fd, tables, out, messages, count, offloads, headers, parts, controls)


@njit
def _probe_at(one, real):
    if not one[IS_CONFIRMED] or one[ELICITING] <= 0:
        return np.inf
    return real[LAST_ELICITING] + recovery.probe_timeout(one, real) * 2.0 ** min(one[PTO_COUNT], MAX_BACKOFF)


@njit
def _is_due(tables, row, now):
    one, real = tables[0][row], tables[1][row]
    if real[LOSS_AT] <= now:
        recovery.detect_losses(tables, row, now)
        recovery.forget_done(one, tables[2], row)
        return True
    if np.isnan(real[LOSS_AT]) and _probe_at(one, real) <= now:
        recovery.probe(tables, row)
        return True
    if one[IS_HELD] and real[PACING_AT] <= now:
        real[PACING_AT] = np.nan  # once
        return True
    return False


@njit([types.float64(_tables, types.int64, types.float64, _whole, _whole)], cache=True)
def run_timers(tables, rows, now, due, counted):
    """Do what is due in the first so many connections; those that may have something to send now are `due`.

    `counted[0]` becomes how many. Returns when something is due next (s, monotonic; infinite for never).
    """
    next_at, counted[0] = np.inf, 0
    for row in range(rows):
        one, real = tables[0][row], tables[1][row]
        if not one[IS_USED]:
            continue
        if tables[9][EVENTS] > MAX_EVENTS - EVENT_SPACE:
            return now
        if _is_due(tables, row, now):
            due[counted[0]] = row
            counted[0] += 1
        at = real[LOSS_AT]
        if np.isnan(at):
            at = _probe_at(one, real)
        if one[IS_HELD] and real[PACING_AT] < at:
            at = real[PACING_AT]
        next_at = min(next_at, at)
    return next_at
