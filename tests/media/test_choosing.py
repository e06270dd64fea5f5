"""Layers within one encoding: the kernel does what the reference does, and what each viewer gets can be decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.forwarding.admission import FOREVER, Grant
from media.forwarding.choices import ALL_LAYERS
from media.forwarding.tables import Count
from media.wire.codecs import Codec
from media.wire.rtcp import Nack, build_rtcp
from tests.media.test_reference import EDGES, Both, Watching, carry_out
from tests.media.turns import open_turns

BEGINS, ENDS, SYNC = 1, 2, 4
Place = tuple[int, int, int]  # spatial, temporal, and those bits
WHOLE: Place = (0, 0, BEGINS | ENDS | SYNC)


class Layered(Both):
    """The same, with a video that has layers within itself: `place` says of which the next packet is."""

    place: Place = WHOLE

    def payload(self, kind: str, what: str, number: int, numbering: str) -> bytes:
        if kind == "audio" or what == "empty":
            return super().payload(kind, what, number, numbering)
        picture = (0x8000 | self.pictures[kind] & 0x7FFF).to_bytes(2)
        spatial, temporal, bits = self.place
        if self.codec is Codec.VP9:
            first = 0xB0 | (0 if what == "key" else 0x40) | (bits & BEGINS) << 3 | (bits & ENDS) << 1
            octet = temporal << 5 | (bits & SYNC) << 2 | spatial << 1
            return bytes([first]) + picture + bytes([octet]) + number.to_bytes(2) * (1 + spatial)
        first, octet = 0x80 | (bits & BEGINS) << 4, temporal << 6 | (bits & SYNC) << 3
        head = bytes([first, 0xE0]) + picture + bytes([self.pictures[kind] & 0xFF, octet])
        return head + bytes([what != "key"]) + number.to_bytes(2)

    def packet(self, place: Place, what: str, ahead: int = 1, **more: object) -> tuple[None, bytes]:
        self.place = place
        return None, self.rtp("video", ahead, what, **more)  # type: ignore[arg-type]

    def limit(self, watching: Watching, spatial: int, temporal: int) -> None:
        """Have a viewer get these layers at most."""
        choice = watching.viewer.subscriptions[0].choice
        choice.most_spatial, choice.most_temporal = spatial, temporal
        self.forwarder.limit_layers(watching.rows[0], spatial, temporal)

    def reserve_from(self, spatial: int, grants: int) -> None:
        track = self.tracks["video"]
        track.requires, track.reserved_from = grants, spatial
        self.forwarder.admission.require_for_layer(self.rows["video"], Grant(grants), spatial)


class LayeredVp9(Layered):
    codec = Codec.VP9


class LayeredAv1(Layered):
    """Each frame's first packet says of which layers it is."""

    codec = Codec.AV1

    def payload(self, kind: str, what: str, number: int, numbering: str) -> bytes:
        if kind == "audio" or what == "empty":
            return super().payload(kind, what, number, numbering)
        spatial, temporal, bits = self.place
        continues, goes_on = (0 if bits & BEGINS else 0x80), (0 if bits & ENDS else 0x40)
        head = bytes([continues | goes_on | 0x10 | (0x08 if what == "key" else 0)])
        return head + (b"" if continues else bytes([0x34, temporal << 5 | spatial << 3])) + number.to_bytes(2)


KINDS = {Codec.VP8: Layered, Codec.VP9: LayeredVp9}
ALL_KINDS = {**KINDS, Codec.AV1: LayeredAv1}

# -- any history, however odd ------------------------------------------------------------------------------------------

AHEAD = [1] * 40 + [2, 2, 2, 3, -1, -1, -2, -3, 5, 0, 300, 511, 512, 513, -255, 16_384]
places = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 7))
packets = st.tuples(
    places,
    st.sampled_from(["delta"] * 8 + ["key", "key", "empty"]),
    st.sampled_from(AHEAD),
    st.fixed_dictionaries(
        {
            "marker": st.booleans(),
            "same_frame": st.booleans(),
            "repairs": st.sampled_from([False] * 12 + [True]),
            "ssrc": st.sampled_from([5] * 40 + [6]),
        }
    ),
)
viewers = st.integers(0, 2)
limits = st.sampled_from([0, 0, 1, 1, 2, ALL_LAYERS])
steps = st.one_of(
    *[st.tuples(st.just("layers"), st.lists(packets, min_size=1, max_size=8))] * 5,
    st.tuples(st.just("nack"), viewers, st.just(0), st.lists(st.integers(0, 40), min_size=1, max_size=8)),
    st.tuples(st.just("limit"), viewers, limits, limits),
    st.tuples(st.just("reserve from"), st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("hold"), viewers, st.integers(0, 3)),
    st.tuples(st.just("join"), st.booleans()),
    st.tuples(st.just("age")),
)


