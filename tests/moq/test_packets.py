"""Compiled packets against plain Python's, and against what aioquic opens."""

from __future__ import annotations

import gc
import random

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite
from hypothesis import given
from hypothesis import strategies as st

from media.io import aead
from media.moq.packet_reference import SealedByReference
from media.moq.packets import (
    AES,
    MAX_PACKET_BYTES,
    MAX_PACKETS,
    Chunk,
    Head,
    SealedByKernel,
    keys_of,
    masks_alike,
)

MOST = 1_200
SIZES = st.one_of(st.sampled_from([0, 1, 63, 64, 65, 1_100, 1_169, 1_170, 9_000]), st.integers(0, 5_000))
VARINTS = [0, 1, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, 1 << 40, (1 << 62) - 60_000]


def crypto(cipher: CipherSuite = CipherSuite.AES_128_GCM_SHA256, seed: int = 1) -> CryptoContext:
    made = CryptoContext()
    size = 48 if cipher is CipherSuite.AES_256_GCM_SHA384 else 32
    made.setup(cipher_suite=cipher, secret=random.Random(seed).randbytes(size), version=QuicProtocolVersion.VERSION_1)
    return made


def by_kernel(context: CryptoContext) -> SealedByKernel:
    keys = keys_of(context, None)
    assert keys is not None
    return SealedByKernel(keys)


CRYPTO = {cipher: crypto(cipher) for cipher in AES}
KERNELS = {cipher: by_kernel(context) for cipher, context in CRYPTO.items()}


@st.composite
def chunk_lists(draw: st.DrawFn) -> list[Chunk]:
    chunks = []
    for _ in range(draw(st.integers(1, 6))):
        size, is_last = draw(SIZES), draw(st.booleans())
        stream, offset = draw(st.sampled_from(VARINTS)), draw(st.sampled_from(VARINTS))
        data = random.Random(size).randbytes(size)
        chunks.append(Chunk(stream, offset, data, is_last or not size))
    return chunks


@given(
    chunk_lists(),
    st.sampled_from(AES),
    st.sampled_from([0, 1, 65_535, 65_536, (1 << 32) - 1, (1 << 61) + 7]),
    st.binary(max_size=20),
    st.integers(1, MAX_PACKETS),
    st.sampled_from([0x41, 0x45, 0x61, 0x65]),
)
def test_the_kernel_builds_what_plain_python_builds(
    chunks: list[Chunk], cipher: CipherSuite, number: int, connection_id: bytes, count: int, first: int
) -> None:
    head = Head(first, connection_id)
    built = KERNELS[cipher].build(head, number, MOST, count, chunks)
    assert built == SealedByReference(CRYPTO[cipher]).build(head, number, MOST, count, chunks)


@given(chunk_lists(), st.integers(0, 1 << 40), st.integers(1, MAX_PACKETS))
def test_aioquic_opens_every_packet_and_finds_the_frames_told_of(chunks: list[Chunk], number: int, count: int) -> None:
    cipher = AES[0]
    built = KERNELS[cipher].build(Head(0x41, b"12345678"), number, MOST, count, chunks)
    packets = built.burst.datagrams()
    assert len(packets) == built.burst.packets <= count
    assert all(len(packet) == MOST for packet in packets[:-1])
    found = []
    for at, packet in enumerate(packets):
        _, payload, read, _ = CRYPTO[cipher].decrypt_packet(packet, 9, number + at)
        assert read == number + at
        found += [(at, *frame) for frame in frames_of(payload)]
    told = []
    for at, row, start, stop in built.frames:
        chunk = chunks[row]
        data = bytes(chunk.data)[start - chunk.offset : stop - chunk.offset]
        told.append((at, chunk.stream, start, data, chunk.is_last and stop == chunk.offset + len(chunk.data)))
    assert found == told


def frames_of(payload: bytes) -> list[tuple[int, int, bytes, bool]]:
    buffer, found = Buffer(data=payload), []
    while not buffer.eof():
        kind = buffer.pull_uint_var()
        if kind == 0:
            continue
        stream = buffer.pull_uint_var()
        offset = buffer.pull_uint_var() if kind & 4 else 0
        found.append((stream, offset, buffer.pull_bytes(buffer.pull_uint_var()), bool(kind & 1)))
    return found


def test_what_was_not_taken_is_not_told_of() -> None:
    whole = Chunk(3, 0, bytes(5_000), True)
    built = KERNELS[AES[0]].build(Head(0x41, b"12345678"), 0, MOST, 2, [whole, whole._replace(stream=7)])
    assert built.burst.packets == 2
    assert built.frames[-1][3] < 5_000


def test_a_burst_too_long_for_the_buffers_is_refused() -> None:
    kernel, head, chunk = KERNELS[AES[0]], Head(0x41, b""), Chunk(3, 0, b"x", False)
    for most, count, chunks in [(MAX_PACKET_BYTES + 1, 1, 1), (MOST, MAX_PACKETS + 1, 1), (MOST, 1, 65)]:
        with pytest.raises(OverflowError):
            kernel.build(head, 0, most, count, [chunk] * chunks)


def test_other_ciphers_have_no_keys_for_the_kernel_and_another_mask_is_noticed() -> None:
    assert keys_of(crypto(CipherSuite.CHACHA20_POLY1305_SHA256), None) is None
    for cipher, context in CRYPTO.items():
        keys = keys_of(context, None)
        assert keys is not None
        assert masks_alike(context, keys.mask)
        assert not masks_alike(context, bytes(len(keys.mask))), cipher


def test_keys_free_their_contexts_when_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = []
    monkeypatch.setattr(aead, "close_context", freed.append)
    sealer = by_kernel(CRYPTO[AES[0]])
    made = [sealer._keys.aead, sealer._keys.mask]
    del sealer
    gc.collect()
    assert sorted(freed) == sorted(made)
