"""Packets with nothing but stream data, built straight from a connection's keys, as most of what leaves here is.

aioquic builds a packet frame by frame through its builder, and looks at every open stream for each: 36 us a packet with
10 streams open, 74 to 87 us with 100. Here it is 12, and 15 to 20 us (bench/moq_packets.py, a busy 2-core VM), part
of which is aioquic's taking in of the data. All of its books are kept as it keeps them, so that recovery, flow
control and retransmission stay its own: what is lost comes back into the stream's buffer and leaves by either way.
Whatever else has to be said is left to it.

Everything with an underscore is below aioquic's public surface, for which its version is pinned; tests/moq/
test_stream_packets.py compares what both ways send.
"""

from __future__ import annotations

from collections.abc import Iterable

from aioquic.quic.connection import QuicConnection, QuicConnectionState
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from media.moq.varint import varint

TAG_BYTES = 16  # of every cipher of TLS 1.3
NUMBER_BYTES = 2  # of a packet's number, as aioquic writes it
LONGEST_HEAD = 1 + 8 + 8 + 2  # of a STREAM frame (RFC 9000 section 19.8): its type, stream, offset and length
LEAST_BYTES = 64  # of data in one frame, while there is more: its head would not be worth it
FIXED_BIT = 0x40
STREAM, OFF, LEN, FIN = 0x08, 0x04, 0x02, 0x01
SAMPLE = slice(4 - NUMBER_BYTES, 20 - NUMBER_BYTES)  # of what is encrypted (RFC 9001 section 5.4.2)


def write_stream_packets(quic: QuicConnection, streams: Iterable[int], now: float) -> list[bytes]:
    """Send what streams have to send, the first ones first, as far as congestion, flow control and pacing let it.

    Returns datagrams, for the peer's current address. Leaves room for one packet, so that nothing else has to wait.
    """
    if not _is_plain(quic):
        return []
    waiting = [stream for id in streams if (stream := quic._streams.get(id)) is not None and _has_data(stream)]
    if not waiting:
        return []
    crypto = quic._cryptos[Epoch.ONE_RTT].send
    space, loss = quic._spaces[Epoch.ONE_RTT], quic._loss
    most = quic._max_datagram_size
    first = FIXED_BIT | (quic._spin_bit << 5) | (crypto.key_phase << 2) | (NUMBER_BYTES - 1)
    start = bytes((first,)) + quic._peer_cid.cid
    capacity = most - len(start) - NUMBER_BYTES - TAG_BYTES
    heads: list[bytes] = []
    bodies: list[bytes] = []
    assert crypto.aead is not None
    encrypt, iv = crypto.aead._aead.encrypt, crypto.aead._iv
    while waiting and loss.congestion_window - loss.bytes_in_flight >= 2 * most:
        if loss._pacer.next_send_time(now=now) is not None:
            break
        packet = QuicSentPacket(Epoch.ONE_RTT, True, True, False, quic._packet_number, QuicPacketType.ONE_RTT, now)
        payload = _fill(quic, waiting, packet, capacity)
        if not payload:
            break
        head = start + (packet.packet_number & 0xFFFF).to_bytes(NUMBER_BYTES, "big")
        body = encrypt((iv ^ packet.packet_number).to_bytes(12, "big"), payload, head)
        heads.append(head)
        bodies.append(body)
        packet.sent_bytes = len(head) + len(body)
        quic._packet_number += 1
        loss.on_packet_sent(packet=packet, space=space)
        loss._pacer.update_after_send(now=now)
    if not heads:
        return []
    if not quic._ack_eliciting_sent_since_receipt:
        quic._close_at = now + quic._idle_timeout()
        quic._ack_eliciting_sent_since_receipt = True
    datagrams = _protect(quic, heads, bodies)
    quic._network_paths[0].bytes_sent += sum(map(len, datagrams))
    return datagrams


def _is_plain(quic: QuicConnection) -> bool:
    """Whether nothing is going on that packets of another kind, or of other keys, are needed for."""
    return (
        quic._state is QuicConnectionState.CONNECTED
        and quic._handshake_confirmed
        and not quic._close_pending
        and not quic._key_update_pending
        and not quic._cryptos[Epoch.ONE_RTT]._update_key_requested
        and quic._quic_logger is None
        and quic._network_paths[0].is_validated
    )


def _has_data(stream: QuicStream) -> bool:
    sender = stream.sender
    return not (sender.buffer_is_empty or sender.reset_pending or stream.is_blocked or sender.is_finished)


def _fill(quic: QuicConnection, waiting: list[QuicStream], packet: QuicSentPacket, room: int) -> bytes:
    """Take frames for one packet from the first streams on; those that have no more now leave `waiting`."""
    frames: list[bytes] = []
    while waiting and room >= LONGEST_HEAD + LEAST_BYTES:
        stream = waiting[0]
        sender = stream.sender
        before = sender.highest_offset
        credit = before + quic._remote_max_data - quic._remote_max_data_used
        frame = sender.get_frame(room - LONGEST_HEAD, min(credit, stream.max_stream_data_remote))
        if frame is None:
            del waiting[0]
            continue
        quic._remote_max_data_used += sender.highest_offset - before
        assert stream.stream_id is not None
        assert frame.offset is not None
        size, offset = len(frame.data), frame.offset
        kind = STREAM | LEN | (OFF if offset else 0) | (FIN if frame.fin else 0)
        head = bytes((kind,)) + varint(stream.stream_id) + (varint(offset) if offset else b"")
        head += (size | 0x4000).to_bytes(2, "big")
        frames += (head, frame.data)
        room -= len(head) + size
        packet.delivery_handlers.append((sender.on_data_delivery, (offset, offset + size, frame.fin)))
    return b"".join(frames)


def _protect(quic: QuicConnection, heads: list[bytes], bodies: list[bytes]) -> list[bytes]:
    """Hide first bytes and numbers (RFC 9001 section 5.4), all packets' in one call where the cipher lets us."""
    protection = quic._cryptos[Epoch.ONE_RTT].send.hp
    assert protection is not None
    if protection._is_chacha20:
        masks = b"".join(protection._mask(body[SAMPLE]).ljust(16, b"\0") for body in bodies)
    else:
        masks = protection._encryptor.update(b"".join(body[SAMPLE] for body in bodies))
    datagrams = []
    at = 0
    for head, body in zip(heads, bodies, strict=True):
        mask = int.from_bytes(masks[at + 1 : at + 1 + NUMBER_BYTES], "big")
        number = int.from_bytes(head[-NUMBER_BYTES:], "big") ^ mask
        first = head[0] ^ (masks[at] & 0x1F)
        datagrams.append(bytes((first,)) + head[1:-NUMBER_BYTES] + number.to_bytes(NUMBER_BYTES, "big") + body)
        at += 16
    return datagrams
