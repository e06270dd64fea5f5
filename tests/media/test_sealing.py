"""RTP as the kernel seals it under AES-GCM, against the vector of RFC 7714, plain AES and libsrtp."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, types

from media.forwarding.kernel.sealing import seal
from media.io.aead import open_aead, own
from media.webrtc.srtp import RtpSealer, SrtpKeys, SrtpProfile, open_receiver, open_sender
from tests.media import srtp_model as model
from tests.media.test_srtp import GCM_KEY, GCM_PACKET, GCM_SALT, GCM_SEALED

_bytes = types.uint8[::1]
GCM = SrtpProfile.AEAD_AES_128_GCM


@njit([types.int64(_bytes, types.int64, types.int64, types.uint64, _bytes, _bytes)])
def call(packet, size, seq, context, salt, iv):  # type: ignore[no-untyped-def]
    return seal(packet, size, seq, context, salt, iv)


def sealed(context: int, salt: bytes, packet: bytes, roc: int = 0) -> bytes:
    """Seal as the kernel does: in place, with room for the tag."""
    data = np.zeros(len(packet) + 16, np.uint8)
    data[: len(packet)] = memoryview(packet)
    seq = roc << 16 | int.from_bytes(packet[2:4])
    size = call(data, len(packet), seq, context, np.frombuffer(salt, np.uint8).copy(), np.empty(12, np.uint8))
    return data[:size].tobytes()


class Owner:
    """Something that a context belongs to."""


def test_the_vector_of_rfc_7714() -> None:
    owner = Owner()
    context = own(owner, open_aead(np.frombuffer(GCM_KEY, np.uint8), True))
    assert sealed(context, GCM_SALT, GCM_PACKET).hex() == GCM_SEALED


HEADS = st.sampled_from((b"", b"\xbe\xde\x00\x01\x10\x01\x02\x00", b"\x10\x00\x00\x02" + bytes(range(8))))


@given(
    roc=st.integers(0, 2**32 - 1),
    seq=st.integers(0, 2**16 - 1),
    ssrc=st.integers(0, 2**32 - 1),
    extension=HEADS,
    payload=st.binary(min_size=1, max_size=1400),
)
def test_any_packet_is_sealed_as_aes_does(roc: int, seq: int, ssrc: int, extension: bytes, payload: bytes) -> None:
    keys = SrtpKeys(GCM, bytes(range(28)), bytes(28))
    sealer = RtpSealer(keys)
    first = 0x90 if extension else 0x80
    packet = bytes((first, 96)) + seq.to_bytes(2) + bytes(4) + ssrc.to_bytes(4) + extension + payload
    key = model.derive(keys.local, model.ENCRYPTION, 16)
    assert sealed(sealer.context, sealer.salt, packet, roc) == model.seal_gcm(key, sealer.salt, packet, roc)


def test_libsrtp_seals_the_same_and_opens_it_over_two_wraps() -> None:
    keys = SrtpKeys(GCM, os.urandom(28), b"")
    sealer, sender = RtpSealer(keys), open_sender(keys)
    receiver = open_receiver(SrtpKeys(GCM, b"", keys.local))
    for number in range(30_000, 200_000, 1000):
        seq = (number & 0xFFFF).to_bytes(2)
        packet = b"\x80\x60" + seq + bytes(4) + b"\x00\x00\x12\x34" + b"media" * 30
        ours = sealed(sealer.context, sealer.salt, packet, number >> 16)
        assert ours == sender.protect(packet)
        assert receiver.unprotect(ours) == packet


def test_a_profile_without_gcm_has_no_sealer() -> None:
    with pytest.raises(ValueError, match="AES128_CM_SHA1_80 is not AES-GCM"):
        RtpSealer(SrtpKeys(SrtpProfile.AES128_CM_SHA1_80, bytes(30), bytes(30)))
