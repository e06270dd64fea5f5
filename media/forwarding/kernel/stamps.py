"""Compiled: the header extension by which a viewer's end tells what its network carries, and the log it refers to.

Each packet to a viewer that negotiated it has a transport-wide sequence number
(draft-holmer-rmcat-transport-wide-cc-extensions-01), counted over all its sound, picture and repairs, or the time when
it was sent (abs-send-time, for receivers that answer with REMB). Both fill one word. Cost: 8 octets and some 10 ns a
packet. Writes arena, transports and the log of what was sent. Judged by tests/media/test_stamps.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.estimates import SENT_LOG

STAMP_SIZE = 8  # octets: the head of a header extension and one word (RFC 8285 section 4.2)
NUMBER_OCTETS = 2  # of a transport-wide number; a time has three, in 2^-18 s
SECOND_NS = 1_000_000_000


@njit(nogil=True)
def is_numbered(stamp):
    """Whether a stamp is a transport-wide number, so that the packet belongs into the log."""
    return stamp & 15 == NUMBER_OCTETS - 1


@njit(nogil=True)
def write_stamp(t, transport, stamp, at, now):
    """Write the header extension at `arena[at]`; `stamp` is the element's first octet, and says by its length which."""
    out = t.arena
    out[at], out[at + 1], out[at + 2], out[at + 3] = 0xBE, 0xDE, 0, 1
    out[at + 4] = stamp
    if is_numbered(stamp):
        t.transports[transport].stamped += 1
        number = np.int64(t.transports[transport].stamped)
        out[at + 5], out[at + 6], out[at + 7] = (number >> 8) & 255, number & 255, 0
        return
    time = (now // SECOND_NS << 18) + (now % SECOND_NS << 18) // SECOND_NS
    out[at + 5], out[at + 6], out[at + 7] = (time >> 16) & 255, (time >> 8) & 255, time & 255


@njit(nogil=True)
def log_sent(t, transport, size, now):
    """Remember the packet that was numbered last: `size` octets left now."""
    slot = t.transports[transport].stamped % SENT_LOG
    t.sent_log[transport, slot].at_ns = now
    t.sent_log[transport, slot].size = size
