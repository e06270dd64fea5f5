"""A viewer behind a bad network that answers as Chromium does, and remembers when pictures were there to be shown.

It tells when each packet arrived (transport-wide feedback), asks for what is missing until it comes, and for a keyframe
when it does not. A picture can be shown when it and all since the last keyframe have come whole.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urljoin

import httpx2
import trio

from bench.impairment import Impairment, Link, Relay, relay
from bench.payload import DESCRIPTOR_SIZE, FRAME_HEADER_SIZE, KEY, STAMP
from media.webrtc.ice import IceCredentials
from media.wire import twcc
from media.wire.rtcp import Nack, Pli
from media.wire.rtp import parse_rtp_untrusted
from media.wire.twcc import Twcc
from server.client import Endpoint, SessionFailed, keep
from server.offers import AUDIO, REPAIRED, TRANSPORT_CC_ID, build_offer

CANDIDATE = re.compile(r"127\.0\.0\.1 (\d+) typ host(?! tcptype)")
STARTS = 0x10  # in the descriptor's first octet: a frame begins here (RFC 7741 section 4.2)
REPORT_S = 0.05  # libwebrtc reports 20 times a second where there is room for it
LOOK_S = 0.005
ASK_AGAIN_S, MOST_ASKED = 0.06, 10  # libwebrtc: after a round trip, and ten times
LOST_S = 0.5  # what is missing for so long is given up, and a keyframe asked for
TAG = 16  # octets of AES-GCM's, by which a packet was longer on its way


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that could be shown: when (monotonic ns), of which layer, and how late its last packet was (ms)."""

    at_ns: int
    layer: int
    late_ms: float


@dataclass(slots=True)
class _Packet:
    layer: int
    marker: bool
    late_ms: float


@dataclass(slots=True)
class _Missing:
    since_ns: int
    asked_ns: int = 0
    times: int = 0


