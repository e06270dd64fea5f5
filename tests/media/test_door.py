"""The whole of media through its door: real sockets, ICE, DTLS and SRTP on both sides, offer to decrypted packet."""

from __future__ import annotations

import heapq
import math
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio

from media.door import (
    Connected,
    Disconnected,
    Flowing,
    Media,
    MediaSettings,
    Negotiated,
    NoSource,
    RoomRow,
    TransportId,
)
from media.forwarding.admission import NOTHING, Grant, Holding
from media.forwarding.forwarder import Limits
from media.webrtc.certificate import RENEWED_NS, Certificate
from media.webrtc.client import ClientPeer
from media.webrtc.dtls import DtlsRole, Fingerprint
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.negotiation import OfferRejected
from media.webrtc.peer import PeerEvent, Secured, Transmit
from media.webrtc.sdp import MalformedSdp
from media.webrtc.srtp import open_receiver, open_sender
from media.wire.rtcp import Nack, parse_rtcp_untrusted
from media.wire.rtp import RtpHeader, build_rtp
from tests.media.test_peer import a_check

CERTIFICATE = Certificate.self_made()
KEY, DELTA = b"\x10\x00", b"\x10\x01"
LIMITS = Limits(rooms=8, transports=64, tracks=16, subscriptions=128)


RID_ID = 4


def write_offer(ice: IceCredentials, direction: str, *, video: str = "VP8", layers: str = "") -> str:
    """Write an offer of sound and picture; `layers` are the names of simulcast, as in `a=simulcast:send`."""
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
    ]
    for mid, kind, formats, maps in (
        (0, "audio", "111", ["111 opus/48000/2"]),
        (1, "video", "96 97", [f"96 {video}/90000", "97 rtx/90000"]),
    ):
        lines += [f"m={kind} 9 UDP/TLS/RTP/SAVPF {formats}", "c=IN IP4 0.0.0.0", f"a=mid:{mid}", f"a={direction}"]
        lines += ["a=rtcp-mux", "a=setup:actpass", f"a=ice-ufrag:{ice.ufrag}", f"a=ice-pwd:{ice.password}"]
        lines += [f"a=fingerprint:sha-256 {CERTIFICATE.fingerprint}", *(f"a=rtpmap:{line}" for line in maps)]
        lines += [f"a=msid:s {kind}"]
        if kind == "video":
            lines += ["a=fmtp:97 apt=96", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli"]
        if kind == "video" and layers:
            lines += [f"a=extmap:{RID_ID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"]
            lines += [*(f"a=rid:{name} send" for name in layers.split(";")), f"a=simulcast:send {layers}"]
    return "\r\n".join(lines) + "\r\n"


def attribute(sdp: str, name: str) -> str:
    return next(line.split(":", 1)[1] for line in sdp.splitlines() if line.startswith(f"a={name}:"))


class Remote:
    """A real client of the door: one UDP socket with a ClientPeer on it."""

    def __init__(self, ice: IceCredentials, server: Address) -> None:
        self.ice, self.server = ice, server
        self.socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.secured = trio.Event()
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []

    async def connect(self, answer: str, nursery: trio.Nursery) -> None:
        await self.socket.bind(("127.0.0.1", 0))
        algorithm, value = attribute(answer, "fingerprint").split()
        self.peer = ClientPeer(
            certificate=CERTIFICATE,
            local=self.ice,
            remote=IceCredentials(attribute(answer, "ice-ufrag"), attribute(answer, "ice-pwd")),
            fingerprints=[Fingerprint(algorithm, bytes.fromhex(value.replace(":", "")))],
            dtls_role=DtlsRole.CLIENT,
            remote_address=self.server,
            now_ns=time.monotonic_ns(),
        )
        nursery.start_soon(self._run)
        await self.secured.wait()

    async def _run(self) -> None:
        await self._apply(self.peer.start(time.monotonic_ns()))
        while True:
            with trio.move_on_after(max(0.0, (self.peer.deadline_ns() - time.monotonic_ns()) / 1e9)) as waiting:
                datagram = await self.socket.recv(4096)
            if waiting.cancelled_caught:
                await self._apply(self.peer.handle_timeout(time.monotonic_ns()))
            elif 128 <= datagram[0] < 192:
                rtcp = 192 <= datagram[1] < 224
                unprotect = self.rx.unprotect_rtcp if rtcp else self.rx.unprotect
                (self.rtcp if rtcp else self.rtp).append(unprotect(datagram))
            else:
                await self._apply(self.peer.receive_untrusted(datagram, time.monotonic_ns()))

    async def _apply(self, events: list[PeerEvent]) -> None:
        for event in events:
            if isinstance(event, Transmit):
                await self.socket.sendto(event.datagram, event.destination)
            elif isinstance(event, Secured):
                self.tx, self.rx = open_sender(event.keys), open_receiver(event.keys)
                self.secured.set()

    async def close(self) -> None:
        await self._apply(self.peer.close())

    async def send(self, seq: int, payload: bytes, *, pt: int = 96, ssrc: int = 5, rid: str = "") -> None:
        extensions = {RID_ID: rid.encode()} if rid else {}
        header = RtpHeader(pt, seq & 0xFFFF, 3000 * seq & 0xFFFFFFFF, ssrc, extensions=extensions)
        await self.socket.sendto(self.tx.protect(build_rtp(header, payload)), self.server)


class World:
    def __init__(self, media: Media, nursery: trio.Nursery) -> None:
        self.media, self.nursery = media, nursery
        self.room: RoomRow = media.open_room(Grant.WELCOME)
        self.facts: list[object] = []
        self.remotes: list[Remote] = []

    def remote(self) -> Remote:
        self.remotes.append(Remote(IceCredentials.random(), self.media.address))
        return self.remotes[-1]

    async def listen(self) -> None:
        async for fact in self.media.events:
            self.facts.append(fact)

    async def publish(self, source: str = "streamer", **options: str) -> tuple[Remote, Negotiated]:
        remote = self.remote()
        negotiated = self.media.publish(self.room, source, write_offer(remote.ice, "sendonly", **options))
        await remote.connect(negotiated.answer_sdp, self.nursery)
        return remote, negotiated

    async def watch(self, holding: Holding | None = None) -> tuple[Remote, Negotiated]:
        remote = self.remote()
        given = holding or Holding(Grant.WELCOME)
        negotiated = self.media.watch(self.room, "streamer", write_offer(remote.ice, "recvonly"), given)
        await remote.connect(negotiated.answer_sdp, self.nursery)
        return remote, negotiated

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(5):
            # The sockets under test have no event to wait for.
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.005)


