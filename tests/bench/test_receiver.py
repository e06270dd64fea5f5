"""The compiled receiving side counts what is sent to its sockets, and notices everything that is wrong with it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from bench.payload import Rate, Source
from bench.receiver import Decrypt, Receiver, Totals
from bench.tables import Count, Heard, Shared
from media.io.native import SOL_UDP, UDP_SEGMENT
from media.webrtc.srtp import SrtpKeys, SrtpProfile, open_sender
from media.wire.rtp import RtpHeader, build_rtp

SECOND_NS = 1_000_000_000
PROFILE = SrtpProfile.AEAD_AES_128_GCM


class Sender:
    """Sends one publisher's protected packets to a socket."""

    def __init__(self, first_seq: int = 0) -> None:
        secret = os.urandom(PROFILE.key_size + PROFILE.salt_size)
        self.keys = SrtpKeys(PROFILE, secret, secret)
        self.session = open_sender(self.keys)
        self.link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.seqs = {"audio": first_seq, "video": first_seq}
        self.control: list[bytes] = []
        self.row = -1

    def protect(self, kind: str, payload: bytes, *, timestamp: int = 0, marker: bool = False) -> bytes:
        number, ssrc = (111, 7) if kind == "audio" else (96, 8)
        seq = self.seqs[kind]
        self.seqs[kind] = seq + 1 & 0xFFFF
        return self.session.protect(build_rtp(RtpHeader(number, seq, timestamp, ssrc, marker), payload))

    def packets(self, source: Source, seconds: float) -> list[bytes]:
        made = []
        while source.deadline_ns() < seconds * SECOND_NS:
            for packet in source.due(source.deadline_ns()):
                payload = packet.stamp(1)
                made.append(self.protect(packet.kind, payload, timestamp=packet.timestamp, marker=packet.marker))
        return made

    def send(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.link.send(datagram)


@asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    async with trio.open_nursery() as nursery:
        receiver = Receiver(capacity=8)
        await nursery.start(receiver.run)
        yield receiver
        nursery.cancel_scope.cancel()


@contextmanager
def viewer(receiver: Receiver, sender: Sender, decrypt: Decrypt = Decrypt.ALL, publisher: int = 0) -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as drain, sender.link:
        drain.bind(("127.0.0.1", 0))
        sender.link.connect(drain.getsockname())
        sender.row = receiver.take(drain, sender.control.append, keys=sender.keys, decrypt=decrypt, publisher=publisher)
        yield


async def received(receiver: Receiver, datagrams: int) -> Totals:
    """Return the totals when so many datagrams have come and are dealt with; fails when they don't come."""
    with trio.fail_after(5):
        while True:
            totals = receiver.totals()
            if totals.count(Count.RTP) + totals.count(Count.CONTROL) + totals.count(Count.MALFORMED) >= datagrams:
                break
            await trio.sleep(0.005)
        # A packet is counted before it is decrypted; both happen within one turn.
        turn = int(receiver.tables.shared[Shared.TURNS])
        while receiver.tables.shared[Shared.TURNS] == turn:  # noqa: ASYNC110
            await trio.sleep(0.001)
    return receiver.totals()


async def test_everything_that_is_sent_is_counted_and_found_intact() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender):
            packets = sender.packets(Source(0, Rate(), started_ns=0), 0.5)
            sender.send(packets)
            totals = await received(receiver, len(packets))
            assert totals.count(Count.RTP) == totals.count(Count.DECRYPTED) == len(packets)
            assert totals.count(Count.BYTES) == sum(map(len, packets))
            assert (totals.lost, totals.lost_inside) == (0, 0)
            for fault in (Count.WRONG_CONTENT, Count.FOREIGN, Count.UNDECRYPTABLE, Count.REPEATED, Count.LATE):
                assert totals.count(fault) == 0
            assert receiver.picture_ns(sender.row) > 0


@pytest.mark.parametrize("first_seq", [0, 1, 100, 0x7FF0, 0xFFC0, 0xFFFE, 0xFFFF])
async def test_what_is_dropped_on_the_way_is_lost(first_seq: int) -> None:
    sender = Sender(first_seq)
    async with open_receiver() as receiver:
        with viewer(receiver, sender):
            packets = sender.packets(Source(0, Rate(sound=False), started_ns=0), 1.0)
            kept = [packet for number, packet in enumerate(packets) if number % 10 != 5]
            sender.send(kept)
            totals = await received(receiver, len(kept))
            assert totals.lost == totals.lost_inside == len(packets) - len(kept) > 10


async def test_a_gap_that_a_server_closed_by_renumbering_is_still_a_loss_inside() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender):
            source = Source(0, Rate(sound=False), started_ns=0)
            stamped = [source.due(source.deadline_ns()) for _ in range(10)]
            del stamped[4:6]
            frames = [packet.stamp(1) for frame in stamped for packet in frame]
            sender.send([sender.protect("video", payload) for payload in frames])
            totals = await received(receiver, len(frames))
            assert totals.lost == 0
            assert totals.lost_inside == source.sent["video"] - len(frames) > 0


async def test_what_comes_late_is_not_lost_and_what_comes_twice_counts_once() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender, Decrypt.NOTHING):
            packets = sender.packets(Source(0, Rate(sound=False), started_ns=0), 0.5)
            swapped = [packets[0], packets[2], packets[1], *packets[3:], packets[-1]]
            sender.send(swapped)
            totals = await received(receiver, len(swapped))
            assert (totals.lost, totals.count(Count.LATE), totals.count(Count.REPEATED)) == (0, 1, 1)


