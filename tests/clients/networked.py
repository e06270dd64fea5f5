"""A publisher of simulcast at a real pace, and viewers behind modelled links that tell of arrivals as Chromium does."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise

import trio

from bench.impairment import Impairment, Link
from media.door import Negotiated
from media.forwarding.admission import Grant, Holding
from media.io.native import SO_TIMESTAMPNS
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.negotiation import TRANSPORT_CC
from media.wire import twcc
from media.wire.rtcp import Pli, Remb, build_rtcp, parse_rtcp_untrusted
from media.wire.rtp import RtpHeader, build_rtp, parse_rtp_untrusted
from media.wire.twcc import Twcc
from tests.media.test_door import DELTA, KEY, RID_ID, Remote, World, write_offer

FRAME_S = 0.04
PACKET = 1000
SOUND_S, SOUND = 0.02, 80
REPORT_S = 0.06
TRANSPORT_CC_ID = 7


class PacedSimulcast:
    """Layers by name with their bits a second: 25 frames a second, and a keyframe of threefold size when asked.

    As browsers do it leaves out the layers beyond what it is limited to. `key_octets` is another size for keyframes.
    """

    def __init__(self, remote: Remote, rates: dict[str, int], key_octets: int = 0) -> None:
        self.remote, self.rates, self.key_octets = remote, rates, key_octets
        self.limit_bps = float("inf")
        self.wanted = set(rates)

    @property
    def sent(self) -> str:
        """The names of the layers that are sent."""
        totals = accumulate(self.rates.values())
        names = [name for name, total in zip(self.rates, totals, strict=True) if total <= self.limit_bps]
        return "".join(names) or next(iter(self.rates))

    async def run(self) -> None:
        seqs = dict.fromkeys(self.rates, 1000)
        began, read, before = trio.current_time(), 0, self.sent
        for number in range(1_000_000):
            for compound in self.remote.rtcp[read:]:
                packets = parse_rtcp_untrusted(compound)
                asked = {packet.media_ssrc for packet in packets if isinstance(packet, Pli)}
                self.wanted |= {name for name, rate in self.rates.items() if rate in asked}
                for packet in packets:
                    self.limit_bps = packet.bitrate_bps if isinstance(packet, Remb) else self.limit_bps
            read = len(self.remote.rtcp)
            self.wanted |= set(self.sent) - set(before)
            before = self.sent
            for name in before:
                rate, is_key = self.rates[name], name in self.wanted
                size = round(rate * FRAME_S / 8) * (3 if is_key else 1)
                size = self.key_octets if is_key and self.key_octets else size
                await self._send_frame(name, rate, seqs, number, size, KEY if is_key else DELTA)
            self.wanted -= set(before)
            await trio.sleep_until(began + (number + 1) * FRAME_S)

    async def _send_frame(
        self, name: str, rate: int, seqs: dict[str, int], number: int, size: int, head: bytes
    ) -> None:
        while size > 0:
            body = head + name.encode() * min(size, PACKET)
            size -= PACKET
            header = RtpHeader(
                96, seqs[name] & 0xFFFF, 3600 * number, rate, size <= 0, extensions={RID_ID: name.encode()}
            )
            await self.remote.socket.sendto(self.remote.tx.protect(build_rtp(header, body)), self.remote.server)
            seqs[name] += 1
            head = b"\x00" + head[1:]  # goes on, and starts nothing

    async def speak(self) -> None:
        """Send sound, 40 kbit/s."""
        began = trio.current_time()
        for number in range(1_000_000):
            packet = build_rtp(RtpHeader(111, number & 0xFFFF, 960 * number, 9), bytes(SOUND))
            await self.remote.socket.sendto(self.remote.tx.protect(packet), self.remote.server)
            await trio.sleep_until(began + (number + 1) * SOUND_S)


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame whose last packet came: when (monotonic ns), of which layer, and how long that one waited in the link."""

    at_ns: int
    layer: str
    waited_ms: float