@dataclass(slots=True)
class NetworkViewer:
    """One viewer; `run` it in a nursery. `way` is what its network is like, and may be changed with `become`."""

    url: str
    token: str
    way: Impairment
    seed: int = 1
    shown: list[Shown] = field(default_factory=list)
    octets: list[tuple[int, int]] = field(default_factory=list)  # when they came, and how many
    lost: set[int] = field(default_factory=set)  # pictures' packets, by number, that were missing behind later ones
    repaired: int = 0  # of them, those that came after all
    needless: int = 0  # and those that a keyframe overtook before they were given up, so that nobody missed them
    keyframes_asked: int = 0
    joined_ns: int = 0
    _relay: Relay | None = None
    _endpoint: Endpoint | None = None
    _ssrc: int = 0
    _arrived: dict[int, int] = field(default_factory=dict)
    _reported: int = -1
    _reports: int = 0
    _numbered: int = -1
    _packets: dict[int, _Packet] = field(default_factory=dict)
    _missing: dict[int, _Missing] = field(default_factory=dict)
    _next: int = -1  # the first packet of a picture that was not shown
    _highest: int = -1
    _asked_ns: int = 0
    _came_ns: int | None = None  # when the first packet of a picture came
    _keys: list[int] = field(default_factory=list)  # where keyframes begin that may yet be shown

    def become(self, way: Impairment) -> None:
        """Have the network towards the viewer be like this from now on."""
        self.way = way
        if self._relay is not None:
            self._relay.down = Link(way, self.seed)

    async def run(
        self, http: httpx2.AsyncClient, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Watch until cancelled; reports when connected. Raises SessionFailed."""
        ice = IceCredentials.random()
        self.joined_ns = time.monotonic_ns()
        offer = build_offer(ice, "recvonly", ("audio", "video"), {}, 0, (*REPAIRED, "transport-cc"))
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/sdp"}
        response = await http.post(self.url, content=offer, headers=headers)
        candidate = CANDIDATE.search(response.text)
        if response.status_code != 201 or candidate is None:
            raise SessionFailed(f"{self.url} answered {response.status_code}", response.status_code)
        session = urljoin(self.url, response.headers["Location"])

        async def say_goodbye() -> None:
            await http.delete(session, headers=headers)

        up = Impairment(delay_ms=self.way.delay_ms)
        async with relay(("127.0.0.1", int(candidate[1])), up, self.way, seed=self.seed) as self._relay:
            answer = CANDIDATE.sub(f"127.0.0.1 {self._relay.address[1]} typ host", response.text)
            self._endpoint = Endpoint(ice, answer)
            self._endpoint.on_rtp = self._take
            async with keep(self._endpoint, say_goodbye), trio.open_nursery() as nursery:
                nursery.start_soon(self._report)
                nursery.start_soon(self._ask)
                task_status.started()

    # -- what comes ----------------------------------------------------------------------------------------------------

    def _take(self, packet: bytes, at_ns: int) -> None:
        parsed = parse_rtp_untrusted(packet)
        header, payload = parsed.header, packet[parsed.payload_start : parsed.payload_end]
        self.octets.append((at_ns, len(packet) + TAG))
        if (number := header.extensions.get(TRANSPORT_CC_ID)) is not None:
            self._numbered = _unwrapped(int.from_bytes(number), self._numbered)
            self._arrived[self._numbered] = at_ns
            self._reported = self._numbered if self._reported < 0 else self._reported
        if header.payload_type == AUDIO or not payload:
            return
        is_repair = header.payload_type % 2 == 1  # as the offer has them
        if not is_repair:
            self._ssrc, self._came_ns = header.ssrc, at_ns if self._came_ns is None else self._came_ns
        seq = int.from_bytes(payload[:2]) if is_repair else header.sequence_number
        self._hold(_unwrapped(seq, self._highest), payload[2:] if is_repair else payload, header.marker, at_ns)

    def _hold(self, seq: int, payload: bytes, marker: bool, at_ns: int) -> None:
        begins = bool(payload) and bool(payload[0] & STARTS)
        stamp_at = DESCRIPTOR_SIZE + (FRAME_HEADER_SIZE if begins else 0)
        if len(payload) < stamp_at + STAMP.size or seq in self._packets or seq < self._next:
            return  # nothing in it, or a second time
        _, layer, flags, index, _, _, _, _, sent_ns = STAMP.unpack_from(payload, stamp_at)
        is_key = begins and index == 0 and bool(flags & KEY)
        self._packets[seq] = _Packet(layer, marker, (time.time_ns() - sent_ns) / 1e6)
        if self._highest >= 0:
            for missing in range(self._highest + 1, seq):
                self._missing[missing] = _Missing(at_ns)
                self.lost.add(missing)
        self._highest = max(self._highest, seq)
        self.repaired += self._missing.pop(seq, None) is not None
        if is_key:
            self._keys.append(seq)
        self._show(at_ns)

    def _gave_up(self, at_ns: int) -> bool:
        """Whether what the next picture lacks is missing for too long; of the first one that is its beginning."""
        missing = self._missing.get(self._next)
        began_ns = self._came_ns if self._next < 0 else None
        since_ns = began_ns if missing is None else missing.since_ns
        return since_ns is not None and at_ns - since_ns > LOST_S * 1e9

    def _begin_at(self, seq: int) -> None:
        self._next = seq
        self._packets = {number: packet for number, packet in self._packets.items() if number >= seq}
        self._missing = {number: missing for number, missing in self._missing.items() if number > seq}
        self._keys = [number for number in self._keys if number > seq]

    def _show(self, at_ns: int) -> None:
        """Show what is whole; a whole keyframe also where something before it is missing, as decoders do."""
        self._show_next(at_ns)
        for key in self._keys:
            if key > self._next and self._is_whole(key):
                if self._next >= 0 and not self._gave_up(at_ns):
                    self.needless += sum(number < key for number in self._missing)
                self._begin_at(key)
                self._show_next(at_ns)
                return

    def _is_whole(self, seq: int) -> bool:
        while (packet := self._packets.get(seq)) is not None:
            if packet.marker:
                return True
            seq += 1
        return False

    def _show_next(self, at_ns: int) -> None:
        while (packet := self._packets.get(self._next)) is not None:
            del self._packets[self._next]
            self._next += 1
            if packet.marker:
                self.shown.append(Shown(at_ns, packet.layer, packet.late_ms))

    # -- what is told --------------------------------------------------------------------------------------------------

    async def _report(self) -> None:
        assert self._endpoint is not None
        while True:
            await trio.sleep(REPORT_S)
            if not self._arrived:
                continue
            newest = max(max(self._arrived), self._reported - 1)  # what was reported missing stays so
            arrivals = [self._arrived.get(number) for number in range(self._reported, newest + 1)]
            template = Twcc(1, 1, 0, self._reports, 0, ())
            for report in twcc.reports(self._reported & 0xFFFF, arrivals[-twcc.MAX_STATUSES :], template):
                self._reports = (report.feedback_count + 1) & 0xFF
                self._endpoint.send_rtcp(report)
            self._reported, self._arrived = newest + 1, {}

    async def _ask(self) -> None:
        assert self._endpoint is not None
        while True:
            await trio.sleep(LOOK_S)
            now_ns = time.monotonic_ns()
            due = [
                (number, missing)
                for number, missing in self._missing.items()
                if missing.times < MOST_ASKED and now_ns - missing.asked_ns > ASK_AGAIN_S * 1e9
            ]
            for _, missing in due:
                missing.asked_ns, missing.times = now_ns, missing.times + 1
            if due:
                numbers = tuple(number & 0xFFFF for number, _ in due)
                self._endpoint.send_rtcp(Nack(1, self._ssrc, numbers))
            if self._gave_up(now_ns) and now_ns - self._asked_ns > LOST_S * 1e9:
                self._asked_ns = now_ns
                self.keyframes_asked += 1
                self._endpoint.send_rtcp(Pli(1, self._ssrc))

    # -- what became of it ---------------------------------------------------------------------------------------------

    def within(self, from_ns: int, to_ns: int) -> list[Shown]:
        """Return what could be shown in a stretch of time (monotonic ns)."""
        return [shown for shown in self.shown if from_ns <= shown.at_ns < to_ns]

    def longest_freeze_ms(self, from_ns: int, to_ns: int) -> float:
        """Return how long the picture stood at most."""
        edges = [from_ns, *(shown.at_ns for shown in self.within(from_ns, to_ns)), to_ns]
        return max(later - earlier for earlier, later in pairwise(edges)) / 1e6

    def used_bps(self, from_ns: int, to_ns: int) -> float:
        """Return how many bits a second came, of all kinds, as long as they were on their way."""
        return 8e9 * sum(size for at_ns, size in self.octets if from_ns <= at_ns < to_ns) / (to_ns - from_ns)

    @property
    def unrepaired(self) -> int:
        """How many packets that were lost and needed never came; those that may still come are not among them."""
        recent_ns = time.monotonic_ns() - LOST_S * 1e9
        waited_for = sum(one.since_ns > recent_ns for one in self._missing.values())
        return len(self.lost) - self.repaired - self.needless - waited_for


def _unwrapped(number: int, highest: int) -> int:
    return number if highest < 0 else highest + ((number - highest + 0x8000) & 0xFFFF) - 0x8000
