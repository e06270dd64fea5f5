"""The one door into media: rooms, publishers and viewers as rows of the forwarding tables, driven by Trio.

Everything that crosses the network stays below this module; everything about people stays above it. Calls take effect
at once and never wait, except `fence`. Facts come back through `events`.

Behind it: `endpoints` has the WebRTC transports, `publishing` who feeds which track, `watching` who gets which,
and `broadcasts` what MoQ sessions are offered; `forwarding` is the path of the packets.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import trio

from media.broadcasts import Broadcasts
from media.channel import Channel
from media.endpoints import Endpoint, Endpoints
from media.facts import (
    Attendee,
    AudienceChanged,
    BroadcastBegan,
    Connected,
    DataChannelOpened,
    Disconnected,
    Flowing,
    MediaEvent,
    MediaSettings,
    Negotiated,
    NoSource,
    RoomRow,
    Speaking,
    TransportId,
)
from media.forwarding.admission import FOREVER, Grant, Holding
from media.forwarding.forwarder import Forwarder, NoCapacity
from media.forwarding.layers.selection import Layers
from media.forwarding.layers.wishes import Quality, Wish
from media.hearing import Hearing
from media.ice_tcp import IceTcp, open_listeners
from media.moq.relaying.rights import Rights
from media.publishing import Publishing
from media.rooms import Room
from media.watching import Watching
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.negotiation import OfferRejected
from media.webrtc.sdpfrag import answer_fragment, parse_sdpfrag_untrusted

__all__ = [
    "Attendee",
    "AudienceChanged",
    "BroadcastBegan",
    "Channel",
    "Connected",
    "DataChannelOpened",
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
    "Speaking",
    "TransportId",
    "Wish",
]

EVENTS_BUFFERED = 65_536  # two facts for each of the most transports a node can hold; a fact is never lost
IDLE_TICK_NS = 20_000_000  # how late a publisher's first packet may be noticed


class Media:
    """The media half of a node; `run` it in a nursery before the first call.

    All methods must be called from the Trio thread. A transport may close at any moment and say so through `events`
    later: rights given to it meanwhile do nothing; other calls about it, and about a closed room, raise KeyError.
    """

    def __init__(self, settings: MediaSettings, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.now_ns = clock_ns
        self._tell, self.events = trio.open_memory_channel[MediaEvent](EVENTS_BUFFERED)
        self._timer_moved = trio.Event()
        self._wake_ns = FOREVER  # when time is kept next, if nothing moves it
        self._forwarder = Forwarder(settings.address, settings.limits, settings.also, settings.workers)
        self._layers = Layers(self._forwarder)
        self._rooms: dict[RoomRow, Room] = {}
        tell, numbers = self._tell.send_nowait, itertools.count(1)
        self._endpoints = Endpoints(
            self._forwarder, clock_ns, numbers=numbers, close=self.close, tell=tell, wake=self._wake
        )
        self._tcp = IceTcp(self._forwarder, self._endpoints, open_listeners(settings, self._forwarder.addresses))
        self._endpoints.advertise(settings.advertise, self._tcp.candidates(settings.advertise))
        self._broadcasts = Broadcasts(self._forwarder, self._layers, clock_ns, tell, self._wake)
        self._publishing = Publishing(
            self._forwarder,
            self._rooms,
            self._endpoints,
            self._broadcasts,
            self._layers,
            numbers=numbers,
            now_ns=clock_ns,
            close=self.close,
            tell=tell,
        )
        self._watching = Watching(
            self._forwarder, self._endpoints, self._publishing, self._layers, now_ns=clock_ns, close=self.close
        )
        self._feedback = self._publishing.feedback
        self._hearing = Hearing(self._forwarder.tables, self._rooms, tell)
        self.relay = self._broadcasts.relay

    @property
    def address(self) -> Address:
        """The first bound UDP address."""
        return self._forwarder.addresses[0]

    @property
    def faults(self) -> int:
        """How many transports and sessions an exception of ours has ended."""
        return self._endpoints.faults + self._broadcasts.faults

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
                for endpoint in self._endpoints.by_id.values():
                    self._endpoints.say_goodbye(endpoint)
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
        self._rooms[row] = Room(row, requires)
        return row

    def close_room(self, room: RoomRow) -> None:
        """End every transport of the room and free its rows."""
        closing = self._rooms.pop(room)
        self._forwarder.admission.open_until(room, 0)
        self._broadcasts.close_room(closing)
        for transport in (*closing.endpoints, *closing.incoming):
            self.close(transport, "room_closed")
        for track in closing.tracks:
            self._publishing.close_track(track)
        self._forwarder.close_room(room)

    def require(self, room: RoomRow, requires: Grant) -> None:
        """From the next packet on, forward only to those who hold `requires`. One store."""
        within = self._rooms[room]
        self._forwarder.admission.require(within.row, requires)
        if within.requires & ~requires:
            # It opens: what was published before was not meant for whoever may come now.
            self._broadcasts.forget(within)
        within.requires = requires

    def reserve_best(self, room: RoomRow, grant: Grant) -> None:
        """Let only holders of `grant` have the best layer of what is published as simulcast, the others go to all."""
        within = self._rooms[room]
        if grant == within.best_requires:
            return
        within.best_requires = grant
        for track in within.tracks:
            self._layers.reserve(track.row, grant, self.now_ns())
            self._broadcasts.list_layers(track)
        for transport in within.endpoints:
            self._tcp.distrust(self._endpoints.by_id[transport].row)

    def prefer(self, transport: TransportId, wish: Wish) -> None:
        """Give a viewer the layer that fits its wish; one that just closed wishes for nothing any more."""
        endpoint = self._endpoints.by_id.get(transport)
        if endpoint is not None:
            self._watching.prefer(endpoint, wish)

    def open_until(self, room: RoomRow, until_ns: int) -> None:
        """Let nothing leave the room from `until_ns` (monotonic) on."""
        self._forwarder.admission.open_until(self._rooms[room].row, until_ns)

    async def fence(self) -> None:
        """Return when no packet that was admitted before this call is still on its way out."""
        self._tcp.cut()
        await self._forwarder.fence()

    def hold(self, transport: TransportId, holding: Holding) -> None:
        """Replace what a viewer's transport holds; one that just closed holds nothing any more."""
        endpoint = self._endpoints.by_id.get(transport)
        if endpoint is not None:
            row, admission = endpoint.row, self._forwarder.admission
            is_less = admission.held_by(row, self.now_ns()) & ~holding.holds
            admission.hold(row, holding)
            if is_less:
                self._tcp.distrust(row)

    def publish_until(self, transport: TransportId, until_ns: int) -> None:
        """Accept a publisher's packets only before `until_ns` (monotonic); 0 stops it at once."""
        publisher = self._endpoints.by_id.get(transport) or self._publishing.incoming.get(transport)
        if publisher is not None:
            self._forwarder.admission.publish_until(publisher.row, until_ns)

    # -- MoQ sessions ------------------------------------------------------------------------------------------------

    def offer(self, room: RoomRow, source: str, path: str) -> None:
        """Offer what `source` publishes as the MoQ broadcast `path`, whenever it publishes, until the room closes.

        Who may subscribe is asked of the rights of each session. Raises ValueError when the path is taken.
        """
        self._broadcasts.offer(self._rooms[room], source, path)

    def review(self, room: RoomRow, whose: Callable[[Rights], bool] = lambda rights: True) -> None:
        """Cut every MoQ subscriber of the room whom its rights admit no longer, and announce it to whom they do.

        The rights, `whose` alone are looked at, have to have changed before; what was sent until now is out when a
        `fence` from now on is done.
        """
        self._broadcasts.review(self._rooms[room], whose)

    def dismiss(self, room: RoomRow, whose: Callable[[Rights], bool]) -> None:
        """Refuse what sessions asked of the room before it was known that they may not."""
        self._broadcasts.dismiss(self._rooms[room], whose)

    def review_session(self, rights: Rights) -> None:
        """Announce and retract what a session's changed rights ask for."""
        self._broadcasts.review_session(rights)

    def audience(self, room: RoomRow) -> list[Attendee]:
        """Return the MoQ sessions that are here for the room's broadcasts."""
        return self._broadcasts.audience(self._rooms[room])

    def take_in(
        self, began: BroadcastBegan, *, until_ns: int = FOREVER, kinds: tuple[str, ...] = ("audio", "video")
    ) -> TransportId:
        """Publish what a MoQ session announced, as `publish` does a WHIP offer; its catalog says what there is.

        Raises NoSource when it ended meanwhile, and NoCapacity.
        """
        return self._publishing.take_in(began, until_ns=until_ns, kinds=kinds)

    def turn_down(self, began: BroadcastBegan) -> None:
        """Take nothing of what a MoQ session announced."""
        began.broadcast.stop()

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
        endpoint, answer = self._publishing.publish(within, source, offer_sdp, until_ns=until_ns, kinds=kinds)
        self._hearing.listen()
        self._wake()
        return Negotiated(endpoint.id, answer, _etag(endpoint.peer.local))

    def watch(self, room: RoomRow, source: str, offer_sdp: str, holding: Holding) -> Negotiated:
        """Answer a WHEP offer with the tracks of `source`.

        Raises MalformedSdp, OfferRejected, NoSource (nobody publishes it now) and NoCapacity.
        """
        endpoint, answer = self._watching.watch(self._rooms[room], source, offer_sdp, holding)
        return Negotiated(endpoint.id, answer, _etag(endpoint.peer.local))

    def restart_ice(self, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        """Answer an ICE restart with (etag, fragment); the old path serves until the new one is proven.

        Raises MalformedSdp; OfferRejected("no_restart") when the fragment carries no new credentials.
        """
        endpoint = self._endpoints.by_id[transport]
        fragment = parse_sdpfrag_untrusted(sdpfrag)
        if fragment.ice is None:
            raise OfferRejected("no_restart", "the fragment carries no ice-ufrag and ice-pwd")
        local = endpoint.peer.restart_ice(fragment.ice)
        self._endpoints.index_ufrags(endpoint)
        shown = self._endpoints.shown_by(self._forwarder.worker_of(endpoint.row))
        return _etag(local), answer_fragment(local, shown.udp, fragment, tcp_candidates=shown.tcp)

    def is_ice_restart(self, transport: TransportId, sdpfrag: str) -> bool:
        """Whether a fragment asks for an ICE restart (new credentials) rather than trickling candidates."""
        fragment = parse_sdpfrag_untrusted(sdpfrag)
        return fragment.ice is not None and fragment.ice.ufrag != self._endpoints.by_id[transport].peer.remote.ufrag

    def close(self, transport: TransportId, reason: str) -> None:
        """End a transport: consent revoked, close_notify sent, rows freed. Closing twice is no error."""
        incoming = self._publishing.incoming.pop(transport, None)
        endpoint = self._endpoints.by_id.pop(transport, None)
        if incoming is not None:
            self._publishing.close_incoming(incoming)
        elif endpoint is not None:
            self._close_endpoint(endpoint)
        else:
            return
        self._tell.send_nowait(Disconnected(transport, reason))

    def _close_endpoint(self, endpoint: Endpoint) -> None:
        (self._publishing if endpoint.role == "publisher" else self._watching).discard(endpoint)
        self._endpoints.discard(endpoint)
        self._forwarder.close_transport(endpoint.row)

    # -- what is known of them -----------------------------------------------------------------------------------------

    def delivered_ns(self, transport: TransportId) -> int:
        """When media was last forwarded to, or accepted from, this transport (monotonic ns).

        0 for never, and for one that has ended, of which whoever asks may not have heard yet.
        """
        publisher = self._publishing.incoming.get(transport) or self._endpoints.by_id.get(transport)
        return 0 if publisher is None else self._forwarder.delivered_ns(publisher.row)

    def delivered_to(self, room: RoomRow, source: str, whose: Callable[[Rights], bool]) -> int:
        """When media of a source was last sent to a MoQ session of those rights (monotonic ns), 0 for never."""
        return self._broadcasts.delivered_ns(self._rooms[room].paths.get(source, ""), whose)

    def counters(self) -> dict[str, int]:
        """Every counter of the forwarding path, of feedback and of all peers together, by name."""
        return {
            **self._forwarder.counters(),
            **self._endpoints.counters(),
            **self._feedback.counters(),
            "transport_faults": self.faults,
            **(self._publishing.counters() | self._watching.counters()),
            **self._tcp.counters(),
            **self._broadcasts.counters(),
        }

    # -- the engine room -------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._timer_moved.set()

    async def _serve_control(self) -> None:
        while True:
            self._endpoints.receive_untrusted(await self._forwarder.control())
            self._layers.look(self.now_ns())
            self._pump_broadcasts()
            self._send_feedback()
            if self._feedback.next_deadline_ns() < self._wake_ns:
                self._wake()

    async def _keep_time(self) -> None:
        while True:
            now_ns = self.now_ns()
            self._endpoints.run_timers(now_ns)
            self._publishing.notice_first_packets()
            self._pump_broadcasts()
            self._publishing.review_layers(now_ns)
            self._hearing.look(now_ns)
            self._send_feedback()
            wake_ns = min(self._endpoints.next_timer_ns(), self._feedback.next_deadline_ns())
            wake_ns = min(wake_ns, self._layers.next_review_ns(), self._hearing.next_look_ns())
            if self._publishing.silent:
                wake_ns = min(wake_ns, now_ns + IDLE_TICK_NS)
            self._timer_moved, self._wake_ns = trio.Event(), wake_ns
            pause = math.inf if wake_ns >= FOREVER else max(0.0, (wake_ns - self.now_ns()) / 1e9)
            with trio.move_on_after(pause):
                await self._timer_moved.wait()

    def _pump_broadcasts(self) -> None:
        for row in self._broadcasts.pump():
            self._feedback.want_keyframe(row)

    def _send_feedback(self) -> None:
        for row, rtcp in self._feedback.due(self.now_ns()):
            self._forwarder.send_rtcp(row, rtcp)
        for row, fault in self._feedback.take_faults():
            self._endpoints.end_faulty(row, fault)


def _etag(ice: IceCredentials) -> str:
    return f'"{ice.ufrag}"'