@asynccontextmanager
async def open_world(kind: type[World] = World, workers: int = 1) -> AsyncIterator[World]:
    with ExitStack() as sockets:  # closed after the tasks that read them
        async with trio.open_nursery() as nursery:
            media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS, workers=workers))
            await nursery.start(lambda task_status: media.run(task_status=task_status))
            world = kind(media, nursery)
            nursery.start_soon(world.listen)
            sockets.callback(lambda: [remote.socket.close() for remote in world.remotes])
            try:
                yield world
            finally:
                nursery.cancel_scope.cancel()


async def test_from_offer_to_decrypted_packets_at_three_viewers() -> None:
    async with open_world() as world:
        publisher, published = await world.publish()
        viewers = [(await world.watch())[0] for _ in range(3)]
        for seq in range(20):
            await publisher.send(seq, (KEY if seq == 0 else DELTA) + bytes([seq]))
            await publisher.send(seq, b"opus", pt=111, ssrc=6)
        for viewer in viewers:
            await world.until(lambda viewer=viewer: len(viewer.rtp) >= 40)
            video = [packet for packet in viewer.rtp if packet[12:] != b"opus"]
            assert [packet[14] for packet in video] == list(range(20))
        await world.until(lambda: Flowing(published.transport) in world.facts)
        assert world.facts.index(Connected(published.transport)) < world.facts.index(Flowing(published.transport))


async def test_a_viewer_without_a_publisher_is_told_so() -> None:
    async with open_world() as world:
        with pytest.raises(NoSource):
            await world.watch()


async def test_a_viewer_in_another_codec_and_a_broken_offer_are_refused_and_leave_nothing_behind() -> None:
    async with open_world() as world:
        await world.publish()
        offer = write_offer(IceCredentials.random(), "recvonly")
        before = world.media.counters()["transports"]
        no_vp8 = offer.replace("VP8", "H265").replace("opus", "PCMX")
        with pytest.raises(OfferRejected) as caught:
            world.media.watch(world.room, "streamer", no_vp8, Holding(Grant.WELCOME))
        assert caught.value.reason == "no_common_codec"
        with pytest.raises(MalformedSdp):
            world.media.watch(world.room, "streamer", "v=0\r\nnonsense", Holding(Grant.WELCOME))
        assert world.media.counters()["transports"] == before


