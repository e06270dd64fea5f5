"""Compiled: what the way to a viewer carries, from when its packets left and arrived (draft-ietf-rmcat-gcc-02).

The delay between groups of packets is watched for a trend; one that rises, with packets waiting, lowers the estimate
to a share of what arrives, and otherwise it grows slowly. Since layers do not fill whatever is found, growth ends at
half more than what is sent; beyond that, probes tell. Losses bound it besides. Cost: 60 ns a packet and 100 ns a group.
Reads and writes estimates and trends alone. Said in plain Python in reference_estimation.py; judged by
tests/media/test_estimation.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.estimates import (
    BASE_WINDOW_NS,
    BURST_NS,
    COUNT_NS,
    CUT_EVERY_NS,
    DECREASE,
    FAILS_EACH,
    FALL,
    FIRST_THRESHOLD_MS,
    GAIN,
    GROUP_NS,
    HEADROOM,
    HEADROOM_BPS,
    HIGH_LOSS,
    INCREASE_PER_S,
    LEAST_BPS,
    LEAST_BUSY_NS,
    LEAST_THRESHOLD_MS,
    LONGEST_BURST_NS,
    LONGEST_STEP_MS,
    LOSS_INCREASE,
    LOSS_PACKETS,
    LOSS_WINDOW_NS,
    LOW_LOSS,
    MOST_BPS,
    MOST_GROUPS,
    MOST_THRESHOLD_MS,
    MS_NS,
    NEAR_LINK,
    OUTLIER_MS,
    OVER_MS,
    PROBE_AFTER_NS,
    PROBE_AGAIN_NS,
    PROBE_FIRST,
    PROBE_HALVINGS,
    PROBE_LOST_NS,
    PROBE_NEXT,
    PROBE_SHARE,
    PROBE_SHOWN,
    PROBE_STEP,
    PROBE_TRUSTED,
    QUEUE_MS,
    RISE,
    SECOND_NS,
    SMOOTHING,
    STANDING_MS,
    STANDING_REPORTS,
    START_BPS,
    STEP_BPS_PER_S,
    TREND_POINTS,
)


@njit(nogil=True)
def begin_estimate(t, row):
    """Begin with what nearly every network carries; a record of zeros has not begun."""
    t.estimates[row].bps = START_BPS
    t.estimates[row].delay_bps = START_BPS
    t.estimates[row].loss_bps = MOST_BPS
    t.estimates[row].threshold_ms = FIRST_THRESHOLD_MS


@njit(nogil=True)
def take_arrival(t, row, number, sent_ns, arrived_ns, size):
    """Take one packet that a viewer's end reported; `arrived_ns` is in that end's own time."""
    t.estimates[row].got += 1
    waited_ns = arrived_ns - sent_ns
    if t.estimates[row].least_ns == 0 or waited_ns < t.estimates[row].least_ns:
        t.estimates[row].least_ns = waited_ns
    _count(t, row, arrived_ns, size)
    _see_link(t, row, waited_ns, arrived_ns, size)
    _see_probe(t, row, number, arrived_ns, size)
    _group(t, row, sent_ns, arrived_ns)


@njit(nogil=True)
def take_report(t, row, lost, highest, now):
    """Judge what one report told: `lost` packets did not arrive, `highest` is the last number it spoke of."""
    t.estimates[row].told_ns = now
    t.estimates[row].lost += lost
    _measure_queue(t, row, now)
    _move_delay_bound(t, row, now)
    _move_loss_bound(t, row, now)
    _end_probe(t, row, highest, now)
    bound = min(t.estimates[row].delay_bps, t.estimates[row].loss_bps)
    t.estimates[row].bps = min(max(bound, LEAST_BPS), MOST_BPS)


@njit(nogil=True)
def _count(t, row, arrived_ns, size):
    e = t.estimates[row]
    elapsed = arrived_ns - e.count_from_ns
    if e.count_from_ns == 0 or elapsed < 0:
        t.estimates[row].count_from_ns = arrived_ns
        t.estimates[row].count_octets = 0
        return
    t.estimates[row].count_octets += size
    if elapsed < COUNT_NS:
        return
    found = e.count_octets * 8.0 * SECOND_NS / elapsed
    t.estimates[row].received_bps = found if e.received_bps == 0 else 0.5 * (e.received_bps + found)
    t.estimates[row].count_from_ns = arrived_ns
    t.estimates[row].count_octets = 0


@njit(nogil=True)
def _see_link(t, row, waited_ns, arrived_ns, size):
    """Count a packet that waited: it came as soon after the one before it as the link let it."""
    e = t.estimates[row]
    if e.window_ends_ns != 0 and waited_ns - e.base_ns > QUEUE_MS * MS_NS and e.arrived_ns != 0:
        t.estimates[row].busy_ns += max(arrived_ns - e.arrived_ns, 0)
        t.estimates[row].busy_octets += size
    t.estimates[row].arrived_ns = max(e.arrived_ns, arrived_ns)


@njit(nogil=True)
def _carried_bps(t, row):
    """Return what the link carried of late: what arrives, or more where less is sent than that."""
    e = t.estimates[row]
    busy_bps = e.busy_octets * 8.0 * SECOND_NS / e.busy_ns if e.busy_ns >= LEAST_BUSY_NS else 0.0
    return max(e.received_bps, busy_bps)


@njit(nogil=True)
def _group(t, row, sent_ns, arrived_ns):
    e = t.estimates[row]
    if e.group_first_sent_ns == 0:
        _begin_group(t, row, sent_ns, arrived_ns)
        return
    if sent_ns < e.group_first_sent_ns:
        return  # overtaken: its group is judged already
    came_on = arrived_ns - e.group_arrived_ns
    left_on = sent_ns - e.group_sent_ns
    is_burst = came_on <= BURST_NS and came_on < left_on and arrived_ns - e.group_first_arrived_ns < LONGEST_BURST_NS
    if sent_ns - e.group_first_sent_ns <= GROUP_NS or is_burst:
        t.estimates[row].group_sent_ns = max(e.group_sent_ns, sent_ns)
        t.estimates[row].group_arrived_ns = max(e.group_arrived_ns, arrived_ns)
        return
    if e.former_sent_ns != 0:
        _see_group(t, row, e.group_sent_ns - e.former_sent_ns, e.group_arrived_ns - e.former_arrived_ns)
    t.estimates[row].former_sent_ns = e.group_sent_ns
    t.estimates[row].former_arrived_ns = e.group_arrived_ns
    _begin_group(t, row, sent_ns, arrived_ns)


@njit(nogil=True)
def _begin_group(t, row, sent_ns, arrived_ns):
    t.estimates[row].group_first_sent_ns = t.estimates[row].group_sent_ns = sent_ns
    t.estimates[row].group_first_arrived_ns = t.estimates[row].group_arrived_ns = arrived_ns


@njit(nogil=True)
def _see_group(t, row, left_ns, came_ns):
    """Take the times between two groups: fit a line through the last delays, and say whether it rises."""
    e = t.estimates[row]
    delay_ms = e.delay_ms + (came_ns - left_ns) / MS_NS
    smooth_ms = SMOOTHING * e.smooth_ms + (1 - SMOOTHING) * delay_ms
    groups = e.groups + 1
    t.estimates[row].groups = groups
    t.estimates[row].delay_ms = delay_ms
    t.estimates[row].smooth_ms = smooth_ms
    place = groups % TREND_POINTS
    t.trends[row, place, 0] = e.group_arrived_ns / MS_NS
    t.trends[row, place, 1] = smooth_ms
    if groups < TREND_POINTS:
        return
    trend = _slope(t, row) * min(groups, MOST_GROUPS) * GAIN
    _detect(t, row, trend, left_ns / MS_NS)
    _adapt_threshold(t, row, abs(trend), e.group_arrived_ns)


@njit(nogil=True)
def _slope(t, row):
    """Return the slope of the line through the points, by least squares."""
    mean_x, mean_y = 0.0, 0.0
    first = t.trends[row, 0, 0]  # times are large: differences from one of them keep their digits
    for place in range(TREND_POINTS):
        mean_x += t.trends[row, place, 0] - first
        mean_y += t.trends[row, place, 1]
    mean_x, mean_y = mean_x / TREND_POINTS, mean_y / TREND_POINTS
    up, down = 0.0, 0.0
    for place in range(TREND_POINTS):
        x = t.trends[row, place, 0] - first - mean_x
        up += x * (t.trends[row, place, 1] - mean_y)
        down += x * x
    return up / down if down > 0 else 0.0


@njit(nogil=True)
def _detect(t, row, trend, left_ms):
    e = t.estimates[row]  # a view: what is written below is what it says from then on
    rises = trend >= e.former_trend
    t.estimates[row].is_under = trend < -e.threshold_ms
    t.estimates[row].former_trend = trend
    if trend <= e.threshold_ms:
        t.estimates[row].is_over = 0
        t.estimates[row].over_ms = 0.0
        t.estimates[row].over_groups = 0
        return
    t.estimates[row].over_ms += left_ms if e.over_groups else left_ms / 2
    t.estimates[row].over_groups += 1
    if e.over_ms > OVER_MS and e.over_groups > 1 and rises:
        t.estimates[row].is_over = 1


@njit(nogil=True)
def _adapt_threshold(t, row, size, now):
    e = t.estimates[row]
    step_ms = min((now - e.threshold_at_ns) / MS_NS, LONGEST_STEP_MS) if e.threshold_at_ns else 0.0
    t.estimates[row].threshold_at_ns = now
    if size > e.threshold_ms + OUTLIER_MS:
        return
    pace = FALL if size < e.threshold_ms else RISE
    moved = e.threshold_ms + pace * (size - e.threshold_ms) * step_ms
    t.estimates[row].threshold_ms = min(max(moved, LEAST_THRESHOLD_MS), MOST_THRESHOLD_MS)


@njit(nogil=True)
def _measure_queue(t, row, now):
    """Compare this report's quickest packet with the quickest of the last seconds."""
    least = np.int64(t.estimates[row].least_ns)
    t.estimates[row].least_ns = 0
    if least == 0:
        return
    e = t.estimates[row]
    if e.window_ends_ns == 0:
        t.estimates[row].base_ns = t.estimates[row].window_least_ns = least
        t.estimates[row].window_ends_ns = now + BASE_WINDOW_NS
    elif now >= e.window_ends_ns:
        t.estimates[row].base_ns = min(e.window_least_ns, least)
        t.estimates[row].window_least_ns = least
        t.estimates[row].window_ends_ns = now + BASE_WINDOW_NS
    else:
        t.estimates[row].base_ns = min(e.base_ns, least)
        t.estimates[row].window_least_ns = min(e.window_least_ns, least)
    t.estimates[row].queue_ms = (least - t.estimates[row].base_ns) / MS_NS


