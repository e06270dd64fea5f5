"""Compiled: what a connection's streams have to send, cut into packets as far as windows and pacing go.

A packet of 1,200 bytes costs 1 us, of which most is AES-GCM. Groups lie once in memory, however many streams carry
them: what is lost is read there again. `tables` are those of media/moq/quic/table.py.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from media.io.cipher import TAG_BYTES
from media.io.native import memcpy
from media.moq.kernel.columns import (
    BUCKET,
    CLOSE_AT,
    DATA_USED,
    ELICITING,
    ELICITS,
    ENDS,
    ENTRY_BYTES,
    ENTRY_FLAGS,
    ENTRY_START,
    ENTRY_STOP,
    ENTRY_STREAM,
    FIRST_STREAM,
    FLIES,
    GROUP_AT,
    GROUP_BYTES,
    HAS_ELICITED,
    HEAD,
    IDLE,
    IN_FLIGHT,
    IS_CLOSED,
    IS_DONE,
    IS_END_SENT,
    IS_FIRST,
    IS_GROUP_WHOLE,
    IS_HELD,
    IS_LOST,
    IS_PLAIN,
    IS_PROBING,
    KEY_PHASE,
    LAST_ELICITING,
    LOST,
    MAX_DATA,
    NEXT_STREAM,
    NONE,
    NUMBER,
    PACING_AT,
    PACKET_BYTES,
    PACKET_TIME,
    PEER_ID,
    PEER_ID_BYTES,
    SEAL_ERRORS,
    SEALER,
    SEALING_IV,
    SEALING_MASK,
    SPIN,
    STREAM_BUFFER,
    STREAM_ENTRIES,
    STREAM_ID,
    STREAM_MAX,
    STREAM_PREFIX,
    STREAM_REFS,
    STREAM_SENT,
    TAIL,
    WINDOW,
)
from media.moq.kernel.packets import FIXED_BIT, NUMBER_BYTES, PADDING, PING, seal, varint_size, write_varint
from media.moq.kernel.recovery import MASK, enter, forget_done, look_whether_over, probe_timeout, refill_bucket

LONGEST_HEAD = 1 + 8 + 8 + 2  # of a STREAM frame (RFC 9000 section 19.8): its type, stream, offset and length
LEAST_BYTES = 64  # of data in one frame, while there is more: its head would not be worth it
STREAM, OFF, LEN, FIN = 0x08, 0x04, 0x02, 0x01
MAX_PACKETS = 48  # of one burst: less than 64 KB, which the system's kernel takes in one message
MAX_BURST_BYTES = 65_000
LEAST_PAYLOAD = 4  # so that there is something to take a sample of
ROUNDING = 1e-6  # of a packet: a bucket emptied exactly lets no further one out
IDLE_PTOS = 3  # RFC 9000 section 10.1


@njit
def _has_more(tables, row):
    """Whether something waits to be sent, whatever may hold it up."""
    one, streams, groups = tables[0][row], tables[5], tables[7]
    if one[LOST] or one[IS_PROBING]:
        return True
    stream = one[FIRST_STREAM]
    while stream != NONE:
        group = streams[stream, STREAM_BUFFER]
        if streams[stream, STREAM_SENT] < streams[stream, STREAM_PREFIX] + groups[group, GROUP_BYTES]:
            return True
        if groups[group, IS_GROUP_WHOLE] and not streams[stream, IS_END_SENT]:
            return True
        stream = streams[stream, NEXT_STREAM]
    return False


@njit
def packets_allowed(one, real, now):
    """Return how many full packets may leave now: one less than there is room for, so that nothing else has to wait."""
    free = (one[WINDOW] - one[IN_FLIGHT]) // one[PACKET_BYTES] - 1
    paced = np.int64(MAX_PACKETS)
    real[PACING_AT] = np.nan
    if not np.isnan(real[PACKET_TIME]):
        refill_bucket(real, now)
        if real[BUCKET] <= 0:
            paced = np.int64(0)
            real[PACING_AT] = now + real[PACKET_TIME]
        else:
            paced = max(np.int64(1), np.int64(math.ceil(real[BUCKET] / real[PACKET_TIME] - ROUNDING)))
    if free > 0 and free < paced:
        paced = free
    elif free <= 0:
        paced = np.int64(0)
        real[PACING_AT] = np.nan
    most = min(np.int64(MAX_PACKETS), MAX_BURST_BYTES // one[PACKET_BYTES])
    allowed = min(paced, most)
    if one[IS_PROBING]:
        return max(allowed, np.int64(1))  # RFC 9002 section 7.5
    return allowed


@njit
def _write_frame(tables, stream, start, stop, is_end, out, at):
    """Write a STREAM frame that there is room for; returns where it ends."""
    streams, prefixes, groups = tables[5], tables[6], tables[7]
    size = stop - start
    out[at] = STREAM | LEN | (OFF if start else 0) | (FIN if is_end else 0)
    at = write_varint(out, at + 1, streams[stream, STREAM_ID])
    if start:
        at = write_varint(out, at, start)
    out[at], out[at + 1] = 0x40 | (size >> 8), size & 0xFF
    at += 2
    front = streams[stream, STREAM_PREFIX]
    while start < stop and start < front:
        out[at] = prefixes[stream, start]
        start, at = start + 1, at + 1
    if start < stop:
        source = groups[streams[stream, STREAM_BUFFER], GROUP_AT] + start - front
        memcpy(out.ctypes.data + np.uint64(at), np.uint64(source), np.uint64(stop - start))
        at += stop - start
    return at


@njit
def _room_behind_head(tables, stream, start, at, limit):
    head = 3 + varint_size(tables[5][stream, STREAM_ID]) + (varint_size(start) if start else 0)
    return limit - at - head


@njit
def _is_full(one, at, limit):
    return limit - at < LONGEST_HEAD + LEAST_BYTES or one[TAIL] - one[HEAD] >= STREAM_ENTRIES


@njit
def _fill_lost(tables, row, number, now, out, at, limit):
    """Put what was lost into a packet; returns (where it ends, whether more is left)."""
    one, ring, times, streams = tables[0][row], tables[2], tables[3], tables[5]
    for k in range(one[HEAD], one[TAIL]):
        if not one[LOST]:
            break
        entry = ring[row, k & MASK]
        flags = entry[ENTRY_FLAGS]
        if flags & (IS_LOST | IS_DONE) != IS_LOST:
            continue
        stream, start = entry[ENTRY_STREAM], entry[ENTRY_START]
        if streams[stream, IS_CLOSED]:
            entry[ENTRY_FLAGS] = flags | IS_DONE
            one[LOST] -= 1
            streams[stream, STREAM_REFS] -= 1
            look_whether_over(tables, row, stream)
            continue
        if _is_full(one, at, limit):
            return at, True
        stop = min(entry[ENTRY_STOP], start + _room_behind_head(tables, stream, start, at, limit))
        is_whole = stop == entry[ENTRY_STOP]
        ends = flags & ENDS if is_whole else 0
        at = _write_frame(tables, stream, start, stop, ends != 0, out, at)
        enter(one, ring, times, row, number, FLIES | ELICITS | ends, stream, start, stop, 0, now)
        streams[stream, STREAM_REFS] += 1
        if not is_whole:
            entry[ENTRY_START] = stop
            return at, True
        entry[ENTRY_FLAGS] = flags | IS_DONE
        one[LOST] -= 1
        streams[stream, STREAM_REFS] -= 1
    return at, False


@njit
def _fill_new(tables, row, number, now, out, at, limit):
    """Put what streams have to send into a packet, the first ones first; returns (where it ends, is more left)."""
    one, ring, times, streams, groups = tables[0][row], tables[2], tables[3], tables[5], tables[7]
    stream = one[FIRST_STREAM]
    while stream != NONE:
        group, start = streams[stream, STREAM_BUFFER], streams[stream, STREAM_SENT]
        end = streams[stream, STREAM_PREFIX] + groups[group, GROUP_BYTES]
        credit = one[MAX_DATA] - one[DATA_USED]
        stop = min(end, streams[stream, STREAM_MAX], start + credit)
        is_whole = groups[group, IS_GROUP_WHOLE] != 0
        if stop > start or (start == end and is_whole and not streams[stream, IS_END_SENT]):
            if _is_full(one, at, limit):
                return at, True
            last = min(stop, start + _room_behind_head(tables, stream, start, at, limit))
            ends = ENDS if is_whole and last == end else 0
            at = _write_frame(tables, stream, start, last, ends != 0, out, at)
            enter(one, ring, times, row, number, FLIES | ELICITS | ends, stream, start, last, 0, now)
            streams[stream, STREAM_REFS] += 1
            streams[stream, STREAM_SENT] = last
            one[DATA_USED] += last - start
            if ends:
                streams[stream, IS_END_SENT] = 1
            if last < stop:
                return at, True
        stream = streams[stream, NEXT_STREAM]
    return at, False


@njit
def _begin_packet(one, head, number, out, at):
    """Write a packet's head; returns where its payload begins."""
    phase = 4 if one[KEY_PHASE] else 0
    spin = 0x20 if one[SPIN] else 0
    out[at] = FIXED_BIT | spin | phase | (NUMBER_BYTES - 1)
    size = one[PEER_ID_BYTES]
    for i in range(size):
        out[at + 1 + i] = head[PEER_ID + i]
    out[at + 1 + size], out[at + 2 + size] = (number >> 8) & 0xFF, number & 0xFF
    return at + 1 + size + NUMBER_BYTES


