"""Packets of stream data in flight, with everything that aioquic's recovery asks of its own."""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

Frame = tuple[QuicStream, int, int, bool]  # from, to, and whether the stream ends there
Delivered = Callable[[QuicDeliveryState, QuicStream, int, int, bool], None]


class SentPacket:
    """A packet in flight; `delivered` hears what became of each of its frames."""

    __slots__ = ("delivered", "frames", "packet_number", "sent_bytes", "sent_time")

    epoch = Epoch.ONE_RTT
    in_flight = is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT

    def __init__(self, packet_number: int, sent_time: float, sent_bytes: int, delivered: Delivered) -> None:
        self.packet_number, self.sent_time, self.sent_bytes = packet_number, sent_time, sent_bytes
        self.delivered = delivered
        self.frames: list[Frame] = []

    @property
    def delivery_handlers(self) -> list[tuple[Delivered, Frame]]:
        """Whom to tell of what became of it, and with which arguments."""
        return [(self.delivered, frame) for frame in self.frames]
