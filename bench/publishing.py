"""Publishers of the load tools: they send what a source makes when it is due, and note what is asked of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import trio

from bench.payload import Rate, Source
from media.wire.rtcp import Fir, Pli, RtcpPacket
from server.client import Publisher

PAUSE_S = 0.01  # how late the end of a pause may be noticed


@dataclass(slots=True)
class Publishing:
    """One publisher: `number` is in its packets, and `asked_ns` lists when a keyframe was asked of it (monotonic)."""

    number: int
    publisher: Publisher
    rate: Rate
    asked_ns: list[int] = field(default_factory=list)
    paused: bool = False
    _source: Source | None = None

    @property
    def sent(self) -> int:
        """How many packets were made and sent until now."""
        return sum(self._source.sent.values()) if self._source is not None else 0

    async def run(self) -> None:
        """Send until the connection ends."""
        listen = self.publisher.endpoint.on_rtcp

        def note(packets: list[RtcpPacket]) -> None:
            self.asked_ns += [time.monotonic_ns() for packet in packets if isinstance(packet, Pli | Fir)]
            listen(packets)

        self.publisher.endpoint.on_rtcp = note
        source = self._source = Source(self.number, self.rate, started_ns=time.monotonic_ns())
        while self.publisher.endpoint.ended is None:
            if self.paused:
                source.skip(time.monotonic_ns())
                await trio.sleep(PAUSE_S)
                continue
            if self.publisher.keyframe_wanted:
                self.publisher.keyframe_wanted = False
                source.request_keyframe()
            for packet in source.due(time.monotonic_ns()):
                payload = packet.stamp(time.time_ns())
                self.publisher.send(
                    packet.kind, payload, timestamp=packet.timestamp, marker=packet.marker, at_ns=packet.at_ns
                )
            await trio.sleep(max(0.0, (source.deadline_ns() - time.monotonic_ns()) / 1e9))
