"""Who watches what: WHEP offers become subscriptions to the tracks of a source."""

from __future__ import annotations

from collections.abc import Callable

from media.endpoints import Endpoint, Endpoints
from media.facts import NoSource, TransportId
from media.forwarding.admission import Grant, Holding
from media.forwarding.forwarder import Forwarder
from media.forwarding.layers.selection import Layers
from media.forwarding.layers.wishes import Wish
from media.publishing import Publishing
from media.rooms import Room
from media.webrtc.sdp import parse_sdp_untrusted
from media.webrtc.viewer_answers import ViewerAnswers


class Watching:
    """Every WebRTC viewer of a node; `close` ends one with a reason."""

    def __init__(
        self,
        forwarder: Forwarder,
        endpoints: Endpoints,
        publishing: Publishing,
        layers: Layers,
        *,
        now_ns: Callable[[], int],
        close: Callable[[TransportId, str], None],
    ) -> None:
        self._forwarder, self._endpoints, self._publishing = forwarder, endpoints, publishing
        self._layers, self._now_ns, self._close = layers, now_ns, close
        self._answers = ViewerAnswers()

    def watch(self, room: Room, source: str, offer_sdp: str, holding: Holding) -> tuple[Endpoint, str]:
        """Answer a WHEP offer; returns the transport, and the answer. Raises as `Media.watch`."""
        available = {kind: track for kind, track in room.sources.get(source, {}).items() if track.feeder is not None}
        if not available or any(map(self._publishing.is_settling, available.values())):
            parse_sdp_untrusted(offer_sdp)  # what is wrong with an offer is said first
            raise NoSource(source)
        ours = self._endpoints.our_side(self._forwarder.placement.for_viewer(room.workers[source]))
        codecs = [track.codec for track in available.values()]
        answer, lacks = self._answers.answer(offer_sdp, ours.shown, codecs, stream=source)
        endpoint = self._endpoints.open(room, source, "viewer", ours, answer)
        self._forwarder.admission.hold(endpoint.row, holding)
        endpoint.lacks = lacks
        try:
            for sent in answer.tracks:
                row, wish = available[sent.kind].row, endpoint.wish
                subscription = self._layers.subscribe(row, endpoint.row, sent, wish, self._now_ns())
                endpoint.subscriptions.append(subscription)
                endpoint.watched_tracks.append(row)
        except Exception:
            self._close(endpoint.id, "refused")
            raise
        return endpoint, answer.sdp

    def counters(self) -> dict[str, int]:
        """Count the shapes of offers that were read, as they were not known."""
        return {"offers_learned": self._answers.learned}

    def prefer(self, endpoint: Endpoint, wish: Wish) -> None:
        """Give a viewer the layer that fits its wish."""
        endpoint.wish = wish
        for subscription in endpoint.subscriptions:
            self._layers.wish(subscription, wish, self._now_ns())

    def discard(self, endpoint: Endpoint) -> None:
        """Forward nothing more to a viewer."""
        self._forwarder.admission.hold(endpoint.row, Holding(Grant(0)))
        for subscription in endpoint.subscriptions:
            self._layers.unsubscribe(subscription)
