"""Compiled: packets with a short header sealed and opened, and the numbers in them.

A packet of 1,200 bytes costs 0.5 to 1 us, of which most is AES-GCM; opening an acknowledgement less. Judged by aioquic
in tests/moq/test_packets.py. Contexts are those of media/io/cipher.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from media.io.cipher import (
    BLOCK_BYTES,
    GET_TAG,
    SET_TAG,
    TAG_BYTES,
    control,
    decrypt_final,
    decrypt_init,
    decrypt_update,
    encrypt_final,
    encrypt_init,
    encrypt_update,
)
from media.moq.kernel.columns import IV_BYTES

NUMBER_BYTES = 2  # of a packet's number, as aioquic writes it
RESERVED_BITS, KEY_PHASE_BIT, SPIN_BIT, FIXED_BIT = 0x18, 0x04, 0x20, 0x40
PADDING, PING, ACK, ACK_ECN = 0x00, 0x01, 0x02, 0x03
MAX_RANGES = 64  # of an acknowledgement; longer ones are for aioquic
FAILED = -1


@njit
def write_varint(out, at, value):
    """Write a number; returns where it ends."""
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
def varint_size(value):
    """Return how many bytes a number takes."""
    if value < 0x40:
        return 1
    if value < 0x4000:
        return 2
    return 4 if value < 0x40000000 else 8


@njit
def read_varint(data, at, end):
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
def _write_nonce(iv, number, nonce):
    for i in range(IV_BYTES):
        nonce[i] = iv[i]
    for i in range(8):
        nonce[IV_BYTES - 1 - i] ^= (number >> (8 * i)) & 0xFF


@njit
def seal(aead, mask, iv, number, out, at, header_size, size, work):
    """Encrypt in place the packet of `size` bytes at `at`, without its tag; False when a cipher refuses."""
    zero, base = np.uint64(0), out.ctypes.data + np.uint64(at)
    spare = work.ctypes.data
    _write_nonce(iv, number, work)
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


@njit
def open_untrusted(aead, mask, iv, key_phase, data, length, number_at, expected, plain, work):
    """Open a packet of `length` bytes whose number begins at `number_at`, into `plain`.

    Returns (its number, where its payload begins in `plain`); FAILED when it is not sealed with these keys, or not as
    it should be.
    """
    failed = np.int64(FAILED), np.int64(0)
    zero = np.uint64(0)
    if length < number_at + 4 + TAG_BYTES or length > plain.size:
        return failed
    base, spare = data.ctypes.data, work.ctypes.data
    written = spare + np.uint64(32)
    sample = base + np.uint64(number_at + 4)
    if encrypt_update(mask, spare + np.uint64(40), written, sample, np.int32(BLOCK_BYTES)) != 1:
        return failed
    first = data[0] ^ (work[40] & 0x1F)
    if first & RESERVED_BITS or ((first & KEY_PHASE_BIT) != 0) != (key_phase != 0):
        return failed
    size = np.int64(first & 0x03) + 1
    truncated = np.int64(0)
    for i in range(number_at):
        plain[i] = data[i]
    plain[0] = first
    for i in range(size):
        plain[number_at + i] = data[number_at + i] ^ work[41 + i]
        truncated = (truncated << 8) | np.int64(plain[number_at + i])
    number = _number(truncated, 8 * size, expected)
    _write_nonce(iv, number, work)
    begin = number_at + size
    end = length - TAG_BYTES
    target = plain.ctypes.data + np.uint64(begin)
    if decrypt_init(aead, zero, zero, zero, spare) != 1:
        return failed
    if decrypt_update(aead, zero, written, plain.ctypes.data, np.int32(begin)) != 1:
        return failed
    if decrypt_update(aead, target, written, base + np.uint64(begin), np.int32(end - begin)) != 1:
        return failed
    if control(aead, np.int32(SET_TAG), np.int32(TAG_BYTES), base + np.uint64(end)) != 1:
        return failed
    if decrypt_final(aead, plain.ctypes.data + np.uint64(end), written) != 1:
        return failed
    return number, begin


@njit
def _read_ack_untrusted(data, at, end, ecn, found):
    """Read an ACK frame from behind its type: its delay, how many ranges, and these, oldest first, into `found`.

    Returns where the frame ends, or -1.
    """
    largest, at = read_varint(data, at, end)
    if largest < 0:
        return -1
    delay, at = read_varint(data, at, end)
    if delay < 0:
        return -1
    count, at = read_varint(data, at, end)
    if count < 0 or count >= MAX_RANGES:
        return -1
    first, at = read_varint(data, at, end)
    if first < 0 or first > largest:
        return -1
    found[0], found[1] = delay, count + 1
    low = largest - first
    place = 2 + 2 * count
    found[place], found[place + 1] = low, largest + 1
    for _ in range(count):
        gap, at = read_varint(data, at, end)
        if gap < 0 or gap + 2 > low:
            return -1
        length, at = read_varint(data, at, end)
        high = low - gap - 2
        if length < 0 or length > high:
            return -1
        low = high - length
        place -= 2
        found[place], found[place + 1] = low, high + 1
    for _ in range(3 if ecn else 0):
        value, at = read_varint(data, at, end)
        if value < 0:
            return -1
    return at


@njit
def read_acknowledgement_untrusted(data, at, end, found):
    """Whether there is one ACK frame, read into `found`, and nothing else but padding."""
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
