"""Who publishes what: WHIP offers and MoQ broadcasts become the tracks of a room's sources, or take them over."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping

from media.bridge.stamping import PASSED
from media.broadcasts import Broadcasts
from media.endpoints import Endpoint, Endpoints
from media.facts import BroadcastBegan, Connected, Flowing, MediaEvent, NoSource, RoomRow, TransportId
from media.forwarding.feedback import Feedback
from media.forwarding.forwarder import Forwarder, NoCapacity
from media.forwarding.layers.selection import Layers
from media.incoming import Incoming
from media.moq.relaying.origin import Broadcast
from media.rooms import Room, Track
from media.webrtc.formats import Kind, plays_alike
from media.webrtc.negotiation import CodecDescription, OfferRejected, PublisherAnswer, answer_publisher
from media.webrtc.sdp import parse_sdp_untrusted


class Publishing:
    """Every publisher of a node, and the tracks that they feed.

    `close` ends a transport with a reason, and `tell` passes facts on.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        rooms: Mapping[RoomRow, Room],
        endpoints: Endpoints,
        broadcasts: Broadcasts,
        layers: Layers,
        *,
        numbers: itertools.count[int],
        now_ns: Callable[[], int],
        close: Callable[[TransportId, str], None],
        tell: Callable[[MediaEvent], None],
    ) -> None:
        self._forwarder, self._rooms, self._endpoints = forwarder, rooms, endpoints
        self._broadcasts, self._layers = broadcasts, layers
        self._numbers, self._now_ns, self._close, self._tell = numbers, now_ns, close, tell
        self.feedback = Feedback(forwarder.tables)
        self.tracks: dict[int, Track] = {}  # by row
        self.incoming: dict[TransportId, Incoming] = {}
        self.silent: dict[TransportId, Endpoint] = {}  # publishers whose first packet is awaited
        self._ended_incoming = Counter[str]()
        broadcasts.relay.origin.listen(self)

    # -- over WebRTC ---------------------------------------------------------------------------------------------------

    def publish(
        self, room: Room, source: str, offer_sdp: str, *, until_ns: int, kinds: tuple[str, ...]
    ) -> tuple[Endpoint, str]:
        """Answer a WHIP offer; returns the transport, and the answer. Raises as `Media.publish`."""
        ours = self._endpoints.our_side(self._place(room, source))
        answer = answer_publisher(parse_sdp_untrusted(offer_sdp), ours.shown)
        if any(received.kind not in kinds for received in answer.tracks):
            raise OfferRejected("unsupported", f"only {' and '.join(kinds)} may be published here")
        endpoint = self._endpoints.open(room, source, "publisher", ours, answer)
        self._forwarder.admission.publish_until(endpoint.row, until_ns)
        try:
            self._feed_all(endpoint, answer)
        except Exception:
            self._close(endpoint.id, "refused")
            raise
        self.silent[endpoint.id] = endpoint
        return endpoint, answer.sdp

    def _place(self, room: Room, source: str) -> int:
        """Return the worker for somebody who publishes as a source."""
        if source not in room.workers:
            room.workers[source] = self._forwarder.placement.for_source()
        return room.workers[source]

    def _feed_all(self, endpoint: Endpoint, answer: PublisherAnswer) -> None:
        fir_only: list[int] = []
        fed: list[int] = []
        for received in answer.tracks:
            track = self._track_for(endpoint, received.kind, received.codec, received.layers)
            self._forwarder.feed_track(
                track.row,
                endpoint.row,
                payload_type=received.payload_type,
                rtx_payload_type=received.rtx_payload_type,
                twcc_extension_id=received.transport_cc_extension_id,
                nack=received.nack,
                rid_extension_id=received.rid_extension_id,
                repaired_rid_extension_id=received.repaired_rid_extension_id,
                passed=received.passed,
                red_payload_type=received.red_payload_type,
            )
            track.feeder = endpoint.id
            rows = self._forwarder.layers(track.row)
            fed += rows
            fir_only += rows if received.fir and not received.pli else []
            endpoint.watched_tracks.append(track.row)
        self._forwarder.report_to(endpoint.row)
        self.feedback.add_publisher(endpoint.row, fed, fir_only=fir_only)

    def discard(self, endpoint: Endpoint) -> None:
        """Take nothing more of a WebRTC publisher."""
        self.silent.pop(endpoint.id, None)
        self._forwarder.admission.publish_until(endpoint.row, 0)
        self.feedback.remove_publisher(endpoint.row)
        endpoint.room.starve(endpoint.id)
        self._broadcasts.end_unfed(endpoint.room, endpoint.source)

    def notice_first_packets(self) -> None:
        """Tell of publishers whose first packet has come, and offer them."""
        for transport, endpoint in tuple(self.silent.items()):
            if self._forwarder.delivered_ns(endpoint.row):
                del self.silent[transport]
                self._broadcasts.begin(endpoint.room, endpoint.source)
                self._tell(Flowing(transport))

    # -- tracks --------------------------------------------------------------------------------------------------------

    def _track_for(
        self, publisher: Endpoint | Incoming, kind: str, codec: CodecDescription, layers: tuple[str, ...] = ()
    ) -> Track:
        """Return the track that a publisher is to feed, opened when there is none that viewers could go on with."""
        room, source = publisher.room, publisher.source
        tracks = room.sources.setdefault(source, {})
        track = tracks.get(kind)
        if track is not None and not (plays_alike(track.codec, codec) and track.layers == layers):
            self._drop_track(room, source, kind)
            track = None
        if track is None:
            row = self._forwarder.open_track(room.row, kind, codec.codec, codec.clock_rate, layers)
            track = tracks[kind] = Track(row, codec, layers)
            self._close_lacking(room, source, kind)
            self._layers.open(row, self._now_ns())
            self.tracks[row] = track
            self._layers.reserve(row, room.best_requires, self._now_ns())
        track.codec = codec
        return track

    def _drop_track(self, room: Room, source: str, kind: str) -> None:
        track = room.sources[source].pop(kind)
        self._broadcasts.end(room, source)
        for endpoint in [self._endpoints.by_id[transport] for transport in room.endpoints]:
            if endpoint.role == "viewer" and track.row in endpoint.watched_tracks:
                self._close(endpoint.id, "codec_changed")
        self.close_track(track)

    def _close_lacking(self, room: Room, source: str, kind: str) -> None:
        # An answer is for good: whoever asked for what has come now has to ask again.
        for endpoint in [self._endpoints.by_id[transport] for transport in room.endpoints]:
            if endpoint.source == source and kind in endpoint.lacks:
                self._close(endpoint.id, "track_added")

    def close_track(self, track: Track) -> None:
        """End a track, whose subscriptions are gone."""
        self._layers.close(track.row)
        del self.tracks[track.row]
        self._forwarder.close_track(track.row)

    def review_layers(self, now_ns: int) -> None:
        """Look at the layers of pictures, if it is time: which are offered, and which publishers need not send."""
        for row in self._layers.review(now_ns):
            track = self.tracks[row]
            self._broadcasts.list_layers(track)
            self._layers.keep_all(row, self._broadcasts.is_read(track))
            feeder = self._endpoints.by_id.get(track.feeder) if track.feeder is not None else None
            if feeder is not None:
                self.feedback.limit(feeder.row, self._layers.limit_bps(row))

    # -- over MoQ ------------------------------------------------------------------------------------------------------

    def take_in(self, began: BroadcastBegan, *, until_ns: int, kinds: tuple[str, ...]) -> TransportId:
        """Publish what a MoQ session announced. Raises NoSource when it ended meanwhile, and NoCapacity."""
        if began.broadcast.is_ended:
            raise NoSource(began.source)
        room = self._rooms[began.room]
        worker = self._place(room, began.source)
        row = self._forwarder.open_transport(began.room, publishes=True, worker=worker)
        try:
            incoming = Incoming(
                TransportId(next(self._numbers)),
                row,
                room,
                began,
                kinds,
                server=self._forwarder.workers.addresses(worker)[0],
                feeding=self,
                now_ns=self._now_ns,
            )
        except OSError as error:
            self._forwarder.close_transport(row)
            raise NoCapacity from error
        self._forwarder.bind_address(row, self._forwarder.workers.path(worker, incoming.injector.address))
        self._forwarder.set_keys(row, incoming.injector.keys)
        self._forwarder.admission.publish_until(row, until_ns)
        self.incoming[incoming.id] = incoming
        room.incoming.add(incoming.id)
        self._tell(Connected(incoming.id))
        incoming.intake.begin()
        return incoming.id

    def feed(self, incoming: Incoming, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        """Let a MoQ publisher feed a track of its room; False when the node is full."""
        try:
            track = self._track_for(incoming, kind, codec)
        except NoCapacity:
            return False
        self._forwarder.feed_track(
            track.row,
            incoming.row,
            payload_type=payload_type,
            rtx_payload_type=None,
            twcc_extension_id=None,
            nack=False,
            passed=PASSED,
        )
        track.feeder = incoming.id
        return True

    def incoming_flows(self, transport: TransportId) -> None:
        """Note that a MoQ publisher's first frame is on its way, and that it is known what it publishes."""
        self._tell(Flowing(transport))

    def close_incoming(self, incoming: Incoming) -> None:
        """Take nothing more of a MoQ publisher."""
        self._forwarder.admission.publish_until(incoming.row, 0)
        incoming.room.starve(incoming.id)
        incoming.room.incoming.discard(incoming.id)
        incoming.close()
        self._ended_incoming += incoming.counters()
        self._forwarder.close_transport(incoming.row)

    def is_settling(self, track: Track) -> bool:
        """Whether a track is fed by a MoQ publisher of which it is not known yet what all it publishes."""
        incoming = None if track.feeder is None else self.incoming.get(track.feeder)
        return incoming is not None and not incoming.is_settled

    def broadcast_began(self, broadcast: Broadcast) -> None:
        """Hear of a broadcast; of those of MoQ sessions the rooms decide."""
        room = self._broadcasts.by_path.get(broadcast.path)
        peers = self._broadcasts.relay.peers
        publisher = next((peer for peer in peers if peer.upstream is broadcast.source), None)
        if room is not None and publisher is not None:
            source = next(source for source, path in room.paths.items() if path == broadcast.path)
            self._tell(BroadcastBegan(room.row, source, publisher.rights, broadcast))

    def broadcast_ended(self, broadcast: Broadcast) -> None:
        """Hear of an end; what a MoQ session published ends with it."""
        for incoming in tuple(self.incoming.values()):
            if incoming.intake.broadcast is broadcast:
                self._close(incoming.id, "unpublished")

    def counters(self) -> dict[str, int]:
        """Count MoQ publishers, and what was passed on of them."""
        counts = sum((incoming.counters() for incoming in self.incoming.values()), Counter(self._ended_incoming))
        return {
            "incoming_broadcasts": len(self.incoming),
            "incoming_frames": counts.pop("frames", 0),
            **{f"incoming_{name}": count for name, count in counts.items()},
        }
