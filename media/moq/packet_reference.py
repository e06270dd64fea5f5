"""Packets of stream data in plain Python: what media/moq/packet_kernel.py does, by the cipher that aioquic holds."""

from __future__ import annotations

from array import array
from itertools import chain

from aioquic.quic.crypto import CryptoContext

from media.moq.packet_kernel import FIN, LEAST_BYTES, LEN, LONGEST_HEAD, NUMBER_BYTES, OFF, STREAM
from media.moq.packets import Built, Burst, Chunk, Head
from media.moq.varint import varint

TAG_BYTES = 16  # of every cipher of TLS 1.3


class SealedByReference:
    """Packets by what aioquic seals its own with, whichever cipher that is."""

    def __init__(self, crypto: CryptoContext) -> None:
        self._crypto = crypto

    def build(self, head: Head, number: int, most: int, count: int, chunks: list[Chunk]) -> Built:
        """Build packets (see `Sealer`)."""
        start = bytes((head.first,)) + head.connection_id
        room = most - len(start) - NUMBER_BYTES - TAG_BYTES
        packets: list[bytes] = []
        frames: list[list[int]] = []
        left = list(enumerate(chunks))
        while left and len(packets) < count:
            payload = _fill(left, room, len(packets), frames)
            if left and len(packets) + 1 < count:
                payload = payload.ljust(room, b"\0")  # all packets of a burst but the last have one size
            plain = start + ((number + len(packets)) & 0xFFFF).to_bytes(NUMBER_BYTES, "big")
            packets.append(self._crypto.encrypt_packet(plain, payload, number + len(packets)))
        _, last_chunk, _, stop = frames[-1]
        table = array("q", chain.from_iterable(frames)).tobytes()
        return Built(Burst(b"".join(packets), len(packets[0])), table, last_chunk, stop)


def _fill(left: list[tuple[int, Chunk]], room: int, packet: int, frames: list[list[int]]) -> bytes:
    """Take frames for one packet from the first chunks on; what is left of them stays in `left`."""
    payload = b""
    while left and room - len(payload) >= LONGEST_HEAD + LEAST_BYTES:
        row, chunk = left[0]
        begin = varint(chunk.stream) + (varint(chunk.offset) if chunk.offset else b"")
        data = chunk.data[: room - len(payload) - 3 - len(begin)]
        is_end = len(data) == len(chunk.data)
        kind = STREAM | LEN | (OFF if chunk.offset else 0) | (FIN if is_end and chunk.is_last else 0)
        payload += bytes((kind,)) + begin + (len(data) | 0x4000).to_bytes(2, "big") + bytes(data)
        frames.append([packet, row, chunk.offset, chunk.offset + len(data)])
        if is_end:
            del left[0]
        else:
            left[0] = (row, chunk._replace(offset=chunk.offset + len(data), data=chunk.data[len(data) :]))
    return payload
