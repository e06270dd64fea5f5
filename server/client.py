"""A WHIP and WHEP client: publishes RTP to a server, or receives it, as the demo streamer and the load tools do.

It speaks to any server that answers with its candidates (RFC 9725, draft-ietf-wish-whep-04): one offer, one answer, one
UDP socket on one address. VP8 and Opus are published; a viewer takes every codec that is forwarded here.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urljoin

import httpx2
import pylibsrtp
import trio

from media.webrtc.attributes import Setup
from media.webrtc.client import ClientPeer
from media.webrtc.data_channel import ChannelClosed, ChannelEvent, ChannelMessage
from media.webrtc.data_section import find_data
from media.webrtc.dtls import DtlsRole
from media.webrtc.events import Closed, PeerEvent, Secured, Transmit
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.sdp import MalformedSdp, parse_sdp_untrusted
from media.webrtc.srtp import SrtpKeys, open_receiver, open_sender
from media.wire.malformed import MalformedPacket
from media.wire.rtcp import Fir, Nack, Pli, RtcpPacket, SenderReport, build_rtcp, parse_rtcp_untrusted
from media.wire.rtp import RtpHeader, build_rtp
from server.offers import (
    AUDIO,
    CLOCK_RATES,
    REPAIRED,
    VIDEO,
    VIDEO_RTX,
    Kind,
    build_offer,
    certificate,
    choose_sources,
    with_data,
)

CONNECT_S = 15.0  # for the answer, ICE and DTLS together
REPORT_NS = 1_000_000_000  # between sender reports
REMEMBERED = 512  # packets that can be sent again: half a second of a keyframe-heavy stream
NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
CANDIDATE = re.compile(r"^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", re.MULTILINE | re.IGNORECASE)


TakeOver = Callable[["Endpoint", SrtpKeys], None]


class SessionFailed(Exception):
    """The server refused the session, or the media connection did not come about; the message says which and why.

    `status` is the HTTP status of a refusal, `code` the problem's code where the server gave one.
    """

    def __init__(self, detail: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


@dataclass(slots=True)
class _Sent:
    """One outgoing track: where its numbers are, and what can be sent again."""

    ssrc: int
    payload_type: int
    sequence_number: int = 0
    packets: int = 0
    octets: int = 0
    timestamp: int = 0
    at_ns: int = 0
    report_due_ns: int = 0
    kept: deque[tuple[int, RtpHeader, bytes]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class Endpoint:
    """One media connection on its own socket. `on_rtp` gets each decrypted packet and its arrival (monotonic ns).

    With `on_secured` set, whoever it calls takes over reading the socket there and then: `on_rtp` and `on_rtcp` get
    nothing, and what is not media must come back through `receive_control_untrusted` for the connection to live.
    """

    def __init__(self, ice: IceCredentials, answer: str, on_secured: TakeOver | None = None) -> None:
        description = parse_sdp_untrusted(answer)
        first = description.media[0]
        candidate = CANDIDATE.search(answer)
        if first.ice is None or candidate is None:
            raise SessionFailed("the answer has no candidate and no ICE credentials")
        self.answer = description
        self.server: Address = (candidate[1], int(candidate[2]))
        family = trio.socket.AF_INET6 if ":" in self.server[0] else trio.socket.AF_INET
        self.socket = trio.socket.socket(family, trio.socket.SOCK_DGRAM)
        found = find_data(description)
        self._peer = ClientPeer(
            certificate=certificate(),
            local=ice,
            remote=first.ice,
            fingerprints=first.fingerprints,
            # An answerer that took the active role begins the handshake (RFC 5763 section 5).
            dtls_role=DtlsRole.SERVER if first.setup is Setup.ACTIVE else DtlsRole.CLIENT,
            remote_address=self.server,
            now_ns=time.monotonic_ns(),
            data=None if found is None else found[1],
        )
        self._tx: pylibsrtp.Session | None = None
        self._rx: pylibsrtp.Session | None = None
        self._on_secured = on_secured
        self.session_url = ""  # where HTTP requests about the session go
        self.connected = trio.Event()
        self._finished = trio.Event()
        self.ended: str | None = None
        self.undecryptable = 0
        self.on_rtp: Callable[[bytes, int], None] = lambda packet, at_ns: None
        self.on_rtcp: Callable[[list[RtcpPacket]], None] = lambda packets: None
        self.on_channel: Callable[[ChannelEvent], None] = lambda event: None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection until the server ends it, which is no error: `ended` says why."""
        now_ns = time.monotonic_ns
        await self.socket.connect(self.server)
        self._apply(self._peer.start(now_ns()))
        task_status.started()
        while self.ended is None:
            wait_s = max(0.0, (self._peer.deadline_ns() - now_ns()) / 1e9)
            datagram = None
            with trio.move_on_after(wait_s):
                if self._on_secured is not None and self.connected.is_set():
                    await self._finished.wait()
                    continue
                try:
                    datagram = await self.socket.recv(65_536)
                except ConnectionRefusedError:
                    continue  # the server's port is closed for the moment; the peer's own deadlines judge
            if datagram is None:
                self._apply(self._peer.handle_timeout(now_ns()))
            elif 128 <= datagram[0] < 192:
                self._take_media(datagram, now_ns())
            else:
                self._apply(self._peer.receive_untrusted(datagram, now_ns()))

    def receive_control_untrusted(self, datagram: bytes) -> None:
        """Take a STUN or DTLS datagram from whoever reads the socket."""
        self._apply(self._peer.receive_untrusted(datagram, time.monotonic_ns()))

    def send_rtp(self, packet: bytes) -> None:
        """Protect and send a packet."""
        if self._tx is not None:
            self._send(self._tx.protect(packet))

    def send_rtcp(self, *packets: RtcpPacket) -> None:
        """Protect and send control packets."""
        if self._tx is not None:
            self._send(self._tx.protect_rtcp(build_rtcp(*packets)))

    def open_channel(self, label: str, stream: int | None = None) -> None:
        """Open a data channel; `on_channel` gets what is said on it, and its end."""
        self._apply(self._peer.open_channel(label, time.monotonic_ns(), stream))

    def say(self, text: bytes, stream: int | None = None) -> None:
        """Send text on a data channel, by default the first."""
        self._apply(self._peer.send_message(text, time.monotonic_ns(), stream))

    def restart_ice(self, local: IceCredentials, remote: IceCredentials) -> None:
        """Go on under credentials that were exchanged anew."""
        self._apply(self._peer.restart_ice(local, remote, time.monotonic_ns()))

    def close(self) -> None:
        """Say goodbye."""
        self._apply(self._peer.close())
        self._end("closed")

    def _take_media(self, datagram: bytes, at_ns: int) -> None:
        if self._rx is None:
            return
        try:
            if 192 <= datagram[1] < 224:
                self.on_rtcp(parse_rtcp_untrusted(self._rx.unprotect_rtcp(datagram)))
            else:
                self.on_rtp(self._rx.unprotect(datagram), at_ns)
        except (pylibsrtp.Error, MalformedPacket):
            self.undecryptable += 1

    def _apply(self, events: list[PeerEvent]) -> None:
        for event in events:
            if isinstance(event, Transmit):
                self._send(event.datagram)
            elif isinstance(event, Secured):
                self._tx, self._rx = open_sender(event.keys), open_receiver(event.keys)
                if self._on_secured is not None:
                    self._on_secured(self, event.keys)
                self.connected.set()
            elif isinstance(event, ChannelMessage | ChannelClosed):
                self.on_channel(event)
            elif isinstance(event, Closed):
                self._end(event.reason.value)

    def _end(self, reason: str) -> None:
        self.ended = self.ended or reason
        self._finished.set()

    def _send(self, datagram: bytes) -> None:
        # UDP may drop, and a full socket buffer is one way to.
        try:
            os.write(self.socket.fileno(), datagram)
        except (BlockingIOError, ConnectionRefusedError):
            pass
        except OSError:
            if self.ended is None:
                raise


