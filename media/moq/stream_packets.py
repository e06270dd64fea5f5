"""Packets with nothing but stream data, built straight from a connection's keys, as most of what leaves here is.

aioquic builds a packet frame by frame through its builder, and looks at every open stream for each. Here a whole burst
is built in one call (media/moq/packets.py). All of aioquic's books are kept as it keeps them, so that recovery, flow
control and congestion control stay its own. Whatever else has to be said is left to it.

Everything with an underscore is below aioquic's public surface, for which its version is pinned; tests/moq/
test_stream_packets.py compares what both ways send.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from aioquic.quic.connection import QuicConnection
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.quic.stream import QuicStream

from media.moq.keyring import Keyring
from media.moq.packets import MAX_CHUNKS, MAX_PACKETS, Built, Burst, Chunk, Head
from media.moq.sent_packets import Delivered, SentBurst, sent_packets_of

NUMBER_BYTES = 2
# Of stream data in a full packet, whatever else is in it: less would only ask for more room than is needed.
LEAST_IN_PACKET = 1_000
FIXED_BIT = 0x40
APPLICATION = -1  # among a connection's packet spaces
Sending = tuple[QuicStream, Chunk]
ROUNDING = 1e-6  # of a packet: a bucket emptied exactly lets no further one out


def write_stream_packets(
    quic: QuicConnection, streams: Iterable[int], keyring: Keyring, delivered: Delivered, now: float
) -> list[Burst]:
    """Send what streams have to send, the first ones first, as far as congestion, flow control and pacing let it.

    Returns what is to leave for the peer's current address. Leaves room for one packet, so that nothing else has to
    wait. `delivered` hears what became of each stretch of a stream. When pacing holds something back, the connection's
    timer says until when.
    """
    bursts: list[Burst] = []
    waiting = [stream for id in streams if (stream := quic._streams.get(id)) is not None and has_data(stream)]
    while waiting:
        count = _packets_allowed(quic, now)
        chunks = _chunks(quic, waiting, count * quic._max_datagram_size) if count else []
        if not chunks:
            break
        bursts.append(_send(quic, keyring, chunks, count, delivered, now))
        waiting = [stream for stream in waiting if has_data(stream)]
    if bursts:
        _put_off_idling(quic, now)
    return bursts


def may_send(quic: QuicConnection, size: int, now: float) -> bool:
    """Whether congestion, the connection's flow control and pacing let out so many bytes of stream data at once."""
    packets = size // LEAST_IN_PACKET + 1
    return packets <= _packets_allowed(quic, now) and size <= quic._remote_max_data - quic._remote_max_data_used


def has_room(stream: QuicStream, size: int) -> bool:
    """Whether a stream would take so many bytes, and have them leave behind nothing but its beginning."""
    sender = stream.sender
    is_open = sender._reset_error_code is None and sender._buffer_fin is None
    is_next = sender.buffer_is_empty or sender.highest_offset == 0
    return is_open and is_next and sender._buffer_stop + size <= stream.max_stream_data_remote


def write_whole(stream: QuicStream, data: bytes, is_last: bool) -> Chunk:
    """Do what aioquic's sender does with what is written to it and leaves it at once, with what was written before."""
    sender = stream.sender
    assert stream.stream_id is not None
    start = sender.highest_offset
    if not sender.buffer_is_empty:
        data = bytes(sender._buffer) + data
        sender._pending.shift()
        sender._buffer_stop, sender.buffer_is_empty = 0, True
        sender._buffer.clear()
    sender._buffer += data
    sender._buffer_stop += len(data)
    if is_last:
        sender._buffer_fin = sender._buffer_stop
    return Chunk(stream.stream_id, start, data, is_last)


def send_chunks(
    quic: QuicConnection, keyring: Keyring, chunks: list[Sending], delivered: Delivered, now: float
) -> Burst:
    """Send chunks of `write_whole` in one burst, which `may_send` was asked for."""
    built = _build(quic, keyring, chunks, MAX_PACKETS)
    burst = SentBurst.of(quic._packet_number, built, chunks, now, delivered)
    _enter_burst(quic, burst)
    for stream, start, stop, _ in burst.frames:
        stream.sender.highest_offset = stop
        quic._remote_max_data_used += stop - start
    quic._pacing_at = None
    _put_off_idling(quic, now)
    return built.burst


def _put_off_idling(quic: QuicConnection, now: float) -> None:
    if not quic._ack_eliciting_sent_since_receipt:
        quic._close_at = now + quic._idle_timeout()
        quic._ack_eliciting_sent_since_receipt = True


