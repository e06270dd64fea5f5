"""AV1 with dependency descriptors: the kernel does what the reference does; viewers can tell which frame is which."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.forwarding.choices import ALL_LAYERS
from media.wire.codecs import Codec
from media.wire.dependency import parse_dependency_untrusted
from media.wire.extensions import Passed
from media.wire.rtcp import Nack, build_rtcp
from tests.media.test_choosing import BEGINS, ENDS, WHOLE, Encoder, Layered, Place, carry_out_layered, steps
from tests.media.test_reference import DESCRIBED, EDGES, L3T3_KEY, Watching, told
from tests.media.turns import open_turns

BROUGHT = next(told(L3T3_KEY))  # a keyframe's descriptor, as Chromium writes it for three by three layers
STRUCTURE = parse_dependency_untrusted(BROUGHT, None).structure
assert STRUCTURE is not None


class Described(Layered):
    """A video of which only descriptors tell the layers."""

    codec = Codec.AV1
    frame = 65_530  # so that the number wraps

    def payload(self, kind: str, what: str, number: int, numbering: str) -> bytes:
        if kind == "audio" or what == "empty":
            return super().payload(kind, what, number, numbering)
        return bytes([0x10 | (0x08 if what == "key" else 0), 0x30]) + number.to_bytes(2)

    def packet(self, place: Place, what: str, ahead: int = 1, **more: object) -> tuple[None, bytes]:
        self.frame += bool(place[2] & BEGINS)
        descriptor = describe(place, self.frame, is_key=what == "key")
        return super().packet(place, what, ahead, told=((Passed.DEPENDENCY, descriptor),), **more)


def describe(place: Place, frame: int, *, is_key: bool) -> bytes:
    spatial, temporal, bits = place
    assert STRUCTURE is not None
    index = next(i for i, one in enumerate(STRUCTURE.templates) if (one.spatial, one.temporal) == (spatial, temporal))
    first = (0x80 if bits & BEGINS else 0) | (0x40 if bits & ENDS else 0) | (STRUCTURE.offset + index) % 64
    return bytes([first]) + (frame & 0xFFFF).to_bytes(2) + (BROUGHT[3:] if is_key else b"")


def told_to(watching: Watching, place: int) -> dict[int, bytes]:
    """Return the descriptors of what a viewer got, by what its packets carry; repairs have the same."""
    found: dict[int, bytes] = {}
    for packet in watching.got:
        if packet.payload:
            number, descriptor = int.from_bytes(packet.payload[-2:]), packet.extensions[DESCRIBED[place]]
            assert found.setdefault(number, descriptor) == descriptor
    return found


@settings(
    max_examples=150,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(EDGES), st.lists(steps, min_size=8, max_size=40))
def test_the_kernel_reads_and_writes_what_the_reference_does(first: int, history: list[tuple]) -> None:  # type: ignore[type-arg]
    with open_turns() as turns:
        both = Described(turns, first)
        both.require(1)
        both.join(rtx=True)
        both.step([both.packet(WHOLE, "key")])
        for step in history:
            carry_out_layered(both, step)


def test_a_viewer_s_frames_are_of_its_layers_and_keep_their_distances_over_another_source() -> None:
    with open_turns() as turns:
        both = Described(turns, 65_530)
        watching = both.join(rtx=True)
        encoder = Encoder(both, 3)
        source: dict[int, tuple[int, int]] = {}
        for number, (spatial, temporal) in enumerate([(2, 2), (1, 2), (0, 0), (1, 1), (ALL_LAYERS, ALL_LAYERS)]):
            both.limit(watching, spatial, temporal)
            for _ in range(8):
                frame = both.frame
                both.step(encoder.encode())
                for seq, (_, layer, _) in list(encoder.frames.items())[-6:]:
                    source[seq] = (number, frame + 1 + layer)
        shown = encoder.decode(watching)
        assert set(shown.values()) == {0, 1, 2}
        descriptors = told_to(watching, 0)
        distances = {
            (int.from_bytes(descriptor[1:3]) - source[seq][1]) & 0xFFFF for seq, descriptor in descriptors.items()
        }
        assert len(distances) == 1
        last = max(descriptors, key=lambda seq: source[seq])
        both.frame, before = 123, int.from_bytes(descriptors[last][1:3])
        both.age()
        both.step([both.packet(WHOLE, "key", ssrc=6)])
        assert int.from_bytes(watching.got[-1].extensions[DESCRIBED[0]][1:3]) == before + 1


def test_what_is_sent_again_tells_the_same_and_who_did_not_ask_is_told_nothing() -> None:
    with open_turns() as turns:
        both = Described(turns, 7)
        first, second, third = both.join(rtx=True), both.join(rtx=True), both.join(rtx=False)
        encoder = Encoder(both, 3)
        for _ in range(4):
            both.step(encoder.encode())
        for one in (first, third):
            subscription = one.viewer.subscriptions[0]
            lost = tuple((subscription.last_seq - back) & 0xFFFF for back in range(6))
            both.step([(one, build_rtcp(Nack(9, subscription.ssrc, lost)))])
        assert len(told_to(first, 0)) == len(told_to(third, 2)) == 4 * 6
        assert all(Passed.DEPENDENCY not in packet.extensions and not packet.extensions for packet in second.got)
        assert BROUGHT[3:] in {descriptor[3:] for descriptor in told_to(first, 0).values()}
