"""A MoQ publisher as the forwarding tables know it: a transport of its own, and what fills it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from media.bridge.injecting import Injector
from media.bridge.intake import Intake
from media.facts import BroadcastBegan, TransportId
from media.forwarding.addresses import Address
from media.rooms import Room
from media.webrtc.formats import CodecDescription, Kind
from media.wire.rtcp import SenderReport

# From a MoQ publisher's first frame on, for its catalog to name the other kind: a browser lists its sound at once, and
# its picture when it has found an encoder for the camera's first frame, which takes a busy machine seconds.
SETTLE_NS = 5_000_000_000


class Feeding(Protocol):
    """Who has a MoQ publisher's packets become tracks of its room."""

    def feed(self, incoming: Incoming, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        """Let it feed a track of its room; False when the node is full."""

    def incoming_flows(self, transport: TransportId) -> None:
        """Note that its first frame is on its way, and that it is known what it publishes."""


class Incoming:
    """A MoQ publisher in row `row`, whose packets go to `server`, where the forwarding thread listens."""

    def __init__(
        self,
        transport: TransportId,
        row: int,
        room: Room,
        began: BroadcastBegan,
        kinds: tuple[str, ...],
        *,
        server: Address,
        feeding: Feeding,
        now_ns: Callable[[], int],
    ) -> None:
        self.id, self.row, self.room, self.source = transport, row, room, began.source
        self._feeding, self._now_ns, self.injector = feeding, now_ns, Injector(server)
        self._missing: set[str] = set(kinds)
        self._flows_ns = 0
        self.is_settled = False  # before it is known what all there is, viewers would be given a part of it for good
        self.intake = Intake(began.broadcast, kinds, self, now_ns)

    def open(self, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        """Feed a track of the room from now on."""
        self._missing.discard(kind)
        return self._feeding.feed(self, kind, codec, payload_type)

    def send(self, packets: list[bytes], report: SenderReport | None) -> None:
        """Pass packets to the forwarding thread."""
        self.injector.send(packets, report)
        if not self.is_settled:
            self._settle(self._now_ns())

    def _settle(self, now_ns: int) -> None:
        self._flows_ns = self._flows_ns or now_ns
        if not self._missing or now_ns - self._flows_ns >= SETTLE_NS:
            self.is_settled = True
            self._feeding.incoming_flows(self.id)

    def close(self) -> None:
        """Take nothing more of it."""
        self.intake.close()
        self.intake.broadcast.stop()
        self.injector.close()

    def counters(self) -> Counter[str]:
        """Count what was passed on and what was not."""
        return self.intake.counts + Counter(packets_lost=self.injector.lost)
