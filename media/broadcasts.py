"""The MoQ side of rooms: what is offered as broadcasts under which path, to which sessions, and who of them is here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from media.bridge.bridge import Bridge
from media.bridge.offering import OfferedTrack
from media.facts import Attendee, AudienceChanged, MediaEvent
from media.forwarding.layers.selection import Layers
from media.forwarding.tables import Tables
from media.moq.carriers.carrier import Code
from media.moq.relaying.origin import Origin
from media.moq.relaying.relay import Peer as Subscriber
from media.moq.relaying.relay import Relay
from media.moq.relaying.rights import Rights
from media.rooms import Room, Track

log = structlog.get_logger("media")


class LayerRows(Protocol):
    """Who knows the rows of a track's layers."""

    tables: Tables

    def layers(self, track: int) -> list[int]:
        """Return the rows of a track's layers, in the order of their names."""


class Broadcasts:
    """Offers what WebRTC publishers send to MoQ sessions, as the rights of each admit.

    `tell` passes facts on, and `wake` has what there is to read looked at.
    """

    def __init__(
        self,
        rows: LayerRows,
        layers: Layers,
        clock_ns: Callable[[], int],
        tell: Callable[[MediaEvent], None],
        wake: Callable[[], None],
    ) -> None:
        self.relay = Relay(Origin(), clock_ns, self._subscribed)
        self.by_path: dict[str, Room] = {}
        self.faults = 0  # sessions ended by an exception of ours
        self._rows, self._layers, self._now_ns, self._tell, self._wake = rows, layers, clock_ns, tell, wake
        self._bridge = Bridge(rows.tables, self.relay.origin)

    def offer(self, room: Room, source: str, path: str) -> None:
        """Offer what `source` publishes under `path`; raises ValueError when the path is taken."""
        if path in self.by_path:
            raise ValueError(f"another room offers {path!r}")
        self.by_path[path] = room
        room.paths[source] = path

    def close_room(self, room: Room) -> None:
        """End all offers of a room, and cut who subscribes to them."""
        for path in room.paths.values():
            del self.by_path[path]
            for peer in tuple(self.relay.peers):
                peer.cut(Code.CUT, path)
            self._bridge.end(path)

    # -- sessions ----------------------------------------------------------------------------------------------------

    def review(self, room: Room, whose: Callable[[Rights], bool]) -> None:
        """Cut every subscriber of the room whom its rights admit no longer, and announce it to whom they do."""
        for peer in [peer for peer in self.relay.peers if whose(peer.rights)]:
            for path in room.paths.values():
                self._judge(peer, path)

    def dismiss(self, room: Room, whose: Callable[[Rights], bool]) -> None:
        """Refuse what sessions asked of the room before it was known that they may not."""
        for peer in [peer for peer in self.relay.peers if whose(peer.rights)]:
            for path in room.paths.values():
                peer.dismiss(path)

    def review_session(self, rights: Rights) -> None:
        """Announce and retract what a session's changed rights ask for."""
        for peer in [peer for peer in self.relay.peers if peer.rights is rights]:
            peer.review()

    def _judge(self, peer: Subscriber, path: str) -> None:
        def judge() -> None:
            if not peer.rights.admits(path):
                peer.cut(Code.CUT, path)
            peer.review(path)

        self._in_session(peer, judge)

    def _in_session(self, peer: Subscriber, step: Callable[[], None]) -> None:
        # A fault of ours in one session ends that session and nothing else; its rights stop it meanwhile.
        try:
            step()
        except Exception as fault:
            self.faults += 1
            log.error("session_fault", exc_info=fault)
            peer.session.close(Code.INTERNAL, "internal error")

    def audience(self, room: Room) -> list[Attendee]:
        """Return the sessions that are here for the room's broadcasts."""
        room.has_news = False
        paths = tuple(room.paths.values())
        return [
            Attendee(peer.rights, any(delivery.path in paths for delivery in peer.deliveries.values()))
            for peer in self.relay.peers
            if any(map(peer.attends, paths))
        ]

    def delivered_ns(self, path: str, whose: Callable[[Rights], bool]) -> int:
        """When media of a path was last sent to a session of those rights (monotonic ns), 0 for never."""
        return max((peer.delivered_ns(path) for peer in self.relay.peers if whose(peer.rights)), default=0)

    def _subscribed(self, path: str) -> None:
        self._bridge.review(path)
        room = self.by_path.get(path)
        if room is not None and not room.has_news:
            room.has_news = True
            self._tell(AudienceChanged(room.row))
        self._wake()

    # -- offers ------------------------------------------------------------------------------------------------------

    def begin(self, room: Room, source: str) -> None:
        """Offer what a WebRTC publisher sends from now on, if its source has a path."""
        path = room.paths.get(source)
        if path is not None:
            fed = [track for track in room.sources[source].values() if track.feeder is not None]
            tracks = {name: offered for track in fed for name, offered in self._renditions(track).items()}
            self._bridge.begin(path, tracks, self._now_ns())
            for track in fed:
                track.path = path
                self.list_layers(track)

    def end(self, room: Room, source: str) -> None:
        """Offer no more of a source."""
        self._bridge.end(room.paths.get(source, ""))

    def end_unfed(self, room: Room, source: str) -> None:
        """Offer no more of a source that nobody is any more."""
        tracks = room.sources.get(source, {})
        if source in room.paths and all(track.feeder is None for track in tracks.values()):
            self.end(room, source)

    def forget(self, room: Room) -> None:
        """Let whoever comes now see only what is sent from now on."""
        for path in room.paths.values():
            self._bridge.forget(path, self._now_ns())
            broadcast = self.relay.origin.find(path)
            if broadcast is not None and broadcast.source is not None:
                broadcast.forget()

    def is_read(self, track: Track) -> bool:
        """Whether some session reads what a track is offered as."""
        return self._bridge.is_read(track.path)

    def pump(self) -> list[int]:
        """Pass on what has come; returns the rows of tracks of which a keyframe is needed."""
        return self._bridge.pump(self._now_ns())

    def _renditions(self, track: Track) -> dict[str, OfferedTrack]:
        """Return what is offered of a track, by name: the layers of simulcast are renditions."""
        kind, rows = track.codec.kind, self._rows.layers(track.row)
        names = [f"{kind}-{rid}" for rid in track.layers] or [kind]
        return {name: OfferedTrack(row, track.codec) for name, row in zip(names, rows, strict=True)}

    def list_layers(self, track: Track) -> None:
        """Offer the layers of a picture that come, and reserve what not everybody may have."""
        if track.layers:
            names = {offered.row: name for name, offered in self._renditions(track).items()}
            layers = {names[layer.row]: layer for layer in self._layers.coming(track.row)}
            bitrates = {name: 8 * layer.rate for name, layer in layers.items()}
            # The kernel does not see these viewers: their rights are asked of each object of what is reserved.
            reserved = {name for name, layer in layers.items() if layer.requires}
            if self._bridge.list_layers(track.path, bitrates, reserved, self._now_ns()):
                for peer in tuple(self.relay.peers):
                    self._in_session(peer, partial(peer.review_tracks, track.path))

    def counters(self) -> dict[str, int]:
        """How much was bridged, and what became of sessions' requests."""
        return {**self._bridge.counters(), **self.relay.counters()}