def has_data(stream: QuicStream) -> bool:
    """Whether a stream has something to send."""
    sender = stream.sender
    return not (sender.buffer_is_empty or sender.reset_pending or stream.is_blocked or sender.is_finished)


def _packets_allowed(quic: QuicConnection, now: float) -> int:
    """Return how many full packets may leave now."""
    loss = quic._loss
    free = (loss._cc.congestion_window - loss._cc.bytes_in_flight) // quic._max_datagram_size - 1
    paced = _packets_paced(loss._pacer, now)
    if not paced:
        quic._pacing_at = loss._pacer.next_send_time(now=now)
    return max(0, min(free, paced, MAX_PACKETS))


def _packets_paced(pacer: QuicPacketPacer, now: float) -> int:
    """Return after how many packets the pacer's bucket is empty: one may leave as long as anything is in it."""
    if pacer.packet_time is None:
        return MAX_PACKETS
    pacer.update_bucket(now=now)
    if pacer.bucket_time <= 0:
        return 0
    return min(max(1, math.ceil(pacer.bucket_time / pacer.packet_time - ROUNDING)), MAX_PACKETS)


def _chunks(quic: QuicConnection, waiting: list[QuicStream], room: int) -> list[Sending]:
    """Take up to so many bytes of the first streams on, as far as their flow control goes."""
    chunks: list[Sending] = []
    credit = quic._remote_max_data - quic._remote_max_data_used
    for stream in waiting:
        sender = stream.sender
        assert stream.stream_id is not None
        for pending in sender._pending:
            if room <= 0 or len(chunks) == MAX_CHUNKS:
                return chunks
            highest = max(sender.highest_offset, pending.start)
            stop = min(pending.stop, pending.start + room, stream.max_stream_data_remote, highest + credit)
            if stop <= pending.start:
                break
            credit -= max(0, stop - highest)
            room -= stop - pending.start
            base = sender._buffer_start
            data = bytes(memoryview(sender._buffer)[pending.start - base : stop - base])
            chunks.append((stream, Chunk(stream.stream_id, pending.start, data, stop == sender._buffer_fin)))
        if not len(sender._pending) and sender._pending_eof and len(chunks) < MAX_CHUNKS:
            assert sender._buffer_fin is not None
            chunks.append((stream, Chunk(stream.stream_id, sender._buffer_fin, b"", True)))
    return chunks


def _send(
    quic: QuicConnection, keyring: Keyring, chunks: list[Sending], count: int, delivered: Delivered, now: float
) -> Burst:
    """Build a burst from chunks and enter it into the books."""
    built = _build(quic, keyring, chunks, count)
    burst = SentBurst.of(quic._packet_number, built, chunks, now, delivered)
    _enter_burst(quic, burst)
    for stream, start, stop, is_last in burst.frames:
        _enter_frame(quic, stream, start, stop, is_last=is_last)
    return built.burst


def _build(quic: QuicConnection, keyring: Keyring, chunks: list[Sending], count: int) -> Built:
    phase = keyring.key_phase(quic)
    head = Head(FIXED_BIT | (quic._spin_bit << 5) | (phase << 2) | (NUMBER_BYTES - 1), quic._peer_cid.cid)
    sealer = keyring.sealer(quic)
    return sealer.build(head, quic._packet_number, quic._max_datagram_size, count, [chunk for _, chunk in chunks])


def _enter_burst(quic: QuicConnection, burst: SentBurst) -> None:
    """Do what aioquic's recovery does for each packet sent, for all of a burst."""
    count = burst.stop - burst.first
    loss = quic._loss
    space = loss.spaces[APPLICATION]
    sent_packets_of(space).bursts.append(burst)
    space.ack_eliciting_in_flight += count
    loss._time_of_last_sent_ack_eliciting_packet = burst.sent_time
    loss._cc.bytes_in_flight += burst.sent_bytes
    pacer = loss._pacer
    if pacer.packet_time is not None:
        pacer.bucket_time = max(0.0, pacer.bucket_time - count * pacer.packet_time)
    quic._packet_number = burst.stop
    quic._network_paths[0].bytes_sent += burst.sent_bytes


def _enter_frame(quic: QuicConnection, stream: QuicStream, start: int, stop: int, *, is_last: bool) -> None:
    """Do what aioquic's sender does when it gives a frame away."""
    sender = stream.sender
    if stop > start:
        sender._pending.subtract(start, stop)
    if stop > sender.highest_offset:
        quic._remote_max_data_used += stop - sender.highest_offset
        sender.highest_offset = stop
    if is_last:
        sender._pending_eof = False
    sender.buffer_is_empty = not len(sender._pending) and not sender._pending_eof
