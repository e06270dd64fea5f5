"""`python -m bench.moq_packets`: what one packet of stream data costs, by aioquic and by the kernel of packets.

Two connections in memory, without a socket; the client acknowledges everything, which is not measured. Needs the
package's `test` extra.
"""

from __future__ import annotations

import datetime
import ssl
import time

import click
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from bench.outputs import Outputs, with_outputs
from bench.report import Report
from media.moq.carriers.quic_carrier import QuicCarrier
from media.moq.protocol.frames import Frame, FrameWriter
from media.moq.quic.certificate import QuicCertificate
from media.moq.quic.configuration import CIPHERS
from media.moq.quic.group_streams import Groups
from media.moq.quic.table import ConnectionTable
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.origin import Group

CLIENT, SERVER = ("127.0.0.1", 1), ("127.0.0.1", 2)
ALPN = ["bench"]
STEP_S = 0.001
WRITE_BYTES = 10_000  # a picture at 2 Mbit/s
LEAST_PACKETS = 2_000  # for a number that does not jump


class Pair:
    """A server's connection with so many streams open, on each of which a group grows, and its client."""

    def __init__(self, streams: int, *, ours: bool) -> None:
        made = QuicCertificate.self_made(["localhost"], datetime.datetime.now(datetime.UTC))
        shown = QuicConfiguration(is_client=False, alpn_protocols=ALPN, certificate=made.cert, private_key=made.key)
        asked = QuicConfiguration(is_client=True, alpn_protocols=ALPN, verify_mode=ssl.CERT_NONE)
        shown.cipher_suites = CIPHERS
        for configuration in (shown, asked):
            configuration.max_data = configuration.max_stream_data = 1 << 40
        self.now = 1.0
        self.client = QuicConnection(configuration=asked)
        self.client.connect(SERVER, now=self.now)
        self.table = ConnectionTable(streams)  # for places of streams
        self.row = self.table.take_row()
        self.server = TabledConnection(
            self.row,
            shown,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        for _ in range(20):
            self.exchange()
        carrier = QuicCarrier(self.server, Groups(self.table), lambda: None)
        self.groups: list[tuple[int, Group]] = []
        for number in range(streams):
            stream, group = carrier.open(unidirectional=True), Group(number, 0)
            assert stream is not None
            self.server.send_stream_data(stream, b"open")
            if ours:
                assert carrier.carry(stream, group, FrameWriter(stamps=True), (number,)) is not None
            self.groups.append((stream, group))
            self.exchange()
        self.carried = list(carrier._carried.values())

    def exchange(self, datagrams: list[bytes] | None = None) -> None:
        """Let both ends say what they have, the given datagrams first."""
        self.now += STEP_S
        for datagram in datagrams or []:
            self.client.receive_datagram(datagram, SERVER, now=self.now)
        self._pass_up()
        self.server.catch_up()
        self._pass_down([datagram for datagram, _ in self.server.datagrams_to_send(now=self.now)])
        self.server.show()
        self._pass_up()
        self.table.run_timers(self.now)

    def write(self, number: int, *, ours: bool) -> list[bytes]:
        """Have a picture more leave on a stream; returns its packets."""
        stream, group = self.groups[number]
        if not ours:
            self.server.send_stream_data(stream, bytes(WRITE_BYTES))
            return [datagram for datagram, _ in self.server.datagrams_to_send(now=self.now)]
        group.frames.append(Frame(0, bytes(WRITE_BYTES)))
        assert self.carried[number].has_more
        return [packet for _, burst in self.table.bursts([self.row.number], self.now) for packet in burst.datagrams()]

    def _pass_up(self) -> None:
        timer = self.client.get_timer()
        if timer is not None and timer <= self.now:
            self.client.handle_timer(now=self.now)
        for datagram, _ in self.client.datagrams_to_send(now=self.now):
            if not self.table.take_in_untrusted(datagram, CLIENT, self.now):
                self.server.catch_up()
                self.server.receive_datagram(datagram, CLIENT, now=self.now)
                self.server.show()
        while self.server.next_event() is not None:
            pass

    def _pass_down(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.client.receive_datagram(datagram, SERVER, now=self.now)
        while self.client.next_event() is not None:
            pass


def cost_us(streams: int, *, ours: bool) -> float:
    """Return what a packet costs with so many streams open."""
    pair = Pair(streams, ours=ours)
    packets, spent_ns, turn = 0, 0, 0
    while packets < LEAST_PACKETS:
        pair.now += 1.0  # pacing has caught up
        began_ns = time.perf_counter_ns()
        sent = pair.write(turn % streams, ours=ours)
        spent_ns += time.perf_counter_ns() - began_ns
        packets += len(sent)
        turn += 1
        pair.exchange(sent)
    return spent_ns / packets / 1_000


@click.command()
@click.option("--streams", default="10,100", show_default=True, help="How many are open; with commas, several numbers.")
@with_outputs
def main(streams: str, outputs: Outputs) -> None:
    """Measure what a packet of stream data costs."""
    report = Report("one packet of stream data of 1,200 bytes")
    for count in map(int, streams.split(",")):
        for ours, name in ((False, "aioquic"), (True, "the kernel")):
            report.add(f"{count} streams open: by {name}", cost_us(count, ours=ours), "us")
    outputs.deliver(report)


if __name__ == "__main__":
    main()
