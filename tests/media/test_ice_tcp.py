"""ICE over TCP through the door: publishers and viewers, and what of them can't leave any more when they are cut."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from media import ice_tcp
from media.door import Disconnected, Negotiated
from media.forwarding.admission import NOTHING, Grant, Holding
from media.webrtc import stun
from media.wire.framing import MAX_FRAME, FrameReader, framed
from media.wire.malformed import MalformedPacket
from media.wire.rtp import RtpHeader, build_rtp
from tests.media.framed import FramedRemote, FramedWorld, tcp_candidate
from tests.media.test_door import DELTA, KEY, Remote, World, open_world, write_offer
from tests.media.test_layers import EVERY_S, SIZES, go_live, shown, shows
from tests.media.test_peer import a_check


@given(st.lists(st.binary(max_size=MAX_FRAME), max_size=8), st.data())
def test_datagrams_come_out_of_a_stream_as_they_went_in_wherever_it_is_cut(
    datagrams: list[bytes], data: st.DataObject
) -> None:
    stream = framed([memoryview(datagram) for datagram in datagrams])
    reader, found, at = FrameReader(), [], 0
    while at < len(stream):
        end = data.draw(st.integers(at + 1, len(stream)))
        found += reader.feed_untrusted(stream[at:end])
        at = end
    assert found == [datagram for datagram in datagrams if datagram]


def test_a_frame_that_no_datagram_could_be_is_refused() -> None:
    with pytest.raises(MalformedPacket):
        FrameReader().feed_untrusted(struct.pack("!H", MAX_FRAME + 1))


class MixedWorld(FramedWorld):
    """The first remote, which publishes, comes over UDP, the others over TCP."""

    def remote(self) -> Remote:
        return super().remote() if self.remotes else World.remote(self)


class SlowWorld(MixedWorld):
    """What its viewers do not read soon fills their connections."""

    receive_buffer = 4_096


async def test_publisher_and_viewer_over_tcp_and_their_feedback() -> None:
    async with open_world(FramedWorld) as world:
        publisher, published = await world.publish()
        viewer, _ = await world.watch()
        assert published.answer_sdp.index(" udp ") < published.answer_sdp.index(" tcp ")
        for seq in range(200):
            await publisher.send(seq, (KEY if seq == 0 else DELTA) + bytes([seq]))
        await world.until(lambda: len(viewer.rtp) >= 200)
        assert [packet[14] for packet in viewer.rtp] == list(range(200))
        await world.until(lambda: publisher.rtcp)
        assert world.media.counters()["ice_tcp_connections"] == 2


async def test_a_check_is_answered_with_the_address_that_the_connection_comes_from() -> None:
    async with open_world(FramedWorld) as world:
        remote = world.remote()
        assert isinstance(remote, FramedRemote)
        negotiated = world.media.publish(world.room, "streamer", write_offer(remote.ice, "sendonly"))
        await remote.framed.tcp.connect(tcp_candidate(negotiated.answer_sdp))
        peer = world.media._endpoints.by_id[negotiated.transport].peer
        await remote.framed.sendto(a_check(peer), ("", 0))
        with trio.fail_after(5):
            answer = stun.parse_untrusted(await remote.framed.recv(0))
        assert answer is not None
        assert answer.mapped_address == remote.framed.tcp.getsockname()


async def test_after_the_fence_nothing_leaves_to_who_lost_the_right_and_it_goes_on_when_it_is_back() -> None:
    async with open_world(MixedWorld) as world:
        publisher, _ = await world.publish()
        viewer, watched = await world.watch()
        await publisher.send(0, KEY)
        await world.until(lambda: viewer.rtp)
        world.media.hold(watched.transport, Holding(NOTHING))
        await world.media.fence()
        viewer.rtp.clear()
        await publisher.send(1, KEY)
        await world.media.fence()
        await trio.sleep(0.05)
        assert viewer.rtp == []
        world.media.hold(watched.transport, Holding(Grant.WELCOME))
        await publisher.send(2, KEY)
        await world.until(lambda: viewer.rtp)
        assert world.media.counters()["ice_tcp_cut"] == 0


def send_without_a_pause(world: World, publisher: Remote, watched: Negotiated, layer: str = "") -> None:
    """Send a packet, and wait until the forwarding thread has sent it on, while nothing else of Python runs."""
    seq, ssrc = (5_000, SIZES[layer]) if layer else (1, 5)
    packet = publisher.tx.protect(build_rtp(RtpHeader(96, seq, 3000 * seq, ssrc), KEY + layer.encode()))
    former_ns = world.media.delivered_ns(watched.transport)
    give_up_ns = time.monotonic_ns() + 5_000_000_000
    with socket.fromfd(publisher.socket.fileno(), socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.sendto(packet, world.media.address)
    while world.media.delivered_ns(watched.transport) == former_ns:
        assert time.monotonic_ns() < give_up_ns


async def test_what_was_sent_and_not_carried_on_before_the_cut_is_not_carried_on() -> None:
    async with open_world(MixedWorld) as world:
        publisher, _ = await world.publish()
        viewer, watched = await world.watch()
        await publisher.send(0, KEY)
        await world.until(lambda: viewer.rtp)
        send_without_a_pause(world, publisher, watched)
        viewer.rtp.clear()
        world.media.hold(watched.transport, Holding(NOTHING))
        await world.until(lambda: world.media.counters()["ice_tcp_withheld"])
        await trio.sleep(0.05)
        assert viewer.rtp == []


@pytest.mark.parametrize("how", ["hold", "reserve"])
async def test_what_waits_of_the_best_picture_goes_with_the_right_to_it(how: str) -> None:
    async with open_world(MixedWorld) as world:
        if how == "hold":
            world.media.reserve_best(world.room, Grant.ENTITLED)
        publisher = await go_live(world)
        viewer, watched = await world.watch(Holding(Grant.WELCOME | (Grant.ENTITLED if how == "hold" else NOTHING)))
        await shows(world, (viewer, watched), "f")
        publisher.sending.clear()
        await trio.sleep(4 * EVERY_S)
        send_without_a_pause(world, publisher.remote, watched, "f")
        viewer.rtp.clear()
        if how == "hold":
            world.media.hold(watched.transport, Holding(Grant.WELCOME))
        else:
            world.media.reserve_best(world.room, Grant.ENTITLED)
        await world.media.fence()
        publisher.sending = {name: SIZES[name] for name in ("q", "h")}
        await world.until(lambda: shown(viewer) == "h")
        assert not any(packet.endswith(b"f") for packet in viewer.rtp)
        assert world.media.counters()["ice_tcp_withheld"]


async def fill(world: World, publisher: Remote, viewer: FramedRemote) -> None:
    """Have a viewer stop reading, and packets for it wait in the server."""
    viewer.framed.reads = trio.Event()
    began = world.media.counters()["sent"]
    for seq in range(1, 200):
        await publisher.send(seq, DELTA + bytes(1_000))
    await world.until(lambda: world.media.counters()["sent"] >= began + 199)
    with trio.fail_after(5):
        arrived = -1
        while arrived != unread(viewer) or all(carried._is_clear() for carried in world.media._tcp._carried):
            arrived = unread(viewer)
            await trio.sleep(0.05)


def unread(viewer: FramedRemote) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(viewer.framed.tcp.fileno(), termios.FIONREAD, bytes(4)))
    return int(count)


async def test_what_waits_for_a_slow_viewer_is_dropped_with_its_right() -> None:
    async with open_world(SlowWorld) as world:
        publisher, _ = await world.publish()
        viewer, watched = await world.watch()
        assert isinstance(viewer, FramedRemote)
        await publisher.send(0, KEY)
        await world.until(lambda: viewer.rtp)
        await fill(world, publisher, viewer)
        world.media.hold(watched.transport, Holding(NOTHING))
        await world.media.fence()
        arrived = unread(viewer)
        rest = 0
        with trio.fail_after(5):
            try:
                while data := await viewer.framed.tcp.recv(65_536):
                    rest += len(data)
            except ConnectionResetError:
                pass
        assert rest <= arrived
        assert world.media.counters()["ice_tcp_cut"] == 1


async def test_what_waits_for_a_slow_viewer_is_dropped_when_its_time_is_over() -> None:
    async with open_world(SlowWorld) as world:
        publisher, _ = await world.publish()
        until_ns = time.monotonic_ns() + 1_000_000_000
        viewer, _ = await world.watch(Holding(Grant.WELCOME, until_ns))
        assert isinstance(viewer, FramedRemote)
        await publisher.send(0, KEY)
        await world.until(lambda: viewer.rtp)
        await fill(world, publisher, viewer)
        assert world.media.counters()["ice_tcp_cut"] == 0
        await world.until(lambda: world.media.counters()["ice_tcp_cut"])
        assert time.monotonic_ns() >= until_ns


async def test_a_viewer_that_does_not_read_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_tcp, "STALL_S", 0.2)
    async with open_world(SlowWorld) as world:
        publisher, _ = await world.publish()
        viewer, _ = await world.watch()
        assert isinstance(viewer, FramedRemote)
        await publisher.send(0, KEY)
        await fill(world, publisher, viewer)
        await world.until(lambda: world.media.counters()["ice_tcp_stalled"])
        await world.until(lambda: world.media.counters()["ice_tcp_connections"] == 0)


async def test_a_viewer_whose_connection_broke_goes_on_with_the_next() -> None:
    async with open_world(MixedWorld) as world:
        publisher, _ = await world.publish()
        viewer, watched = await world.watch()
        assert isinstance(viewer, FramedRemote)
        viewer.framed.tcp.shutdown(socket.SHUT_WR)
        await world.until(lambda: world.media.counters()["ice_tcp_connections"] == 0)
        before = world.media.counters()["no_destination"]
        await publisher.send(0, KEY)
        await world.until(lambda: world.media.counters()["no_destination"] > before)
        peer = world.media._endpoints.by_id[watched.transport].peer
        reader, datagrams = FrameReader(), list[bytes]()
        with trio.socket.socket() as fresh, trio.fail_after(5):
            await fresh.connect(viewer.server)
            await trio.SocketStream(fresh).send_all(whole(a_check(peer, nominates=True)))
            while not any(datagram[0] < 4 for datagram in datagrams):
                datagrams += reader.feed_untrusted(await fresh.recv(4_096))
            await publisher.send(1, KEY)
            while not any(128 <= datagram[0] < 192 for datagram in datagrams):
                datagrams += reader.feed_untrusted(await fresh.recv(4_096))


async def test_the_end_of_a_session_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_tcp, "LOOK_S", 0.05)
    async with open_world(FramedWorld) as world:
        remote, published = await world.publish()
        world.media.close(published.transport, "over")
        await world.until(lambda: Disconnected(published.transport, "over") in world.facts)
        await world.until(lambda: world.media.counters()["ice_tcp_connections"] == 0)
        assert remote.peer.receive_untrusted(b"", 0) == []


def whole(datagram: bytes) -> bytes:
    return framed([memoryview(datagram)])


STRANGE = {
    "nonsense": whole(b"GET / HTTP/1.1"),
    "a check under a name that nobody has": whole(
        stun.binding_request(bytes(12), "who:knows", "x" * 24, priority=1, tie_breaker=1, nominates=True)
    ),
    "nothing, and then the end": b"",
}


@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE)
async def test_strangers_get_nothing_and_are_counted(sent: bytes) -> None:
    async with open_world(FramedWorld) as world:
        remote = world.remote()
        negotiated = world.media.publish(world.room, "streamer", write_offer(remote.ice, "sendonly"))
        with trio.socket.socket() as stranger:
            await stranger.connect(tcp_candidate(negotiated.answer_sdp))
            await trio.SocketStream(stranger).send_all(sent)
            stranger.shutdown(socket.SHUT_WR)
            with trio.fail_after(5):
                assert await stranger.recv(1_024) == b""
        await world.until(lambda: world.media.counters()["ice_tcp_strangers"] == 1)


async def test_who_knows_a_session_and_then_sends_no_frames_is_refused() -> None:
    async with open_world(FramedWorld) as world:
        remote = world.remote()
        negotiated = world.media.publish(world.room, "streamer", write_offer(remote.ice, "sendonly"))
        check = a_check(world.media._endpoints.by_id[negotiated.transport].peer)
        with trio.socket.socket() as stranger:
            await stranger.connect(tcp_candidate(negotiated.answer_sdp))
            await trio.SocketStream(stranger).send_all(whole(check))
            assert await stranger.recv(1_024)
            await trio.SocketStream(stranger).send_all(b"\xff\xff")
            with trio.fail_after(5):
                assert await stranger.recv(1_024) == b""
        await world.until(lambda: world.media.counters()["ice_tcp_malformed"] == 1)


async def test_who_says_nothing_and_who_comes_too_often_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_tcp, "FIRST_CHECK_S", 0.2)
    monkeypatch.setattr(ice_tcp, "CONNECTIONS_PER_NETWORK", 1)
    async with open_world(FramedWorld) as world:
        (place,) = world.media._endpoints.shown_by(0).tcp
        with trio.socket.socket() as first, trio.socket.socket() as second:
            await first.connect(place)
            await world.until(lambda: world.media.counters()["ice_tcp_connections"] == 1)
            await second.connect(place)
            with trio.fail_after(5):
                assert await second.recv(1) == b""
                assert await first.recv(1) == b""
        counted = world.media.counters()
        assert (counted["ice_tcp_over_limit"], counted["ice_tcp_strangers"]) == (1, 1)
