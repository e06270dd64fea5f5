"""Packets of stream data in flight, with everything that aioquic's recovery asks of its own.

Those that were sent together are kept together, and most are acknowledged so. They become one object each when some of
them were lost, or when aioquic looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from media.moq.packets import Built, Chunk, rows_of

Frame = tuple[QuicStream, int, int, bool]  # from, to, and whether the stream ends there
Delivered = Callable[[QuicDeliveryState, QuicStream, int, int, bool], None]


class SentPacket:
    """A packet in flight; `delivered` hears what became of each of its frames."""

    __slots__ = ("delivered", "frames", "packet_number", "sent_bytes", "sent_time")

    epoch = Epoch.ONE_RTT
    in_flight = is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT

    def __init__(
        self, packet_number: int, sent_time: float, sent_bytes: int, delivered: Delivered, frames: list[Frame]
    ) -> None:
        self.packet_number, self.sent_time, self.sent_bytes = packet_number, sent_time, sent_bytes
        self.delivered, self.frames = delivered, frames

    @property
    def delivery_handlers(self) -> list[tuple[Delivered, Frame]]:
        """Whom to tell of what became of it, and with which arguments."""
        return [(self.delivered, frame) for frame in self.frames]


class SentBurst(NamedTuple):
    """Packets in flight that left together, of consecutive numbers from `first` up to before `stop`.

    `frames` are all of them, those that follow each other in a stream as one. `table` tells which packet has what (see
    `Built`), the first one being `number`, all but the last of `size` bytes of `total`.
    """

    first: int
    stop: int
    sent_bytes: int
    sent_time: float
    frames: list[Frame]
    delivered: Delivered
    number: int
    size: int
    total: int
    table: bytes
    chunks: list[tuple[QuicStream, int, bool]]  # each one's stream, its end, and whether the stream ends with it

    @classmethod
    def of(
        cls, number: int, built: Built, sent: list[tuple[QuicStream, Chunk]], now: float, delivered: Delivered
    ) -> SentBurst:
        """Return what was built of chunks of these streams."""
        total = len(built.burst.data)
        stop = number + built.burst.packets
        frames: list[Frame] = []
        chunks = []
        for row, (stream, chunk) in enumerate(sent):
            end = chunk.offset + len(chunk.data)
            chunks.append((stream, end, chunk.is_last))
            if row < built.last_chunk:
                frames.append((stream, chunk.offset, end, chunk.is_last))
            elif row == built.last_chunk:
                frames.append((stream, chunk.offset, built.stop, chunk.is_last and built.stop == end))
        return cls(number, stop, total, now, frames, delivered, number, built.burst.size, total, built.table, chunks)

    def packets(self) -> list[SentPacket]:
        """Return each packet by itself."""
        made = []
        for at, rows in groupby(rows_of(self.table), key=lambda row: row[0]):
            if self.first <= self.number + at < self.stop:
                frames = [self._frame(*row[1:]) for row in rows]
                sent_bytes = min(self.size, self.total - at * self.size)
                made.append(SentPacket(self.number + at, self.sent_time, sent_bytes, self.delivered, frames))
        return made

    def part(self, first: int, stop: int) -> SentBurst:
        """Return those with numbers from `first` up to before `stop` alone."""
        packets = [packet for packet in self.packets() if first <= packet.packet_number < stop]
        sent_bytes = sum(packet.sent_bytes for packet in packets)
        frames = [frame for packet in packets for frame in packet.frames]
        return self._replace(first=first, stop=stop, sent_bytes=sent_bytes, frames=frames)

    def _frame(self, chunk: int, start: int, stop: int) -> Frame:
        stream, end, is_last = self.chunks[chunk]
        return stream, start, stop, is_last and stop == end


class SentPackets(dict[int, Any]):
    """What is in flight, by number and in its order; packets of ours are in `bursts` until somebody looks at them."""

    def __init__(self, packets: dict[int, QuicSentPacket]) -> None:
        super().__init__(packets)
        self.bursts: list[SentBurst] = []

    @property
    def first(self) -> int | None:
        """The lowest number."""
        lowest = next(dict.__iter__(self), None)
        if self.bursts and (lowest is None or self.bursts[0].first < lowest):
            return self.bursts[0].first
        return lowest

    def take_own(self, start: int, stop: int) -> list[SentPacket | QuicSentPacket]:
        """Take out those that are kept by themselves, with numbers from `start` up to before `stop`."""
        if not dict.__len__(self):
            return []
        return [dict.pop(self, number) for number in tuple(dict.__iter__(self)) if start <= number < stop]

    def take_bursts(self, start: int, stop: int) -> list[SentBurst]:
        """Take out bursts, or parts of them, with numbers from `start` up to before `stop`."""
        if not self.bursts:
            return []
        oldest, newest = self.bursts[0], self.bursts[-1]
        if start <= oldest.first and newest.stop <= stop:
            taken, self.bursts = self.bursts, []
            return taken
        taken = []
        kept: list[SentBurst] = []
        for burst in self.bursts:
            low, high = max(start, burst.first), min(stop, burst.stop)
            if low >= high:
                kept.append(burst)
            elif high - low == burst.stop - burst.first:
                taken.append(burst)
            else:
                taken.append(burst.part(low, high))
                rest = [(burst.first, low), (high, burst.stop)]
                kept += [burst.part(*numbers) for numbers in rest if numbers[0] < numbers[1]]
        self.bursts = kept
        return taken

    def _part(self) -> None:
        """Keep every packet by itself."""
        if not self.bursts:
            return
        packets = [(packet.packet_number, packet) for burst in self.bursts for packet in burst.packets()]
        self.bursts = []
        whole = sorted([*dict.items(self), *packets], key=lambda numbered: numbered[0])
        dict.clear(self)
        dict.update(self, whole)

    def __iter__(self) -> Iterator[int]:
        self._part()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self._part()
        return dict.__len__(self)

    def __getitem__(self, number: int) -> Any:
        self._part()
        return dict.__getitem__(self, number)

    def __delitem__(self, number: int) -> None:
        self._part()
        dict.__delitem__(self, number)

    def __contains__(self, number: object) -> bool:
        self._part()
        return dict.__contains__(self, number)

    def pop(self, number: int, *default: Any) -> Any:
        """Take one out."""
        self._part()
        return dict.pop(self, number, *default)

    def keys(self) -> Any:
        """Return the numbers."""
        self._part()
        return dict.keys(self)

    def values(self) -> Any:
        """Return the packets."""
        self._part()
        return dict.values(self)

    def items(self) -> Any:
        """Return both."""
        self._part()
        return dict.items(self)

    def clear(self) -> None:
        """Forget all."""
        self.bursts = []
        dict.clear(self)


def sent_packets_of(space: QuicPacketSpace) -> SentPackets:
    """Return what a space has in flight, from now on as one of these."""
    packets = space.sent_packets
    if not isinstance(packets, SentPackets):
        packets = space.sent_packets = SentPackets(packets)
    return packets
