"""A WHEP viewer that puts frames together, and knows their times by the sender reports it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import trio

from media.bridge.assembling import AssembledFrame, Assembler, Packet
from media.wire.codecs import Codec
from media.wire.rtcp import RtcpPacket, SenderReport
from media.wire.rtp import parse_rtp_untrusted
from server.client import watch
from server.offers import AUDIO, CLOCK_RATES, Kind
from tests.server.nodes import Person, Site


@dataclass
class Watcher:
    """What one viewer got; the picture's codec is known."""

    codec: Codec = Codec.VP8
    frames: dict[Kind, list[AssembledFrame]] = field(default_factory=lambda: {"audio": [], "video": []})
    arrived_ns: dict[Kind, list[int]] = field(default_factory=lambda: {"audio": [], "video": []})
    reports: dict[Kind, SenderReport] = field(default_factory=dict)
    kinds: dict[int, Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._assemblers: dict[Kind, Assembler] = {"audio": Assembler(Codec.OPUS), "video": Assembler(self.codec)}
        self._next: dict[Kind, int] = {}

    def take(self, datagram: bytes, at_ns: int) -> None:
        packet = parse_rtp_untrusted(datagram)
        header = packet.header
        kind: Kind = "audio" if header.payload_type == AUDIO else "video"
        self.kinds[header.ssrc] = kind
        if self._next.get(kind, header.sequence_number) != header.sequence_number:
            self._assemblers[kind].lose()
        self._next[kind] = header.sequence_number + 1 & 0xFFFF
        payload = datagram[packet.payload_start : packet.payload_end]
        found = self._assemblers[kind].feed_untrusted(Packet(header.timestamp, header.marker, payload))
        self.frames[kind] += found
        self.arrived_ns[kind] += [at_ns] * len(found)

    def hear(self, packets: list[RtcpPacket]) -> None:
        for report in packets:
            if isinstance(report, SenderReport) and report.ssrc in self.kinds:
                self.reports[self.kinds[report.ssrc]] = report

    def time_us(self, kind: Kind, frame: AssembledFrame) -> int:
        """Return when the publisher's clock says a frame was taken (RFC 3550 section 6.4.1)."""
        report = self.reports[kind]
        ahead = (frame.rtp_time - report.rtp_timestamp + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
        return (report.ntp * 1_000_000 >> 32) + ahead * 1_000_000 // CLOCK_RATES[kind]

    def delay_us(self, kind: Kind) -> float:
        """Return how long after it was taken a frame arrived, give or take how far the publisher's clock is from ours.

        Of the newest frames: the times of those that are replayed to a newcomer are squeezed.
        """
        newest = list(zip(self.frames[kind], self.arrived_ns[kind], strict=True))[-10:]
        return median(at_ns // 1_000 - self.time_us(kind, frame) for frame, at_ns in newest)

    async def until(self, video: int, audio: int) -> None:
        """Wait for so many more frames."""
        wanted = {"video": len(self.frames["video"]) + video, "audio": len(self.frames["audio"]) + audio}
        with trio.fail_after(15):
            while any(len(self.frames[kind]) < count for kind, count in wanted.items()):  # type: ignore[index]  # noqa: ASYNC110
                await trio.sleep(0.02)


@asynccontextmanager
async def open_watcher(site: Site, stream: str, person: Person) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    url = site.url("whep", stream)
    async with watch(site.http, url, person.token, on_rtp=watcher.take) as endpoint:
        endpoint.on_rtcp = watcher.hear
        yield watcher
