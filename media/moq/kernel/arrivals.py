"""Compiled: datagrams that came together, of which those that only acknowledge are done with here.

Taking in an acknowledgement costs 1 us. `tables` are those of media/moq/quic/table.py; nothing is changed by what is
not a packet of a connection, sealed with its keys, that acknowledges and does nothing else.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.moq.kernel.columns import (
    ACKNOWLEDGEMENTS,
    ADDRESS,
    ADDRESS_BYTES,
    CLOSE_AT,
    DELAY_EXPONENT,
    EXPECTED,
    HAS_ELICITED,
    ID,
    ID_BYTES,
    IS_HELD,
    IS_PLAIN,
    IS_PROBING,
    IS_USED,
    KEY_PHASE,
    LARGEST_RECEIVED,
    LOST,
    MAX_RUNS,
    OPENER,
    OPENING_IV,
    OPENING_MASK,
    RECEIVED_AT,
    RUNS,
    SPIN,
    SPIN_NUMBER,
    STIRRED,
    TAKEN,
    UNKNOWN,
)
from media.moq.kernel.packets import FAILED, SPIN_BIT, open_untrusted, read_acknowledgement_untrusted
from media.moq.kernel.recovery import acknowledge, tell
from media.moq.kernel.streams import idle_timeout

FORM_BITS, SHORT_FORM = 0xC0, 0x40  # of the first byte, with the fixed bit (RFC 9000 section 17.3.1)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of Fibonacci hashing: ids are random, or an attacker's


@njit
def _place(id, size):
    return np.int64((np.uint64(id) * MULTIPLIER) >> np.uint64(20)) & (size - 1)


@njit
def find_row(ids, id):
    """Return the connection of an id, UNKNOWN when there is none."""
    place = _place(id, ids.shape[0])
    while ids[place, 1] != UNKNOWN:
        if ids[place, 0] == id:
            return ids[place, 1]
        place = (place + 1) & (ids.shape[0] - 1)
    return np.int64(UNKNOWN)


@njit
def enter_ids(tables, ids, rows):
    """Write down anew which connection has which id, of the first so many."""
    ints = tables[0]
    ids[:, 1] = UNKNOWN
    for row in range(rows):
        if ints[row, IS_USED]:
            place = _place(ints[row, ID], ids.shape[0])
            while ids[place, 1] != UNKNOWN:
                place = (place + 1) & (ids.shape[0] - 1)
            ids[place, 0], ids[place, 1] = ints[row, ID], row


@njit
def _id_of(data):
    id = np.int64(0)
    for i in range(ID_BYTES):
        id = (id << 8) | np.int64(data[1 + i])
    return id


@njit
def _comes_from(one, head, name):
    if one[ADDRESS_BYTES] == 0:
        return False
    size = one[ADDRESS_BYTES]
    return (head[ADDRESS : ADDRESS + size] == name[:size]).all()


@njit
def _note_received(one, runs, number):
    """Keep a number for aioquic to hear of; the caller looked that there is room."""
    count = one[RUNS]
    if count and runs[count - 1, 1] == number:
        runs[count - 1, 1] = number + 1
    else:
        runs[count, 0], runs[count, 1] = number, number + 1
        one[RUNS] = count + 1


@njit
def take(tables, row, data, length, name, now, plain, found, work):
    """Take in one datagram for a connection; whether it did no more than acknowledge."""
    one, real, head, runs = tables[0][row], tables[1][row], tables[4][row], tables[10][row]
    if not one[IS_PLAIN] or one[RUNS] >= MAX_RUNS or not _comes_from(one, head, name):
        return False
    iv = head[OPENING_IV : OPENING_IV + 12]
    number, begin = open_untrusted(
        one[OPENER],
        one[OPENING_MASK],
        iv,
        one[KEY_PHASE],
        data,
        length,
        np.int64(1 + ID_BYTES),
        one[EXPECTED],
        plain,
        work,
    )
    # What comes late may be there already: aioquic knows.
    if number == FAILED or number <= one[LARGEST_RECEIVED]:
        return False
    if not read_acknowledgement_untrusted(plain, begin, length - 16, found):
        return False
    if number > one[EXPECTED]:
        one[EXPECTED] = number + 1
    if number > one[SPIN_NUMBER]:
        one[SPIN], one[SPIN_NUMBER] = (plain[0] & SPIN_BIT) != 0, number
    acknowledge(tables, row, found, 2, found[1], found[0] * 2.0 ** one[DELAY_EXPONENT] / 1e6, now)
    real[CLOSE_AT], one[HAS_ELICITED] = now + idle_timeout(one, real), 0
    one[LARGEST_RECEIVED], real[RECEIVED_AT] = number, now
    _note_received(one, runs, number)
    tables[9][ACKNOWLEDGEMENTS] += 1
    if one[LOST] or one[IS_HELD] or one[IS_PROBING]:
        tell(tables, STIRRED, row, 0)
    return True


@njit
def row_of(ids, data, length):
    """Return the connection that a datagram names; UNKNOWN for a long header, and for none."""
    if length < 1 + ID_BYTES or (data[0] & FORM_BITS) != SHORT_FORM:
        return np.int64(UNKNOWN)
    return find_row(ids, _id_of(data))


@njit
def verdict_on(tables, ids, data, length, name, now, plain, found, work):
    """Return TAKEN for a datagram that is done with, UNKNOWN for one that Python has to look at."""
    row = row_of(ids, data, length)
    if row != UNKNOWN and take(tables, row, data, length, name, now, plain, found, work):
        return np.int64(TAKEN)
    return np.int64(UNKNOWN)
