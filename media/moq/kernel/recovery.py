"""Compiled: what RFC 9002 asks of one connection, as aioquic does it: acknowledgements, losses, round trips, windows.

`tables` are those of media/moq/quic/table.py. Judged by aioquic's own recovery in tests/moq/test_recovery.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.moq.kernel.columns import (
    ARE_SAMPLES_READY,
    BUCKET,
    BUCKET_AT,
    BUCKET_MAX,
    ELICITING,
    ELICITS,
    ENDS,
    ENTRIES,
    ENTRY_BYTES,
    ENTRY_FLAGS,
    ENTRY_NUMBER,
    ENTRY_START,
    ENTRY_STOP,
    ENTRY_STREAM,
    EVENTS,
    FILTERED_MIN,
    FLIES,
    FOREIGN,
    FOREIGN_ACKED,
    FOREIGN_LOST,
    HAS_RTT,
    HEAD,
    IN_FLIGHT,
    INCREASES,
    IS_CLOSED,
    IS_DONE,
    IS_END_ACKED,
    IS_FIRST,
    IS_LOST,
    IS_PROBING,
    LARGEST_ACKED,
    LOSS_AT,
    LOST,
    MAX_DELAY,
    MAX_EVENTS,
    MAX_WINDOW_PACKETS,
    NONE,
    PACKET_BYTES,
    PACKET_TIME,
    PACKETS_LOST,
    PROBE,
    PROBES,
    PTO_COUNT,
    RECOVERY_START,
    RTT_FIRST,
    RTT_INITIAL,
    RTT_LATEST,
    RTT_MIN,
    RTT_SMOOTHED,
    RTT_VARIANCE,
    SAMPLE,
    SAMPLE_COUNT,
    SAMPLED_AT,
    SAMPLES,
    STASH,
    STREAM_ACKED,
    STREAM_OVER,
    STREAM_REFS,
    STREAM_SENT,
    TAIL,
    THRESHOLD,
    WINDOW,
)

PACKET_THRESHOLD = 3  # RFC 9002 section 6.1.1
TIME_THRESHOLD = 9 / 8
PERSISTENT = 3
LEAST_RTT_S = 0.001  # aioquic's
GRANULARITY_S = 0.001
MICROSECOND, SECOND = 0.000001, 1.0
LEAST_WINDOW = 2  # packets
MASK = ENTRIES - 1


@njit
def tell(tables, kind, row, about):
    """Leave word for Python; callers look beforehand that there is room."""
    events, counts = tables[8], tables[9]
    at = counts[EVENTS]
    if at < MAX_EVENTS:
        events[at, 0], events[at, 1], events[at, 2] = kind, row, about
        counts[EVENTS] = at + 1


@njit
def enter(one, ring, times, row, number, flags, stream, start, stop, size, now):
    """Put a frame in flight at the end of a connection's ring; callers look beforehand that there is room."""
    place = one[TAIL] & MASK
    ring[row, place, ENTRY_NUMBER], ring[row, place, ENTRY_BYTES] = number, size
    ring[row, place, ENTRY_FLAGS], ring[row, place, ENTRY_STREAM] = flags, stream
    ring[row, place, ENTRY_START], ring[row, place, ENTRY_STOP] = start, stop
    times[row, place] = now
    one[TAIL] += 1


@njit
def forget_done(one, ring, row):
    """Let go of the oldest entries that nothing is waited for of."""
    while one[HEAD] < one[TAIL] and ring[row, one[HEAD] & MASK, ENTRY_FLAGS] & IS_DONE:
        one[HEAD] += 1
    if one[HEAD] == one[TAIL]:
        one[HEAD] = one[TAIL] = 0


@njit
def look_whether_over(tables, row, stream):
    """Tell of a stream of which nothing is waited for."""
    streams = tables[5]
    if streams[stream, STREAM_REFS]:
        return
    is_whole = streams[stream, IS_END_ACKED] and streams[stream, STREAM_ACKED] == streams[stream, STREAM_SENT]
    if streams[stream, IS_CLOSED] or is_whole:
        tell(tables, STREAM_OVER, row, stream)


@njit
def _arrived(tables, row, entry, flags):
    """Enter a frame that was acknowledged into the books of its stream."""
    stream = entry[ENTRY_STREAM]
    if stream == NONE:
        return
    streams = tables[5]
    streams[stream, STREAM_REFS] -= 1
    streams[stream, STREAM_ACKED] += entry[ENTRY_STOP] - entry[ENTRY_START]
    if flags & ENDS:
        streams[stream, IS_END_ACKED] = 1
    look_whether_over(tables, row, stream)


