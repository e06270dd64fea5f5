"""One subscription's way out: which groups it still gets, in which order, and what it loses when it falls behind.

Frames stay in the track until the connection has room for them: then the most urgent piece is written. So a slow
subscriber costs a few cursors, and whatever was not written when its right ends is never sent. Before each piece the
admission is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from media.moq.carriers.carrier import Carried, Carrier, Code
from media.moq.protocol.cursor import GroupCursor
from media.moq.protocol.events import FetchWanted
from media.moq.protocol.frames import Frame
from media.moq.protocol.messages import Subscribe, SubscribeUpdate
from media.moq.protocol.session import Session
from media.moq.relaying.origin import Group, Track

MAX_LIVE_GROUPS = 16  # of a subscription: a third of a second of audio in groups of one 20 ms frame
GRACE_NS = 250_000_000  # a group just overtaken is almost out, and without its end the last pictures would freeze
MAX_LATENCY_NS = 10_000_000_000  # whatever a subscriber asks for


class Delivery:
    """A subscription as it is served; a `Reader` of its track.

    `admits` is asked of the track before each piece. While it says no, everything of the time is lost to the
    subscription, which goes on with the first group that begins after: what was recorded behind closed doors is not
    shown later. `has_sent` is called with each piece that left.
    """

    def __init__(
        self,
        session: Session,
        carrier: Carrier,
        request: int,
        wish: Subscribe,
        track: Track,
        admits: Callable[[Track], bool],
        has_sent: Callable[[], None],
    ) -> None:
        self.request, self.track, self.wish = request, track, wish
        self._session, self._carrier, self._admits, self._has_sent = session, carrier, admits, has_sent
        self.cursors: list[GroupCursor] = []  # of groups that are not written whole, the oldest first
        self._leaving: list[int] = []  # streams of groups written whole, of which something may be sent again
        self.counts = Counter[str]()
        self.is_over = False
        track.readers.append(self)
        for group in self._first_groups():
            self.group_began(group)

    @property
    def urgency(self) -> tuple[int, int]:
        """What goes first has the higher one: the subscriber's priority, then the publisher's."""
        return (self.wish.priority, self.track.info.priority)

    def update(self, wish: SubscribeUpdate) -> None:
        """Serve what the subscriber wants from now on."""
        self.wish = replace(
            self.wish,
            priority=wish.priority,
            is_ordered=wish.is_ordered,
            max_latency_ms=wish.max_latency_ms,
            start=wish.start,
            end=wish.end,
        )
        for cursor in tuple(self.cursors):
            if not self._wants(cursor.group.sequence):
                self._drop(cursor, Code.CANCELLED, "groups_not_wanted")
            elif cursor.carried is not None:
                self._carrier.rank(cursor.carried, self._rank(cursor))

    def switch(self, track: Track, now_ns: int) -> None:
        """Read another track from now on, beginning with its latest group; what is unsent of the one before is lost."""
        before = self.track
        before.readers.remove(self)
        self.silence(Code.CUT)
        self.track = track
        track.readers.append(self)
        latest = track.latest_after(before.next_sequence, now_ns)
        if latest is not None:
            self.group_began(latest)

    def close(self, code: int | None) -> None:
        """Read no more; with a code, what is not sent yet is lost at once, without one the groups here are finished."""
        if self in self.track.readers:
            self.track.readers.remove(self)
        self.is_over = True
        if code is not None:
            self.silence(code)

    def silence(self, code: int) -> None:
        """Have nothing more leave of what was taken up so far: neither what is unsent nor what was lost on the way."""
        for cursor in tuple(self.cursors):
            self._drop(cursor, code, "groups_cut")
        for stream in self._leaving:
            self._carrier.reset(stream, code)
        self._leaving.clear()

    @property
    def is_spent(self) -> bool:
        """Whether nothing will be written any more."""
        return self.is_over and not self.cursors

    def refuse_stream(self, stream: int) -> bool:
        """Write no more to a stream that the peer stopped; False when it is not ours."""
        for cursor in self.cursors:
            if cursor.stream == stream:
                self.cursors.remove(cursor)
                self.counts["groups_refused"] += 1
                return True
        return False

    # -- the track tells -----------------------------------------------------------------------------------------------

    def group_began(self, group: Group) -> None:
        """Take up a group."""
        if not self._wants(group.sequence):
            return
        if not self._admits(self.track):
            self.counts["groups_not_admitted"] += 1
            return
        if len(self.cursors) >= MAX_LIVE_GROUPS:
            oldest = min(self.cursors, key=lambda cursor: cursor.group.sequence)
            self._drop(oldest, Code.EXPIRED, "groups_too_many")
        self.cursors.append(GroupCursor(group))
        self.cursors.sort(key=lambda cursor: cursor.group.sequence)
        self._carrier.wake()

    def group_grew(self, group: Group) -> None:
        """Look at a group again."""
        for cursor in self.cursors:
            if cursor.group is group:
                if group.is_dropped:
                    self._drop(cursor, Code.EXPIRED, "groups_gone")
                elif not self._admits(self.track):
                    # Now, not when there is room: by then the right may be back, but not to this.
                    self._drop(cursor, Code.CUT, "groups_not_admitted")
                self._carrier.wake()
                return

    def datagram(self, sequence: int, frame: Frame) -> None:
        """Send a frame once, or not at all."""
        if self._admits(self.track) and self._session.send_datagram(self.request, sequence, frame):
            self.counts["datagrams"] += 1
            self._has_sent()
        else:
            self.counts["datagrams_dropped"] += 1

    def track_ended(self) -> None:
        """Finish what is there."""
        self.close(None)
        self._carrier.wake()

    # -- the connection has room ---------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The broadcast's."""
        return self.wish.broadcast

    @property
    def has_more(self) -> bool:
        """Whether there is something to write."""
        return any(cursor.carried is None and cursor.has_more for cursor in self.cursors)

    def expire(self, now_ns: int) -> None:
        """Drop the groups that the subscriber no longer wants to see finished."""
        if len(self.cursors) < 2:
            return
        patience_ns = max(GRACE_NS, min(self.wish.max_latency_ms * 1_000_000, MAX_LATENCY_NS))
        for cursor, newer in zip(tuple(self.cursors), tuple(self.cursors)[1:], strict=False):
            if now_ns - newer.group.began_ns > patience_ns:
                self._drop(cursor, Code.EXPIRED, "groups_expired")

    def look(self, now_ns: int) -> bool:
        """See what has left of groups that are carried, and what may; returns whether something is to be written."""
        cursors = self.cursors
        if len(cursors) == 1:
            carried = cursors[0].carried
            if carried is not None:
                self._look_at(cursors[0], carried)
                return False
        for cursor in tuple(cursors):
            if cursor.carried is not None:
                self._look_at(cursor, cursor.carried)
        self.expire(now_ns)
        return self.has_more

    def _look_at(self, cursor: GroupCursor, carried: Carried) -> None:
        sent = carried.sent
        if sent != cursor.offset:
            cursor.offset = sent
            self._has_sent()
        if carried.is_end_sent:
            self._written(cursor)
        elif carried.has_more and not self._admits(self.track):
            self._drop(cursor, Code.CUT, "groups_not_admitted")

    def write_piece(self) -> int:
        """Write the most urgent piece; returns its bytes, 0 when there is nothing to write now."""
        for cursor in self.cursors if self.wish.is_ordered else self.cursors[::-1]:
            written = self._write_from(cursor)
            if written:
                return written
        return 0

    def _write_from(self, cursor: GroupCursor) -> int:
        if cursor.is_carried or not cursor.has_more:
            return 0
        if not self._admits(self.track):
            self._drop(cursor, Code.CUT, "groups_not_admitted")
            return 0
        if cursor.stream is None and not self._open(cursor):
            return 0
        written = cursor.write_piece(self._carrier)
        if written and not cursor.is_refused:
            self._has_sent()
        if cursor.is_refused:
            self.cursors.remove(cursor)
            self.counts["groups_refused"] += 1
        elif written and cursor.is_written:
            self._written(cursor)
        return written

    def _written(self, cursor: GroupCursor) -> None:
        assert cursor.stream is not None
        self.cursors.remove(cursor)
        self._leaving.append(cursor.stream)
        self.counts["groups"] += 1

    def _open(self, cursor: GroupCursor) -> bool:
        """Open the stream of a group; False when nothing is to be written to it, or the peer grants none now."""
        self._leaving = [stream for stream in self._leaving if not self._carrier.is_done(stream)]
        opened = self._session.open_group(self.request, cursor.group.sequence)
        if opened is None:
            return False
        cursor.stream, cursor.writer = opened
        cursor.carried = self._carrier.carry(cursor.stream, cursor.group, cursor.writer, self._rank(cursor))
        return cursor.carried is None

    def _rank(self, cursor: GroupCursor) -> tuple[int, ...]:
        sequence = cursor.group.sequence
        return (*self.urgency, -sequence if self.wish.is_ordered else sequence)

    def _drop(self, cursor: GroupCursor, code: int, reason: str) -> None:
        self.cursors.remove(cursor)
        self.counts[reason] += 1
        if cursor.stream is not None:
            self._carrier.reset(cursor.stream, code)

    def _first_groups(self) -> list[Group]:
        """Return the groups in the cache that the subscriber asks for: from `start` on, else only the latest."""
        latest = self.track.latest
        if self.wish.start == 0:
            return [] if latest is None else [latest]
        return [group for sequence, group in sorted(self.track.groups.items()) if self._wants(sequence)]

    def _wants(self, sequence: int) -> bool:
        return self.wish.start <= sequence + 1 and (self.wish.end == 0 or sequence + 1 <= self.wish.end)


