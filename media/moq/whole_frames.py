"""Whole frames straight from their tracks into packets, where nothing stands in the way: most of what leaves here.

What can't go so is left alone, for `Peer.write` and media/moq/stream_packets.py to look at piece by piece: a group that
begins or was overtaken, what waits for room, what is lost, a right that is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from media.moq.cursor import GroupCursor
from media.moq.delivery import Delivery, Fetched
from media.moq.packets import MAX_CHUNKS, Burst
from media.moq.quic_carrier import QuicCarrier

HEADER_BYTES = 12  # in front of a frame's payload, at most: the difference of two timestamps, and a length
MAX_FRAMES = 16  # of a stream at once
OPENING_BYTES = 48  # of a stream, at most: its kind, session, subscription and group

Ready = tuple[tuple[int, int], int, Delivery, GroupCursor]  # urgency, the highest first, and the most bytes


def send_whole_frames(deliveries: Iterable[Delivery | Fetched], carrier: QuicCarrier, now: float) -> Burst | None:
    """Send all that there is to send, in one burst; None, and nothing changed, when it can't go so."""
    ready = _ready(deliveries)
    if not ready or len(ready) > MAX_CHUNKS or not carrier.may_send(sum([size for _, size, _, _ in ready]), now):
        return None
    if not all(delivery.is_admitted for _, _, delivery, _ in ready):
        return None
    if len(ready) > 1:
        ready.sort(key=itemgetter(0), reverse=True)
    for _, size, delivery, cursor in ready:
        if (cursor.stream is None and not delivery.open(cursor)) or not carrier.takes(cursor.stream, size):
            return None
    return carrier.send([delivery.take_frames(cursor) for _, _, delivery, cursor in ready], now)


def _ready(deliveries: Iterable[Delivery | Fetched]) -> list[Ready] | None:
    """Return what has whole frames to send on a stream that is open; None when another has something else."""
    ready: list[Ready] = []
    for delivery in deliveries:
        if isinstance(delivery, Fetched):
            if delivery.has_more or delivery.is_spent:
                return None
            continue
        if delivery.is_over or len(delivery.cursors) > 1:
            return None
        for cursor in delivery.cursors:
            frames, at = cursor.group.frames, cursor.frame
            if at < len(frames):
                if cursor.offset or cursor.group.is_dropped or len(frames) - at > MAX_FRAMES:
                    return None
                size = OPENING_BYTES + sum([len(frame.payload) + HEADER_BYTES for frame in frames[at:]])
                ready.append((delivery.urgency, size, delivery, cursor))
            elif cursor.group.is_finished:
                return None
    return ready