async def test_after_the_fence_a_viewer_who_lost_the_right_gets_nothing_and_gets_it_back() -> None:
    async with open_world() as world:
        publisher, _ = await world.publish()
        viewer, watched = await world.watch()
        await publisher.send(0, KEY)
        await world.until(lambda: viewer.rtp)
        world.media.hold(watched.transport, Holding(NOTHING))
        await world.media.fence()
        await trio.sleep(0.01)
        viewer.rtp.clear()
        for seq in range(1, 20):
            await publisher.send(seq, KEY)
        await world.media.fence()
        await world.media.fence()
        await trio.sleep(0.02)
        assert viewer.rtp == []
        world.media.hold(watched.transport, Holding(Grant.WELCOME))
        await publisher.send(20, KEY)
        await world.until(lambda: viewer.rtp)


async def test_a_closed_transport_is_reported_once_and_its_client_gets_nothing_more() -> None:
    async with open_world() as world:
        publisher, _ = await world.publish()
        viewer, watched = await world.watch()
        world.media.close(watched.transport, "access_revoked")
        world.media.close(watched.transport, "again")
        await world.until(lambda: Disconnected(watched.transport, "access_revoked") in world.facts)
        await world.media.fence()
        await publisher.send(0, KEY)
        await world.media.fence()
        await trio.sleep(0.02)
        assert viewer.rtp == []
        assert sum(isinstance(fact, Disconnected) for fact in world.facts) == 1


async def test_a_client_that_says_goodbye_is_gone_at_once() -> None:
    async with open_world() as world:
        await world.publish()
        viewer, watched = await world.watch()
        await viewer.close()
        await world.until(lambda: Disconnected(watched.transport, "closed_by_peer") in world.facts)


async def test_a_publisher_that_comes_back_takes_over_and_viewers_go_on() -> None:
    async with open_world() as world:
        first, _ = await world.publish()
        viewer, _ = await world.watch()
        await first.send(0, KEY + b"1")
        await world.until(lambda: viewer.rtp)
        second, _ = await world.publish()
        await second.send(30_000, KEY + b"2", ssrc=77)
        await world.until(lambda: len(viewer.rtp) == 2)
        seqs = [int.from_bytes(packet[2:4]) for packet in viewer.rtp]
        assert seqs[1] == seqs[0] + 1


async def test_viewers_go_on_when_the_publisher_returns_in_stereo_and_not_in_another_codec() -> None:
    async with open_world() as world:
        await world.publish()
        viewer, _ = await world.watch()
        stereo = "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 stereo=1;sprop-stereo=1"
        second = world.remote()
        offer = write_offer(second.ice, "sendonly").replace("a=rtpmap:111 opus/48000/2", stereo)
        negotiated = world.media.publish(world.room, "streamer", offer)
        assert "stereo=1" in negotiated.answer_sdp
        await second.connect(negotiated.answer_sdp, world.nursery)
        await second.send(7, KEY)
        await world.until(lambda: viewer.rtp)
        _, late = await world.watch()
        assert "stereo=1" in late.answer_sdp
        world.media.publish(world.room, "streamer", write_offer(world.remote().ice, "sendonly", video="VP9"))
        await world.until(lambda: [fact for fact in world.facts if isinstance(fact, Disconnected)])
        assert {fact.reason for fact in world.facts if isinstance(fact, Disconnected)} == {"codec_changed"}


async def test_a_new_session_after_a_day_gets_a_new_certificate_and_an_old_one_keeps_its_own() -> None:
    async with open_world() as world:
        remote = world.remote()
        promised = world.media.publish(world.room, "streamer", write_offer(remote.ice, "sendonly"))
        _, same = await world.watch()
        world.media._endpoints.certificates._made_ns -= RENEWED_NS
        _, renewed = await world.watch()
        shown = [attribute(answer.answer_sdp, "fingerprint") for answer in (promised, same, renewed)]
        assert shown[0] == shown[1] != shown[2]
        await remote.connect(promised.answer_sdp, world.nursery)
        await remote.send(0, KEY)


def fault_in_the_engine(world: World, transport: TransportId) -> None:
    peer = world.media._endpoints.by_id[transport].peer
    peer.receive_untrusted = peer.close = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]


def fault_in_its_time(world: World, transport: TransportId) -> None:
    endpoint = world.media._endpoints.by_id[transport]
    endpoint.peer.deadline_ns = lambda: 1 // 0  # type: ignore[method-assign]
    heapq.heappush(world.media._endpoints.timers, (endpoint.timer_ns - 10**12, transport))
    endpoint.timer_ns -= 10**12
    world.media._timer_moved.set()


def fault_in_its_feedback(world: World, transport: TransportId) -> None:
    row = world.media._endpoints.by_id[transport].row
    world.media._feedback.limit(row, math.nan)
    world.media._timer_moved.set()


