"""Bursts of packets of stream data as they are made, and acknowledgements as they are opened.

`SealedByKernel` is the compiled one (media/moq/packet_kernel.py); media/moq/packet_reference.py says in plain Python
what it does, and makes the packets of connections whose cipher it does not know.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from aioquic.quic.crypto import CryptoContext, derive_key_iv_hp
from aioquic.tls import CipherSuite

from media.io import aead
from media.io.cipher import BLOCK_BYTES
from media.moq import packet_kernel as kernel

MAX_PACKETS = 48  # of one burst: less than 64 KB, which the kernel takes in one call
MAX_CHUNKS = 64
MAX_PACKET_BYTES = 65_000 // MAX_PACKETS
AES = (CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384)


class Chunk(NamedTuple):
    """Bytes of a stream that are to leave; `is_last` when the stream ends with them."""

    stream: int
    offset: int
    data: bytes | memoryview
    is_last: bool


class Burst(NamedTuple):
    """Packets one behind the other, all of `size` bytes but the last, which may be shorter."""

    data: bytes
    size: int

    @property
    def packets(self) -> int:
        """How many packets these are."""
        return -(-len(self.data) // self.size)

    def datagrams(self) -> list[bytes]:
        """Return each packet by itself."""
        return [self.data[at : at + self.size] for at in range(0, len(self.data), self.size)]


class Built(NamedTuple):
    """A burst, and up to where in which chunk it goes."""

    burst: Burst
    table: bytes  # of the frames in it, to be read by `rows_of`
    last_chunk: int
    stop: int  # in its stream

    @property
    def frames(self) -> list[list[int]]:
        """Return the frames as (packet, chunk, from, to), counted from 0 and in the streams' offsets."""
        return rows_of(self.table)


def rows_of(table: bytes) -> list[list[int]]:
    """Return the rows of a table of frames."""
    rows: list[list[int]] = np.frombuffer(table, np.int64).reshape(-1, 4).tolist()
    return rows


class Head(NamedTuple):
    """What stands in front of a connection's packets: the first byte, unprotected, and the peer's connection id."""

    first: int
    connection_id: bytes


class Sealer(Protocol):
    """Makes packets of a connection under its keys of the moment."""

    def build(self, head: Head, number: int, most: int, count: int, chunks: list[Chunk]) -> Built:
        """Build at most `count` packets of at most `most` bytes, the first with this number, from the first chunks."""


class Keys(NamedTuple):
    """A direction's keys."""

    key: bytes
    iv: bytes
    mask: bytes


def keys_of(crypto: CryptoContext, mask: bytes | None) -> Keys | None:
    """Return the keys of a direction, None when they are not AES's; an update leaves `mask` as it was before."""
    if crypto.cipher_suite not in AES or crypto.secret is None or crypto.version is None:
        return None
    assert crypto.cipher_suite is not None
    key, iv, first_mask = derive_key_iv_hp(
        cipher_suite=crypto.cipher_suite, secret=crypto.secret, version=crypto.version
    )
    return Keys(key, iv, first_mask if mask is None else mask)


def masks_alike(crypto: CryptoContext, mask: bytes) -> bool:
    """Whether a key of header protection is the one in use, which only the first secret tells."""
    assert crypto.hp is not None
    sample = bytes(range(BLOCK_BYTES))
    out = np.empty(BLOCK_BYTES, np.uint8)
    context = kernel.open_mask(_view(mask))
    try:
        return bool(kernel.make_mask(context, _view(sample), out)) and out.tobytes() == crypto.hp._mask(sample)
    finally:
        aead.close_context(context)


class KernelKeys:
    """A direction's keys as the kernel takes them, until this object is gone."""

    def __init__(self, keys: Keys, *, seals: bool) -> None:
        self.aead = aead.own(self, aead.open_aead(_view(keys.key), seals))
        self.mask = aead.own(self, kernel.open_mask(_view(keys.mask)))
        self.iv = keys.iv


