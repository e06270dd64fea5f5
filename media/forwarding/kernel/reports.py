"""Compiled: the sender reports of publishers, also of a source whose first packet is still to come.

FFmpeg's first report comes before the first packet of its source, and its next one 5 s later: until then nothing would
keep sound and picture together. Cost: rare, a loop over the payload types of one transport. Reads payload types; writes
tracks and counters.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.sending import read_report
from media.forwarding.tables import RED_BIT, RTX_BIT, Count
from media.io.octets import read_u32
from media.io.ordering import release

REPORTS_APART = 60  # s between the reports of two layers, of which both come every few: more is no pair
BEHIND = 2  # a layer that was captured half a second before another was not: FLOOR_FRAMES have to bridge it
ASTRAY_S = 1  # what no encoder and no network differ by from layer to layer
SENDER_REPORT = 28  # octets of one without report blocks (RFC 3550 section 6.4.1)


@njit(nogil=True)
def take_sender_report(t, data, at, end, transport, now):
    """Keep a report for the track that its source feeds, or for whichever that is going to be."""
    if end - at < SENDER_REPORT:
        t.counters[Count.MALFORMED_RTCP] += np.uint64(1)
        return
    ssrc = np.uint64(read_u32(data, at + 4))
    is_known = _keep(t, data, at, transport, ssrc, ssrc, now)
    if not is_known:
        _keep(t, data, at, transport, ssrc, np.uint64(0), now)


@njit(nogil=True)
def _keep(t, data, at, transport, ssrc, fed_by, now):
    """Write the report into the tracks that a source feeds, 0: those without one; returns whether there was any."""
    is_kept = False
    for payload_type in range(128):
        mapped = np.int64(t.payload_types[transport, payload_type])
        if mapped == 0 or mapped & (RTX_BIT | RED_BIT):
            continue
        track = mapped - 1
        while track >= 0:
            if t.tracks[track].ssrc == fed_by:
                t.tracks[track].sr_version += 1
                release()
                t.tracks[track].sr_ssrc = ssrc
                t.tracks[track].sr_rtp = read_u32(data, at + 16)
                t.tracks[track].sr_arrival_ns = now
                t.tracks[track].sr_ntp = np.uint64(read_u32(data, at + 8)) << np.uint64(32) | np.uint64(
                    read_u32(data, at + 12)
                )
                release()
                t.tracks[track].sr_version += 1
                is_kept = True
            track = np.int64(t.tracks[track].next_layer)
    return is_kept


@njit(nogil=True)
def captured_later(t, former, former_ts, track, ts, arrived_later):
    """Return how long after `former_ts` of the former layer `ts` of this one was captured, in units of the RTP clock.

    Layers of one picture have clocks of their own, and what is larger takes longer to arrive. Their reports pair both
    with the publisher's one clock; where they say what can't be, or there are none, it is `arrived_later`.
    """
    clock = np.int64(t.tracks[track].clock_rate)
    ntp, rtp, _ = read_report(t, track)
    former_ntp, former_rtp, _ = read_report(t, former)
    if ntp == 0 or former_ntp == 0:
        return arrived_later
    between = np.int64(ntp - former_ntp)  # 2^-32 s, either way
    if abs(between) >= REPORTS_APART << 32:
        return arrived_later
    later = (between * clock >> 32) + apart(ts, rtp) - apart(former_ts, former_rtp)
    is_likely = later >= -clock // BEHIND and abs(later - arrived_later) < clock * ASTRAY_S
    return later if is_likely else arrived_later


@njit(nogil=True)
def apart(later, earlier):
    """Return how much later one RTP time is than another; both may have wrapped."""
    return ((later - earlier + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@njit(nogil=True)
def begin_reports(t, track, ssrc):
    """Forget the report of a track that source `ssrc` is about to begin anew, unless it is that source's first."""
    if t.tracks[track].ssrc == ssrc or t.tracks[track].sr_ssrc != ssrc:
        t.tracks[track].sr_ntp = np.uint64(0)