@njit
def _lose(tables, row, entry):
    """Have a frame sent again, unless its stream was closed; what is aioquic's is told of."""
    one, streams = tables[0][row], tables[5]
    stream = entry[ENTRY_STREAM]
    if entry[ENTRY_FLAGS] & FOREIGN:
        entry[ENTRY_FLAGS] |= IS_DONE
        tell(tables, FOREIGN_LOST, row, entry[ENTRY_NUMBER])
    elif stream == NONE:
        entry[ENTRY_FLAGS] |= IS_DONE
    elif streams[stream, IS_CLOSED]:
        entry[ENTRY_FLAGS] |= IS_DONE
        streams[stream, STREAM_REFS] -= 1
        look_whether_over(tables, row, stream)
    else:
        entry[ENTRY_FLAGS] |= IS_LOST
        one[LOST] += 1


@njit
def _packet_acknowledged(one, real, size, sent_at):
    """Widen the window, as New Reno does."""
    one[IN_FLIGHT] -= size
    if sent_at <= real[RECOVERY_START]:
        return
    if one[WINDOW] >= MAX_WINDOW_PACKETS * one[PACKET_BYTES]:
        return
    if one[THRESHOLD] == NONE or one[WINDOW] < one[THRESHOLD]:
        one[WINDOW] += size
        return
    one[STASH] += size
    count = one[STASH] // one[WINDOW]
    if count:
        one[STASH] -= count * one[WINDOW]
        one[WINDOW] += count * one[PACKET_BYTES]