@njit(nogil=True)
def _move_delay_bound(t, row, now):
    e = t.estimates[row]
    elapsed_s = min((now - e.changed_ns) / SECOND_NS, 1.0) if e.changed_ns else 0.0
    t.estimates[row].changed_ns = now
    t.estimates[row].standing = e.standing + 1 if e.queue_ms > STANDING_MS else 0
    if (e.is_over and e.queue_ms > QUEUE_MS) or e.standing >= STANDING_REPORTS:
        carried = _carried_bps(t, row)
        lowered = DECREASE * carried
        if carried > 0 and lowered < e.delay_bps and now - e.cut_ns >= CUT_EVERY_NS:
            t.estimates[row].link_bps = carried
            t.estimates[row].delay_bps = max(lowered, LEAST_BPS)
            t.estimates[row].cut_ns = now
            t.estimates[row].cuts += 1
            t.estimates[row].busy_ns = t.estimates[row].busy_octets = 0
        return
    if e.queue_ms <= QUEUE_MS:
        t.estimates[row].busy_ns = t.estimates[row].busy_octets = 0
    if e.is_under or e.queue_ms > QUEUE_MS:
        return  # it drains
    if e.link_bps and abs(e.delay_bps - e.link_bps) < NEAR_LINK * e.link_bps:
        grown = e.delay_bps + STEP_BPS_PER_S * elapsed_s
    else:
        grown = e.delay_bps * (1 + INCREASE_PER_S * elapsed_s)
    most = max(e.delay_bps, HEADROOM * e.received_bps + HEADROOM_BPS)
    t.estimates[row].delay_bps = min(grown, most, MOST_BPS)