class SealedByKernel:
    """Packets by the compiled builder."""

    def __init__(self, keys: Keys) -> None:
        self._keys = KernelKeys(keys, seals=True)
        self._head = Head(0, b"")
        self._head_bytes = np.empty(0, np.uint8)

    def build(self, head: Head, number: int, most: int, count: int, chunks: list[Chunk]) -> Built:
        """Build packets; raises OverflowError for what would not fit, ValueError when the cipher fails."""
        if most > MAX_PACKET_BYTES or count > MAX_PACKETS or len(chunks) > MAX_CHUNKS:
            raise OverflowError("a burst too long")
        if head != self._head:
            self._head = head
            self._head_bytes = np.frombuffer(
                bytearray(self._keys.iv + bytes((head.first,)) + head.connection_id), np.uint8
            )
        place = 0
        for chunk in chunks:
            _CELLS[place], _CELLS[place + 1] = chunk.stream, chunk.offset
            _CELLS[place + 2], _CELLS[place + 3] = len(chunk.data), chunk.is_last
            place += 4
        whole = chunks[0].data if len(chunks) == 1 else b"".join([chunk.data for chunk in chunks])
        written = kernel.build_packets(
            self._keys.aead,
            self._keys.mask,
            self._head_bytes,
            number,
            most,
            count,
            _view(whole),
            _CHUNKS,
            len(chunks),
            _OUT,
            _FRAMES,
            _WORK,
        )
        if written < 0:
            raise ValueError("the cipher refused a packet")
        at = 4 * written
        packet, last_chunk, _, stop, last_size = _TOLD[at - 4 : at + 1]
        size = most if packet else last_size
        burst = Burst(bytes(_PACKETS[: packet * most + last_size]), size)
        return Built(burst, bytes(_TOLD[:at]), last_chunk, stop)


class Acknowledgement(NamedTuple):
    """A packet that does nothing but acknowledge, as it was opened; ranges with their ends left out, oldest first."""

    number: int
    first: int  # byte of the packet, unprotected
    delay: int  # as it was encoded
    ranges: list[tuple[int, int]]


class Opener:
    """Opens acknowledgements to a connection under its keys of the moment."""

    def __init__(self, keys: Keys, key_phase: int, connection_id: bytes) -> None:
        self._keys = KernelKeys(keys, seals=False)
        self._head_bytes = np.frombuffer(bytearray(keys.iv + bytes((key_phase << 2,)) + connection_id), np.uint8)

    def open_untrusted(self, data: bytes, expected: int) -> Acknowledgement | None:
        """Return what a packet with a short header for our connection id acknowledges; None when it may do more."""
        count = kernel.open_acknowledgement_untrusted(
            self._keys.aead, self._keys.mask, self._head_bytes, _view(data), expected, _PLAIN, _FOUND, _WORK
        )
        if count == kernel.NOT_OURS:
            return None
        number, first, delay, _, *edges = _FOUND[: 4 + 2 * count].tolist()
        return Acknowledgement(number, first, delay, list(zip(edges[::2], edges[1::2], strict=True)))


def _view(data: bytes | memoryview) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(data or b"\0", np.uint8)  # NumPy has no view of nothing


# One thread builds and opens packets, each whole before the next.
_OUT = np.empty(MAX_PACKETS * MAX_PACKET_BYTES, np.uint8)
_FRAMES = np.empty((MAX_PACKETS + MAX_CHUNKS + 1, 4), np.int64)
_PACKETS, _TOLD = _OUT.data, _FRAMES.reshape(-1).data
_CHUNKS = np.empty((MAX_CHUNKS, 4), np.int64)
_CELLS = _CHUNKS.reshape(-1).data
_WORK = np.empty(64, np.uint8)
_PLAIN = np.empty(2_048, np.uint8)  # longer ones are none of ours
_FOUND = np.empty(4 + 2 * kernel.MAX_RANGES, np.int64)
