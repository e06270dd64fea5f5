"""Between sessions and the origin: takes publishers' groups in, serves subscribers, and cuts who lost the right.

A session becomes a `Peer` with the `Rights` that its token gave it. All calls are plain; what a peer has to say is
written when its connection asks for it (`Peer.write`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from media.moq.carriers.carrier import Carrier, Code
from media.moq.protocol import events
from media.moq.protocol.messages import suffix_of
from media.moq.protocol.session import Session
from media.moq.protocol.wishes import Waiting, Wanted, path_of
from media.moq.relaying.access import Access
from media.moq.relaying.delivery import Delivery, Fetched, urgency, write_piece
from media.moq.relaying.origin import DESCRIBING_TRACK, Broadcast, Origin, Track
from media.moq.relaying.rights import Rights
from media.moq.relaying.upstream import Upstream

MAX_SUBSCRIPTIONS = 256  # of a session: a wall of 80 people with picture, sound and catalog each
MAX_LISTENING = 32  # requests for announcements on one session; a player makes one for each name it plays
MAX_FETCHES = 16
MAX_WAITING = 64  # requests for tracks that their publisher has not described yet
MAX_PENDING = 64  # requests of one of whom it is still being found out what it may watch


class Relay:
    """All sessions of a node around one origin. `clock_ns` is monotonic.

    `subscribed` hears the path of a broadcast of which a subscription began or ended, or that a session comes for.
    """

    def __init__(
        self, origin: Origin, clock_ns: Callable[[], int], subscribed: Callable[[str], None] = lambda path: None
    ) -> None:
        self.origin, self.now_ns, self.subscribed = origin, clock_ns, subscribed
        self.peers: set[Peer] = set()
        self.counts = Counter[str]()

    def join(self, session: Session, carrier: Carrier, rights: Rights) -> Peer:
        """Take in a session that begins; ask what it publishes."""
        peer = Peer(self, session, carrier, rights)
        self.peers.add(peer)
        if rights.home is not None:
            self.subscribed(rights.home)
        if not session.request_announcements(""):
            self.counts["announcements_not_asked"] += 1
        return peer

    def counters(self) -> dict[str, int]:
        """Every counter of the sessions alive now and of those before, by name."""
        total = Counter(self.counts)
        for peer in self.peers:
            total.update(peer.counts)
            total.update(peer.session.counts)
            total.update(peer.upstream.counts)
            for delivery in peer.deliveries.values():
                total.update(delivery.counts)
        return {"moq_sessions": len(self.peers), **{f"moq_{name}": count for name, count in total.items()}}


class Peer:
    """One session in the relay: a listener of the origin, and a subscriber and publisher of tracks."""

    def __init__(self, relay: Relay, session: Session, carrier: Carrier, rights: Rights) -> None:
        self.session, self.rights, self._access = session, rights, Access(rights)
        self.deliveries: dict[int, Delivery | Fetched] = {}
        self.counts = Counter[str]()
        self._relay, self._carrier = relay, carrier
        self._listening: dict[int, dict[str, None]] = {}  # what was announced to each request
        self._prefixes: dict[int, str] = {}
        self._waiting: list[Waiting] = []
        self._pending: list[Wanted] = []
        # Broadcasts of which something may be on its way still, and when picture or sound of them was last sent (ns);
        # a room that closes takes its own out.
        self._served: dict[str, int] = {}
        self.upstream = Upstream(session, relay.origin, relay.now_ns, rights.may_publish)
        relay.origin.listen(self)

    def handle(self, found: Sequence[events.Event]) -> None:
        """Do what a session's events ask for."""
        for event in found:
            self._handle(event)

    def write(self) -> None:
        """Write what is most urgent, as long as the connection has room."""
        now_ns = self._relay.now_ns()
        with self._access:
            waiting = [delivery for delivery in tuple(self.deliveries.values()) if delivery.look(now_ns)]
            if waiting:
                self._write_pieces(waiting)
        for delivery in tuple(self.deliveries.values()):
            if delivery.is_spent:
                self._finish(delivery)

    def _write_pieces(self, waiting: list[Delivery | Fetched]) -> None:
        if len(waiting) > 1:
            waiting.sort(key=urgency, reverse=True)
        room = self._carrier.room()
        while room > 0 and (written := write_piece(waiting)):
            room -= written

    def cut(self, code: int = Code.CUT, path: str | None = None) -> None:
        """Have nothing more reach this peer, of one broadcast or of all: unsent data is lost, streams are reset.

        Takes effect at once. What it asks for from now on is judged by its rights, which have to be changed first.
        """
        for delivery in tuple(self.deliveries.values()):
            if path is None or delivery.path == path:
                self._drop(delivery, code)
                self.session.refuse(delivery.request, code)
        for waiting in tuple(self._waiting):
            if path is None or waiting.path == path:
                self._waiting.remove(waiting)
                self.session.refuse(waiting.request, code)
        self.dismiss(path, code)
        for request, announced in self._listening.items():
            for gone in [one for one in announced if path in (None, one)]:
                del announced[gone]
                self.session.retract(request, gone)
        self._carrier.drop_datagrams()
        served = [one for one in self._served if path in (None, one)]
        if served:
            for one in served:
                del self._served[one]
            self._carrier.recall()
        self._carrier.wake()

    def eject(self, code: int, reason: str) -> None:
        """End the session at once, with a code that its client can read."""
        self.cut(code)
        self.session.close(code, reason)
        self.end()

    def review(self, path: str | None = None) -> None:
        """Cut, announce and retract what changed rights ask for, of one broadcast or of all."""
        self.review_tracks(path)
        for request, announced in self._listening.items():
            for gone in [one for one in announced if path in (None, one) and not self.rights.may_watch(one)]:
                del announced[gone]
                self.session.retract(request, gone)
        origin = self._relay.origin
        for broadcast in origin if path is None else filter(None, [origin.find(path)]):
            self.broadcast_began(broadcast)
        self.handle(self._take_pending(path))

    def review_tracks(self, path: str | None = None) -> None:
        """Cut what is reserved for others now, and give everything else as its rights do."""
        for delivery in tuple(self.deliveries.values()):
            if path in (None, delivery.path):
                self._review_delivery(delivery)

    def attends(self, path: str) -> bool:
        """Whether it is here for a broadcast: it came for it, or reads it or wants to."""
        return (
            self.rights.home == path
            or any(delivery.path == path for delivery in self.deliveries.values())
            or any(path_of(wanted) == path for wanted in self._pending)
        )

    def delivered_ns(self, path: str) -> int:
        """When picture or sound of a broadcast was last sent to it (monotonic), 0 for never since the last cut."""
        return self._served.get(path, 0)

    def dismiss(self, path: str | None, code: int = Code.NOT_FOUND) -> None:
        """Refuse what waits for a judgement that did not turn out well, of one broadcast or of all."""
        for wanted in self._take_pending(path):
            self.session.refuse(wanted.request, code)
        self._carrier.wake()

    def end(self) -> None:
        """Leave the relay: the session is over."""
        if self not in self._relay.peers:
            return
        self._relay.peers.remove(self)
        self._relay.origin.unlisten(self)
        self.handle(self.session.ended())
        for delivery in tuple(self.deliveries.values()):
            self._drop(delivery, Code.CANCELLED)
        self._waiting.clear()
        self._pending.clear()
        self.upstream.end()
        if self.rights.home is not None:
            self._relay.subscribed(self.rights.home)
        self._relay.counts.update(self.counts)
        self._relay.counts.update(self.session.counts)
        self._relay.counts.update(self.upstream.counts)

    # -- the origin tells --------------------------------------------------------------------------------------------

    def broadcast_began(self, broadcast: Broadcast) -> None:
        """Announce a broadcast to every request that it concerns."""
        if not self._may_hear_of(broadcast):
            return
        for request, announced in self._listening.items():
            is_new = broadcast.path not in announced
            if is_new and suffix_of(broadcast.path, self._prefixes[request]) is not None:
                announced[broadcast.path] = None
                self.session.announce(request, broadcast.path, broadcast.hops)
        self._carrier.wake()

    def broadcast_ended(self, broadcast: Broadcast) -> None:
        """Retract it where it was announced."""
        for request, announced in self._listening.items():
            if broadcast.path in announced:
                del announced[broadcast.path]
                self.session.retract(request, broadcast.path)
        self._carrier.wake()

    # -- the peer asks -----------------------------------------------------------------------------------------------

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.AnnouncementsWanted():
                self._listen(event)
            case events.TrackWanted() | events.SubscriptionWanted() | events.FetchWanted() if self._is_early(event):
                pass
            case events.TrackWanted(request, path, name):
                self._with_track(Waiting(request, path, name))
            case events.SubscriptionWanted(request, wish):
                self._with_track(Waiting(request, wish.broadcast, wish.track, wish))
            case events.SubscriptionChanged(request, wish):
                delivery = self.deliveries.get(request)
                if isinstance(delivery, Delivery):
                    delivery.update(wish)
            case events.FetchWanted():
                self._fetch(event)
            case events.RequestEnded(request):
                self._forget(request)
            case events.GroupRefused(stream):
                any(delivery.refuse_stream(stream) for delivery in self.deliveries.values())
            case _:
                self.upstream.handle(event)

    def _is_early(self, wanted: Wanted) -> bool:
        """Put a request aside while it is not known what the session may watch."""
        path = path_of(wanted)
        if len(self._pending) >= MAX_PENDING or not self.rights.is_pending(path):
            return False
        self._pending.append(wanted)
        self._relay.subscribed(path)
        return True

    def _take_pending(self, path: str | None) -> list[Wanted]:
        taken = [wanted for wanted in self._pending if path in (None, path_of(wanted))]
        self._pending = [wanted for wanted in self._pending if wanted not in taken]
        return taken

    def _listen(self, wanted: events.AnnouncementsWanted) -> None:
        if len(self._listening) >= MAX_LISTENING:
            self.counts["listeners_refused"] += 1
            self.session.refuse(wanted.request, Code.TOO_MUCH)
            return
        self._prefixes[wanted.request] = wanted.prefix
        announced = self._listening[wanted.request] = {
            broadcast.path: None
            for broadcast in self._relay.origin
            if self._may_hear_of(broadcast)
            and suffix_of(broadcast.path, wanted.prefix) is not None
            and not (wanted.exclude_hop and wanted.exclude_hop in broadcast.hops)
        }
        self.session.begin_announcements(wanted.request, announced)

    def _may_hear_of(self, broadcast: Broadcast) -> bool:
        return broadcast.source is not self.upstream and self.rights.may_watch(broadcast.path)

    def _with_track(self, waiting: Waiting) -> None:
        """Answer now when the track is known, later when its publisher has to be asked."""
        broadcast = self._relay.origin.find(waiting.path)
        if broadcast is None or not self._may_hear_of(broadcast):
            # Nobody learns which broadcasts exist by asking for them.
            self.counts["requests_refused"] += 1
            self.session.refuse(waiting.request, Code.NOT_FOUND)
            return
        track = self._access.find(broadcast, waiting.name)
        if track is not None:
            self._answer(waiting, track)
        elif waiting.name not in broadcast.tracks and self._want(broadcast, waiting.name):
            self._waiting.append(waiting)
        else:
            self.counts["requests_refused"] += 1
            self.session.refuse(waiting.request, Code.NOT_FOUND)

    def _want(self, broadcast: Broadcast, name: str) -> bool:
        return len(self._waiting) < MAX_WAITING and broadcast.want_track(name, self._track_known)

    def _track_known(self, path: str, name: str, track: Track | None) -> None:
        for waiting in [one for one in self._waiting if one.path == path and one.name == name]:
            self._waiting.remove(waiting)
            if track is not None and self.rights.may_watch(path):
                self._answer(waiting, track)
            else:
                self.session.refuse(waiting.request, Code.NOT_FOUND)
        self._carrier.wake()

    def _answer(self, waiting: Waiting, track: Track) -> None:
        if waiting.wish is None:
            self.session.describe_track(waiting.request, track.info)
            return
        if len(self.deliveries) >= MAX_SUBSCRIPTIONS:
            self.counts["subscriptions_refused"] += 1
            self.session.refuse(waiting.request, Code.TOO_MUCH)
            return
        path, counts = waiting.path, track.name != DESCRIBING_TRACK

        def has_sent() -> None:
            if counts:
                self._served[path] = self._relay.now_ns()

        delivery = Delivery(
            self.session,
            self._carrier,
            waiting.request,
            waiting.wish,
            track,
            partial(self._access.admits, path),
            has_sent,
        )
        self.deliveries[waiting.request] = delivery
        self._served.setdefault(path, 0)
        self.session.accept(waiting.request, track.info)
        self._relay.subscribed(path)
        self._carrier.wake()

    def _review_delivery(self, delivery: Delivery | Fetched) -> None:
        """Give what these rights give under the name that was asked for; where that is nothing, cut it."""
        broadcast, before = self._relay.origin.find(delivery.path), delivery.track
        track = None if broadcast is None else self._access.find(broadcast, before.name)
        if track is before or broadcast is None or before.is_ended:
            return
        if track is not None and isinstance(delivery, Delivery):
            delivery.switch(track, self._relay.now_ns())
        else:
            self.counts["renditions_cut"] += 1
            self._drop(delivery, Code.CUT)
            self.session.refuse(delivery.request, Code.CUT)
            self._carrier.recall()
        self._carrier.wake()

    def _fetch(self, wanted: events.FetchWanted) -> None:
        broadcast = self._relay.origin.find(wanted.broadcast)
        known = broadcast is not None and self._may_hear_of(broadcast)
        track = self._access.find(broadcast, wanted.track) if known and broadcast is not None else None
        group = None if track is None else track.groups.get(wanted.group)
        fetching = sum(isinstance(delivery, Fetched) for delivery in self.deliveries.values())
        if track is None or group is None or fetching >= MAX_FETCHES:
            self.counts["requests_refused"] += 1
            self.session.refuse(wanted.request, Code.NOT_FOUND)
            return
        path = wanted.broadcast
        self.deliveries[wanted.request] = Fetched(
            self.session, self._carrier, wanted, track, group, partial(self._access.admits, path)
        )
        self._served.setdefault(path, 0)
        self._carrier.wake()

    def _forget(self, request: int) -> None:
        """Let go of what the peer no longer wants."""
        self._listening.pop(request, None)
        self._prefixes.pop(request, None)
        self._waiting = [waiting for waiting in self._waiting if waiting.request != request]
        for wanted in [one for one in self._pending if one.request == request]:
            self._pending.remove(wanted)
            self._relay.subscribed(path_of(wanted))
        delivery = self.deliveries.get(request)
        if delivery is not None:
            self._drop(delivery, Code.CANCELLED)

    def _finish(self, delivery: Delivery | Fetched) -> None:
        self._drop(delivery, None)
        if isinstance(delivery, Delivery):
            self.session.finish_subscription(delivery.request, delivery.track.next_sequence)

    def _drop(self, delivery: Delivery | Fetched, code: int | None) -> None:
        self.deliveries.pop(delivery.request, None)
        delivery.close(code)
        self._relay.counts.update(delivery.counts)
        broadcast = self._relay.origin.find(delivery.path)
        if broadcast is not None and not delivery.track.readers:
            broadcast.track_unused(delivery.track)
        self._relay.subscribed(delivery.path)
