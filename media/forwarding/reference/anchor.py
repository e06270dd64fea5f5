"""How a subscription's numbers follow from those of its track, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass

from media.forwarding.reference.tracks import Cached

REPLAY_TICKS = 90  # between replayed frames, in units of the RTP clock


@dataclass(frozen=True, slots=True)
class Anchor:
    """How a subscription's numbers follow from its track's, from source packet `ext_seq` on.

    Frames up to `replayed_frame` were replayed, a millisecond apart and ending at `replayed_timestamp`.
    """

    ext_seq: int
    restarts: int
    seq_delta: int
    timestamp_delta: int
    replayed_frame: int = -1
    replayed_timestamp: int = 0

    def timestamp(self, packet: Cached) -> int:
        """Return the timestamp under which a packet leaves; the same at each retransmission."""
        if packet.frame <= self.replayed_frame:
            squeezed = self.replayed_timestamp - REPLAY_TICKS * (self.replayed_frame - packet.frame)
            return squeezed + self.timestamp_delta
        return packet.timestamp + self.timestamp_delta
