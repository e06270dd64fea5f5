"""RTP as the kernel opens it under AES-GCM, each packet once: against the vector of RFC 7714, and libsrtp."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, types
from pylibsrtp import Error, Policy, Session

from media.forwarding.kernel import loop
from media.forwarding.kernel.opening import note_opened, open_rtp
from media.forwarding.kernel.ssrcs import place_of, remember_ssrc
from media.forwarding.memory import make_tables
from media.forwarding.replays import WINDOW
from media.forwarding.rows import Limits
from media.forwarding.tables import Count, Tables
from media.io.aead import open_aead, own
from media.io.compiled import keep_with
from media.webrtc.srtp import RtpOpener, SrtpKeys, SrtpProfile, open_sender
from tests.media import srtp_model as model
from tests.media.test_sealing import HEADS, Owner
from tests.media.test_srtp import GCM_KEY, GCM_PACKET, GCM_SALT, GCM_SEALED

GCM = SrtpProfile.AEAD_AES_128_GCM
ROW = 3
SSRC = b"\x00\x00\x12\x34"

keep_with("kernel")


@njit([types.int64(loop._LAYOUT, types.uint8[::1], types.uint64)], nogil=True, cache=True)
def _open(whole, data, context):
    t = whole[0]
    place = place_of(t, ROW, data, 8)
    size = np.int64(open_rtp(t, ROW, place, data, len(data), context))
    if size > 0:
        note_opened(t, ROW, remember_ssrc(t, ROW, data, 8), (np.int64(data[2]) << 8) | np.int64(data[3]))
    return size


TABLES = make_tables(Limits(rooms=1, transports=8, tracks=1, subscriptions=1))[0]


@contextmanager
def fresh() -> Iterator[Tables]:
    TABLES.transports[ROW] = 0
    TABLES.counters[:] = 0
    TABLES.windows[ROW]["seen"] = 2**64 - 1  # of whoever had the row before
    yield TABLES


def opened(tables: Tables, context: int, salt: bytes, sealed: bytes) -> bytes | None:
    """Open as the kernel does; None for what it refuses."""
    data = np.frombuffer(sealed, np.uint8).copy()
    tables.opening_salts[ROW] = memoryview(salt)
    size = _open(tables.whole, data, context)
    return data[:size].tobytes() if size else None


def numbered(index: int, ssrc: bytes = SSRC, body: bytes = b"media" * 30) -> bytes:
    return b"\x80\x60" + (index & 0xFFFF).to_bytes(2) + bytes(4) + ssrc + body


def test_the_vector_of_rfc_7714() -> None:
    owner = Owner()
    context = own(owner, open_aead(np.frombuffer(GCM_KEY, np.uint8), False))
    with fresh() as tables:
        assert opened(tables, context, GCM_SALT, bytes.fromhex(GCM_SEALED)) == GCM_PACKET


@given(
    seq=st.integers(0, 2**16 - 1),
    ssrc=st.integers(1, 2**32 - 1),
    extension=HEADS,
    payload=st.binary(max_size=1400),
    flipped=st.none() | st.integers(0, 2**20),
)
def test_any_packet_is_opened_as_it_was_unless_a_bit_is_another(
    seq: int, ssrc: int, extension: bytes, payload: bytes, flipped: int | None
) -> None:
    keys = SrtpKeys(GCM, bytes(28), bytes(range(28)))
    opener = RtpOpener(keys)
    first = 0x90 if extension else 0x80
    packet = bytes((first, 96)) + seq.to_bytes(2) + bytes(4) + ssrc.to_bytes(4) + extension + payload
    key = model.derive(keys.remote, model.ENCRYPTION, 16)
    sealed = bytearray(model.seal_gcm(key, opener.salt, packet))
    if flipped is not None:
        bit = flipped % (8 * len(sealed))
        sealed[bit // 8] ^= 1 << bit % 8
    with fresh() as tables:
        found = opened(tables, opener.context, opener.salt, bytes(sealed))
        assert found == (packet if flipped is None else None)
        assert int(tables.transports["ssrc_count"][ROW]) == (flipped is None)
        refused = sum(int(tables.counters[of]) for of in (Count.UNPROTECT_AUTH, Count.UNPROTECT_OTHER))
        assert refused == (flipped is not None)


@given(st.binary(min_size=22, max_size=60))
def test_no_garbage_is_opened(garbage: bytes) -> None:
    opener = RtpOpener(SrtpKeys(GCM, bytes(28), bytes(range(28))))
    with fresh() as tables:
        assert opened(tables, opener.context, opener.salt, b"\x9f" + garbage) is None


LONG = (b"\x8f" + bytes(40), b"\x90" + bytes(11) + b"\xbe\xde\xff\xff" + bytes(40), b"\x90" + bytes(11 + 3 + 4))


@pytest.mark.parametrize("packet", LONG, ids=("sources", "extension", "cut"))
def test_a_header_longer_than_its_packet_is_not_read(packet: bytes) -> None:
    opener = RtpOpener(SrtpKeys(GCM, bytes(28), bytes(range(28))))
    with fresh() as tables:
        assert opened(tables, opener.context, opener.salt, packet) is None
        assert int(tables.counters[Count.UNPROTECT_OTHER]) == 1


STEPS = (1, 1, 1, 1, 2, -1, -2, 0, 7, 63, 64, 65, -63, -64, -65, 300, -300, 511, 512, 513)
FAR = (-510, -511, -512, -513, 5_000, 20_000, 32_766, 32_767, -32_766)


@pytest.mark.parametrize("seed", range(12))
def test_over_wraps_losses_and_repeats_libsrtp_opens_the_same(seed: int) -> None:
    chance = random.Random(seed)
    keys = SrtpKeys(GCM, b"", os.urandom(28))
    policy = Policy(key=keys.remote, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=GCM.libsrtp_profile)
    policy.window_size = WINDOW
    opener, receiver = RtpOpener(keys), Session(policy)
    key = model.derive(keys.remote, model.ENCRYPTION, 16)
    index, found = chance.choice([0, 1, 30_000, 32_767, 32_768, 32_769, 65_535]), 0
    with fresh() as tables:
        for _ in range(4_000):
            packet = numbered(index)
            sealed = model.seal_gcm(key, opener.salt, packet, index >> 16)
            expected = None
            with suppress(Error):
                expected = receiver.unprotect(sealed)
            assert opened(tables, opener.context, opener.salt, sealed) == expected
            found += expected is not None
            index = max(0, index + chance.choice(STEPS if chance.random() < 0.97 else FAR))
    assert found > 500


def test_sources_have_windows_of_their_own_and_forged_packets_leave_none() -> None:
    keys = SrtpKeys(GCM, b"", os.urandom(28))
    opener, sender = RtpOpener(keys), open_sender(SrtpKeys(GCM, keys.remote, b""))
    with fresh() as tables:
        for ssrc in (b"\0\0\0\x01", b"\0\0\0\x02"):
            sealed = sender.protect(numbered(7, ssrc))
            forged = sealed[:-1] + bytes((sealed[-1] ^ 1,))
            assert opened(tables, opener.context, opener.salt, forged) is None
            assert opened(tables, opener.context, opener.salt, sealed) == numbered(7, ssrc)
            assert opened(tables, opener.context, opener.salt, sealed) is None
        assert int(tables.counters[Count.UNPROTECT_REPLAY]) == 2
        assert int(tables.counters[Count.UNPROTECT_AUTH]) == 2


def test_what_left_the_window_is_not_taken_for_new() -> None:
    keys = SrtpKeys(GCM, b"", os.urandom(28))
    opener = RtpOpener(keys)
    key = model.derive(keys.remote, model.ENCRYPTION, 16)

    def take(index: int) -> bool:
        sealed = model.seal_gcm(key, opener.salt, numbered(index), index >> 16)
        return opened(tables, opener.context, opener.salt, sealed) is not None

    with fresh() as tables:
        assert take(10_000)
        assert take(10_000 + WINDOW)
        assert not take(10_000)
        assert take(10_001)
        assert not take(10_001)


def test_a_profile_without_gcm_has_no_opener() -> None:
    with pytest.raises(ValueError, match="AES128_CM_SHA1_80 is not AES-GCM"):
        RtpOpener(SrtpKeys(SrtpProfile.AES128_CM_SHA1_80, bytes(30), bytes(30)))
