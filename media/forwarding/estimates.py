"""What is known of the way to each viewer: the records that the kernel keeps, and the constants of its judgement.

Names of constants say where they come from: GCC is draft-ietf-rmcat-gcc-02 as libwebrtc has it today.
"""

from __future__ import annotations

import numpy as np

TREND_POINTS = 20  # GCC: a third of a second of groups
SENT_LOG = 1024  # packets remembered of each viewer: at 5 Mbit/s those of two seconds; a power of two

SENT = np.dtype([("at_ns", "i8"), ("size", "i4")], align=True)  # K; with the tag, 0 once its arrival was reported

ESTIMATE = np.dtype(
    [
        ("bps", "f8"),  # K: what the way carries, 0 while nothing is known
        ("told_ns", "i8"),  # K: when it last told something
        ("cuts", "i8"),  # K: how often `bps` was lowered at once
        ("needs_bps", "f8"),  # P: what the picture takes that it gets, 0 unknown
        ("probe_bps", "f8"),  # P: what somebody would send if the way carried it, 0 nothing
        # K, all that follows
        ("remb_bps", "f8"),  # of receivers that say no more
        ("clock", "i8"),  # reference time of the newest report, extended
        # groups of packets that left together
        ("group_first_sent_ns", "i8"),  # 0: no group yet
        ("group_sent_ns", "i8"),
        ("group_first_arrived_ns", "i8"),
        ("group_arrived_ns", "i8"),
        ("former_sent_ns", "i8"),  # 0: no group before this one
        ("former_arrived_ns", "i8"),
        # how the delay changes from group to group
        ("groups", "i8"),
        ("delay_ms", "f8"),
        ("smooth_ms", "f8"),
        ("threshold_ms", "f8"),
        ("threshold_at_ns", "i8"),
        ("over_ms", "f8"),
        ("over_groups", "i8"),
        ("former_trend", "f8"),
        ("is_over", "u1"),
        ("is_under", "u1"),
        # how long packets wait, as far as the quickest of them tell
        ("least_ns", "i8"),  # of this report's packets, 0 none yet
        ("base_ns", "i8"),  # of those of the last window and this
        ("window_least_ns", "i8"),
        ("window_ends_ns", "i8"),
        ("queue_ms", "f8"),
        ("standing", "i8"),  # reports in a row that told of a long queue
        # what arrives
        ("received_bps", "f8"),
        ("count_from_ns", "i8"),
        ("count_octets", "i8"),
        # what came while packets waited for each other: how quickly the link let them through
        ("arrived_ns", "i8"),  # the newest packet, 0 none yet
        ("busy_ns", "i8"),
        ("busy_octets", "i8"),
        # additive increase, multiplicative decrease
        ("delay_bps", "f8"),
        ("link_bps", "f8"),  # what arrived when it was last lowered, 0 unknown
        ("cut_ns", "i8"),
        ("changed_ns", "i8"),
        # losses
        ("loss_bps", "f8"),
        ("loss_from_ns", "i8"),
        ("lost", "i8"),
        ("got", "i8"),
        # the probe that is under way: the numbers of its packets, the first of which begins the time
        ("probe_goal_bps", "f8"),  # what it or the next is to show, 0 for another beginning
        ("probe_due_ns", "i8"),
        ("probe_first", "i8"),
        ("probe_last", "i8"),
        ("probe_began_ns", "i8"),
        ("probe_ended_ns", "i8"),
        ("probe_octets", "i8"),
        ("probe_found_bps", "f8"),  # of the one before, 0 none
        ("probe_fails", "i8"),  # how many showed nothing better, one after the other
    ],
    align=True,
)

MS_NS = 1_000_000
SECOND_NS = 1_000_000_000

START_BPS = 500_000.0  # before anything is known: a small picture, which nearly every network carries
LEAST_BPS = 30_000.0
MOST_BPS = 50_000_000.0
# GCC: packets that left within 5 ms are one group, and so are those that arrived in one go after waiting together.
GROUP_NS, BURST_NS, LONGEST_BURST_NS = 5 * MS_NS, 5 * MS_NS, 100 * MS_NS
SMOOTHING, GAIN, MOST_GROUPS = 0.9, 4.0, 60
FIRST_THRESHOLD_MS, LEAST_THRESHOLD_MS, MOST_THRESHOLD_MS = 12.5, 6.0, 600.0
RISE, FALL = 0.0087, 0.039  # GCC: of the threshold, towards the trend
OUTLIER_MS, LONGEST_STEP_MS = 15.0, 100.0
OVER_MS = 10.0
# Most frames leave at once, so that each is a small queue of its own, and a network's jitter looks like a trend: only
# where also the quickest packets wait is it a queue.
QUEUE_MS = 15.0
STANDING_MS, STANDING_REPORTS = 80.0, 2  # a queue as long as that is one, whatever the trend, but a pause is over soon
BASE_WINDOW_NS = 10 * SECOND_NS
COUNT_NS = 150 * MS_NS  # GCC
# What arrives is less than a link carries where little is sent. While packets wait for each other it is just that.
LEAST_BUSY_NS = 30 * MS_NS
DECREASE, INCREASE_PER_S, HEADROOM, HEADROOM_BPS = 0.85, 0.08, 1.5, 10_000.0  # GCC
NEAR_LINK, STEP_BPS_PER_S = 0.15, 50_000.0  # a packet each round trip of 200 ms
CUT_EVERY_NS = 250 * MS_NS  # a round trip, and the time for it to be seen
LOSS_WINDOW_NS, LOSS_PACKETS = 250 * MS_NS, 20
HIGH_LOSS, LOW_LOSS, LOSS_INCREASE = 0.10, 0.02, 1.05  # GCC
# libwebrtc's steps: a probe shows thrice what is known, the next six times that, and each that follows twice as much,
# for as long as all but a little of it comes through. Where the link is known, or nothing was found, twice is enough.
PROBE_FIRST, PROBE_NEXT, PROBE_STEP, PROBE_SHOWN = 3.0, 2.0, 2.0, 0.7
# Two probes have to agree: on radio links packets come in bunches, and one alone may look infinitely quick.
PROBE_AGAIN_NS, PROBE_LOST_NS = 100 * MS_NS, SECOND_NS
PROBE_SHARE = 0.9
PROBE_TRUSTED = 2.0  # libwebrtc, too, takes no probe's word for more than twice what it was made for
# Those that show nothing better come ever more rarely, half as often after every two: chance spoils one now and then.
PROBE_AFTER_NS, PROBE_HALVINGS, FAILS_EACH = 250 * MS_NS, 5, 2  # at last every eight seconds