@pytest.mark.parametrize("fault", [fault_in_the_engine, fault_in_its_time, fault_in_its_feedback])
async def test_a_fault_in_one_transport_ends_it_and_nothing_else(fault: Callable[[World, TransportId], None]) -> None:
    async with open_world() as world:
        publisher, _ = await world.publish()
        viewer, _ = await world.watch()
        unlucky, negotiated = await world.publish("guest")
        await unlucky.send(0, KEY)
        fault(world, negotiated.transport)
        await unlucky.socket.sendto(bytes(20), world.media.address)  # looks like STUN: for the engine
        await world.until(lambda: Disconnected(negotiated.transport, "internal_error") in world.facts)
        assert world.media.counters()["transports"] == 2
        assert world.media.faults >= 1
        for seq in range(10):
            await publisher.send(seq, KEY)
        await world.until(lambda: len(viewer.rtp) == 10)
        assert sum(isinstance(fact, Disconnected) for fact in world.facts) == 1


async def test_a_keyframe_is_asked_of_the_publisher_and_arrivals_are_reported_to_it() -> None:
    async with open_world() as world:
        publisher, _ = await world.publish()
        await publisher.send(0, DELTA)
        await world.watch()
        await publisher.send(1, DELTA)
        pli = struct.pack("!BB", 0x81, 206)
        await world.until(lambda: any(pli in packet for packet in publisher.rtcp))


async def test_a_publisher_is_asked_again_for_what_did_not_come() -> None:
    async with open_world() as world:
        publisher, _ = await world.publish()
        for seq in (0, 1, 2, 5, 6, 7, 8):
            await publisher.send(seq, DELTA if seq else KEY)

        def asked() -> set[int]:
            packets = (packet for rtcp in publisher.rtcp for packet in parse_rtcp_untrusted(rtcp))
            return {seq for packet in packets if isinstance(packet, Nack) for seq in packet.sequence_numbers}

        await world.until(lambda: asked() == {3, 4})


async def test_an_ice_restart_answers_with_fresh_credentials() -> None:
    async with open_world() as world:
        await world.publish()
        _, watched = await world.watch()
        fresh = IceCredentials.random()
        etag, fragment = world.media.restart_ice(
            watched.transport, f"a=ice-ufrag:{fresh.ufrag}\r\na=ice-pwd:{fresh.password}\r\n"
        )
        assert attribute(fragment, "ice-ufrag") == etag.strip('"')
        assert etag != watched.etag


async def test_a_viewer_that_changes_its_address_goes_on_where_it_is_now() -> None:
    async with open_world() as world:
        publisher, _ = await world.publish()
        viewer, negotiated = await world.watch()
        await publisher.send(0, KEY)
        await world.until(lambda: len(viewer.rtp) == 1)
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as moved:
            await moved.bind(("127.0.0.1", 0))
            peer = world.media._endpoints.by_id[negotiated.transport].peer
            await moved.sendto(a_check(peer, nominates=True), world.media.address)
            answer = await moved.recv(2048)
            assert answer[0] < 4
            await publisher.send(1, KEY)
            with trio.fail_after(5):
                packet = viewer.rx.unprotect(await moved.recv(2048))
        first, second = (int.from_bytes(packet[2:4]) for packet in (viewer.rtp[0], packet))
        assert (second, len(viewer.rtp)) == (first + 1, 1)


async def test_before_the_handshake_media_is_dropped_from_whom_ever_it_comes() -> None:
    async with open_world() as world:
        await world.publish()
        viewer, _ = await world.watch()
        other = world.media.publish(world.room, "streamer", write_offer(world.remote().ice, "sendonly"))
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as early:
            await early.bind(("127.0.0.1", 0))
            packet = struct.pack("!BBHII", 0x80, 96, 1, 0, 5) + KEY
            await early.sendto(packet, world.media.address)
            await world.until(lambda: world.media.counters()["unknown_address"] == 1)
            await early.sendto(a_check(world.media._endpoints.by_id[other.transport].peer), world.media.address)
            assert (await early.recv(2048))[0] < 4
            await early.sendto(packet, world.media.address)
            await world.until(lambda: world.media.counters()["no_keys"] == 1)
        assert viewer.rtp == []


async def test_closing_a_room_ends_its_transports_and_no_other_room_notices() -> None:
    async with open_world() as world:
        publisher, _ = await world.publish()
        viewer, _ = await world.watch()
        other = world.media.open_room(Grant.WELCOME)
        world.media.publish(other, "streamer", write_offer(IceCredentials.random(), "sendonly"))
        world.media.close_room(other)
        await publisher.send(0, KEY)
        await world.until(lambda: viewer.rtp)
        world.media.close_room(world.room)
        await world.until(lambda: sum(isinstance(fact, Disconnected) for fact in world.facts) == 3)
        assert world.media.counters()["transports"] == 0
