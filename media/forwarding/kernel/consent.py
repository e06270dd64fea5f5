"""Compiled: answers a connected client's consent checks (RFC 7675), which come every few seconds while it stays.

Cost: about 5 us a check, against 250 us and a task switch in Python; with a thousand viewers that is the difference
between a percent of a core and a quarter. Only the ordinary case is answered here: a well-formed, authentic Binding
request with the session's own username, from the very address that media goes to. All else, what fails included, is
left to media/webrtc/peer.py, which alone decides. Reads the inbox, transports, ice_names, ice_keys; writes hash_*, the
arena, counters. Judged against media/webrtc/stun.py by tests/media/test_consent.py.
"""

from __future__ import annotations

import zlib

import numpy as np
from numba import njit

from media.forwarding.kernel.sending import make_room, queue
from media.forwarding.tables import ICE_NAME, Count, Shared
from media.io.native import AF_INET, AF_INET6
from media.io.octets import read_u16, read_u32, write_u16, write_u32

MAX_CHECK = 256  # bytes; browsers' checks have about 120
HEADER = 20
BLOCK, DIGEST = 64, 20  # of SHA-1, in bytes
REQUEST, SUCCESS = 0x0001, 0x0101
COOKIE = 0x2112A442
USERNAME, INTEGRITY, MAPPED, PRIORITY, USE_CANDIDATE = 0x0006, 0x0008, 0x0020, 0x0024, 0x0025
FINGERPRINT, FINGERPRINT_XOR = 0x8028, 0x5354554E
OPTIONAL = 0x8000
MASK = 0xFFFFFFFF
# What one byte does to the rest of a CRC; zlib inverts before and after, which cancels out here.
CRC_STEP = np.array([zlib.crc32(bytes([byte]), MASK) ^ MASK for byte in range(256)], np.int64)


@njit(nogil=True)
def answer_check(t, i, size, transport, now):
    """Answer datagram `i` of the inbox, `size` bytes from `transport`, in the ordinary case; else return False."""
    if t.transports[transport].tx == 0 or t.transports[transport].ice_name_size == 0:
        return False
    if not _is_from_path(t, i, transport):
        return False
    at = _find_integrity(t, i, size, transport)
    if at < 0 or not _is_authentic(t, i, at, transport):
        return False
    t.transports[transport].last_media_ns = now
    t.counters[Count.CONSENTS] += np.uint64(1)
    _answer(t, i, transport)
    return True


@njit(nogil=True)
def _is_from_path(t, i, transport):
    # Family, port and address lie in the first 8 bytes for IPv4; for IPv6 the flow label in between does not count.
    if t.transports[transport].socket != t.shared[Shared.SOCKET]:
        return False
    came, path = t.inbox_address[i], t.sockaddrs[transport]
    for k in range(4):
        if came[k] != path[k]:
            return False
    first, last = (4, 8) if came[0] == AF_INET else (8, 24)
    for k in range(first, last):
        if came[k] != path[k]:
            return False
    return t.transports[transport].address_size != 0 and (came[0] == AF_INET or came[0] == AF_INET6)


@njit(nogil=True)
def _find_integrity(t, i, size, transport):
    """Return where MESSAGE-INTEGRITY begins, or -1 for anything but the ordinary request."""
    data = t.inbox[i]
    if size < HEADER or size > MAX_CHECK or size % 4:
        return -1
    if read_u16(data, 0) != REQUEST or read_u16(data, 2) != size - HEADER:
        return -1
    if read_u32(data, 4) != COOKIE:
        return -1
    at, is_named = HEADER, False
    while at + 4 <= size:
        attribute, length = read_u16(data, at), read_u16(data, at + 2)
        if attribute == INTEGRITY:
            return at if is_named and length == DIGEST and _ends_after(data, at + 4 + DIGEST, size) else -1
        if at + 4 + length > size:
            return -1
        if attribute == USERNAME:
            if is_named or not _is_name(t, data, at + 4, length, transport):
                return -1
            is_named = True
        elif attribute == FINGERPRINT or (attribute < OPTIONAL and attribute not in (PRIORITY, USE_CANDIDATE)):
            return -1
        at += 4 + ((length + 3) & ~3)
    return -1


@njit(nogil=True)
def _is_name(t, data, at, length, transport):
    if length != t.transports[transport].ice_name_size or length > ICE_NAME:
        return False
    for k in range(length):  # noqa: SIM110  (generators do not compile)
        if data[at + k] != t.ice_names[transport, k]:
            return False
    return True


@njit(nogil=True)
def _ends_after(data, at, size):
    """Whether nothing, or one right FINGERPRINT, follows MESSAGE-INTEGRITY (RFC 8489 section 14.7)."""
    if at == size:
        return True
    if at + 8 != size or read_u16(data, at) != FINGERPRINT or read_u16(data, at + 2) != 4:
        return False
    return read_u32(data, at + 4) == crc32(data, 0, at) ^ FINGERPRINT_XOR


