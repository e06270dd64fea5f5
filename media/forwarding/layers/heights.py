"""How high the pictures of a track are, read from its newest keyframe while the forwarding thread goes on writing."""

from __future__ import annotations

from dataclasses import dataclass

from media.forwarding.payloads import read_payload
from media.forwarding.tables import CACHE, PAYLOAD_TAIL, Tables
from media.wire.codecs import Codec
from media.wire.dependency import described_heights_untrusted
from media.wire.heights import heights_untrusted


@dataclass(slots=True)
class Heights:
    """What the keyframes of one row tell; nothing before one that tells it."""

    key: int = -1
    known: tuple[int, ...] = ()

    def look(self, tables: Tables, row: int) -> tuple[int, ...]:
        """Return the heights of its spatial layers."""
        key = int(tables.tracks["key_ext_seq"][row])
        if key in (self.key, -1):
            return self.known
        slot = key % CACHE
        size = int(tables.cache_info["descriptor"][row, slot])
        told = described_heights_untrusted(tables.cache_tails[row, slot, PAYLOAD_TAIL - size :].tobytes())
        whole = int(tables.cache_info["size"][row, slot])
        payload = read_payload(tables.cache_heads[row, slot], tables.cache_tails[row, slot], 0, whole)
        if tables.cache_seq[row, slot] == key:  # the thread marks a slot before it writes there
            self.key = key
            self.known = heights_untrusted(Codec(int(tables.tracks["codec"][row])), payload) or told or self.known
        return self.known