@njit
def set_pace(one, real):
    """Reckon how fast packets may follow each other."""
    rate = one[WINDOW] / max(real[RTT_SMOOTHED], MICROSECOND)
    size = one[PACKET_BYTES]
    real[PACKET_TIME] = max(MICROSECOND, min(size / rate, SECOND))
    real[BUCKET_MAX] = max(2 * size, min(one[WINDOW] // 4, 16 * size)) / rate
    real[BUCKET] = min(real[BUCKET], real[BUCKET_MAX])


@njit
def refill_bucket(real, now):
    """Let in what time has brought."""
    if now > real[BUCKET_AT]:
        real[BUCKET] = min(real[BUCKET] + (now - real[BUCKET_AT]), real[BUCKET_MAX])
        real[BUCKET_AT] = now


@njit
def _is_rtt_increasing(one, real, now, rtt_s):
    """Whether round trips have become longer for a while, as aioquic's monitor judges."""
    if now <= real[SAMPLED_AT] + GRANULARITY_S:
        return False
    real[SAMPLES + one[SAMPLE]] = rtt_s
    one[SAMPLE] += 1
    if one[SAMPLE] >= SAMPLE_COUNT:
        one[SAMPLE], one[ARE_SAMPLES_READY] = 0, 1
    real[SAMPLED_AT] = now
    if not one[ARE_SAMPLES_READY]:
        return False
    least = most = real[SAMPLES]
    for i in range(1, SAMPLE_COUNT):
        least, most = min(least, real[SAMPLES + i]), max(most, real[SAMPLES + i])
    if np.isnan(real[FILTERED_MIN]) or real[FILTERED_MIN] > most:
        real[FILTERED_MIN] = most
    delta = least - real[FILTERED_MIN]
    if delta * 4 >= real[FILTERED_MIN]:
        one[INCREASES] += 1
        return one[INCREASES] >= SAMPLE_COUNT
    if delta > 0:
        one[INCREASES] = 0
    return False


@njit
def _measure_round_trip(one, real, rtt_s, delay_s, now):
    delay_s = min(delay_s, real[MAX_DELAY])
    latest = max(rtt_s, LEAST_RTT_S)
    real[RTT_MIN] = min(real[RTT_MIN], latest)
    if latest > real[RTT_MIN] + delay_s:
        latest -= delay_s
    real[RTT_LATEST] = latest
    if not one[HAS_RTT]:
        real[RTT_FIRST], one[HAS_RTT] = now, 1
        real[RTT_VARIANCE], real[RTT_SMOOTHED] = rtt_s / 2, rtt_s
    else:
        real[RTT_VARIANCE] = 3 / 4 * real[RTT_VARIANCE] + 1 / 4 * abs(real[RTT_MIN] - latest)
        real[RTT_SMOOTHED] = 7 / 8 * real[RTT_SMOOTHED] + 1 / 8 * latest
    if one[THRESHOLD] == NONE and _is_rtt_increasing(one, real, now, rtt_s):
        one[THRESHOLD] = one[WINDOW]
    set_pace(one, real)


@njit
def probe_timeout(one, real):
    """Return the PTO period, without backoff, in s."""
    if not one[HAS_RTT]:
        return 2 * real[RTT_INITIAL]
    return real[RTT_SMOOTHED] + max(4 * real[RTT_VARIANCE], GRANULARITY_S) + real[MAX_DELAY]


@njit
def detect_losses(tables, row, now):
    """Give up packets that others overtook, or that are out for too long."""
    one, real, ring, times = tables[0][row], tables[1][row], tables[2], tables[3]
    longest = max(real[RTT_LATEST], real[RTT_SMOOTHED]) if one[HAS_RTT] else real[RTT_INITIAL]
    delay = TIME_THRESHOLD * longest
    duration = probe_timeout(one, real) * PERSISTENT
    real[LOSS_AT] = np.nan
    last_sent, flew, is_persistent, previous, began = 0.0, False, False, np.int64(-2), np.nan
    for k in range(one[HEAD], one[TAIL]):
        entry = ring[row, k & MASK]
        flags, number, sent_at = entry[ENTRY_FLAGS], entry[ENTRY_NUMBER], times[row, k & MASK]
        if number > one[LARGEST_ACKED]:
            break
        if flags & (IS_DONE | IS_LOST):
            continue
        if number > one[LARGEST_ACKED] - PACKET_THRESHOLD and sent_at > now - delay:
            if np.isnan(real[LOSS_AT]) or real[LOSS_AT] > sent_at + delay:
                real[LOSS_AT] = sent_at + delay
            continue
        if flags & IS_FIRST:
            tables[9][PACKETS_LOST] += 1
            if flags & FLIES:
                one[IN_FLIGHT] -= entry[ENTRY_BYTES]
                last_sent, flew = sent_at, True
            if number != previous + 1:
                began = np.nan
            previous = number
            if flags & ELICITS:
                one[ELICITING] -= 1
                if one[HAS_RTT] and sent_at > real[RTT_FIRST]:
                    if np.isnan(began):
                        began = sent_at
                    elif sent_at - began > duration:
                        is_persistent = True
        _lose(tables, row, entry)
    if not flew:
        return
    least = LEAST_WINDOW * one[PACKET_BYTES]
    if last_sent > real[RECOVERY_START]:
        real[RECOVERY_START] = now
        one[WINDOW] = one[THRESHOLD] = max(one[WINDOW] // 2, least)
    if is_persistent:
        one[WINDOW], real[RECOVERY_START] = least, 0.0
    set_pace(one, real)


@njit
def acknowledge(tables, row, found, at, count, delay_s, now):
    """Take in ranges that the peer acknowledges: (from, to) pairs in `found` from `at` on, oldest first."""
    one, real, ring, times = tables[0][row], tables[1][row], tables[2], tables[3]
    largest = found[at + 2 * count - 1] - 1
    one[LARGEST_ACKED] = max(one[LARGEST_ACKED], largest)
    newest, newest_at, elicited, place = np.int64(-1), 0.0, False, at
    for k in range(one[HEAD], one[TAIL]):
        entry = ring[row, k & MASK]
        flags, number = entry[ENTRY_FLAGS], entry[ENTRY_NUMBER]
        if number > largest:
            break
        while found[place + 1] <= number:
            place += 2
        if number < found[place] or flags & IS_DONE:
            continue
        if flags & IS_LOST:
            one[LOST] -= 1  # it came after all
        else:
            newest, newest_at = number, times[row, k & MASK]
            if flags & IS_FIRST:
                if flags & ELICITS:
                    one[ELICITING] -= 1
                    elicited = True
                if flags & FLIES:
                    _packet_acknowledged(one, real, entry[ENTRY_BYTES], newest_at)
        entry[ENTRY_FLAGS] = flags | IS_DONE
        if flags & FOREIGN:
            tell(tables, FOREIGN_ACKED, row, number)
        else:
            _arrived(tables, row, entry, flags)
    if newest >= 0:
        if newest == largest and elicited:
            _measure_round_trip(one, real, now - newest_at, delay_s, now)
        detect_losses(tables, row, now)
        one[PTO_COUNT] = 0
    forget_done(one, ring, row)


@njit
def probe(tables, row):
    """Send the oldest packet that asks for an acknowledgement again, before anything says that it is lost."""
    one, ring = tables[0][row], tables[2]
    one[PTO_COUNT] += 1
    tables[9][PROBES] += 1
    oldest, is_foreign = np.int64(-1), False
    for k in range(one[HEAD], one[TAIL]):
        entry = ring[row, k & MASK]
        flags = entry[ENTRY_FLAGS]
        if flags & (IS_DONE | IS_LOST):
            continue
        if oldest < 0:
            if not (flags & ELICITS):
                continue
            oldest, is_foreign = entry[ENTRY_NUMBER], flags & FOREIGN != 0
            one[ELICITING] -= 1
            if flags & FLIES:
                one[IN_FLIGHT] -= entry[ENTRY_BYTES]
        elif entry[ENTRY_NUMBER] != oldest:
            break
        _lose(tables, row, entry)
    if is_foreign:
        tell(tables, PROBE, row, oldest)
    else:
        one[IS_PROBING] = 1
    forget_done(one, ring, row)
