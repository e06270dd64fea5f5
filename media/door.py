"""The one door into media: rooms, publishers and viewers as rows of the forwarding tables, driven by Trio.

Everything that crosses the network stays below this module; everything about people stays above it. Calls take effect
at once and never wait, except `fence`. Facts come back through `events`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import structlog
import trio

from media.bridge.bridge import Bridge
from media.bridge.injecting import Injector
from media.bridge.intake import Intake
from media.bridge.offering import OfferedTrack
from media.facts import (
    Attendee,
    AudienceChanged,
    BroadcastBegan,
    Connected,
    Disconnected,
    Flowing,
    MediaEvent,
    MediaSettings,
    Negotiated,
    NoSource,
    RoomRow,
    TransportId,
)
from media.forwarding.admission import FOREVER, NOTHING, Grant, Holding
from media.forwarding.feedback import Feedback
from media.forwarding.forwarder import Forwarder, NoCapacity
from media.forwarding.layers import Layers, Quality
from media.ice_tcp import IceTcp, open_listeners
from media.moq.carrier import Code
from media.moq.origin import Broadcast, Origin
from media.moq.relay import Peer as Subscriber
from media.moq.relay import Relay
from media.moq.rights import Rights
from media.webrtc.certificate import Certificate, Certificates
from media.webrtc.formats import Kind, plays_alike
from media.webrtc.ice import Address, IceCredentials, Path
from media.webrtc.negotiation import (
    CodecDescription,
    LocalEndpoint,
    OfferRejected,
    PublisherAnswer,
    ViewerAnswer,
    answer_publisher,
    answer_viewer,
)
from media.webrtc.peer import (
    PEER_COUNTERS,
    AddressForgotten,
    AddressValidated,
    Closed,
    Nominated,
    Peer,
    PeerEvent,
    Secured,
    Transmit,
)
from media.webrtc.sdp import parse_sdp_untrusted
from media.webrtc.sdpfrag import answer_fragment, parse_sdpfrag_untrusted
from media.webrtc.stun import username_untrusted
from media.wire.rtcp import SenderReport

__all__ = [
    "Attendee",
    "AudienceChanged",
    "BroadcastBegan",
    "Connected",
    "Disconnected",
    "Flowing",
    "Media",
    "MediaEvent",
    "MediaSettings",
    "Negotiated",
    "NoCapacity",
    "NoSource",
    "Quality",
    "RoomRow",
    "TransportId",
]

EVENTS_BUFFERED = 65_536  # two facts for each of the most transports a node can hold; a fact is never lost
IDLE_TICK_NS = 20_000_000  # how late a publisher's first packet may be noticed
# From a MoQ publisher's first frame on, for its catalog to name the other kind: a browser lists its sound at once, and
# its picture when it has found an encoder for the camera's first frame, which takes a busy machine seconds.
SETTLE_NS = 5_000_000_000

log = structlog.get_logger("media")


@dataclass(slots=True)
class _Track:
    row: int
    codec: CodecDescription
    layers: tuple[str, ...] = ()  # of simulcast, by name
    path: str = ""  # of the broadcast as which it is offered
    feeder: TransportId | None = None


@dataclass(slots=True)
class _Room:
    row: RoomRow
    requires: Grant
    best_requires: Grant = NOTHING  # what the best layer of a picture takes besides
    paths: dict[str, str] = field(default_factory=dict)  # of broadcasts, by source
    sources: dict[str, dict[str, _Track]] = field(default_factory=dict)
    endpoints: set[TransportId] = field(default_factory=set)
    incoming: set[TransportId] = field(default_factory=set)
    has_news: bool = False  # its audience changed, and nobody has looked since


@dataclass(frozen=True, slots=True)
class _OurSide:
    """What we show of ourselves in one answer, and the certificate that proves it."""

    certificate: Certificate
    shown: LocalEndpoint


@dataclass(slots=True)
class _Endpoint:
    id: TransportId
    row: int
    room: _Room
    source: str
    role: Literal["publisher", "viewer"]
    peer: Peer
    subscriptions: list[int] = field(default_factory=list)
    quality: Quality = Quality.HIGH
    timer_ns: int = FOREVER
    ufrags: tuple[str, ...] = ()
    watched_tracks: list[int] = field(default_factory=list)
    lacks: frozenset[str] = frozenset()  # kinds that a viewer asked for and was not given


class _Incoming:
    """A MoQ publisher: the transport of its own that it has in the forwarding tables, and what fills it."""

    def __init__(self, media: Media, row: int, room: _Room, began: BroadcastBegan, kinds: tuple[str, ...]) -> None:
        self.id, self.row, self.room, self.source = TransportId(next(media.numbers)), row, room, began.source
        self._media, self.injector = media, Injector(media.address)
        self._missing: set[str] = set(kinds)
        self._flows_ns = 0
        self.is_settled = False  # before it is known what all there is, viewers would be given a part of it for good
        self.intake = Intake(began.broadcast, kinds, self, media.now_ns)

    def open(self, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        """Feed a track of the room from now on."""
        self._missing.discard(kind)
        return self._media.feed(self, kind, codec, payload_type)

    def send(self, packets: list[bytes], report: SenderReport | None) -> None:
        """Pass packets to the forwarding thread."""
        self.injector.send(packets, report)
        if not self.is_settled:
            self._settle(self._media.now_ns())

    def _settle(self, now_ns: int) -> None:
        self._flows_ns = self._flows_ns or now_ns
        if not self._missing or now_ns - self._flows_ns >= SETTLE_NS:
            self.is_settled = True
            self._media.incoming_flows(self.id)

    def counters(self) -> Counter[str]:
        """Count what was passed on and what was not."""
        return self.intake.counts + Counter(packets_lost=self.injector.lost)


class Media:
    """The media half of a node; `run` it in a nursery before the first call.

    All methods must be called from the Trio thread. A transport may close at any moment and say so through `events`
    later: rights given to it meanwhile do nothing; other calls about it, and about a closed room, raise KeyError.
    """

    def __init__(self, settings: MediaSettings, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.now_ns = clock_ns
        self._certificates = Certificates(clock_ns())
        self._forwarder = Forwarder(settings.address, settings.limits, settings.also)
        self._candidates = (*self._forwarder.addresses, *settings.advertise)
        self._tcp = IceTcp(self._forwarder, self, open_listeners(settings, self._forwarder.addresses))
        self._tcp_candidates = self._tcp.candidates(settings.advertise)
        self._feedback = Feedback(self._forwarder.tables)
        self._layers = Layers(self._forwarder)
        self._tracks: dict[int, _Track] = {}
        self.relay = Relay(Origin(), clock_ns, self._subscribed)
        self._bridge = Bridge(self._forwarder.tables, self.relay.origin)
        self._rooms: dict[RoomRow, _Room] = {}
        self._by_path: dict[str, _Room] = {}
        self._endpoints: dict[TransportId, _Endpoint] = {}
        self._by_row: dict[int, _Endpoint] = {}
        self._by_ufrag: dict[str, _Endpoint] = {}
        self._silent: dict[TransportId, _Endpoint] = {}  # publishers whose first packet is awaited
        self._timers: list[tuple[int, TransportId]] = []
        self._timer_moved = trio.Event()
        self._incoming: dict[TransportId, _Incoming] = {}
        self._ended_incoming = Counter[str]()
        self.relay.origin.listen(self)
        self.numbers = itertools.count(1)
        self._tell, self.events = trio.open_memory_channel[MediaEvent](EVENTS_BUFFERED)
        self.faults = 0  # transports ended by an exception of ours
        self._ended_peers: Counter[str] = Counter(dict.fromkeys(PEER_COUNTERS, 0))
        self._strays = {"unknown_ufrag": 0, "unknown_source": 0}  # control datagrams that belong to no transport

    @property
    def address(self) -> Address:
        """The first bound UDP address."""
        return self._forwarder.addresses[0]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Forward until cancelled; then every client is told. Raises what the forwarding thread died of."""
        forwarding = trio.CancelScope(shield=True)  # outlives the rest, for the socket to say the last words
        async with trio.open_nursery() as nursery:
            await nursery.start(self._forward, forwarding)
            nursery.start_soon(self._tcp.run)
            nursery.start_soon(self._serve_control)
            nursery.start_soon(self._keep_time)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                for endpoint in self._endpoints.values():
                    self._say_goodbye(endpoint)
                forwarding.cancel()

    async def _forward(  # noqa: ASYNC128  (the forwarder itself reports that it has started)
        self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with scope:
            await self._forwarder.run(task_status=task_status)

    # -- rooms and admission ---------------------------------------------------------------------------------------

    def open_room(self, requires: Grant) -> RoomRow:
        """Open a room that forwards only to those who hold `requires`; raises NoCapacity."""
        row = RoomRow(self._forwarder.open_room())
        self._forwarder.admission.require(row, requires)
        self._rooms[row] = _Room(row, requires)
        return row

    def offer(self, room: RoomRow, source: str, path: str) -> None:
        """Offer what `source` publishes as the MoQ broadcast `path`, whenever it publishes, until the room closes.

        Who may subscribe is asked of the rights of each session. Raises ValueError when the path is taken.
        """
        if path in self._by_path:
            raise ValueError(f"another room offers {path!r}")
        self._by_path[path] = self._rooms[room]
        self._rooms[room].paths[source] = path

    def review(self, room: RoomRow, whose: Callable[[Rights], bool] = lambda rights: True) -> None:
        """Cut every MoQ subscriber of the room whom its rights admit no longer, and announce it to whom they do.

        The rights, `whose` alone are looked at, have to have changed before; what was sent until now is out when a
        `fence` from now on is done.
        """
        for peer in [peer for peer in self.relay.peers if whose(peer.rights)]:
            for path in self._rooms[room].paths.values():
                self._judge(peer, path)

    def dismiss(self, room: RoomRow, whose: Callable[[Rights], bool]) -> None:
        """Refuse what sessions asked of the room before it was known that they may not."""
        for peer in [peer for peer in self.relay.peers if whose(peer.rights)]:
            for path in self._rooms[room].paths.values():
                peer.dismiss(path)

    def review_session(self, rights: Rights) -> None:
        """Announce and retract what a session's changed rights ask for."""
        for peer in [peer for peer in self.relay.peers if peer.rights is rights]:
            peer.review()

    def _judge(self, peer: Subscriber, path: str) -> None:
        # A fault of ours in one session ends that session and nothing else; its rights stop it meanwhile.
        try:
            if not peer.rights.admits(path):
                peer.cut(Code.CUT, path)
            peer.review(path)
        except Exception as fault:
            self.faults += 1
            log.error("session_fault", exc_info=fault)
            peer.session.close(Code.INTERNAL, "internal error")

    def audience(self, room: RoomRow) -> list[Attendee]:
        """Return the MoQ sessions that are here for the room's broadcasts."""
        within = self._rooms[room]
        within.has_news = False
        paths = tuple(within.paths.values())
        return [
            Attendee(peer.rights, any(delivery.path in paths for delivery in peer.deliveries.values()))
            for peer in self.relay.peers
            if any(map(peer.attends, paths))
        ]

    def close_room(self, room: RoomRow) -> None:
        """End every transport of the room and free its rows."""
        closing = self._rooms.pop(room)
        self._forwarder.admission.open_until(room, 0)
        for path in closing.paths.values():
            del self._by_path[path]
            for peer in tuple(self.relay.peers):
                peer.cut(Code.CUT, path)
            self._bridge.end(path)
        for transport in (*closing.endpoints, *closing.incoming):
            self.close(transport, "room_closed")
        for tracks in closing.sources.values():
            for track in tracks.values():
                self._close_track(track)
        self._forwarder.close_room(room)

    def require(self, room: RoomRow, requires: Grant) -> None:
        """From the next packet on, forward only to those who hold `requires`. One store."""
        within = self._rooms[room]
        self._forwarder.admission.require(within.row, requires)
        if within.requires & ~requires:
            # It opens: what was published before was not meant for whoever may come now.
            for path in within.paths.values():
                self._bridge.forget(path, self.now_ns())
                broadcast = self.relay.origin.find(path)
                if broadcast is not None and broadcast.source is not None:
                    broadcast.forget()
        within.requires = requires

    def reserve_best(self, room: RoomRow, grant: Grant) -> None:
        """Let only holders of `grant` have the best layer of what is published as simulcast, the others go to all."""
        within = self._rooms[room]
        if grant == within.best_requires:
            return
        within.best_requires = grant
        for tracks in within.sources.values():
            for track in tracks.values():
                self._layers.reserve(track.row, grant, self.now_ns())
                self._list_layers(track)
        for transport in within.endpoints:
            self._tcp.distrust(self._endpoints[transport].row)

    def prefer(self, transport: TransportId, quality: Quality) -> None:
        """Give a viewer the layer that fits its wish; one that just closed wishes for nothing any more."""
        if transport in self._endpoints:
            endpoint = self._endpoints[transport]
            endpoint.quality = quality
            for subscription in endpoint.subscriptions:
                self._layers.wish(subscription, quality, self.now_ns())

    def open_until(self, room: RoomRow, until_ns: int) -> None:
        """Let nothing leave the room from `until_ns` (monotonic) on."""
        self._forwarder.admission.open_until(self._rooms[room].row, until_ns)

    async def fence(self) -> None:
        """Return when no packet that was admitted before this call is still on its way out."""
        self._tcp.cut()
        await self._forwarder.fence()

    def hold(self, transport: TransportId, holding: Holding) -> None:
        """Replace what a viewer's transport holds; one that just closed holds nothing any more."""
        if transport in self._endpoints:
            row, admission = self._endpoints[transport].row, self._forwarder.admission
            is_less = admission.held_by(row, self.now_ns()) & ~holding.holds
            admission.hold(row, holding)
            if is_less:
                self._tcp.distrust(row)

    def publish_until(self, transport: TransportId, until_ns: int) -> None:
        """Accept a publisher's packets only before `until_ns` (monotonic); 0 stops it at once."""
        publisher = self._endpoints.get(transport) or self._incoming.get(transport)
        if publisher is not None:
            self._forwarder.admission.publish_until(publisher.row, until_ns)

    # -- transports ------------------------------------------------------------------------------------------------

    def publish(
        self,
        room: RoomRow,
        source: str,
        offer_sdp: str,
        *,
        until_ns: int = FOREVER,
        kinds: tuple[str, ...] = ("audio", "video"),
    ) -> Negotiated:
        """Answer a WHIP offer: its tracks, all of the given kinds, become or take over those of `source`.

        Viewers of the source go on across a publisher's restart when what they decode stays the same; otherwise they
        are closed.
        Raises MalformedSdp, OfferRejected and NoCapacity.
        """
        within = self._rooms[room]
        ours = self._our_side()
        answer = answer_publisher(parse_sdp_untrusted(offer_sdp), ours.shown)
        if any(received.kind not in kinds for received in answer.tracks):
            raise OfferRejected("unsupported", f"only {' and '.join(kinds)} may be published here")
        endpoint = self._open_endpoint(within, source, "publisher", ours, answer)
        self._forwarder.admission.publish_until(endpoint.row, until_ns)
        fir_only: list[int] = []
        fed: list[int] = []
        try:
            for received in answer.tracks:
                track = self._track_for(within, source, received.kind, received.codec, received.layers)
                self._forwarder.feed_track(
                    track.row,
                    endpoint.row,
                    payload_type=received.payload_type,
                    rtx_payload_type=received.rtx_payload_type,
                    twcc_extension_id=received.transport_cc_extension_id,
                    nack=received.nack,
                    rid_extension_id=received.rid_extension_id,
                    repaired_rid_extension_id=received.repaired_rid_extension_id,
                )
                track.feeder = endpoint.id
                rows = self._forwarder.layers(track.row)
                fed += rows
                fir_only += rows if received.fir and not received.pli else []
                endpoint.watched_tracks.append(track.row)
        except Exception:
            self.close(endpoint.id, "refused")
            raise
        self._feedback.add_publisher(endpoint.row, fed, fir_only=fir_only)
        self._silent[endpoint.id] = endpoint
        self._timer_moved.set()
        return Negotiated(endpoint.id, answer.sdp, _etag(ours.shown.ice))

    def _track_for(
        self, room: _Room, source: str, kind: str, codec: CodecDescription, layers: tuple[str, ...] = ()
    ) -> _Track:
        """Return a source's track to be fed, opened when there is none that its viewers could go on with."""
        tracks = room.sources.setdefault(source, {})
        track = tracks.get(kind)
        if track is not None and not (plays_alike(track.codec, codec) and track.layers == layers):
            self._drop_track(room, source, kind)
            track = None
        if track is None:
            row = self._forwarder.open_track(room.row, kind, codec.codec, codec.clock_rate, layers)
            track = tracks[kind] = _Track(row, codec, layers)
            self._close_lacking(room, source, kind)
            self._layers.open(row, self.now_ns())
            self._tracks[row] = track
            self._layers.reserve(row, room.best_requires, self.now_ns())
        track.codec = codec
        return track

    def take_in(
        self, began: BroadcastBegan, *, until_ns: int = FOREVER, kinds: tuple[str, ...] = ("audio", "video")
    ) -> TransportId:
        """Publish what a MoQ session announced, as `publish` does a WHIP offer; its catalog says what there is.

        Raises NoSource when it ended meanwhile, and NoCapacity.
        """
        if began.broadcast.is_ended:
            raise NoSource(began.source)
        within = self._rooms[began.room]
        row = self._forwarder.open_transport(began.room, publishes=True)
        try:
            incoming = _Incoming(self, row, within, began, kinds)
        except OSError as error:
            self._forwarder.close_transport(row)
            raise NoCapacity from error
        self._forwarder.bind_address(row, incoming.injector.address)
        self._forwarder.set_keys(row, incoming.injector.keys)
        self._forwarder.admission.publish_until(row, until_ns)
        self._incoming[incoming.id] = incoming
        within.incoming.add(incoming.id)
        self._tell.send_nowait(Connected(incoming.id))
        incoming.intake.begin()
        return incoming.id

    def turn_down(self, began: BroadcastBegan) -> None:
        """Take nothing of what a MoQ session announced."""
        began.broadcast.stop()

    def feed(self, incoming: _Incoming, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        """Let a MoQ publisher feed a track of its room; False when the node is full."""
        try:
            track = self._track_for(incoming.room, incoming.source, kind, codec)
        except NoCapacity:
            return False
        self._forwarder.feed_track(
            track.row,
            incoming.row,
            payload_type=payload_type,
            rtx_payload_type=None,
            twcc_extension_id=None,
            nack=False,
        )
        track.feeder = incoming.id
        return True

    def incoming_flows(self, transport: TransportId) -> None:
        """Note that a MoQ publisher's first frame is on its way, and that it is known what it publishes."""
        self._tell.send_nowait(Flowing(transport))

    def broadcast_began(self, broadcast: Broadcast) -> None:
        """Hear of a broadcast; of those of MoQ sessions the rooms decide."""
        room = self._by_path.get(broadcast.path)
        publisher = next((peer for peer in self.relay.peers if peer.upstream is broadcast.source), None)
        if room is not None and publisher is not None:
            source = next(source for source, path in room.paths.items() if path == broadcast.path)
            self._tell.send_nowait(BroadcastBegan(room.row, source, publisher.rights, broadcast))

    def broadcast_ended(self, broadcast: Broadcast) -> None:
        """Hear of an end; what a MoQ session published ends with it."""
        for incoming in tuple(self._incoming.values()):
            if incoming.intake.broadcast is broadcast:
                self.close(incoming.id, "unpublished")

    def watch(self, room: RoomRow, source: str, offer_sdp: str, holding: Holding) -> Negotiated:
        """Answer a WHEP offer with the tracks of `source`.

        Raises MalformedSdp, OfferRejected, NoSource (nobody publishes it now) and NoCapacity.
        """
        within = self._rooms[room]
        offer = parse_sdp_untrusted(offer_sdp)
        available = {kind: track for kind, track in within.sources.get(source, {}).items() if track.feeder is not None}
        if not available or any(self._is_settling(track) for track in available.values()):
            raise NoSource(source)
        ours = self._our_side()
        codecs = [track.codec for track in available.values()]
        answer = answer_viewer(offer, ours.shown, codecs, stream=source)
        endpoint = self._open_endpoint(within, source, "viewer", ours, answer)
        self._forwarder.admission.hold(endpoint.row, holding)
        wanted = {media.kind for media in offer.media if media.live}
        endpoint.lacks = frozenset(wanted - {sent.kind for sent in answer.tracks})
        try:
            for sent in answer.tracks:
                track = available[sent.kind]
                wish, now_ns = endpoint.quality, self.now_ns()
                endpoint.subscriptions.append(self._layers.subscribe(track.row, endpoint.row, sent, wish, now_ns))
                endpoint.watched_tracks.append(track.row)
        except Exception:
            self.close(endpoint.id, "refused")
            raise
        return Negotiated(endpoint.id, answer.sdp, _etag(ours.shown.ice))

    def _is_settling(self, track: _Track) -> bool:
        incoming = None if track.feeder is None else self._incoming.get(track.feeder)
        return incoming is not None and not incoming.is_settled

    def restart_ice(self, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        """Answer an ICE restart with (etag, fragment); the old path serves until the new one is proven.

        Raises MalformedSdp; OfferRejected("no_restart") when the fragment carries no new credentials.
        """
        endpoint = self._endpoints[transport]
        fragment = parse_sdpfrag_untrusted(sdpfrag)
        if fragment.ice is None:
            raise OfferRejected("no_restart", "the fragment carries no ice-ufrag and ice-pwd")
        local = endpoint.peer.restart_ice(fragment.ice)
        self._index_ufrags(endpoint)
        return _etag(local), answer_fragment(local, self._candidates, fragment, tcp_candidates=self._tcp_candidates)

    def is_ice_restart(self, transport: TransportId, sdpfrag: str) -> bool:
        """Whether a fragment asks for an ICE restart (new credentials) rather than trickling candidates."""
        fragment = parse_sdpfrag_untrusted(sdpfrag)
        return fragment.ice is not None and fragment.ice.ufrag != self._endpoints[transport].peer.remote.ufrag

    def close(self, transport: TransportId, reason: str) -> None:
        """End a transport: consent revoked, close_notify sent, rows freed. Closing twice is no error."""
        incoming = self._incoming.pop(transport, None)
        if incoming is not None:
            self._close_incoming(incoming, reason)
        endpoint = self._endpoints.pop(transport, None)
        if endpoint is None:
            return
        self._silent.pop(transport, None)
        if endpoint.role == "publisher":
            self._forwarder.admission.publish_until(endpoint.row, 0)
            self._feedback.remove_publisher(endpoint.row)
            _starve(endpoint.room, transport)
            self._end_broadcast(endpoint)
        else:
            self._forwarder.admission.hold(endpoint.row, Holding(Grant(0)))
        self._say_goodbye(endpoint)
        self._ended_peers.update(endpoint.peer.counters())
        for subscription in endpoint.subscriptions:
            self._layers.unsubscribe(subscription)
        for ufrag in endpoint.ufrags:
            self._by_ufrag.pop(ufrag, None)
        self._by_row.pop(endpoint.row, None)
        endpoint.room.endpoints.discard(transport)
        self._forwarder.close_transport(endpoint.row)
        self._tell.send_nowait(Disconnected(transport, reason))

    def _close_incoming(self, incoming: _Incoming, reason: str) -> None:
        self._forwarder.admission.publish_until(incoming.row, 0)
        _starve(incoming.room, incoming.id)
        incoming.room.incoming.discard(incoming.id)
        incoming.intake.close()
        incoming.intake.broadcast.stop()
        incoming.injector.close()
        self._ended_incoming += incoming.counters()
        self._forwarder.close_transport(incoming.row)
        self._tell.send_nowait(Disconnected(incoming.id, reason))

    def delivered_ns(self, transport: TransportId) -> int:
        """When media was last forwarded to, or accepted from, this transport (monotonic ns).

        0 for never, and for one that has ended, of which whoever asks may not have heard yet.
        """
        publisher = self._incoming.get(transport) or self._endpoints.get(transport)
        return 0 if publisher is None else self._forwarder.delivered_ns(publisher.row)

    def delivered_to(self, room: RoomRow, source: str, whose: Callable[[Rights], bool]) -> int:
        """When media of a source was last sent to a MoQ session of those rights (monotonic ns), 0 for never."""
        path = self._rooms[room].paths.get(source, "")
        return max((peer.delivered_ns(path) for peer in self.relay.peers if whose(peer.rights)), default=0)

    def counters(self) -> dict[str, int]:
        """Every counter of the forwarding path, of feedback and of all peers together, by name."""
        peers = Counter(self._ended_peers)
        for endpoint in self._endpoints.values():
            peers.update(endpoint.peer.counters())
        return {
            **self._forwarder.counters(),
            **{f"peer_{name}": count for name, count in {**peers, **self._strays}.items()},
            **self._feedback.counters(),
            "transports": len(self._endpoints),
            "transport_faults": self.faults,
            **self._bridge.counters(),
            **self._count_incoming(),
            **self._tcp.counters(),
            **self.relay.counters(),
        }

    def _count_incoming(self) -> dict[str, int]:
        counts = sum((incoming.counters() for incoming in self._incoming.values()), self._ended_incoming)
        return {
            "incoming_broadcasts": len(self._incoming),
            "incoming_frames": counts.pop("frames", 0),
            **{f"incoming_{name}": count for name, count in counts.items()},
        }

    # -- the engine room -------------------------------------------------------------------------------------------

    def _our_side(self) -> _OurSide:
        certificate = self._certificates.current(self.now_ns())
        ice = IceCredentials.random()
        shown = LocalEndpoint(ice, certificate.fingerprint, self._candidates, self._tcp_candidates)
        return _OurSide(certificate, shown)

    def _open_endpoint(
        self,
        room: _Room,
        source: str,
        role: Literal["publisher", "viewer"],
        ours: _OurSide,
        answer: PublisherAnswer | ViewerAnswer,
    ) -> _Endpoint:
        now_ns = self.now_ns()
        row = self._forwarder.open_transport(room.row, publishes=role == "publisher")
        peer = Peer(
            certificate=ours.certificate,
            local=ours.shown.ice,
            remote=answer.remote_ice,
            fingerprints=answer.fingerprints,
            dtls_role=answer.dtls_role,
            now_ns=now_ns,
        )
        endpoint = _Endpoint(TransportId(next(self.numbers)), row, room, source, role, peer)
        self._endpoints[endpoint.id] = self._by_row[row] = endpoint
        room.endpoints.add(endpoint.id)
        self._index_ufrags(endpoint)
        self._set_timer(endpoint)
        return endpoint

    def _drop_track(self, room: _Room, source: str, kind: str) -> None:
        track = room.sources[source].pop(kind)
        self._bridge.end(room.paths.get(source, ""))
        for endpoint in [self._endpoints[transport] for transport in room.endpoints]:
            if endpoint.role == "viewer" and track.row in endpoint.watched_tracks:
                self.close(endpoint.id, "codec_changed")
        self._close_track(track)

    def _close_lacking(self, room: _Room, source: str, kind: str) -> None:
        # An answer is for good: whoever asked for what has come now has to ask again.
        for endpoint in [self._endpoints[transport] for transport in room.endpoints]:
            if endpoint.source == source and kind in endpoint.lacks:
                self.close(endpoint.id, "track_added")

    def _close_track(self, track: _Track) -> None:
        self._layers.close(track.row)
        del self._tracks[track.row]
        self._forwarder.close_track(track.row)

    def _index_ufrags(self, endpoint: _Endpoint) -> None:
        for ufrag in endpoint.ufrags:
            self._by_ufrag.pop(ufrag, None)
        endpoint.ufrags = endpoint.peer.local_ufrags
        for ufrag in endpoint.ufrags:
            self._by_ufrag[ufrag] = endpoint
        self._answer_checks(endpoint)

    def _answer_checks(self, endpoint: _Endpoint) -> None:
        # Once connected, the checks of every few seconds cost no Python; what is unusual about one comes here still.
        peer = endpoint.peer
        if peer.is_secured:
            username = f"{peer.local.ufrag}:{peer.remote.ufrag}"
            self._forwarder.answer_checks(endpoint.row, username, peer.local.password)

    async def _serve_control(self) -> None:
        while True:
            datagrams = await self._forwarder.control()
            for datagram in datagrams:
                endpoint = self._addressee(datagram.data, datagram.transport)
                if endpoint is not None:
                    self._guarded(endpoint, endpoint.peer.receive_untrusted, datagram.data, datagram.source)
            self._layers.look(self.now_ns())
            self._pump_broadcasts()
            self._send_feedback()

    def expects_untrusted(self, check: bytes) -> bool:
        """Whether a datagram is a check that names a session of ours."""
        names = username_untrusted(check)
        return names is not None and names[0] in self._by_ufrag

    def take_check_untrusted(self, check: bytes, source: Path, seen_as: Address) -> None:
        """Take a check that came from `seen_as`, carried here as if from `source`."""
        endpoint = self._addressee(check, self._forwarder.owner(source))
        if endpoint is not None:
            self._guarded(endpoint, partial(endpoint.peer.receive_untrusted, seen_as=seen_as), check, source)

    def lose(self, source: Path) -> None:
        """Send nothing to an address any more, whose connection ended."""
        endpoint = self._by_row.get(self._forwarder.owner(source))
        if endpoint is not None:
            self._guarded(endpoint, lambda now_ns: endpoint.peer.lose(source))

    def _addressee(self, datagram: bytes, row: int) -> _Endpoint | None:
        names = username_untrusted(datagram)
        found = self._by_row.get(row) if names is None else self._by_ufrag.get(names[0])
        if found is None:
            self._strays["unknown_source" if names is None else "unknown_ufrag"] += 1
        return found

    def _guarded(self, endpoint: _Endpoint, step: Callable[..., Iterable[PeerEvent]], *arguments: object) -> None:
        # A fault of ours in one transport's engine ends that transport and nothing else.
        try:
            self._apply(endpoint, step(*arguments, self.now_ns()))
        except Exception as fault:
            self._end_faulty(endpoint, fault)

    def _end_faulty(self, endpoint: _Endpoint, fault: Exception) -> None:
        self.faults += 1
        log.error("transport_fault", transport=endpoint.id, exc_info=fault)
        self.close(endpoint.id, "internal_error")

    def _apply(self, endpoint: _Endpoint, events: Iterable[PeerEvent]) -> None:
        for event in events:
            match event:
                case Transmit(datagram, destination):
                    self._forwarder.send(datagram, destination)
                case AddressValidated(address):
                    self._forwarder.bind_address(endpoint.row, address)
                case AddressForgotten(address):
                    self._forwarder.unbind_address(endpoint.row, address)
                case Nominated(address):
                    self._forwarder.send_to(endpoint.row, address)
                case Secured(keys):
                    self._forwarder.set_keys(endpoint.row, keys)
                    self._answer_checks(endpoint)
                    self._tell.send_nowait(Connected(endpoint.id))
                case Closed(reason):
                    self.close(endpoint.id, reason.value)
                    return
        if endpoint.ufrags != endpoint.peer.local_ufrags:
            self._index_ufrags(endpoint)
        self._set_timer(endpoint)

    def _say_goodbye(self, endpoint: _Endpoint) -> None:
        # It may be closed for a fault of its engine, which must not keep its rows from being freed.
        try:
            for event in endpoint.peer.close():
                if isinstance(event, Transmit):
                    self._forwarder.send(event.datagram, event.destination)
        except Exception as fault:
            self.faults += 1
            log.error("transport_fault", transport=endpoint.id, exc_info=fault)

    def _pump_broadcasts(self) -> None:
        for row in self._bridge.pump(self.now_ns()):
            self._feedback.want_keyframe(row)

    def _begin_broadcast(self, endpoint: _Endpoint) -> None:
        path = endpoint.room.paths.get(endpoint.source)
        if path is not None:
            fed = [track for track in endpoint.room.sources[endpoint.source].values() if track.feeder is not None]
            tracks = {name: offered for track in fed for name, offered in self._renditions(track).items()}
            self._bridge.begin(path, tracks, self.now_ns())
            for track in fed:
                track.path = path
                self._list_layers(track)

    def _renditions(self, track: _Track) -> dict[str, OfferedTrack]:
        """Return what is offered of a track over MoQ, by name: the layers of simulcast are renditions."""
        kind, rows = track.codec.kind, self._forwarder.layers(track.row)
        names = [f"{kind}-{rid}" for rid in track.layers] or [kind]
        return {name: OfferedTrack(row, track.codec) for name, row in zip(names, rows, strict=True)}

    def _list_layers(self, track: _Track) -> None:
        # The kernel does not see these viewers: to them only what everybody may have is shown.
        if track.layers:
            rates = self._layers.open_to_all(track.row)
            named = {name: offered.row for name, offered in self._renditions(track).items()}
            bitrates = {name: 8 * rates[row] for name, row in named.items() if row in rates}
            self._bridge.list_layers(track.path, bitrates, self.now_ns())

    def _review_layers(self, now_ns: int) -> None:
        for row in self._layers.review(now_ns):
            track = self._tracks[row]
            self._list_layers(track)
            self._layers.keep_all(row, self._bridge.is_read(track.path))
            feeder = self._endpoints.get(track.feeder) if track.feeder is not None else None
            if feeder is not None:
                self._feedback.limit(feeder.row, self._layers.limit_bps(row))

    def _end_broadcast(self, endpoint: _Endpoint) -> None:
        tracks = endpoint.room.sources.get(endpoint.source, {})
        path = endpoint.room.paths.get(endpoint.source)
        if path is not None and all(track.feeder is None for track in tracks.values()):
            self._bridge.end(path)

    def _subscribed(self, path: str) -> None:
        self._bridge.review(path)
        room = self._by_path.get(path)
        if room is not None and not room.has_news:
            room.has_news = True
            self._tell.send_nowait(AudienceChanged(room.row))
        self._timer_moved.set()

    def _send_feedback(self) -> None:
        for row, rtcp in self._feedback.due(self.now_ns()):
            self._forwarder.send_rtcp(row, rtcp)
        for row, fault in self._feedback.take_faults():
            if (endpoint := self._by_row.get(row)) is not None:
                self._end_faulty(endpoint, fault)

    # -- time --------------------------------------------------------------------------------------------------------

    def _set_timer(self, endpoint: _Endpoint) -> None:
        # Entries are lazy: one that comes too early looks again, so only an earlier deadline needs a new entry.
        deadline_ns = endpoint.peer.deadline_ns()
        if deadline_ns < endpoint.timer_ns:
            endpoint.timer_ns = deadline_ns
            heapq.heappush(self._timers, (deadline_ns, endpoint.id))
            if self._timers[0][1] == endpoint.id:
                self._timer_moved.set()

    async def _keep_time(self) -> None:
        while True:
            now_ns = self.now_ns()
            self._run_timers(now_ns)
            self._notice_first_packets()
            self._pump_broadcasts()
            self._review_layers(now_ns)
            self._send_feedback()
            wake_ns = min(self._next_timer_ns(), self._feedback.next_deadline_ns(), self._layers.next_review_ns())
            if self._silent:
                wake_ns = min(wake_ns, now_ns + IDLE_TICK_NS)
            self._timer_moved = trio.Event()
            pause = math.inf if wake_ns >= FOREVER else max(0.0, (wake_ns - self.now_ns()) / 1e9)
            with trio.move_on_after(pause):
                await self._timer_moved.wait()

    def _next_timer_ns(self) -> int:
        return self._timers[0][0] if self._timers else FOREVER

    def _run_timers(self, now_ns: int) -> None:
        while self._timers and self._timers[0][0] <= now_ns:
            deadline_ns, transport = heapq.heappop(self._timers)
            endpoint = self._endpoints.get(transport)
            if endpoint is None or endpoint.timer_ns != deadline_ns:
                continue
            endpoint.timer_ns = FOREVER
            self._guarded(endpoint, self._events_due, endpoint)

    def _events_due(self, endpoint: _Endpoint, now_ns: int) -> list[PeerEvent]:
        last_media_ns = self._forwarder.last_media_ns(endpoint.row)
        if last_media_ns:
            endpoint.peer.saw_media(last_media_ns)
        return endpoint.peer.handle_timeout(now_ns) if endpoint.peer.deadline_ns() <= now_ns else []

    def _notice_first_packets(self) -> None:
        for transport, endpoint in tuple(self._silent.items()):
            if self._forwarder.delivered_ns(endpoint.row):
                del self._silent[transport]
                self._begin_broadcast(endpoint)
                self._tell.send_nowait(Flowing(transport))


def _starve(room: _Room, transport: TransportId) -> None:
    """Have a transport feed no track any more."""
    for tracks in room.sources.values():
        for track in tracks.values():
            if track.feeder == transport:
                track.feeder = None


def _etag(ice: IceCredentials) -> str:
    return f'"{ice.ufrag}"'