@njit(nogil=True)
def _move_loss_bound(t, row, now):
    e = t.estimates[row]
    seen = e.lost + e.got
    if e.loss_from_ns == 0:
        t.estimates[row].loss_from_ns = now
    if seen < LOSS_PACKETS or now - e.loss_from_ns < LOSS_WINDOW_NS:
        return
    share = e.lost / seen
    t.estimates[row].lost = t.estimates[row].got = 0
    t.estimates[row].loss_from_ns = now
    if share > HIGH_LOSS:
        t.estimates[row].loss_bps = max(min(e.loss_bps, e.delay_bps) * (1 - 0.5 * share), LEAST_BPS)
        t.estimates[row].cuts += 1
    elif share < LOW_LOSS:
        t.estimates[row].loss_bps = min(e.loss_bps * LOSS_INCREASE, MOST_BPS)


@njit(nogil=True)
def probe_goal(t, row, now):
    """Return how many bits a second a probe is to show now, 0 where none is due."""
    e = t.estimates[row]
    if e.probe_bps <= e.bps:
        if e.probe_fails or e.probe_goal_bps:
            t.estimates[row].probe_fails = 0
            t.estimates[row].probe_goal_bps = t.estimates[row].probe_found_bps = 0.0
            t.estimates[row].probe_due_ns = now + PROBE_AFTER_NS
        return 0.0
    if e.bps == 0 or now < e.probe_due_ns:
        return 0.0
    step = PROBE_FIRST if e.link_bps == 0 and e.probe_fails == 0 else PROBE_NEXT
    return min(e.probe_goal_bps if e.probe_goal_bps else step * e.bps, e.probe_bps)


