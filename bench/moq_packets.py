"""`python -m bench.moq_packets`: what one packet of stream data costs, by aioquic and by media/moq/stream_packets.py.

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
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream

from bench.outputs import Outputs, with_outputs
from bench.report import Report
from media.moq.certificate import QuicCertificate
from media.moq.keyring import Keyring
from media.moq.stream_packets import write_stream_packets

CLIENT, SERVER = ("127.0.0.1", 1), ("127.0.0.1", 2)
ALPN = ["bench"]
STEP_S = 0.001
WRITE_BYTES = 10_000  # a picture at 2 Mbit/s
LEAST_PACKETS = 2_000  # for a number that does not jump


class Pair:
    """A server's connection with so many streams open, and its client."""

    def __init__(self, streams: int) -> None:
        made = QuicCertificate.self_made(["localhost"], datetime.datetime.now(datetime.UTC))
        shown = QuicConfiguration(is_client=False, alpn_protocols=ALPN, certificate=made.cert, private_key=made.key)
        asked = QuicConfiguration(is_client=True, alpn_protocols=ALPN, verify_mode=ssl.CERT_NONE)
        for configuration in (shown, asked):
            configuration.max_data = configuration.max_stream_data = 1 << 40
        self.now = 1.0
        self.client = QuicConnection(configuration=asked)
        self.client.connect(SERVER, now=self.now)
        self.server = QuicConnection(
            configuration=shown, original_destination_connection_id=self.client.original_destination_connection_id
        )
        self.streams: list[int] = []
        for _ in range(20):
            self.exchange()
        for _ in range(streams):
            stream = self.server.get_next_available_stream_id(is_unidirectional=True)
            self.server.send_stream_data(stream, b"open")
            self.streams.append(stream)
            self.exchange()

    def exchange(self, datagrams: list[bytes] | None = None) -> None:
        """Let both ends say what they have, the given datagrams first."""
        self.now += STEP_S
        for datagram in datagrams or []:
            self.client.receive_datagram(datagram, SERVER, now=self.now)
        self._pass(self.client, self.server, CLIENT)
        self._pass(self.server, self.client, SERVER)
        self._pass(self.client, self.server, CLIENT)

    def _pass(self, source: QuicConnection, destination: QuicConnection, address: tuple[str, int]) -> None:
        timer = source.get_timer()
        if timer is not None and timer <= self.now:
            source.handle_timer(now=self.now)
        while source.next_event() is not None:
            pass
        for datagram, _ in source.datagrams_to_send(now=self.now):
            destination.receive_datagram(datagram, address, now=self.now)


def tell_stream(delivery: QuicDeliveryState, stream: QuicStream, start: int, stop: int, is_last: bool) -> None:
    """Tell a stream what became of its bytes."""
    stream.sender.on_data_delivery(delivery, start, stop, is_last)


def cost_us(streams: int, *, ours: bool) -> float:
    """Return what a packet costs with so many streams open."""
    pair, keyring = Pair(streams), Keyring()
    packets, spent_ns, turn = 0, 0, 0
    while packets < LEAST_PACKETS:
        stream = pair.streams[turn % streams]
        turn += 1
        pair.now += 1.0  # pacing has caught up
        began_ns = time.perf_counter_ns()
        pair.server.send_stream_data(stream, bytes(WRITE_BYTES))
        if ours:
            bursts = write_stream_packets(pair.server, [stream], keyring, tell_stream, pair.now)
            sent = [datagram for burst in bursts for datagram in burst.datagrams()]
        else:
            sent = [datagram for datagram, _ in pair.server.datagrams_to_send(now=pair.now)]
        spent_ns += time.perf_counter_ns() - began_ns
        packets += len(sent)
        pair.exchange(sent)
    return spent_ns / packets / 1_000


@click.command()
@click.option("--streams", default="10,100", show_default=True, help="How many are open; with commas, several numbers.")
@with_outputs
def main(streams: str, outputs: Outputs) -> None:
    """Measure what a packet of stream data costs."""
    report = Report("one packet of stream data of 1,200 bytes")
    for count in map(int, streams.split(",")):
        for ours, name in ((False, "aioquic"), (True, "stream_packets")):
            report.add(f"{count} streams open: by {name}", cost_us(count, ours=ours), "us")
    outputs.deliver(report)


if __name__ == "__main__":
    main()
