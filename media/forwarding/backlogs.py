"""What of a picture waits for a viewer's way to have room: the records that the kernel keeps, and how long it may wait.

Nothing is copied: what waits is in the track's cache, and a subscription's backlog is all that follows what it was
offered last, up to `to`.
"""

from __future__ import annotations

import numpy as np

BACKLOG = np.dtype(
    [
        ("listed", "u1"),  # K: it is in the worker's list of those that wait
        ("to", "i8"),  # K: the newest source packet that waits
        ("since_ns", "i8"),  # K: when the first began to
    ],
    align=True,
)

MS_NS = 1_000_000
# Picture leaves at libwebrtc's two and a half times of what is known to come through, so that a large one is there
# soon; where the link itself is known, as it was full, a little slower than that: what does not wait here would wait
# there, in front of the sound.
PACE, LINK_SHARE = 2.5, 0.95
# What may leave at once: at 2.5 times that is 30 ms of what is known, as most pictures are, which leave in one message.
BURST_NS = 12 * MS_NS
EVERY_NS = 2 * MS_NS  # the list is looked through no more often
SKIP_NS = 300 * MS_NS  # who is so late gets a newer keyframe at once, if there is one
LONGEST_NS = 2_000 * MS_NS  # libwebrtc's: then it leaves all the same, as an estimate may be wrong
OCTET_NS = 8e9  # at one bit a second


def octet_ns(bps: float, link_bps: float, needs_bps: float) -> int:
    """Return for how long an octet takes the way of a viewer, by what is known of it and of its link (0 unknown).

    Before a link was ever full, a picture that is sent whatever is known of the way leaves as quickly as if it fitted.
    """
    if link_bps > 0:
        return int(OCTET_NS / min(PACE * bps, max(bps, LINK_SHARE * link_bps)))
    return int(OCTET_NS / (PACE * max(bps, needs_bps)))
