"""Decides what a viewer's way may be used for: the best picture that fits beside the sound, and when to try for better.

The ramp of a viewer that tells of its network: it begins with the best layer that fits half a megabit a second, which
nearly every network carries. Probes begin with the first frame that is told of, and as soon as two of them agree that
a better layer fits it gets that one, from its next keyframe; none in between has to be shown. They are of thrice what
is known, then of twice as much each, a tenth of a second apart for as long as that comes through, and otherwise come
ever more rarely, four a second at first and one in eight at last, for as long as there is something better to be had.
A layer that no longer fits is left at once. One that was tried and did not last is not tried again for two seconds,
then four, and so on up to thirty.

A viewer that tells nothing but receiver reports gets what it may have, and a layer less while it loses much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from media.forwarding.estimates import HIGH_LOSS, SECOND_NS, START_BPS

SOUND_BPS = 50_000.0  # set apart for sound, which always comes first: Opus as browsers send it, with its headers
WIRE = 1.05  # octets on the wire for each of a payload of a thousand, the usual one: RTP header, stamp and tag
RISE_MARGIN = 1.1  # that much more must fit before a better layer is taken: encoders do not keep to a rate exactly
PROBED = RISE_MARGIN * 1.5  # and probes show so much more than that: encoders send more while a layer is new
SILENT_NS = 2 * SECOND_NS  # after so long without a word, something is said by that
FIRST_REST_NS, LONGEST_REST_NS = 2 * SECOND_NS, 30 * SECOND_NS
LASTED_NS = 15 * SECOND_NS  # a layer that was kept for so long was no mistake
# Receivers with REMB allow half more than what comes, whatever the network carries: that much says "no limit seen".
REMB_OPEN = 1.3
LOSSES_SEEN_NS, LESS = 3 * SECOND_NS, 0.9
REMB_EVERY_NS, REMB_STEP = 2 * SECOND_NS, 5.0  # then so often so much more may be tried: layers are four times apart


class Told(NamedTuple):
    """What a viewer's end told, as the kernel keeps it (see estimates.py)."""

    bps: float = 0.0
    told_ns: int = 0
    remb_bps: float = 0.0
    lost: float = 0.0  # share of the picture's packets, by its newest receiver report


class Allowed(NamedTuple):
    """How many bits a second of picture a viewer may keep, and up to how many it may rise to."""

    keep_bps: float = math.inf
    rise_bps: float = math.inf


def on_the_wire_bps(octets_per_s: int) -> float:
    """Return what a layer takes of the way, from the octets of its payloads."""
    return 8 * WIRE * octets_per_s


@dataclass(slots=True)
class Downlink:
    """One viewer's way: what it may be used for."""

    is_numbered: bool
    joined_ns: int
    rested_ns: int = 0  # nothing better is tried before
    rest_ns: int = FIRST_REST_NS
    moved_ns: int = 0
    rose_ns: int = 0  # 0: it did not, since it fell
    flowed_ns: int = 0
    resumed_ns: int = 0  # when packets came after a pause, of which nothing could be told

    def allowed(self, told: Told, current_bps: float, flows_ns: int, now_ns: int) -> Allowed:
        """Say what a viewer may have; `current_bps` it has now, and something last left for it at `flows_ns`."""
        if self.is_numbered:
            known = self._known_bps(told, flows_ns, now_ns) - SOUND_BPS
        elif told.remb_bps:
            return self._by_remb(told.remb_bps - SOUND_BPS, current_bps, now_ns)
        else:
            return self._by_losses(told.lost, current_bps, now_ns)
        return Allowed(known, known / RISE_MARGIN if now_ns >= self.rested_ns else current_bps)

    def _known_bps(self, told: Told, flows_ns: int, now_ns: int) -> float:
        if flows_ns - self.flowed_ns >= SILENT_NS:
            self.resumed_ns = flows_ns
        self.flowed_ns = flows_ns
        if flows_ns - max(told.told_ns, self.joined_ns, self.resumed_ns) < SILENT_NS:
            return told.bps or START_BPS
        # It was numbered and never told a thing: then nothing is known. Or what it told no longer comes through.
        return 0.0 if told.told_ns else math.inf

    def _by_remb(self, bps: float, current_bps: float, now_ns: int) -> Allowed:
        may_try = now_ns >= max(self.rested_ns, self.moved_ns + REMB_EVERY_NS)
        is_open = bps >= REMB_OPEN * current_bps
        return Allowed(bps, (REMB_STEP * current_bps if is_open else bps / RISE_MARGIN) if may_try else current_bps)

    def _by_losses(self, lost: float, current_bps: float, now_ns: int) -> Allowed:
        """Have a layer less where much is lost; reports come once a second, and tell of what was before."""
        if lost > HIGH_LOSS and now_ns - self.moved_ns >= LOSSES_SEEN_NS and current_bps:
            return Allowed(LESS * current_bps, 0.0)
        return Allowed(rise_bps=math.inf if now_ns >= self.rested_ns else current_bps)

    def moved(self, is_up: bool, now_ns: int) -> None:
        """Note that the viewer goes over to a better layer, or to a lesser one as its way does not carry more."""
        self.moved_ns = now_ns
        if is_up:
            self.rose_ns = now_ns
            return
        has_failed = self.rose_ns != 0 and now_ns - self.rose_ns < LASTED_NS
        self.rest_ns = min(2 * self.rest_ns, LONGEST_REST_NS) if has_failed else FIRST_REST_NS
        self.rested_ns = now_ns + self.rest_ns
        self.rose_ns = 0

    def probe_bps(self, wanted_bps: float, told: Told, now_ns: int) -> float:
        """Return up to which rate to probe for a layer of `wanted_bps`, 0 for none: 0 where not at all."""
        if not self.is_numbered or not told.bps or not wanted_bps or now_ns < self.rested_ns:
            return 0.0
        return wanted_bps * PROBED + SOUND_BPS
