"""Reads AV1's dependency descriptor, the header extension that tells of any codec which frames need which.

AV1 RTP specification 1.0, appendix A. Only what forwarding asks of it is kept: each frame's layers, and where a
decoder may go over to more pictures a second.
"""

from __future__ import annotations

from dataclasses import dataclass

from media.wire.layering import NOTHING, Layering, Mark
from media.wire.malformed import MalformedPacket

URI = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
TEMPLATES = 64
MAX_SPATIAL, MAX_TEMPORAL = 3, 7
LAYERS_END, NEXT_TEMPORAL, NEXT_SPATIAL = 3, 1, 2  # next_layer_idc
SWITCH = 2  # a decode target indication: whoever has this frame can go on with the target


@dataclass(frozen=True, slots=True)
class Structure:
    """What a keyframe says of all the frames until the next one: `templates` are places, BEGINS and ENDS left out."""

    offset: int
    templates: tuple[Layering, ...]
    decode_targets: int
    chains: int
    resolutions: tuple[tuple[int, int], ...]  # of each spatial layer, where they are told

    def template(self, number: int) -> Layering:
        """Return a frame's template. Raises MalformedPacket."""
        index = (number - self.offset) % TEMPLATES
        if index >= len(self.templates):
            raise MalformedPacket(f"template {number} of {len(self.templates)} from {self.offset} on")
        return self.templates[index]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One packet's place, its frame's number, and the structure that it brought, if any."""

    place: Layering
    frame_number: int
    structure: Structure | None


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise MalformedPacket("a dependency descriptor ends early")
        return (self._value >> self._left) & ((1 << count) - 1)

    def non_symmetric(self, values: int) -> int:
        """Read one of so many values, ns(n) of the specification."""
        width = values.bit_length()
        short = (1 << width) - values
        value = self.read(width - 1)
        return value if value < short else (value << 1) - short + self.read(1)


def parse_dependency_untrusted(data: bytes, known: Structure | None) -> Descriptor:
    """Read one packet's descriptor; `known` is the newest structure that came before. Raises MalformedPacket."""
    bits = _Bits(data)
    marks = (Mark.BEGINS if bits.read(1) else NOTHING) | (Mark.ENDS if bits.read(1) else NOTHING)
    number, frame_number = bits.read(6), bits.read(16)
    brought, has_own_indications = None, False
    if len(data) > 3:
        has_structure, has_active_targets, has_own_indications = bits.read(1), bits.read(1), bool(bits.read(1))
        bits.read(2)  # whether it has its own differences and chains, which come last
        brought = _structure(bits) if has_structure else None
        structure = brought or known
        if has_active_targets:
            bits.read(structure.decode_targets if structure is not None else 0)
    structure = brought or known
    if structure is None:
        raise MalformedPacket("a dependency descriptor before any structure")
    template = structure.template(number)
    marks |= template.marks & ~Mark.SYNC_AFTER if has_own_indications else template.marks
    return Descriptor(Layering(template.spatial, template.temporal, marks), frame_number, brought)


def described_heights_untrusted(data: bytes) -> tuple[int, ...]:
    """Return the heights of the spatial layers that a keyframe's descriptor tells of, the lowest first, or nothing."""
    try:
        structure = parse_dependency_untrusted(data, None).structure if data else None
    except MalformedPacket:
        return ()
    return () if structure is None else tuple(height for _, height in structure.resolutions)


def _structure(bits: _Bits) -> Structure:
    offset, targets = bits.read(6), bits.read(5) + 1
    layers = list(_template_layers(bits))
    indications = [[bits.read(2) for _ in range(targets)] for _ in layers]
    for _ in layers:
        while bits.read(1):
            bits.read(4)  # one frame that it needs, by the difference of their numbers
    chains = bits.non_symmetric(targets + 1)
    if chains:
        for _ in range(targets):
            bits.non_symmetric(chains)
        for _ in layers:
            bits.read(4 * chains)
    spatials = layers[-1][0] + 1
    has_resolutions = bits.read(1)
    resolutions = tuple((bits.read(16) + 1, bits.read(16) + 1) for _ in range(spatials)) if has_resolutions else ()
    tops = _tops(layers, indications, targets)
    templates = tuple(
        Layering(spatial, temporal, Mark.TOLD | (Mark.SYNC_AFTER if each[tops[spatial]] == SWITCH else NOTHING))
        for (spatial, temporal), each in zip(layers, indications, strict=True)
    )
    return Structure(offset, templates, targets, chains, resolutions)


def _template_layers(bits: _Bits) -> list[tuple[int, int]]:
    layers = [(0, 0)]
    while (step := bits.read(2)) != LAYERS_END:
        spatial, temporal = layers[-1]
        if step == NEXT_TEMPORAL:
            temporal += 1
        elif step == NEXT_SPATIAL:
            spatial, temporal = spatial + 1, 0
        layers.append((spatial, temporal))
        if len(layers) > TEMPLATES or temporal > MAX_TEMPORAL or spatial > MAX_SPATIAL:
            raise MalformedPacket("more templates or layers than there may be")
    return layers


def _tops(layers: list[tuple[int, int]], indications: list[list[int]], targets: int) -> dict[int, int]:
    """Return of each spatial layer the decode target with the most pictures a second, the last of several."""
    best: dict[int, tuple[int, int]] = {}
    for target in range(targets):
        members = [layer for layer, each in zip(layers, indications, strict=True) if each[target]]
        spatial = max((layer[0] for layer in members), default=0)
        temporal = max((layer[1] for layer in members), default=0)
        best[spatial] = max(best.get(spatial, (0, 0)), (temporal, target))
    return {spatial: best.get(spatial, (0, 0))[1] for spatial, _ in layers}