@pytest.mark.parametrize("at", [0, 4, 5, 14, 16, 20, 22, 30, 60, 200, -1])
async def test_one_changed_byte_is_wrong_content(at: int) -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender):
            payload = bytearray(Source(0, Rate(sound=False), started_ns=0).due(0)[0].stamp(1))
            payload[at] ^= 0x40
            sender.send([sender.protect("video", bytes(payload))])
            totals = await received(receiver, 1)
            assert totals.count(Count.WRONG_CONTENT) + totals.count(Count.FOREIGN) == 1


async def test_another_publishers_packet_is_foreign() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender, publisher=3):
            packets = sender.packets(Source(4, Rate(), started_ns=0), 0.1)
            sender.send(packets)
            totals = await received(receiver, len(packets))
            assert totals.count(Count.FOREIGN) == len(packets)


async def test_a_forged_packet_is_undecryptable() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender):
            packet = bytearray(sender.packets(Source(0, Rate(), started_ns=0), 0.01)[0])
            packet[-1] ^= 1
            sender.send([bytes(packet)])
            assert (await received(receiver, 1)).count(Count.UNDECRYPTABLE) == 1


async def test_a_picture_is_there_with_the_last_packet_of_a_keyframe_and_not_before() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender, Decrypt.TO_PICTURE):
            source = Source(0, Rate(sound=False), started_ns=0)
            whole = sender.packets(source, 0.01)
            sender.send(whole[:-1])
            await received(receiver, len(whole) - 1)
            assert receiver.picture_ns(sender.row) == 0
            sender.send(whole[-1:])
            await received(receiver, len(whole))
            assert receiver.picture_ns(sender.row) > 0
            more = sender.packets(source, 0.2)
            sender.send(more)
            totals = await received(receiver, len(whole) + len(more))
            assert totals.count(Count.DECRYPTED) == len(whole)


async def test_packets_merged_by_the_kernel_are_counted_one_by_one() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender):
            source = Source(0, Rate(1_000_000, sound=False), started_ns=0)
            source.due(0)
            payloads = [packet.stamp(1) for packet in source.due(source.deadline_ns())]
            segment = max(map(len, payloads))
            # Of one size, as GSO wants it: a byte of padding where one is missing.
            packets = [sender.protect("video", payload) for payload in payloads if len(payload) == segment]
            size = struct.pack("H", len(packets[0]))
            sender.link.sendmsg([b"".join(packets)], [(SOL_UDP, UDP_SEGMENT, size)])
            totals = await received(receiver, len(packets))
            assert totals.count(Count.RTP) == totals.count(Count.DECRYPTED) == len(packets) > 1
            assert totals.count(Count.DATAGRAMS) == 1
            assert totals.count(Count.WRONG_CONTENT) == 0


async def test_stun_and_dtls_go_to_python_and_rtcp_and_retransmissions_are_told_apart() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender, Decrypt.NOTHING):
            rtcp = bytes([0x80, 200]) + bytes(26)
            rtx = bytes([0x80, 97]) + bytes(26)
            sender.send([b"\x01\x01stun", rtcp, rtx, b"\x16\xfe\xfddtls", b"\x80\x60short"])
            totals = await received(receiver, 3)
            counted = [totals.count(of) for of in (Count.CONTROL, Count.RTCP, Count.RTX, Count.RTP, Count.MALFORMED)]
            assert counted == [2, 1, 1, 0, 1]
            with trio.fail_after(5):
                while len(sender.control) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.005)
            assert sender.control == [b"\x01\x01stun", b"\x16\xfe\xfddtls"]
            arrived = receiver.arrivals_after(sender.row, 0)
            assert {kind: len(times) for kind, times in arrived.items()} == {
                Heard.RTP: 0,
                Heard.RTX: 1,
                Heard.RTCP: 1,
                Heard.CONTROL: 2,
            }


async def test_a_viewer_that_leaves_stays_in_the_totals_and_its_row_serves_the_next() -> None:
    async with open_receiver() as receiver:
        sent = 0
        for _ in range(20):
            sender = Sender()
            with viewer(receiver, sender):
                packets = sender.packets(Source(0, Rate(), started_ns=0), 0.1)
                sender.send(packets)
                sent += len(packets)
                totals = await received(receiver, sent)
                assert totals.count(Count.RTP) == sent
                receiver.release(sender.row)
            await trio.sleep(0.01)  # rows are free a turn later, and there are eight
        assert receiver.totals().count(Count.RTP) == sent
        assert receiver.totals().lost == 0


async def test_latency_is_from_the_stamp_to_the_kernels_arrival() -> None:
    sender = Sender()
    async with open_receiver() as receiver:
        with viewer(receiver, sender):
            source = Source(0, Rate(sound=False), started_ns=0)
            first = sender.packets(source, 0.01)
            sender.send(first)
            await received(receiver, len(first))
            picture_ns = receiver.picture_ns(sender.row)
            late = [packet.stamp(picture_ns) for packet in source.due(source.deadline_ns())]
            await trio.sleep(0.05)
            sender.send([sender.protect("video", payload) for payload in late])
            totals = await received(receiver, len(first) + len(late))
            assert int(totals.latency.sum()) == len(late)
            shortest, longest = totals.latency_ms(0.0), totals.latency_ms(1.0)
            assert shortest is not None
            assert longest is not None
            assert 50 < shortest <= longest < 5000
