"""The forwarding thread over real sockets: what is sent, what each viewer can decrypt, and what never leaves."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from pylibsrtp import Session

from media.forwarding.admission import FOREVER, Grant, Holding
from media.forwarding.forwarder import Forwarder, NoCapacity
from media.forwarding.kernel.loop import NAP_SUBSCRIPTIONS
from media.forwarding.tables import CACHE, Count, Limits, Shared
from media.webrtc.srtp import SrtpKeys, SrtpProfile, open_receiver, open_sender
from media.wire.codecs import Codec
from media.wire.extensions import Passed

PUBLISHER_PT, PUBLISHER_RTX_PT, AUDIO_PT = 96, 97, 111
KEY, DELTA = b"\x10\x00", b"\x10\x01"  # VP8: payload descriptor with S, then the P bit of the frame header
LIMITS = Limits(rooms=8, transports=64, tracks=16, subscriptions=128)


@dataclass
class Sent:
    payload_type: int = 120
    rtx_payload_type: int | None = 121
    ssrc: int = 0x11111111
    rtx_ssrc: int | None = 0x22222222
    stamp: int = 0
    passed: Mapping[Passed, int] = field(default_factory=dict)
    red_payload_type: int | None = None


def fresh_keys(profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM) -> SrtpKeys:
    size = profile.key_size + profile.salt_size
    return SrtpKeys(profile, os.urandom(size), os.urandom(size))


def mirrored(keys: SrtpKeys) -> SrtpKeys:
    return SrtpKeys(keys.profile, keys.remote, keys.local)


@dataclass
class Packet:
    payload_type: int
    marker: bool
    seq: int
    ts: int
    ssrc: int
    payload: bytes


def parse(data: bytes) -> Packet:
    first, second, seq, ts, ssrc = struct.unpack_from("!BBHII", data)
    payload = data[12 : -data[-1]] if first & 0x20 else data[12:]
    return Packet(second & 127, second > 127, seq, ts, ssrc, payload)


class Remote:
    """A socket with SRTP on it: a publisher or a viewer."""

    def __init__(
        self, forwarder: Forwarder, room: int, *, publishes: bool, profile: SrtpProfile, worker: int = 0
    ) -> None:
        self.forwarder, self.server = forwarder, forwarder.workers.addresses(worker)[0]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.row = forwarder.open_transport(room, publishes=publishes, worker=worker)
        keys = fresh_keys(profile)
        self.tx: Session = open_sender(mirrored(keys))
        self.rx: Session = open_receiver(mirrored(keys))
        path = forwarder.workers.path(worker, self.socket.getsockname())
        forwarder.bind_address(self.row, path)
        forwarder.send_to(self.row, path)
        forwarder.set_keys(self.row, keys)

    def send(
        self, seq: int, ts: int, payload: bytes, *, pt: int = PUBLISHER_PT, ssrc: int = 7, marker: bool = False
    ) -> None:
        header = struct.pack("!BBHII", 0x80, pt | (0x80 if marker else 0), seq & 0xFFFF, ts & 0xFFFFFFFF, ssrc)
        self.socket.sendto(self.tx.protect(header + payload), self.server)

    def send_rtcp(self, rtcp: bytes) -> None:
        self.socket.sendto(self.tx.protect_rtcp(rtcp), self.server)

    def drain(self) -> list[Packet]:
        packets, self.reports = [], getattr(self, "reports", [])
        while True:
            try:
                data = self.socket.recv(4096)
            except BlockingIOError:
                return packets
            if 192 <= data[1] < 224:
                self.reports.append(self.rx.unprotect_rtcp(data))
            else:
                packets.append(parse(self.rx.unprotect(data)))


@dataclass
class World:
    forwarder: Forwarder
    room: int
    publisher: Remote
    video: int
    audio: int
    profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM
    viewers: list[Remote] = field(default_factory=list)

    def viewer(
        self, holding: Holding | None = None, sent: Sent | None = None, *, audio: bool = False, worker: int = 0
    ) -> Remote:
        remote = Remote(self.forwarder, self.room, publishes=False, profile=self.profile, worker=worker)
        self.forwarder.admission.hold(remote.row, holding or Holding(Grant.WELCOME))
        track = self.audio if audio else self.video
        remote.subscription = self.forwarder.subscribe(track, remote.row, sent or Sent(), first_seq=100)  # type: ignore[attr-defined]
        self.viewers.append(remote)
        return remote

    def count(self, counter: Count) -> int:
        return self.forwarder.counters()[counter.name.lower()]

    async def settle(self) -> None:
        # A fence makes each worker look at its socket once more; two cover what arrived while the first was passing,
        # and one more what the others hear of it.
        for _ in range(2 if len(self.forwarder.workers.tables) == 1 else 3):
            await self.forwarder.fence()


@asynccontextmanager
async def open_world(
    profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM, *, workers: int = 1, home: int = 0
) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        forwarder = Forwarder(("127.0.0.1", 0), LIMITS, workers=workers)
        await nursery.start(lambda task_status: forwarder.run(task_status=task_status))
        room = forwarder.open_room()
        forwarder.admission.require(room, Grant.WELCOME)
        publisher = Remote(forwarder, room, publishes=True, profile=profile, worker=home)
        forwarder.admission.publish_until(publisher.row, FOREVER)
        video = forwarder.open_track(room, "video", Codec.VP8, 90_000)
        audio = forwarder.open_track(room, "audio", Codec.OPUS, 48_000)
        options = {"twcc_extension_id": 3, "nack": True}
        forwarder.feed_track(
            video, publisher.row, payload_type=PUBLISHER_PT, rtx_payload_type=PUBLISHER_RTX_PT, **options
        )
        forwarder.feed_track(audio, publisher.row, payload_type=AUDIO_PT, rtx_payload_type=None, **options)
        world = World(forwarder, room, publisher, video, audio, profile)
        try:
            yield world
        finally:
            for remote in [publisher, *world.viewers]:
                remote.socket.close()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)
async def test_every_viewer_gets_what_the_publisher_sent_under_its_own_numbers(profile: SrtpProfile) -> None:
    async with open_world(profile) as world:
        viewers = [world.viewer(sent=Sent(ssrc=1000 + i)) for i in range(5)]
        for seq in range(40):
            payload = (KEY if seq == 0 else DELTA) + os.urandom(random.Random(seq).randrange(1, 1150))
            world.publisher.send(60_000 + seq, 3000 * (seq // 4), payload, marker=seq % 4 == 3)
            if seq % 7 == 0:
                await world.settle()
        await world.settle()
        received = [viewer.drain() for viewer in viewers]
        for i, packets in enumerate(received):
            assert [packet.seq for packet in packets] == list(range(100, 140))
            assert {(packet.ssrc, packet.payload_type) for packet in packets} == {(1000 + i, 120)}
            assert [packet.payload for packet in packets] == [packet.payload for packet in received[0]]
            assert [packet.marker for packet in packets] == [seq % 4 == 3 for seq in range(40)]


@pytest.mark.parametrize("first", [0, 1, 2, 255, 32_766, 32_767, 32_768, 32_769, 65_533, 65_534, 65_535])
async def test_numbers_stay_contiguous_across_every_edge(first: int) -> None:
    async with open_world() as world:
        viewer = world.viewer()
        for seq in range(12):
            world.publisher.send(first + seq, 0xFFFFFFF0 + 3000 * seq, (KEY if seq == 0 else DELTA) + bytes([seq]))
        await world.settle()
        packets = viewer.drain()
        assert [packet.seq for packet in packets] == list(range(100, 112))
        assert [packet.payload[2] for packet in packets] == list(range(12))


async def test_a_sequence_that_wraps_twice_loses_nothing() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        expected = 0
        for seq in range(140_000):
            world.publisher.send(seq, seq, KEY if seq == 0 else DELTA)
            if seq % 200 == 199:
                await world.settle()
                packets = viewer.drain()
                assert [packet.seq for packet in packets] == [(100 + expected + i) & 0xFFFF for i in range(200)]
                expected += 200


async def test_loss_reordering_and_repetition_upstream_are_passed_on_as_they_are() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        order = [0, 1, 3, 2, 5, 5, 4, 9, 7]
        for seq in order:
            world.publisher.send(seq, 0, (KEY if seq == 0 else DELTA) + bytes([seq]))
        await world.settle()
        packets = viewer.drain()
        assert [packet.seq - 100 for packet in packets] == [packet.payload[2] for packet in packets]
        assert sorted(packet.payload[2] for packet in packets) == [0, 1, 2, 3, 4, 5, 7, 9]


async def test_video_starts_at_a_keyframe_and_asks_for_one() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        world.publisher.send(1, 0, DELTA)
        await world.settle()
        assert viewer.drain() == []
        assert world.forwarder.tables.tracks["keyframe_wanted"][world.video] == 1
        world.publisher.send(2, 3000, KEY)
        await world.settle()
        assert [packet.seq for packet in viewer.drain()] == [100]


async def test_a_joiner_starts_from_a_young_keyframe_at_once_and_in_one_go() -> None:
    async with open_world() as world:
        for seq in range(8):
            world.publisher.send(seq, 3000 * seq, (KEY if seq == 0 else DELTA) + bytes([seq]))
        await world.settle()
        viewer = world.viewer()
        world.publisher.send(8, 3000 * 8, DELTA + bytes([8]))
        world.publisher.send(9, 3000 * 9, DELTA + bytes([9]))
        await world.settle()
        packets = viewer.drain()
        assert [packet.payload[2] for packet in packets] == list(range(10))
        assert [packet.seq for packet in packets] == list(range(100, 110))
        # The replayed frames are a millisecond apart and end where live time goes on: with the packet that came next,
        # or the one before it where the thread had noticed the viewer already.
        newest = 8 if packets[0].ts == 24_000 - 90 * 8 else 7
        replayed = [3000 * newest - 90 * (newest - i) for i in range(newest + 1)]
        assert [packet.ts for packet in packets] == replayed + [3000 * i for i in range(newest + 1, 10)]
        assert world.forwarder.tables.tracks["keyframe_wanted"][world.video] == 0


async def test_a_lost_packet_is_sent_again_through_rtx_and_a_replayed_one_looks_the_same() -> None:
    async with open_world() as world:
        for seq in range(4):
            world.publisher.send(seq, 3000 * seq, (KEY if seq == 0 else DELTA) + bytes([seq]))
        await world.settle()
        viewer = world.viewer()
        world.publisher.send(4, 12_000, DELTA + bytes([4]))
        await world.settle()
        first = {packet.seq: packet for packet in viewer.drain()}
        viewer.send_rtcp(struct.pack("!BBHIIHH", 0x81, 205, 3, 1, Sent().ssrc, 101, 0b101))
        await world.settle()
        repairs = viewer.drain()
        assert [(packet.payload_type, packet.ssrc) for packet in repairs] == [(121, Sent().rtx_ssrc)] * 3
        for repair in repairs:
            original = first[int.from_bytes(repair.payload[:2])]
            assert (repair.payload[2:], repair.ts, repair.marker) == (original.payload, original.ts, original.marker)
        assert sorted(int.from_bytes(repair.payload[:2]) for repair in repairs) == [101, 102, 104]


async def test_a_viewer_without_rtx_gets_the_packet_itself_again() -> None:
    async with open_world() as world:
        viewer = world.viewer(sent=Sent(rtx_payload_type=None, rtx_ssrc=None))
        world.publisher.send(0, 0, KEY)
        await world.settle()
        [original] = [viewer.socket.recv(2048)]
        viewer.send_rtcp(struct.pack("!BBHIIHH", 0x81, 205, 3, 1, Sent().ssrc, 100, 0))
        await world.settle()
        assert viewer.socket.recv(2048)[:12] == original[:12]


async def test_upstream_rtx_fills_the_gap() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        world.publisher.send(0, 0, KEY)
        world.publisher.send(2, 0, DELTA + b"2")
        world.publisher.send(900, 0, b"\x00\x01" + DELTA + b"1", pt=PUBLISHER_RTX_PT, ssrc=8)
        await world.settle()
        assert [(packet.seq, packet.payload[2:]) for packet in viewer.drain()] == [(100, b""), (102, b"2"), (101, b"1")]


async def test_after_the_fence_not_one_packet_reaches_those_who_lost_the_right() -> None:
    async with open_world() as world:
        holder = world.viewer(Holding(Grant.WELCOME | Grant.TICKET))
        other = world.viewer(Holding(Grant.WELCOME))
        chance = random.Random(1)
        seq, packets = 0, []
        for flip in range(100):
            for _ in range(chance.randrange(1, 30)):
                world.publisher.send(seq, 3000 * seq, KEY + seq.to_bytes(4))
                seq += 1
            world.forwarder.admission.require(world.room, Grant.WELCOME | Grant.TICKET)
            await world.forwarder.fence()
            other.drain()
            for _ in range(chance.randrange(1, 10)):
                world.publisher.send(seq, 3000 * seq, KEY + seq.to_bytes(4))
                seq += 1
            await world.settle()
            assert other.drain() == [], flip
            world.forwarder.admission.require(world.room, Grant.WELCOME)
            await world.forwarder.fence()
            packets += holder.drain()
        assert [int.from_bytes(packet.payload[2:]) for packet in packets] == list(range(seq))


async def test_a_right_lapses_by_itself_to_what_is_kept() -> None:
    async with open_world() as world:
        until_ns = time.monotonic_ns() + 50_000_000
        guest = world.viewer(Holding(Grant.WELCOME | Grant.CHOSEN, until_ns, Grant.WELCOME))
        world.forwarder.admission.require(world.room, Grant.WELCOME | Grant.CHOSEN)
        world.publisher.send(0, 0, KEY)
        await world.settle()
        assert len(guest.drain()) == 1
        await trio.sleep((until_ns - time.monotonic_ns()) / 1e9 + 0.001)
        world.publisher.send(1, 3000, KEY)
        await world.settle()
        assert guest.drain() == []
        assert world.count(Count.LAPSED) == 1
        world.forwarder.admission.require(world.room, Grant.WELCOME)
        world.publisher.send(2, 6000, KEY)
        await world.settle()
        assert [packet.seq for packet in guest.drain()] == [101]


async def test_nothing_leaves_a_closed_room_and_nothing_enters_after_publish_until() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        await world.settle()  # else the thread may notice the viewer after the packet, and refuse it twice
        world.forwarder.admission.open_until(world.room, time.monotonic_ns())
        world.publisher.send(0, 0, KEY)
        await world.settle()
        world.forwarder.admission.open_until(world.room, FOREVER)
        world.forwarder.admission.publish_until(world.publisher.row, 0)
        world.publisher.send(1, 0, KEY)
        await world.settle()
        assert viewer.drain() == []
        assert (world.count(Count.ROOM_CLOSED), world.count(Count.PUBLISH_LAPSED)) == (1, 1)


async def test_retransmission_and_replay_ask_admission_too() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        world.publisher.send(0, 0, KEY)
        await world.settle()
        viewer.drain()
        world.forwarder.admission.hold(viewer.row, Holding(Grant(0)))
        await world.forwarder.fence()
        viewer.send_rtcp(struct.pack("!BBHIIHH", 0x81, 205, 3, 1, Sent().ssrc, 100, 0))
        late = world.viewer(Holding(Grant(0)))
        world.publisher.send(1, 3000, DELTA)
        await world.settle()
        assert viewer.drain() == []
        assert late.drain() == []


async def test_a_publishers_restart_goes_on_in_number_and_time() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        world.publisher.send(500, 90_000, KEY)
        world.publisher.send(501, 93_000, DELTA)
        await world.settle()
        again = Remote(world.forwarder, world.room, publishes=True, profile=world.profile)
        world.viewers.append(again)
        world.forwarder.admission.publish_until(again.row, FOREVER)
        world.forwarder.feed_track(
            world.video, again.row, payload_type=PUBLISHER_PT, rtx_payload_type=None, twcc_extension_id=None, nack=False
        )
        again.send(40_000, 5, DELTA, ssrc=99)
        again.send(40_001, 3005, KEY, ssrc=99)
        again.send(40_002, 6005, DELTA, ssrc=99)
        world.publisher.send(502, 96_000, DELTA)
        await world.settle()
        packets = viewer.drain()
        assert [packet.seq for packet in packets] == [100, 101, 102, 103]
        assert packets[2].ts > packets[1].ts
        assert packets[3].ts - packets[2].ts == 3000


async def test_sender_reports_carry_the_publishers_clock_and_the_viewers_numbers() -> None:
    async with open_world() as world:
        ntp = 0xE000000080000000
        world.publisher.send(0, 90_000, KEY)
        await world.settle()
        world.publisher.send_rtcp(struct.pack("!BBHIQIII", 0x80, 200, 6, 7, ntp, 90_000, 1, 1))
        await world.settle()
        viewer = world.viewer()
        world.publisher.send(1, 93_000, KEY + b"abc")
        await world.settle()
        viewer.drain()
        [report] = viewer.reports
        _, kind, _, ssrc, told, ts, packets, octets = struct.unpack_from("!BBHIQIII", report)
        assert (kind, ssrc, packets, octets) == (200, Sent().ssrc, 1, 5)
        seconds = (told - ntp) / 2**32
        assert 0 <= seconds < 1
        assert abs((ts - 90_000) - seconds * 90_000) < 90
        assert report[28:30] == b"\x81\xca"


def sender_report(ssrc: int, ntp: int, ts: int) -> bytes:
    return struct.pack("!BBHIQIII", 0x80, 200, 6, ssrc, ntp, ts, 0, 0)


async def test_a_report_that_comes_before_its_sources_first_packet_counts() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        track = world.forwarder.tables.tracks[world.video]
        world.publisher.send_rtcp(sender_report(7, 0xE000000080000000, 90_000))
        world.publisher.send(0, 90_000, KEY)
        await world.settle()
        assert (int(track["sr_ntp"]), int(track["sr_rtp"])) == (0xE000000080000000, 90_000)
        world.publisher.send(1, 93_000, DELTA)
        await world.settle()
        viewer.drain()
        assert len(viewer.reports) == 1


async def test_no_source_is_given_anothers_report_nor_its_own_of_before_it_began_anew() -> None:
    async with open_world() as world:
        track = world.forwarder.tables.tracks[world.video]
        world.publisher.send_rtcp(sender_report(6, 1 << 32, 90_000))
        world.publisher.send(0, 90_000, KEY)
        await world.settle()
        assert not track["sr_ntp"]
        world.publisher.send_rtcp(sender_report(7, 1 << 32, 90_000))
        await world.settle()
        assert track["sr_ntp"]
        world.publisher.send(20_000, 90_000, KEY)
        await world.settle()
        assert not track["sr_ntp"]


async def test_a_keyframe_request_of_a_viewer_reaches_the_track() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        world.publisher.send(0, 0, KEY)
        await world.settle()
        viewer.send_rtcp(struct.pack("!BBHII", 0x81, 206, 2, 1, Sent().ssrc))
        await world.settle()
        assert world.forwarder.tables.tracks["keyframe_wanted"][world.video] == 1


async def test_audio_starts_at_once() -> None:
    async with open_world() as world:
        viewer = world.viewer(audio=True)
        world.publisher.send(9, 960, b"opus", pt=AUDIO_PT, ssrc=55)
        await world.settle()
        assert [packet.payload for packet in viewer.drain()] == [b"opus"]


async def test_without_gso_everything_arrives_all_the_same() -> None:
    async with open_world() as world:
        world.forwarder.tables.shared[Shared.USE_GSO] = 0
        viewers = [world.viewer(sent=Sent(ssrc=i)) for i in range(3)]
        for seq in range(30):
            world.publisher.send(seq, 0, KEY + bytes(1000))
        await world.settle()
        assert [[packet.seq for packet in viewer.drain()] for viewer in viewers] == [list(range(100, 130))] * 3
        assert world.count(Count.GSO_MESSAGES) == 0


async def test_a_path_that_refuses_gso_gets_every_packet_singly_from_then_on() -> None:
    async with open_world() as world:
        # Linux refuses segmentation on a socket that sends no checksums, which is as good as a device that can't.
        no_check = 11
        with socket.socket(fileno=os.dup(int(world.forwarder.tables.sockets[0]))) as same:
            same.setsockopt(socket.SOL_SOCKET, no_check, 1)
        viewers = [world.viewer(sent=Sent(ssrc=i)) for i in range(NAP_SUBSCRIPTIONS)]
        sent = 0
        # A thread that wakes for each single packet merges none, so that as many come as it takes.
        while sent < 300 and not (sent >= 30 and world.count(Count.GSO_REFUSED)):
            for seq in range(sent, sent + 10):
                world.publisher.send(seq, 0, KEY + bytes(1000))
            sent += 10
            await world.settle()
        received = [[packet.seq for packet in viewer.drain()] for viewer in viewers]
        assert received == [list(range(100, 100 + sent))] * len(viewers)
        assert 1 <= world.count(Count.GSO_REFUSED) <= len(viewers)
        assert world.count(Count.GSO_MESSAGES) == 0
        assert world.count(Count.SEND_FAILED) == 0


async def test_the_packets_of_a_frame_leave_in_one_message_although_their_sizes_differ_a_little() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        sizes = [1000, 1000, 1001, 1001, 985, 300]
        for seq, size in enumerate(sizes):
            world.publisher.send(seq, 0, KEY + bytes(size), marker=seq == len(sizes) - 1)
        await world.settle()
        assert [len(packet.payload) - len(KEY) for packet in viewer.drain()] == sizes
        assert world.count(Count.GSO_MESSAGES) <= 2  # two when the thread woke up amid the frame


async def test_a_full_ring_drops_control_datagrams_and_no_media() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for number in range(1500):
            stranger.sendto(b"\x16" + bytes(50), world.forwarder.addresses[0])
            if number % 100 == 0:
                await world.settle()
        world.publisher.send(0, 0, KEY)
        await world.settle()
        stranger.close()
        assert len(viewer.drain()) == 1
        assert world.count(Count.RING_FULL) > 0
        assert len(await world.forwarder.control()) == 512


async def test_garbage_is_counted_and_hurts_nobody() -> None:
    async with open_world() as world:
        viewer = world.viewer()
        chance = random.Random(5)
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for number in range(3000):
            junk = chance.randbytes(chance.randrange(0, 1600))
            stranger.sendto(junk, world.forwarder.addresses[0])
            world.publisher.socket.sendto(junk, world.forwarder.addresses[0])
            rtp = bytes([0x80 | chance.randrange(64), chance.choice([96, 97, 111, 224, 255])])
            body = chance.randbytes(chance.randrange(10, 200))
            world.publisher.socket.sendto(world.publisher.tx.protect(_safe(rtp + body)), world.forwarder.addresses[0])
            rtcp = bytes([0x80 | chance.randrange(64), chance.choice([200, 201, 202, 203, 205, 206, 207])])
            compound = rtcp + chance.randbytes(2 + 4 * chance.randrange(1, 20))
            viewer.send_rtcp(compound)
            world.publisher.send_rtcp(compound)
            if number % 20 == 0:
                await world.settle()
        stranger.close()
        world.viewers.append(viewer)
        drops = (Count.UNKNOWN_ADDRESS, Count.UNPROTECT_AUTH, Count.MALFORMED_RTCP, Count.TOO_MANY_SSRCS)
        assert all(world.count(reason) for reason in drops)
        await world.settle()
        viewer.socket.close()
        fresh = world.viewer()
        honest = Remote(world.forwarder, world.room, publishes=True, profile=world.profile)
        world.viewers.append(honest)
        world.forwarder.admission.publish_until(honest.row, FOREVER)
        world.forwarder.feed_track(
            world.video, honest.row, payload_type=PUBLISHER_PT, rtx_payload_type=None, twcc_extension_id=3, nack=True
        )
        honest.send(chance.randrange(65_536), 0, KEY, ssrc=123_456)
        await world.settle()
        assert [packet.payload for packet in fresh.drain()] == [KEY]


def _safe(packet: bytes) -> bytes:
    # libsrtp refuses to protect a header that is longer than the packet; such a thing cannot arrive authenticated.
    first = packet[0] & ~0x10 & ~0x0F if len(packet) < 120 else packet[0] & ~0x10
    return bytes([first]) + packet[1:]


async def test_a_full_table_says_so_and_rows_come_back_after_a_fence() -> None:
    async with open_world() as world:
        free = LIMITS.transports - 1
        rows = [world.forwarder.open_transport(world.room, publishes=False) for _ in range(free)]
        with pytest.raises(NoCapacity):
            world.forwarder.open_transport(world.room, publishes=False)
        for row in rows:
            world.forwarder.close_transport(row)
        await world.forwarder.fence()
        assert world.forwarder.open_transport(world.room, publishes=False) in rows


async def test_the_arrival_log_holds_transport_wide_numbers() -> None:
    async with open_world() as world:
        extension = b"\xbe\xde\x00\x01" + bytes([0x31]) + (777).to_bytes(2) + b"\x00"
        header = struct.pack("!BBHII", 0x90, PUBLISHER_PT, 1, 0, 7) + extension
        world.publisher.socket.sendto(world.publisher.tx.protect(header + KEY), world.forwarder.addresses[0])
        await world.settle()
        slot = world.forwarder.tables.transports["twcc_slot"][world.publisher.row]
        highest = world.forwarder.tables.transports["twcc_highest"][world.publisher.row]
        assert highest & 0xFFFF == 777
        assert world.forwarder.tables.twcc_arrival_ns[slot, highest % 1024] > 0
        assert world.forwarder.tables.cache_seq[world.video, 65_537 % CACHE] == 65_537
