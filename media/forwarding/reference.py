"""The forwarding kernel's decisions in plain Python: read this first. Tests hold the kernel against it, bit for bit.

A packet of a publisher meets four questions, here in the order of the functions. May its sender publish, and is it well
formed? Which layer is it of, and where is its place there? Who may have it? Under which numbers does each of them see
it? Packets arrive here decrypted and leave unprotected; sender reports and transport-wide numbers are no decisions, and
are left to the kernel alone.

Nothing here is fast, and nothing imports this but tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from media.forwarding.reference_tracks import Cached, Track
from media.forwarding.tables import FOREVER, PAYLOAD, VIDEO, Count
from media.wire.extensions import SIZES, Passed
from media.wire.malformed import MalformedPacket
from media.wire.red import find_primary_untrusted
from media.wire.rtcp import Fir, Nack, Pli, parse_rtcp_untrusted
from media.wire.rtp import parse_rtp_untrusted

SECOND_NS = 1_000_000_000
REPLAY_NS = SECOND_NS // 2  # a keyframe older than that is not replayed
REPLAY_TICKS = 90  # between replayed frames, in units of the RTP clock
RTX_BYTES_PER_S = RTX_BURST = 250_000  # of retransmission, for one subscription
RTX_HEADERS = 40  # bytes that a retransmission costs beside its payload
MAX_NACKED = 256  # packets that one datagram may ask for


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


@dataclass(slots=True, eq=False)
class Publisher:
    """A transport that sends before `publish_until` (ns); a payload type says which track, and whether it is RTX.

    Of simulcast it says the first layer; SSRCs, and names in the extensions `rid_id` and `repaired_rid_id`, say which.
    """

    publish_until: int
    payload_types: dict[int, tuple[Track, bool]] = field(default_factory=dict)
    rid_id: int | None = None
    repaired_rid_id: int | None = None
    passed: dict[Passed, int] = field(default_factory=dict)  # its ids of the header extensions that viewers get
    red_payload_types: set[int] = field(default_factory=set)  # those of redundant sound


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
    passed: dict[Passed, int] = field(default_factory=dict)  # its ids of the publisher's header extensions
    red_payload_type: int | None = None  # of redundant sound, if it takes that
    rtx_tokens: int = 0  # bytes of retransmission allowed
    rtx_refilled_ns: int = 0

    def forward(self, track: Track, packet: Cached, now: int) -> Iterator[Outcome]:
        """Forward one packet that has just arrived: admission first, then a place to start from, then the packet."""
        goes_over = track is not self.track  # meanwhile it gets the layer that it had
        reason = verdict(self.viewer, now, track.requires)
        if reason is not None:
            self.anchor = self.anchor if goes_over else None
            yield Dropped(reason)
            return
        if goes_over or self.anchor is None or self.anchor.restarts != track.restarts:
            first = self._first_to_send(track, packet, now)
            if first is None:
                track.keyframe_wanted = True
                if not goes_over:
                    self.anchor = None
                    yield Dropped(Count.AWAITING_KEYFRAME)
                return
            self.track = track
            if first is not packet:
                yield from self._replay(first, packet, now)
                return
            self._anchor(packet, packet.timestamp, now)
        assert self.anchor is not None
        if packet.ext_seq < self.anchor.ext_seq:
            yield Dropped(Count.BEFORE_ANCHOR)
            return
        yield self._send(packet, now)

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
        self.anchor = Anchor(first.ext_seq, self.track.restarts, self.last_seq + 1 - first.ext_seq, delta)
        return self.anchor

    def _replay(self, key: Cached, newest: Cached, now: int) -> Iterator[Outcome]:
        first = newest.timestamp - REPLAY_TICKS * (newest.frame - key.frame)
        plain = self._anchor(key, first, now)
        self.anchor = Anchor(
            plain.ext_seq, plain.restarts, plain.seq_delta, plain.timestamp_delta, newest.frame, newest.timestamp
        )
        for ext_seq in range(key.ext_seq, newest.ext_seq + 1):
            packet = self.track.cached(ext_seq)
            if packet is not None:
                yield self._send(packet, now)

    def _send(self, packet: Cached, now: int) -> Outgoing:
        assert self.anchor is not None
        seq, timestamp = packet.ext_seq + self.anchor.seq_delta, self.anchor.timestamp(packet)
        if seq > self.last_seq:
            self.last_seq, self.last_timestamp, self.last_ns = seq, timestamp, now
            if packet.picture_at:
                self.last_picture = (packet.picture + self.picture_delta) & 0x7FFF
            if packet.base_at:
                self.last_base = (packet.base + self.base_delta) & 0xFF
        return self._as_it_is(packet, seq, timestamp)

    def _as_it_is(self, packet: Cached, seq: int, timestamp: int) -> Outgoing:
        payload, payload_type = self._renumbered(packet)[packet.red_at :], self.payload_type
        if packet.red_at and self.red_payload_type is not None:
            payload, payload_type = self._with_renamed_blocks(packet), self.red_payload_type
        return self._outgoing(payload_type, self.ssrc, seq, timestamp, packet, payload)

    def _with_renamed_blocks(self, packet: Cached) -> bytes:
        payload, at = bytearray(packet.payload), 0
        while payload[at] & 0x80:
            payload[at] = 0x80 | self.payload_type
            at += 4
        payload[at] = self.payload_type
        return bytes(payload)

    def _renumbered(self, packet: Cached) -> bytes:
        payload = bytearray(packet.payload)
        if packet.picture_at:
            number = packet.picture + self.picture_delta
            if payload[packet.picture_at] & 0x80:
                payload[packet.picture_at : packet.picture_at + 2] = (0x8000 | number & 0x7FFF).to_bytes(2)
            else:
                payload[packet.picture_at] = number & 0x7F
        if packet.base_at:
            payload[packet.base_at] = (packet.base + self.base_delta) & 0xFF
        return bytes(payload)

    def retransmit(self, seq: int, now: int) -> Outcome:
        """Send what a viewer lost again, through RTX where it was negotiated, else as it was, if still admitted."""
        reason = verdict(self.viewer, now, self.track.requires)
        if reason is not None:
            return Dropped(reason)
        if self.anchor is None or self.anchor.restarts != self.track.restarts:
            return Dropped(Count.BEFORE_ANCHOR)
        full = self.last_seq - ((self.last_seq - seq) & 0xFFFF)
        ext_seq = full - self.anchor.seq_delta
        packet = self.track.cached(ext_seq)
        if packet is None or ext_seq < self.anchor.ext_seq:
            return Dropped(Count.RETRANSMISSION_GONE)
        if not self._spend(len(packet.payload) + RTX_HEADERS, now):
            return Dropped(Count.RETRANSMISSION_BUDGET)
        timestamp = self.anchor.timestamp(packet)
        if self.rtx_payload_type is None or self.rtx_ssrc is None:
            return self._as_it_is(packet, full, timestamp)
        self.rtx_seq += 1
        payload = (full & 0xFFFF).to_bytes(2) + self._renumbered(packet)[packet.red_at :]
        return self._outgoing(self.rtx_payload_type, self.rtx_ssrc, self.rtx_seq, timestamp, packet, payload)

    def _spend(self, size: int, now: int) -> bool:
        elapsed = min(now - self.rtx_refilled_ns, SECOND_NS)
        self.rtx_refilled_ns = now
        self.rtx_tokens = min(self.rtx_tokens + elapsed * RTX_BYTES_PER_S // SECOND_NS, RTX_BURST)
        if self.rtx_tokens < size:
            return False
        self.rtx_tokens -= size
        return True

    def _outgoing(
        self, payload_type: int, ssrc: int, seq: int, timestamp: int, packet: Cached, payload: bytes
    ) -> Outgoing:
        told = tuple((self.passed[kind], value) for kind, value in packet.extensions if kind in self.passed)
        seq, timestamp = seq & 0xFFFF, timestamp & 0xFFFFFFFF
        return Outgoing(self, payload_type, ssrc, seq, timestamp, packet.marker, payload, told)


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


def turn(arrived: Sequence[tuple[Publisher | Viewer, bytes]], tracks: Sequence[Track], now: int) -> list[Outcome]:
    """Take what arrived together, as RTP of publishers and RTCP of viewers, and return all that follows from it.

    First everything is received and NACKs are answered; then the packets of each track, in the order of `tracks`, go to
    each of its subscriptions.
    """
    outcomes: list[Outcome] = []
    received: list[tuple[Track, int]] = []
    for sender, data in arrived:
        if isinstance(sender, Viewer):
            outcomes += receive_rtcp(sender, data, now)
            continue
        place = receive_rtp(sender, data, now)
        if isinstance(place, Count):
            outcomes.append(Dropped(place))
        else:
            received.append(place)
    for track in tracks:
        packets = []
        for ext_seq in (number for owner, number in received if owner is track):
            packet = track.cached(ext_seq)
            # A source that began anew in the meantime, or jumped, has taken the places of what was not sent yet.
            outcomes += [Dropped(Count.OVERTAKEN)] if packet is None else []
            packets += [] if packet is None else [packet]
        for subscription in track.takers():
            for packet in packets:
                outcomes += subscription.forward(track, packet, now)
    return outcomes


def receive_rtp(publisher: Publisher, data: bytes, now: int) -> tuple[Track, int] | Count:
    """Place and remember one decrypted packet; returns its track and number there, or why it goes nowhere."""
    if now >= publisher.publish_until:
        return Count.PUBLISH_LAPSED
    try:
        packet = parse_rtp_untrusted(data)
    except MalformedPacket:
        return Count.MALFORMED_RTP
    header, payload = packet.header, data[packet.payload_start : packet.payload_end]
    if header.payload_type not in publisher.payload_types:
        return Count.UNKNOWN_PAYLOAD_TYPE
    if header.ssrc == 0:
        return Count.MALFORMED_RTP  # the tables' word for no source; of senders that draw it at random none drew it
    track, is_repair = publisher.payload_types[header.payload_type]
    if track.layers:
        identifier = publisher.repaired_rid_id if is_repair else publisher.rid_id
        rid = b"" if identifier is None else header.extensions.get(identifier, b"")
        layer = track.layer(header.ssrc, rid, is_repair=is_repair)
        if layer is None:
            return Count.UNKNOWN_LAYER
        track = layer
    ssrc, seq = header.ssrc, header.sequence_number
    if is_repair:
        # RFC 4588 section 4: the original sequence number comes before the payload; without one it was a probe.
        if len(payload) < 2 or track.ssrc is None:
            return Count.PADDING
        ssrc, seq, payload = track.ssrc, int.from_bytes(payload[:2]), payload[2:]
    if len(payload) > PAYLOAD:
        return Count.TOO_LARGE
    red_at = 0
    if header.payload_type in publisher.red_payload_types:
        try:
            red_at = find_primary_untrusted(payload)
        except MalformedPacket:
            return Count.MALFORMED_RED
    place = track.place(ssrc, seq, now, is_repair=is_repair)
    if isinstance(place, Count):
        return place
    told = ((kind, header.extensions.get(number, b"")) for kind, number in sorted(publisher.passed.items()))
    extensions = tuple((kind, value) for kind, value in told if len(value) in SIZES[kind])
    track.keep(place, payload, header.timestamp, now, marker=header.marker, extensions=extensions, red_at=red_at)
    return track, place


def receive_rtcp(viewer: Viewer, data: bytes, now: int) -> Iterator[Outcome]:
    """Answer a viewer's NACKs, and note which pictures it can't decode."""
    left = MAX_NACKED
    by_ssrc = {subscription.ssrc: subscription for subscription in viewer.subscriptions}
    for packet in parse_rtcp_untrusted(data):
        match packet:
            case Nack(_, ssrc, numbers) if ssrc in by_ssrc:
                yield from (by_ssrc[ssrc].retransmit(number, now) for number in numbers[:left])
                yield from (Dropped(Count.NACKS_IGNORED) for _ in numbers[left:])
                left -= min(left, len(numbers))
            case Pli(_, ssrc) if ssrc in by_ssrc and verdict(viewer, now) is None:
                by_ssrc[ssrc].track.keyframe_wanted = True
            case Fir(_, requests) if verdict(viewer, now) is None:
                for ssrc, _ in requests:
                    if ssrc in by_ssrc:
                        by_ssrc[ssrc].track.keyframe_wanted = True