class Fetched:
    """One group of the past on its way out, on the stream that asked for it; a `Reader` of its track while it grows."""

    def __init__(
        self,
        session: Session,
        carrier: Carrier,
        wanted: FetchWanted,
        track: Track,
        group: Group,
        admits: Callable[[Track], bool],
    ) -> None:
        self.request, self.path, self.track = wanted.request, wanted.broadcast, track
        self.urgency = (wanted.priority, track.info.priority)
        self.counts = Counter[str]()
        self._carrier, self._admits = carrier, admits
        self._cursor = GroupCursor(group, wanted.request, session.frame_writer())
        self._is_over = False
        track.readers.append(self)

    @property
    def is_spent(self) -> bool:
        """Never: it ends with its group's last piece, which also ends the stream."""
        return self._is_over

    @property
    def has_more(self) -> bool:
        """Whether there is something to write."""
        return not self._is_over and self._cursor.has_more

    def look(self, now_ns: int) -> bool:
        """Return whether there is something to write: nothing is too late for who asks for the past."""
        return self.has_more

    def write_piece(self) -> int:
        """Write the next piece; returns its bytes, 0 when there is nothing to write now."""
        if self._is_over or not self._cursor.has_more:
            return 0
        if not self._admits(self.track) or self._cursor.group.is_dropped:
            self.close(Code.CUT)
            return 0
        written = self._cursor.write_piece(self._carrier)
        self._is_over = self._cursor.is_refused or (written > 0 and self._cursor.is_written)
        return written

    def refuse_stream(self, stream: int) -> bool:
        """Leave it to the request's end."""
        return False

    def close(self, code: int | None) -> None:
        """Read no more; with a code, what is not sent yet, or was lost on the way, never is."""
        if self in self.track.readers:
            self.track.readers.remove(self)
        self._is_over = True
        if code is not None:
            self._carrier.reset(self.request, code)

    def group_began(self, group: Group) -> None:
        """Leave later groups alone."""

    def group_grew(self, group: Group) -> None:
        """Look at the group again."""
        if group is self._cursor.group and not self._is_over:
            if group.is_dropped or not self._admits(self.track):
                self.close(Code.CUT)
            self._carrier.wake()

    def datagram(self, sequence: int, frame: Frame) -> None:
        """Leave datagrams alone."""

    def track_ended(self) -> None:
        """Stay until the group is written: it lives in memory until then."""


def urgency(delivery: Delivery | Fetched) -> tuple[int, int]:
    """Return what deliveries are ordered by, the most urgent last."""
    return delivery.urgency


def write_piece(waiting: list[Delivery | Fetched]) -> int:
    """Write the most urgent piece that can be written; returns its bytes. What has no more leaves `waiting`."""
    for delivery in tuple(waiting):
        written = delivery.write_piece()
        if not delivery.has_more:
            waiting.remove(delivery)
        if written:
            return written
    return 0