class Publisher:
    """A WHIP session; `keyframe_wanted` is set when the server asks for one, and cleared by whoever makes it."""

    def __init__(self, endpoint: Endpoint, ssrcs: dict[Kind, int], rtx_ssrc: int) -> None:
        self.endpoint = endpoint
        self.keyframe_wanted = False
        self._tracks = {kind: _Sent(ssrc, VIDEO if kind == "video" else AUDIO) for kind, ssrc in ssrcs.items()}
        self._rtx = _Sent(rtx_ssrc, VIDEO_RTX)
        endpoint.on_rtcp = self._listen

    def send(self, kind: Kind, payload: bytes, *, timestamp: int, marker: bool, at_ns: int) -> None:
        """Send one payload; `at_ns` is the monotonic time that its timestamp stands for."""
        track = self._tracks[kind]
        header = RtpHeader(track.payload_type, track.sequence_number, timestamp, track.ssrc, marker)
        self.endpoint.send_rtp(build_rtp(header, payload))
        if kind == "video":
            track.kept.append((track.sequence_number, header, payload))
        track.sequence_number = track.sequence_number + 1 & 0xFFFF
        track.packets, track.octets = track.packets + 1, track.octets + len(payload)
        track.timestamp, track.at_ns = timestamp, at_ns
        if at_ns >= track.report_due_ns:
            track.report_due_ns = at_ns + REPORT_NS
            self._report(kind, track)

    def _report(self, kind: Kind, track: _Sent) -> None:
        now_ns = time.monotonic_ns()
        wall_ns = time.time_ns()
        ahead = (now_ns - track.at_ns) * CLOCK_RATES[kind] // 1_000_000_000
        ntp = (wall_ns // 1_000_000_000 + NTP_EPOCH_S << 32) + ((wall_ns % 1_000_000_000) << 32) // 1_000_000_000
        self.endpoint.send_rtcp(
            SenderReport(track.ssrc, ntp, track.timestamp + ahead & 0xFFFFFFFF, track.packets, track.octets)
        )

    def _listen(self, packets: list[RtcpPacket]) -> None:
        for packet in packets:
            if isinstance(packet, Pli | Fir):
                self.keyframe_wanted = True
            elif isinstance(packet, Nack):
                self._repeat(set(packet.sequence_numbers))

    def _repeat(self, wanted: set[int]) -> None:
        for number, header, payload in self._tracks["video"].kept if "video" in self._tracks else ():
            if number in wanted:
                again = RtpHeader(VIDEO_RTX, self._rtx.sequence_number, header.timestamp, self._rtx.ssrc, header.marker)
                self._rtx.sequence_number = self._rtx.sequence_number + 1 & 0xFFFF
                self.endpoint.send_rtp(build_rtp(again, number.to_bytes(2) + payload))


@asynccontextmanager
async def publish(http: httpx2.AsyncClient, url: str, token: str, kinds: tuple[Kind, ...]) -> AsyncIterator[Publisher]:
    """Publish to a WHIP endpoint for as long as the body runs. Raises SessionFailed."""
    ice = IceCredentials.random()
    ssrcs, rtx_ssrc = choose_sources(ice, kinds)
    offer = build_offer(ice, "sendonly", kinds, ssrcs, rtx_ssrc)
    async with open_session(http, url, token, ice, offer) as endpoint:
        publisher = Publisher(endpoint, ssrcs, rtx_ssrc)
        yield publisher


@asynccontextmanager
async def watch(
    http: httpx2.AsyncClient,
    url: str,
    token: str,
    kinds: tuple[Kind, ...] = ("audio", "video"),
    on_rtp: Callable[[bytes, int], None] = lambda packet, at_ns: None,
    *,
    on_secured: TakeOver | None = None,
    tells_arrivals: bool = False,
    offers_data: bool = False,
) -> AsyncIterator[Endpoint]:
    """Watch a WHEP endpoint for as long as the body runs; `on_secured` as of Endpoint. Raises SessionFailed.

    With `tells_arrivals` packets carry transport-wide numbers, and whoever takes them must send the feedback. With
    `offers_data` data channels can be opened.
    """
    ice = IceCredentials.random()
    offer = build_offer(ice, "recvonly", kinds, {}, 0, (*REPAIRED, "transport-cc") if tells_arrivals else REPAIRED)
    offer = with_data(offer, ice) if offers_data else offer
    async with open_session(http, url, token, ice, offer, on_rtp, on_secured) as endpoint:
        yield endpoint


@asynccontextmanager
async def open_session(
    http: httpx2.AsyncClient,
    url: str,
    token: str,
    ice: IceCredentials,
    offer: str,
    on_rtp: Callable[[bytes, int], None] = lambda packet, at_ns: None,
    on_secured: TakeOver | None = None,
) -> AsyncIterator[Endpoint]:
    """Send an offer over HTTP and keep the session for as long as the body runs. Raises SessionFailed."""
    with trio.move_on_after(CONNECT_S) as patience:
        answer, location = await _negotiate(http, url, token, offer)
    if patience.cancelled_caught:
        raise SessionFailed(f"{url} did not answer within {CONNECT_S:.0f} s")
    try:
        endpoint = Endpoint(ice, answer, on_secured)
    except MalformedSdp as fault:
        raise SessionFailed(f"the server's answer does not parse: {fault}") from fault
    endpoint.on_rtp, endpoint.session_url = on_rtp, location

    async def say_goodbye() -> None:
        await _delete(http, location, token)

    async with keep(endpoint, say_goodbye):
        yield endpoint


@asynccontextmanager
async def keep(endpoint: Endpoint, say_goodbye: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Connect, and stay connected for as long as the body runs. Raises SessionFailed."""
    failure: SessionFailed | None = None
    # The socket outlives the task that reads it: the goodbye is said through it, also when all is cancelled.
    with endpoint.socket:
        async with trio.open_nursery() as nursery:
            await nursery.start(endpoint.run)
            with trio.move_on_after(CONNECT_S) as patience:
                await endpoint.connected.wait()
            try:
                if patience.cancelled_caught:
                    failure = SessionFailed(
                        f"no media connection to {endpoint.server}: {endpoint.ended or 'no answer'}"
                    )
                else:
                    yield
            finally:
                endpoint.close()
                with trio.move_on_after(2, shield=True):
                    await say_goodbye()
                nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _negotiate(http: httpx2.AsyncClient, url: str, token: str, offer: str) -> tuple[str, str]:
    try:
        response = await http.post(url, content=offer, headers={**_bearer(token), "Content-Type": "application/sdp"})
    except httpx2.HTTPError as error:
        raise SessionFailed(f"{url} can't be reached: {error}") from error
    if response.status_code != 201:
        raise _refusal(url, response)
    return response.text, urljoin(url, response.headers.get("Location", ""))


def _refusal(url: str, response: httpx2.Response) -> SessionFailed:
    try:
        problem = response.json()
        return SessionFailed(f"{url}: {problem['detail']} ({problem['code']})", response.status_code, problem["code"])
    except (ValueError, KeyError, TypeError):
        return SessionFailed(f"{url} answered {response.status_code}", response.status_code)


async def _delete(http: httpx2.AsyncClient, location: str, token: str) -> None:
    try:
        await http.delete(location, headers=_bearer(token))
    except httpx2.HTTPError:
        return  # the server forgets it by itself


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
