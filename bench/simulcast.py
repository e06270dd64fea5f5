"""A publisher of simulcast for the load tools: layers of one picture, each named by its rid (RFC 8853)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import trio

from bench.payload import Packet, Rate, Source
from media.webrtc.ice import IceCredentials
from media.wire.rtcp import Fir, Pli, RtcpPacket
from media.wire.rtp import RtpHeader, build_rtp
from server.client import Endpoint, open_session
from server.offers import AUDIO, VIDEO, build_offer, choose_sources

RID, RID_ID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", 4
LAYERS = {"q": 4, "f": 1}  # by which the rate is divided
PAUSE_S = 0.005


@dataclass(slots=True)
class Layer:
    """One encoding: where its numbers are, and what makes its packets."""

    rid: str
    ssrc: int
    source: Source
    sequence_number: int = 0

    def packet(self, packet: Packet) -> bytes:
        """Return one RTP packet."""
        header = RtpHeader(
            VIDEO if packet.kind == "video" else AUDIO,
            self.sequence_number & 0xFFFF,
            packet.timestamp,
            self.ssrc,
            packet.marker,
            extensions={RID_ID: self.rid.encode()} if self.rid else {},
        )
        self.sequence_number += 1
        return build_rtp(header, packet.stamp(time.time_ns()))


@dataclass(slots=True)
class Simulcast:
    """A publisher of all layers and sound."""

    endpoint: Endpoint
    layers: list[Layer] = field(default_factory=list)

    async def run(self) -> None:
        """Send until the connection ends."""
        self.endpoint.on_rtcp = self._listen
        while self.endpoint.ended is None:
            now_ns = time.monotonic_ns()
            for layer in self.layers:
                for packet in layer.source.due(now_ns):
                    self.endpoint.send_rtp(layer.packet(packet))
            await trio.sleep(PAUSE_S)

    def _listen(self, packets: list[RtcpPacket]) -> None:
        asked = {packet.media_ssrc for packet in packets if isinstance(packet, Pli)}
        everything = any(isinstance(packet, Fir) for packet in packets)
        for layer in self.layers:
            if everything or layer.ssrc in asked:
                layer.source.request_keyframe()


class _Sound(Source):
    """The sound of a source alone."""

    def due(self, now_ns: int) -> list[Packet]:
        return [packet for packet in super().due(now_ns) if packet.kind == "audio"]


@asynccontextmanager
async def publish_simulcast(http: httpx2.AsyncClient, url: str, token: str, rate: Rate) -> AsyncIterator[Simulcast]:
    """Publish two layers for as long as the body runs; the caller runs the publisher. Raises SessionFailed."""
    bps = {rid: rate.video_bps // divisor for rid, divisor in LAYERS.items()}
    async with _publish(http, url, token, {rid: (0, of_layer) for rid, of_layer in bps.items()}) as publisher:
        yield publisher


@asynccontextmanager
async def publish_layers(
    http: httpx2.AsyncClient, url: str, token: str, bps: Mapping[str, int]
) -> AsyncIterator[Simulcast]:
    """Publish a layer for each of `bps` in the same way; its place there is the publisher's number in its packets."""
    numbered = {rid: (place, of_layer) for place, (rid, of_layer) in enumerate(bps.items())}
    async with _publish(http, url, token, numbered) as publisher:
        yield publisher


@asynccontextmanager
async def _publish(
    http: httpx2.AsyncClient, url: str, token: str, bps: Mapping[str, tuple[int, int]]
) -> AsyncIterator[Simulcast]:
    """Publish layers, each with the publisher's number in its packets and its bits a second, and sound."""
    ice = IceCredentials.random()
    ssrcs, _ = choose_sources(ice, ("audio", "video"))
    offer = build_offer(ice, "sendonly", ("audio", "video"), {"audio": ssrcs["audio"]}, 0)
    lines = [f"a=extmap:{RID_ID} {RID}", *(f"a=rid:{rid} send" for rid in bps), f"a=simulcast:send {';'.join(bps)}"]
    began_ns = time.monotonic_ns()
    layers = [Layer("", ssrcs["audio"], _Sound(0, Rate(1, sound=True), started_ns=began_ns))]
    for place, (rid, (number, of_layer)) in enumerate(bps.items()):
        source = Source(number, Rate(of_layer, sound=False), started_ns=began_ns)
        layers.append(Layer(rid, ssrcs["video"] + place & 0xFFFFFFFF, source))
    async with open_session(http, url, token, ice, offer + "\r\n".join(lines) + "\r\n") as endpoint:
        yield Simulcast(endpoint, layers)
