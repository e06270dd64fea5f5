"""Compiled: QUIC packets with nothing but stream data, and packets with nothing but acknowledgements.

A packet of 1,200 bytes costs 0.5 to 1 us, of which most is AES-GCM; taking in an acknowledgement 1 us. Judged by
media/moq/packet_reference.py in tests/moq/test_packets.py. Keys are contexts of media/io/cipher.py; `head` is what
changes with keys and connection ids alone: 12 bytes of nonce, the packet's first byte, the connection id.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from media.io.cipher import (
    BLOCK_BYTES,
    GET_TAG,
    SET_TAG,
    TAG_BYTES,
    aes_128_ecb,
    aes_256_ecb,
    control,
    decrypt_final,
    decrypt_init,
    decrypt_update,
    encrypt_final,
    encrypt_init,
    encrypt_update,
    free_context,
    new_context,
)
from media.io.compiled import keep_compiled
from media.io.native import memcpy

NONCE_BYTES = 12
NUMBER_BYTES = 2  # of a packet's number, as aioquic writes it
LONGEST_HEAD = 1 + 8 + 8 + 2  # of a STREAM frame (RFC 9000 section 19.8): its type, stream, offset and length
LEAST_BYTES = 64  # of data in one frame, while there is more: its head would not be worth it
STREAM, OFF, LEN, FIN = 0x08, 0x04, 0x02, 0x01
PADDING, ACK, ACK_ECN = 0x00, 0x02, 0x03
RESERVED_BITS, KEY_PHASE = 0x18, 0x04
MAX_RANGES = 64  # of an acknowledgement; longer ones are for aioquic
NOT_OURS = -1  # a packet for aioquic to judge

keep_compiled("quic", __file__)

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_buffer = types.Array(types.uint8, 1, "C")
_table = types.Array(types.int64, 2, "C")
_numbers = types.Array(types.int64, 1, "C")


@njit([types.uintp(_bytes)], cache=True)
def open_mask(key):
    """Return a context for header protection by AES (RFC 9001 section 5.4.3); 0 when there is none."""
    context = new_context()
    if context == 0:
        return context
    cipher = aes_128_ecb() if key.size == 16 else aes_256_ecb()
    zero = np.uint64(0)
    if encrypt_init(context, cipher, zero, key.ctypes.data, zero) != 1:
        free_context(context)
        return zero
    return context


@njit([types.boolean(types.uintp, _bytes, _buffer)], cache=True)
def make_mask(context, sample, out):
    """Encrypt one block of 16 bytes; False when the cipher refuses."""
    size = np.empty(1, np.int32)
    done = encrypt_update(context, out.ctypes.data, size.ctypes.data, sample.ctypes.data, np.int32(BLOCK_BYTES))
    return done == 1


@njit
def _write_varint(out, at, value):
    if value < 0x40:
        out[at] = value
        return at + 1
    if value < 0x4000:
        size, mark = 2, 0x40
    elif value < 0x40000000:
        size, mark = 4, 0x80
    else:
        size, mark = 8, 0xC0
    for i in range(size):
        out[at + i] = (value >> (8 * (size - 1 - i))) & 0xFF
    out[at] |= mark
    return at + size


@njit
def _varint_size(value):
    if value < 0x40:
        return 1
    if value < 0x4000:
        return 2
    return 4 if value < 0x40000000 else 8


@njit
def _write_nonce(head, number, nonce):
    for i in range(NONCE_BYTES):
        nonce[i] = head[i]
    for i in range(8):
        nonce[NONCE_BYTES - 1 - i] ^= (number >> (8 * i)) & 0xFF


@njit
def _seal(aead, mask, head, number, out, at, header_size, size, work):
    """Encrypt in place the packet of `size` bytes at `at`, without its tag; False when a cipher refuses."""
    zero, base = np.uint64(0), out.ctypes.data + np.uint64(at)
    spare = work.ctypes.data
    _write_nonce(head, number, work)
    body = base + np.uint64(header_size)
    length = np.int32(size - header_size)
    written = spare + np.uint64(32)
    if encrypt_init(aead, zero, zero, zero, spare) != 1:
        return False
    if encrypt_update(aead, zero, written, base, np.int32(header_size)) != 1:
        return False
    if encrypt_update(aead, body, written, body, length) != 1:
        return False
    if encrypt_final(aead, body + np.uint64(length), written) != 1:
        return False
    if control(aead, np.int32(GET_TAG), np.int32(TAG_BYTES), body + np.uint64(length)) != 1:
        return False
    sample = body + np.uint64(4 - NUMBER_BYTES)
    if encrypt_update(mask, spare + np.uint64(40), written, sample, np.int32(BLOCK_BYTES)) != 1:
        return False
    out[at] ^= work[40] & 0x1F
    for i in range(NUMBER_BYTES):
        out[at + header_size - NUMBER_BYTES + i] ^= work[41 + i]
    return True


@njit(
    [
        types.int64(
            types.uintp,
            types.uintp,
            _buffer,
            types.int64,
            types.int64,
            types.int64,
            _buffer,
            _table,
            types.int64,
            _buffer,
            _table,
            _buffer,
        )
    ],
    cache=True,
)
def build_packets(aead, mask, head, number, most, count, data, chunks, chunk_count, out, frames, work):
    """Build at most `count` packets of `most` bytes from the first, the last one perhaps shorter.

    A row of `chunks` is (stream, offset, size, is the stream's end); their bytes follow each other in `data`. A row of
    `frames` becomes (packet, chunk, from, to) for each frame written. Returns frames written, or -1.
    """
    header_size = head.size - NONCE_BYTES + NUMBER_BYTES
    room_of_all = most - TAG_BYTES
    packet, chunk, taken, source, written = 0, 0, 0, 0, 0
    while packet < count and chunk < chunk_count:
        start = packet * most
        for i in range(head.size - NONCE_BYTES):
            out[start + i] = head[NONCE_BYTES + i]
        this = number + packet
        out[start + header_size - 2] = (this >> 8) & 0xFF
        out[start + header_size - 1] = this & 0xFF
        at, limit = start + header_size, start + room_of_all
        while chunk < chunk_count and limit - at >= LONGEST_HEAD + LEAST_BYTES:
            stream, offset = chunks[chunk, 0], chunks[chunk, 1] + taken
            left = chunks[chunk, 2] - taken
            frame_head = 3 + _varint_size(stream) + (_varint_size(offset) if offset else 0)
            size = min(left, limit - at - frame_head)
            is_last = size == left and chunks[chunk, 3] != 0
            out[at] = STREAM | LEN | (OFF if offset else 0) | (FIN if is_last else 0)
            at = _write_varint(out, at + 1, stream)
            if offset:
                at = _write_varint(out, at, offset)
            out[at] = 0x40 | (size >> 8)
            out[at + 1] = size & 0xFF
            at += 2
            if size:
                memcpy(out.ctypes.data + np.uint64(at), data.ctypes.data + np.uint64(source), np.uint64(size))
            at += size
            source += size
            frames[written, 0], frames[written, 1] = packet, chunk
            frames[written, 2], frames[written, 3] = offset, offset + size
            written += 1
            taken += size
            if size == left:
                chunk, taken = chunk + 1, 0
        if chunk < chunk_count and packet + 1 < count:
            # All packets of a burst but the last have one size.
            for i in range(at, limit):
                out[i] = PADDING
            at = limit
        if not _seal(aead, mask, head, this, out, start, header_size, at - start, work):
            return -1
        frames[written, 0] = at - start + TAG_BYTES  # beyond the last frame: the last packet's size
        packet += 1
    return written


@njit
def _read_varint(data, at, end):
    """Return (value, where it ends), or (-1, 0) when it is not whole."""
    if at >= end:
        return np.int64(-1), 0
    size = 1 << (data[at] >> 6)
    if at + size > end:
        return np.int64(-1), 0
    value = np.int64(data[at] & 0x3F)
    for i in range(1, size):
        value = (value << 8) | np.int64(data[at + i])
    return value, at + size


@njit
def _read_ack_untrusted(data, at, end, ecn, found):
    """Read an ACK frame from behind its type: its ranges, oldest first, into `found` from its fourth place on.

    Returns where the frame ends, or -1.
    """
    largest, at = _read_varint(data, at, end)
    if largest < 0:
        return -1
    delay, at = _read_varint(data, at, end)
    if delay < 0:
        return -1
    count, at = _read_varint(data, at, end)
    if count < 0 or count >= MAX_RANGES:
        return -1
    first, at = _read_varint(data, at, end)
    if first < 0 or first > largest:
        return -1
    found[2], found[3] = delay, count + 1
    low = largest - first
    place = 4 + 2 * count
    found[place], found[place + 1] = low, largest + 1
    for _ in range(count):
        gap, at = _read_varint(data, at, end)
        if gap < 0 or gap + 2 > low:
            return -1
        length, at = _read_varint(data, at, end)
        high = low - gap - 2
        if length < 0 or length > high:
            return -1
        low = high - length
        place -= 2
        found[place], found[place + 1] = low, high + 1
    for _ in range(3 if ecn else 0):
        value, at = _read_varint(data, at, end)
        if value < 0:
            return -1
    return at


@njit
def _is_acknowledgement(data, at, end, found):
    """Whether there is one ACK frame, and nothing else but padding."""
    acks = 0
    while at < end:
        kind = data[at]
        at += 1
        if kind == PADDING:
            continue
        if (kind != ACK and kind != ACK_ECN) or acks:
            return False
        at = _read_ack_untrusted(data, at, end, kind == ACK_ECN, found)
        if at < 0:
            return False
        acks += 1
    return acks == 1


@njit
def _number(truncated, bits, expected):
    """Return the whole number of a packet (RFC 9000 appendix A.3)."""
    window = np.int64(1) << bits
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (np.int64(1) << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


@njit(
    [types.int64(types.uintp, types.uintp, _buffer, _buffer, types.int64, types.int64, _buffer, _numbers, _buffer)],
    cache=True,
)
def open_acknowledgement_untrusted(aead, mask, head, data, length, expected, plain, found, work):
    """Open a packet of `length` bytes with a short header; NOT_OURS when it does not acknowledge and nothing else.

    Else returns how many ranges it acknowledges. `found` becomes: the packet's number, its first byte, the
    acknowledgement's delay, how many ranges, and then each one's beginning and end, oldest first. Nothing is changed by
    a packet that is not ours.
    """
    zero = np.uint64(0)
    number_at = head.size - NONCE_BYTES
    if length < number_at + 4 + TAG_BYTES or length > plain.size:
        return NOT_OURS
    base, spare = data.ctypes.data, work.ctypes.data
    written = spare + np.uint64(32)
    if (
        encrypt_update(mask, spare + np.uint64(40), written, base + np.uint64(number_at + 4), np.int32(BLOCK_BYTES))
        != 1
    ):
        return NOT_OURS
    first = data[0] ^ (work[40] & 0x1F)
    if first & RESERVED_BITS or (first & KEY_PHASE) != (head[NONCE_BYTES] & KEY_PHASE):
        return NOT_OURS
    size = (first & 0x03) + 1
    truncated = np.int64(0)
    for i in range(number_at):
        plain[i] = data[i]
    plain[0] = first
    for i in range(size):
        plain[number_at + i] = data[number_at + i] ^ work[41 + i]
        truncated = (truncated << 8) | np.int64(plain[number_at + i])
    number = _number(truncated, 8 * np.int64(size), expected)
    _write_nonce(head, number, work)
    begin = number_at + np.int64(size)
    end = length - TAG_BYTES
    target = plain.ctypes.data + np.uint64(begin)
    if decrypt_init(aead, zero, zero, zero, spare) != 1:
        return NOT_OURS
    if decrypt_update(aead, zero, written, plain.ctypes.data, np.int32(begin)) != 1:
        return NOT_OURS
    if decrypt_update(aead, target, written, base + np.uint64(begin), np.int32(end - begin)) != 1:
        return NOT_OURS
    if control(aead, np.int32(SET_TAG), np.int32(TAG_BYTES), base + np.uint64(end)) != 1:
        return NOT_OURS
    if decrypt_final(aead, plain.ctypes.data + np.uint64(end), written) != 1:
        return NOT_OURS
    if not _is_acknowledgement(plain, begin, end, found):
        return NOT_OURS
    found[0], found[1] = number, first
    return found[3]
