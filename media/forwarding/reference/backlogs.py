"""What waits leaves as there is room for it, after it was asked anew whether it may, in plain Python."""

from __future__ import annotations

from collections.abc import Iterator

from media.forwarding.backlogs import LONGEST_NS, SKIP_NS
from media.forwarding.reference.decisions import REPLAY_NS, Dropped, Outcome, Subscription, verdict
from media.forwarding.tables import Count


def send_backlog(subscription: Subscription, now: int) -> Iterator[Outcome]:
    """Send what there is room for of what a subscription waits for, and all of it when that was for long enough."""
    if not subscription.is_anchored:
        yield from subscription.skip_backlog()
    if subscription.backlog is not None and now - subscription.backlog.since_ns > SKIP_NS:
        yield from _skip_to_keyframe(subscription, now)
    if subscription.backlog is None:
        return
    is_late = now - subscription.backlog.since_ns > LONGEST_NS
    for ext_seq in range(subscription.newest_offered + 1, subscription.backlog.to + 1):
        if not is_late and not subscription.viewer.pace.has_room(now):
            return
        yield from _send_if_there(subscription, ext_seq, now)
        if not _waits(subscription):
            break
    subscription.backlog = None
    if is_late:
        subscription.viewer.pace.taken_ns = min(subscription.viewer.pace.taken_ns, now)


def _waits(subscription: Subscription) -> bool:
    return subscription.backlog is not None


def _skip_to_keyframe(subscription: Subscription, now: int) -> Iterator[Outcome]:
    """Go on with a newer keyframe, if it is in the cache and as young as those that viewers begin with."""
    track, backlog = subscription.track, subscription.backlog
    assert backlog is not None
    if track.key is None or not subscription.newest_offered + 1 < track.key < backlog.to:
        return
    key, newest = track.cached(track.key), track.cached(backlog.to)
    may_begin = now - track.key_ns < REPLAY_NS and track.key_ns >= subscription.viewer.room.opened_ns
    if may_begin and key is not None and newest is not None:
        yield from subscription.skip_backlog()
        yield from subscription.replay(key, newest, now)


def _send_if_there(subscription: Subscription, ext_seq: int, now: int) -> Iterator[Outcome]:
    """Offer a packet that waited; without the right, or where it was overtaken, nothing more of the backlog leaves."""
    track = subscription.track
    reason = verdict(subscription.viewer, now, track.required_of_all)
    if reason is None and track.was_overtaken(ext_seq):
        reason = Count.OVERTAKEN
    if reason is not None:
        yield Dropped(reason)
        yield from subscription.skip_backlog()
        subscription.anchor = None
        return
    packet = track.cached(ext_seq)
    if packet is not None:
        yield from subscription.offer(packet, now)
