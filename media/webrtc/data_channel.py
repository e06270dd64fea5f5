"""The data channels of one WebRTC transport, over the SCTP association in its DTLS session (RFC 8831, RFC 8832).

What is sent on a channel is in order, and sent again, as its opening asked for. A channel whose peer does not read,
sends too fast, or that nobody here knows is closed; the transport goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from media.webrtc import dcep
from media.webrtc.dcep import Payload
from media.webrtc.sctp import COUNTERS as SCTP_COUNTERS
from media.webrtc.sctp import Association
from media.webrtc.sctp_events import Ended, Established, Event, StreamsReset
from media.webrtc.sctp_inbound import MAX_MESSAGE, Message
from media.webrtc.sctp_reliability import RELIABLE, Reliability
from media.wire.malformed import MalformedPacket

SECOND_NS = 1_000_000_000
MAX_CHANNELS = 4  # of one transport; a page needs one
MAX_BUFFERED = 262_144  # bytes; as the outbox of a signalling socket
MESSAGES_PER_S, BURST = 50, 200  # of one transport, as of a signalling socket; a person makes a few requests
COUNTERS = (
    "opened",
    "refused_label",
    "refused_limit",
    "refused_open",
    "closed_slow",
    "closed_too_fast",
    "closed_too_large",
    "messages_received",
    "messages_sent",
    "strays",
)
DATA_COUNTERS = (*(f"channels_{name}" for name in COUNTERS), *(f"sctp_{name}" for name in SCTP_COUNTERS))


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """The peer opened a channel, and was told that it is open."""

    stream: int
    label: str
    protocol: str


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """A message arrived."""

    stream: int
    data: bytes
    is_text: bool


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """A channel is closed, by whichever side."""

    stream: int
    reason: str


ChannelEvent = ChannelOpened | ChannelMessage | ChannelClosed


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()  # nothing is said on it any more; the resets of both directions are awaited


@dataclass(slots=True)
class _Channel:
    unordered: bool = False
    reliability: Reliability = RELIABLE
    state: _State = _State.OPEN
    ours_reset: bool = False
    theirs_reset: bool = False


class DataChannels:
    """All channels of one transport. `labels` are those that a peer may open; times are monotonic ns.

    A peer that was the client of the DTLS handshake numbers its channels evenly (RFC 8832 section 6).
    """

    def __init__(
        self,
        association: Association,
        *,
        labels: Collection[str],
        peers_parity: int,
        max_message: int | None,
        now_ns: int,
    ) -> None:
        self._association, self._labels = association, labels
        self._peers_parity, self._max_message = peers_parity, max_message
        self._channels: dict[int, _Channel] = {}
        self._opening: dict[int, dcep.Opening] = {}  # what waits for the association
        self._allowance, self._earned_ns = BURST * SECOND_NS, now_ns
        self._counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))

    def receive_untrusted(self, packet: bytes, now_ns: int) -> list[ChannelEvent]:
        """Take what one DTLS record held."""
        return self._after(self._association.receive_untrusted(packet, now_ns), now_ns)

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        return self._association.deadline_ns()

    def handle_timeout(self, now_ns: int) -> list[ChannelEvent]:
        """Send again what was not answered in time."""
        return self._after(self._association.handle_timeout(now_ns), now_ns)

    def take_packets(self, now_ns: int) -> list[bytes]:
        """Return what is to be sent, each in a DTLS record of its own."""
        return self._association.take_packets(now_ns)

    def open(self, stream: int, opening: dcep.Opening) -> None:
        """Open a channel, as soon as the association is; it can be sent on from then on."""
        self._opening[stream] = opening
        self._open_all()

    def _open_all(self) -> None:
        if not self._association.is_established:
            return
        for stream, opening in self._opening.items():
            self._channels[stream] = _Channel(opening.unordered, opening.reliability)
            self._association.send(stream, Payload.DCEP, dcep.build_open(opening))
        self._opening.clear()

    def send(self, stream: int, data: bytes, *, is_text: bool = True, key: str | None = None) -> list[ChannelEvent]:
        """Queue a message; one that waits under the same key is replaced. A full buffer closes the channel."""
        channel = self._channels.get(stream)
        if channel is None or channel.state is not _State.OPEN:
            return []
        if self._max_message is not None and len(data) > self._max_message:
            return self.close(stream, "too_large")
        if self._association.buffered + len(data) > MAX_BUFFERED:
            return self.close(stream, "slow")
        self._counters["messages_sent"] += 1
        if data:
            payload = Payload.STRING if is_text else Payload.BINARY
        else:
            # SCTP has no empty messages: one octet stands for none (RFC 8831 section 6.6).
            payload, data = (Payload.EMPTY_STRING if is_text else Payload.EMPTY_BINARY), b"\0"
        self._association.send(
            stream, payload, data, unordered=channel.unordered, reliability=channel.reliability, key=key
        )
        return []

    def close(self, stream: int, reason: str) -> list[ChannelEvent]:
        """Close a channel; what waits of a slow one is not sent."""
        channel = self._channels.get(stream)
        if channel is None or channel.state is not _State.OPEN:
            return []
        if f"closed_{reason}" in self._counters:
            self._counters[f"closed_{reason}"] += 1
        if reason == "slow":
            self._association.drop(stream)
        channel.state = _State.CLOSING
        self._association.reset(stream)
        return [ChannelClosed(stream, reason)]

    @property
    def buffered(self) -> int:
        """How many bytes have not arrived yet, of all channels."""
        return self._association.buffered

    def counters(self) -> dict[str, int]:
        """Return what was counted of channels, and of the association below them, by DATA_COUNTERS."""
        below = {f"sctp_{name}": count for name, count in self._association.counted().items()}
        return {**{f"channels_{name}": count for name, count in self._counters.items()}, **below}

    # -- what the association reports ----------------------------------------------------------------------------------

    def _after(self, events: list[Event], now_ns: int) -> list[ChannelEvent]:
        told: list[ChannelEvent] = []
        for event in events:
            match event:
                case Message(stream, protocol, data):
                    told += self._take(stream, protocol, data, now_ns)
                case StreamsReset(streams, ours):
                    for stream in streams:
                        told += self._take_reset(stream, ours=ours)
                case Established():
                    told += self._forget_all("restarted")
                    self._open_all()
                case Ended(reason):
                    told += self._forget_all(reason)
        return told

    def _take(self, stream: int, protocol: int, data: bytes, now_ns: int) -> list[ChannelEvent]:
        channel = self._channels.get(stream)
        if channel is not None and channel.state is _State.CLOSING:
            return []
        if not self._may_send(now_ns):
            self._counters["strays"] += channel is None
            return self.close(stream, "too_fast")
        if protocol == Payload.DCEP:
            return self._take_dcep(stream, data)
        if channel is None:
            self._refuse(stream, "strays")
            return []
        is_empty = protocol in (Payload.EMPTY_STRING, Payload.EMPTY_BINARY)
        if protocol not in (Payload.STRING, Payload.BINARY) and not is_empty:
            self._counters["strays"] += 1
            return []
        self._counters["messages_received"] += 1
        is_text = protocol in (Payload.STRING, Payload.EMPTY_STRING)
        return [ChannelMessage(stream, b"" if is_empty else data, is_text)]

    def _take_dcep(self, stream: int, data: bytes) -> list[ChannelEvent]:
        try:
            opening = dcep.parse_open_untrusted(data)
        except MalformedPacket:
            self._refuse(stream, "refused_open")
            return []
        if opening is None:
            return []
        is_wrong = stream % 2 != self._peers_parity or stream >= self._association.outgoing_streams
        if is_wrong or stream in self._channels:
            self._refuse(stream, "refused_open")
            return []
        if opening.label not in self._labels:
            self._refuse(stream, "refused_label")
            return []
        if sum(channel.state is _State.OPEN for channel in self._channels.values()) >= MAX_CHANNELS:
            self._refuse(stream, "refused_limit")
            return []
        self._channels[stream] = _Channel(opening.unordered, opening.reliability)
        self._counters["opened"] += 1
        self._association.send(stream, Payload.DCEP, dcep.ACKNOWLEDGED)
        return [ChannelOpened(stream, opening.label, opening.protocol)]

    def _refuse(self, stream: int, counter: str) -> None:
        """Close what is no channel of ours: by a reset of our direction, which the peer answers with one of its own."""
        self._counters[counter] += 1
        if stream not in self._channels and stream < self._association.outgoing_streams:
            self._channels[stream] = _Channel(state=_State.CLOSING)
            self._association.reset(stream)

    def _take_reset(self, stream: int, *, ours: bool) -> list[ChannelEvent]:
        channel = self._channels.get(stream)
        if channel is None:
            return []
        told = [] if ours else self.close(stream, "closed_by_peer")
        channel.ours_reset |= ours
        channel.theirs_reset |= not ours
        if channel.ours_reset and channel.theirs_reset:
            del self._channels[stream]
        return told

    def _forget_all(self, reason: str) -> list[ChannelEvent]:
        closed = [stream for stream, channel in self._channels.items() if channel.state is _State.OPEN]
        self._channels.clear()
        return [ChannelClosed(stream, reason) for stream in closed]

    def _may_send(self, now_ns: int) -> bool:
        """Take one message out of the peer's allowance, where there is one left."""
        earned = (now_ns - self._earned_ns) * MESSAGES_PER_S
        self._allowance, self._earned_ns = min(BURST * SECOND_NS, self._allowance + earned), now_ns
        if self._allowance < SECOND_NS:
            return False
        self._allowance -= SECOND_NS
        return True


assert MAX_MESSAGE <= MAX_BUFFERED