class Behind(Remote):
    """A viewer behind a link. What the link does is computed from when the kernel received a packet."""

    def __init__(self, ice: IceCredentials, server: Address, impairment: Impairment) -> None:
        super().__init__(ice, server)
        self.link = Link(impairment, seed=1)
        self.shown: list[Shown] = []
        self.heard: list[tuple[int, float]] = []  # when sound came out of the link, and how long it waited there (ms)
        self.octets: list[tuple[int, int]] = []  # when they came out of the link, and how many
        self.joined_ns = time.monotonic_ns()
        self.received_ns = 0  # when the newest packet left for the link
        self._arrived: dict[int, int] = {}
        self._next = -1
        self._highest = -1
        self._reports = 0

    async def connect(self, answer: str, nursery: trio.Nursery) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        await super().connect(answer, nursery)
        nursery.start_soon(self._report)

    async def _run(self) -> None:
        await self._apply(self.peer.start(time.monotonic_ns()))
        while True:
            with trio.move_on_after(max(0.0, (self.peer.deadline_ns() - time.monotonic_ns()) / 1e9)) as waiting:
                datagram, ancillary, _, _ = await self.socket.recvmsg(4096, 64)
            if waiting.cancelled_caught:
                await self._apply(self.peer.handle_timeout(time.monotonic_ns()))
            elif not 128 <= datagram[0] < 192:
                await self._apply(self.peer.receive_untrusted(datagram, time.monotonic_ns()))
            elif not 192 <= datagram[1] < 224:
                seconds, nanoseconds = struct.unpack_from("=qq", ancillary[0][2])
                received_ns = seconds * 1_000_000_000 + nanoseconds - (time.time_ns() - time.monotonic_ns())
                self._take(datagram, received_ns)

    def _take(self, datagram: bytes, received_ns: int) -> None:
        self.received_ns = received_ns
        data = self.rx.unprotect(datagram)
        packet = parse_rtp_untrusted(data)
        number = int.from_bytes(packet.header.extensions[TRANSPORT_CC_ID])
        number = self._highest + ((number - self._highest + 0x8000) & 0xFFFF) - 0x8000
        self._highest = max(self._highest, number)
        self._next = number if self._next < 0 else self._next
        out = self.link.enter(len(datagram), received_ns)
        if not out:
            return
        self._arrived[number] = out[0]
        self.octets.append((out[0], len(datagram)))
        waited_ms = (out[0] - received_ns) / 1e6 - self.link.impairment.delay_ms
        if packet.header.payload_type == 111:
            self.heard.append((out[0], waited_ms))
        if packet.header.payload_type == 96 and packet.header.marker:
            payload = data[packet.payload_start : packet.payload_end]
            self.shown.append(Shown(out[0], payload[-1:].decode(), waited_ms))

    async def _report(self) -> None:
        while True:
            await trio.sleep(REPORT_S)
            now_ns = time.monotonic_ns()
            come = [number for number, at_ns in self._arrived.items() if at_ns <= now_ns]
            if not come:
                continue
            arrivals = [self._arrived.get(number) for number in range(self._next, max(come) + 1)]
            arrivals = [None if at_ns is None or at_ns > now_ns else at_ns for at_ns in arrivals]
            template = Twcc(1, 1, 0, self._reports, 0, ())
            for report in twcc.reports(self._next & 0xFFFF, arrivals[-twcc.MAX_STATUSES :], template):
                self._reports = (report.feedback_count + 1) & 0xFF
                await self.socket.sendto(self.tx.protect_rtcp(build_rtcp(report)), self.server)
            self._next = max(come) + 1
            self._arrived = {number: at_ns for number, at_ns in self._arrived.items() if number >= self._next}

    def within(self, from_ns: int, seconds: float) -> list[Shown]:
        """Return what was shown in a stretch of time."""
        return [shown for shown in self.shown if from_ns <= shown.at_ns < from_ns + seconds * 1e9]

    def used_bps(self, from_ns: int, seconds: float) -> float:
        """Return what came through the link in a stretch of time."""
        return 8 * sum(size for at_ns, size in self.octets if from_ns <= at_ns < from_ns + seconds * 1e9) / seconds

    def longest_gap_ms(self, from_ns: int, seconds: float) -> float:
        """Return how long the picture stood at most."""
        times = [shown.at_ns for shown in self.within(from_ns, seconds)]
        edges = [from_ns, *times, from_ns + round(seconds * 1e9)]
        return max(later - earlier for earlier, later in pairwise(edges)) / 1e6


async def publish_paced(world: World, rates: dict[str, int], key_octets: int = 0) -> PacedSimulcast:
    remote, _ = await world.publish(layers=";".join(rates))
    publisher = PacedSimulcast(remote, rates, key_octets)
    world.nursery.start_soon(publisher.run)
    return publisher


async def watch_behind(world: World, impairment: Impairment) -> tuple[Behind, Negotiated]:
    remote = Behind(IceCredentials.random(), world.media.address, impairment)
    world.remotes.append(remote)
    offer = telling(write_offer(remote.ice, "recvonly"))
    negotiated = world.media.watch(world.room, "streamer", offer, Holding(Grant.WELCOME))
    assert f"a=extmap:{TRANSPORT_CC_ID} {TRANSPORT_CC}" in negotiated.answer_sdp
    await remote.connect(negotiated.answer_sdp, world.nursery)
    return remote, negotiated


def telling(offer: str) -> str:
    """Have an offer promise transport-wide feedback."""
    for payload_type in (96, 111):
        told = f"a=extmap:{TRANSPORT_CC_ID} {TRANSPORT_CC}\r\na=rtcp-fb:{payload_type} transport-cc\r\n"
        offer = offer.replace(f"a=rtpmap:{payload_type} ", f"{told}a=rtpmap:{payload_type} ")
    return offer


async def eventually(condition: Callable[[], bool], seconds: float) -> float:
    """Wait until a condition holds; returns how many seconds that took. Fails after `seconds`."""
    began = trio.current_time()
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  (the sockets under test have no event to wait for)
            await trio.sleep(0.01)
    return trio.current_time() - began