def carry_out_layered(both: Layered, step: tuple) -> None:  # type: ignore[type-arg]
    match step:
        case "layers", specs:
            both.step([both.packet(place, what, ahead, **more) for place, what, ahead, more in specs])
        case "limit", number, spatial, temporal if number < len(both.watching):
            both.limit(both.watching[number], spatial, temporal)
        case "reserve from", spatial, grants:
            both.reserve_from(spatial, grants)
        case "hold", number, grants if number < len(both.watching):
            both.hold(both.watching[number], grants, FOREVER, 0)
        case (("nack" | "join" | "age"), *_):
            carry_out(both, step)


@settings(
    max_examples=400,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(EDGES), st.sampled_from(list(ALL_KINDS)), st.lists(steps, min_size=8, max_size=40))
def test_the_kernel_chooses_what_the_reference_chooses(
    first: int,
    codec: Codec,
    history: list[tuple],  # type: ignore[type-arg]
) -> None:
    with open_turns() as turns:
        both = ALL_KINDS[codec](turns, first)
        both.require(1)
        both.join(rtx=True)
        both.step([both.packet(WHOLE, "key")])
        for step in history:
            carry_out_layered(both, step)


# -- an encoder's history, and what a decoder makes of it ------------------------------------------------------------

PATTERN = (0, 2, 1, 2)  # temporal layers of successive pictures, as encoders do three of them
NEEDS = (4, 1, 2, 1)  # and which picture before it each needs
PACKETS = 2  # of each spatial layer's frame


@dataclass
class Encoder:
    """Three by three layers as the recorded ones of VP9: a frame needs an earlier one of its own spatial layer."""

    both: Layered
    spatials: int
    since_key: int = 0
    frames: dict[int, tuple[int, int, bool]] = field(
        default_factory=dict
    )  # by number: picture, its place since the key
    pictures: int = 0

    def encode(self) -> list[tuple[None, bytes]]:
        """Return the packets of the next picture; a keyframe where one is wanted."""
        track = self.both.tracks["video"]
        is_key = track.keyframe_wanted or self.pictures == 0
        if is_key:
            track.keyframe_wanted, self.since_key = False, 0
            self.both.turns.tables.tracks["keyframe_wanted"][self.both.rows["video"]] = 0
        out = []
        for spatial in range(self.spatials):
            for number in range(PACKETS):
                bits = BEGINS * (number == 0) | ENDS * (number == PACKETS - 1) | SYNC
                is_last = spatial == self.spatials - 1 and number == PACKETS - 1
                what = "key" if is_key and spatial == 0 and number == 0 else "delta"
                place = spatial, PATTERN[self.since_key % 4], bits
                out.append(self.both.packet(place, what, marker=is_last, same_frame=bool(out)))
                self.frames[self.both.last["video"]] = (self.pictures, spatial, self.since_key == 0)
        self.needs[self.pictures] = None if is_key else self.pictures - NEEDS[self.since_key % 4]
        self.pictures += 1
        self.since_key += 1
        return out

    needs: dict[int, int | None] = field(default_factory=dict)

    def decode(self, watching: Watching) -> dict[int, int]:
        """See that a viewer's packets can be decoded; returns each picture's highest spatial layer."""
        packets = received(watching)
        numbers = sorted(packets)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        shown: dict[int, list[tuple[int, bool]]] = {}
        for number in numbers:
            payload, marker = packets[number]
            if payload:
                picture, spatial, _ = self.frames[int.from_bytes(payload[-2:])]
                shown.setdefault(picture, []).append((spatial, marker))
        for picture, parts in shown.items():
            spatials, markers = [spatial for spatial, _ in parts], [marker for _, marker in parts]
            assert spatials == [spatial for spatial in range(spatials[-1] + 1) for _ in range(PACKETS)]
            assert markers == [False] * (len(parts) - 1) + [True]
            needed = self.needs[picture]
            assert needed is None or shown[needed][-1][0] >= spatials[-1]
        return {picture: parts[-1][0] for picture, parts in shown.items()}


def received(watching: Watching) -> dict[int, tuple[bytes, bool]]:
    """Return the picture's packets by extended number; the first of each counts."""
    subscription = watching.viewer.subscriptions[0]
    found: dict[int, tuple[bytes, bool]] = {}
    for packet in watching.got:
        if packet.ssrc in (subscription.ssrc, subscription.rtx_ssrc):
            is_repair = packet.ssrc == subscription.rtx_ssrc
            number = int.from_bytes(packet.payload[:2]) if is_repair else packet.sequence_number
            full = subscription.last_seq - ((subscription.last_seq - number) & 0xFFFF)
            part = (packet.payload[2 if is_repair else 0 :], packet.marker)
            assert found.setdefault(full, part) == part  # what comes twice comes alike
    return found


def frames_of(codec: Codec) -> int:
    return 1 if codec is Codec.VP8 else 3


