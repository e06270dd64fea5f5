"""The forwarding kernel's decisions in plain Python: read this first. Tests hold the kernel against it, bit for bit.

A packet of a publisher meets four questions. May its sender publish, and is it well formed (reference_turn.py)? Which
layer is it of, and where is its place there (reference_tracks.py)? Who may have it? Under which numbers does each of
them see it? Packets arrive here decrypted and leave unprotected; sender reports and transport-wide numbers are no
decisions, and are left to the kernel alone.

Nothing here is fast, and nothing imports this but tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from media.forwarding.choices import NUMBERS
from media.forwarding.reference.anchor import REPLAY_TICKS, Anchor
from media.forwarding.reference.choice import Choice, Fate, Given
from media.forwarding.reference.pacing import Backlog, Pace
from media.forwarding.reference.tracks import SECOND_NS, Cached, Track
from media.forwarding.tables import FOREVER, VIDEO, Count
from media.wire.extensions import Passed

REPLAY_NS = SECOND_NS // 2  # a keyframe older than that is not replayed
RTX_BYTES_PER_S = RTX_BURST = 250_000  # of retransmission, for one subscription
RTX_HEADERS = 40  # bytes that a retransmission costs beside its payload
NEVER_GIVEN = Given(-1, Fate.AWAITED, 0)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One packet that a subscription gets; for RTX the payload begins with the original sequence number (RFC 4588)."""

    subscription: Subscription = field(repr=False)
    payload_type: int
    ssrc: int
    sequence_number: int
    timestamp: int
    marker: bool
    payload: bytes
    extensions: tuple[tuple[int, bytes], ...] = ()  # by the viewer's ids


@dataclass(frozen=True, slots=True)
class Dropped:
    """One packet that somebody does not get, and why."""

    reason: Count


Outcome = Outgoing | Dropped


@dataclass(slots=True, eq=False)
class Room:
    """What a room requires (grants, as bits); it is closed from `open_until` on, and last opened at `opened_ns`."""

    requires: int
    open_until: int = FOREVER
    opened_ns: int = 0


@dataclass(slots=True, eq=False)
class Viewer:
    """A transport that receives: it holds `holds` before `until` (ns), and `keeps` from then on."""

    room: Room
    holds: int
    until: int = FOREVER
    keeps: int = 0
    subscriptions: list[Subscription] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)