@njit(nogil=True)
def note_probe(t, row, first, last, goal_bps, now):
    """Note that packets `first` + 1 to `last` were sent at once behind packet `first`, to see how quickly they come."""
    t.estimates[row].probe_fails += t.estimates[row].probe_last != 0  # of the one before nothing was heard
    t.estimates[row].probe_first = first
    t.estimates[row].probe_last = last
    t.estimates[row].probe_goal_bps = goal_bps
    t.estimates[row].probe_began_ns = 0
    t.estimates[row].probe_octets = 0
    t.estimates[row].probe_due_ns = now + PROBE_LOST_NS


@njit(nogil=True)
def _see_probe(t, row, number, arrived_ns, size):
    e = t.estimates[row]
    if number < e.probe_first or number > e.probe_last or e.probe_last == 0:
        return
    if number == e.probe_first:
        t.estimates[row].probe_began_ns = arrived_ns
    elif e.probe_began_ns != 0:
        t.estimates[row].probe_octets += size
        t.estimates[row].probe_ended_ns = arrived_ns


@njit(nogil=True)
def _end_probe(t, row, highest, now):
    """When a probe is through, take what it found, if the one before found as much; go on, or wait for a while."""
    e = t.estimates[row]
    if e.probe_last == 0 or highest < e.probe_last:
        return
    t.estimates[row].probe_last = 0
    found, before, goal_bps = _found_bps(t, row), np.float64(e.probe_found_bps), np.float64(e.probe_goal_bps)
    shown = PROBE_SHARE * (min(found, before) if before else found)
    is_more = shown > e.bps
    if before and is_more:
        _believe(t, row, min(shown, PROBE_TRUSTED * goal_bps, MOST_BPS))
    if (before == 0 and is_more) or (shown >= PROBE_SHOWN * goal_bps and goal_bps < e.probe_bps):
        t.estimates[row].probe_found_bps = found
        t.estimates[row].probe_goal_bps = PROBE_STEP * goal_bps
        t.estimates[row].probe_due_ns = now + PROBE_AGAIN_NS
        return
    t.estimates[row].probe_found_bps = t.estimates[row].probe_goal_bps = 0.0
    t.estimates[row].probe_due_ns = now + (PROBE_AFTER_NS << min(e.probe_fails // FAILS_EACH, PROBE_HALVINGS))
    t.estimates[row].probe_fails += 1


@njit(nogil=True)
def _found_bps(t, row):
    """Return how quickly a probe's packets came, 0 where that says nothing."""
    e = t.estimates[row]
    if e.probe_octets == 0 or e.is_over or e.queue_ms > QUEUE_MS:
        return 0.0
    return e.probe_octets * 8.0 * SECOND_NS / max(e.probe_ended_ns - e.probe_began_ns, MS_NS // 4)


@njit(nogil=True)
def _believe(t, row, bps):
    """Raise the estimate; a link that is known stays so unless it carries clearly more than was known."""
    t.estimates[row].delay_bps = max(t.estimates[row].delay_bps, bps)
    if bps > (1 + NEAR_LINK) * t.estimates[row].link_bps:
        t.estimates[row].link_bps = 0.0
    t.estimates[row].loss_bps = max(t.estimates[row].loss_bps, bps)