@settings(max_examples=150, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(EDGES),
    st.sampled_from(list(KINDS)),
    st.lists(
        st.tuples(limits, limits, st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=6, max_size=9)),
        min_size=2,
        max_size=6,
    ),
)
def test_every_viewer_can_decode_what_it_gets_whatever_comes_late(
    first: int,
    codec: Codec,
    phases: list[tuple[int, int, list[tuple[int, int]]]],
) -> None:
    """Of each picture one packet may come some pictures late; 0 pictures late is in time."""
    with open_turns() as turns:
        both = KINDS[codec](turns, first)
        whole, watching = both.join(rtx=True), both.join(rtx=True)
        encoder = Encoder(both, frames_of(codec))
        both.step(encoder.encode())
        late: list[tuple[int, tuple[None, bytes]]] = []
        for spatial, temporal, pictures in phases:
            both.limit(watching, spatial, temporal)
            for place, delay in pictures:
                packets = encoder.encode()
                if delay and place < len(packets):
                    late.append((encoder.pictures + delay, packets.pop(place)))
                both.step(packets)
                both.step([packet for due, packet in late if due == encoder.pictures])
                late = [(due, packet) for due, packet in late if due != encoder.pictures]
        both.step([packet for _, packet in late])
        for one in (whole, watching):
            subscription = one.viewer.subscriptions[0]
            lost = tuple((subscription.last_seq - back) & 0xFFFF for back in range(40, -1, -1))
            both.step([(one, build_rtcp(Nack(9, subscription.ssrc, lost)))])
            encoder.decode(one)
        assert set(encoder.decode(whole)) == set(range(encoder.pictures))


@pytest.mark.parametrize("codec", KINDS)
def test_a_viewer_goes_down_at_once_and_up_where_a_decoder_can(codec: Codec) -> None:
    with open_turns() as turns:
        both = KINDS[codec](turns, 65_530)
        watching = both.join(rtx=True)
        encoder = Encoder(both, frames_of(codec))
        top = encoder.spatials - 1
        for _ in range(4):
            both.step(encoder.encode())
        both.limit(watching, 0, 1)
        for _ in range(8):
            both.step(encoder.encode())
        assert not both.tracks["video"].keyframe_wanted
        both.limit(watching, ALL_LAYERS, ALL_LAYERS)
        for _ in range(8):
            both.step(encoder.encode())
        shown = encoder.decode(watching)
        assert [shown.get(picture) for picture in range(4)] == [top] * 4
        assert [shown.get(picture) for picture in range(4, 12)] == [0, None, 0, None] * 2
        # In spatial layers with the keyframe that was asked for, in temporal ones as the encoder says: at once.
        assert [shown.get(picture) for picture in range(12, 20)] == [0 if top else top, *[top] * 7]
        assert turns.counts()[Count.LAYERS_MOVED] == (3 if top else 2)


def test_vp8_s_pictures_are_numbered_without_gaps_where_some_are_left_out() -> None:
    with open_turns() as turns:
        both = Layered(turns, 0)
        both.pictures["video"] = 32_760  # so that they wrap
        watching = both.join(rtx=True)
        encoder = Encoder(both, 1)
        for limit in (2, 0, 1, 2):
            both.limit(watching, 0, limit)
            for _ in range(8):
                both.step(encoder.encode())
        pictures = [int.from_bytes(payload[2:4]) & 0x7FFF for payload, _ in received(watching).values()]
        distinct = list(dict.fromkeys(pictures))
        assert distinct == [(distinct[0] + place) & 0x7FFF for place in range(len(distinct))]
        assert len(distinct) < encoder.pictures


def test_nobody_gets_a_packet_of_the_reserved_layer_who_does_not_hold_what_it_takes() -> None:
    with open_turns() as turns:
        both = LayeredVp9(turns, 0)
        entitled, other = both.join(rtx=True), both.join(rtx=False)
        both.hold(entitled, Grant.WELCOME | Grant.ENTITLED, FOREVER, 0)
        both.reserve_from(2, Grant.ENTITLED)
        encoder = Encoder(both, 3)
        for _ in range(6):
            both.step(encoder.encode())
        assert set(encoder.decode(entitled).values()) == {2}
        assert set(encoder.decode(other).values()) == {1}
        last = other.viewer.subscriptions[0].last_seq
        lost = tuple(last - back for back in range(30, -1, -1))
        both.step([(other, build_rtcp(Nack(9, other.viewer.subscriptions[0].ssrc, lost)))])
        # Taken away in the middle of a picture: not one more, by retransmission neither.
        packets = encoder.encode()
        both.step(packets[:5])
        both.hold(entitled, Grant.WELCOME, FOREVER, 0)
        before = len(entitled.got)
        both.step(packets[5:])
        subscription = entitled.viewer.subscriptions[0]
        lost = tuple(subscription.last_seq - back for back in range(30, -1, -1))
        both.step([(entitled, build_rtcp(Nack(9, subscription.ssrc, lost)))])
        both.step(encoder.encode())
        spatials = {encoder.frames[int.from_bytes(packet.payload[-2:])][1] for packet in entitled.got[before:]}
        assert spatials == {0, 1}


def test_who_can_t_have_av1_s_larger_pictures_gets_the_smallest_whole() -> None:
    with open_turns() as turns:
        both = LayeredAv1(turns, 0)
        watching = both.join(rtx=True)
        both.limit(watching, 0, ALL_LAYERS)
        encoder = Encoder(both, 3)
        for _ in range(8):
            both.step(encoder.encode())
        assert encoder.decode(watching) == dict.fromkeys(range(8), 0)
