"""Which layer each viewer gets: of those that arrive and that it may have, what fits its way and its wish.

Layers are the encodings of simulcast, or the steps within a single one (see ladder.py). What a layer looks like is not
said when it is offered, and clients name layers as they like. So they are ranked by the octets that come: more of them
are a better picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from media.forwarding.admission import FOREVER, NOTHING, Grant
from media.forwarding.choices import ALL_LAYERS
from media.forwarding.forwarder import Forwarder, SubscribedTrack
from media.forwarding.kernel.stamps import NUMBER_OCTETS
from media.forwarding.layers.allocation import Allowed, Downlink, Told
from media.forwarding.layers.heights import Heights
from media.forwarding.layers.ladder import Ladder, Within, layers_of, number, steps
from media.forwarding.layers.resting import Resting
from media.forwarding.layers.ways import Ways
from media.forwarding.layers.wishes import RANKED_NS, Layer, Wish, choose, fit, wished
from media.forwarding.tables import VIDEO
from media.wire.codecs import Codec
from media.wire.extensions import Passed

REVIEW_NS = 250_000_000  # how often all are looked at: a viewer whose layer ends sees the next one this much later
LIVE_NS = 600_000_000  # without a packet for longer a layer has ended; encoders send ten pictures a second or more
ALONE_NS = 3_000_000_000  # when no second layer has come by then, the first is all there is
EVERYTHING = Within(ALL_LAYERS, ALL_LAYERS)


@dataclass(slots=True)
class _Viewer:
    transport: int
    wish: Wish
    wanted: int
    downlink: Downlink
    demand: int  # what it would get if nothing rested
    is_told: bool = False  # of dependencies between frames
    cuts: int = 0  # of its estimate, as they were last looked at
    limit: Within = EVERYTHING  # within an encoding, as the forwarding thread was told

    def is_held_back(self, within: Within | None) -> bool:
        """Whether the forwarding thread lets it have less than this."""
        return within is not None and (self.limit.spatial < within.spatial or self.limit.temporal < within.temporal)


@dataclass(slots=True)
class _Track:
    layers: list[Layer]
    row: int
    ladder: Ladder | None = None  # of an encoding that is the only one
    reserved_for: Grant = NOTHING
    came_ns: int = 0  # when its first layer did
    viewers: dict[int, _Viewer] = field(default_factory=dict)  # by subscription
    resting: Resting = field(default_factory=Resting)
    heights: dict[int, Heights] = field(default_factory=dict)  # by row
    is_read: bool = False  # by somebody of whose layer the kernel does not know
    by_row: dict[int, Layer] = field(default_factory=dict)
    _wished: dict[tuple[Wish, Grant, int], list[Layer]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_row = {layer.row: layer for layer in self.layers}

    def rebuild(self, ladder: Ladder, most: Mapping[bool, int], now_ns: int) -> None:
        """Know the steps of a ladder that has changed; who got all, or what is no step any more, gets the best.

        `most` is up to which spatial layer those can decode who are told of dependencies, or not.
        """
        found = steps(ladder.spatials, ladder.temporals)
        self.layers = [
            Layer(number(self.row, step), is_full=step.temporal == ladder.temporals - 1, measured_ns=now_ns)
            for step in found
        ]
        for layer, step in zip(self.layers, found, strict=True):
            layer.octets = ladder.of(step)
        self.by_row = {layer.row: layer for layer in self.layers}
        for viewer in self.viewers.values():
            if viewer.wanted not in self.by_row:
                viewer.wanted = viewer.demand = self.within(most[viewer.is_told])[-1].row

    def wished(self, wish: Wish, holds: Grant, most_spatial: int) -> list[Layer]:
        """Return what the function of this name does, which is the same for most viewers until a layer changes."""
        found = self._wished.get((wish, holds, most_spatial))
        if found is None:
            found = self._wished[wish, holds, most_spatial] = wished(self.within(most_spatial), wish, holds)
        return found

    def within(self, most_spatial: int) -> list[Layer]:
        """Return the layers, within an encoding those up to a spatial one."""
        steps = ((layer, layers_of(layer.row)) for layer in self.layers)
        return [layer for layer, step in steps if step is None or step.spatial <= most_spatial]

    def changed(self) -> None:
        """Look at the layers anew."""
        self._wished.clear()


class Layers:
    """Keeps every viewer of a node at its layer. Tracks without any are only looked at for some to come."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._tracks: dict[int, _Track] = {}
        self._track_of: dict[int, _Track] = {}  # by subscription
        self._due_ns = 0
        self._ranked_ns = 0  # when encodings without layers are measured next
        self._ways = Ways(forwarder.tables)
        self._cuts = 0  # of all viewers' estimates, as they were last looked at

    def open(self, track: int, now_ns: int) -> None:
        """Look after a track, if it has layers."""
        rows = self._forwarder.layers(track)
        if len(rows) > 1 or self._forwarder.tables.tracks["kind"][track] == VIDEO:
            layers = [Layer(row, measured_ns=now_ns) for row in rows]
            self._tracks[track] = _Track(layers, track, Ladder() if len(rows) == 1 else None)

    def close(self, track: int) -> None:
        """Forget a track whose subscriptions are gone."""
        self._tracks.pop(track, None)

    def reserve(self, track: int, grant: Grant, now_ns: int) -> None:
        """Let the best layer only to those who hold `grant`, and the others to all; 0 lets everybody have all.

        Until it is known which one is the best, all of them count as it.
        """
        found = self._tracks.get(track)
        if found is not None:
            found.reserved_for = grant
            self._review(found, now_ns)

    def subscribe(self, track: int, transport: int, sent: SubscribedTrack, wish: Wish, now_ns: int) -> int:
        """Forward a track to a viewer's transport, and look after it, if it has layers; returns the subscription."""
        found = self._tracks.get(track)
        if found is None:
            return self._forwarder.subscribe(track, transport, sent)
        downlink = Downlink(sent.stamp & 15 == NUMBER_OCTETS - 1, joined_ns=now_ns)
        allowed = downlink.allowed(Told(), 0.0, now_ns, now_ns)
        is_told = Passed.DEPENDENCY in sent.passed
        most_spatial = self._most_spatial(track)[is_told]
        able = found.within(most_spatial)
        layer = choose(able, wish, self._forwarder.admission.held_by(transport, now_ns), allowed)
        first = track if found.ladder is None else able[-1].row  # all there is, until it is known
        wanted = first if layer is None else layer
        within = layers_of(wanted)
        if within is None and found.ladder is not None:
            within = Within(most_spatial, ALL_LAYERS)
        self._ways.need(np.array([transport]), [found.by_row[wanted].bps])
        if within is None:
            subscription = self._forwarder.subscribe(track, transport, sent, layer=wanted)
        else:
            subscription = self._forwarder.subscribe(track, transport, sent, within=within)
        viewer = found.viewers[subscription] = _Viewer(transport, wish, wanted, downlink, wanted, is_told)
        viewer.limit = within or viewer.limit
        self._track_of[subscription] = found
        return subscription

    def _most_spatial(self, track: int) -> dict[bool, int]:
        """Return up to which spatial layer viewers can decode who are told of dependencies, and who are not.

        Those of AV1 take that, and a publisher that tells of them; payloads of other codecs tell all that it takes.
        """
        tables = self._forwarder.tables
        is_plain = tables.tracks["codec"][track] != Codec.AV1
        is_described = tables.structures["count"][track] > 0
        return {True: ALL_LAYERS if is_plain or is_described else 0, False: ALL_LAYERS if is_plain else 0}

    def unsubscribe(self, subscription: int) -> None:
        """Forward no more."""
        self._forwarder.unsubscribe(subscription)
        found = self._track_of.pop(subscription, None)
        if found is not None:
            del found.viewers[subscription]

    def wish(self, subscription: int, wish: Wish, now_ns: int) -> None:
        """Note what a viewer wishes for from now on."""
        found = self._track_of.get(subscription)
        if found is not None:
            found.viewers[subscription].wish = wish
            self._place(found, [subscription], now_ns)

    def coming(self, track: int) -> list[Layer]:
        """Return the layers of a track that come now."""
        found = self._tracks.get(track)
        layers = [] if found is None or found.ladder is not None else found.layers
        return [layer for layer in layers if layer.comes]

    def keep_all(self, track: int, is_read: bool) -> None:
        """Have all layers of a track sent, or no more than the viewers get."""
        found = self._tracks.get(track)
        if found is not None:
            found.is_read = is_read

    def limit_bps(self, track: int) -> float:
        """Return what a publisher need send of a track, in bits a second; infinity for all that it has."""
        found = self._tracks.get(track)
        return math.inf if found is None else found.resting.limit_bps

    def next_review_ns(self) -> int:
        """When `review` wants to be called (monotonic ns)."""
        return self._due_ns if self._tracks else FOREVER

    def review(self, now_ns: int) -> list[int]:
        """Look at what arrives, and move whoever should get another layer; returns the tracks that were looked at.

        A call before its time does nothing. Encodings without layers, as most are, are passed over, all at once.
        """
        if now_ns < self._due_ns:
            return []
        self._due_ns = now_ns + REVIEW_NS
        passed_over = self._without_layers()
        found = [track for row, track in self._tracks.items() if row not in passed_over]
        for track in found:
            self._review(track, now_ns)
        self._review_only(passed_over, now_ns)
        return [track.row for track in found]

    def look(self, now_ns: int) -> None:
        """Move those at once whose way has just turned out to carry less; the kernel wakes Python for that."""
        in_all = self._forwarder.workers.way_cuts()
        if in_all == self._cuts:
            return
        self._cuts = in_all
        cuts = self._forwarder.tables.estimates["cuts"]
        for track in self._tracks.values():
            if len(track.layers) == 1:
                continue
            rows = np.fromiter((viewer.transport for viewer in track.viewers.values()), np.int64, len(track.viewers))
            moved = []
            for (subscription, viewer), count in zip(track.viewers.items(), cuts[rows].tolist(), strict=True):
                if viewer.cuts != count:
                    viewer.cuts = count
                    moved.append(subscription)
            self._place(track, moved, now_ns)

    def _without_layers(self) -> set[int]:
        """Return the tracks of which one layer is known, and nothing came of another."""
        ladders = {row: track.ladder for row, track in self._tracks.items() if len(track.layers) == 1}
        octets = self._forwarder.tables.layer_octets[list(ladders)]
        others = octets.sum(axis=(1, 2)) - octets[:, 0, 0]
        found = zip(ladders.items(), others.tolist(), strict=True)
        return {row for (row, ladder), of_others in found if ladder is not None and ladder.others == of_others}

    def _review_only(self, rows: set[int], now_ns: int) -> None:
        """Measure encodings without layers once a second, and say what their viewers' ways have to carry."""
        if now_ns < self._ranked_ns:
            return
        self._ranked_ns = now_ns + RANKED_NS
        tracks = [self._tracks[row] for row in rows]
        octets = self._forwarder.tables.tracks["octets"][[track.row for track in tracks]].tolist()
        for track, count in zip(tracks, octets, strict=True):
            track.layers[0].measured(count, now_ns)
        transports = [viewer.transport for track in tracks for viewer in track.viewers.values()]
        bps = [track.layers[0].bps for track in tracks for _ in track.viewers]
        self._ways.get_only(np.array(transports, np.int64), np.array(bps))

    def _review(self, track: _Track, now_ns: int) -> None:
        if track.ladder is None:
            self._measure(track, now_ns)
            self._reserve(track, now_ns)
        else:
            self._measure_within(track, track.ladder, now_ns)
            self._reserve_within(track)
        self._note_heights(track)
        track.changed()
        self._place(track, list(track.viewers), now_ns)
        if track.ladder is None:
            self._rest(track, now_ns)

    def _note_heights(self, track: _Track) -> None:
        if len(track.layers) == 1:
            return
        tables = self._forwarder.tables
        for layer in track.layers:
            within = layers_of(layer.row)
            row = layer.row if within is None else track.row
            heights = track.heights.setdefault(row, Heights()).look(tables, row)
            spatial = 0 if within is None else within.spatial
            layer.height = heights[spatial] if spatial < len(heights) else 0

    def _measure_within(self, track: _Track, ladder: Ladder, now_ns: int) -> None:
        if ladder.look(self._forwarder.tables.layer_octets[track.row], now_ns):
            track.rebuild(ladder, self._most_spatial(track.row), now_ns)
        for layer in track.layers:
            step = layers_of(layer.row)
            if step is not None:
                layer.comes = now_ns - ladder.last_ns(step) < LIVE_NS
                note = layer.measured if layer.comes else layer.paused
                note(ladder.of(step), now_ns)
                layer.is_live = layer.comes and layer.rate > 0

    def _reserve_within(self, track: _Track) -> None:
        """Reserve the largest picture that comes, and whatever would be larger; the smallest is always open to all."""
        found = [(layer, layers_of(layer.row)) for layer in track.layers]
        best = max((step.spatial for layer, step in found if step is not None and layer.is_live), default=0)
        first = max(best, 1) if track.reserved_for else 0
        for layer, step in found:
            layer.requires = track.reserved_for if step is not None and step.spatial >= first else NOTHING
        self._forwarder.admission.require_for_layer(track.row, track.reserved_for, first)

    def _rest(self, track: _Track, now_ns: int) -> None:
        ranked = sorted(((layer.row, layer.bps) for layer in track.layers), key=lambda pair: pair[1])
        got = self._forwarder.tables.subscriptions["track"]
        used = {row for viewer in track.viewers.values() for row in (viewer.wanted, viewer.demand)}
        used |= {int(got[row]) for row in track.viewers}
        track.resting.look(ranked, [row for row, _ in ranked] if track.is_read else used, now_ns)

    def _measure(self, track: _Track, now_ns: int) -> None:
        rows = self._forwarder.tables.tracks
        for layer in track.layers:
            came_ns, octets = int(rows["last_ns"][layer.row]), int(rows["octets"][layer.row])
            layer.comes = came_ns > 0 and now_ns - came_ns < LIVE_NS
            layer.is_live = layer.comes or track.resting.is_there(layer.row, now_ns)
            if layer.is_live and not track.came_ns:
                track.came_ns = now_ns
            layer.measured(octets, now_ns)

    def _reserve(self, track: _Track, now_ns: int) -> None:
        """Name the layers that take the grant; first those that newly do, so that none is ever open by mistake."""
        ranked = [layer for layer in track.layers if layer.rate]
        is_alone = len(ranked) == 1 and now_ns - track.came_ns >= ALONE_NS
        best = max(ranked, key=lambda layer: layer.rate) if len(ranked) > 1 else None
        takes = {
            layer.row: track.reserved_for if layer is best or (best is None and not is_alone) else NOTHING
            for layer in track.layers
        }
        for layer in sorted(track.layers, key=lambda layer: not takes[layer.row]):
            if layer.requires != takes[layer.row]:
                layer.requires = takes[layer.row]
                self._forwarder.admission.require_for_layer(layer.row, layer.requires)

    def _place(self, track: _Track, subscriptions: list[int], now_ns: int) -> None:
        """Move those of a track's viewers who should get another layer: all that is known of them is read at once."""
        if len(track.layers) == 1:
            return
        tables, rows = self._forwarder.tables, np.array(subscriptions, np.int64)
        viewers = [track.viewers[subscription] for subscription in subscriptions]
        transports = np.array([viewer.transport for viewer in viewers], np.int64)
        estimates = (tables.estimates[name][transports].tolist() for name in ("bps", "told_ns", "remb_bps"))
        probes = tables.estimates["probe_bps"][transports].tolist()
        lost = (tables.subscriptions["fraction_lost"][rows] / 256).tolist()
        told = map(Told, *estimates, lost)
        flows_ns = tables.transports["delivered_ns"][transports].tolist()
        holds = self._forwarder.admission.held_by_each(transports, now_ns)
        most = self._most_spatial(track.row)
        for subscription, viewer, known, last_ns, held, before_bps in zip(
            subscriptions, viewers, told, flows_ns, holds, probes, strict=True
        ):
            candidates = track.wished(viewer.wish, held, most[viewer.is_told])
            allowed = viewer.downlink.allowed(known, track.by_row[viewer.wanted].bps, last_ns, now_ns)
            self._move(track, subscription, candidates, allowed, now_ns)
            is_best = not candidates or candidates[0].row == viewer.wanted
            probe_bps = viewer.downlink.probe_bps(0.0 if is_best else candidates[0].bps, known, now_ns)
            if probe_bps != before_bps:
                tables.estimates["probe_bps"][viewer.transport] = probe_bps
        self._ways.need(transports, [track.by_row[viewer.wanted].bps for viewer in viewers])

    def _move(self, track: _Track, subscription: int, candidates: list[Layer], allowed: Allowed, now_ns: int) -> None:
        viewer = track.viewers[subscription]
        current_bps = track.by_row[viewer.wanted].bps
        wanted = fit(candidates, allowed, viewer.wanted, current_bps)
        viewer.demand = viewer.wanted if wanted is None else wanted.row
        if wanted is not None and not wanted.comes:  # it is being woken
            wanted = fit([layer for layer in candidates if layer.comes], allowed, viewer.wanted, current_bps)
        if wanted is None:
            return
        within = layers_of(wanted.row)
        if wanted.row == viewer.wanted and not viewer.is_held_back(within):
            return
        is_up = wanted.bps > current_bps
        if is_up or current_bps > allowed.keep_bps:
            viewer.downlink.moved(is_up, now_ns)
        viewer.wanted = wanted.row
        if within is None:
            self._forwarder.want_layer(subscription, wanted.row)
        else:
            viewer.limit = within
            self._forwarder.limit_layers(subscription, *within)
