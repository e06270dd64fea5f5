"""What the forwarding kernel knows of a source, in plain Python: each packet's place, the newest keyframe, layers.

Read reference.py first, which decides over it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from media.forwarding.choices import UNKNOWN
from media.forwarding.tables import CACHE, VIDEO, Count
from media.wire.codecs import Codec, starts_keyframe, vp8_numbers
from media.wire.dependency import Structure, parse_dependency_untrusted
from media.wire.extensions import Passed
from media.wire.layering import UNLAYERED, Layering, Mark, read_layering_untrusted
from media.wire.malformed import MalformedPacket

if TYPE_CHECKING:
    from media.forwarding.reference.decisions import Subscription

SECOND_NS = 1_000_000_000
RESTART_JUMP = 1 << 14  # a source that jumps this far ahead began anew
SILENT_NS = SECOND_NS // 2  # after this much silence another SSRC may take a track over


@dataclass(frozen=True, slots=True)
class Cached:
    """One packet of a track; `frame` rises by one with each timestamp.

    `picture_at` and `base_at` say where in the payload VP8's picture id and TL0PICIDX are, 0 for nowhere.
    """

    ext_seq: int
    payload: bytes
    marker: bool
    is_key: bool
    timestamp: int
    frame: int
    picture_at: int = 0
    base_at: int = 0
    place: Layering = UNLAYERED
    extensions: tuple[tuple[Passed, bytes], ...] = ()
    red_at: int = 0  # where the newest block of redundant sound begins, 0 for plain sound

    @property
    def picture(self) -> int:
        """The picture id, of 7 bits or of 15."""
        first = self.payload[self.picture_at]
        return (first & 0x7F) << 8 | self.payload[self.picture_at + 1] if first & 0x80 else first

    @property
    def base(self) -> int:
        """The TL0PICIDX."""
        return self.payload[self.base_at]

    @property
    def descriptor(self) -> bytes:
        """The dependency descriptor, nothing where there is none."""
        return dict(self.extensions).get(Passed.DEPENDENCY, b"")

    @property
    def frame_number(self) -> int:
        """Of the dependency descriptor."""
        return int.from_bytes(self.descriptor[1:3])


@dataclass(slots=True, eq=False)
class Track:
    """One encoding as it is numbered, its last packets, and who subscribes (the newest first).

    Each layer of simulcast is a track that knows all its `layers`; the first of them has the subscriptions of all.
    Extended sequence numbers begin at 65536 plus the first one seen, so that the packets before it have a place too.
    """

    kind: int
    codec: Codec
    clock_rate: int
    subscriptions: list[Subscription] = field(default_factory=list)
    layers: list[Track] = field(default_factory=list)
    rid: bytes = b""
    requires: int = 0  # grants beside those of the room, for spatial layers from `reserved_from` on
    reserved_from: int = 0
    is_layered: bool = False  # it has several layers within itself
    keyframe_wanted: bool = False
    ssrc: int | None = None
    rtx_ssrc: int | None = None
    restarts: int = 0
    first: int = 0
    highest: int = 0
    last_timestamp: int = -1
    last_ns: int = 0
    frame: int = 0
    key: int | None = None  # first packet of the newest keyframe
    key_timestamp: int = -1
    key_ns: int = 0
    playout_delay: bytes = b""  # the newest that its source told of
    structure: Structure | None = None  # the newest that a dependency descriptor brought
    _slots: dict[int, Cached] = field(default_factory=dict)

    def layer(self, ssrc: int, rid: bytes, *, is_repair: bool) -> Track | None:
        """Return the layer that a packet belongs to: by its SSRC, before that by its name (RFC 8852)."""
        for layer in self.layers:
            if ssrc == (layer.rtx_ssrc if is_repair else layer.ssrc):
                return layer
        named = next((layer for layer in self.layers if layer.rid == rid), None)
        if named is not None and is_repair:
            named.rtx_ssrc = ssrc
        return named

    @property
    def required_of_all(self) -> int:
        """The grants that each of its packets takes."""
        return 0 if self.reserved_from else self.requires

    def required_of(self, packet: Cached) -> int:
        """Return the grants that a packet takes beside those of the room."""
        return self.requires if packet.place.spatial >= self.reserved_from else 0

    def takers(self) -> list[Subscription]:
        """Return the subscriptions that get this layer, or are to get it."""
        everybody = self.layers[0].subscriptions if self.layers else self.subscriptions
        return [each for each in everybody if self in (each.track, each.wanted)]

    def cached(self, ext_seq: int) -> Cached | None:
        """Return a packet that is still there; each place is taken over by the one CACHE numbers later."""
        packet = self._slots.get(ext_seq % CACHE)
        return packet if packet is not None and packet.ext_seq == ext_seq else None

    def was_overtaken(self, ext_seq: int) -> bool:
        """Whether another packet came that takes the place of this one."""
        packet = self._slots.get(ext_seq % CACHE)
        return packet is not None and packet.ext_seq > ext_seq

    def place(self, ssrc: int, seq: int, now: int, *, is_repair: bool) -> int | Count:
        """Return the extended sequence number of a packet that is new, or why it must not be forwarded."""
        if ssrc != self.ssrc:
            if self.ssrc is not None and now - self.last_ns < SILENT_NS:
                return Count.SECOND_SSRC
            self._restart(ssrc, seq)
        ext_seq = unwrap(self.highest, seq)
        if ext_seq - self.highest >= RESTART_JUMP:
            if is_repair:
                return Count.TOO_OLD  # what was never sent can't be repaired: it belongs to an earlier numbering
            self._restart(ssrc, seq)
            ext_seq = unwrap(self.highest, seq)
        if ext_seq <= self.highest - CACHE or ext_seq < self.first - CACHE // 2:
            return Count.TOO_OLD
        if self.cached(ext_seq) is not None:
            return Count.DUPLICATE
        if ext_seq > self.highest:
            self.highest, self.last_ns = ext_seq, now
            if self.key is not None and self.highest - self.key >= CACHE:
                self.key = None  # what followed it is gone
        return ext_seq

    def keep(
        self,
        ext_seq: int,
        payload: bytes,
        timestamp: int,
        now: int,
        *,
        marker: bool,
        extensions: tuple[tuple[Passed, bytes], ...] = (),
        red_at: int = 0,
    ) -> None:
        """Remember a packet, with its frame and whether a decoder can start with it."""
        is_newest = ext_seq == self.highest
        if is_newest and timestamp != self.last_timestamp:
            self.frame += 1
            self.last_timestamp = timestamp
        frame = self.frame
        if timestamp != self.last_timestamp:  # a late packet of an earlier frame: its neighbours know which
            for near in (self.cached(ext_seq + 1), self.cached(ext_seq - 1)):
                if near is not None and near.timestamp == timestamp:
                    frame = near.frame
        is_key = starts_keyframe(self.codec, payload)
        numbers = vp8_numbers(payload) if self.codec is Codec.VP8 else (0, 0)
        extensions = self._with_delay(extensions, is_key=is_key)
        place = self._place_of(ext_seq, payload, timestamp, dict(extensions).get(Passed.DEPENDENCY, b""))
        self._slots[ext_seq % CACHE] = Cached(
            ext_seq, payload, marker, is_key, timestamp, frame, *numbers, place, extensions, red_at
        )
        if is_key and is_newest and self.kind == VIDEO and timestamp != self.key_timestamp:
            self.key, self.key_timestamp, self.key_ns = ext_seq, timestamp, now

    def _place_of(self, ext_seq: int, payload: bytes, timestamp: int, descriptor: bytes) -> Layering:
        place = self._described(descriptor) or read_layering_untrusted(self.codec, payload)
        if Mark.CONTINUES in place.marks and self.is_layered:
            before = self.cached(ext_seq - 1)
            is_known = before is not None and before.timestamp == timestamp
            spatial, temporal = (before.place.spatial, before.place.temporal) if before and is_known else (UNKNOWN, 0)
            place = Layering(spatial, temporal, place.marks)
        self.is_layered |= place.spatial > 0 or place.temporal > 0
        return place

    def _described(self, descriptor: bytes) -> Layering | None:
        if not descriptor:
            return None
        try:
            found = parse_dependency_untrusted(descriptor, self.structure)
        except MalformedPacket:
            return None
        self.structure = found.structure or self.structure
        return found.place

    def _with_delay(
        self, extensions: tuple[tuple[Passed, bytes], ...], *, is_key: bool
    ) -> tuple[tuple[Passed, bytes], ...]:
        """Let each keyframe tell of the playout delay: senders do until somebody has heard of it, and no longer."""
        told = dict(extensions).get(Passed.PLAYOUT_DELAY, b"")
        self.playout_delay = told or self.playout_delay
        if told or not self.playout_delay or not is_key:
            return extensions
        return (*extensions, (Passed.PLAYOUT_DELAY, self.playout_delay))

    def _restart(self, ssrc: int, seq: int) -> None:
        self.playout_delay, self.structure = b"", None
        self.ssrc = ssrc
        self.restarts += 1
        self.first, self.highest = seq + 0x10000, seq + 0xFFFF
        self.last_timestamp = -1
        self.key, self.key_timestamp, self.key_ns = None, -1, 0
        self.is_layered = False
        self._slots.clear()


def unwrap(highest: int, seq: int) -> int:
    """Extend a 16-bit number to the value nearest to `highest`, ahead by less than 2^15."""
    ahead = (seq - highest) & 0xFFFF
    return highest + ahead if ahead < 0x8000 else highest + ahead - 0x10000
