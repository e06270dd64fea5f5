"""Names the RTP header extensions that are passed on from publishers to viewers, each under its receiver's own id.

Everything else in a header belongs to one hop and stays there. All are written by whoever publishes, and never made
up here. The clock offset within a capture time is that of the clock of the sender reports, and those that viewers
get go on with the publisher's own clock: so it, too, holds as it comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from media.wire import dependency


class Passed(IntEnum):
    """Columns of the forwarding tables' `extension_ids`; 0 is free, as an id is."""

    AUDIO_LEVEL = 1  # RFC 6464: how loud, and whether it is a voice
    ORIENTATION = 2  # 3GPP TS 26.114 section 7.4.5: how the picture is to be turned
    PLAYOUT_DELAY = 3  # the least and the most that a player is to wait
    CAPTURE_TIME = 4  # when it was captured (absolute)
    DEPENDENCY = 5  # of which layers a frame is, and which frames it needs
    CELLS = 8


URIS = {
    Passed.AUDIO_LEVEL: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    Passed.ORIENTATION: "urn:3gpp:video-orientation",
    Passed.PLAYOUT_DELAY: "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    Passed.CAPTURE_TIME: "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    Passed.DEPENDENCY: dependency.URI,
}
SIZES: Mapping[Passed, Sequence[int]] = {
    Passed.AUDIO_LEVEL: (1,),
    Passed.ORIENTATION: (1,),
    Passed.PLAYOUT_DELAY: (3,),
    Passed.CAPTURE_TIME: (8, 16),
    Passed.DEPENDENCY: range(3, 256),
}
KINDS = {
    "audio": (Passed.AUDIO_LEVEL, Passed.CAPTURE_TIME),
    "video": (Passed.ORIENTATION, Passed.PLAYOUT_DELAY, Passed.CAPTURE_TIME, Passed.DEPENDENCY),
}
# Not taken of those who publish over WebRTC: who is not allowed to leave the turning to viewers turns the picture, and
# then it is upright also for those who know nothing of it, as Firefox, aiortc, and players over MoQ.
TURNED_BY_SENDER = (Passed.ORIENTATION,)