@njit(nogil=True)
def _is_authentic(t, i, at, transport):
    # The length covers MESSAGE-INTEGRITY and nothing behind it (RFC 8489 section 14.5). Compared in constant time.
    hmac(t, transport, t.inbox[i], 0, at, at + 4 + DIGEST - HEADER)
    different = np.uint64(0)
    for k in range(DIGEST):
        different |= np.uint64(t.inbox[i, at + 4 + k]) ^ np.uint64(t.hash_digest[k])
    return different == 0


@njit(nogil=True)
def _answer(t, i, transport):
    make_room(t)
    out, start = t.arena, t.shared[Shared.ARENA_USED]
    for k in range(4, HEADER):
        out[start + k] = t.inbox[i, k]
    write_u16(out, start, SUCCESS)
    came = t.inbox_address[i]
    octets, first = (4, 4) if came[0] == AF_INET else (16, 8)
    at = start + HEADER
    write_u16(out, at, MAPPED)
    write_u16(out, at + 2, 4 + octets)
    out[at + 4], out[at + 5] = 0, 1 if octets == 4 else 2
    out[at + 6], out[at + 7] = came[2] ^ 0x21, came[3] ^ 0x12
    for k in range(octets):
        # The cookie and the transaction follow each other in the header, as what an address is masked with.
        out[at + 8 + k] = came[first + k] ^ out[start + 4 + k]
    at += 8 + octets
    hmac(t, transport, out, start, at - start, at - start + 4 + DIGEST - HEADER)
    write_u16(out, at, INTEGRITY)
    write_u16(out, at + 2, DIGEST)
    for k in range(DIGEST):
        out[at + 4 + k] = t.hash_digest[k]
    at += 4 + DIGEST
    write_u16(out, start + 2, at - start + 8 - HEADER)
    checked = crc32(out, start, at - start) ^ FINGERPRINT_XOR
    write_u16(out, at, FINGERPRINT)
    write_u16(out, at + 2, 4)
    write_u32(out, at + 4, checked)
    queue(t, transport, at + 8 - start)


# -- HMAC-SHA1 (RFC 2104, RFC 3174) and CRC-32 (ISO 3309) over the tables' own buffers ---------------------------------


@njit(nogil=True)
def hmac(t, transport, data, start, size, stated_length):
    """Write HMAC-SHA1 of `size` bytes from `start`, with `stated_length` in the STUN header, to `hash_digest`."""
    for k in range(BLOCK):
        t.hash_input[k] = t.ice_keys[transport, k] ^ 0x36
    for k in range(size):
        t.hash_input[BLOCK + k] = data[start + k]
    write_u16(t.hash_input, BLOCK + 2, stated_length)
    sha1(t, BLOCK + size)
    for k in range(BLOCK):
        t.hash_input[k] = t.ice_keys[transport, k] ^ 0x5C
    for k in range(DIGEST):
        t.hash_input[BLOCK + k] = t.hash_digest[k]
    sha1(t, BLOCK + DIGEST)


@njit(nogil=True)
def sha1(t, size):
    """Write SHA-1 of the first `size` bytes of `hash_input`, which is padded in place, to `hash_digest`."""
    data, w = t.hash_input, t.hash_words
    padded = (size + 9 + BLOCK - 1) // BLOCK * BLOCK
    data[size] = 0x80
    for k in range(size + 1, padded):
        data[k] = 0
    write_u32(data, padded - 4, size * 8)
    h0, h1, h2 = np.int64(0x67452301), np.int64(0xEFCDAB89), np.int64(0x98BADCFE)
    h3, h4 = np.int64(0x10325476), np.int64(0xC3D2E1F0)
    for block in range(0, padded, BLOCK):
        for k in range(16):
            w[k] = read_u32(data, block + 4 * k)
        for k in range(16, 80):
            w[k] = _rotated(w[k - 3] ^ w[k - 8] ^ w[k - 14] ^ w[k - 16], 1)
        a, b, c, d, e = h0, h1, h2, h3, h4
        for k in range(80):
            if k < 20:
                f, constant = (b & c) | (~b & d & MASK), 0x5A827999
            elif k < 40:
                f, constant = b ^ c ^ d, 0x6ED9EBA1
            elif k < 60:
                f, constant = (b & c) | (b & d) | (c & d), 0x8F1BBCDC
            else:
                f, constant = b ^ c ^ d, 0xCA62C1D6
            a, b, c, d, e = (_rotated(a, 5) + f + e + w[k] + constant) & MASK, a, _rotated(b, 30), c, d
        h0, h1, h2 = (h0 + a) & MASK, (h1 + b) & MASK, (h2 + c) & MASK
        h3, h4 = (h3 + d) & MASK, (h4 + e) & MASK
    write_u32(t.hash_digest, 0, h0)
    write_u32(t.hash_digest, 4, h1)
    write_u32(t.hash_digest, 8, h2)
    write_u32(t.hash_digest, 12, h3)
    write_u32(t.hash_digest, 16, h4)


@njit(nogil=True)
def _rotated(value, bits):
    return ((value << bits) | (value >> (32 - bits))) & MASK


@njit(nogil=True)
def crc32(data, start, size):
    """Return CRC-32 of `size` bytes from `start`, as zlib computes it."""
    crc = np.int64(MASK)
    for k in range(start, start + size):
        crc = CRC_STEP[(crc ^ data[k]) & 255] ^ (crc >> 8)
    return crc ^ MASK
