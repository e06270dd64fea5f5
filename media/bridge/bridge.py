"""All offers of a node: which room's publisher is a broadcast under which path, and what is to be read now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set

from media.bridge.offering import Offer, OfferedTrack
from media.bridge.tapping import TapTables
from media.moq.relaying.origin import Origin


class Bridge:
    """Offers WebRTC publishers in an origin, by path."""

    def __init__(self, tables: TapTables, origin: Origin) -> None:
        self._tables, self._origin = tables, origin
        self._offers: dict[str, Offer] = {}
        self._tapped: dict[str, Offer] = {}
        self._counts = Counter[str]()

    def begin(self, path: str, tracks: Mapping[str, OfferedTrack], now_ns: int) -> None:
        """Offer a publisher; who reads on goes on when it publishes the same as the one before."""
        before = self._offers.get(path)
        if before is not None and before.tracks == tracks and not before.broadcast.is_ended:
            return
        self.end(path)
        offer = self._offers[path] = Offer(path, self._tables, tracks, now_ns)
        self._origin.begin(offer.broadcast)

    def end(self, path: str) -> None:
        """End an offer; one that is not there is no error."""
        offer = self._offers.pop(path, None)
        if offer is not None:
            self._tapped.pop(path, None)
            self._origin.end(offer.broadcast)
            offer.close()
            self._counts += offer.counts

    def list_layers(self, path: str, bitrates: Mapping[str, int], reserved: Set[str], now_ns: int) -> bool:
        """Offer of a picture's renditions only these, with their bitrates (bit/s); 0 for what is not measured yet.

        Returns whether what is `reserved` of them has changed.
        """
        if path not in self._offers:
            return False
        has_changed = self._offers[path].list_layers(bitrates, reserved, now_ns)
        self.review(path)
        return has_changed

    def forget(self, path: str, now_ns: int) -> None:
        """Let whoever comes now see only what is sent from now on."""
        if path in self._offers:
            self._offers[path].forget(now_ns)

    def review(self, path: str) -> None:
        """Look at who reads an offer."""
        offer = self._offers.get(path)
        if offer is None:
            return
        offer.review()
        if offer.is_tapped:
            self._tapped[path] = offer
        else:
            self._tapped.pop(path, None)

    def is_read(self, path: str) -> bool:
        """Whether somebody reads an offer."""
        return path in self._tapped

    def pump(self, now_ns: int) -> list[int]:
        """Pass on what has come; returns the rows of tracks of which a keyframe is needed."""
        return [row for offer in tuple(self._tapped.values()) for row in offer.pump(now_ns)]

    def counters(self) -> dict[str, int]:
        """How much was bridged, by name."""
        counts = Counter(self._counts)
        for offer in self._offers.values():
            counts += offer.counters()
        return {
            "bridged_broadcasts": len(self._offers),
            "bridged_broadcasts_read": len(self._tapped),
            "bridged_frames": counts.pop("frames", 0),
            **{f"bridged_{name}": count for name, count in counts.items()},
        }
