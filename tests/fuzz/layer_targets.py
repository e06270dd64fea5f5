"""What the readers of layers promise: a place among the layers that there may be, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from media.wire.dependency import (
    MAX_SPATIAL,
    MAX_TEMPORAL,
    TEMPLATES,
    described_heights_untrusted,
    parse_dependency_untrusted,
)
from media.wire.malformed import MalformedPacket
from media.wire.rtp import parse_rtp_untrusted
from tests.fuzz.target import Target
from tests.media.packets import recorded

LAYERED = ("chromium156-vp9-L3T3_KEY", "chromium156-av1-L3T3_KEY")
EXTENSION = 12


def read_dependency(data: bytes) -> None:
    """Take the bytes for two descriptors, the first as long as the first byte says: it may bring a structure."""
    assert all(0 < height <= 65_536 for height in described_heights_untrusted(data))
    cut, known = 1 + (data[0] if data else 0), None
    for part in (data[1:cut], data[cut:]):
        with suppress(MalformedPacket):
            found = parse_dependency_untrusted(part, known)
            known = found.structure or known
            assert 0 <= found.place.spatial <= MAX_SPATIAL
            assert 0 <= found.place.temporal <= MAX_TEMPORAL
            assert known is not None
            assert 0 < len(known.templates) <= TEMPLATES
            assert len(known.resolutions) in (0, known.templates[-1].spatial + 1)


def dependency_seeds() -> Iterator[bytes]:
    for name in LAYERED:
        headers = (parse_rtp_untrusted(datagram).header for datagram in recorded(name, "rtp"))
        told = [header.extensions[EXTENSION] for header in headers if EXTENSION in header.extensions]
        yield from (bytes([len(told[0])]) + told[0] + later for later in sorted(set(told), key=len)[::4])


LAYER_TARGETS = {"dependency": Target(read_dependency, dependency_seeds, 512)}