@dataclass(slots=True, eq=False)
class Subscription:
    """One track forwarded to one viewer: its negotiated numbers, and where it stands. `last_seq` begins below 2^15.

    `track` is the layer that it gets, `wanted` the one that it is to get from where a decoder can start with it.
    """

    track: Track
    wanted: Track
    viewer: Viewer
    payload_type: int
    ssrc: int
    rtx_payload_type: int | None
    rtx_ssrc: int | None
    last_seq: int
    rtx_seq: int
    last_timestamp: int = 0
    last_ns: int | None = None
    anchor: Anchor | None = None
    picture_delta: int = 0  # outgoing picture ids = source + delta
    last_picture: int = 0
    base_delta: int = 0
    last_base: int = 0
    frame_delta: int = 0  # of dependency descriptors
    last_frame: int = 0
    passed: dict[Passed, int] = field(default_factory=dict)  # its ids of the publisher's header extensions
    red_payload_type: int | None = None  # of redundant sound, if it takes that
    rtx_tokens: int = 0  # bytes of retransmission allowed
    rtx_refilled_ns: int = 0
    choice: Choice = field(default_factory=Choice)
    backlog: Backlog | None = None

    def forward(self, track: Track, packet: Cached, now: int) -> Iterator[Outcome]:
        """Forward one packet that has just arrived: admission first, then a place to start from, then the packet."""
        goes_over = track is not self.track  # meanwhile it gets the layer that it had
        reason = verdict(self.viewer, now, track.required_of_all)
        if reason is not None:
            if not goes_over:
                yield from self.skip_backlog()
                self.anchor = None
            yield Dropped(reason)
            return
        if goes_over or not self.is_anchored:
            first = self._first_to_send(track, packet, now)
            if first is None:
                track.keyframe_wanted = True
                if not goes_over:
                    self.anchor = None
                    yield Dropped(Count.AWAITING_KEYFRAME)
                return
            yield from self.skip_backlog()
            self.track = track
            if first is not packet:
                yield from self.replay(first, packet, now)
                return
            self._anchor(packet, packet.timestamp, now)
        assert self.anchor is not None
        if packet.ext_seq < self.anchor.ext_seq:
            yield Dropped(Count.BEFORE_ANCHOR)
            return
        has_room = self.backlog is None and self.viewer.pace.has_room(now)
        if has_room or track.kind != VIDEO or packet.ext_seq <= self.newest_offered:
            yield from self.offer(packet, now)
        else:
            self._let_wait(packet, now)

    @property
    def is_anchored(self) -> bool:
        """Whether it gets its layer from a place that still holds."""
        return self.anchor is not None and self.anchor.restarts == self.track.restarts

    @property
    def newest_offered(self) -> int:
        """The newest source packet that it was offered, or the one before the first."""
        assert self.anchor is not None
        is_one_by_one = self.choice.begun_at is not None
        return self.choice.newest if is_one_by_one else self.last_seq - self.anchor.seq_delta

    def _let_wait(self, packet: Cached, now: int) -> None:
        if self.backlog is None:
            self.backlog = Backlog(packet.ext_seq, now)
        self.backlog.to = max(self.backlog.to, packet.ext_seq)

    def skip_backlog(self) -> Iterator[Outcome]:
        """Leave out what waits, if anything does."""
        if self.backlog is not None:
            self.backlog = None
            yield Dropped(Count.SKIPPED)

    def _first_to_send(self, track: Track, packet: Cached, now: int) -> Cached | None:
        """Video starts where a decoder can: at this packet, or at a young keyframe that came before it.

        What came before the room began to require less was for others, and stays with them.
        """
        if track.kind != VIDEO or packet.is_key:
            return packet
        if track.key is None or now - track.key_ns >= REPLAY_NS or packet.ext_seq < track.key:
            return None
        if track.key_ns < self.viewer.room.opened_ns:
            return None
        return track.cached(track.key)

    def _anchor(self, first: Cached, timestamp: int, now: int) -> Anchor:
        """Let numbers go on from the last sent; VP8's too, since decoders take a picture that counts less for late."""
        delta = 0
        if self.last_ns is not None:
            elapsed = max((now - self.last_ns) * self.track.clock_rate // SECOND_NS, 1)
            delta = self.last_timestamp + elapsed - timestamp
            if first.picture_at:
                self.picture_delta = self.last_picture + 1 - first.picture
            if first.base_at:
                self.base_delta = self.last_base + 1 - first.base
            if first.descriptor:
                self.frame_delta = self.last_frame + 1 - first.frame_number
        self.anchor = Anchor(first.ext_seq, self.track.restarts, self.last_seq + 1 - first.ext_seq, delta)
        self.choice.anchor()
        return self.anchor

    def replay(self, key: Cached, newest: Cached, now: int) -> Iterator[Outcome]:
        """Send a keyframe and what followed it, or let that wait for room where the viewer's way is known."""
        first = newest.timestamp - REPLAY_TICKS * (newest.frame - key.frame)
        plain = self._anchor(key, first, now)
        self.anchor = Anchor(
            plain.ext_seq, plain.restarts, plain.seq_delta, plain.timestamp_delta, newest.frame, newest.timestamp
        )
        if self.viewer.pace.octet_ns:
            self._let_wait(newest, now)
            return
        for ext_seq in range(key.ext_seq, newest.ext_seq + 1):
            packet = self.track.cached(ext_seq)
            if packet is not None:
                yield from self.offer(packet, now)

    def offer(self, packet: Cached, now: int) -> Iterator[Outcome]:
        """Send a packet if it is of the viewer's layers; numbers leave no gap where it is not."""
        assert self.anchor is not None
        if not self.track.is_layered:
            yield self._send(packet, packet.ext_seq + self.anchor.seq_delta, now)
            return
        choice, newest = self.choice, self.newest_offered
        reason = verdict(self.viewer, now, self.track.required_of(packet))
        if packet.ext_seq <= newest:
            yield self._late(packet, reason, now)
            return
        most_spatial = self._most_spatial(now)
        begins = choice.look(packet, most_spatial)
        self.track.keyframe_wanted |= choice.spatial < most_spatial
        takes, is_marked = choice.takes(packet)
        is_chosen = takes and reason is None
        if choice.begun_at is None and (is_marked or not is_chosen):
            choice.begin(newest + 1)
        if choice.begun_at is None:
            yield self._send(packet, packet.ext_seq + self.anchor.seq_delta, now)
            return
        for missing in range(choice.newest + 1, packet.ext_seq):
            self.last_seq += 1
            choice.give(self.last_seq, missing, Fate.AWAITED)
        choice.newest = packet.ext_seq
        if not is_chosen:
            choice.picture_shift -= begins and packet.picture_at > 0
            yield Dropped(reason or Count.OTHER_LAYER)
            return
        choice.give(self.last_seq + 1, packet.ext_seq, Fate.MARKED if is_marked else Fate.SENT)
        yield self._send(packet, self.last_seq + 1, now, choice.picture_shift, is_marked=is_marked)

    def _most_spatial(self, now: int) -> int:
        """Return up to which spatial layer the viewer may have now, and is to get."""
        track, most = self.track, self.choice.most_spatial
        is_limited = track.reserved_from > 0 and verdict(self.viewer, now, track.requires) is not None
        return min(most, track.reserved_from - 1) if is_limited else most

    def _late(self, packet: Cached, reason: Count | None, now: int) -> Outcome:
        """Send a packet under the number that was kept for it, or an empty one if it turns out to be for others."""
        assert self.anchor is not None
        choice, delta = self.choice, self.anchor.seq_delta
        if choice.begun_at is None or packet.ext_seq < choice.begun_at:
            return self._send(packet, packet.ext_seq + delta, now) if reason is None else Dropped(reason)
        seq = choice.find(packet.ext_seq, choice.begun_at + delta, self.last_seq)
        if seq is None:
            return Dropped(Count.OTHER_LAYER)
        given = choice.given[seq % NUMBERS]
        takes, is_marked = choice.takes(packet)
        if reason is not None or not takes:
            given.fate = Fate.EMPTY
            return self._empty(packet, seq)
        given.fate = Fate.MARKED if is_marked else Fate.SENT
        return self._send(packet, seq, now, given.picture_shift, is_marked=is_marked)

    def _empty(self, packet: Cached, seq: int) -> Outgoing:
        assert self.anchor is not None
        return self._outgoing(self.payload_type, self.ssrc, seq, self.anchor.timestamp(packet), False, (), b"")

    def _send(self, packet: Cached, seq: int, now: int, shift: int = 0, *, is_marked: bool = False) -> Outgoing:
        assert self.anchor is not None
        timestamp = self.anchor.timestamp(packet)
        if seq > self.last_seq:
            self.last_seq, self.last_timestamp, self.last_ns = seq, timestamp, now
            if packet.picture_at:
                self.last_picture = (packet.picture + self.picture_delta + shift) & 0x7FFF
            if packet.base_at:
                self.last_base = (packet.base + self.base_delta) & 0xFF
            if packet.descriptor:
                self.last_frame = (packet.frame_number + self.frame_delta) & 0xFFFF
        return self._as_it_is(packet, seq, timestamp, shift, marker=packet.marker or is_marked)

    def _as_it_is(self, packet: Cached, seq: int, timestamp: int, shift: int, *, marker: bool) -> Outgoing:
        payload, payload_type = self._renumbered(packet, shift)[packet.red_at :], self.payload_type
        if packet.red_at and self.red_payload_type is not None:
            payload, payload_type = self._with_renamed_blocks(packet), self.red_payload_type
        return self._outgoing(payload_type, self.ssrc, seq, timestamp, marker, packet.extensions, payload)

    def _with_renamed_blocks(self, packet: Cached) -> bytes:
        payload, at = bytearray(packet.payload), 0
        while payload[at] & 0x80:
            payload[at] = 0x80 | self.payload_type
            at += 4
        payload[at] = self.payload_type
        return bytes(payload)

    def _renumbered(self, packet: Cached, shift: int) -> bytes:
        payload = bytearray(packet.payload)
        if packet.picture_at:
            number = packet.picture + self.picture_delta + shift
            if payload[packet.picture_at] & 0x80:
                payload[packet.picture_at : packet.picture_at + 2] = (0x8000 | number & 0x7FFF).to_bytes(2)
            else:
                payload[packet.picture_at] = number & 0x7F
        if packet.base_at:
            payload[packet.base_at] = (packet.base + self.base_delta) & 0xFF
        return bytes(payload)

    def retransmit(self, seq: int, now: int) -> Outcome:
        """Send what a viewer lost again, through RTX where it was negotiated, else as it was, if still admitted."""
        reason = verdict(self.viewer, now, self.track.required_of_all)
        if reason is not None:
            return Dropped(reason)
        if self.anchor is None or self.anchor.restarts != self.track.restarts:
            return Dropped(Count.BEFORE_ANCHOR)
        full = self.last_seq - ((self.last_seq - seq) & 0xFFFF)
        given = self._given(full)
        packet = self.track.cached(given.ext_seq)
        if packet is None or given.ext_seq < self.anchor.ext_seq or given.fate is Fate.AWAITED:
            return Dropped(Count.RETRANSMISSION_GONE)
        if given.fate is not Fate.EMPTY:
            reason = verdict(self.viewer, now, self.track.required_of(packet))
            if reason is not None:
                return Dropped(reason)
        is_empty = given.fate is Fate.EMPTY
        if not self._spend((0 if is_empty else len(packet.payload)) + RTX_HEADERS, now):
            return Dropped(Count.RETRANSMISSION_BUDGET)
        timestamp = self.anchor.timestamp(packet)
        marker = given.fate is Fate.MARKED or (packet.marker and given.fate is Fate.SENT)
        if self.rtx_payload_type is None or self.rtx_ssrc is None:
            if is_empty:
                return self._empty(packet, full)
            return self._as_it_is(packet, full, timestamp, given.picture_shift, marker=marker)
        self.rtx_seq += 1
        payload = b"" if is_empty else self._renumbered(packet, given.picture_shift)[packet.red_at :]
        payload, told = (full & 0xFFFF).to_bytes(2) + payload, () if is_empty else packet.extensions
        return self._outgoing(self.rtx_payload_type, self.rtx_ssrc, self.rtx_seq, timestamp, marker, told, payload)

    def _given(self, seq: int) -> Given:
        """Return to which packet an outgoing number was given."""
        assert self.anchor is not None
        begun_at, delta = self.choice.begun_at, self.anchor.seq_delta
        if begun_at is None or seq < begun_at + delta:
            return Given(seq - delta, Fate.SENT, 0)
        return self.choice.given[seq % NUMBERS] if seq > self.last_seq - NUMBERS else NEVER_GIVEN

    def _spend(self, size: int, now: int) -> bool:
        elapsed = min(now - self.rtx_refilled_ns, SECOND_NS)
        self.rtx_refilled_ns = now
        self.rtx_tokens = min(self.rtx_tokens + elapsed * RTX_BYTES_PER_S // SECOND_NS, RTX_BURST)
        if self.rtx_tokens < size:
            return False
        self.rtx_tokens -= size
        return True

    def _outgoing(
        self,
        payload_type: int,
        ssrc: int,
        seq: int,
        timestamp: int,
        marker: bool,
        extensions: tuple[tuple[Passed, bytes], ...],
        payload: bytes,
    ) -> Outgoing:
        told = tuple((self.passed[kind], self._told(kind, value)) for kind, value in extensions if kind in self.passed)
        return Outgoing(self, payload_type, ssrc, seq & 0xFFFF, timestamp & 0xFFFFFFFF, marker, payload, told)

    def _told(self, kind: Passed, value: bytes) -> bytes:
        """Write what a viewer is told; its frames keep the gaps between their numbers, as they name each other."""
        if kind is not Passed.DEPENDENCY:
            return value
        number = (int.from_bytes(value[1:3]) + self.frame_delta) & 0xFFFF
        return value[:1] + number.to_bytes(2) + value[3:]


def verdict(viewer: Viewer, now: int, layer_requires: int = 0) -> Count | None:
    """Return why a viewer may have nothing now, or None when it may.

    A room and a layer require, a participant holds; what lapses, lapses by itself.
    """
    requires = viewer.room.requires | layer_requires
    if now >= viewer.room.open_until:
        return Count.ROOM_CLOSED
    if now < viewer.until:
        return None if viewer.holds & requires == requires else Count.NOT_ADMITTED
    return None if viewer.keeps & requires == requires else Count.LAPSED
