"""Reads a track's packets out of the forwarding thread's cache, in order, while that thread goes on writing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from media.bridge.assembling import Packet
from media.bridge.clocks import Arrival, SenderReport
from media.forwarding.payloads import read_payload
from media.wire.layering import MAX_LAYERS, Mark

PATIENCE_NS = 250_000_000  # for a lost packet to be repaired: two round trips around half the world


class TapTables(Protocol):
    """The columns that a tap reads; of `tracks` it also writes `tapped`. Layouts as in `tables`."""

    @property
    def tracks(self) -> npt.NDArray[Any]: ...  # noqa: D102 - the table of this name
    @property
    def cache_seq(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
    @property
    def cache_info(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def cache_heads(self) -> npt.NDArray[np.uint8]: ...  # noqa: D102
    @property
    def cache_tails(self) -> npt.NDArray[np.uint8]: ...  # noqa: D102


class Restarted:
    """Its source began anew: nothing before belongs to what follows."""


class Gap:
    """Packets are missing here, and will not come."""


RESTARTED, GAP = Restarted(), Gap()


class Tap:
    """One reader of one track; opened, the forwarding thread wakes Python when there is something to read.

    `since_ns`: what was cached before is not read.
    """

    def __init__(self, tables: TapTables, row: int, since_ns: int) -> None:
        self._tables, self._row = tables, row
        self._seqs, self._infos = tables.cache_seq[row], tables.cache_info[row]
        self._heads, self._tails = tables.cache_heads[row], tables.cache_tails[row]
        track = tables.tracks[row]
        self._restarts = int(track["restarts"])
        self._missing_since_ns = 0  # 0: nothing is missing
        self.counts = Counter[str]()
        tables.tracks["tapped"][row] = 1
        key, highest = int(track["key_ext_seq"]), int(track["highest_ext_seq"])
        self.has_start = key >= 0 and int(track["last_keyframe_ns"]) > since_ns  # a keyframe is there to begin with
        self._next = key if self.has_start else highest + 1

    def close(self) -> None:
        """Read no more."""
        self._tables.tracks["tapped"][self._row] = 0

    def read(self, now_ns: int) -> Iterator[Packet | Restarted | Gap]:
        """Yield what has come since the last call."""
        track = self._tables.tracks[self._row]
        if int(track["restarts"]) != self._restarts:
            self._restarts, self._next = int(track["restarts"]), int(track["first_ext_seq"])
            self._missing_since_ns = 0
            yield RESTARTED
        highest = int(track["highest_ext_seq"])
        if highest - self._next >= len(self._seqs):
            self.counts["tap_overrun"] += highest - self._next
            self._next = highest - len(self._seqs) // 2
            yield GAP
        while self._next <= highest:
            packet = self._take(self._next)
            if packet is None:
                if not self._missing_since_ns:
                    self._missing_since_ns = now_ns
                if now_ns - self._missing_since_ns < PATIENCE_NS:
                    return
                self._next = self._first_after(self._next, highest)
                self.counts["tap_gaps"] += 1
                yield GAP
            else:
                self._next += 1
                yield packet
            self._missing_since_ns = 0

    def newest(self) -> Arrival | None:
        """Return the newest packet's times, None before the first."""
        track = self._tables.tracks[self._row]
        rtp_time = int(track["last_ts"])
        return Arrival(rtp_time, int(track["last_ns"])) if rtp_time >= 0 else None

    def report(self) -> SenderReport | None:
        """Return the publisher's newest sender report, None before the first."""
        track = self._tables.tracks[self._row]
        ntp = int(track["sr_ntp"])
        return SenderReport(ntp, int(track["sr_rtp"]), int(track["sr_arrival_ns"])) if ntp else None

    def _take(self, number: int) -> Packet | None:
        slot = number % len(self._seqs)
        if self._seqs[slot] != number:
            return None
        info = self._infos[slot]
        is_last, size = bool(info["marker"]), int(info["size"])
        reserved_from = self._reserved_from()
        if info["spatial"] >= reserved_from:
            size = 0
        elif info["spatial"] == reserved_from - 1:
            is_last |= bool(info["marks"] & Mark.ENDS)
        # Of redundant sound its newest block.
        payload = read_payload(self._heads[slot], self._tails[slot], int(info["red_at"]), size)
        packet = Packet(int(info["ts"]), is_last, payload)
        # The thread marks a slot before it writes there: what was there all the time was whole.
        return packet if self._seqs[slot] == number else None

    def _reserved_from(self) -> int:
        """Return the first spatial layer that not everybody may have: who reads here is not known one by one."""
        track = self._tables.tracks[self._row]
        return int(track["reserved_from"]) if track["reserved_from"] and track["layer_requires"] else MAX_LAYERS

    def _first_after(self, number: int, highest: int) -> int:
        while number < highest and self._seqs[number % len(self._seqs)] != number:
            number += 1
        return number