@njit
def idle_timeout(one, real):
    """Return for how long a connection may be quiet, in s."""
    return max(real[IDLE], IDLE_PTOS * probe_timeout(one, real))


@njit
def _sent(one, real, packets, size, now):
    """Enter packets that leave into the books."""
    one[NUMBER] += packets
    one[IN_FLIGHT] += size
    one[ELICITING] += packets
    one[IS_PROBING] = 0
    real[LAST_ELICITING] = now
    if not np.isnan(real[PACKET_TIME]):
        real[BUCKET] = max(0.0, real[BUCKET] - packets * real[PACKET_TIME])
    if not one[HAS_ELICITED]:
        real[CLOSE_AT], one[HAS_ELICITED] = now + idle_timeout(one, real), 1


@njit
def build_burst(tables, row, now, out, begin, work):
    """Write packets, all of one size but the last, from `begin` on; returns where they end."""
    one, real, ring, times, head = tables[0][row], tables[1][row], tables[2], tables[3], tables[4][row]
    one[IS_HELD] = 0
    allowed = packets_allowed(one, real, now) if one[IS_PLAIN] else np.int64(0)
    if allowed <= 0:
        one[IS_HELD] = _has_more(tables, row)
        return begin
    most, at, packets, iv = one[PACKET_BYTES], begin, np.int64(0), head[SEALING_IV : SEALING_IV + 12]
    more = True
    while more and packets < allowed:
        number, first_entry = one[NUMBER] + packets, one[TAIL]
        payload = _begin_packet(one, head, number, out, at)
        limit = at + most - TAG_BYTES
        end, more = payload, False
        if one[LOST]:
            end, more = _fill_lost(tables, row, number, now, out, end, limit)
        if not more:
            end, more = _fill_new(tables, row, number, now, out, end, limit)
        if end == payload:
            if not one[IS_PROBING] or packets:
                break
            out[end] = PING
            end += 1
            enter(one, ring, times, row, number, FLIES | ELICITS, NONE, 0, 0, 0, now)
        while end < payload + LEAST_PAYLOAD or (more and packets + 1 < allowed and end < limit):
            out[end] = PADDING
            end += 1
        if not seal(one[SEALER], one[SEALING_MASK], iv, number, out, at, payload - at, end - at, work):
            tables[9][SEAL_ERRORS] += 1
            one[IS_PLAIN] = 0  # nothing leaves of it any more, and it ends idle
            break
        ring[row, first_entry & MASK, ENTRY_BYTES] = end + TAG_BYTES - at
        ring[row, first_entry & MASK, ENTRY_FLAGS] |= IS_FIRST
        at = end + TAG_BYTES
        packets += 1
    if packets:
        _sent(one, real, packets, at - begin, now)
    forget_done(one, ring, row)
    one[IS_HELD] = more
    if more:
        packets_allowed(one, real, now)  # says until when pacing holds it up
    return at
